"""Write `digits_sweep/notebook/keys.py`, the types of `run`'s keywords, from the schema and `conf/`.

`make docs` runs this. `--check`, which `make lint` runs, writes nothing and exits with 1 if the file is stale.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from digits_sweep.config.keys import declared, holds_for_the_sweep
from digits_sweep.config.schema import OWN_GROUPS
from digits_sweep.notebook.run import choices, keywords

FILE = Path(__file__).resolve().parents[1] / "digits_sweep" / "notebook" / "keys.py"
OR_OWN = " | Own"
STALE = "digits_sweep/notebook/keys.py is stale: run make docs and commit what it writes"
HEAD = '''"""The keywords of `run` with their types, for editors. Written by make docs from the schema and conf/."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar, Union

T = TypeVar("T")
# One value, those of a sweep, or one for every batch size.
Several = Union[T, Sequence[T], Mapping[Any, T]]  # noqa: UP007
Folder = Union[str, os.PathLike[str]]  # noqa: UP007
# A class or a function, several of them, or the data themselves.
Own = Any


class Keys(TypedDict, total=False):
    """Every keyword of `run`."""

'''


def page() -> str:
    """Return the whole file."""
    return HEAD + "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    for word, key in sorted(keywords().items()):
        line = f"    {word}: {_type(key)}"
        if len(line) <= 120:
            yield line
            continue
        # As ruff writes it.
        names = [f'"{choice}",' for choice in choices()[key]]
        literal = ["Several[", "    Literal[", *(f"        {name}" for name in names), "    ]", "]"]
        literal = ["(", *(f"    {line}" for line in [*literal, "| Own"]), ")"] if key in OWN_GROUPS else literal
        yield from [f"    {word}: {literal[0]}", *(f"    {line}" for line in literal[1:])]


def _type(key: str) -> str:
    if key in choices():
        names = ", ".join(f'"{choice}"' for choice in choices()[key])
        return f"Several[Literal[{names}]]{OR_OWN if key in OWN_GROUPS else ''}"
    known = declared()[key]
    kinds = (
        get_args(known.kind) if get_origin(known.kind) not in (list, dict) and get_args(known.kind) else [known.kind]
    )
    text = "Folder" if known.rule.is_folder else " | ".join(_name(each) for each in kinds if each is not NoneType)
    text += " | None" if NoneType in kinds else ""
    return text if holds_for_the_sweep(key) or get_origin(known.kind) is dict else f"Several[{text}]"


def _name(kind: Any) -> str:
    if get_origin(kind) is list:
        return f"Sequence[{get_args(kind)[0].__name__}]"
    return "Mapping[str, Any]" if get_origin(kind) is dict else str(kind.__name__)


def main() -> None:
    """Write the file, or with `--check` exit with 1 if it is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the file is stale")
    if not parser.parse_args().check:
        FILE.write_text(page(), encoding="utf-8")
    elif not FILE.exists() or FILE.read_text(encoding="utf-8") != page():
        sys.exit(STALE)


if __name__ == "__main__":
    main()
