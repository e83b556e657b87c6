"""What a sweep shows while it trains: how far all of it is, one line a run if it is quiet, and what to do next."""

import io
import subprocess

import pytest

from digits_sweep.shell import Screen, SweepProgress
from tests.commands import FAILS_THEN_COMPLETES

QUICK = ("data=mnist_sample", "trainer.num_epochs=2", "model.hidden_size=2")


def sweep(*sizes: int) -> SweepProgress:
    return SweepProgress([10] * len(sizes), sizes, num_samples=6_000)


def test_what_is_left_of_a_sweep_follows_from_the_iterations_of_every_run():
    progress = sweep(100, 20, 10).after(5, 2.0)
    # Five epochs of 2 s, then ten of five and ten of ten times as many iterations.
    assert (progress.done, progress.total, progress.left) == (0.5, 3, pytest.approx(5 * 2 + 10 * 10 + 10 * 20))


def test_what_was_measured_counts_for_the_runs_that_follow():
    progress = sweep(100, 20, 101)
    progress.after(10, 2.0)
    progress.number = 1
    assert progress.after(10, 4.0).left == pytest.approx(10 * 2)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("term", "has_bar"), [("xterm-256color", True), ("dumb", False)])
def test_a_terminal_shows_the_run_and_the_sweep(monkeypatch, term, has_bar):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    with Screen().run("run 1 of 2: a", 10, 0, sweep(50, 49)) as shown:
        shown.epoch(1, 1.9, 0.1, 6.0)
    text = stream.getvalue()
    assert ("run 1 of 2, about 114 s left" in text or "run 1 of 2, about 2 min left" in text) == has_bar
    assert ("epoch 1 of 10, about 54 s left" in text) == has_bar
    assert ("\x1b" in text) == has_bar


def test_a_quiet_sweep_has_one_line_for_a_run(program):
    finished = program("-m", "data.batch_size=500,1000", "quiet=true", *QUICK)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    runs = [line for line in finished.stdout.splitlines() if line.startswith("run ") and " of 2: " in line]
    assert [" completed, 2 epochs, loss " in line for line in runs] == [True, True]
    assert "epoch 1/2" not in finished.stdout


def test_the_last_lines_say_what_to_do_next(program):
    finished = program("data.batch_size=1000", *QUICK)
    assert finished.stdout.splitlines()[-1] == "page with:   python -m digits_sweep.report"


@pytest.mark.full
@pytest.mark.parametrize(
    ("arguments", "start"),
    [(("data.batch_size=1000", *QUICK), "page with:   "), ((*FAILS_THEN_COMPLETES, QUICK[1]), "resume with: ")],
    ids=["page", "resume"],
)
def test_the_last_lines_work_as_they_stand_where_python_is_another(program, monkeypatch, arguments, start):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    lines = program(*arguments).stdout.splitlines()
    (line,) = (line.removeprefix(start) for line in lines if line.startswith(start))
    typed = subprocess.run(line, shell=True, cwd=program.folder, capture_output=True, text=True)
    assert typed.returncode == (start == "resume with: "), typed.stderr
    assert ("not completed: hidden_size=" if typed.returncode else "index.html") in typed.stdout


def test_a_sweep_that_make_started_says_what_make_does_next(program, monkeypatch):
    monkeypatch.setenv("DIGITS_SWEEP_BY_MAKE", "1")
    assert program("data.batch_size=1000", *QUICK).stdout.splitlines()[-1] == "page with:   make report"
    other = program("data.batch_size=1000", *QUICK, "outputs=other")
    assert other.stdout.splitlines()[-1].startswith("page with:   python -m digits_sweep.report other/sweeps/")
