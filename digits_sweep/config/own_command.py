"""A command of the user's that a run starts: its words, with the run's values in place of `{key}`.

No shell reads it. It is split into words once, and then values are put in: whatever a value holds, it stays part of its
word.
"""

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from string import Formatter
from typing import Any

from digits_sweep.config.keys import changes_results, closest, flat
from digits_sweep.config.schema import Config
from digits_sweep.config.text import key_of, quoted, to_text

# The environment variable with the folder of the run that a command is started for.
RUN = "DIGITS_SWEEP_RUN"
# A command has parts of its own, which this program knows no names for.
OWN_PARTS = ("data", "model", "optimizer")
# What `Recorder()` takes from its sweep besides what stands in the command, and what it ends a run by.
RECORDED = ("data.batch_size", "optimizer.lr", "optimizer.weight_decay", "seed", "trainer.loss_threshold")
ENDS = ("trainer.max_examples", "trainer.stop_at_threshold", "evaluation.")
SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "fish")


def with_own_parts(overrides: Sequence[str]) -> list[str]:
    """Return a command line's overrides as Hydra reads them; a typed command is a text, whatever stands in it.

    With a command, data, model and optimizer are the user's own unless another choice is typed.
    """
    keys = {key_of(override) for override in overrides}
    own = [f"{group}=own" for group in OWN_PARTS if group not in keys] if "command" in keys else []
    return [*own, *map(_as_text, overrides)]


def _as_text(override: str) -> str:
    key, _, value = override.partition("=")
    return override if key != "command" or value == "null" else f"{key}={quoted(value)}"


def words_of(config: Config) -> list[str]:
    """Return the words of a run's command, with its values in place of `{key}`."""
    values = dict(flat(asdict(config)))
    return [
        "".join(text + ("" if key is None else to_text(values[key])) for text, key in _parts(word))
        for word in shlex.split(config.command or "")
    ]


def search_path() -> str:
    """Return where programs are looked for: `python` is the one of this program's own virtual environment, if any."""
    path = os.environ.get("PATH", os.defpath)
    return path if sys.prefix == sys.base_prefix else os.pathsep.join([str(Path(sys.executable).parent), path])


def keys_in(command: str) -> list[str]:
    """Return every key that stands in a command as `{key}`. Raises ValueError if its quotes or braces do not match."""
    return [key for word in shlex.split(command) for _, key in _parts(word) if key is not None]


def _parts(word: str) -> Iterator[tuple[str, str | None]]:
    """Yield a text and the key that follows it, None at the end; `{{` and `}}` are braces."""
    for text, key, form, conversion in Formatter().parse(word):
        more = (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
        yield text, None if key is None else key + more


def command_mistakes(config: Config) -> Iterator[str]:
    """Yield a line for everything in a run's command that cannot be started as it stands."""
    command, known = str(config.command), dict(flat(asdict(config)))
    shown = f"command={to_text(command)}"
    for group in OWN_PARTS:
        if (target := getattr(getattr(config, group), "target", None)) is not None:
            yield f"{group}.target={target}: a command has a {group} of its own; leave one of the two out"
    try:
        words, keys = shlex.split(command), keys_in(command)
    except ValueError as error:
        yield f"{shown}: {error}; write a brace of its own as {{{{ or }}}}"
        return
    for key in keys:
        if key not in known:
            near = closest(key, known)
            right = f"did you mean {{{near}}}" if near else "name a key, such as {data.batch_size}"
            yield f"{shown}: {{{key}}} is no key of this run; {right}, or write {{{{ and }}}} for braces"
    if text := _read_by_a_shell(words):
        yield (
            f'{shown}: a value within {text!r} would be read as shell; write "$1" there and the value behind it: '
            "bash -c 'python train.py --seed \"$1\"' - {seed}"
        )


def _read_by_a_shell(words: Sequence[str]) -> str | None:
    """Return the word with a value that a shell would read as a program, if there is one."""
    for index, word in enumerate(words):
        if PurePath(word).name in SHELLS and (text := _program(words[index + 1 :])) is not None:
            return text if any(key is not None for _, key in _parts(text)) else None
    return None


def _program(arguments: Sequence[str]) -> str | None:
    """Return the text that a shell with these arguments runs, `-o pipefail -c TEXT` for example; None without one."""
    rest = iter(arguments)
    for word in rest:
        if re.fullmatch("-[A-Za-z]*c[A-Za-z]*", word):
            return next(rest, None)
        if word == "-o":
            next(rest, None)
        elif not word.startswith("-"):
            return None
    return None


def unused_keys(configs: Sequence[Config]) -> Iterator[str]:
    """Yield a line for every key in which runs of a command differ, and which neither it nor `Recorder()` uses."""
    command = str(configs[0].command)
    used = {*keys_in(command), *RECORDED}
    values: dict[str, dict[str, Any]] = {}
    for config in configs:
        for key, value in flat(asdict(config)):
            values.setdefault(key, {})[to_text(value)] = value
    for key, texts in values.items():
        is_used = key in used or ".arguments." in key or key.startswith(ENDS) or not changes_results(key)
        if len(texts) > 1 and not is_used:
            yield f"{key}={','.join(texts)}: the command does not use it; add {{{key}}} to it, or give one value"
