"""The command: `python -m digits_sweep`."""

import argparse
import sys
from collections.abc import Sequence

# The environment may be missing altogether: this file must be able to say so.
try:
    import hydra
    from omegaconf import DictConfig, OmegaConf
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is not installed here; run make sweep once, then .venv/bin/python -m digits_sweep")

from digits_sweep import __version__
from digits_sweep.config.compose import CONF
from digits_sweep.config.plan import plan
from digits_sweep.errors import DigitsSweepError

# What Hydra answers by itself.
QUESTIONS = ("--help", "-h", "--hydra-help", "--info", "-i", "--shell-completion", "-sc")
# What a shell reports for SIGINT.
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer a question about the program, or run what the command line asks for (`sys.argv` if None).

    Raises SystemExit with an exit code other than 0, or with a message, if the command fails or is refused.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    flags = {each.partition("=")[0] for each in arguments if each.startswith("-")}
    try:
        if "--version" in flags:
            print(f"digits_sweep {__version__}")
        elif flags & set(QUESTIONS):
            _ask_hydra(arguments)
        elif flags & {"--cfg", "-c"}:
            _show_configuration(arguments)
        else:
            _sweep(arguments)
    except BrokenPipeError:
        raise
    except (DigitsSweepError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _ask_hydra(arguments: Sequence[str]) -> None:
    before, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        _answered_by_hydra()
    finally:
        sys.argv = before


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _answered_by_hydra(composed: DictConfig) -> None:
    """Never called: Hydra answers the question first."""


def _show_configuration(arguments: Sequence[str]) -> None:
    """Print the configuration of every run with its numbers (`--cfg job`), or what Hydra has besides."""
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
        print((f"# {run.folder}\n" if len(planned.runs) > 1 else "") + OmegaConf.to_yaml(run.config))


def _sweep(arguments: Sequence[str]) -> None:
    planned = plan(arguments, announce=print)
    # Only now, because torch and pandas take seconds to import, and a mistake is reported at once.
    from digits_sweep.console import Screen
    from digits_sweep.sweep.launch import launch
    from digits_sweep.sweep.session import execute

    code, _ = execute(planned, launch, Screen())
    if code:
        sys.exit(code)


def run_as_program() -> None:
    """Run `main` as a process of its own: nothing that cannot be printed makes it fail."""
    from digits_sweep.console import drop_what_is_left

    try:
        main()
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough.
        pass
    finally:
        drop_what_is_left()


if __name__ == "__main__":
    run_as_program()
