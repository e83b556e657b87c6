"""Folders in a configuration: expanded and checked while a command line is planned, the same for all that use them."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.config.compose import composing
from digits_sweep.config.plan import plan
from digits_sweep.config.schema import Config
from digits_sweep.config.text import as_override
from digits_sweep.errors import UnusableRoot
from digits_sweep.results.sweep import load_sweep
from tests.commands import Program
from tests.mirror import load_mnist

QUICK = ("data=mnist_sample", "data.batch_size=500", "trainer.num_epochs=1")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DIGITS_SWEEP_DATA", raising=False)
    return tmp_path / "home"


@pytest.fixture
def homeless(monkeypatch):
    """As in a container that runs as a user whom it does not know."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])


@pytest.fixture(scope="module")
def composer():
    with composing() as entered:
        yield entered


def planned(*arguments: str) -> Config:
    return plan(list(arguments)).settings


def test_home_is_expanded_for_everything_that_is_made_of_outputs(home):
    settings = planned("outputs='~/x'", "tracker=[mlflow,wandb,tensorboard]")
    assert settings.outputs == f"{home}/x"
    assert settings.tracker["mlflow"]["uri"] == f"sqlite:///{home}/x/mlflow.db"
    assert settings.tracker["mlflow"]["artifacts"] == f"{home}/x/mlflow_artifacts"
    assert settings.tracker["wandb"]["folder"] == f"{home}/x"


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("tracker.mlflow.uri='sqlite:///~/m.db'", ("mlflow", "uri"), "sqlite:///{home}/m.db"),
        ("tracker.mlflow.uri='http://~/x'", ("mlflow", "uri"), "http://~/x"),
        ("tracker.mlflow.artifacts='~/a'", ("mlflow", "artifacts"), "{home}/a"),
        ("tracker.wandb.folder='~/w'", ("wandb", "folder"), "{home}/w"),
        ("tracker.tensorboard.folder='~/t'", ("tensorboard", "folder"), "{home}/t"),
    ],
)
def test_home_is_expanded_in_what_a_tracker_is_given(home, override, key, expected):
    tracker, name = key
    settings = planned("tracker=[mlflow,wandb,tensorboard]", override)
    assert settings.tracker[tracker][name] == expected.format(home=home)


def test_home_is_expanded_wherever_a_key_is_a_folder(home):
    assert planned().data.root == f"{home}/.cache/digits_sweep"
    assert planned("data.root='~/d'").data.root == f"{home}/d"
    assert planned("resume='~/s'").resume == f"{home}/s"
    assert planned("resume=latest").resume == "latest"


def test_a_folder_that_is_called_by_a_tilde_can_be_meant():
    assert planned("outputs='./~/x'").outputs == "./~/x"


def test_a_home_folder_with_a_dollar_sign_is_no_interpolation(refused, monkeypatch):
    monkeypatch.setenv("HOME", "/home/a${b}")
    assert refused("outputs='~/x'").splitlines()[-1] == (
        "outputs=/home/a${b}/x: must be the name of a folder, without ${ and control characters; ~ needs a home folder"
    )


def test_without_a_home_folder_only_what_needs_it_is_refused(refused, homeless):
    assert planned("data=mnist_sample").outputs == "outputs"
    assert refused("outputs='~/x'").startswith("outputs=~/x: must be the name of a folder")
    with pytest.raises(UnusableRoot, match=r"^data\.root=~/\.cache/digits_sweep: there is no home folder here"):
        load_mnist(Path(planned().data.root))


@pytest.mark.parametrize(
    ("value", "root"), [("", "~/.cache/digits_sweep"), (" ", "~/.cache/digits_sweep"), ("~/d", "~/d"), ("/d", "/d")]
)
def test_the_environment_names_the_folder_of_the_digits_if_it_is_not_empty(home, monkeypatch, value, root):
    monkeypatch.setenv("DIGITS_SWEEP_DATA", value)
    assert planned().data.root == root.replace("~", str(home))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("override", ["data.root=", "outputs=", "outputs=' '", 'outputs="a\tb"'])
def test_a_folder_without_a_name_or_with_a_control_character_is_refused(refused, override):
    key = override.partition("=")[0]
    assert refused(override).startswith(f"{key}=")
    assert "must be the name of a folder" in refused(override)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["it's", 'a "b"', "a\\b", "a$b", "a b", "é", "a=b,c", "{a}", "#%?"])
def test_every_other_name_of_a_folder_is_taken_as_it_is_typed(name):
    assert planned(as_override("outputs", name)).outputs == name


# Every character that a folder's name may have, and those that mean something to Hydra more often.
NAMES = st.text(st.one_of(st.sampled_from("'\"\\ ${}=,[]()~:#%"), st.characters(exclude_categories=["Cs", "Cc"])))


@given(NAMES.filter(lambda name: "${" not in name))
def test_an_override_that_this_program_writes_is_read_as_the_same_text(composer, name):
    assert composer.parse(as_override("outputs", name)).value() == name


@pytest.mark.full
@pytest.mark.parametrize("name", ['it\'s "here" $x', "a\\b {c}"])
def test_a_working_folder_may_have_quotes_and_a_sweep_there_is_resumed_by_its_full_path(tmp_path, name):
    (tmp_path / name).mkdir()
    program = Program(tmp_path / name)
    assert program(*QUICK).returncode == 0
    resumed = program(as_override("resume", str(program.sweep())), "trainer.num_epochs=2")
    assert resumed.returncode == 0, resumed.stderr
    assert list(load_sweep(program.sweep())["epochs"]) == [2]


@pytest.mark.full
def test_other_processes_find_the_sweep_in_a_working_folder_with_quotes(tmp_path):
    (tmp_path / "it's").mkdir()
    launched = Program(tmp_path / "it's")(*QUICK, "hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "-m")
    assert launched.returncode == 0, launched.stderr


@pytest.mark.parametrize("name", ["a${x}", "a${", "${now:%Y}"])
def test_a_working_folder_that_hydra_would_interpolate_is_refused_in_a_line(tmp_path, name):
    (tmp_path / name).mkdir()
    finished = Program(tmp_path / name)(*QUICK)
    assert finished.returncode == 1
    assert finished.stderr == (
        f"the working folder {tmp_path / name} has ${{ in its name, which Hydra replaces; use another one\n"
    )


def test_a_working_folder_that_has_been_removed_is_named(refused, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert refused() == "the working folder has been removed; change to another one"
    os.chdir(tmp_path)


def test_a_folder_of_configuration_may_have_quotes_and_begin_at_home(home):
    folder = home / "it's" / "model"
    folder.mkdir(parents=True)
    (folder / "wide.yaml").write_text("defaults: [mlp, _self_]\nhidden_size: 512\n")
    assert planned("--config-dir=~/it's", "model=wide").model.hidden_size == 512


def test_a_folder_of_configuration_that_is_not_there_is_refused(refused):
    assert refused("--config-dir=nowhere") == "--config-dir=nowhere: there is no such folder"
