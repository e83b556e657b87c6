"""In a notebook one display updates itself, with a bar and a line for every run."""

import sys
from types import SimpleNamespace

import pytest

from digits_sweep import latest, run
from digits_sweep.notebook.display import MOST_LINES, NotebookScreen, RunInNotebook, screen_for
from digits_sweep.shell import Screen

QUICK = {"data": "mnist_sample", "num_epochs": 2, "hidden_size": 2}


class FakeDisplays:
    """Keeps what is displayed as a notebook would: every display and its states."""

    def __init__(self) -> None:
        self.displays: list[list[dict[str, str]]] = []

    def __call__(self, content, raw, display_id):
        states = [content]
        self.displays.append(states)
        return SimpleNamespace(update=lambda later, raw: states.append(later))

    @property
    def states(self) -> list[dict[str, str]]:
        (states,) = self.displays
        return states

    @property
    def lines(self) -> list[str]:
        return self.states[-1]["text/plain"].splitlines()


@pytest.fixture
def shown(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    displays = FakeDisplays()
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=displays))
    return displays


def test_a_sweep_is_one_display_with_a_line_a_run_and_prints_nothing(shown, capsys):
    run(batch_size=[500, 300], seed=[0, 1], **QUICK)
    assert capsys.readouterr().out == ""
    assert [line.partition("  (")[0] for line in shown.lines[:4]] == [
        f"run {number} of 4: batch_size={size}_seed={seed}"
        for number, (size, seed) in enumerate([(300, 0), (500, 0), (300, 1), (500, 1)], 1)
    ]
    assert all("completed, 2 epochs, loss" in line for line in shown.lines[:4])
    assert len(shown.lines) < 10


def test_while_it_trains_there_is_a_bar_and_afterwards_none(shown, monkeypatch):
    monkeypatch.setattr("digits_sweep.notebook.display.SECONDS_BETWEEN_UPDATES", 0.0)
    run(batch_size=[500, 300], **QUICK)
    bars = [state["text/html"] for state in shown.states if "<progress" in state["text/html"]]
    assert 'value="0.2500"' in "".join(bars)
    assert "left; epoch 1 of 2, loss" in "".join(bars)
    assert "<progress" not in shown.states[-1]["text/html"]


def test_after_an_interrupt_the_sweep_so_far_is_reachable_and_the_display_says_how(shown, monkeypatch):
    epoch = RunInNotebook.epoch

    def stopped(screen, *row) -> None:
        epoch(screen, *row)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunInNotebook, "epoch", stopped)
    with pytest.raises(KeyboardInterrupt) as stop:
        run(batch_size=[500, 300], **QUICK)
    assert len(stop.traceback) <= 2
    sweep = latest()
    assert list(sweep.table["status"]) == ["interrupted"]
    assert len(sweep.history) == 1
    assert "No run has ended yet" in sweep._repr_html_()
    calls = dict(line.split(": ", 1) for line in shown.lines if " with:" in line)
    assert calls["show with"].strip() == "latest()"
    monkeypatch.undo()
    resumed = eval(calls["resume with"], {"run": run})
    assert resumed == sweep
    assert list(resumed.table["status"]) == ["completed"] * 2


def test_a_failed_run_has_its_line_too(shown):
    run(hidden_layers=1, hidden_size=[10**9, 8], data="mnist_sample", num_epochs=1)
    assert any("out of memory at batch size 20" in line for line in shown.lines)
    assert any("hidden_size=8  " in line for line in shown.lines)


def test_a_display_that_fails_stops_no_training(shown, monkeypatch):
    def fails(*content, **options):
        raise RuntimeError("no front end")

    monkeypatch.setattr(sys.modules["IPython.display"], "display", fails)
    assert list(run(batch_size=500, **QUICK).table["status"]) == ["completed"]


@pytest.mark.parametrize("shell", ["no IPython", None, SimpleNamespace(kernel=None)])
def test_ipython_on_a_terminal_and_plain_python_have_lines(monkeypatch, shell):
    if shell != "no IPython":
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert type(screen_for(quiet=False)) is Screen


def test_texts_are_shown_as_text_and_of_many_lines_the_last():
    displays = FakeDisplays()
    screen = NotebookScreen(displays)
    for number in range(MOST_LINES + 5):
        screen.say(f"<b>{number}</b>\x1b[31m")
    assert "(5 lines before)" in displays.states[-1]["text/html"]
    with screen.run("<script>", 3) as shown:
        shown.epoch(1, 2.0, 0.1, 1.0)
    screen.show()
    assert "&lt;script&gt;" in displays.states[-1]["text/html"]
    for text in ("<b>", "\x1b", "<script>"):
        assert text not in displays.states[-1]["text/html"]


def test_plain_python_is_told_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run("outputs=else where", batch_size=500, **QUICK)
    assert "page with:   latest('else where').report()" in capsys.readouterr().out
