"""From configuration and data to an engine that is ready for its first epoch."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from digits_sweep.config.schema import Config
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import images_of
from digits_sweep.errors import InvalidConfig
from digits_sweep.training.device import resolve_device, threads_for
from digits_sweep.training.engines import ENGINES, choose_engine
from digits_sweep.training.engines.protocol import Engine, Workload
from digits_sweep.training.model import build_model
from digits_sweep.training.optimizers import build_optimizer
from digits_sweep.training.stopwatch import Stopwatch


@dataclass(frozen=True)
class BuiltEngine:
    """An engine, why it was chosen, what it computes on, and the seconds it took to build."""

    engine: Engine
    name: str
    reason: str
    device: torch.device
    num_threads: int
    seconds_setup: float

    def configure_threads(self) -> bool:
        """Set this process to the engine's number of threads and treatment of denormals; return if they are flushed.

        PyTorch keeps both for the calling thread or the process, so engines that take turns must each set them again.
        """
        torch.set_num_threads(self.num_threads)
        return torch.set_flush_denormal(self.engine.flushes_denormals) and self.engine.flushes_denormals


def model_on_meta(config: Config) -> nn.Module:
    """Build the model of `config` with shapes but without numbers, to ask engines about it before data is loaded.

    A model that PyTorch's meta device cannot build, such as one that computes initial weights with NumPy, is built on
    the CPU. Raises `InvalidConfig` if it is not for images of the shape that the data set has.
    """
    image_shape, _ = images_of(config.data)
    try:
        with torch.device("meta"):
            return build_model(config.model, config.seed, image_shape)
    except (RuntimeError, TypeError, InvalidConfig):
        return build_model(config.model, config.seed, image_shape)


def engine_for(config: Config) -> tuple[str, str]:
    """Return the name of the engine that a run of `config` would get on this machine, and why, without building it.

    Raises `EngineRefused` if the engine cannot train this model there, `DeviceUnavailable` if the device is missing,
    `InvalidConfig` if the user's own data, model or optimizer cannot be had.
    """
    device, model = resolve_device(config.device), model_on_meta(config)
    if config.optimizer.name == "own":
        build_optimizer(config.optimizer, model.parameters(), fused=False)
    image_shape, is_float = images_of(config.data)
    images = torch.empty(0, *image_shape, dtype=torch.float32 if is_float else torch.uint8)
    labels = torch.empty(0, dtype=torch.int64)
    return choose_engine(config.engine.name, workload_of(config, images, labels, model, device))


def build_engine(config: Config, digits: Digits) -> BuiltEngine:
    """Choose and build the engine that `config` asks for.

    Raises `EngineRefused` if it cannot train this model there, `DeviceUnavailable` if the device is missing.
    """
    device = resolve_device(config.device)
    stopwatch = Stopwatch(device)
    with stopwatch.running():
        model = build_model(config.model, config.seed, digits.image_shape)
        workload = workload_of(config, digits.train_images, digits.train_labels, model, device)
        name, reason = choose_engine(config.engine.name, workload)
        engine = ENGINES[name](workload)
    return BuiltEngine(engine, name, reason, device, threads_for(config.num_threads), stopwatch.seconds)


def workload_of(config: Config, images: Tensor, labels: Tensor, model: nn.Module, device: torch.device) -> Workload:
    """Return what an engine is given to train `model` on `images` and `labels` as `config` says."""
    return Workload(
        images=images,
        labels=labels,
        scale=config.data.scale,
        model=model,
        optimizer=config.optimizer,
        batch_size=config.data.batch_size,
        device=device,
        num_workers=config.data.num_workers,
        schedule=config.schedule,
    )
