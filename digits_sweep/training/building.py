"""From configuration and data to an engine that is ready for its first epoch."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from digits_sweep.config.schema import Config, OwnDataConfig
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import for_run, known_of, load, name_of
from digits_sweep.machine import usable_cores
from digits_sweep.training.device import gpus_here, resolve_device
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.engines.protocol import Engine, Workload
from digits_sweep.training.epochs import Stopwatch
from digits_sweep.training.losses import PLAIN, Loss, build_loss
from digits_sweep.training.model import build_model
from digits_sweep.training.optimizers import build_optimizer
from digits_sweep.training.trial import Option, fastest, options_for


@dataclass(frozen=True)
class BuiltEngine:
    """An engine, why it was chosen, what it computes on, the seconds it took to build, and the loss that it trains."""

    engine: Engine
    name: str
    reason: str
    device: torch.device
    num_threads: int
    seconds_setup: float
    loss: Loss = PLAIN
    deterministic: bool = False

    def configure_threads(self) -> bool:
        """Set this process to the engine's threads, algorithms and treatment of denormals; return if they are flushed.

        PyTorch keeps them for the calling thread or the process, so engines that take turns must each set them again.
        """
        torch.set_num_threads(self.num_threads)
        # Imports PyTorch's compiler, even to say no.
        if self.deterministic or torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(self.deterministic)
        return torch.set_flush_denormal(self.engine.flushes_denormals) and self.engine.flushes_denormals


def model_on_meta(config: Config) -> nn.Module:
    """Build the model of `config` with shapes but without numbers, to ask engines about it before data is loaded.

    A model that PyTorch's meta device cannot build, such as one that computes initial weights with NumPy, is built on
    the CPU. Raises `InvalidConfig` if it is not for images of the shape that the data set has.
    """
    known = known_of(config.data)
    try:
        with torch.device("meta"):
            return build_model(config.model, config.seed, *known)
    # A kind of error for every kind of network.
    except Exception:
        return build_model(config.model, config.seed, *known)


def options_here(config: Config, most_threads: int = 1) -> tuple[list[Option], str]:
    """Return the engines and numbers of threads that a run of `config` may get on this machine, without building them.

    It gets the first; if there are several, the fastest. The second text says why.

    Raises `EngineRefused` if the engine cannot train this model there, `DeviceUnavailable` if the device is missing,
    `InvalidConfig` if the user's own data, model or optimizer cannot be had.
    """
    device, model = resolve_device(config.device), model_on_meta(config)
    if config.optimizer.name == "own":
        build_optimizer(config.optimizer, model.parameters(), fused=False)
    images, labels = examples_of(config, 0)
    return options_for(config, workload_of(config, images, labels, model, device), most_threads)


def examples_of(config: Config, count: int) -> tuple[Tensor, Tensor]:
    """Return the first examples to train on, images and labels as in `Digits`; zeros of data that are not loaded."""
    if isinstance(config.data, OwnDataConfig):
        digits = for_run(load(config.data, name_of(config.data), lambda line: None), config)
        return digits.train_images[:count], digits.train_labels[:count]
    image_shape, images = known_of(config.data)
    kind = torch.int64 if config.loss.name in ("cross_entropy", "own") else torch.float32
    return torch.zeros(count, *image_shape, dtype=images), torch.zeros(count, dtype=kind)


def build_engine(config: Config, digits: Digits) -> BuiltEngine:
    """Choose and build the engine that `config` asks for; what is `auto` is tried if it is not known.

    At most as many threads are tried as this process has cores for. Raises `EngineRefused` if the engine cannot train
    this model there, `DeviceUnavailable` if the device is missing.
    """
    device = resolve_device(config.device)
    stopwatch = Stopwatch(device)
    if config.deterministic:
        # cuBLAS reads it when it is first used, and sums in the order of its streams otherwise.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with stopwatch.running():
        model = build_model(config.model, config.seed, digits.image_shape, digits.train_images.dtype)
        workload = workload_of(config, digits.train_images, digits.train_labels, model, device)
        options, reason = options_for(config, workload, usable_cores())
        option = options[0]
        if len(options) > 1:
            option, reason = fastest(config, digits, workload, options)
        if device.type == "cpu" and config.device == "auto" and (no_gpu := list(filter(None, gpus_here()))):
            reason = "; ".join([reason, "on the CPU", *no_gpu])
        engine = ENGINES[option.engine](workload)
    return BuiltEngine(
        engine, option.engine, reason, device, option.num_threads, stopwatch.seconds, workload.loss,
        config.deterministic,
    )  # fmt: skip


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
        loss=build_loss(config.loss, labels, config.model.num_classes),
        micro_batch=config.data.micro_batch,
    )
