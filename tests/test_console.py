"""What is printed never changes what is trained or recorded."""

import io
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from digits_sweep import run
from digits_sweep.shell import Screen, Tolerant
from tests.commands import Program

QUICK = ("data=mnist_sample", "data.batch_size=1000", "trainer.num_epochs=2", "model.hidden_size=2")


class Gone(io.StringIO):
    """A terminal that went away."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")

    def isatty(self) -> bool:
        return True


class Bare:
    """A stream with nothing but what `print` needs."""

    def write(self, text: str) -> None: ...


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "stream", [Gone(), closed(), Bare(), None, io.BytesIO()], ids=["gone", "closed", "bare", "none", "bytes"]
)
def test_a_sweep_is_recorded_whatever_becomes_of_its_output(tmp_path, monkeypatch, stream):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", stream)
    sweep = run(*QUICK)
    monkeypatch.undo()
    assert list(sweep.table["status"]) == ["completed"]


def test_a_stream_gets_what_it_can_take(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    print("a line", file=Tolerant(sys.stdout))
    Screen().say("5 \u00b5s an iteration")
    assert raw.getvalue() == b"a line\n5 ?s an iteration\n"


@pytest.mark.full
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_behind_standard_output_changes_neither_results_nor_exit_code(tmp_path):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "digits_sweep", *QUICK]
        finished = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert list(pd.read_csv(Program(tmp_path).outputs / "summary.csv")["status"]) == ["completed"]
