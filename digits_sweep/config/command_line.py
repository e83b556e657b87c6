"""A command line: its flags and overrides, the keys of commands of their own, and what `--help` prints."""

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from digits_sweep.config.compose import CONF, composing, explained, right_kind
from digits_sweep.config.keys import mistakes, no_such_key
from digits_sweep.config.text import key_of
from digits_sweep.errors import InvalidConfig


@dataclass(frozen=True)
class CommandLine:
    """The overrides as typed, whether they are a sweep (`-m`), and the user's own configuration folders."""

    overrides: list[str]
    multirun: bool = False
    config_dirs: tuple[str, ...] = ()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidConfig(f"{message}; python -m digits_sweep --help shows what there is")


def read_command_line(arguments: Sequence[str]) -> CommandLine:
    """Separate flags, wherever they stand, from overrides. Raises `InvalidConfig` for an unknown flag."""
    parser = _Parser(prog="python -m digits_sweep", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cd", "--config-dir", action="append", default=[])
    read = parser.parse_intermixed_args(list(arguments))
    return CommandLine(read.overrides, read.multirun, tuple(read.config_dir))


def check_working_folder() -> None:
    """Raise `InvalidConfig` if nothing can be composed in the working folder: it is gone, or Hydra cannot name it."""
    try:
        working = str(Path.cwd())
    except FileNotFoundError:
        raise InvalidConfig("the working folder has been removed; change to another one") from None
    if "${" in working:
        raise InvalidConfig(f"the working folder {working} has ${{ in its name, which Hydra replaces; use another one")


def leave_unusable_folder() -> None:
    """Leave a working folder that Hydra cannot use: no answer about the program depends on it."""
    try:
        check_working_folder()
    except InvalidConfig:
        os.chdir(CONF)


Settings = TypeVar("Settings")


def settings_of(schema: type[Settings], file: str, prefix: str, overrides: Sequence[str]) -> Settings:
    """Return the keys of another command, such as a search, as its dataclass `schema`.

    Their values are those of the YAML `file` in `conf/`, changed by those `overrides` that begin with `prefix`. Raises
    `InvalidConfig` for an unknown key, a value of another type, and every value that breaks the rule of its key.
    """
    structured = OmegaConf.structured(schema)
    merged = OmegaConf.merge(structured, OmegaConf.load(CONF / file))
    for override in overrides:
        if override.startswith(prefix):
            try:
                merged = OmegaConf.merge(merged, OmegaConf.from_dotlist([override.removeprefix(prefix)]))
            except (OmegaConfBaseException, YAMLError) as error:
                raise InvalidConfig(f"{override}: {_right(key_of(override), schema, prefix)}") from error
    settings: Settings = OmegaConf.to_object(merged)  # type: ignore[assignment]
    if lines := list(mistakes(settings, prefix)):
        raise InvalidConfig("\n".join(lines))
    return settings


def _right(key: str, schema: Any, prefix: str) -> str:
    """Say what would be right in place of an override that OmegaConf does not take."""
    known = {f"{prefix}{each.name}": each for each in fields(schema)}
    if key in known:
        return right_kind(known[key].type, known[key].metadata["rule"])
    return no_such_key(key, known)


TEXT = """\
digits_sweep: if I change the batch size, how long does an epoch take,
and after how many epochs is the loss below 1.6?

Examples
  python -m digits_sweep -m data.batch_size=100,20,5
  python -m digits_sweep -m experiment=lesson
  python -m digits_sweep -m data.batch_size=100 seed=0,1,2 model=mlp,mlp_logits trainer.num_epochs=5

Groups and their choices (group=choice; several trackers: tracker=[tensorboard,mlflow])
{groups}

Keys (key=value), as this command line sets them
{keys}
What every key means: docs/reference.md. Flags: -m runs a sweep, --cfg job shows the configuration
with its numbers resolved, --info plugins lists launchers, --hydra-help shows the rest."""


def help_text(arguments: Sequence[str]) -> str:
    """Return the help for a command line; the keys that it shows are as the overrides set them.

    Raises `InvalidConfig` with key, value and what would be right if an override is wrong.
    """
    line = read_command_line(arguments)
    with composing(line.config_dirs) as composer, explained(line.overrides, composer):
        overrides = [composer.parse(text) for text in line.overrides]
        keys = composer.composed([each for each in overrides if not each.is_sweep_override()]).config
    groups = "\n".join(_groups([CONF, *map(Path, line.config_dirs)]))
    return TEXT.format(groups=groups, keys=OmegaConf.to_yaml(keys))


def _groups(folders: Sequence[Path]) -> Iterator[str]:
    """Yield a line for every group, read from the folders: Hydra would compose anew for each."""
    choices: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.glob("[!.]*/**/*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            if group.partition("/")[0] != "hydra":
                choices.setdefault(group, set()).add(file.stem)
    for group in sorted(choices):
        yield f"{group}: {', '.join(sorted(choices[group]))}"
