"""What follows from a run's record, its epochs and its losses; what cannot be read is not known, never missed."""

from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits_sweep.results.record import EpochRow, EvaluationRow, Record, Status, Written, write_record
from digits_sweep.results.run import RecordedRun, read_run
from digits_sweep.results.sweep import Manifest, RecordedSweep, load_sweep, targets_in, write_manifest
from tests.studies import add_run, evaluation, finished, write_rows

CONFIG = {"data": {"batch_size": 10}, "trainer": {"loss_threshold": 1.6}}


def outcome(folder, *epochs: tuple[float, float], crossing: int | None = None) -> dict[str, object]:
    """The cells of a run of these losses and seconds, of ten iterations an epoch, whose running loss crosses there."""
    rows = [
        EpochRow(number, loss, 0.1, seconds, 100 / seconds, True, 10 * number, 100 * number)
        for number, (loss, seconds) in enumerate(epochs, 1)
    ]
    run = RecordedRun(folder, Record(0, Status.COMPLETED, config=CONFIG, train_samples=100), rows)
    losses = np.full(10 * len(epochs), 2.0, dtype="<f4")
    if crossing:
        losses[crossing - 1] = -1e9
    np.save(folder / "losses.npy", losses)
    return run.row


def test_the_first_epoch_below_the_threshold_counts_not_the_last_or_the_lowest(tmp_path):
    cells = outcome(tmp_path, (1.7, 1), (1.59, 1), (1.61, 1), (1.5, 1))
    assert (cells["first_epoch_below_threshold"], cells["final_loss"]) == (2, 1.5)


@pytest.mark.parametrize("losses", [[1.6], [1.7, 1.65], [float("nan")]])
def test_a_threshold_that_is_never_reached_is_none_and_so_are_its_seconds(tmp_path, losses):
    cells = outcome(tmp_path, *((loss, 1) for loss in losses))
    assert (cells["first_epoch_below_threshold"], cells["seconds_to_threshold"]) == (None, None)
    assert cells["epochs"] == len(losses)


def test_seconds_per_epoch_leave_the_first_epoch_out_and_keep_it_apart(tmp_path):
    cells = outcome(tmp_path, (1.7, 9), (1.7, 2), (1.7, 4))
    assert (cells["seconds_per_epoch"], cells["seconds_first_epoch"]) == (3, 9)
    assert outcome(tmp_path, (1.7, 9))["seconds_per_epoch"] == 9


@pytest.mark.parametrize(("crossing", "seconds"), [(300, 9), (310, 9.2), (325, 9.5), (400, 11), (450, 12)])
def test_seconds_to_the_threshold_share_an_epochs_seconds_out_over_its_iterations(crossing, seconds):
    rows = [EpochRow(number, 1.7, 0.1, each, 1, True, 300 if number == 1 else 300 + 100 * (number - 1), 1)
            for number, each in enumerate((9, 2, 2), 1)]  # fmt: skip
    run = RecordedRun(None, Record(0), rows)
    assert run.seconds_until(crossing) == pytest.approx(seconds)


def test_no_epoch_at_all_amounts_to_nothing(tmp_path):
    run = RecordedRun(tmp_path, Record(0, Status.INTERRUPTED, config=CONFIG))
    outcomes = ("seconds_per_epoch", "first_epoch_below_threshold", "final_loss", "examples_to_threshold")
    assert run.row["epochs"] == 0
    assert [run.row[name] for name in outcomes] == [None] * 4


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(1.4, 2.4), st.floats(1e-3, 1e3)), min_size=1, max_size=40))
def test_the_columns_agree_with_one_another(tmp_path_factory, epochs):
    cells = outcome(tmp_path_factory.mktemp("run"), *epochs)
    reached = cells["first_epoch_below_threshold"]
    assert (reached is None) == all(loss >= 1.6 for loss, _ in epochs)
    assert reached is None or epochs[reached - 1][0] < 1.6
    assert cells["examples_per_second"] == pytest.approx(100 / cells["seconds_per_epoch"])
    assert cells["seconds_per_epoch"] == median([seconds for _, seconds in epochs[1:]] or [epochs[0][1]])


ROWS = [EpochRow(number, 1.7, 0.1, 1.0, 100.0, True, 10 * number, 100 * number) for number in (1, 2)]


def ended_run(folder):
    """A run that has ended, with what it wrote."""
    folder.mkdir()
    np.save(folder / "losses.npy", np.full(20, 2.0, dtype="<f4"))
    files = {"history.csv": write_rows(folder / "history.csv", EpochRow, ROWS)}
    files["evaluations.csv"] = write_rows(folder / "evaluations.csv", EvaluationRow, [evaluation(20, 10)])
    config = CONFIG | {"evaluation": {"targets": {"train_loss": [1.8, 1.6]}}}
    record = Record(0, Status.COMPLETED, folder=folder.name, config=config, train_samples=100, files=files)
    write_record(folder, record)
    return folder


@pytest.mark.parametrize("name", ["history.csv", "evaluations.csv"])
def test_a_changed_byte_makes_what_followed_from_it_unknown_not_missed(tmp_path, name):
    folder = ended_run(tmp_path / "run")
    content = bytearray((folder / name).read_bytes())
    content[-12] ^= 1
    (folder / name).write_bytes(content)
    run = read_run(folder)
    assert run.status is Status.UNKNOWN
    assert run.misfits == {name: f"{name}: does not fit record.json"}
    assert run.row["error"] == f"{name}: does not fit record.json"
    assert (run.row["epochs"], run.row["iterations"]) == ((None, None) if name == "history.csv" else (2, 20))


def test_losses_that_cannot_be_read_leave_the_crossing_unknown_and_are_said(tmp_path):
    folder = ended_run(tmp_path / "run")
    (folder / "losses.npy").unlink()
    assert read_run(folder).row["error"] == "losses.npy: No such file or directory"


def test_targets_are_reached_missed_or_unknown(tmp_path):
    for name in ("good", "edited", "torn"):
        ended_run(tmp_path / name)
    (tmp_path / "edited" / "evaluations.csv").write_text("edited")
    (tmp_path / "torn" / "record.json").write_text("{")
    write_manifest(tmp_path, Manifest([], ["good", "edited", "torn"], []))
    rows = [(row.run_dir, row.threshold, row.reached) for row in targets_in(RecordedSweep(tmp_path))]
    assert rows == [
        ("edited", 1.8, None), ("edited", 1.6, None), ("good", 1.8, True), ("good", 1.6, False),
        ("torn", 1.8, None), ("torn", 1.6, None),
    ]  # fmt: skip
    assert list(load_sweep(tmp_path)["status"]) == ["unknown", "completed", "unknown"]


def test_a_run_that_has_not_ended_is_known_as_far_as_its_epochs_go(tmp_path):
    folder = ended_run(tmp_path / "run")
    write_record(folder, Record(0, Status.INTERRUPTED, folder="run", config=CONFIG, train_samples=100))
    with (folder / "history.csv").open("ab") as file:
        file.write(b"3,1.5,")
    assert (read_run(folder).row["epochs"], read_run(folder).status) == (2, "interrupted")


def test_a_run_of_which_more_is_written_than_was_committed_ends_where_its_record_says(tmp_path):
    folder = ended_run(tmp_path / "run")
    with (folder / "history.csv").open("ab") as file:
        file.write(b"3,1.5,0.1,1.0,1.0,True,30,300\n")
    assert len(read_run(folder).history) == 2
    record = read_run(folder).record
    assert isinstance(record.files["history.csv"], Written)


def test_a_study_that_is_written_for_tests_is_read_as_one(tmp_path):
    add_run(tmp_path, "a", [1.7, 1.5])
    (row,) = load_sweep(finished(tmp_path).folder).to_dict("records")
    assert (row["first_epoch_below_threshold"], row["iterations_to_threshold"]) == (2, 6_000)
