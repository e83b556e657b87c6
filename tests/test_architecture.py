"""The layers of the house, read from the imports themselves, and what starts without what."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import digits_sweep
from digits_sweep import errors

PACKAGE = Path(digits_sweep.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# Lowest first. A room imports from the floors below its own, never from its own floor or from above.
FLOORS = (
    ("errors",),
    ("machine", "shell", "config"),
    ("results", "data"),
    ("training", "report", "trackers"),
    ("sweep",),
    ("search", "notebook", "recorder", "__main__"),
)
# What a user types or imports: they name the rooms that answer, and hold nothing themselves.
DOORS = ("__init__", "cancel", "cost", "critical_batch_size", "record", "status", "tune", "which_batch_size")
ROOMS = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
REPORT_READS = ("errors", "shell", "config", "results", "report")


def within(module: str, room: str) -> bool:
    return f"{module}.".startswith(f"{room}.")


def room(module: str) -> str:
    return module.partition(".")[0]


def name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imported(path: Path) -> set[str]:
    """The modules that a module imports; of this package, without its name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own(path: Path) -> set[str]:
    names = {each.removeprefix("digits_sweep.") for each in imported(path) if each.startswith("digits_sweep.")}
    return names - {"__version__"}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_import_points_up_the_floors(path):
    here = room(name(path))
    others = {each for each in own(path) if room(each) in ROOMS and room(each) != here}
    assert here in DOORS or {each for each in others if ROOMS[room(each)] >= ROOMS[here]} == set()


@pytest.mark.parametrize("path", [path for path in MODULES if within(name(path), "report")], ids=name)
def test_the_report_reads_results_and_nothing_else(path):
    assert {each for each in own(path) if not any(within(each, room) for room in REPORT_READS)} == set()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_uses_hydras_private_ones(path):
    assert not any(each.startswith("hydra._internal") for each in imported(path))


def test_every_error_has_the_one_base_and_is_exported():
    raised = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)}
    assert all(issubclass(each, digits_sweep.DigitsSweepError) for each in raised)
    assert {each.__name__ for each in raised} <= set(digits_sweep.__all__)
    assert {name for name in digits_sweep.__all__ if not hasattr(digits_sweep, name)} == set()


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "errors.py"], ids=name)
def test_errors_are_defined_in_one_file(path):
    classes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef))
    bases = {ast.unparse(base) for each in classes for base in each.bases}
    assert bases & {"Exception", "DigitsSweepError"} <= ({"Exception"} if path.name == "published.py" else set())


LIGHT = [
    ("digits_sweep, digits_sweep.results.sweep, digits_sweep.report.__main__", "torch hydra torchvision"),
    ("digits_sweep.config.plan, digits_sweep.__main__", "torch torchvision pandas"),
]


@pytest.mark.parametrize(("modules", "heavy"), LIGHT, ids=["report", "planning"])
def test_what_must_start_at_once_imports_nothing_heavy(modules, heavy):
    program = f"import sys, {modules}; print(set({heavy.split()}) & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "set()"


SWEEP = """
import sys
from digits_sweep.__main__ import main
main(["-m", "data=mnist_sample", "data.batch_size=500,300", "trainer.num_epochs=1"])
print({"ray", "submitit", "joblib", "optuna", "mlflow", "wandb", "tensorboard"} & set(sys.modules))
"""


@pytest.mark.full
def test_a_sweep_imports_no_launcher_search_or_tracker_that_it_does_not_use(tmp_path):
    finished = subprocess.run([sys.executable, "-c", SWEEP], cwd=tmp_path, capture_output=True, text=True)
    assert finished.stdout.splitlines()[-1] == "set()", finished.stderr
