"""What is printed never changes what is trained or recorded."""

import io
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from digits_sweep.shell import Screen, Tolerant
from tests.commands import Program

QUICK = ("data=mnist_sample", "data.batch_size=1000", "trainer.num_epochs=2", "model.hidden_size=2")


class Gone(io.StringIO):
    """A terminal that went away."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")

    def isatty(self) -> bool:
        return True


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


class NoTerminalAtAll:
    """What some programs put in place of standard output."""

    def write(self, text: str) -> None: ...

    def flush(self) -> None: ...


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "stream", [Gone(), closed(), NoTerminalAtAll(), None], ids=["gone", "closed", "no isatty", "none"]
)
def test_a_sweep_is_recorded_whatever_becomes_of_its_output(tmp_path, monkeypatch, stream):
    from digits_sweep import load_sweep, run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", stream)
    folder = run(*QUICK)
    monkeypatch.undo()
    assert list(load_sweep(tmp_path / folder)["status"]) == ["completed"]


def test_a_character_that_the_encoding_lacks_is_replaced(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    Screen().say("5 \u00b5s an iteration")
    assert raw.getvalue() == b"5 ?s an iteration\n"


def test_a_tolerant_stream_passes_on_what_can_be_written():
    stream = io.StringIO()
    print("a line", file=Tolerant(stream))
    assert stream.getvalue() == "a line\n"


@pytest.mark.full
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_behind_standard_output_changes_neither_results_nor_exit_code(tmp_path):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "digits_sweep", *QUICK]
        finished = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert list(pd.read_csv(Program(tmp_path).outputs / "summary.csv")["status"]) == ["completed"]
