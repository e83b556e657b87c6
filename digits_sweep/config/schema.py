"""The schema behind `conf/`: one dataclass a group.

The YAML files hold the values and their meaning; this file holds their types and the resolvers that they use. What a
value must keep besides its type stands in `rules.py`.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from digits_sweep.config.compose import run_folder
from digits_sweep.config.scaling import FORMULAS

# Inside the package when it is installed from a wheel, beside it in a source tree.
CONF = next(
    folder for folder in (Path(__file__).parents[1] / "conf", Path(__file__).parents[2] / "conf") if folder.is_dir()
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
    reference_batch_size: int | None = None


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
class TensorBoardConfig:
    """conf/tracker/tensorboard.yaml."""

    folder: str = MISSING


@dataclass
class MLflowConfig:
    """conf/tracker/mlflow.yaml."""

    uri: str = MISSING
    experiment: str = MISSING
    artifacts: str = MISSING


@dataclass
class WandbConfig:
    """conf/tracker/wandb.yaml."""

    mode: str = MISSING
    project: str = MISSING
    folder: str = MISSING


@dataclass
class TrackerConfig:
    """conf/tracker: who else is told; None is not."""

    tensorboard: TensorBoardConfig | None = None
    mlflow: MLflowConfig | None = None
    wandb: WandbConfig | None = None


@dataclass
class Config:
    """Everything a run depends on, with every number resolved."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    seed: int = MISSING
    device: str = MISSING
    num_threads: int | str = MISSING
    outputs: str = MISSING
    resume: str | None = MISSING
    dry_run: bool = MISSING
    fail_fast: bool = MISSING


def _by_batch_size(default: float, exceptions: DictConfig, *, _root_: DictConfig) -> float:
    """`${by_batch_size:1e-4,{5:1e-6}}`: the value that stands for this run's batch size, else the default."""
    return exceptions.get(_root_.data.batch_size, default)


def _scaled(formula: str, value: float, *, _root_: DictConfig) -> float:
    """`${scaled:sqrt_lr,1e-4}`: the value as the formula of `scaling.py` has it for this run's batch size."""
    size, reference = _root_.data.batch_size, _root_.optimizer.reference_batch_size
    # Where there is nothing to scale by, the rules of `rules.py` find no number here, and say so.
    return FORMULAS[formula](value, size / reference) if size > 0 and reference else math.nan


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
    OmegaConf.register_new_resolver("scaled", _scaled, replace=True)
    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)


register()
