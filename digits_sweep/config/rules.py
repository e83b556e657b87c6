"""How a key is declared: its role, and the rule that its value must keep besides its type."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

# What OmegaConf takes for "no value yet: a YAML file or the command line must give one".
MISSING: Any = "???"
INFINITY = float("inf")


class Role(Enum):
    """What a key is for. Every question about a group of keys is answered from here."""

    RESULT = "may change what a run results in; a resume must not change it"
    GROWS = "may change what a run results in; a resume may raise it"
    TIMING = "changes how long a run takes, not what it results in"
    ORIGIN = "says where other values come from; alone it changes nothing"
    PLACE = "says where files are; one value for the whole sweep"
    COMMAND = "says what this command does with the sweep; one value for the whole sweep"


@dataclass(frozen=True)
class Rule:
    """A condition on a key's value, and in words what would be right; whether the value is a folder's path."""

    holds: Callable[[Any], bool]
    right: str
    is_folder: bool = False


ANYTHING = Rule(lambda value: True, "")


def key(rule: Rule = ANYTHING, role: Role = Role.RESULT, default: Any = MISSING) -> Any:
    """Declare a key as a dataclass field that carries its rule and its role."""
    return field(default=default, metadata={"rule": rule, "role": role})


def one_of(*choices: str) -> Rule:
    """Return the rule that a value is one of `choices`."""
    return Rule(lambda value: value in choices, "choose " + " or ".join(choices))


def whole_number(least: int, most: int | None = None) -> Rule:
    """Return the rule that a value is a whole number from `least` up, and at most `most` if given."""
    right = f"must be a whole number from {least} " + ("up" if most is None else f"to {most:,}")
    return Rule(lambda value: value >= least and (most is None or value <= most), right)


def or_null(rule: Rule) -> Rule:
    """Return `rule`, kept by null too."""
    return Rule(lambda value: value is None or rule.holds(value), f"{rule.right}, or null", rule.is_folder)


POSITIVE = Rule(lambda value: 0 < value < INFINITY, "must be a number above 0")
NOT_NEGATIVE = Rule(lambda value: 0 <= value < INFINITY, "must be 0 or a number above it")
BELOW_ONE = Rule(lambda value: 0 <= value < 1, "must be from 0 up to, not including, 1")
BETAS = Rule(
    lambda betas: len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
    "must be two numbers from 0 up to, not including, 1",
)
LOSSES = Rule(lambda values: all(0 < value < INFINITY for value in values), "must be a list of numbers above 0")
ERRORS = Rule(lambda values: all(0 < value < 1 for value in values), "must be a list of shares between 0 and 1")
# From one point in ten doublings to one in every iteration of the first thousand.
PER_DOUBLING = Rule(lambda value: value is None or 0.1 <= value <= 1_000, "must be a number from 0.1 to 1,000, or null")
TARGET = Rule(
    lambda target: target is not None and re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", target) is not None,
    "must be module:name, such as mine:Network, in the working folder or an installed package",
)
SEED = Rule(lambda seed: 0 <= seed < 2**63, "must be a whole number from 0 up to 2**63 - 1")
DEVICE = Rule(
    lambda device: re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device) is not None,
    "choose auto, cpu, cuda, cuda:N or mps",
)
# Far above any machine's cores: PyTorch fails late, and without a reason, if it is asked for tens of thousands.
MOST_THREADS = 1_024
# Far above any network that is worth training: beyond, PyTorch runs out of numbers, or of time, before it runs out of
# memory, and a file of a sweep may ask for it.
MOST_UNITS, MOST_LAYERS = 10**9, 1_000
MOST_CHANNELS, MOST_KERNEL = 10**6, 99
CHANNELS = Rule(
    lambda channels: 1 <= len(channels) <= 16 and all(1 <= each <= MOST_CHANNELS for each in channels),
    f"must be a list of 1 to 16 whole numbers from 1 to {MOST_CHANNELS:,}",
)
KERNEL = Rule(lambda size: 1 <= size <= MOST_KERNEL and size % 2 == 1, f"must be an odd number from 1 to {MOST_KERNEL}")
THREADS = Rule(
    lambda threads: threads == "auto" or (isinstance(threads, int) and 1 <= threads <= MOST_THREADS),
    f"must be auto or a whole number from 1 to {MOST_THREADS:,}",
)


def _is_folder(path: str) -> bool:
    return path.strip() != "" and re.search(r"\$\{|[\0-\x1f\x7f\ud800-\udfff]", path) is None


# Where ~ is left, there is no home folder: planning has put the others in its place.
FOLDER = Rule(
    lambda path: _is_folder(path) and not path.startswith("~"),
    "must be the name of a folder, without ${ and control characters; ~ needs a home folder",
    is_folder=True,
)
# The default begins with ~, and not every data set needs it.
DATA_FOLDER = Rule(_is_folder, "must be the name of a folder, without ${ and control characters", is_folder=True)
SWEEP = Rule(lambda path: path is None or _is_folder(path), "must be a sweep's folder, latest or null", is_folder=True)
