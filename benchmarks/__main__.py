"""`python -m benchmarks [key=value ...]`: time every engine, show the table and write it to `bench.csv`.

Two of its columns are ratios that hold on other machines too: how much faster than the lesson's loop an engine is, and
how far above the floor. Keys are those of a sweep: `data.batch_size=100,5 num_threads=1`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from benchmarks.contest import ROUNDS, contest
from benchmarks.quiet import warn_if_busy
from digits_sweep.config.keys import changed
from digits_sweep.config.plan import plan
from digits_sweep.config.schema import Config
from digits_sweep.data.loading import make_ready
from digits_sweep.errors import DataUnavailable, DigitsSweepError, InvalidConfig
from digits_sweep.results.record import describe_environment
from digits_sweep.sweep.preflight import check
from digits_sweep.training.device import flush_denormals_from_now_on

# The same rates at every batch size: how long an epoch takes should not depend on them.
DEFAULTS = ("scaling=none", "data.batch_size=100,20,5")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure with these overrides, `sys.argv`'s if None; SystemExit has the reason if something cannot be used."""
    try:
        bench(sys.argv[1:] if arguments is None else arguments)
    except (DigitsSweepError, OSError) as error:
        sys.exit(str(error))


def bench(overrides: Sequence[str]) -> None:
    """Measure at every batch size, show the table and write it to `bench.csv` in the outputs folder.

    Raises `DigitsSweepError` if configuration, data or device cannot be used, OSError if the table cannot be written.
    """
    flush_denormals_from_now_on()
    configs = read_configs(overrides)
    digits, note = make_ready(configs[0].data, print)
    if note:
        raise DataUnavailable(note)
    load = warn_if_busy()
    table = pd.DataFrame([row for config in configs for row in contest(config, digits)])
    # On a GPU nothing has a floor.
    shown = table.dropna(axis="columns", how="all")
    print(f"\n{shown.to_string(index=False, float_format='{:.2f}'.format, na_rep='-')}")
    machine = {key: describe_environment()[key] for key in ("cpu", "cpu_cores")} | {"torch_version": torch.__version__}
    bench_csv = Path(configs[0].outputs, "bench.csv")
    bench_csv.parent.mkdir(parents=True, exist_ok=True)
    table.assign(load_average_before=load, **machine).to_csv(bench_csv, index=False, lineterminator="\n")
    print(f"\n{machine['cpu']}, {machine['cpu_cores']} cores, torch {torch.__version__}; {bench_csv}")


def read_configs(overrides: Sequence[str]) -> list[Config]:
    """Return the configuration for every batch size, each with as many epochs as there are rounds.

    Raises `InvalidConfig` if an override cannot be used, or if another key than `data.batch_size` has several values.
    """
    planned = plan(["-m", *DEFAULTS, *overrides])
    configs = [run.config for run in planned.runs]
    if (engine := planned.settings.engine.name) != "auto":
        raise InvalidConfig(f"engine={engine}: every engine takes part; leave it out")
    if len({config.data.batch_size for config in configs}) < len(configs):
        raise InvalidConfig("only data.batch_size may have several values here")
    check(planned)
    return [changed(config, {"trainer.num_epochs": ROUNDS, "trainer.stop_at_threshold": False}) for config in configs]


if __name__ == "__main__":
    main()
