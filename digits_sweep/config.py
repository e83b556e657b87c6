"""The schema behind `conf/`: one dataclass a group, and the rules that a value must keep.

The YAML files hold the values and their meaning; this file holds their types, their limits and the resolvers
that they use.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from digits_sweep.folders import run_folder

# Inside the package when it is installed from a wheel, beside it in a source tree.
CONF = next(
    folder for folder in (Path(__file__).parent / "conf", Path(__file__).parent.parent / "conf") if folder.is_dir()
)


@dataclass
class DataConfig:
    """conf/data: which digits, how many at a time, and where they come from."""

    name: str = MISSING
    batch_size: int = MISSING
    num_workers: int = MISSING
    scale: str = MISSING
    root: str = MISSING
    mirrors: list[str] = MISSING
    timeout_seconds: float = MISSING
    fallback: str | None = MISSING


@dataclass
class ModelConfig:
    """conf/model: the network."""

    name: str = MISSING
    hidden_size: int = MISSING
    hidden_layers: int = MISSING
    activation: str = MISSING
    head: str = MISSING
    num_classes: int = MISSING


@dataclass
class OptimizerConfig:
    """conf/optimizer: what every optimizer has."""

    name: str = MISSING
    lr: float = MISSING
    weight_decay: float = MISSING


@dataclass
class AdamConfig(OptimizerConfig):
    """What Adam has besides."""

    betas: list[float] = MISSING
    eps: float = MISSING


@dataclass
class SGDConfig(OptimizerConfig):
    """What stochastic gradient descent has besides."""

    momentum: float = MISSING
    nesterov: bool = MISSING


@dataclass
class EngineConfig:
    """conf/engine: how an epoch is computed."""

    name: str = MISSING


@dataclass
class TrainerConfig:
    """conf/trainer: how long, and what is looked for."""

    num_epochs: int = MISSING
    loss_threshold: float = MISSING
    stop_at_threshold: bool = MISSING


@dataclass
class Config:
    """Everything a run depends on, with every number resolved."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = MISSING
    device: str = MISSING
    num_threads: int | str = MISSING
    outputs: str = MISSING


class InvalidConfig(Exception):
    """A configuration that must not run. The text is one line a mistake: key, value and what would be right."""


@dataclass(frozen=True)
class Rule:
    """What a key's value must keep, and in words what would be right."""

    key: str
    holds: Callable[[Any], bool]
    right: str


def _one_of(key: str, *choices: str) -> Rule:
    return Rule(key, lambda value: value in choices, "choose " + " or ".join(choices))


def _whole_number_from(key: str, least: int) -> Rule:
    return Rule(key, lambda value: value >= least, f"must be a whole number from {least} up")


RULES = (
    _one_of("data.name", "mnist", "mnist_sample"),
    _whole_number_from("data.batch_size", 1),
    _whole_number_from("data.num_workers", 0),
    _one_of("data.scale", "unit", "standard", "raw"),
    Rule("data.timeout_seconds", lambda seconds: seconds > 0, "must be above 0 seconds"),
    Rule("data.fallback", lambda name: name in (None, "mnist_sample"), "must be mnist_sample or null"),
    _one_of("model.name", "mlp"),
    _whole_number_from("model.hidden_size", 1),
    _whole_number_from("model.hidden_layers", 1),
    _one_of("model.activation", "relu", "tanh", "sigmoid", "gelu"),
    _one_of("model.head", "softmax", "logits"),
    _whole_number_from("model.num_classes", 10),
    _one_of("optimizer.name", "adam", "sgd"),
    Rule("optimizer.lr", lambda rate: 0 < rate < float("inf"), "must be a number above 0"),
    Rule("optimizer.weight_decay", lambda rate: 0 <= rate < float("inf"), "must be 0 or a number above it"),
    Rule(
        "optimizer.betas",
        lambda betas: len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
        "must be two numbers from 0 up to, not including, 1",
    ),
    Rule("optimizer.eps", lambda eps: 0 < eps < float("inf"), "must be a number above 0"),
    Rule("optimizer.momentum", lambda momentum: 0 <= momentum < 1, "must be from 0 up to, not including, 1"),
    _one_of("engine.name", "auto", "lesson", "eager", "closed_form", "cuda_graph"),
    _whole_number_from("trainer.num_epochs", 1),
    Rule("trainer.loss_threshold", lambda loss: 0 < loss < float("inf"), "must be a number above 0"),
    Rule("seed", lambda seed: 0 <= seed < 2**63, "must be a whole number from 0 up to 2**63 - 1"),
    Rule(
        "device",
        lambda device: re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device) is not None,
        "choose auto, cpu, cuda, cuda:N or mps",
    ),
    Rule(
        "num_threads",
        lambda threads: threads == "auto" or (isinstance(threads, int) and threads >= 1),
        "must be auto or a whole number from 1 up",
    ),
    Rule("outputs", lambda folder: folder.strip() != "", "must be the name of a folder"),
)


def mistakes(config: Config) -> Iterator[str]:
    """One line for every value that breaks its rule, as `key=value: what would be right`."""
    for rule in RULES:
        group, _, name = rule.key.rpartition(".")
        holder = getattr(config, group) if group else config
        if hasattr(holder, name) and not rule.holds(getattr(holder, name)):
            yield f"{rule.key}={getattr(holder, name)}: {rule.right}"
    if isinstance(config.optimizer, SGDConfig) and config.optimizer.nesterov and config.optimizer.momentum == 0:
        yield "optimizer.nesterov=True: needs optimizer.momentum above 0"


def to_config(composed: DictConfig) -> Config:
    """Hydra's composed configuration as plain dataclasses, every interpolation resolved.

    Raises `InvalidConfig` where a value breaks a rule, and OmegaConf's own errors where one is missing.
    """
    config: Config = OmegaConf.to_object(composed)  # type: ignore[assignment]
    if found := list(mistakes(config)):
        raise InvalidConfig("\n".join(found))
    return config


def check_batch_size(config: Config, dataset: str, train_samples: int) -> None:
    """Raise `InvalidConfig` where a batch would be larger than the data set."""
    if config.data.batch_size > train_samples:
        raise InvalidConfig(
            f"data.batch_size={config.data.batch_size}: must be at most {train_samples}, "
            f"the number of digits to train on in {dataset}"
        )


def _by_batch_size(default: float, exceptions: DictConfig, *, _root_: DictConfig) -> float:
    """`${by_batch_size:1e-4,{5:1e-6}}`: the value that stands for this run's batch size, else the default."""
    return exceptions.get(_root_.data.batch_size, default)


def register() -> None:
    """Make the schema and the resolvers known to Hydra and OmegaConf. Called once, when this module is imported."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    groups = {
        "data": DataConfig,
        "model": ModelConfig,
        "adam": AdamConfig,
        "sgd": SGDConfig,
        "engine": EngineConfig,
        "trainer": TrainerConfig,
    }
    for name, node in groups.items():
        store.store(group="schema", name=name, node=node)
    OmegaConf.register_new_resolver("by_batch_size", _by_batch_size, replace=True)
    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)


register()
