"""What a tracker is given of a sweep, and what a failing one costs."""

import json
import shutil
from importlib.util import find_spec

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.results.record import EpochRow, Status, read_record, write_history, write_record
from digits_sweep.trackers import TRACKERS
from digits_sweep.trackers.following import Follower
from digits_sweep.trackers.protocol import final_metrics
from tests.studies import add_run
from tests.trackers.followed import STARTED, ListTracker, follow, reported


def change(folder, status: Status, losses) -> None:
    """Write the run's epochs and its record, as a running one does."""
    record = read_record(folder)
    record.status = status
    write_history(folder, [EpochRow(number, loss, 0.1, 1.0, 1.0) for number, loss in enumerate(losses, 1)])
    write_record(folder, record)


def test_every_epoch_is_reported_once_and_the_end_once(sweep, calls):
    whole = [("begin", "a", None), ("epoch", "id of a", 1), ("epoch", "id of a", 2), ("end", "id of a", "completed")]
    assert follow(sweep) == []
    assert calls == whole
    follow(sweep)
    assert calls == whole


def test_a_running_sweep_is_reported_as_it_grows(sweep, calls):
    change(sweep / "a", Status.INTERRUPTED, [1.7])
    follower = Follower(sweep, {"list": {}}, pytest.fail)
    follower.follow()
    follower.follow()
    assert calls == [("begin", "a", None), ("epoch", "id of a", 1)]
    change(sweep / "a", Status.INTERRUPTED, [1.7, 1.6])
    add_run(sweep, "b", [1.5], started_at=STARTED)
    follower.follow()
    assert calls[2:] == [
        ("epoch", "id of a", 2), ("begin", "b", None), ("epoch", "id of b", 1), ("end", "id of b", "completed"),
    ]  # fmt: skip
    follower.follow(last=True)
    assert calls[6:] == [("end", "id of a", "interrupted")]


def test_a_resumed_run_continues_as_the_same_run(sweep, calls):
    follow(sweep)
    calls.clear()
    change(sweep / "a", Status.COMPLETED, [1.7, 1.6, 1.5])
    follow(sweep)
    assert calls == [("begin", "a", "id of a"), ("epoch", "id of a", 3), ("end", "id of a", "completed")]


def test_a_run_that_was_started_again_is_reported_from_its_first_epoch(sweep, calls):
    follow(sweep)
    calls.clear()
    change(sweep / "a", Status.COMPLETED, [1.4])
    follow(sweep)
    assert calls == [("begin", "a", "id of a"), ("epoch", "id of a", 1), ("end", "id of a", "completed")]


def test_what_an_earlier_version_has_reported_is_not_reported_again(sweep, calls):
    earlier = {"list": {"known_as": "id of a", "epochs": 1, "ended": None}}
    (sweep / "a" / "trackers.json").write_text(json.dumps(earlier))
    follow(sweep)
    assert calls == [("begin", "a", "id of a"), ("epoch", "id of a", 2), ("end", "id of a", "completed")]


def test_what_the_tracker_does_not_take_for_this_run_is_reported_from_the_start(sweep, calls):
    (sweep / "a" / "trackers.json").write_text('{"list": {"known_as": "theirs", "epochs": 1, "ended": "completed"}}')
    follow(sweep)
    assert [call[:2] for call in calls[:2]] == [("begin", "a"), ("epoch", "id of a")]
    assert [call[2] for call in calls if call[0] == "epoch"] == [1, 2]
    assert reported(sweep / "a")["list"] == {"known_as": "id of a", "epochs": 2, "ended": "completed"}


@pytest.mark.parametrize("damaged", ["record.json", "history.csv"])
def test_a_run_that_cannot_be_read_is_left_out_and_the_others_are_reported(sweep, calls, damaged):
    add_run(sweep, "b", [1.5], started_at=STARTED)
    (sweep / "b" / damaged).write_text("epoch\n1\n")
    assert follow(sweep) == []
    assert {call[1] for call in calls} == {"a", "id of a"}


@pytest.mark.parametrize("place", ["begin", "epoch", "end"])
def test_a_tracker_that_fails_is_turned_off_with_one_line_and_the_others_continue(sweep, calls, place, monkeypatch):
    monkeypatch.setitem(TRACKERS, "failing", ListTracker)
    add_run(sweep, "b", [1.5], started_at=STARTED)
    warnings = follow(sweep, failing={"fails_at": place}, list={})
    assert warnings == ["WARNING: tracker failing is off for the rest of the sweep: OSError: no connection"]
    assert [call for call in calls if call[0] == "end"] == [
        ("end", "id of a", "completed"),
        ("end", "id of b", "completed"),
    ]


def test_a_tracker_that_cannot_start_is_turned_off(sweep, calls):
    (warning,) = follow(sweep, list={"no_such_setting": "x"})
    assert warning.startswith("WARNING: tracker list is off for the rest of the sweep: TypeError: ")


def test_the_last_figures_are_the_outcomes_that_are_numbers(sweep):
    record = read_record(sweep / "a")
    metrics = final_metrics(record)
    assert metrics == {name: record.summary[name] for name in metrics}
    assert metrics["final_loss"] == 1.6
    assert {"seconds_per_epoch", "test_accuracy", "epochs"} <= metrics.keys()
    # Settings are not figures, text is not, and a threshold that was not reached has none.
    assert metrics.keys().isdisjoint({"batch_size", "lr", "status", "error", "first_epoch_below_threshold"})


# MLflow's own use of SQLAlchemy, and the files that the libraries leave open.
@pytest.mark.sampled(3)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("name", TRACKERS)
def test_every_tracker_takes_runs_however_they_end(name, tmp_path, monkeypatch):
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.chdir(tmp_path)
    sweep = tmp_path / "sweep"
    for status in Status:
        add_run(sweep, str(status), [1.7, float("nan")], started_at=STARTED, status=status)
    settings = plan([f"tracker={name}", f"outputs={tmp_path}"]).settings.tracker
    assert follow(sweep, **settings) == []
    before = {status: reported(sweep / status)[name] for status in Status}
    assert {(each["ended"], each["epochs"]) for each in before.values()} == {(status, 2) for status in Status}
    # What was reported is found again by its name.
    change(sweep / Status.INTERRUPTED, Status.COMPLETED, [1.7, 1.6, 1.5])
    assert follow(sweep, **settings) == []
    expected = before[Status.INTERRUPTED] | {"epochs": 3, "ended": "completed"}
    assert reported(sweep / Status.INTERRUPTED)[name] == expected
    # A copy of the folder says that it is known by the same name; the tracker's run for the first one stays as it is.
    shutil.copytree(sweep, tmp_path / "sent" / "sweep")
    for status in Status:
        change(tmp_path / "sent" / "sweep" / status, status, [1.7, 1.6, 1.5, 1.4])
    assert follow(tmp_path / "sent" / "sweep", **settings) == []
    for status in Status:
        assert reported(tmp_path / "sent" / "sweep" / status)[name]["known_as"] != before[status]["known_as"]


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_has_a_folder_for_every_run_wherever_it_is(sweep, tmp_path):
    add_run(sweep, "b", [1.5], started_at=STARTED)
    assert follow(sweep, tensorboard={"folder": str(tmp_path / "all")}) == []
    events = {path.parent.relative_to(tmp_path / "all").as_posix() for path in tmp_path.glob("all/**/events.*")}
    assert events == {"sweep/a", "sweep/b"}
