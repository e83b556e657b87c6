"""Links, pipes and devices in a sweep from somebody else: not followed, not waited for, and nothing written there."""

import logging
import os
from contextlib import suppress
from pathlib import Path

import pytest

from digits_sweep import Recorder
from digits_sweep.errors import DigitsSweepError
from digits_sweep.results import changes
from digits_sweep.results.sweep import load_sweep
from digits_sweep.sweep.run_files import RunLog

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, pipes and devices as POSIX has them")

FILES = (
    "record.json",
    "history.csv",
    "checkpoint.safetensors",
    "losses.npy",
    "digits_sweep.log",
    "owner.json",
    ".lock",
)
PLACES = (
    "sweep.json", "summary.csv", ".lock", "owner.json", ".hydra", ".submitit", "new.txt",
    *(f"batch_size=500/{name}" for name in (*FILES, ".hydra/config.yaml", "trackers.json", ".record.json.link")),
    "batch_size=500",
)  # fmt: skip


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Somebody's own file, which a link in the sweep leads to."""
    path = tmp_path / "mine.txt"
    path.write_text("mine\n")
    return path


def put(sweep: Path, place: str, make) -> None:
    """Put a link or a pipe in the place of a file or a folder of the sweep."""
    path = sweep / place
    if path.is_dir():
        path.rename(sweep.with_name(f"moved_{path.name.strip('.')}"))
    path.unlink(missing_ok=True)
    make(path)


def resumed(program, *arguments: str) -> str:
    """Resume for two more epochs; return what is said if it is refused, else nothing."""
    done = program("resume=latest", "trainer.num_epochs=4", *arguments)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode in (0, 1)
    return done.stderr


@pytest.mark.sampled(5)
@pytest.mark.parametrize("place", PLACES)
def test_a_sweep_with_a_link_is_not_resumed_and_its_target_is_as_it_was(program, received, target, place):
    put(received, place, lambda path: path.symlink_to(target))
    refused = resumed(program)
    assert refused.count("\n") == 1
    assert place in refused
    assert "symbolic link" in refused
    assert target.read_text() == "mine\n"


@pytest.mark.sampled(5)
@pytest.mark.parametrize("place", [place for place in PLACES if place != "batch_size=500"])
def test_a_sweep_with_a_pipe_is_not_resumed_and_not_waited_for(program, received, place):
    put(received, place, os.mkfifo)
    refused = resumed(program)
    assert refused.count("\n") == 1
    assert "pipe" in refused


@pytest.mark.sampled(5)
@pytest.mark.parametrize("place", ["summary.csv", ".lock", *(f"batch_size=500/{name}" for name in FILES)])
def test_a_sweep_with_a_file_that_is_somebodys_own_too_is_not_resumed(program, received, target, place):
    """GNU tar makes such links to files that lie beside the folder which it unpacks."""
    put(received, place, lambda path: os.link(target, path))
    assert f"{place} is a file with another name elsewhere" in resumed(program)
    assert target.read_text() == "mine\n"


@pytest.mark.parametrize("name", [".lock", "sweep.json", "summary.csv", "trial_0000_seed=42/losses.npy"])
def test_a_search_with_a_file_that_is_somebodys_own_too_is_not_resumed(program, target, name):
    path = program.outputs / "tune" / "s" / name
    path.parent.mkdir(parents=True)
    os.link(target, path)
    done = program("data=mnist_sample", "tune.study=s", "tune.trials=1", module="digits_sweep.tune")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"{name} is a file with another name elsewhere" in done.stderr
    assert target.read_text() == "mine\n"


@pytest.mark.parametrize(
    ("place", "make"),
    [
        (".lock", os.link),
        ("batch_size=1_lr=1_seed=0/.lock", os.link),
        ("batch_size=1_lr=1_seed=0/history.csv", os.link),
        ("batch_size=1_lr=1_seed=0", lambda target, path: path.symlink_to(target.parent)),
    ],
)
def test_a_recorder_writes_nothing_that_is_somebodys_own(tmp_path, target, place, make):
    before = sorted(tmp_path.iterdir())
    path = tmp_path / "outputs" / "sweeps" / "received" / place
    path.parent.mkdir(parents=True)
    make(target, path)
    with pytest.raises((DigitsSweepError, OSError), match=r"another name elsewhere|symbolic link"):
        Recorder(tmp_path / "outputs/sweeps/received", batch_size=1, train_samples=1, lr=1, loss_threshold=1).start()
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "outputs"])
    assert target.read_text() == "mine\n"


@pytest.mark.parametrize(
    "write",
    [
        lambda path: changes.append(path, b"x"),
        lambda path: changes.overwrite(path, b"x"),
        lambda path: changes.shorten(path, 1),
        lambda path: RunLog(str(path)).emit(logging.makeLogRecord({"msg": "x"})),
    ],
    ids=["append", "overwrite", "shorten", "log"],
)
@pytest.mark.parametrize("make", [os.link, os.symlink])
def test_whatever_is_written_in_a_folder_is_no_file_with_a_second_name(tmp_path, target, make, write):
    path = tmp_path / "losses.npy"
    make(target, path)
    with suppress(OSError):
        write(path)
    assert target.read_text() == "mine\n"


def test_a_run_folder_that_leads_to_another_folder_is_not_written_in(program, received, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    put(received, "batch_size=500", lambda path: path.symlink_to(elsewhere))
    assert "batch_size=500 is a symbolic link" in resumed(program)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", ["record.json", "history.csv"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "endless"])
def test_the_report_names_the_run_and_reads_the_other(program, received, name, make):
    for each in (name, f"{name}.previous"):
        put(received, f"batch_size=500/{each}", make)
    done = program(module="digits_sweep.report")
    assert done.returncode == 0, done.stderr
    page = (program.outputs / "report" / "index.html").read_text(encoding="utf-8")
    assert f"{name}: " in page
    assert load_sweep(received)["epochs"].max() == 2


@pytest.mark.sampled(2)
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "endless"])
def test_the_report_reads_a_sweep_whose_manifest_is_no_file_from_its_runs(program, received, make):
    put(received, "sweep.json", make)
    done = program(str(received), module="digits_sweep.report")
    assert done.returncode == 0, done.stderr
    assert "not started" not in done.stdout


def test_a_run_folder_that_is_a_link_is_a_row_that_says_so(received):
    put(received, "batch_size=500", lambda path: path.symlink_to(received / "batch_size=1000"))
    row = load_sweep(received).set_index("run_dir").loc["batch_size=500"]
    assert row["error"] == "batch_size=500: a symbolic link, which is not followed"


def test_the_page_is_written_in_place_of_a_link_and_not_through_it(program, received, target):
    page = program.outputs / "report" / "index.html"
    page.parent.mkdir()
    page.symlink_to(target)
    assert program(module="digits_sweep.report").returncode == 0
    assert target.read_text() == "mine\n"
    assert not page.is_symlink()


def test_a_sweep_may_be_named_by_a_link(program, received, tmp_path):
    """The user's own link, not one of the sender's."""
    (tmp_path / "that one").symlink_to(received)
    done = program(f"resume='{tmp_path / 'that one'}'", "trainer.num_epochs=3")
    assert done.returncode == 0, done.stderr
    assert list(load_sweep(tmp_path / "that one")["epochs"]) == [3, 3]
