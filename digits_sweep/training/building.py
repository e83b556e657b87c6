"""From configuration and data to an engine that is ready for its first epoch."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from digits_sweep.config.own_code import changes_taken_back, errors_as_a_line
from digits_sweep.config.scaling import sizes_of
from digits_sweep.config.schema import Config, OwnDataConfig, OwnLossConfig, OwnOptimizerConfig
from digits_sweep.data.digits import Digits, in_words, scale
from digits_sweep.data.loading import for_run, known_of, load, name_of, train_samples_of
from digits_sweep.errors import InvalidConfig, OwnCodeFailed
from digits_sweep.machine import usable_cores
from digits_sweep.training.device import gpus_here, resolve_device
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.engines.protocol import Engine, Workload
from digits_sweep.training.epochs import Stopwatch
from digits_sweep.training.evaluation import evaluate, evaluated
from digits_sweep.training.losses import PLAIN, Loss, build_loss, tensor_of
from digits_sweep.training.model import build_model
from digits_sweep.training.optimizers import build_optimizer
from digits_sweep.training.schedule import Schedule
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


def try_network(configs: Sequence[Config]) -> None:
    """Train a step of a network of the user's, at the smallest of the batch sizes that runs of `configs` have.

    They are alike but for these and their rates, and an optimizer of the user's takes the step. Of their last batches,
    which hold what is left of an epoch, the smallest is tried too, as far as it is known where a batch grows. Nothing
    of it stays. Raises `InvalidConfig` with one line if the network or its optimizer fails, or gives no score for every
    class, or only if the last batch of an epoch is too small for it.
    """
    count, part = train_samples_of(configs[0].data), configs[0].data.micro_batch
    sizes = [size for config in configs for _, size in sizes_of(config)]
    smallest = min(sizes if part is None else [*sizes, part])
    _try_optimizer(configs[0], _gradients(configs[0], smallest))
    keeping = [config for config in configs if count and config.data.last == "keep"]
    rests = {rest: config for config in keeping for rest in _last_batches(config, count or 0)}
    if rests and (rest := min(rests)) < smallest:
        config = rests[rest]
        key, right = f"data.batch_size={config.data.batch_size}", "data.last=drop leaves it out"
        if config.schedule.batch is not None:
            key, right = f"schedule.batch={config.schedule.batch}", "choose other sizes or examples"
        try:
            _gradients(config, rest)
        except OwnCodeFailed as failed:
            has = f"the last batch of an epoch has {rest} of {count:,} examples"
            why = f"{str(failed.__cause__).strip().splitlines()[0]}; {right}"
            raise InvalidConfig(f"{key}: {has}, on which the network fails: {why}") from failed


def _last_batches(config: Config, count: int) -> set[int]:
    """Return how many examples the last batches of a run's epochs have, of batches in parts the last of these.

    A batch that follows its noise is taken to stay at its first size.
    """
    (_, first), *growth = sizes_of(config)
    schedule = Schedule(count, first, growth=tuple(growth))
    # From the epoch after that of the last change on, all are alike.
    epochs = min(config.trainer.num_epochs, growth[-1][0] // count + 2 if growth else 1)
    ends = [schedule.iteration_at(epoch * count) for epoch in range(1, epochs + 1)]
    part = config.data.micro_batch or count
    return {(size - 1) % part + 1 for end in ends for size in schedule.sizes(end - 1, end)}


def _gradients(config: Config, size: int) -> nn.Module:
    """Return the network of `config` with the gradients of a batch of so many examples."""
    images, labels = examples_of(config, size)
    model = build_model(config.model, config.seed, *known_of(config.data))
    loss = build_loss(config.loss, labels, config.model.num_classes)
    network = ("model", str(getattr(config.model, "target", None)))
    criterion = ("loss", str(config.loss.target)) if isinstance(config.loss, OwnLossConfig) else network
    what = f"fails when it is trained on {size} examples"
    with torch.random.fork_rng(devices=[]), changes_taken_back("{}.target={}".format(*network)):
        with errors_as_a_line(*network, what):
            outputs = tensor_of(model(scale(images, config.data.scale)))
            _check_scores(config, outputs, labels)
        with errors_as_a_line(*criterion, what):
            loss(outputs, labels).backward()
    return model


def _try_optimizer(config: Config, model: nn.Module) -> None:
    """Step once with an optimizer of the user's, by the gradients that `model` has.

    Raises `InvalidConfig` with one line if that fails, or if a gradient is sparse and the optimizer is another one.
    """
    name = config.optimizer.name
    if isinstance(config.optimizer, OwnOptimizerConfig):
        target = str(config.optimizer.target)
        taken_back = changes_taken_back(f"optimizer.target={target}")
        tried = errors_as_a_line("optimizer", target, "fails at its first step")
        with torch.random.fork_rng(devices=[]), taken_back, tried:
            build_optimizer(config.optimizer, model.parameters(), fused=False).step()
    elif sparse := [key for key, each in model.named_parameters() if each.grad is not None and each.grad.is_sparse]:
        raise InvalidConfig(f"optimizer={name}: takes no sparse gradient, as {sparse[0]} has; leave out sparse=True")


def _check_scores(config: Config, outputs: Tensor, labels: Tensor) -> None:
    """Raise `InvalidConfig` unless there is a score for every class, or a number for every number of a label."""
    classes, size = config.model.num_classes, len(labels)
    is_rows = config.loss.name == "cross_entropy" and (labels.dim() == 1 or labels.is_floating_point())
    if is_rows and outputs.shape != (size, classes):
        right = f"gives {in_words(outputs.shape)} scores for {size} images, must be {size} x {classes}"
        raise InvalidConfig(f"model.target={getattr(config.model, 'target', None)}: {right}")


# Examples that tell the loss of an untrained network, and numbers in them.
START_EXAMPLES, START_NUMBERS = 1_000, 2_000_000


def loss_at_start(config: Config, digits: Digits) -> float:
    """Return the mean loss of the untrained network of a run on some of its training examples, on the CPU.

    `digits` have their labels as the loss takes them. Raises `InvalidConfig` if the network fails on them.
    """
    most = max(1, min(START_EXAMPLES, START_NUMBERS // digits.train_images[0].numel()))
    some = evaluated(len(digits.train_images), most)
    model = build_model(config.model, config.seed, digits.image_shape, digits.train_images.dtype)
    loss = build_loss(config.loss, digits.train_labels, config.model.num_classes)
    target = str(getattr(config.model, "target", config.model.name))
    with errors_as_a_line("model", target, "fails when it is evaluated"):
        return evaluate(model, digits.train_images[some], digits.train_labels[some], config.data.scale, loss).loss
