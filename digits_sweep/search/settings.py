"""What is typed: the keys `critical.` of `conf/critical_batch_size.yaml`, a machine's cost, and the runs' overrides."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from digits_sweep.config.command_line import read_command_line, settings_of
from digits_sweep.config.schema import MOST_SEEDS, ODD_SEEDS, POSITIVE, Rule, key, number_above, whole_number
from digits_sweep.config.text import key_of
from digits_sweep.errors import InvalidConfig

PREFIX, FILE, TARGETS = "critical.", "critical_batch_size.yaml", "evaluation.targets."
MOST_STEPS = 40
COST = re.compile(r"(iteration|example)=([0-9.]+(?:e[+-]?\d+)?)(s|ms|us)?", re.IGNORECASE)
UNITS = {None: 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
# Keys of a sweep that mean nothing here, with what to do instead.
REFUSED = {
    "optimizer.lr": "this is what is searched; critical.lr=LR is the middle of the grid",
    "dry_run": "which runs there are depends on what the first of them result in; leave it out",
    "fail_fast": "a run that fails or diverges is a miss; leave it out",
}


@dataclass
class CriticalConfig:
    """`conf/critical_batch_size.yaml`, typed."""

    lr: float = key(POSITIVE)
    reference_batch_size: int = key(whole_number(1))
    factor: float = key(Rule(lambda value: 1 < value <= 100, "must be a number above 1, at most 100"))
    most_steps: int = key(whole_number(1, MOST_STEPS))
    seeds: int = key(ODD_SEEDS)
    give_up: float = key(number_above(1))
    confirm: int = key(whole_number(1, MOST_SEEDS))
    branch: bool = key()
    branch_examples: int = key(whole_number(1))
    branch_tolerance: float = key(POSITIVE)
    runs: list[str] = key()


@dataclass(frozen=True)
class Cost:
    """What a machine takes, in seconds, for an iteration and for an example."""

    iteration: float
    example: float


@dataclass(frozen=True)
class Typed:
    """A command line: its settings, what it resumes, the cost that it gives, and the arguments that plan its runs.

    `command` is what was typed, without `resume`, which is the folder, `latest` or None.
    """

    settings: CriticalConfig
    resume: str | None
    cost: Cost | None
    command: list[str]
    arguments: list[str]


def read_settings(arguments: Sequence[str]) -> Typed:
    """Read a command line. Raises `InvalidConfig` with key, value and what would be right."""
    cost, rest = _cost(arguments)
    line = read_command_line(rest)
    resumes = [each.partition("=")[2].strip("'\"") for each in line.overrides if key_of(each) == "resume"]
    overrides = [each for each in line.overrides if not each.startswith(PREFIX) and key_of(each) != "resume"]
    for each in overrides:
        if (right := REFUSED.get(key_of(each))) is not None:
            raise InvalidConfig(f"{each}: {right}")
    settings = settings_of(CriticalConfig, FILE, PREFIX, line.overrides)
    folders = [f"--config-dir={folder}" for folder in line.config_dirs]
    return Typed(
        settings=settings,
        resume=resumes[-1] if resumes else None,
        cost=cost,
        command=[*folders, *(each for each in line.overrides if key_of(each) != "resume")],
        arguments=["-m", *folders, *_untyped(settings.runs, overrides), *overrides],
    )


def _cost(arguments: Sequence[str]) -> tuple[Cost | None, list[str]]:
    """Take `--cost iteration=119us example=8.4us` out of a command line."""
    if "--cost" not in arguments:
        return None, list(arguments)
    place = list(arguments).index("--cost")
    given = list(takewhile(lambda each: each.startswith(("iteration=", "example=")), arguments[place + 1 :]))
    found = {match[1]: match for each in given if (match := COST.fullmatch(each))}
    if len(found) < 2 or len(given) > 2:
        example = "--cost iteration=119us example=8.4us"
        raise InvalidConfig(f"--cost {' '.join(given)}: give both in seconds, or with ms or us behind: {example}")
    try:
        seconds = {name: float(match[2]) * UNITS[match[3] and match[3].lower()] for name, match in found.items()}
    except ValueError as error:
        raise InvalidConfig(f"--cost {' '.join(given)}: {error}") from error
    if not sum(seconds.values()) > 0 or sum(seconds.values()) == float("inf"):
        raise InvalidConfig(f"--cost {' '.join(given)}: must be numbers from 0, not both 0")
    return Cost(**seconds), [*arguments[:place], *arguments[place + 1 + len(given) :]]


def _untyped(defaults: Iterable[str], overrides: Sequence[str]) -> list[str]:
    """Return the default overrides whose key is not typed. Whoever types a target means no other than those typed."""
    typed = {key_of(each) for each in overrides}
    own_targets = any(key.startswith(TARGETS) for key in typed)
    kept = [each for each in defaults if key_of(each) not in typed]
    return [f"{key_of(each)}=[]" if own_targets and each.startswith(TARGETS) else each for each in kept]
