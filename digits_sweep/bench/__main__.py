"""`python -m digits_sweep.bench`: a table of seconds per epoch, and of two ratios that hold on other machines too."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from digits_sweep.bench.contest import ROUNDS, contest
from digits_sweep.config.plan import plan
from digits_sweep.config.schema import Config
from digits_sweep.console import Screen
from digits_sweep.data.loading import make_ready
from digits_sweep.errors import DataUnavailable, DigitsSweepError, InvalidConfig
from digits_sweep.results.environment import describe_environment
from digits_sweep.results.files import replace_file
from digits_sweep.sweep.preflight import check
from digits_sweep.training.device import flush_denormals_from_now_on

BATCH_SIZES = (100, 20, 5)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, show the table and write it to `bench.csv`; the arguments are those of the command line if None.

    Ends with SystemExit and the reason if the configuration, the data or the device cannot be used.
    """
    flush_denormals_from_now_on()
    chosen = _parser().parse_args(arguments)
    try:
        _bench(list(_configs(chosen.batch_sizes, chosen.overrides)), Screen())
    except (DigitsSweepError, OSError) as error:
        sys.exit(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m digits_sweep.bench",
        description="Time every engine, an epoch each in turn, beside the lesson's loop and the bare kernels.",
    )
    parser.add_argument("overrides", nargs="*", help="keys of the sweep, such as data.root=... or num_threads=1")
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=BATCH_SIZES, metavar="N", help="100 20 5 if not given"
    )
    return parser


def _configs(batch_sizes: Sequence[int], overrides: Sequence[str]) -> Iterator[Config]:
    """Yield the configuration for every batch size: the lesson's first rates, as timing should not depend on rates."""
    for batch_size in batch_sizes:
        planned = plan(["optimizer=adam_same_rates", *overrides, f"data.batch_size={batch_size}"])
        config = planned.settings
        if config.engine.name != "auto":
            raise InvalidConfig(f"engine={config.engine.name}: every engine takes part; leave it out")
        check(planned)
        yield replace(config, trainer=replace(config.trainer, num_epochs=ROUNDS, stop_at_threshold=False))


def _bench(configs: Sequence[Config], screen: Screen) -> None:
    digits, note = make_ready(configs[0].data, screen.say)
    if note:
        raise DataUnavailable(note)
    table = pd.DataFrame([row for config in configs for row in contest(config, digits, screen.say)])
    screen.say("")
    screen.say(table.to_string(index=False, float_format="{:.2f}".format, na_rep="-"))
    machine = describe_environment()
    bench_csv = Path(configs[0].outputs).expanduser() / "bench.csv"
    bench_csv.parent.mkdir(parents=True, exist_ok=True)
    table = table.assign(cpu=machine["cpu"], cpu_cores=machine["cpu_cores"], torch_version=torch.__version__)
    replace_file(bench_csv, table.to_csv(index=False, lineterminator="\n"))
    screen.say(f"\n{machine['cpu']}, {machine['cpu_cores']} cores, torch {torch.__version__}; {bench_csv}")


if __name__ == "__main__":
    main()
