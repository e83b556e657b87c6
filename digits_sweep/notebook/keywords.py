"""Keywords of a call, `run(batch_size=[100, 20], model="cnn")`, as the overrides of a command line.

A keyword is the last part of a key, or the name of a group in `conf/`. Nothing is listed here: keys come from the
schema, groups from the folders.
"""

import inspect
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, get_args, get_origin

from digits_sweep.config.compose import CONF
from digits_sweep.config.hydra_errors import closest
from digits_sweep.config.keys import declared, holds_for_the_sweep
from digits_sweep.config.text import key_of, quoted, to_text
from digits_sweep.errors import InvalidConfig

# Stands for the dot between the parts of a whole key: `optimizer__lr`.
DOT = "__"
# What Hydra's grammar reads as text without quotes.
PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[A-Za-z_][\w-]*", re.IGNORECASE)


@cache
def choices() -> dict[str, tuple[str, ...]]:
    """Return the choices of every group that a command line may choose from, by the group's name."""
    folders = sorted(each for each in CONF.iterdir() if each.is_dir() and each.name != "hydra")
    return {folder.name: tuple(sorted(file.stem for file in folder.glob("*.yaml"))) for folder in folders}


@cache
def meanings() -> dict[str, tuple[str, ...]]:
    """Return the keys or the group that every short keyword stands for; one that stands for several is ambiguous."""
    found: dict[str, tuple[str, ...]] = {}
    for key in declared():
        last = key.rpartition(".")[2]
        # Which data set, model and so on is chosen by its group.
        if last != "name":
            found[last] = (*found.get(last, ()), key)
    return found | {group: (group,) for group in choices()}


def keywords() -> dict[str, str]:
    """Return every keyword with its key or group: the short one, and the whole key where the short one is ambiguous."""
    found: dict[str, str] = {}
    for word, keys in meanings().items():
        found |= {word: keys[0]} if len(keys) == 1 else {key.replace(".", DOT): key for key in keys}
    return found


def signature(of: inspect.Signature) -> inspect.Signature:
    """Return the signature `of` a function whose last parameter takes any keyword, with each of them by name."""
    names = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=...) for name in sorted(keywords())]
    return of.replace(parameters=[*list(of.parameters.values())[:-1], *names])


def as_overrides(given: Mapping[str, Any], beside: Iterable[str] = ()) -> list[str]:
    """Return the override of every keyword that is `given`; `beside` are overrides that are typed as text.

    Several values are a sweep. Raises `InvalidConfig` with one line for a keyword that does not exist, may mean several
    keys or is in `beside` too, and for a value that no key can have.
    """
    typed = {key_of(each): each for each in beside}
    found = []
    for word, value in given.items():
        key = _key(word)
        if key in typed:
            raise InvalidConfig(f"{word}: is given as {typed[key]!r} too; give it once")
        typed[key] = word
        found.append(f"{key}={_text(word, key, value)}")
    return found


def _key(word: str) -> str:
    keys = meanings().get(word, ())
    if len(keys) == 1:
        return keys[0]
    if keys:
        whole = " or ".join(key.replace(".", DOT) for key in keys)
        raise InvalidConfig(f"{word}: may mean {' or '.join(keys)}; write {whole}")
    key = word.replace(DOT, ".")
    # The settings of a tracker are declared in its file only.
    if (DOT in word and key in declared()) or key.startswith("tracker."):
        return key
    close = closest(key, [*meanings(), *(each for each in declared() if not each.endswith(".name"))])
    raise InvalidConfig(
        f"{word}: there is no such keyword" + (f"; did you mean {close.replace('.', DOT)}?" if close else "")
    )


def _text(word: str, key: str, value: Any) -> str:
    """Write a value, or the several values of a sweep, in Hydra's grammar."""
    if isinstance(value, range):
        # Not written out: there may be a hundred million.
        return f"range({value.start},{value.stop},{value.step})" if len(value) != 1 else to_text(value[0])
    # Arrays and scalars of NumPy, columns of pandas.
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, list | tuple):
        return _one(word, value)
    if _is_one_value(key, value):
        return _one(word, list(value))
    if not value:
        raise InvalidConfig(f"{word}=[]: must have a value at least")
    return ",".join(_one(word, each) for each in value)


def _is_one_value(key: str, value: list[Any] | tuple[Any, ...]) -> bool:
    """Return whether a list is the value of `key`, and not several values of it."""
    if holds_for_the_sweep(key):
        return True
    kind = declared()[key].kind if key in declared() else str
    takes_lists = list in (get_origin(kind), *map(get_origin, get_args(kind)))
    return takes_lists and not any(isinstance(each, list | tuple) for each in value)


def _one(word: str, value: Any) -> str:
    value = value.tolist() if hasattr(value, "tolist") else value
    if value is None or isinstance(value, bool | int | float):
        return to_text(value)
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        return text if isinstance(text, str) and PLAIN.fullmatch(text) else quoted(str(text))
    if isinstance(value, list | tuple):
        return f"[{','.join(_one(word, each) for each in value)}]"
    if isinstance(value, Mapping) and all(re.fullmatch(r"[\w.-]+", str(each)) for each in value):
        return "{" + ",".join(f"{name}:{_one(word, each)}" for name, each in value.items()) + "}"
    right = "must be a number, a text, a list or a range of them, or a dictionary"
    raise InvalidConfig(f"{word}: is of type {type(value).__name__}; {right}")
