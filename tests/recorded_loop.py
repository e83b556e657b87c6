"""A training loop of somebody else's that records three runs: `python -m tests.recorded_loop`."""

import time

from digits_sweep import Recorder
from digits_sweep.shell import entry_point

SWEEP = "recorded/sweeps/mine"
SEEDS, EPOCHS, STEPS = 3, 20, 5


@entry_point
def main(arguments: list[str]) -> None:
    """Record the runs of `SWEEP` that are not completed."""
    for seed in range(SEEDS):
        record(SWEEP, seed)


def record(sweep: str, seed: int, epochs: int = EPOCHS, seconds: float = 0.01) -> None:
    """Record a run whose losses follow from its seed, an epoch of which takes so many seconds."""
    run = Recorder(sweep, batch_size=20, train_samples=100, lr=1e-3, loss_threshold=0.5, seed=seed)
    if run.is_completed:
        return
    with run:
        for number in range(epochs):
            with run.epoch():
                for step in range(STEPS):
                    run.step(1 / (1 + seed + number) + step / 8)
            run.evaluated(test_error=1 / (2 + number))
            print("  epoch ", number, flush=True)
            time.sleep(seconds)


if __name__ == "__main__":
    main()
