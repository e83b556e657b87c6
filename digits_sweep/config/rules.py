"""What a value must keep besides its type, and in words what would be right."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from omegaconf import DictConfig, OmegaConf

from digits_sweep.config.schema import Config, SGDConfig


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
        "optimizer.reference_batch_size",
        lambda size: size is None or size >= 1,
        "must be a whole number from 1 up, or null",
    ),
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
    Rule("tracker.wandb.mode", lambda mode: mode in ("offline", "online"), "choose offline or online"),
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
    Rule(
        "outputs",
        lambda folder: folder.strip() != "" and not set(folder) & set("'\"\\$"),
        "must be the name of a folder, without quotes, backslashes and dollar signs",
    ),
    Rule("resume", lambda folder: folder is None or folder.strip() != "", "must be a sweep's folder, latest or null"),
)


def mistakes(config: Config) -> Iterator[str]:
    """One line for every value that breaks its rule, as `key=value: what would be right`."""
    for rule in RULES:
        group, _, name = rule.key.rpartition(".")
        holder = attrgetter(group)(config) if group else config
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
