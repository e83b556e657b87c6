"""Text from files on a terminal: escape sequences, which could fill the clipboard or hide a line, are written out."""

import os
import pty
from contextlib import contextmanager

import pytest

from digits_sweep.shell import Screen

CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4=\x07"
END = "end of the output"
WRITTEN_OUT = "\\x1b]52;c;cm0gLXJmIH4=\\x07"


@contextmanager
def standard_output(kind: str, monkeypatch: pytest.MonkeyPatch):
    """Standard output is a terminal or a pipe in the block; yields what returns the text that was written to it."""
    reading, writing = pty.openpty() if kind == "terminal" else os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as ours, os.fdopen(writing, "w", encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdout", stream)

        def text() -> str:
            # A terminal passes on what is written a moment later, in pieces on a busy machine.
            print(END, end="", file=stream, flush=True)
            received = b""
            while not received.endswith(END.encode()):
                received += ours.read(2**16)
            return received.decode().removesuffix(END).replace("\r\n", "\n")

        yield text
        monkeypatch.undo()


@pytest.fixture(params=["terminal", "pipe"])
def kind(request) -> str:
    return request.param


def test_a_line_holds_no_escape_sequence(kind, monkeypatch):
    with standard_output(kind, monkeypatch) as written:
        Screen().say(f"{CLIPBOARD} and [bold]this[/nothing]\x9b31m")
        assert written() == f"{WRITTEN_OUT} and [bold]this[/nothing]\\x9b31m\n"


def test_nor_does_a_table_whose_columns_and_cells_come_from_files(kind, monkeypatch):
    with standard_output(kind, monkeypatch) as written:
        Screen().table(["[/red]key", CLIPBOARD], [["1\n2", f"{CLIPBOARD}\r"]])
        text = written()
    assert "[/red]key" in text
    assert "1\\n2" in text
    assert "\x1b]52" not in text
    assert "\\x1b]52" in text
