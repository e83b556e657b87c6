"""The way in: `python -m digits_sweep`."""

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from digits_sweep import __version__
from digits_sweep.config.plan import plan
from digits_sweep.config.rules import InvalidConfig, to_config
from digits_sweep.config.schema import CONF
from digits_sweep.sweep import dry_run
from digits_sweep.sweep.resume import sweep_to_resume

QUESTIONS = ("--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")

# What a shell reports for SIGINT.
INTERRUPTED = 130


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(composed: DictConfig) -> str:
    """One run of a sweep, in whatever process Hydra's launcher starts it; returns its status.

    Raises SystemExit where the sweep must not go on: nothing can be recorded, or `fail_fast` asks for it.
    """
    from digits_sweep.console import Screen
    from digits_sweep.results.summary import publish_summary
    from digits_sweep.results.sweep import read_manifest
    from digits_sweep.sweep.run import CannotRecord, run

    # A cluster's worker stands elsewhere than its user, whose paths these are.
    os.chdir(HydraConfig.get().runtime.cwd)
    config = to_config(composed)
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    # A single run has no number.
    number = 0 if OmegaConf.is_missing(HydraConfig.get().job, "num") else HydraConfig.get().job.num
    try:
        status = run(config, run_dir, number, read_manifest(run_dir.parent)).status
        publish_summary(run_dir.parent, Path(config.outputs).expanduser())
    except InvalidConfig as error:
        # The run that was begun there is another one: this is said, and what is recorded stays.
        Screen().say(str(error))
        return "failed"
    except (CannotRecord, OSError) as error:
        sys.exit(f"stopped: {error}")
    if config.fail_fast and status != "completed":
        sys.exit(f"stopped: {run_dir.name} {status}, and fail_fast=true ends the sweep there")
    return status


def main() -> None:
    """Answer a question about the program, or run what the command line asks for."""
    arguments = sys.argv[1:]
    if "--version" in arguments:
        print(f"digits_sweep {__version__}")
    elif any(each.partition("=")[0] in QUESTIONS for each in arguments):
        sys.argv += ["--resolve"] if _asks_for_numbers(arguments) else []
        job()
    else:
        try:
            sys.exit(_sweep(arguments))
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


def _asks_for_numbers(arguments: Sequence[str]) -> bool:
    """Whether this is `--cfg job`, which is of no use with `${...}` in it."""
    return "--cfg=job" in arguments or any(pair in (("--cfg", "job"), ("-c", "job")) for pair in pairwise(arguments))


def _sweep(arguments: Sequence[str]) -> int | str:
    """Plan, make the digits ready, let Hydra launch every run, and show the table whatever happens.

    Returns the exit code, or what is wrong with the command line or the digits, a line each.
    """
    try:
        planned, earlier = plan(arguments), None
        if planned.settings.resume:
            planned, earlier = sweep_to_resume(planned)
    except InvalidConfig as error:
        return str(error)
    # Only now pandas and torch are needed: a mistake on the command line is told in a second.
    from digits_sweep.console import Screen

    screen = Screen()
    if planned.settings.dry_run:
        screen.table(dry_run.HEADER, dry_run.preview(planned, earlier))
        return 0
    from digits_sweep.sweep import session as sweep
    from digits_sweep.sweep.launch import launch

    try:
        with sweep.opened(planned, earlier, screen) as sweep_dir:
            code = launch(job, planned, sweep_dir, screen)
            return max(code, sweep.finish(planned, sweep_dir, screen))
    except sweep.REFUSALS as error:
        return str(error)


if __name__ == "__main__":
    main()
