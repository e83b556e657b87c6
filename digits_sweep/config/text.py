"""Text: how a value, a name, a folder and an override are written, the same everywhere."""

import hashlib
import os
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

LONGEST_NAME = 120


def to_text(value: Any) -> str:
    """Return a value as text, the same everywhere: `1e-4`, `0.05`, `[0.9, 0.999]`, `{width:32}`, `true`, `null`.

    A number is exact: reading the text gives the same float64.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(to_text, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{to_text(each)}" for name, each in value.items()) + "}"
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    plain = float.__repr__(value).removesuffix(".0")
    if value != value or abs(value) == float("inf") or value == 0 or 1e-3 <= abs(value) < 1e16:
        return plain
    sign, digits, exponent = Decimal(float.__repr__(value)).normalize().as_tuple()
    mantissa = str(digits[0]) + ("." + "".join(map(str, digits[1:])) if len(digits) > 1 else "")
    return f"{'-' if sign else ''}{mantissa}e{int(exponent) + len(digits) - 1}"


def safe_name(wanted: str) -> str:
    """Return `wanted` as one plain path component of at most 120 characters; what this returns stays as it is.

    What is not a letter, a digit or one of `._=-` becomes `-`, and a name begins with neither a dot nor a hyphen. One
    that had to be changed or cut ends with a digest of `wanted`, so that two names never become one.
    """
    name = re.sub(r"[^A-Za-z0-9._=-]", "-", wanted).lstrip(".-")
    if name == wanted and 0 < len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(wanted.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - len(digest) - 1]}-{digest}".lstrip("-")


def expand_home(text: str) -> str:
    """Return a path with the home folder in place of `~` or `~user` at its start.

    The path stays as it is if that folder is not known: nobody has that name, or there is no home folder at all.
    """
    home, slash, below = text.partition("/")
    if not home.startswith("~") or (home == "~" and os.environ.get("HOME") == ""):
        return text
    try:
        return str(Path(home).expanduser()).rstrip("/") + slash + below or "/"
    except RuntimeError:
        return text


def as_argument(path: Path) -> str:
    """Return a path as a command takes it: one that begins with `-` would be read as an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def key_of(override: str) -> str:
    """Return the key or the group of an override, without `+`, `~` and the value."""
    return override.lstrip("+~").partition("=")[0]


def as_override(key: str, value: str) -> str:
    """Return `key=value` as Hydra reads it, in quotes if the value is more than a plain path."""
    # Without a slash it may be a number, true or null.
    is_plain = "/" in value and all(each.isascii() and (each.isalnum() or each in "_./:-") for each in value)
    return f"{key}={value if is_plain else quoted(value)}"


def quoted(text: str) -> str:
    """Return `text` as a quoted value in Hydra's grammar. An interpolation in it stays one."""
    # Backslashes count only in front of a quote.
    escaped = re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), text)
    return f"'{escaped}'"
