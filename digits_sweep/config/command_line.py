"""The command line: a few flags, and overrides in Hydra's grammar."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from digits_sweep.errors import InvalidConfig


@dataclass(frozen=True)
class CommandLine:
    """`overrides` as typed; whether they are a sweep (`-m`); folders with configuration of the user's."""

    overrides: list[str]
    multirun: bool = False
    config_dirs: tuple[str, ...] = ()


def key_of(override: str) -> str:
    """Return the key or group that an override is about, without `+`, `~` and the value."""
    return override.lstrip("+~").partition("=")[0]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidConfig(f"{message}; python -m digits_sweep --help shows what there is")


def read_command_line(arguments: Sequence[str]) -> CommandLine:
    """Separate flags, in any place, from overrides. Raises `InvalidConfig` for a flag that this program lacks."""
    parser = _Parser(prog="python -m digits_sweep", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cd", "--config-dir", action="append", default=[])
    found = parser.parse_intermixed_args(list(arguments))
    return CommandLine(found.overrides, found.multirun, tuple(found.config_dir))
