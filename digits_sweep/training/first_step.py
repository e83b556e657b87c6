"""A network's first step, taken before anything is written, so that a mistake in it ends a command and no run.

Of a batch in parts whose gradients are added up (`data.micro_batch`), it tells if that is the whole batch, layer by
layer. It is if every layer makes of an example what it makes of it alone, and the loss of a batch is a mean over its
examples. BatchNorm is the usual exception. So a few examples are trained on as one batch and in uneven parts, and the
first layer that differs is named.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from digits_sweep.config.own_code import changes_taken_back, errors_as_a_line
from digits_sweep.config.scaling import sizes_of
from digits_sweep.config.schema import Config, OwnDataConfig, OwnLossConfig, OwnOptimizerConfig
from digits_sweep.data.digits import Digits, in_words, scale
from digits_sweep.data.loading import known_of, train_samples_of
from digits_sweep.errors import InvalidConfig, OwnCodeFailed
from digits_sweep.training.building import examples_of
from digits_sweep.training.evaluation import evaluate, evaluated
from digits_sweep.training.losses import Loss, build_loss, tensor_of
from digits_sweep.training.model import build_model
from digits_sweep.training.optimizers import build_optimizer
from digits_sweep.training.schedule import Schedule

# Examples that tell the loss of an untrained network, and numbers in them.
START_EXAMPLES, START_NUMBERS = 1_000, 2_000_000


def try_network(configs: Sequence[Config]) -> None:
    """Train a step of a network of the user's, at the smallest of the batch sizes that runs of `configs` have.

    They are alike but for these and their rates, and an optimizer of the user's takes the step. Of their last batches,
    which hold what is left of an epoch, the smallest is tried too, as far as it is known where a batch grows. Nothing
    of it stays. Raises `InvalidConfig` with one line if the network or its optimizer fails, or gives no score for every
    class, or only if the last batch of an epoch is too small for it, or if a batch in parts is not the whole batch.
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
    if part is not None:
        _refuse_other_gradients(configs[0])


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


# A batch in parts

# Parts of 3, 3 and 2 examples.
EXAMPLES, PART = 8, 3
# Far above what another order of a sum makes in float32, and far below what a statistic of the batch does.
TOLERANCE = 1e-3
SEED = 0


def _refuse_other_gradients(config: Config) -> None:
    """Refuse a configuration whose batch in parts gives other gradients than the whole one.

    Raises `InvalidConfig`, which names the layer, the loss or the parameter, and what the user's code raises.
    """
    images, labels = examples_of(config, EXAMPLES)
    # Examples must differ, also of data that are not loaded yet.
    if not isinstance(config.data, OwnDataConfig):
        random = torch.Generator().manual_seed(SEED)
        images = torch.randint(256, images.shape, generator=random).to(images.dtype)
        labels = torch.randint(config.model.num_classes or 2, labels.shape, generator=random).to(labels.dtype)
    loss = build_loss(config.loss, labels, config.model.num_classes)
    model = build_model(config.model, config.seed, *known_of(config.data))
    with torch.random.fork_rng(devices=[]):
        why = difference(model, scale(images, config.data.scale), labels, loss)
    if why:
        raise InvalidConfig(f"data.micro_batch={config.data.micro_batch}: {why}; leave it out")


def difference(model: nn.Module, images: Tensor, labels: Tensor, loss: Loss) -> str | None:
    """Say where a batch in uneven parts differs from the whole one, on the CPU; None if nowhere.

    `images` (n, ...) are as the network sees them, `labels` as the loss takes them. What dropout draws differs in
    parts, and is no other distribution, so it is left out. Another layer that draws random numbers ends the comparison.
    """
    for layer in model.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.eval()
    whole, again, parts = (_trained(model, images, labels, loss, *how) for how in HOW)
    for call, value in whole.items():
        if not _alike(value, again[call]):
            return None
        if not _alike(value, parts.get(call)):
            return call[0]
    return None


# What it means if it differs, and how often the layer was called before.
Call = tuple[str, int]
# The size of a part, and the seed of what layers draw.
HOW = ((EXAMPLES, SEED), (EXAMPLES, SEED + 1), (PART, SEED))


def _trained(model: nn.Module, images: Tensor, labels: Tensor, loss: Loss, size: int, seed: int) -> dict[Call, Tensor]:
    """Return what the layers make of examples, their loss and the gradients, by what it means if these differ."""
    torch.manual_seed(seed)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    made: dict[Call, list[Tensor]] = {}
    total = torch.zeros(())
    model.zero_grad()
    for some, answers in zip(images.split(size), labels.split(size), strict=True):
        with _taken_down(model) as of_part:
            part = loss.part(model(some), answers, labels)
        part.backward()
        total = total + part.detach()
        for call, value in of_part.items():
            made.setdefault(call, []).append(value)
    model.load_state_dict(state)
    found = {call: torch.cat(values) for call, values in made.items()}
    found["the loss of a batch is no mean over its examples", 0] = total
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[f"the gradient of {name} is another one in parts", 0] = parameter.grad.clone()
    return found


@contextmanager
def _taken_down(model: nn.Module) -> Iterator[dict[Call, Tensor]]:
    """Give what every innermost layer makes of a batch, each time, if it has the examples in its first dimension."""
    made: dict[Call, Tensor] = {}

    def note(what: str, inputs: Sequence[Any], outputs: Any) -> None:
        first = next((value for value in inputs if isinstance(value, Tensor)), None)
        if isinstance(outputs, Tensor) and first is not None and outputs.dim() and len(outputs) == len(first):
            made[what, sum(name == what for name, _ in made)] = outputs.detach().float()

    with ExitStack() as hooks:
        for name, layer in model.named_modules():
            if not list(layer.children()):
                what = f"what {name} ({type(layer).__name__}) makes of an example depends on the others of its batch"
                hook = layer.register_forward_hook(lambda _, inputs, outputs, what=what: note(what, inputs, outputs))
                hooks.callback(hook.remove)
        yield made


def _alike(one: Tensor, other: Tensor | None) -> bool:
    if other is None or one.shape != other.shape:
        return False
    most = one.abs().nan_to_num().max().item() if one.numel() else 0.0
    return torch.allclose(one, other, rtol=0.0, atol=TOLERANCE * max(most, 1e-6), equal_nan=True)
