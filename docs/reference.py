"""Write `docs/reference.md` from the declarations: every command, group, choice, key, launcher, column and error.

`make docs` runs this. `--check`, which `make lint` runs, writes nothing and exits with 1 if the page is stale. What a
key means is the comment beside it in `conf/`; what a choice is, the comment at the top of its file.
"""

import argparse
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from omegaconf import OmegaConf

from digits_sweep import errors
from digits_sweep.config import schema
from digits_sweep.config.keys import declared, flat, role_of
from digits_sweep.config.launchers import LAUNCHERS
from digits_sweep.config.schema import Role
from digits_sweep.config.text import to_text
from digits_sweep.results.columns import COLUMNS, ColumnRole

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
PAGE = ROOT / "docs" / "reference.md"

STALE = "docs/reference.md is stale: run make docs and commit what it writes"
KEY_HEADER = ("key", "default", "type", "meaning", "role")
KINDS: dict[Any, str] = {int: "whole number", float: "number", bool: "true or false", str: "text", type(None): "null"}
KINDS |= {list[str]: "list of text", list[float]: "list of numbers", list[int]: "list of whole numbers"}
KINDS |= {Any: "sizes by examples, or text", dict[str, Any]: "arguments by name", schema.RATES: "numbers by name"}
DTYPES = {"Int64": "whole number", "Float64": "number", "string": "text", "boolean": "true or false"}

INTRODUCTION = """# Reference

<!-- Written by make docs from conf/ and digits_sweep/. Change those, not this page. -->

Choose with `group=choice`, set with `key=value`, and add `-m` to give several values, separated by commas:

    python -m digits_sweep -m data.batch_size=100,20,5 model=mlp,mlp_logits trainer.num_epochs=5
    python -m digits_sweep -m 'data.batch_size=range(10,60,10)'
    python -m digits_sweep -m data.batch_size=100,20,5 'optimizer.lr={100:1e-3,20:5e-4,else:1e-4}'
    python -m digits_sweep --cfg job data.batch_size=5

The first trains six runs, the second five; the third gives each batch size its own rate, in quotes because of the
shell; the fourth shows the numbers of a run and trains nothing. The grammar is
[Hydra](https://hydra.cc)'s. What you type wins over every default and rule."""

COMMANDS = """`ARGS` adds overrides: `make sweep ARGS="seed=0,1,2"`. The targets call `python -m digits_sweep`,
`python -m digits_sweep.report` and `python -m digits_sweep.critical_batch_size`, which have `--help` like
`python -m digits_sweep.which_batch_size`, `python -m digits_sweep.tune` and `python -m digits_sweep.cost`,
and `python -m benchmarks`."""


@dataclass(frozen=True)
class Choice:
    """A YAML file of a group: what its comments say, its keys, and its defaults list.

    It `declares` keys if it gives all of its group their values; otherwise it changes another choice.
    """

    name: str
    about: str
    values: dict[str, Any]
    comments: dict[str, str]
    defaults: tuple[str, ...]
    declares: bool


def read_choice(path: Path) -> Choice:
    """Read a YAML file of `conf/`. Raises ValueError if no comment says what it is."""
    text = path.read_text(encoding="utf-8")
    content: Any = OmegaConf.to_container(OmegaConf.load(path)) or {}
    content.pop("hydra", None)
    defaults = tuple(
        "=".join([*each, *map(str, each.values())]) if isinstance(each, dict) else each
        for each in content.pop("defaults", [])
    )
    head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    about = " ".join(line.lstrip("# ") for line in head if "@package" not in line)
    if not about:
        raise ValueError(f"{path.relative_to(ROOT)}: begin the file with a comment that says what this choice is")
    comments = dict(re.findall(r"^ *([a-z_]+):.*?\s#\s(.+)$", text, flags=re.MULTILINE))
    has_schema = any("/schema/" in each for each in defaults)
    declares = path.parent.name == "tracker" or has_schema or not (defaults or "@package _global_" in text)
    values: dict[str, Any] = {}
    for name, value in content.items():
        is_key = f"{path.parent.name}.{name}" in declared()
        values |= {name: _without_rule(value)} if is_key else dict(flat({name: value}))
    return Choice(path.stem, about, values, comments, defaults, declares)


def _without_rule(value: Any) -> Any:
    """Return the number that `scaling` starts from (`${scaled:lr,1e-4}`) as text; any other value as it is."""
    scaled = re.fullmatch(r"\$\{scaled:\w+,(.+)\}", value) if isinstance(value, str) else None
    return scaled[1] if scaled else value


def groups() -> Iterator[tuple[str, str, list[Choice]]]:
    """Yield every group, its default and its choices: first those with keys, in the order of a run's configuration."""
    order = [*schema.groups()]
    chosen = [each.partition("=") for each in read_choice(CONF / "config.yaml").defaults]
    for group, _, default in sorted(chosen, key=lambda each: order.index(each[0]) if each[0] in order else len(order)):
        for folder in [CONF / group, *sorted((CONF / group).glob("*/"))] if (CONF / group).is_dir() else ():
            files = sorted(folder.glob("*.yaml"), key=lambda path: (path.stem != default, path.stem))
            yield folder.relative_to(CONF).as_posix(), default, [read_choice(path) for path in files]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(*values: Any) -> str:
    """Return values as Markdown code, separated by commas."""
    return ", ".join(f"`{to_text(value)}`" for value in values)


def choices_of(default: str, files: list[Choice]) -> str:
    """Return the table of a group's choices."""
    rows = [[code(each.name) + " (default)" * (each.name == default), each.about, _changes(each)] for each in files]
    return table(("choice", "what it is", "what it changes"), rows)


def _changes(file: Choice) -> str:
    chosen = [re.sub(r"^override /|@[^=]*", "", each) for each in file.defaults if each.startswith("override")]
    values = [f"{name}={to_text(value)}" for name, value in file.values.items() if name != "name"]
    return code(*chosen, *([] if file.declares else values))


def keys_of(group: str, files: list[Choice]) -> Iterator[list[str]]:
    """Yield a row for every key that a file of the group declares; one row for a key that several declare."""
    holders: dict[str, list[Choice]] = {}
    for file in files:
        for name in file.values if file.declares else ():
            key = f"tracker.{file.name}.{name}" if group == "tracker" else f"{group}.{name}"
            holders.setdefault(key, []).append(file)
    for key, declaring in holders.items():
        if not key.endswith(".name"):
            yield row_of(key, declaring)


def row_of(key: str, declaring: list[Choice]) -> list[str]:
    """Return a key's row. Raises ValueError if no comment beside the key says what it means."""
    name, known = key.rpartition(".")[2], declared().get(key)
    meaning = next((each.comments[name] for each in declaring if name in each.comments), None)
    if meaning is None:
        raise ValueError(f"{key}: say what it means in a comment beside it in conf/")
    values = [value for each in declaring for own, value in each.values.items() if f".{key}".endswith(f".{own}")]
    defaults = list(map(code, values))
    default = "; ".join(f"{each.name}: {value}" for each, value in zip(declaring, defaults, strict=True))
    kinds = get_args(known.kind) if known and known.kind not in KINDS else [known.kind if known else str]
    right = known.rule.right if known else ""
    return [
        code(key),
        default if len(set(defaults)) > 1 else defaults[0],
        " or ".join(KINDS[kind] for kind in kinds),
        meaning + (f" ({right})" if right and not right.startswith("choose") else ""),
        role_of(key).name.lower(),
    ]


def page() -> str:
    """Return the whole page."""
    parts = (
        INTRODUCTION,
        *commands(),
        *choices_and_keys(),
        *keys_of_commands(),
        *launchers(),
        *columns(),
        *exceptions(),
    )
    return "\n\n".join(parts) + "\n"


def commands() -> Iterator[str]:
    """Yield the targets of the Makefile."""
    targets = re.findall(r"^([a-z-]+):.*?## (.+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    yield "## Commands"
    yield table(("command", "what it does"), [[code(f"make {name}"), about] for name, about in targets])
    yield COMMANDS


def choices_and_keys() -> Iterator[str]:
    """Yield the groups with their choices and keys, the keys of no group, and what the roles mean."""
    yield "## Groups and their keys"
    for group, default, files in groups():
        yield f"### {group}"
        yield choices_of(default, files)
        if rows := list(keys_of(group, files)):
            yield table(KEY_HEADER, rows)
    primary = read_choice(CONF / "config.yaml")
    yield "### Keys of no group"
    yield table(KEY_HEADER, [row_of(key, [primary]) for key in primary.values])
    yield "### Roles"
    yield table(("role", "a key with it"), [[role.name.lower(), role.value] for role in Role])


def keys_of_commands() -> Iterator[str]:
    """Yield the keys that belong to one command alone."""
    yield "## Keys of the search\n\nFor `python -m digits_sweep.tune` alone; [Search](search.md) explains them."
    yield _own_keys("tune", "tune")
    about = "For `python -m digits_sweep.critical_batch_size` alone; [Critical batch size](critical-batch-size.md)"
    yield f"## Keys of the critical batch size\n\n{about} explains them."
    yield _own_keys("critical_batch_size", "critical")


def _own_keys(file: str, prefix: str) -> str:
    choice = read_choice(CONF / f"{file}.yaml")
    rows = [[code(f"{prefix}.{key}"), _default(value), choice.comments[key]] for key, value in choice.values.items()]
    return table(("key", "default", "meaning"), rows)


def _default(value: Any) -> str:
    """Return a default as code; of a list of overrides, each of its own."""
    return code(*value) if isinstance(value, list) and value and isinstance(value[0], str) else code(value)


def launchers() -> Iterator[str]:
    """Yield the launchers."""
    yield "## Launchers\n\n[Running elsewhere](running-elsewhere.md) explains them."
    rows = [
        [code(each.name), each.extra or "", "yes" if each.stops_early else "no", code(*each.resumed_keys)]
        for each in LAUNCHERS.values()
    ]
    yield table(("`hydra/launcher=`", "extra", "`fail_fast` works", "launcher's keys that a resume repeats"), rows)


def columns() -> Iterator[str]:
    """Yield the columns of `summary.csv`."""
    yield "## Columns of summary.csv\n\nA row a run. An empty cell has no value: a threshold not reached, for example."
    rows = [[code(each.name), DTYPES[each.dtype], each.meaning, each.role.name.lower()] for each in COLUMNS]
    yield table(("column", "type", "meaning", "role"), rows)
    yield table(("role", "the column says"), [[role.name.lower(), role.value] for role in ColumnRole])


def exceptions() -> Iterator[str]:
    """Yield the errors that a program that imports this one may catch."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    yield "## Errors\n\nAll are in `digits_sweep.errors`. The text of each is meant for the user."
    yield table(("error", "meaning"), [[code(each.__name__), " ".join(str(each.__doc__).split())] for each in kinds])


def main() -> None:
    """Write the page, or with `--check` exit with 1 if it is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is stale")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit(STALE)


if __name__ == "__main__":
    main()
