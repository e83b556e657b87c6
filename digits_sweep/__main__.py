"""The command: `python -m digits_sweep`."""

import argparse
import sys
from contextlib import redirect_stdout
from typing import IO, Any, cast

from digits_sweep.shell import Screen, Tolerant, entry_point, stoppable, write_line

# What Hydra answers by itself.
QUESTIONS = ("--hydra-help", "--info", "-i", "--shell-completion", "-sc")


@entry_point
def main(arguments: list[str]) -> int:
    """Answer a question about the program, or run what the command line asks for; return the exit code."""
    flags = {argument.partition("=")[0] for argument in arguments if argument.startswith("-")}
    if flags & {"--help", "-h"}:
        from digits_sweep.config.command_line import help_text, leave_unusable_folder

        leave_unusable_folder()
        write_line(help_text([argument for argument in arguments if argument not in ("--help", "-h")]))
    elif flags & set(QUESTIONS):
        _ask_hydra(arguments)
    elif flags & {"--cfg", "-c"}:
        _show_configuration(arguments)
    else:
        return _sweep(arguments)
    return 0


def _ask_hydra(arguments: list[str]) -> None:
    import hydra

    from digits_sweep.config.command_line import leave_unusable_folder
    from digits_sweep.config.compose import CONF

    leave_unusable_folder()
    before, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        # Hydra itself would fail at an output that cannot be written.
        with redirect_stdout(cast(IO[str], Tolerant(sys.stdout))):
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_answered_by_hydra)()
    finally:
        sys.argv = before


def _answered_by_hydra(composed: Any) -> None:
    """Never called: Hydra answers the question first."""


def _show_configuration(arguments: list[str]) -> None:
    """Print the configuration of every run with its numbers (`--cfg job`), or what Hydra has besides."""
    from omegaconf import OmegaConf

    from digits_sweep.config.plan import plan

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--cfg")
    parser.add_argument("-p", "--package")
    parser.add_argument("--resolve", action="store_true")
    requested, overrides = parser.parse_known_args(arguments)
    planned = plan(overrides)
    if requested.cfg != "job" or requested.package:
        _ask_hydra(arguments)
        return
    for run in planned.runs:
        write_line((f"# {run.folder}\n" if len(planned.runs) > 1 else "") + OmegaConf.to_yaml(run.config))


def _sweep(arguments: list[str]) -> int:
    from digits_sweep.config.plan import plan

    planned = plan(arguments, announce=write_line)
    # Only now, because torch and pandas take seconds to import, and a mistake is reported at once.
    from digits_sweep.sweep.launch import launch
    from digits_sweep.sweep.session import execute

    screen = Screen()
    with stoppable():
        code, _ = execute(planned, launch, screen)
    return code


if __name__ == "__main__":
    main()
