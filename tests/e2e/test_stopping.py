"""Ctrl-C and SIGTERM at any moment of any command: one line, the exit code of the signal, no traceback."""

import os
import signal
import subprocess
import sys

import pytest

from digits_sweep.shell import CODES
from tests.studies import add_run, losses_reaching

# Sends this process a signal when it looks for the n-th module after it has begun to listen to signals.
STOPPING = """
import os, signal, sys

class Stopping:
    looked_for = 0

    def find_spec(self, name, path=None, target=None):
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            Stopping.looked_for += 1
            if Stopping.looked_for == int(os.environ["STOP_AT_MODULE"]):
                signal.raise_signal(int(os.environ["STOP_BY"]))

sys.meta_path.insert(0, Stopping())
"""
COMMANDS = {
    "sweep": ("digits_sweep", "-m", "data=mnist_sample", "data.batch_size=500,300", "trainer.num_epochs=1"),
    "help": ("digits_sweep", "--help"),
    "configuration": ("digits_sweep", "--cfg", "job"),
    "tune": ("digits_sweep.tune", "data=mnist_sample", "tune.trials=1", "trainer.num_epochs=1", "hydra/launcher=basic"),
    "report": ("digits_sweep.report", "sweep"),
    "trackers": ("digits_sweep.trackers", "sweep"),
}
MODULES = [1, 200, *(pytest.param(number, marks=pytest.mark.full) for number in (50, 800, 1_600))]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("number", MODULES)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_stopped_while_it_imports_says_so_in_one_line(tmp_path, name, number):
    (tmp_path / "sitecustomize.py").write_text(STOPPING)
    add_run(tmp_path / "sweep", "run", losses_reaching(2))
    sent = signal.SIGINT if number % 100 else signal.SIGTERM
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    module, *arguments = COMMANDS[name]
    finished = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "STOP_AT_MODULE": str(number), "STOP_BY": str(int(sent))},
        input='{"tensorboard": {"folder": "t"}}\n',
        capture_output=True,
        text=True,
    )
    was_stopped = finished.returncode == CODES[sent]
    assert was_stopped or number > 100, finished.stderr
    if was_stopped:
        # A sweep and a search say themselves how they are resumed.
        last = finished.stdout.splitlines()[-1:] or [""]
        assert finished.stderr == "stopped\n" or last[0].startswith("resume with: ")
    assert "Traceback" not in finished.stderr + finished.stdout
