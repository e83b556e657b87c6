"""What a resume makes of the files that an earlier process left, or that somebody changed."""

import errno
import json
import shutil
from pathlib import Path
from threading import current_thread, main_thread
from unittest import mock

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.errors import CannotRecord, CannotResume
from digits_sweep.results import changes
from digits_sweep.results.record import Status, read_record
from digits_sweep.results.run import read_run
from digits_sweep.results.sweep import load_sweep
from digits_sweep.sweep import run_files
from digits_sweep.sweep.run import run
from tests.killing import losses, weights
from tests.records import interrupt

KEYS = ("data=mnist_sample", "data.batch_size=1500", "model.hidden_size=2")


def config(epochs: int, *more: str):
    return plan([*KEYS, f"trainer.num_epochs={epochs}", *more]).settings


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "run"
    run(config(2), folder)
    return folder


@pytest.fixture(scope="module")
def three_epochs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("three") / "run"
    run(config(3), folder)
    return folder


@pytest.fixture
def run_dir(two_epochs, tmp_path) -> Path:
    return shutil.copytree(two_epochs, tmp_path / "run")


def test_a_checkpoint_that_could_not_be_read_back_is_refused_when_it_is_first_written(tmp_path, monkeypatch):
    monkeypatch.setattr(run_files, "CHECKPOINT_BYTES", 1_000)
    recorded = run(config(2), tmp_path / "run")
    assert recorded.status is Status.FAILED
    assert "bytes are more than the 1,000 that are read back" in recorded.record.error
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def resumes_as_if_nothing_had_happened(run_dir: Path, three_epochs: Path) -> None:
    assert run(config(3), run_dir).status == Status.COMPLETED
    assert losses(run_dir) == losses(three_epochs)
    assert all(one.equal(other) for one, other in zip(weights(run_dir), weights(three_epochs), strict=True))


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        (["history.csv"], "history.csv: No such file or directory"),
        (["losses.npy"], "losses.npy: No such file or directory"),
        (["checkpoint.safetensors", "checkpoint.safetensors.previous"], "there is no checkpoint for its 2 epochs"),
        (["record.json", "record.json.previous"], "record.json: No such file or directory"),
    ],
)
def test_what_cannot_be_resumed_is_set_aside_whole_and_the_run_starts_again(
    run_dir, three_epochs, capsys, lost, reason
):
    for name in lost:
        (run_dir / name).unlink()
    before = {path.name: path.read_bytes() for path in run_dir.iterdir() if path.suffix in (".csv", ".npy", ".json")}
    resumes_as_if_nothing_had_happened(run_dir, three_epochs)
    assert f"run: {reason}; its files are in {run_dir / 'set_aside'}, the run starts again" in capsys.readouterr().out
    assert before.items() <= {path.name: path.read_bytes() for path in (run_dir / "set_aside").iterdir()}.items()


def test_without_the_last_checkpoint_the_one_before_it_is_used(run_dir, three_epochs):
    (run_dir / "checkpoint.safetensors").write_bytes(b"damaged")
    resumes_as_if_nothing_had_happened(run_dir, three_epochs)
    assert not list(run_dir.glob("set_aside*"))


@pytest.mark.parametrize("wait", ["flush", "flush_folder"])
def test_a_disk_that_fails_in_the_background_stops_the_run_and_costs_nothing(run_dir, three_epochs, wait):
    really = getattr(changes, wait)

    def fails(path: Path) -> None:
        if current_thread() is not main_thread():
            raise OSError(errno.EIO, "Input/output error", str(path))
        really(path)

    with mock.patch.object(changes, wait, fails), pytest.raises(CannotRecord, match="nothing recorded before is lost"):
        run(config(3), run_dir)
    resumes_as_if_nothing_had_happened(run_dir, three_epochs)


def test_a_figure_that_was_edited_is_not_believed(run_dir, three_epochs):
    for path in (run_dir / "record.json", run_dir / "record.json.previous"):
        path.write_text(path.read_text().replace('"train_samples": 4', '"train_samples": 5'))
    (row,) = (row for _, row in load_sweep(run_dir.parent).iterrows())
    assert row["status"] == "unknown"
    assert "corrupt: checksum mismatch" in row["error"]
    resumes_as_if_nothing_had_happened(run_dir, three_epochs)
    assert list(load_sweep(run_dir.parent)["status"]) == ["completed"]


def test_a_finished_run_whose_history_was_edited_is_kept_as_unknown(run_dir, capsys):
    path = run_dir / "history.csv"
    path.write_text(path.read_text().replace("2.3", "1.3", 1))
    before = path.read_text()
    assert run(config(2), run_dir).status == "unknown"
    assert (
        f"kept; history.csv: does not fit record.json; to train it again, remove {run_dir}" in capsys.readouterr().out
    )
    table = load_sweep(run_dir.parent)
    assert (table["status"][0], table["error"][0]) == ("unknown", "history.csv: does not fit record.json")
    assert path.read_text() == before


def test_a_checkpoint_of_another_run_is_refused_and_nothing_is_changed(run_dir, tmp_path):
    run(config(2), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "checkpoint.safetensors", run_dir)
    before = {path.name: path.read_bytes() for path in run_dir.iterdir() if path.is_file()}
    with pytest.raises(CannotResume, match=r"record\.json and checkpoint\.safetensors belong to different runs"):
        run(config(3), run_dir)
    assert {path.name: path.read_bytes() for path in run_dir.iterdir() if path.is_file()} == before


def test_a_run_of_another_seed_is_refused_by_key(tmp_path):
    run_dir = tmp_path / "other"
    run(config(2, "seed=7"), run_dir)
    with pytest.raises(CannotResume, match="seed was 7, is now 42"):
        run(config(3), run_dir)


def test_of_many_keys_that_differ_the_first_are_named(run_dir):
    with pytest.raises(CannotResume) as refused:
        run(config(2, "optimizer=sgd", "model=mlp_logits"), run_dir)
    *named, rest = str(refused.value).split("\n")
    assert len(named) == 3
    assert all(line.startswith(f"{run_dir}: ") and ", is now " in line for line in named)
    assert rest.startswith("and ")
    assert rest.endswith(" more")


def test_a_record_of_a_newer_version_is_neither_set_aside_nor_trained_again(run_dir):
    path = run_dir / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    (run_dir / "record.json.previous").unlink()
    with pytest.raises(CannotResume, match="its format 99 is not known here; resume it with the version that wrote it"):
        run(config(3), run_dir)
    assert json.loads(path.read_text())["format"] == 99


def test_what_is_set_aside_twice_is_kept_twice(run_dir):
    for epochs in (3, 4):
        for name in ("checkpoint.safetensors", "checkpoint.safetensors.previous"):
            (run_dir / name).write_bytes(b"damaged %d" % epochs)
        run(config(epochs), run_dir)
    assert (run_dir / "set_aside" / "checkpoint.safetensors").read_bytes() == b"damaged 3"
    assert (run_dir / "set_aside_2" / "checkpoint.safetensors").read_bytes() == b"damaged 4"


def test_while_a_completed_run_is_extended_it_has_no_figures_of_its_earlier_end(run_dir, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    assert read_record(run_dir).test_answers is not None
    monkeypatch.setattr("digits_sweep.sweep.run._evaluate", stop)
    with pytest.raises(KeyboardInterrupt):
        run(config(5), run_dir)
    recorded = read_run(run_dir)
    assert (recorded.status, recorded.epochs) == (Status.INTERRUPTED, 5)
    assert (recorded.row["test_accuracy"], recorded.row["classes_never_predicted"]) == (None, None)


def test_a_run_that_was_killed_at_its_end_says_why_it_has_ended(tmp_path):
    # It ends within an epoch whose mean loss so far is below the threshold, which only a whole epoch passes.
    keys = ("trainer.max_examples=4500", "trainer.stop_at_threshold=true", "trainer.loss_threshold=2.5")
    ended = run(config(9, *keys), tmp_path / "run")
    assert (ended.epochs, ended.record.ended) == (1, None)
    keys = ("trainer.max_examples=1500", *keys[1:])
    ended = run(config(9, *keys), tmp_path / "within")
    assert (ended.epochs, ended.record.ended) == (0, "trainer.max_examples reached")
    interrupt(tmp_path / "within")
    again = run(config(9, *keys), tmp_path / "within")
    assert (again.status, again.epochs, again.record.ended) == (Status.COMPLETED, 0, "trainer.max_examples reached")


def test_a_run_that_is_resumed_with_another_torch_or_commit_keeps_both(run_dir, monkeypatch):
    from digits_sweep.sweep import run as module

    before = module.describe_environment()
    other = {**before, "git_commit": "f" * 40}
    monkeypatch.setattr(module, "describe_environment", lambda: other)
    recorded = run(config(3), run_dir)
    assert [each["from_epoch"] for each in recorded.record.environments] == [1, 3]
    # Outside of a repository there was none.
    both = f", {'f' * 40} (from epoch 3)" if before["git_commit"] else "f" * 40
    assert recorded.row["git_commit"].endswith(both)
