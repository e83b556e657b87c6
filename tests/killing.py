"""A sweep that is killed and picked up again and again, and what must be as if nothing had happened.

`python -m tests.killing --kills 50` does it for as long as it takes; a few kills are among the tests.
"""

import argparse
import csv
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

SWEEP = ("-m", "data.batch_size=500,300", "optimizer=adam,sgd", "data=mnist_sample", "trainer.num_epochs=25")


def losses(run_dir: Path) -> list[tuple[str, str, str]]:
    """Epoch, mean and deviation of every row of `history.csv`, to the last digit."""
    with (run_dir / "history.csv").open() as file:
        return [(row["epoch"], row["loss_mean"], row["loss_std"]) for row in csv.DictReader(file)]


def weights(run_dir: Path) -> list[torch.Tensor]:
    """All that the last checkpoint holds of model and optimizer."""
    kept = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    return [*kept["model"].values(), *(each for state in kept["optimizer"].values() for each in state.values())]


def assert_same_results(sweep: Path, expected: Path) -> None:
    """Every run of `sweep` has the losses, the weights and the optimizer state of `expected`'s, bit for bit."""
    runs = sorted(path.parent.name for path in expected.glob("*/record.json"))
    assert sorted(path.parent.name for path in sweep.glob("*/record.json")) == runs
    for run in runs:
        assert losses(sweep / run) == losses(expected / run)
        pairs = zip(weights(sweep / run), weights(expected / run), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def start(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """`python -m digits_sweep` in `folder`, its output to be read line by line."""
    return subprocess.Popen(
        [sys.executable, "-m", "digits_sweep", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_epoch(process: subprocess.Popen[str], number: int) -> None:
    """Return when the process has told of its `number`th epoch since it started, or has ended."""
    assert process.stdout is not None
    for line in process.stdout:
        number -= line.startswith("  epoch ")
        if number <= 0:
            return


def kill_at_some_moment(process: subprocess.Popen[str], chance: random.Random) -> bool:
    """SIGKILL at any moment of the process's life, or shortly after an epoch; whether it was still alive then."""
    if chance.random() < 0.3:
        time.sleep(chance.uniform(0, 15))
    else:
        wait_for_epoch(process, chance.randint(1, 30))
        time.sleep(chance.uniform(0, 0.05))
    process.kill()
    output, _ = process.communicate()
    assert "Traceback" not in output, output
    return process.returncode < 0


def sweep_through_kills(folder: Path, most_kills: int, chance: random.Random) -> tuple[Path, int]:
    """Start `SWEEP` in `folder`, kill it up to `most_kills` times, each time go on; the sweep and the kills."""
    kills, arguments = 0, SWEEP
    while kills < most_kills and kill_at_some_moment(start(folder, *arguments), chance):
        kills += 1
        # Killed before it had begun anything, there is nothing to go on with.
        begun = any((folder / "outputs" / "sweeps").glob("*/sweep.json"))
        arguments = (*SWEEP, "resume=latest") if begun else SWEEP
    finished = start(folder, *arguments)
    output, _ = finished.communicate()
    assert finished.returncode == 0, output
    return max((folder / "outputs" / "sweeps").glob("*/sweep.json")).parent, kills


def main() -> None:
    """Kill sweeps until `--kills` is reached, and hold each against one that nobody disturbed."""
    parser = argparse.ArgumentParser(prog="python -m tests.killing", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    chosen = parser.parse_args()
    chance, kills, sweeps = random.Random(chosen.seed), 0, 0
    print(f"seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        undisturbed = Path(name, "undisturbed")
        undisturbed.mkdir()
        expected, _ = sweep_through_kills(undisturbed, 0, chance)
        while kills < chosen.kills:
            folder = Path(name, f"sweep_{sweeps}")
            folder.mkdir()
            sweep, survived = sweep_through_kills(folder, chosen.kills - kills, chance)
            assert_same_results(sweep, expected)
            kills, sweeps = kills + survived, sweeps + 1
            print(f"{kills} kills in {sweeps} sweeps: same losses, weights and optimizer state", flush=True)


if __name__ == "__main__":
    main()
