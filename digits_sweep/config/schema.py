"""Every key of a run: its type, its rule and its role.

The YAML files in `conf/` hold the values and their meaning. A dataclass here is the node `schema/<name>` that a YAML
file names in its defaults list, its name in lower case without `Config`.
"""

from dataclasses import dataclass, field
from typing import Any

from digits_sweep.config.rules import (
    BELOW_ONE,
    BETAS,
    CHANNELS,
    DATA_FOLDER,
    DEVICE,
    ERRORS,
    FOLDER,
    KERNEL,
    LOSSES,
    MOST_LAYERS,
    MOST_THREADS,
    MOST_UNITS,
    NOT_NEGATIVE,
    PER_DOUBLING,
    POSITIVE,
    SEED,
    SWEEP,
    TARGET,
    THREADS,
    Role,
    key,
    one_of,
    or_null,
    whole_number,
)


@dataclass
class DataConfig:
    """conf/data: which data set, how many examples at a time, and where they come from."""

    name: str = key()
    num_classes: int = key(whole_number(2), Role.ORIGIN, default=10)
    batch_size: int = key(whole_number(1))
    num_workers: int = key(whole_number(0, MOST_THREADS), Role.TIMING)
    scale: str = key(one_of("unit", "standard", "raw"))
    root: str = key(DATA_FOLDER, Role.PLACE)
    mirrors: list[str] | None = key(role=Role.PLACE)
    timeout_seconds: float = key(POSITIVE, Role.PLACE)
    fallback: str | None = key(role=Role.PLACE)


@dataclass
class OwnDataConfig(DataConfig):
    """Data of the user's."""

    target: str | None = key(TARGET)
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class ModelConfig:
    """conf/model: what every network has."""

    name: str = key()
    head: str = key(one_of("softmax", "logits"))
    num_classes: int = key(whole_number(2))


@dataclass
class MLPConfig(ModelConfig):
    """What a multilayer perceptron has besides."""

    hidden_size: int = key(whole_number(1, MOST_UNITS))
    hidden_layers: int = key(whole_number(1, MOST_LAYERS))
    activation: str = key(one_of("relu", "tanh", "sigmoid", "gelu"))


@dataclass
class CNNConfig(ModelConfig):
    """What a convolutional network has besides."""

    channels: list[int] = key(CHANNELS)
    kernel_size: int = key(KERNEL)
    hidden_size: int = key(whole_number(1, MOST_UNITS))
    activation: str = key(one_of("relu", "tanh", "sigmoid", "gelu"))


@dataclass
class OwnModelConfig(ModelConfig):
    """A network of the user's."""

    target: str | None = key(TARGET)
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class OptimizerConfig:
    """conf/optimizer: what every optimizer has. Two runs whose numbers are the same are one, whatever their rule."""

    name: str = key()
    lr: float = key(POSITIVE)
    weight_decay: float = key(NOT_NEGATIVE)
    rule: str | None = key(role=Role.ORIGIN, default=None)
    reference_batch_size: int | None = key(or_null(whole_number(1)), Role.ORIGIN, default=None)
    reference_lr: float | None = key(or_null(POSITIVE), Role.ORIGIN, default=None)


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


@dataclass
class ScheduleConfig:
    """conf/schedule: how the learning rate changes during a run."""

    decay: str | None = key(or_null(one_of("linear", "cosine")), default=None)
    final: float = key(BELOW_ONE, default=0.0)
    warmup_examples: int = key(whole_number(0), default=0)


@dataclass
class EngineConfig:
    """conf/engine: how an epoch is computed."""

    name: str = key()


@dataclass
class TrainerConfig:
    """conf/trainer: how long a run trains, and what is looked for."""

    num_epochs: int = key(whole_number(1), Role.GROWS)
    loss_threshold: float = key(POSITIVE)
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
    targets: TargetsConfig = field(default_factory=TargetsConfig)


@dataclass
class Config:
    """Everything a run depends on, with every number resolved; `tracker` has the settings of each by its name."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    tracker: dict[str, Any] = field(default_factory=dict, metadata={"role": Role.COMMAND})
    seed: int = key(SEED)
    device: str = key(DEVICE)
    num_threads: int | str = key(THREADS)
    outputs: str = key(FOLDER, Role.PLACE)
    resume: str | None = key(SWEEP, Role.COMMAND)
    dry_run: bool = key(role=Role.COMMAND)
    fail_fast: bool = key(role=Role.COMMAND)
    quiet: bool = key(role=Role.COMMAND, default=False)
    max_runs: int = key(whole_number(1), Role.COMMAND)
