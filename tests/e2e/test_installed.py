"""Installed from a wheel, and used from a folder that has nothing of this project in it."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent.parent
COMPLETE = """
eval "$(digits-sweep --shell-completion install=bash)"
COMP_LINE="digits-sweep $0" COMP_POINT=$((13 + ${#0})) COMP_CWORD=1
hydra_bash_completion
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment that this project was installed in, from the wheel that its sdist makes.

    What the project depends on is lent by the environment of the tests.
    """
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("installed")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", ROOT)
    _run(sys.executable, "-m", "venv", folder / "venv")
    (wheel,) = (folder / "dist").glob("*.whl")
    _run(folder / "venv/bin/python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel)
    (packages,) = (folder / "venv").glob("lib/*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_paths()["purelib"])
    return folder / "venv" / "bin"


def _run(*command: object, cwd: Path | None = None) -> str:
    finished = subprocess.run([str(each) for each in command], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_the_wheel_brings_its_conf_and_writes_outputs_where_its_user_stands(installed, tmp_path):
    conf = _run(installed / "python", "-c", "from digits_sweep.config.schema import CONF; print(CONF)", cwd=tmp_path)
    assert Path(conf.strip()).is_relative_to(installed.parent)
    _run(
        installed / "digits-sweep", "-m", "data=mnist_sample", "data.batch_size=500,300", "trainer.num_epochs=1",
        cwd=tmp_path,
    )  # fmt: skip
    assert list(pd.read_csv(tmp_path / "outputs" / "summary.csv")["status"]) == ["completed"] * 2


def test_the_report_of_an_installed_program_has_its_templates(installed, tmp_path):
    _run(installed / "digits-sweep", "data=mnist_sample", "data.batch_size=500", "trainer.num_epochs=1", cwd=tmp_path)
    _run(installed / "python", "-m", "digits_sweep.report", cwd=tmp_path)
    assert "</html>" in (tmp_path / "outputs" / "report" / "index.html").read_text()


def test_the_installed_command_tells_its_version(installed, tmp_path):
    assert _run(installed / "digits-sweep", "--version", cwd=tmp_path) == "digits_sweep 0.1.0\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("optimizer=s", ["optimizer=sgd", "optimizer=sgd_linear"]),
        ("data.batch", ["data.batch_size="]),
        ("tracker=t", ["tracker=tensorboard"]),
    ],
)
def test_bash_completes_groups_choices_and_keys(installed, tmp_path, typed, offered):
    completed = _run("env", f"PATH={installed}:/usr/bin:/bin", "bash", "-c", COMPLETE, typed, cwd=tmp_path)
    assert completed.split() == offered
