"""A sweep that is killed and resumed again and again, and what must be as if nothing had happened.

`python -m tests.killing --kills 50` (`make torture`) kills at random moments, for as long as it takes; the tests kill
once, at a moment that they choose.
"""

import argparse
import csv
import random
import tempfile
import time
from pathlib import Path

import torch

from tests.commands import Program
from tests.servers import Started, wait_for

SWEEP = ("-m", "data.batch_size=500,300", "optimizer=adam,sgd", "data=mnist_sample", "trainer.num_epochs=25")


def losses(run_dir: Path) -> list[tuple[str, str, str]]:
    """Return epoch, mean and deviation of every row of `history.csv`, to the last digit."""
    with (run_dir / "history.csv").open() as file:
        return [(row["epoch"], row["loss_mean"], row["loss_std"]) for row in csv.DictReader(file)]


def weights(run_dir: Path) -> list[torch.Tensor]:
    """Return all that the last checkpoint holds of model and optimizer."""
    kept = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    return [*kept["model"].values(), *(each for state in kept["optimizer"].values() for each in state.values())]


def assert_same_results(sweep: Path, expected: Path) -> None:
    """Assert that every run of `sweep` has the losses, weights and optimizer state of `expected`'s, bit for bit."""
    runs = sorted(path.parent.name for path in expected.glob("*/record.json"))
    assert sorted(path.parent.name for path in sweep.glob("*/record.json")) == runs
    for run in runs:
        assert losses(sweep / run) == losses(expected / run)
        pairs = zip(weights(sweep / run), weights(expected / run), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def kill_at_some_moment(started: Started, chance: random.Random) -> bool:
    """Send SIGKILL at any moment of the process's life, or shortly after an epoch; return if it was alive then."""
    if chance.random() < 0.3:
        time.sleep(chance.uniform(0, 15))
    else:
        epochs = chance.randint(1, 30)
        wait_for(lambda: started.process.poll() is not None or started.text().count("  epoch ") >= epochs)
        time.sleep(chance.uniform(0, 0.05))
    started.process.kill()
    code = started.ends()
    assert "Traceback" not in started.text(), started.text()
    return code < 0


def sweep_through_kills(program: Program, most_kills: int, chance: random.Random) -> int:
    """Start `SWEEP`, kill it up to `most_kills` times and resume it each time; return how often it was killed."""
    kills, arguments = 0, SWEEP
    while kills < most_kills:
        with program.running(*arguments) as started:
            if not kill_at_some_moment(started, chance):
                break
        kills += 1
        # Killed before it has a folder, there is nothing to resume.
        has_started = any((program.outputs / "sweeps").glob("*/sweep.json"))
        arguments = (*SWEEP, "resume=latest") if has_started else SWEEP
    finished = program.process(*arguments)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return kills


def main() -> None:
    """Kill sweeps until `--kills` is reached, and compare each with one that ran undisturbed."""
    parser = argparse.ArgumentParser(prog="python -m tests.killing", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    chosen = parser.parse_args()
    chance, kills, sweeps = random.Random(chosen.seed), 0, 0
    print(f"seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        undisturbed = _program_in(Path(name, "undisturbed"))
        sweep_through_kills(undisturbed, 0, chance)
        while kills < chosen.kills:
            program = _program_in(Path(name, f"sweep_{sweeps}"))
            survived = sweep_through_kills(program, chosen.kills - kills, chance)
            assert_same_results(program.sweeps()[-1], undisturbed.sweep())
            kills, sweeps = kills + survived, sweeps + 1
            print(f"{kills} kills in {sweeps} sweeps: same losses, weights and optimizer state", flush=True)


def _program_in(folder: Path) -> Program:
    folder.mkdir()
    return Program(folder)


if __name__ == "__main__":
    main()
