"""What a tracker is given of a sweep, what a failing one costs, and folders in which something else lies."""

import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.results.record import EpochRow, Status, read_record, write_record
from digits_sweep.results.run import read_run
from digits_sweep.trackers import following
from digits_sweep.trackers.following import Follower, last_figures
from digits_sweep.trackers.registry import TRACKERS, results_in
from tests.studies import add_run, write_rows

# How a run may stand that was started.
ENDS = [status for status in Status if status not in (Status.PLANNED, Status.UNKNOWN)]
STARTED = "2026-01-02T03:04:05+00:00"
posix = pytest.mark.skipif(os.name != "posix", reason="links and pipes as POSIX has them")
BEGIN, END = ("begin", "a", None), ("end", "id of a", "completed")
AGAIN = ("begin", "a", "id of a")


class ListTracker:
    """Everything that a tracker is asked to do, in a list that all of them share."""

    calls: ClassVar[list[tuple]] = []

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at

    def _called(self, *call) -> None:
        if call[0] == self.fails_at:
            raise OSError("no connection\nsecond line")
        self.calls.append(call)

    def begin(self, run_dir, record, known_as):
        self._called("begin", run_dir.name, known_as)
        return f"id of {run_dir.name}"

    def epochs(self, known_as, figures):
        self._called("epochs", known_as, *figures)

    def end(self, known_as, run_dir, record, figures):
        self._called("end", known_as, record.status)


def follow(sweep, last=True, **settings) -> list[str]:
    """Report a sweep once, to a `ListTracker` unless others are named; return the warnings."""
    warnings: list[str] = []
    Follower(sweep, settings or {"list": {}}, warnings.append).follow(last)
    return warnings


def reported(folder) -> dict:
    return json.loads((folder / "trackers.json").read_text())


def epochs(*numbers: int) -> list[tuple]:
    return [("epochs", "id of a", *numbers)]


@pytest.fixture
def calls(monkeypatch):
    monkeypatch.setitem(TRACKERS, "list", ListTracker)
    monkeypatch.setattr(ListTracker, "calls", [])
    return ListTracker.calls


@pytest.fixture
def sweep(tmp_path):
    add_run(tmp_path / "sweep", "a", [1.7, 1.6], started_at=STARTED)
    return tmp_path / "sweep"


def change(folder, status: Status, losses) -> None:
    """Write the run's epochs and its record, as a running one does."""
    record = read_record(folder)
    record.status = status
    rows = [EpochRow(number, loss, 0.1, 1.0, 1.0, True, number, number) for number, loss in enumerate(losses, 1)]
    write_rows(folder / "history.csv", EpochRow, rows)
    write_record(folder, record)


def test_every_epoch_is_reported_once_and_the_end_once(sweep, calls):
    assert follow(sweep) == []
    assert calls == [BEGIN, *epochs(1, 2), END]
    follow(sweep)
    assert len(calls) == 3


def test_a_running_sweep_is_reported_as_it_grows(sweep, calls):
    change(sweep / "a", Status.INTERRUPTED, [1.7])
    follower = Follower(sweep, {"list": {}}, pytest.fail)
    follower.follow()
    follower.follow()
    assert calls == [BEGIN, *epochs(1)]
    change(sweep / "a", Status.INTERRUPTED, [1.7, 1.6])
    add_run(sweep, "b", [1.5], started_at=STARTED)
    follower.follow()
    assert calls[2:] == [
        *epochs(2), ("begin", "b", None), ("epochs", "id of b", 1), ("end", "id of b", "completed"),
    ]  # fmt: skip
    follower.follow(last=True)
    assert calls[6:] == [("end", "id of a", "interrupted")]


@pytest.mark.parametrize(
    ("losses", "new"),
    [([1.7, 1.6, 1.5], [3]), ([1.4], [1])],
    ids=["resumed", "started again from its first epoch"],
)
def test_a_run_that_has_changed_continues_as_the_same_run(sweep, calls, losses, new):
    follow(sweep)
    calls.clear()
    change(sweep / "a", Status.COMPLETED, losses)
    follow(sweep)
    assert calls == [AGAIN, *epochs(*new), END]


WHOLE = {"known_as": "id of a", "epochs": 2, "ended": "completed"}


@pytest.mark.parametrize(
    ("known_as", "before", "new"), [("id of a", 1, [2]), ("theirs", 2, [1, 2])], ids=["its own", "that of another run"]
)
def test_what_was_reported_before_counts_if_the_tracker_takes_its_name_for_this_run(
    sweep, calls, known_as, before, new
):
    earlier = f'{{"list": {{"known_as": "{known_as}", "epochs": {before}, "ended": null}}}}'
    (sweep / "a" / "trackers.json").write_text(earlier)
    follow(sweep)
    assert calls == [("begin", "a", known_as), *epochs(*new), END]
    assert reported(sweep / "a")["list"] == WHOLE


@pytest.mark.parametrize("damaged", ["record.json", "history.csv"])
def test_a_run_that_cannot_be_read_is_left_out_and_the_others_are_reported(sweep, calls, damaged):
    add_run(sweep, "b", [1.5], started_at=STARTED)
    (sweep / "b" / damaged).write_text("epoch\n1\n")
    assert follow(sweep) == []
    assert {call[1] for call in calls} == {"a", "id of a"}


@pytest.mark.parametrize("call", ["begin", "epochs", "end"])
def test_a_tracker_that_fails_costs_two_lines_and_the_others_continue(sweep, calls, call, monkeypatch):
    monkeypatch.setitem(TRACKERS, "failing", ListTracker)
    add_run(sweep, "b", [1.5], started_at=STARTED)
    warnings = follow(sweep, failing={"fails_at": call}, list={})
    assert warnings == [
        "WARNING: tracker failing is tried again later: OSError: no connection",
        f"WARNING: tracker failing lacks a part of the sweep; resume={sweep} tracker=failing sends it, "
        "nothing is trained",
    ]
    assert [call for call in calls if call[0] == "end"] == [END, ("end", "id of b", "completed")]


@pytest.mark.parametrize("call", ["start", "begin", "epochs", "end"])
def test_a_tracker_that_is_away_for_a_while_gets_everything_once_it_is_back(sweep, calls, call, monkeypatch):
    clock, away = [0.0], [True]
    monkeypatch.setattr(following.time, "monotonic", lambda: clock[0])

    def started() -> ListTracker:
        if away[0] and call == "start":
            raise OSError("no connection")
        return ListTracker(call if away[0] else "")

    monkeypatch.setitem(TRACKERS, "list", started)
    warnings: list[str] = []
    follower = Follower(sweep, {"list": {}}, warnings.append)
    for clock[0] in (0.0, 1.0, 2.0, 6.0):
        follower.follow()
    away[0] = False
    calls.clear()
    clock[0] = 100.0
    follower.follow()
    assert calls[-1] == END
    assert set(epochs(1, 2)) <= {*calls} or call == "end"
    follower.follow(last=True)
    assert warnings == ["WARNING: tracker list is tried again later: OSError: no connection"]
    assert reported(sweep / "a")["list"] == WHOLE


def test_what_a_tracker_lacks_is_sent_later(sweep, calls):
    follow(sweep, list={"no_such_setting": "x"})
    assert calls == []
    assert follow(sweep) == []
    assert calls == [BEGIN, *epochs(1, 2), END]


def test_the_last_figures_are_the_outcomes_that_are_numbers(sweep):
    row = read_run(sweep / "a").row
    figures = last_figures(row)
    assert figures == {name: row[name] for name in figures}
    assert figures["final_loss"] == 1.6
    assert {"seconds_per_epoch", "test_accuracy", "epochs"} <= figures.keys()
    # Settings are not figures, text is not, and a threshold that was not reached has none.
    assert figures.keys().isdisjoint({"batch_size", "lr", "status", "error", "first_epoch_below_threshold"})


# MLflow's own use of SQLAlchemy, and the files that the libraries leave open.
@pytest.mark.sampled(3)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("name", TRACKERS)
def test_every_tracker_takes_runs_however_they_end(name, tmp_path, monkeypatch):
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.chdir(tmp_path)
    sweep = tmp_path / "sweep"
    for status in ENDS:
        add_run(sweep, str(status), [1.7, float("nan")], started_at=STARTED, status=status)
    settings = plan([f"tracker={name}", f"outputs={tmp_path}"]).settings.tracker
    assert follow(sweep, **settings) == []
    before = {status: reported(sweep / status)[name] for status in ENDS}
    assert {(each["ended"], each["epochs"]) for each in before.values()} == {(status, 2) for status in ENDS}
    # What was reported is found again by its name.
    change(sweep / Status.INTERRUPTED, Status.COMPLETED, [1.7, 1.6, 1.5])
    assert follow(sweep, **settings) == []
    expected = before[Status.INTERRUPTED] | {"epochs": 3, "ended": "completed"}
    assert reported(sweep / Status.INTERRUPTED)[name] == expected
    # A copy of the folder says that it is known by the same name; the tracker's run for the first one stays as it is.
    shutil.copytree(sweep, tmp_path / "sent" / "sweep")
    for status in ENDS:
        change(tmp_path / "sent" / "sweep" / status, status, [1.7, 1.6, 1.5, 1.4])
    assert follow(tmp_path / "sent" / "sweep", **settings) == []
    for status in ENDS:
        assert reported(tmp_path / "sent" / "sweep" / status)[name]["known_as"] != before[status]["known_as"]


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_has_a_folder_for_every_run_wherever_it_is(sweep, tmp_path):
    add_run(sweep, "b", [1.5], started_at=STARTED)
    assert follow(sweep, tensorboard={"folder": str(tmp_path / "all")}) == []
    events = {path.parent.relative_to(tmp_path / "all").as_posix() for path in tmp_path.glob("all/**/events.*")}
    assert events == {"sweep/a", "sweep/b"}


# Folders in which something else lies than a sweep leaves there: nothing is sent away, and nothing is waited for.


@posix
def test_a_folder_with_a_link_in_it_is_not_sent(sweep, calls, tmp_path):
    (tmp_path / "secret").write_text("x")
    (sweep / "a" / "more").symlink_to(tmp_path / "secret")
    assert "more is a symbolic link" in follow(sweep)[0]
    assert "end" not in {call[0] for call in calls}


@pytest.mark.parametrize(
    "content",
    ["no JSON", "[]", '{"list": 3}', '{"list": {"epochs": -1}}', '{"list": {"epochs": "1"}}', '{"list": {"new": 1}}'],
)
def test_an_unreadable_trackers_json_costs_nothing(sweep, calls, content):
    (sweep / "a" / "trackers.json").write_text(content)
    assert follow(sweep) == []
    assert calls == [BEGIN, *epochs(1, 2), END]
    assert reported(sweep / "a")["list"] == WHOLE


@posix
@pytest.mark.parametrize("made", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_a_trackers_json_that_is_no_file_is_neither_read_nor_waited_for(sweep, calls, made):
    made(sweep / "a" / "trackers.json")
    follow(sweep)
    assert calls[0] == BEGIN


@posix
def test_a_trackers_json_that_is_a_link_is_replaced_and_its_target_is_not(sweep, calls):
    target = sweep / "target.json"
    target.write_text('{"list": {"known_as": "theirs", "epochs": 2, "ended": "completed"}}')
    (sweep / "a" / "trackers.json").symlink_to(target)
    assert follow(sweep) == []
    assert "theirs" in target.read_text()
    assert calls == [BEGIN, *epochs(1, 2), END]
    assert reported(sweep / "a")["list"] == WHOLE


def test_what_is_sent_of_a_folder_are_results_neither_locks_nor_what_stood_there_before(sweep):
    for name in (".lock", "owner.json", "trackers.json", "record.json.previous", "notes.txt", "plots/loss.png"):
        (sweep / "a" / name).parent.mkdir(exist_ok=True)
        (sweep / "a" / name).write_text("x")
    sent = {path.relative_to(sweep / "a").as_posix() for path in results_in(sweep / "a")}
    assert sent >= {"record.json", "history.csv", "notes.txt", "plots/loss.png"}
    assert not sent & {".lock", "owner.json", "trackers.json", "record.json.previous"}


@pytest.mark.full
@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_mlflow_gets_a_backlog_at_once_and_the_last_figures_of_a_run_that_goes_on_replace_those_before(
    sweep, tmp_path, monkeypatch
):
    settings = {"uri": f"sqlite:///{tmp_path / 'mlflow.db'}", "experiment": "e", "artifacts": str(tmp_path / "sent")}
    tracker = TRACKERS["mlflow"](**settings)
    requests: list[int] = []
    log = tracker.client.log_batch

    def log_batch(run_id, metrics=(), params=()):
        requests.append(len(metrics))
        log(run_id, metrics=metrics, params=params)

    monkeypatch.setattr(tracker.client, "log_batch", log_batch)
    monkeypatch.setitem(TRACKERS, "mlflow", lambda: tracker)
    losses = [2 - 0.001 * epoch for epoch in range(400)]
    for count in (400, 2):
        change(sweep / "a", Status.COMPLETED, losses[:count])
        assert follow(sweep, mlflow={}) == []
        run = tracker.client.get_run(reported(sweep / "a")["mlflow"]["known_as"])
        assert run.data.metrics["final_loss"] == pytest.approx(losses[count - 1])
    assert requests[1:3] == [1_000, 200]
    assert "record.json" in {file.path for file in tracker.client.list_artifacts(run.info.run_id)}
