"""Which part may know which: data -> learning -> results -> report, read from the imports themselves."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "digits_sweep"
MODULES = sorted(PACKAGE.rglob("*.py"))

# What the modules of each part may import from this package; a part may always import itself.
MAY_IMPORT = {
    "data": {"config"},
    "learning": {"config", "data"},
    "results": set(),
    "report": {"results"},
    "trackers": {"config", "results", "rules"},
    "progress": {"results"},
    "lock": {"results"},
    "checkpoint": {"learning", "results"},
    "folders": set(),
    "scaling": set(),
    "config": {"folders", "scaling"},
    "rules": {"config"},
    "refusal": {"config", "rules"},
    "plan": {"config", "folders", "refusal", "rules"},
    "resume": {"config", "plan", "results", "rules"},
    "dry_run": {"config", "plan", "resume"},
    "begun": {"checkpoint", "config", "results", "resume", "rules"},
    "one_run": {"begun", "checkpoint", "config", "data", "learning", "lock", "progress", "results", "resume", "rules"},
    "sweep": {
        "config",
        "data",
        "folders",
        "learning",
        "lock",
        "plan",
        "progress",
        "report",
        "results",
        "resume",
        "rules",
        "trackers",
    },
    "tune": {"config", "launching", "one_run", "plan", "progress", "report", "results", "resume", "rules", "sweep"},
    "launching": {"plan", "progress", "sweep"},
    "bench": {"config", "data", "learning", "progress", "results", "rules"},
    "__main__": {
        "__version__",
        "config",
        "dry_run",
        "launching",
        "plan",
        "progress",
        "results",
        "resume",
        "rules",
        "one_run",
        "sweep",
    },
    "notebook": {"one_run", "plan", "progress", "results", "resume", "rules", "sweep"},
    "__init__": {"notebook", "results"},
}

MAY_IMPORT_HYDRA = {"__main__", "config", "plan", "refusal", "bench"}


def part(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(module: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_imports_point_the_way_the_data_flows(module):
    own = {name.split(".")[1] for name in imported(module) if name.startswith("digits_sweep.")}
    assert own - {part(module)} <= MAY_IMPORT[part(module)]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_only_the_ways_in_know_hydra(module):
    if any(name.split(".")[0] == "hydra" for name in imported(module)):
        assert part(module) in MAY_IMPORT_HYDRA


@pytest.mark.parametrize("module", ["digits_sweep", "digits_sweep.results.summary", "digits_sweep.report.__main__"])
def test_results_and_report_start_without_torch_and_without_hydra(module):
    program = f"import sys, {module}; print({{'torch', 'hydra', 'torchvision'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "set()"


def test_planning_a_sweep_needs_no_torch():
    program = "import sys, digits_sweep.config.plan; print({'torch', 'torchvision', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "set()"


SWEEP = """
import sys
from digits_sweep.__main__ import main
try:
    main()
finally:
    print({"ray", "submitit", "joblib", "optuna", "mlflow", "wandb", "tensorboard"} & set(sys.modules))
"""


def test_a_sweep_imports_no_launcher_search_or_tracker_that_it_does_not_use(tmp_path):
    arguments = ["-m", "data=mnist_sample", "data.batch_size=500,300", "trainer.num_epochs=1"]
    command = [sys.executable, "-c", SWEEP, *arguments]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert finished.stdout.splitlines()[-1] == "set()"
