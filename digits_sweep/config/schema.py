"""Every key that a run can have: its type, the rule that its value keeps, its role, and the choices that have it."""

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, get_type_hints

from digits_sweep.config.scaling import RATE_RULES, RULES, is_batch

# What OmegaConf takes for "no value yet: a YAML file or the command line must give one".
MISSING: Any = "???"
NO_DEFAULT = (MISSING, dataclasses.MISSING)
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
    """A condition on a key's value, what would be right in words, and whether the value is a folder's path."""

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
    """Return the rule that a value is a whole number from `least` up, and at most `most` unless that is None."""
    right = f"must be a whole number from {least} " + ("up" if most is None else f"to {most:,}")
    return Rule(lambda value: value >= least and (most is None or value <= most), right)


def number_above(least: float) -> Rule:
    """Return the rule that a value is a finite number above `least`."""
    return Rule(lambda value: least < value < INFINITY, f"must be a number above {least:g}")


def number_between(least: float, most: float) -> Rule:
    """Return the rule that a value is a number from `least` to `most`."""
    return Rule(lambda value: least <= value <= most, f"must be a number from {least:g} to {most:g}")


def or_null(rule: Rule) -> Rule:
    """Return `rule`, which null keeps too."""
    return Rule(lambda value: value is None or rule.holds(value), f"{rule.right}, or null", rule.is_folder)


POSITIVE = number_above(0)
SHARE = number_between(0, 1)
NOT_NEGATIVE = Rule(lambda value: 0 <= value < INFINITY, "must be 0 or a number above it")
BELOW_ONE = Rule(lambda value: 0 <= value < 1, "must be from 0 up to, not including, 1")
FRACTION = Rule(lambda value: 0 < value < 1, "must be a number between 0 and 1")
FINITE = Rule(lambda value: abs(value) < INFINITY, "must be a number")
BETAS = Rule(
    lambda betas: len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
    "must be two numbers from 0 up to, not including, 1",
)
# Some losses of the user's fall below 0: `_thresholds` in `keys.py` knows which.
LOSSES = Rule(lambda values: all(abs(value) < INFINITY for value in values), "must be a list of numbers")
ERRORS = Rule(lambda values: all(0 < value < 1 for value in values), "must be a list of shares between 0 and 1")
# From one point in ten doublings to one in every iteration of the first thousand.
PER_DOUBLING = Rule(lambda value: value is None or 0.1 <= value <= 1_000, "must be a number from 0.1 to 1,000, or null")
# Without a target there must be a command: `_conflicts` in `keys.py`.
TARGET = Rule(
    lambda target: target is None or re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", target) is not None,
    "must be module:name, such as mine:Network, in the working folder or an installed package",
)
SEED = Rule(lambda seed: 0 <= seed < 2**63, "must be a whole number from 0 up to 2**63 - 1")
COMMAND = Rule(
    lambda command: command is None or (command.strip() != "" and "\0" not in command),
    "must be a program with its arguments, such as 'python train.py --seed {seed}', or null",
)
BATCH = Rule(
    is_batch,
    "must be sizes by examples that begin with 0 and rise, such as {0:20,30000:100}, or grow, or null",
)
SCALING = Rule(lambda rule: rule is None or rule in RULES, f"choose {' or '.join(RULES)}, or null")
# More runs of one configuration than anybody waits for.
MOST_SEEDS = 999
# Of an even number, the median lies between two runs, one of which may be a miss.
ODD_SEEDS = Rule(
    lambda seeds: 1 <= seeds <= MOST_SEEDS and seeds % 2 == 1, f"must be an odd whole number from 1 to {MOST_SEEDS}"
)
# Seeds are added to a sweep until its winner is decided; with fewer than the least no winner can be.
UNTIL_DECIDED, LEAST_SEEDS = "until_decided", 6
DEVICE = Rule(
    lambda device: re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device) is not None,
    "choose auto, cpu, cuda, cuda:N or mps",
)
# Far above any machine's cores: PyTorch fails late, and without a reason, if it is asked for tens of thousands.
MOST_THREADS = 1_024
THREADS = Rule(
    lambda threads: threads == "auto" or (isinstance(threads, int) and 1 <= threads <= MOST_THREADS),
    f"must be auto or a whole number from 1 to {MOST_THREADS:,}",
)
# Far above any network that is worth training: beyond, PyTorch runs out of numbers, or of time, before it runs out of
# memory, and a file of a sweep may ask for it.
MOST_UNITS, MOST_LAYERS = 10**9, 1_000
MOST_CHANNELS, MOST_KERNEL = 10**6, 99
CHANNELS = Rule(
    lambda channels: 1 <= len(channels) <= 16 and all(1 <= each <= MOST_CHANNELS for each in channels),
    f"must be a list of 1 to 16 whole numbers from 1 to {MOST_CHANNELS:,}",
)
ACTIVATION = one_of("relu", "tanh", "sigmoid", "gelu")
KERNEL = Rule(lambda size: 1 <= size <= MOST_KERNEL and size % 2 == 1, f"must be an odd number from 1 to {MOST_KERNEL}")


def _is_folder(path: str) -> bool:
    return path.strip() != "" and re.search(r"\$\{|[\0-\x1f\x7f\ud800-\udfff]", path) is None


# A ~ that is left stands for a home folder that does not exist: planning has expanded the others.
FOLDER = Rule(
    lambda path: _is_folder(path) and not path.startswith("~"),
    "must be the name of a folder, without ${ and control characters; ~ needs a home folder",
    is_folder=True,
)
# The default begins with ~, and not every data set needs it.
DATA_FOLDER = Rule(_is_folder, "must be the name of a folder, without ${ and control characters", is_folder=True)
SWEEP = Rule(lambda path: path is None or _is_folder(path), "must be a sweep's folder, latest or null", is_folder=True)


@dataclass
class DataConfig:
    """conf/data: which data set, how many examples at a time, and where they come from."""

    name: str = key()
    num_classes: int | None = key(or_null(whole_number(1)), Role.ORIGIN, default=10)
    batch_size: int = key(whole_number(1))
    num_workers: int = key(whole_number(0, MOST_THREADS), Role.TIMING)
    scale: str = key(one_of("unit", "standard", "raw"))
    root: str = key(DATA_FOLDER, Role.PLACE)
    mirrors: list[str] | None = key(role=Role.PLACE)
    timeout_seconds: float = key(POSITIVE, Role.PLACE)
    fallback: str | None = key(role=Role.PLACE)
    last: str = key(one_of("keep", "drop"), default="keep")
    micro_batch: int | None = key(or_null(whole_number(1)), default=None)


@dataclass
class OwnDataConfig(DataConfig):
    """Data of the user's."""

    target: str | None = key(TARGET)
    arguments: dict[str, Any] = field(default_factory=dict)
    test_fraction: float = key(FRACTION, default=0.2)


@dataclass
class ModelConfig:
    """conf/model: what every network has."""

    name: str = key()
    head: str = key(one_of("softmax", "logits"))
    num_classes: int | None = key(or_null(whole_number(1)))


@dataclass
class MLPConfig(ModelConfig):
    """What a multilayer perceptron has besides."""

    hidden_size: int = key(whole_number(1, MOST_UNITS))
    hidden_layers: int = key(whole_number(1, MOST_LAYERS))
    activation: str = key(ACTIVATION)


@dataclass
class CNNConfig(ModelConfig):
    """What a convolutional network has besides."""

    channels: list[int] = key(CHANNELS)
    kernel_size: int = key(KERNEL)
    hidden_size: int = key(whole_number(1, MOST_UNITS))
    activation: str = key(ACTIVATION)


@dataclass
class OwnModelConfig(ModelConfig):
    """A network of the user's."""

    target: str | None = key(TARGET)
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class OptimizerConfig:
    """conf/optimizer: what every optimizer has."""

    name: str = key()
    lr: float = key(POSITIVE)
    weight_decay: float = key(NOT_NEGATIVE)


@dataclass
class AdamConfig(OptimizerConfig):
    """What Adam and AdamW have besides."""

    betas: list[float] = key(BETAS)
    eps: float = key(POSITIVE)


@dataclass
class SGDConfig(OptimizerConfig):
    """What stochastic gradient descent has besides."""

    momentum: float = key(BELOW_ONE)
    nesterov: bool = key()


@dataclass
class RMSpropConfig(OptimizerConfig):
    """What RMSprop has besides."""

    alpha: float = key(BELOW_ONE)
    eps: float = key(POSITIVE)
    momentum: float = key(BELOW_ONE)


@dataclass
class MuonConfig(OptimizerConfig):
    """What Muon has besides: the momentum of its matrices, and what AdamW needs for the other parameters."""

    momentum: float = key(BELOW_ONE)
    betas: list[float] = key(BETAS)
    eps: float = key(POSITIVE)


@dataclass
class OwnOptimizerConfig(OptimizerConfig):
    """An optimizer of the user's, or of PyTorch's."""

    target: str | None = key(TARGET)
    arguments: dict[str, Any] = field(default_factory=dict)


# Any in place of float, because OmegaConf takes no whole number for a float so deep in a dictionary.
RATES = dict[str, dict[str, dict[str, Any]]]


@dataclass
class ScalingConfig:
    """conf/scaling: how an optimizer's numbers follow from the batch size.

    Runs that come to the same numbers count as one run, even if different rules produced them. `rates` has numbers in
    place of an optimizer's own: by its name, by the batch size as text, and by key.
    """

    rule: str | None = key(SCALING, Role.ORIGIN, default=None)
    reference_batch_size: int | None = key(or_null(whole_number(1)), Role.ORIGIN, default=None)
    reference_lr: float | None = key(or_null(POSITIVE), Role.ORIGIN, default=None)
    rates: RATES = field(default_factory=dict, metadata={"role": Role.ORIGIN})


@dataclass
class ScheduleConfig:
    """conf/schedule: how the learning rate and the batch size change during a run.

    `batch` is text: `{0:20,30000:100}` or `grow`. Any, because a user types a dictionary.
    """

    decay: str | None = key(or_null(one_of("linear", "cosine")), default=None)
    decay_examples: int | None = key(or_null(whole_number(1)), default=None)
    final: float = key(BELOW_ONE, default=0.0)
    warmup_examples: int = key(whole_number(0), default=0)
    batch: Any = key(BATCH, default=None)
    batch_lr: str | None = key(or_null(one_of(*RATE_RULES)), default=None)
    largest_batch: int | None = key(or_null(whole_number(1)), default=None)


@dataclass
class LossConfig:
    """conf/loss: what is minimized."""

    name: str = key(default="cross_entropy")


@dataclass
class CrossEntropyConfig(LossConfig):
    """The cross-entropy of classes."""

    label_smoothing: float = key(BELOW_ONE, default=0.0)
    class_weights: str | None = key(or_null(one_of("balanced")), default=None)


@dataclass
class OwnLossConfig(LossConfig):
    """A loss of the user's."""

    target: str | None = key(TARGET, default=None)
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class EngineConfig:
    """conf/engine: how an epoch is computed."""

    name: str = key()


@dataclass
class TrainerConfig:
    """conf/trainer: how long a run trains, and what is looked for."""

    num_epochs: int = key(whole_number(1), Role.GROWS)
    loss_threshold: float | None = key(or_null(FINITE))
    stop_at_threshold: bool = key()
    max_examples: int | None = key(or_null(whole_number(1)), default=None)


@dataclass
class TargetsConfig:
    """Thresholds to look for, of a loss or an error on the evaluation's training or test digits."""

    train_loss: list[float] = key(LOSSES)
    train_error: list[float] = key(ERRORS)
    test_loss: list[float] = key(LOSSES)
    test_error: list[float] = key(ERRORS)


@dataclass
class EvaluationConfig:
    """conf/evaluation: when a run is evaluated at frozen weights, on how many digits, and what for."""

    every_examples: int | None = key(or_null(whole_number(1)))
    per_doubling: float | None = key(PER_DOUBLING)
    train_samples: int | None = key(or_null(whole_number(2)))  # a variance needs two
    test_samples: int | None = key(or_null(whole_number(1)))
    noise_scale: bool = key()
    stop: bool = key()
    on_balance: float = key(Rule(lambda value: 0 <= value <= 5, "must be a number from 0 to 5"), default=0.0)
    targets: TargetsConfig = field(default_factory=TargetsConfig)


@dataclass
class Config:
    """Everything a run depends on, with every number resolved; `tracker` has the settings of each by its name."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    tracker: dict[str, Any] = field(default_factory=dict, metadata={"role": Role.COMMAND})
    command: str | None = key(COMMAND, default=None)
    seed: int = key(SEED)
    seeds: str | None = key(or_null(one_of(UNTIL_DECIDED)), Role.ORIGIN, default=None)
    max_seeds: int = key(whole_number(LEAST_SEEDS, MOST_SEEDS), Role.ORIGIN, default=24)
    device: str = key(DEVICE)
    num_threads: int | str = key(THREADS)
    deterministic: bool = key(default=False)
    outputs: str = key(FOLDER, Role.PLACE)
    resume: str | None = key(SWEEP, Role.COMMAND)
    dry_run: bool = key(role=Role.COMMAND)
    fail_fast: bool = key(role=Role.COMMAND)
    quiet: bool = key(role=Role.COMMAND, default=False)
    max_runs: int = key(whole_number(1), Role.COMMAND)
    retries: int = key(whole_number(0, 100), Role.COMMAND, default=3)


# The dataclass of a choice by the group's dataclass and the choice's `name`; a choice that is not here has the keys of
# its group alone.
CHOICES: dict[type, dict[str, type]] = {
    DataConfig: {"own": OwnDataConfig},
    ModelConfig: {"mlp": MLPConfig, "cnn": CNNConfig, "own": OwnModelConfig},
    LossConfig: {"cross_entropy": CrossEntropyConfig, "own": OwnLossConfig},
    OptimizerConfig: {
        "adam": AdamConfig,
        "adamw": AdamConfig,
        "sgd": SGDConfig,
        "rmsprop": RMSpropConfig,
        "muon": MuonConfig,
        "own": OwnOptimizerConfig,
    },
}


def kinds_of(group: type) -> list[type]:
    """Return a group's dataclass, and then the dataclass of every choice that has keys besides."""
    return list(dict.fromkeys([group, *CHOICES.get(group, {}).values()]))


@cache
def groups() -> dict[str, type]:
    """Return the dataclass of every group of keys, by the group's name."""
    hints: dict[str, type] = get_type_hints(Config)
    return {name: hint for name, hint in hints.items() if is_dataclass(hint)}


# The groups that may name code of the user's.
OWN_GROUPS = tuple(name for name, group in groups().items() if "own" in CHOICES.get(group, {}))


def config_from(content: dict[str, Any]) -> Config:
    """Build a `Config` from the nested dictionary that `dataclasses.asdict` makes of one.

    A group becomes the dataclass that `CHOICES` has for its `name`; keys with a default may be missing. Raises KeyError
    if another key is missing, TypeError if one is unknown.
    """
    return _built(Config, content)


def _built(kind: type, content: dict[str, Any]) -> Any:
    kind = CHOICES.get(kind, {}).get(content.get("name", ""), kind)
    hints = get_type_hints(kind)
    if missing := [each.name for each in fields(kind) if each.default in NO_DEFAULT and each.name not in content]:
        raise KeyError(", ".join(missing))
    return kind(
        **{
            name: _built(hints[name], value) if is_dataclass(hints.get(name)) else value
            for name, value in content.items()
        }
    )


def softmax_floor(num_classes: int) -> float:
    """Return the least cross-entropy of a softmax's output: -ln(e / (e + C - 1)), 1.4612 for C = 10 classes.

    Cross-entropy applies its own log-softmax; probabilities are at most 1 and at least 0, so the right class gets at
    most e / (e + C - 1) there.
    """
    return -math.log(math.e / (math.e + num_classes - 1))


def smoothed_floor(num_classes: int, smoothing: float) -> float:
    """Return the least cross-entropy of smoothed labels: their entropy, with s / C at each class and 1 - s besides."""
    others = smoothing / num_classes
    right = 1 - smoothing + others
    return -right * math.log(right) - (num_classes - 1) * others * math.log(others)
