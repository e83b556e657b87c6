"""Installed from a wheel, and used from a folder that has nothing of this project in it."""

import json
import shutil
import signal
import sys
import sysconfig
from pathlib import Path

import pandas as pd
import pytest

from tests.servers import checked, running

pytestmark = pytest.mark.full

ROOT = Path(__file__).parent.parent.parent
COMPLETE = """
eval "$(digits-sweep --shell-completion install=bash)"
COMP_LINE="digits-sweep $0" COMP_POINT=$((13 + ${#0})) COMP_CWORD=1
hydra_bash_completion
printf '%s\\n' "${COMPREPLY[@]}"
"""


MINE = """
import torch
from torch import nn

def shapes(count=1_200, noise=80):
    \"\"\"Colored images of noise, one of whose three colors is brighter in the middle: that is the label.\"\"\"
    labels = torch.arange(count) % 3
    images = torch.randint(noise, (count, 3, 12, 12), dtype=torch.uint8)
    images[torch.arange(count), labels, 3:9, 3:9] += 20
    return (images[:1000], labels[:1000]), (images[1000:], labels[1000:])

class CNN(nn.Module):
    def __init__(self, num_classes, image_shape, width=8):
        super().__init__()
        channels, height, _ = image_shape
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1)
        )
        self.output = nn.Linear(width * (height // 2) ** 2, num_classes)

    def forward(self, images):
        return self.output(self.features(images).flatten(1))
"""
OWN = ("data=own", "data.target=mine:shapes", "data.num_classes=3", "model=own", "model.target=mine:CNN")
SWEEP = ("-m", *OWN, "optimizer=adamw", "optimizer.lr=2e-3", "data.batch_size=250,50", "trainer.num_epochs=3",
         "trainer.loss_threshold=0.9", "num_threads=1")  # fmt: skip
QUICK = (
    *OWN, "data.batch_size=10,100,500", "evaluation.targets.train_error=[0.2]", "evaluation.train_samples=300",
    "evaluation.test_samples=100", "evaluation.per_doubling=3", "trainer.num_epochs=12", "critical.lr=4e-3",
    "critical.cost={iteration:1ms,example:10us}", "critical.most_steps=1", "hydra/launcher=basic", "num_threads=1",
)  # fmt: skip


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
        [installed / "python", "-c", "from digits_sweep.config.compose import CONF; print(CONF)"], cwd=tmp_path
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
    printed = checked([installed / "python", "-m", "digits_sweep.report", "--language", "pt-BR"], cwd=tmp_path)
    assert "| primeira época < 1,6 " in printed
    assert '<html lang="pt-BR"' in (tmp_path / "outputs" / "report" / "index.html").read_text(encoding="utf-8")


def test_the_installed_command_prints_its_version(installed, tmp_path):
    assert checked([installed / "digits-sweep", "--version"], cwd=tmp_path) == "digits_sweep 0.1.0\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("scaling=sq", ["scaling=sqrt", "scaling=sqrt_lr"]),
        ("data.batch", ["data.batch_size="]),
        ("tracker=t", ["tracker=tensorboard"]),
    ],
)
def test_bash_completes_groups_choices_and_keys(installed, tmp_path, typed, offered):
    completed = checked(["env", f"PATH={installed}:/usr/bin:/bin", "bash", "-c", COMPLETE, typed], cwd=tmp_path)
    assert completed.split() == offered


def test_from_a_file_of_25_lines_to_a_page_and_a_critical_batch_size(installed, tmp_path):
    assert len(MINE.strip().splitlines()) <= 25
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    (stopped / "mine.py").write_text(MINE)
    with running(installed / "digits-sweep", *SWEEP, output=stopped / "output") as started:
        started.says("  epoch ", times=4)
        started.process.send_signal(signal.SIGINT)
        assert started.ends() == 130, started.last_lines()
    resumed = checked([installed / "digits-sweep", *SWEEP, "resume=latest"], cwd=stopped)
    assert "resuming" in resumed
    table = pd.read_csv(stopped / "outputs" / "summary.csv")
    assert list(table["status"]) == ["completed"] * 2
    assert list(table["parameters"]) == [(27 + 1) * 8 + (8 * 36 + 1) * 3] * 2
    checked([installed / "python", "-m", "digits_sweep.report"], cwd=stopped)
    assert "mine:shapes" in (stopped / "outputs" / "report" / "index.html").read_text()
    found = checked([installed / "python", "-m", "digits_sweep.which_batch_size", *QUICK], cwd=stopped)
    (study,) = (stopped / "outputs" / "critical_batch_size").iterdir()
    (answer,) = json.loads((study / "critical_batch_size.json").read_text())
    assert answer["b_crit"] > 0, found
    # Everything lies where its user is.
    shutil.rmtree(stopped / "__pycache__", ignore_errors=True)
    assert {each.name for each in stopped.iterdir()} == {"mine.py", "output", "outputs"}
