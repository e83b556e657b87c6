"""Resuming a sweep from somebody else: plain values of known keys are taken from it, and nothing else."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from digits_sweep import SweepResult
from digits_sweep.results.sweep import RecordedSweep, load_sweep
from tests.commands import Program
from tests.records import change_record
from tests.security.conftest import change_manifest

Change = Callable[[Path], object]
CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4=\x07"
RESUME = ("resume=latest", "trainer.num_epochs=3")
# What no plain value has, wherever it stands.
INTERPOLATIONS = ("${oc.env:HOME}", "$\\{oc.env:HOME}", "\\${oc.env:HOME}", "a${seed}", "{a}", "\\", "$")


def set_to(key: str, value: Any) -> Change:
    """Set a key of every run's configuration; `a.b` is a key of the group `a`, anything else one of its own."""

    def change(record: dict[str, Any]) -> None:
        group, _, name = key.rpartition(".")
        (record["config"][group] if group else record["config"])[name] = value

    return lambda sweep: [change_record(path.parent, change) for path in sweep.glob("*/record.json")]


def in_manifest(change: Callable[[dict[str, Any]], object]) -> Change:
    return lambda sweep: change_manifest(sweep, change)


def typed(*overrides: str) -> Change:
    return in_manifest(lambda manifest: manifest["command"].extend(overrides))


def refused(program: Program, sweep: Path, change: Change) -> str:
    """Resume after a change of the sweep's files; return the lines that refuse it, before anything is trained."""
    change(sweep)
    done = program(*RESUME)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert "epoch 3" not in done.stdout
    assert len(done.stderr) < 2_000
    assert "\x1b" not in done.stderr
    return done.stderr


@pytest.mark.sampled(5)
@pytest.mark.parametrize("text", INTERPOLATIONS)
@pytest.mark.parametrize("key", ["data.scale", "engine.name", "optimizer.betas", "seed"])
def test_nothing_that_could_be_resolved_is_taken(program, received, key, text):
    value = [text, 0.9] if key.endswith("betas") else text
    line = refused(program, received, set_to(key, value))
    assert f"{key} is not a plain value; type the sweep's whole command" in line


HOSTILE = [
    ("data.name", "../../etc/passwd", "data.name=../../etc/passwd: choose"),
    ("engine.name", "os.system", "engine.name=os.system: choose"),
    ("optimizer.name", "torch.optim:Adam", "not the configuration of a run"),
    ("optimizer._target_", "os.system", "not the configuration of a run"),
    ("optimizer", {"_target_": "os.system", "command": "true"}, "not the configuration of a run"),
    ("optimizer", [1, 2], "not the configuration of a run"),
    ("optimizer", None, "not the configuration of a run"),
    ("optimizer", {}, "not the configuration of a run"),
    ("seed", {"_target_": "os.system"}, "not the configuration of a run"),
    ("hydra", {"run": {"dir": "/tmp"}}, "not the configuration of a run"),
    ("surprise", 1, "not the configuration of a run"),
    ("model.surprise", 1, "not the configuration of a run"),
    ("optimizer.betas", [[0.9], 0.999], "could not be converted"),
    ("optimizer.betas", {"0": 0.9}, "not the configuration of a run"),
    ("optimizer.betas", [0.9] * 100_000, "the record of batch_size=1000 cannot be read"),
    ("optimizer.lr", 10**300, "optimizer.lr is not a plain value"),
    ("optimizer.lr", 0, "must be a number above 0"),
    ("optimizer.lr", True, "could not be converted"),
    ("seed", 10**300, "seed is not a plain value"),
    ("seed", 1.5, "could not be converted"),
    ("engine.name", "a" * 100_000, "engine.name is not a plain value"),
    ("model.activation", "???", "missing mandatory value"),
    ("model.hidden_size", 10**15, "must be a whole number from 1 to"),
    ("model.hidden_layers", 10**7, "must be a whole number from 1 to"),
    ("data.num_workers", 10**9, "must be a whole number from 0 to"),
    ("num_threads", 10**6, "must be auto or a whole number"),
    ("device", "meta", "choose auto, cpu"),
]


@pytest.mark.sampled(8)
@pytest.mark.parametrize(("key", "value", "reason"), HOSTILE, ids=[f"{key}: {why}" for key, _, why in HOSTILE])
def test_a_value_that_no_run_has_is_refused_before_anything_is_trained(program, received, key, value, reason):
    assert reason in refused(program, received, set_to(key, value))


def replaced(name: str, value: Any) -> Change:
    return in_manifest(lambda manifest: manifest.update({name: value}))


MANIFESTS = [
    (replaced("runs", ["../../x", "y"]), "'../../x' is not the name of a run's folder"),
    (replaced("runs", ["/tmp/x", "y"]), "'/tmp/x' is not the name of a run's folder"),
    (replaced("runs", ["..", "y"]), "'..' is not the name of a run's folder"),
    (replaced("runs", ["x", "x"]), "it has a run twice"),
    (replaced("runs", []), "a sweep without runs"),
    (replaced("runs", ["x"]), "the record of x cannot be read"),
    (replaced("counter", 10**300), "sweep.json: "),
    (replaced("counter", True), "Expected `int`, got `bool`"),
    (in_manifest(lambda manifest: manifest["datasets"][0].update(note=["x"])), "Expected `str | null`, got `array`"),
    (in_manifest(lambda manifest: manifest["datasets"][0].update(used="../x")), "there is no data set ../x"),
    (replaced("command", [CLIPBOARD, 5]), "Expected `str`, got `int`"),
]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("change", "reason"), MANIFESTS, ids=[reason for _, reason in MANIFESTS])
def test_a_manifest_that_this_program_does_not_write_is_refused(program, received, change, reason):
    assert reason in refused(program, received, change)


IGNORED = [
    set_to("data.root", "/nowhere"),
    set_to("data.mirrors", ["http://example.org/"]),
    set_to("data.fallback", "/etc/passwd"),
    set_to("tracker", {"mlflow": {"uri": "http://user:token@example.org", "experiment": "x", "artifacts": "/"}}),
    set_to("outputs", "/nowhere"),
    set_to("resume", "/etc"),
    set_to("dry_run", True),
    set_to("data.root", "${oc.env:HOME}"),
    typed("data.root=/nowhere", "data.mirrors=[http://example.org/]", "tracker=mlflow"),
    typed("seed=${oc.env:HOME}", "experiment=../../x", "hydra.searchpath=[file:///nowhere]"),
    typed("hydra/launcher=evil", "hydra/launcher=../x", "hydra.launcher._target_=os.system"),
    typed(
        "hydra.launcher.setup=[evil]", "hydra.job_logging.handlers.file.class=evil.Handler", "--config-dir=elsewhere"
    ),
    typed("+hydra.job_logging.handlers.x={class:evil.Handler}", "+hydra.callbacks.x={_target_:os.system}"),
    typed("+hydra.callbacks.x._target_=evil.f"),
    typed("data.root=x" * 1_000),
]


@pytest.mark.sampled(18)
@pytest.mark.parametrize("change", IGNORED, ids=range(len(IGNORED)))
def test_places_trackers_and_code_are_not_taken_and_the_runs_are_those_of_the_sweep(program, received, change):
    before = {name: run.record.config for name, run in RecordedSweep(received).runs.items()}
    change(received)
    done = program(*RESUME)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(load_sweep(received)["epochs"]) == [3, 3]
    for name, run in RecordedSweep(received).runs.items():
        assert run.record.config["tracker"] == {}
        assert run.record.config["data"] == before[name]["data"]
    assert not Path("/nowhere").exists()


def test_what_is_not_repeated_is_said_without_its_control_characters(program, received):
    typed(f"data.root={CLIPBOARD}", "tracker.mlflow.uri=http://example.org")(received)
    done = program(*RESUME)
    assert "not repeated from sweep.json" in done.stdout
    assert "tracker.mlflow.uri=http://example.org" in done.stdout
    assert not set(done.stdout + done.stderr) & {"\x1b", "\x07"}


LONG = "x" * 100_000
LONG_TEXTS = {
    "data set": in_manifest(lambda manifest: manifest["datasets"][0].update(used=LONG)),
    "note": in_manifest(lambda manifest: manifest["datasets"][0].update(note=LONG)),
    "command": typed(f"data.root={LONG}"),
    "many overrides": typed(*[f"tracker.mlflow.x{number}=1" for number in range(2_000)]),
    "folder": replaced("runs", [LONG]),
}


@pytest.mark.parametrize("place", LONG_TEXTS)
def test_nothing_floods_the_terminal(program, received, place):
    LONG_TEXTS[place](received)
    done = program(*RESUME)
    assert len(done.stdout + done.stderr) < 5_000


@pytest.mark.parametrize("number", ["100000", "-100000", "abc", "1.5"])
def test_no_more_processes_are_started_than_the_machine_has_cores(number):
    from digits_sweep.sweep.resume import _launcher

    assert _launcher(["hydra/launcher=joblib", f"hydra.launcher.n_jobs={number}"]) == ["hydra/launcher=joblib"]
    assert _launcher(["hydra/launcher=joblib", "hydra.launcher.n_jobs=1"])[1:] == ["hydra.launcher.n_jobs=1"]


@pytest.mark.parametrize("name", ["evil", "basic", "../x", "joblib,ray"])
def test_a_launcher_that_this_program_does_not_know_is_not_repeated(name):
    from digits_sweep.sweep.resume import _launcher

    assert _launcher([f"hydra/launcher={name}"]) == []


def test_where_a_received_folder_lies_does_not_say_where_the_table_of_all_results_is(
    program, recorded, tmp_path, monkeypatch
):
    """It would be the receiver's own, in `x/summary.csv`, if they unpack a folder that is called `x/sweeps/y`."""
    folder = tmp_path / "x" / "sweeps" / "y"
    shutil.copytree(recorded, folder)
    mine = [tmp_path / "x" / "summary.csv", tmp_path / "x" / "report" / "index.html"]
    mine[1].parent.mkdir()
    for path in mine:
        path.write_text("mine")
    done = program(f"resume={folder}", "trainer.num_epochs=3")
    assert done.returncode == 0, done.stderr
    assert list(load_sweep(folder)["epochs"]) == [3, 3]
    monkeypatch.chdir(program.folder)
    assert SweepResult(folder).report().path == program.outputs / "report" / "index.html"
    assert [path.read_text() for path in mine] == ["mine", "mine"]
    # Typed, it says where.
    assert program(f"resume={folder}", "trainer.num_epochs=4", f"outputs={tmp_path / 'x'}").returncode == 0
    assert mine[0].read_text().startswith("batch_size,")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", ["a look at what a resume would do", "the report", "the library"])
def test_reading_a_sweep_changes_nothing_in_its_folder(program, received, command):
    before = content(received)
    if command == "the library":
        load_sweep(received)
    elif command == "the report":
        assert program(module="digits_sweep.report").returncode == 0
    else:
        assert program(*RESUME, "dry_run=true").returncode == 0
    assert content(received) == before


@pytest.mark.full
def test_submitit_never_reads_what_lay_in_its_folder(program, received):
    """Its files are pickles, named after jobs whose numbers can be guessed."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    planted = received / ".submitit" / "1" / "1_0_result.pkl"
    planted.parent.mkdir(parents=True)
    planted.write_bytes(b"no pickle")
    done = program.process(*RESUME, "hydra/launcher=submitit_local")
    assert done.returncode == 0, done.stdout + done.stderr
    folders = sorted(path.name for path in (received / ".submitit").iterdir())
    assert len(folders) == 2
    assert all(len(name) == 16 for name in folders if name != "1")
    assert [path.name for path in planted.parent.iterdir()] == [planted.name]
