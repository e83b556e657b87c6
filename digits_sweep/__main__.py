"""The command: `python -m digits_sweep`."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from digits_sweep import __version__
from digits_sweep.errors import DigitsSweepError, InvalidConfig
from digits_sweep.shell import command, die_on_signal, write_line

# What Hydra answers by itself.
QUESTIONS = ("--hydra-help", "--info", "-i", "--shell-completion", "-sc")


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer a question about the program, or run what the command line asks for (`sys.argv` if None).

    Raises SystemExit with an exit code other than 0, or with a message, if the command fails or is refused.
    """
    with command(arguments):
        arguments = sys.argv[1:] if arguments is None else list(arguments)
        flags = {each.partition("=")[0] for each in arguments if each.startswith("-")}
        try:
            if "--version" in flags:
                write_line(f"digits_sweep {__version__}")
            elif flags & {"--help", "-h"}:
                _show_help(arguments)
            elif flags & set(QUESTIONS):
                _ask_hydra(arguments)
            elif flags & {"--cfg", "-c"}:
                _show_configuration(arguments)
            else:
                _sweep(arguments)
        except BrokenPipeError:
            # Whoever read the output, such as `head`, has seen enough.
            return
        except ModuleNotFoundError as missing:
            # The environment may be missing altogether.
            if (missing.name or "").partition(".")[0] not in ("hydra", "omegaconf", "yaml"):
                raise
            instead = "run make sweep once, then .venv/bin/python -m digits_sweep"
            sys.exit(f"{missing.name} is not installed here; {instead}")
        except (DigitsSweepError, OSError) as error:
            sys.exit(str(error))


def _show_help(arguments: Sequence[str]) -> None:
    with die_on_signal():
        from digits_sweep.config.command_line import help_text
    _leave_unusable_folder()
    write_line(help_text([each for each in arguments if each not in ("--help", "-h")]))


def _ask_hydra(arguments: Sequence[str]) -> None:
    with die_on_signal():
        import hydra

        from digits_sweep.config.compose import CONF
    _leave_unusable_folder()
    before, sys.argv = sys.argv, [sys.argv[0], *arguments]
    answer = io.StringIO()
    try:
        with redirect_stdout(answer):
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_answered_by_hydra)()
    finally:
        sys.argv = before
        # Hydra itself would fail at an output that cannot be written.
        write_line(answer.getvalue().rstrip("\n"))


def _leave_unusable_folder() -> None:
    """Leave a folder that Hydra cannot stand in: no answer about the program depends on it."""
    with die_on_signal():
        from digits_sweep.config.command_line import check_working_folder
        from digits_sweep.config.compose import CONF
    try:
        check_working_folder()
    except InvalidConfig:
        os.chdir(CONF)


def _answered_by_hydra(composed: Any) -> None:
    """Never called: Hydra answers the question first."""


def _show_configuration(arguments: Sequence[str]) -> None:
    """Print the configuration of every run with its numbers (`--cfg job`), or what Hydra has besides."""
    with die_on_signal():
        from omegaconf import OmegaConf

        from digits_sweep.config.plan import plan
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--cfg")
    parser.add_argument("-p", "--package")
    parser.add_argument("--resolve", action="store_true")
    asked, overrides = parser.parse_known_args(list(arguments))
    planned = plan(overrides)
    if asked.cfg != "job" or asked.package:
        _ask_hydra(arguments)
        return
    for run in planned.runs:
        write_line((f"# {run.folder}\n" if len(planned.runs) > 1 else "") + OmegaConf.to_yaml(run.config))


def _sweep(arguments: Sequence[str]) -> None:
    with die_on_signal():
        from digits_sweep.config.plan import plan
    planned = plan(arguments, announce=write_line)
    # Only now, because torch and pandas take seconds to import, and a mistake is reported at once.
    with die_on_signal():
        from digits_sweep.shell import Screen
        from digits_sweep.sweep.launch import launch
        from digits_sweep.sweep.session import execute

    code, _ = execute(planned, launch, Screen())
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
