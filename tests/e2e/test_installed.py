"""Installed from a wheel, and used from a folder that has nothing of this project in it."""

import shutil
import sys
import sysconfig
from pathlib import Path

import pandas as pd
import pytest

from tests.servers import checked

pytestmark = pytest.mark.full

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
    checked([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", ROOT])
    checked([sys.executable, "-m", "venv", folder / "venv"])
    (wheel,) = (folder / "dist").glob("*.whl")
    checked([folder / "venv/bin/python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel])
    (packages,) = (folder / "venv").glob("lib/*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_paths()["purelib"])
    return folder / "venv" / "bin"


def test_the_wheel_brings_its_conf_and_templates_and_writes_outputs_where_its_user_is(installed, tmp_path):
    conf = checked(
        [installed / "python", "-c", "from digits_sweep.config.hydra.compose import CONF; print(CONF)"], cwd=tmp_path
    )
    assert Path(conf.strip()).is_relative_to(installed.parent)
    sweep = ["-m", "data=mnist_sample", "data.batch_size=500,300", "trainer.num_epochs=1", "device=cpu"]
    checked([installed / "digits-sweep", *sweep], cwd=tmp_path)
    table = pd.read_csv(tmp_path / "outputs" / "summary.csv")
    assert list(table["status"]) == ["completed"] * 2
    # The C code is in the wheel.
    assert list(table["engine"]) == ["native" if shutil.which("cc") else "closed_form"] * 2
    checked([installed / "python", "-m", "digits_sweep.report"], cwd=tmp_path)
    assert "</html>" in (tmp_path / "outputs" / "report" / "index.html").read_text()


def test_the_installed_command_prints_its_version(installed, tmp_path):
    assert checked([installed / "digits-sweep", "--version"], cwd=tmp_path) == "digits_sweep 0.1.0\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("optimizer=s", ["optimizer=sgd", "optimizer=sgd_linear"]),
        ("data.batch", ["data.batch_size="]),
        ("tracker=t", ["tracker=tensorboard"]),
    ],
)
def test_bash_completes_groups_choices_and_keys(installed, tmp_path, typed, offered):
    completed = checked(["env", f"PATH={installed}:/usr/bin:/bin", "bash", "-c", COMPLETE, typed], cwd=tmp_path)
    assert completed.split() == offered
