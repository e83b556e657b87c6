"""Sweeps without the command line: `from digits_sweep import run, load_sweep`."""

from pathlib import Path

from digits_sweep.config.plan import plan
from digits_sweep.config.rules import InvalidConfig
from digits_sweep.console import Screen
from digits_sweep.results.sweep import read_manifest
from digits_sweep.sweep import session as sweep
from digits_sweep.sweep.resume import sweep_to_resume
from digits_sweep.sweep.run import run as train


def run(*overrides: str) -> Path:
    """Train what `python -m digits_sweep -m` would with these overrides, one run after the other, in this process.

    `run("data.batch_size=100,20,5")` is the sweep, `run("data.batch_size=5")` a single run, `run("resume=latest")` goes
    on with what was stopped. Returns the sweep's folder, which `load_sweep` makes a table of. Raises
    `rules.InvalidConfig`, before anything is trained, where an override is wrong, and the others of `sweep.REFUSALS`
    where the digits, the device or the folder cannot be had. A run that fails says so in its row and its record; with
    `fail_fast=true` it is the last one.
    """
    planned, earlier = plan(["-m", *overrides]), None
    if planned.settings.resume:
        planned, earlier = sweep_to_resume(planned)
    if planned.settings.dry_run or planned.launcher != "basic":
        raise InvalidConfig("dry_run=true and hydra/launcher=... are for the command line; leave them out")
    screen = Screen()
    with sweep.opened(planned, earlier, screen) as sweep_dir:
        try:
            manifest = read_manifest(sweep_dir)
            for number, each in enumerate(planned.runs):
                record = train(each.config, sweep_dir / each.folder, number, manifest)
                if planned.settings.fail_fast and record.status != "completed":
                    break
        finally:
            sweep.finish(planned, sweep_dir, screen)
    return sweep_dir
