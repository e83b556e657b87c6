"""The table of the benchmark: what is measured in it, and where it is written."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from benchmarks.contest import ROUNDS, contest
from benchmarks.quiet import busy, calibration_seconds, load_average
from digits_sweep.config.plan import plan
from digits_sweep.config.schema import Config
from digits_sweep.data.loading import make_ready
from digits_sweep.errors import DataUnavailable, InvalidConfig
from digits_sweep.results.environment import describe_environment
from digits_sweep.results.files import make_folder, replace_file
from digits_sweep.shell import Screen
from digits_sweep.sweep.preflight import check
from digits_sweep.training.device import flush_denormals_from_now_on


def bench(batch_sizes: Sequence[int], overrides: Sequence[str]) -> None:
    """Measure at every batch size, show the table and write it to `bench.csv` in the outputs folder.

    `overrides` are keys of the sweep. Raises a `DigitsSweepError` if configuration, data or device cannot be used, and
    OSError if the table cannot be written.
    """
    flush_denormals_from_now_on()
    configs, screen = list(_configs(batch_sizes, overrides)), Screen()
    digits, note = make_ready(configs[0].data, screen.say)
    if note:
        raise DataUnavailable(note)
    load = load_average()
    if why := busy(calibration_seconds(), load, os.cpu_count() or 1):
        screen.say(f"WARNING: this machine is too busy to believe what follows: {why}")
    table = pd.DataFrame([row for config in configs for row in contest(config, digits, screen.say)])
    screen.say("")
    # On a GPU nothing has a floor.
    screen.say(table.dropna(axis="columns", how="all").to_string(index=False, float_format="{:.2f}".format, na_rep="-"))
    machine = describe_environment()
    bench_csv = Path(configs[0].outputs) / "bench.csv"
    make_folder(bench_csv.parent)
    table = table.assign(
        load_average_before=load, cpu=machine["cpu"], cpu_cores=machine["cpu_cores"], torch_version=torch.__version__
    )
    replace_file(bench_csv, table.to_csv(index=False, lineterminator="\n"))
    screen.say(f"\n{machine['cpu']}, {machine['cpu_cores']} cores, torch {torch.__version__}; {bench_csv}")


def _configs(batch_sizes: Sequence[int], overrides: Sequence[str]) -> Iterator[Config]:
    """Yield the configuration for every batch size: the lesson's first rates, as timing should not depend on rates."""
    for batch_size in batch_sizes:
        planned = plan(["scaling=none", *overrides, f"data.batch_size={batch_size}"])
        config = planned.settings
        if config.engine.name != "auto":
            raise InvalidConfig(f"engine={config.engine.name}: every engine takes part; leave it out")
        check(planned)
        yield replace(config, trainer=replace(config.trainer, num_epochs=ROUNDS, stop_at_threshold=False))
