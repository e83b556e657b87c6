"""The tables on a terminal: as wide as that is, the name first, numbers at the right."""

import io
import re

import pytest
from rich.console import Console

from digits_sweep.config.text import to_text
from digits_sweep.report.__main__ import main
from digits_sweep.report.tables import for_terminal, runs_for_terminal
from digits_sweep.shell import Screen, print_table, without_room
from tests.many import sweep_of

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def lesson(recorded):
    rows = ((100, 1e-4, 5e-4, 3), (20, 1e-4, 5e-4, 2), (5, 1e-4, 5e-4, None), (5, 1e-6, 5e-6, 9))
    return recorded(
        *(
            {
                "name": f"batch_size={size}_lr={to_text(lr)}_weight_decay={to_text(decay)}",
                "reached": epoch,
                "epochs": 30,
            }
            | {"batch_size": size, "lr": lr, "weight_decay": decay}
            for size, lr, decay, epoch in rows
        )
    )


def printed(table, width: int) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False)
    left_out = print_table(console, table.header, table.rows, table.optional)
    return [*stream.getvalue().splitlines(), *without_room(left_out)]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_every_table_fits_and_nothing_is_cut_off(lesson, width):
    table = runs_for_terminal(lesson.runs)
    lines = printed(table, width)
    assert max(map(len, lines[:-1] if width < 120 else lines)) <= width
    shown = [title for title in table.header if title in lines[0].split()]
    # What differs between the runs gives way to nothing.
    assert shown[:4] == ["run", "batch", "lr", "decay"] or width < 80
    for title in shown[1:]:
        for row in table.rows:
            assert width < 80 or any(f" {row[table.header.index(title)]}" in line for line in lines)
    if width == 120:
        assert shown == table.header
        # Numbers stand at the right.
        end = lines[0].index("batch") + len("batch")
        assert [line[:end].split()[-1] for line in lines[1:5]] == ["100", "20", "5", "5"]
    if width == 80:
        assert {"s/epoch", "epoch<1.6", "digits"} <= set(shown)
        assert any(">30" in line for line in lines)
        assert lines[-1] == "no room for: test, status (all columns are in summary.csv)"


def test_what_is_the_same_for_all_runs_gives_way_first(recorded):
    study = recorded(*({"name": f"batch_size={size}", "batch_size": size} for size in (100, 20)))
    assert printed(runs_for_terminal(study.runs), 70)[-1].startswith("no room for: decay, lr")


@pytest.mark.parametrize(("status", "is_miss"), [("completed", True), ("diverged", True), ("interrupted", False)])
def test_a_footnote_about_misses_stands_only_if_there_is_one(recorded, status, is_miss):
    notes = runs_for_terminal(recorded({"name": ">1"}, {"reached": None, "seed": 1, "status": status}).runs).notes
    assert any(note.startswith(">30") for note in notes) == is_miss


def test_what_a_sign_means_is_said_below(recorded):
    failed = {"losses": [], "seed": 1, "status": "failed", "error": "OSError: full"}
    notes = runs_for_terminal(recorded({"reached": None, "epochs": 30, "concurrent_runs": 2}, failed).runs).notes
    assert notes[0].startswith(">30: not reached in 30 epochs")
    assert notes[1].startswith("*: together")
    assert notes[2] == "b: failed: OSError: full"


def test_several_seeds_are_medians_with_their_interval_below(recorded):
    table = for_terminal(recorded(*({"reached": epoch, "seed": seed} for seed, epoch in enumerate((2, 3, None)))))
    cells = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert [row["digits"] for row in cells] == ["180,000", ">120,000"]
    assert [row["epoch<1.6"] for row in cells] == ["3", "2->10"]
    assert max(map(len, printed(table, 80)[:-1])) <= 80


@pytest.mark.parametrize("width", [40, 80])
def test_forty_configurations_fit_too(tmp_path, width):
    study = sweep_of(tmp_path, 24)
    assert max(map(len, printed(runs_for_terminal(study.runs), width)[:-1])) <= width


@pytest.mark.parametrize(("variables", "styled"), [({}, True), ({"TERM": "dumb"}, False)])
def test_the_report_is_a_table_on_a_terminal_and_markdown_in_a_pipe(lesson, tmp_path, monkeypatch, variables, styled):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"COLUMNS": "80", "TERM": "xterm-256color", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("digits_sweep.report.page.write_page", lambda *_: None)
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        monkeypatch.setattr("sys.stdout", stream)
        main([str(lesson.folder), "--page", str(tmp_path / "page.html")])
    assert bool(ESCAPES.search(terminal.getvalue())) == styled
    assert "| run" in pipe.getvalue()
    assert not ESCAPES.search(pipe.getvalue())
    assert "|" not in terminal.getvalue()


def test_no_color_is_written_if_nobody_wants_any(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    Screen().table(["a"], [["1"]])
    assert set(ESCAPES.findall(stream.getvalue())) <= {"\x1b[1m", "\x1b[0m"}


@pytest.mark.parametrize("encoding", ["cp437", "cp850", "cp1252"])
def test_a_code_page_of_windows_has_every_sign_of_a_table_or_a_question_mark(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    Screen().table(["run", "s/epoch"], [["\u4e2d=1", "5 \u00b5s"]])
    assert raw.getvalue().decode(encoding).split() == ["run", "s/epoch", "?=1", "5", "\u00b5s"]
