"""A search that is stopped, or that two processes share: no trial is lost, and none is run twice."""

import re
import signal
import threading

import pytest

pytest.importorskip("optuna")

from optuna.storages._heartbeat import HeartbeatThread

from tests.searches import QUICK, of_state


@pytest.mark.full
def test_two_processes_end_when_their_study_is_full(program):
    command = (*QUICK, "tune.trials=8")
    with (
        program.running(*command, module="digits_sweep.tune") as first,
        program.running(*command, module="digits_sweep.tune") as second,
    ):
        assert (first.ends(), second.ends()) == (0, 0), first.text() + second.text()
        # Each process ends with the trial that it is in when the study is full.
        assert of_state(program.folder, "COMPLETE", "PRUNED") in (8, 9)


@pytest.mark.full
def test_two_processes_share_a_study(program):
    """However fast either is: the study has more trials than they come to."""
    command = (*QUICK, "tune.trials=100000")
    with (
        program.running(*command, module="digits_sweep.tune") as first,
        program.running(*command, module="digits_sweep.tune") as second,
    ):
        for each in (first, second):
            each.says("  epoch")
        for each in (first, second):
            each.process.send_signal(signal.SIGINT)
        assert (first.ends(), second.ends()) == (130, 130), first.text() + second.text()
    one, other = ({*re.findall(r"trial_\d+", each.text())} for each in (first, second))
    assert one
    assert other
    assert one.isdisjoint(other)


@pytest.mark.parametrize("moment", ["start", "join"])
def test_a_search_that_is_stopped_between_two_trials_leaves_no_thread(tune, tmp_path, monkeypatch, moment):
    """A thread that sends heartbeats for ever would keep the process, and the trial from being taken up."""
    inner = getattr(HeartbeatThread, moment)

    def at_that_moment(thread):
        if moment == "start":
            inner(thread)
        signal.raise_signal(signal.SIGINT)
        if moment == "join":
            inner(thread)

    with monkeypatch.context() as stopping:
        stopping.setattr(HeartbeatThread, moment, at_that_moment)
        stopped = tune("tune.trials=2")
    assert stopped.returncode == 130
    assert stopped.stdout.splitlines()[-1] == "stopped; the same command continues the study"
    assert not [thread for thread in threading.enumerate() if "heartbeat" in thread.name]
    assert tune("tune.trials=2").returncode == 0
    assert of_state(tmp_path, "COMPLETE", "PRUNED") == 2
    assert of_state(tmp_path, "RUNNING", "WAITING") == 0


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_search_continues_with_the_very_trial_it_was_stopped_in(tune, found, monkeypatch, sent, code):
    command = ("tune.trials=3", "tune.objective=final_loss", "tune.prune=false")
    with monkeypatch.context() as stopping:
        lines = []
        stopping.setattr(
            "digits_sweep.shell.RunOnScreen.epoch",
            lambda screen, *row: lines.append(row) or (len(lines) == 6 and signal.raise_signal(sent)),
        )
        stopped = tune(*command)
    assert stopped.returncode == code
    assert stopped.stdout.splitlines()[-1] == "stopped; the same command continues the study"
    assert list(found()["epochs"]) == [4, 2]
    finished = tune(*command)
    assert finished.returncode == 0, finished.stderr
    assert list(found()["epochs"]) == [4, 4, 4]
    assert list(found()["resumes"]) == [0, 1, 0]
