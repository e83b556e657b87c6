"""All commands stopped at random moments, and what must be as if nothing had happened.

`python -m tests.killing` (`make torture`) sends SIGINT, SIGTERM, SIGHUP and SIGKILL, for as long as it
takes; the tests stop once, at a moment that they choose. With `--fork` commands are forked from a process that has
imported everything: ten times as many signals in the same time, none of them during imports.
"""

import argparse
import csv
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from digits_sweep.results.critical import STEPS, TUNING
from digits_sweep.results.sweep import load_sweep
from digits_sweep.shell import CODES
from tests.commands import Program
from tests.forks import ForkedProgram
from tests.recorded_loop import SWEEP as SWEEP_OF_A_LOOP
from tests.searches import CRITICAL, STUDY
from tests.servers import Started, wait_for

SWEEP = ("-m", "data.batch_size=500,300", "optimizer=adam,sgd", "data=mnist_sample", "trainer.num_epochs=25")
SEARCH = (
    *("data=mnist_sample", "data.batch_size=300", "trainer.num_epochs=25", "hydra/launcher=basic", "tune.study=s"),
    *("tune.trials=3", "tune.seeds=3", "tune.objective=final_loss", "tune.prune=false"),
)
STUDY_ALONE = (*STUDY, "hydra/launcher=basic")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
MOST_IN_A_ROUND = 12
ROOT = Path(__file__).parents[1]


def losses(run_dir: Path) -> list[tuple[str, str, str]]:
    """Return epoch, mean and deviation of every row of `history.csv`, to the last digit."""
    with (run_dir / "history.csv").open() as file:
        return [(row["epoch"], row["loss_mean"], row["loss_std"]) for row in csv.DictReader(file)]


def weights(run_dir: Path) -> list[torch.Tensor]:
    """Return all that the last checkpoint holds of model and optimizer."""
    return list(load_file(run_dir / "checkpoint.safetensors").values())


def assert_same_run(run_dir: Path, expected: Path) -> None:
    """Assert that a run has the losses, weights and optimizer state of another one, bit for bit."""
    assert losses(run_dir) == losses(expected)
    pairs = zip(weights(run_dir), weights(expected), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def assert_same_results(sweep: Path, expected: Path) -> None:
    """Assert that `sweep` has the runs of `expected`, each with the same results, bit for bit."""
    runs = sorted(path.parent.name for path in expected.glob("*/record.json"))
    assert sorted(path.parent.name for path in sweep.glob("*/record.json")) == runs
    for run in runs:
        assert_same_run(sweep / run, expected / run)


@dataclass
class Attack:
    """Signals at random moments, and how often each was survived by which command."""

    chance: random.Random
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def stops(self, command: str, started: Started, seconds: float) -> bool:
        """Send a signal at any moment of a process that takes about so long, or shortly after an epoch.

        Return whether the process ended by it. Assert that it did so as it should.
        """
        sent = self.chance.choice(SIGNALS)
        if command == "report" or self.chance.random() < 0.5:
            time.sleep(self.chance.uniform(0, seconds))
        else:
            epochs = self.chance.randint(1, 60)
            wait_for(lambda: started.process.poll() is not None or started.text().count("  epoch ") >= epochs)
            time.sleep(self.chance.uniform(0, 0.05))
        if sent in CODES:
            # Before that it is the interpreter, not this program, that is stopped.
            wait_for(lambda: started.process.poll() is not None or _is_heard(started.process.pid))
        has_ended = started.process.poll() is not None
        started.process.send_signal(sent)
        code, text = started.ends(), started.text()
        assert not any(word in text for word in ("Traceback", "Exception ignored", "Error")), text
        if has_ended or code == 0:
            assert code == 0, text
            return False
        assert code == CODES.get(sent, -sent), f"{sent.name}: exit code {code}\n{text}"
        assert text.count("stopped") <= 1, text
        self.counts[command, sent.name] += 1
        return True


def _is_heard(process: int) -> bool:
    """Return whether a process listens to what stops a command; Linux says it."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
    # Python itself listens to SIGINT from the start.
    return all(int(caught, 16) >> (number - 1) & 1 for number in CODES)


@dataclass
class Expected:
    """What each command results in if nothing happens to it, and how long it takes."""

    program: Program
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (arguments, _) in COMMANDS.items():
            started = time.monotonic()
            _runs_to_its_end(name, self.program, *arguments)
            self.seconds[name] = time.monotonic() - started


COMMANDS = {
    "sweep": (SWEEP, "digits_sweep"),
    "tune": (SEARCH, "digits_sweep.tune"),
    "study": (STUDY_ALONE, CRITICAL),
    "recorder": ((), "tests.recorded_loop"),
    "report": ((), "digits_sweep.report"),
}


def _goes_through(
    name: str, program: Program, arguments: Callable[[], tuple[str, ...]], most: int, attack: Attack, seconds: float
) -> int:
    """Start a command until it was stopped `most` times or ends, then to its end; return how often it was stopped."""
    stopped = 0
    while stopped < most:
        with program.running(*arguments(), module=COMMANDS[name][1]) as started:
            if not attack.stops(name, started, seconds):
                break
        stopped += 1
    _runs_to_its_end(name, program, *arguments())
    return stopped


def _runs_to_its_end(name: str, program: Program, *arguments: str) -> None:
    with program.running(*arguments, module=COMMANDS[name][1]) as started:
        assert started.ends() == 0, started.text()


def sweep_through_signals(program: Program, expected: Expected, most: int, attack: Attack) -> int:
    """Stop a sweep up to `most` times, resume it each time, and compare; return how often it was stopped."""

    def arguments() -> tuple[str, ...]:
        # Stopped before it has a folder, there is nothing to resume.
        return (*SWEEP, "resume=latest") if any(program.outputs.glob("sweeps/*/sweep.json")) else SWEEP

    stopped = _goes_through("sweep", program, arguments, most, attack, expected.seconds["sweep"])
    assert_same_results(program.sweeps()[-1], expected.program.sweep())
    return stopped


def search_through_signals(program: Program, expected: Expected, most: int, attack: Attack) -> int:
    """Stop a search up to `most` times and continue it each time, and compare; return how often it was stopped."""
    stopped = _goes_through("tune", program, lambda: SEARCH, most, attack, expected.seconds["tune"])
    for folder in ("s", "s_confirmed"):
        assert_same_results(program.outputs / "tune" / folder, expected.program.outputs / "tune" / folder)
    return stopped


def study_through_signals(program: Program, expected: Expected, most: int, attack: Attack) -> int:
    """Stop a study up to `most` times and resume it each time, and compare; return how often it was stopped."""

    def arguments() -> tuple[str, ...]:
        return (*STUDY_ALONE, "resume=latest") if any(_studies(program)) else STUDY_ALONE

    stopped = _goes_through("study", program, arguments, most, attack, expected.seconds["study"])
    ours, theirs = (next(iter(_studies(each))) for each in (program, expected.program))
    assert_same_results(ours, theirs)
    for name in (TUNING, STEPS):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    return stopped


def _studies(program: Program) -> list[Path]:
    return [path.parent for path in program.outputs.glob("critical_batch_size/*/study.json")]


def recorder_through_signals(program: Program, expected: Expected, most: int, attack: Attack) -> int:
    """Stop a loop that is recorded up to `most` times, start it again each time, and compare; return how often."""
    stopped = _goes_through("recorder", program, lambda: (), most, attack, expected.seconds["recorder"])
    assert_same_recorded(program.folder / SWEEP_OF_A_LOOP, expected.program.folder / SWEEP_OF_A_LOOP)
    return stopped


def assert_same_recorded(sweep: Path, expected: Path) -> None:
    """Assert that a `Recorder` has recorded the same runs in both folders, completed, but for their times."""
    tables = [load_sweep(folder).set_index("run_dir") for folder in (sweep, expected)]
    columns = ["status", "epochs", "final_loss", "iterations_to_threshold", "test_accuracy", "error"]
    pd.testing.assert_frame_equal(*(table[columns].sort_index() for table in tables))
    for run in tables[1].index:
        assert losses(sweep / run) == losses(expected / run)
        assert (sweep / run / "losses.npy").read_bytes() == (expected / run / "losses.npy").read_bytes()


def report_through_signals(program: Program, expected: Expected, most: int, attack: Attack) -> int:
    """Stop a report up to `most` times; return how often. The page is whole or not there, and what it reads stays."""
    sweep, page = expected.program.sweep(), program.folder / "index.html"
    before = _digests(sweep)

    def arguments() -> tuple[str, ...]:
        assert not page.exists() or "</html>" in page.read_text(encoding="utf-8")
        return (str(sweep), f"--page={page}")

    stopped = _goes_through("report", program, arguments, most, attack, expected.seconds["report"])
    assert _digests(sweep) == before
    assert "</html>" in page.read_text(encoding="utf-8")
    return stopped


def _digests(folder: Path) -> dict[Path, bytes]:
    return {path: sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file()}


ROUNDS = (
    sweep_through_signals, search_through_signals, study_through_signals, recorder_through_signals,
    report_through_signals,
)  # fmt: skip


def main() -> None:
    """Stop commands until `--signals` have been survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.killing", description=__doc__)
    parser.add_argument("--signals", type=int, default=100)
    parser.add_argument("--fork", action="store_true")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    chosen = parser.parse_args()
    # What a shell starts in the background is deaf to Ctrl-C, and so is all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Where the commands find `tests`.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    attack, program = Attack(random.Random(chosen.seed)), ForkedProgram if chosen.fork else Program
    print(f"seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        expected, survived, rounds = Expected(_made(program, Path(name, "undisturbed"))), 0, 0
        while survived < chosen.signals:
            # Every command in turn.
            through = ROUNDS[rounds % len(ROUNDS)]
            most = min(attack.chance.randint(1, MOST_IN_A_ROUND), chosen.signals - survived)
            survived += through(_made(program, Path(name, f"round_{rounds}")), expected, most, attack)
            rounds += 1
            counts = ", ".join(f"{' '.join(each)} {times}" for each, times in sorted(attack.counts.items()))
            print(f"{survived} signals in {rounds} rounds, same results: {counts}", flush=True)


def _made(program: type[Program], folder: Path) -> Program:
    folder.mkdir()
    return program(folder)


if __name__ == "__main__":
    main()
