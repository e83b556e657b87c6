"""`run`: a sweep without a command line, in this process."""

import inspect
import os
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args, get_origin

import torch
from torch import nn

from digits_sweep.config.compose import CONF
from digits_sweep.config.keys import closest, declared, holds_for_the_sweep
from digits_sweep.config.own_code import expect_changes, is_object, name_object
from digits_sweep.config.plan import plan
from digits_sweep.config.schema import OWN_GROUPS
from digits_sweep.config.text import key_of, quoted, to_text
from digits_sweep.errors import DigitsSweepError, InvalidConfig
from digits_sweep.notebook.display import screen_for
from digits_sweep.notebook.result import SweepResult
from digits_sweep.sweep import session
from digits_sweep.sweep.launch import launch_in_process

# Stands for the dot between the parts of a whole key: `optimizer__lr`.
DOT = "__"
# What Hydra's grammar reads as text without quotes.
PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[A-Za-z_][\w-]*", re.IGNORECASE)


@cache
def choices() -> dict[str, tuple[str, ...]]:
    """Return the choices of every group that a command line may choose from, by the group's name."""
    folders = sorted(path for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")
    return {folder.name: tuple(sorted(file.stem for file in folder.glob("*.yaml"))) for folder in folders}


@cache
def meanings() -> dict[str, list[str]]:
    """Return the keys or the group that every short keyword stands for; one that stands for several is ambiguous."""
    keys: dict[str, list[str]] = {}
    for key in declared():
        last = key.rpartition(".")[2]
        # Which data set, model and so on is chosen by its group.
        if last != "name":
            keys.setdefault(last, []).append(key)
    return keys | {group: [group] for group in choices()}


def keywords() -> dict[str, str]:
    """Return every keyword with its key or group: the short one, and the whole key where the short one is ambiguous."""
    return {word if len(keys) == 1 else key.replace(".", DOT): key for word, keys in meanings().items() for key in keys}


def signature(of: inspect.Signature) -> inspect.Signature:
    """Return the signature `of` a function whose last parameter takes any keyword, with each of them by name."""
    names = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=...) for name in sorted(keywords())]
    return of.replace(parameters=[*list(of.parameters.values())[:-1], *names])


def as_overrides(arguments: Mapping[str, Any], beside: Iterable[str] = ()) -> list[str]:
    """Return the override of every keyword in `arguments`; `beside` are overrides that are given as text.

    Several values are a sweep. Raises `InvalidConfig` with one line for a keyword that does not exist, may mean several
    keys or is in `beside` too, and for a value that no key can have.
    """
    sources = {key_of(override): override for override in beside}
    overrides = []
    for word, value in arguments.items():
        key = _key(word)
        if key in sources:
            raise InvalidConfig(f"{word}: is given as {sources[key]!r} too; give it once")
        sources[key] = word
        if key in OWN_GROUPS and not _is_by_name(value):
            overrides += [f"{key}=own", f"{key}.target={_targets(key, value)}"]
        else:
            overrides.append(f"{key}={_text(word, key, value)}")
    return overrides


def _is_by_name(value: Any) -> bool:
    """Return whether a group's choice is its name, several, or one for every batch size, and no code or data."""
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
    return all(isinstance(part, str) for part in parts)


def _targets(group: str, value: Any) -> str:
    """Return the names that `own_code` has for the classes and functions in `value`, or for the data that it is.

    Raises `InvalidConfig` for what is neither, and for two of one name.
    """
    several = isinstance(value, list | tuple) and all(map(callable, value))
    names = [name_object(group, _maker(group, part)) for part in (value if several else [value])]
    if len(set(names)) < len(names):
        raise InvalidConfig(f"{group}: has two of one name, and runs are named after them; give each a name of its own")
    return ",".join(names)


def _maker(group: str, value: Any) -> Callable[..., Any]:
    """Return a function that makes what a group needs: every run starts from a new network."""
    if callable(value) and not isinstance(value, nn.Module):
        return cast(Callable[..., Any], value)
    if group == "data":
        return lambda: value
    right = "must be a name, or a class or function that makes a new one for every run"
    raise InvalidConfig(f"{group}: is a {type(value).__name__}; {right}")


def _key(word: str) -> str:
    keys = meanings().get(word, [])
    if len(keys) == 1:
        return keys[0]
    if keys:
        whole = " or ".join(key.replace(".", DOT) for key in keys)
        raise InvalidConfig(f"{word}: may mean {' or '.join(keys)}; write {whole}")
    key = word.replace(DOT, ".")
    # The settings of a tracker are declared in its file only.
    if (DOT in word and key in declared()) or key.startswith("tracker."):
        return key
    close = closest(key, [*meanings(), *(key for key in declared() if not key.endswith(".name"))])
    hint = f"; did you mean {close.replace('.', DOT)}?" if close else ""
    raise InvalidConfig(f"{word}: there is no such keyword{hint}")


def _text(word: str, key: str, value: Any) -> str:
    """Write a value, or the several values of a sweep, in Hydra's grammar."""
    if isinstance(value, range) and len(value) != 1:
        # Not written out: there may be a hundred million.
        return f"range({value.start},{value.stop},{value.step})"
    value = list(value) if isinstance(value, range) else _plain(value)
    if not isinstance(value, list | tuple) or _is_one_value(key, value):
        return _one(word, value)
    if not value:
        raise InvalidConfig(f"{word}=[]: must have a value at least")
    return ",".join(_one(word, part) for part in value)


def _plain(value: Any) -> Any:
    """Return an array or a scalar of NumPy, or a column of pandas, as Python has it."""
    return value.tolist() if hasattr(value, "tolist") else value


def _is_one_value(key: str, value: list[Any] | tuple[Any, ...]) -> bool:
    """Return whether a list is the value of `key`, and not several values of it."""
    if holds_for_the_sweep(key):
        return True
    kind = declared()[key].kind if key in declared() else str
    takes_lists = list in (get_origin(kind), *map(get_origin, get_args(kind)))
    return takes_lists and not any(isinstance(part, list | tuple) for part in value)


def _one(word: str, value: Any) -> str:
    value = _plain(value)
    if value is None or isinstance(value, bool | int | float):
        return to_text(value)
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        return text if isinstance(text, str) and PLAIN.fullmatch(text) else quoted(str(text))
    if isinstance(value, list | tuple):
        return f"[{','.join(_one(word, part) for part in value)}]"
    if isinstance(value, Mapping) and all(re.fullmatch(r"[\w.-]+", str(name)) for name in value):
        return "{" + ",".join(f"{name}:{_one(word, part)}" for name, part in value.items()) + "}"
    right = "must be a number, a text, a list or a range of them, or a dictionary"
    raise InvalidConfig(f"{word}: is of type {type(value).__name__}; {right}")


if TYPE_CHECKING:
    from typing_extensions import Unpack

    from digits_sweep.notebook.keys import Keys


# How `run` is called, and the only flags that mean something there.
EXAMPLE = "run('data.batch_size=100,20', 'trainer.num_epochs=3')"
CONFIG_DIR = ("--config-dir", "-cd")


def run(*overrides: str, **keys: "Unpack[Keys]") -> SweepResult:
    """Train what `python -m digits_sweep -m` would with these overrides, one run after the other, in this process.

    `run("data.batch_size=100,20,5")` or `run(batch_size=[100, 20, 5])` is the sweep, `run(batch_size=5)` a single run,
    `run(resume="latest")` resumes what was stopped. A keyword is the last part of a key or the name of a group; several
    values are a list or a range. `run(model=Network, data=(train, test))` takes a class or a function that makes a
    network, and data or a function that returns them: what `model.target` and `data.target` name on a command line.
    Returns the sweep. In a notebook it is shown as a table with its verdict, and while it trains a display shows how
    far it is. Threads and denormals of PyTorch, handlers of signals and Hydra are as before when it returns or raises.

    Raises a `DigitsSweepError` before anything is trained if an override or a keyword is wrong, or data, device or
    folder cannot be had, and TypeError for what is no override. A run that fails says so in its row and its record;
    with `fail_fast=true` it is the last one. After KeyboardInterrupt `latest()` is the sweep as far as it came.
    """
    for override in overrides:
        if not isinstance(override, str) or (override.startswith("-") and not override.startswith(CONFIG_DIR)):
            raise TypeError(f"run({override!r}): must be key=value, a text for each key: {EXAMPLE}")
    try:
        with restored_process_state():
            expect_changes()
            planned = plan(["-m", *overrides, *as_overrides(keys, overrides)])
            if planned.settings.dry_run or not planned.launcher.in_process:
                raise InvalidConfig("dry_run=true and hydra/launcher=... are for the command line; leave them out")
            screen = screen_for(planned.settings.quiet)
            if objects := [each for each in planned.command if is_object(each.partition("=")[2])]:
                screen.say(f"{', '.join(objects)}: no file, so that no other process can resume this sweep")
            _, folder = session.execute(planned, launch_in_process, screen)
            return SweepResult(cast(Path, folder), outputs=planned.outputs)
    except (DigitsSweepError, OSError, KeyboardInterrupt) as error:
        # The text says it all: the calls in between are of no use to whoever reads it.
        raise error.with_traceback(None) from None


# What completes keywords in a notebook reads it.
run.__signature__ = signature(inspect.signature(run))  # type: ignore[attr-defined]


@contextmanager
def restored_process_state() -> Iterator[None]:
    """Run the block; PyTorch's threads, its denormals and the handlers of signals are then as they were."""
    # PyTorch does not say whether it takes float32 numbers below 1.2e-38 as 0.
    threads, flushes_denormals = torch.get_num_threads(), (torch.tensor(2e-38) / 10).item() == 0
    names = ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if torch.are_deterministic_algorithms_enabled() != deterministic:
            torch.use_deterministic_algorithms(deterministic)
        torch.set_flush_denormal(flushes_denormals)
        for number, handler in handlers.items():
            # Only the main thread may, and only it can have changed them. None is a handler that is not Python's.
            with suppress(ValueError):
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
