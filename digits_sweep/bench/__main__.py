"""`python -m digits_sweep.bench`: a table of seconds per epoch, and of two ratios that mean something elsewhere too.

Every engine trains its own run through the harness's own epoch loop; the engines take turns, an epoch each, so that
whatever else the machine does falls on all of them alike.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from hydra import compose, initialize_config_dir

from digits_sweep.bench.floor import BareKernels
from digits_sweep.config.rules import to_config
from digits_sweep.config.schema import CONF, Config
from digits_sweep.console import Screen
from digits_sweep.data.digits import Digits, scale
from digits_sweep.data.loading import make_ready
from digits_sweep.results.environment import describe_environment
from digits_sweep.results.files import replace_file
from digits_sweep.training.building import BuiltEngine, build_engine
from digits_sweep.training.device import flush_denormals_from_now_on
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.epochs import Epoch, train
from digits_sweep.training.model import build_model
from digits_sweep.training.stopwatch import Stopwatch

BATCH_SIZES = (100, 20, 5)
ROUNDS = 3


class Contestant:
    """One engine at one batch size, an epoch at a time, and the floor under it with as many threads."""

    def __init__(self, config: Config, digits: Digits) -> None:
        self.config = config
        self.built: BuiltEngine = build_engine(config, digits)
        self.num_samples = len(digits.train_labels)
        self.rounds = _rounds(self.built.name, config.data.batch_size)
        self.epochs: Iterator[Epoch] = train(
            self.built.engine, config.trainer, config.seed, self.num_samples, Stopwatch(self.built.device)
        )
        batch = scale(digits.train_images[: config.data.batch_size], config.data.scale).flatten(1)
        self.kernels = BareKernels(build_model(config.model, config.seed), batch)
        self.seconds: list[float] = []
        self.floor_seconds: list[float] = []

    def take_turn(self) -> None:
        """One epoch of the engine; on the CPU, one of the bare kernels right after it."""
        self.built.settle()
        self.seconds.append(next(self.epochs).seconds)
        if self.built.device.type == "cpu" and self.built.name != "lesson":
            stopwatch = Stopwatch(self.built.device)
            with stopwatch.running():
                self.kernels.run_epoch(math.ceil(self.num_samples / self.config.data.batch_size))
            self.floor_seconds.append(stopwatch.seconds)

    def row(self, lesson: "Contestant") -> dict[str, object]:
        """This engine's line of the table. First epochs count only where there are no more than two."""
        seconds, floor = _typical(self.seconds), _typical(self.floor_seconds)
        return {
            "batch_size": self.config.data.batch_size,
            "engine": self.built.name,
            "num_threads": self.built.num_threads,
            "seconds_per_epoch": seconds,
            "times_faster_than_lesson": _typical(lesson.seconds) / seconds,
            "floor_seconds": floor,
            "multiple_of_floor": seconds / floor,
            "seconds_setup": self.built.seconds_setup,
            "epochs_measured": len(self.seconds[1:] if len(self.seconds) > 2 else self.seconds),
        }


def _rounds(engine: str, batch_size: int) -> int:
    """The lesson's loop takes minutes where the others take seconds, and starts its workers in every epoch alike."""
    if engine == "lesson":
        return 2 if batch_size >= 100 else 1
    return ROUNDS


def _typical(seconds: list[float]) -> float:
    return median(seconds[1:] if len(seconds) > 2 else seconds) if seconds else math.nan


def contest(batch_size: int, screen: Screen, overrides: list[str]) -> list[dict[str, object]]:
    """Let every engine that works here take its turns at one batch size; a row for each."""
    contestants = []
    for name in ENGINES:
        config = _config([f"engine={name}", f"data.batch_size={batch_size}", *overrides])
        digits, note = make_ready(config.data, screen.say)
        if note:
            sys.exit(note)
        if name != "cuda_graph" or torch.cuda.is_available():
            contestants.append(Contestant(config, digits))
    for number in range(ROUNDS):
        for each in contestants:
            if number < each.rounds:
                each.take_turn()
                screen.say(f"  batch size {batch_size}, {each.built.name}: {each.seconds[-1]:.2f} s")
    lesson = next(each for each in contestants if each.built.name == "lesson")
    return [each.row(lesson) for each in contestants]


def _config(overrides: list[str]) -> Config:
    """The lesson's first rates at every batch size: timing should not depend on which rates are taken."""
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        config = to_config(compose("config", ["optimizer=adam_same_rates", *overrides]))
    return replace(config, trainer=replace(config.trainer, num_epochs=ROUNDS))


def main() -> None:
    """Measure, show the table, and write it to `bench.csv`."""
    parser = argparse.ArgumentParser(prog="python -m digits_sweep.bench", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="keys of the sweep, such as data.root=... or num_threads=1")
    flush_denormals_from_now_on()
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=BATCH_SIZES, metavar="N", help="100 20 5 if not given"
    )
    chosen = parser.parse_args()
    screen, overrides = Screen(), chosen.overrides
    rows = [row for batch_size in chosen.batch_sizes for row in contest(batch_size, screen, overrides)]
    table = pd.DataFrame(rows)
    screen.say("")
    screen.say(table.to_string(index=False, float_format="{:.2f}".format, na_rep="-"))
    machine = describe_environment()
    bench_csv = Path(_config(overrides).outputs) / "bench.csv"
    bench_csv.parent.mkdir(parents=True, exist_ok=True)
    table = table.assign(cpu=machine["cpu"], cpu_cores=machine["cpu_cores"], torch_version=torch.__version__)
    replace_file(bench_csv, table.to_csv(index=False, lineterminator="\n"))
    screen.say(f"\n{machine['cpu']}, {machine['cpu_cores']} cores, torch {torch.__version__}; {bench_csv}")


if __name__ == "__main__":
    main()
