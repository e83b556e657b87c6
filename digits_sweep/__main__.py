"""The way in: `python -m digits_sweep`."""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from digits_sweep import __version__
from digits_sweep.config import CONF
from digits_sweep.plan import plan
from digits_sweep.rules import InvalidConfig, to_config

QUESTIONS = ("--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(composed: DictConfig) -> str:
    """One run of a sweep, in whatever process Hydra's launcher starts it; returns its status."""
    from digits_sweep.results.manifest import read_manifest
    from digits_sweep.results.summary import publish_summary
    from digits_sweep.run import run

    config = to_config(composed)
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    # A single run has no number.
    number = 0 if OmegaConf.is_missing(HydraConfig.get().job, "num") else HydraConfig.get().job.num
    try:
        return run(config, run_dir, number, read_manifest(run_dir.parent)).status
    finally:
        publish_summary(run_dir.parent, Path(config.outputs))


def main() -> None:
    """Answer a question about the program, or run what the command line asks for."""
    arguments = sys.argv[1:]
    if "--version" in arguments:
        print(f"digits_sweep {__version__}")
    elif any(each.partition("=")[0] in QUESTIONS for each in arguments):
        sys.argv += ["--resolve"] if _asks_for_numbers(arguments) else []
        job()
    else:
        sys.exit(_sweep(arguments))


def _asks_for_numbers(arguments: Sequence[str]) -> bool:
    """Whether this is `--cfg job`, which is of no use with `${...}` in it."""
    return any(pair in (("--cfg", "job"), ("-c", "job")) for pair in pairwise(arguments))


def _sweep(arguments: Sequence[str]) -> int | str:
    """Plan, make the digits ready, let Hydra launch every run, and show the table whatever happens.

    Returns the exit code, or what is wrong with the command line or the digits, a line each.
    """
    try:
        planned = plan(arguments)
    except InvalidConfig as error:
        return str(error)
    # Only now torch is needed: a mistake on the command line is told in a second.
    from digits_sweep import sweep
    from digits_sweep.progress import Screen

    screen = Screen()
    try:
        sweep_dir = sweep.start(planned, arguments, screen)
    except sweep.REFUSALS as error:
        return str(error)
    sys.argv += planned.folders_for_hydra(sweep_dir)
    code = 0
    try:
        job()
    except KeyboardInterrupt:
        code = 130
    except SystemExit as error:
        code = int(error.code or 0)
    return max(code, sweep.finish(planned, sweep_dir, screen))


if __name__ == "__main__":
    main()
