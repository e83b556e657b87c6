"""What a configuration may say of trackers."""

import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest
import tomllib

from digits_sweep.config.compose import CONF
from digits_sweep.config.plan import plan
from digits_sweep.errors import InvalidConfig
from digits_sweep.trackers.registry import TRACKERS, check


@pytest.fixture
def installed(monkeypatch):
    """Every library, whether this machine has it or not."""
    monkeypatch.setattr("digits_sweep.trackers.registry.find_spec", lambda name: name)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_has_a_yaml_with_all_of_its_settings(name, installed):
    settings = plan([f"tracker={name}"]).settings.tracker
    assert list(settings) == [name]
    assert list(settings[name]) == list(signature(TRACKERS[name]).parameters)
    check(settings)


def test_every_yaml_but_none_is_a_tracker():
    assert {path.stem for path in (CONF / "tracker").glob("*.yaml")} == {"none", *TRACKERS}


def test_several_trackers_and_none(installed):
    assert list(plan([f"tracker=[{','.join(TRACKERS)}]"]).settings.tracker) == list(TRACKERS)
    check(plan([]).settings.tracker)


def test_no_library_is_imported_before_a_sweep_reports_to_it():
    program = f"import sys, digits_sweep.trackers.following; print({set(TRACKERS)} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.parametrize("name", TRACKERS)
def test_a_library_that_is_not_installed_is_named_with_the_extra_that_installs_it(name, monkeypatch):
    monkeypatch.setattr("digits_sweep.trackers.registry.find_spec", lambda name: None)
    line = f"tracker={name}: {name} is not installed; in the checkout, .venv/bin/pip install -e '.[{name}]'"
    with pytest.raises(InvalidConfig) as refused:
        check(plan([f"tracker={name}"]).settings.tracker)
    assert str(refused.value) == line


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib reads pyproject.toml from Python 3.11 on")
def test_every_tracker_has_its_extra():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert TRACKERS.keys() <= project["optional-dependencies"].keys()


MLFLOW = {"uri": "http://localhost:5000", "experiment": "e", "artifacts": "a"}
WANDB = {"mode": "offline", "project": "p", "folder": "f"}


@pytest.mark.parametrize(
    ("tracker", "line"),
    [
        ({"neptune": {}}, "tracker=neptune: choose tensorboard or "),
        ({"wandb": WANDB | {"mode": "live"}}, "tracker.wandb.mode=live: choose offline or online"),
        ({"tensorboard": {"folder": "../all"}}, "tracker.tensorboard.folder=../all: must be a folder inside the run's"),
        ({"mlflow": MLFLOW | {"host": "x"}}, "tracker.mlflow.host=x: mlflow has no such setting; choose uri or "),
        ({"mlflow": MLFLOW | {"experiment": 7}}, "tracker.mlflow.experiment=7: must be text; type "),
        ({"mlflow": {"uri": "x"}}, "tracker.mlflow: experiment, artifacts not set; add tracker=mlflow"),
        ({"mlflow": None}, "tracker.mlflow=null: tracker=mlflow chooses it"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_would_be_right(tracker, line, installed):
    with pytest.raises(InvalidConfig) as refused:
        check(tracker)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_a_number_is_text_if_it_is_quoted_as_the_line_says(installed):
    check(plan(["tracker=mlflow", "tracker.mlflow.experiment='7'"]).settings.tracker)
