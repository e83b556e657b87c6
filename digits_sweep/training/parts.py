"""A batch in parts whose gradients are added up (`data.micro_batch`): is it the whole batch, layer by layer?

It is if every layer makes of an example what it makes of it alone, and the loss of a batch is a mean over its examples.
BatchNorm is the usual exception. So a few examples are trained on as one batch and in uneven parts, and the first layer
that differs is named.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from digits_sweep.config.schema import Config, OwnDataConfig
from digits_sweep.data.digits import scale
from digits_sweep.data.loading import known_of
from digits_sweep.errors import InvalidConfig
from digits_sweep.training.building import examples_of
from digits_sweep.training.losses import Loss, build_loss
from digits_sweep.training.model import build_model

# Parts of 3, 3 and 2 examples.
EXAMPLES, PART = 8, 3
# Far above what another order of a sum makes in float32, and far below what a statistic of the batch does.
TOLERANCE = 1e-3
SEED = 0


def refuse_other_gradients(config: Config) -> None:
    """Refuse a configuration whose batch in parts gives other gradients than the whole one.

    Nothing of the trial stays. Raises `InvalidConfig`, which names the layer, the loss or the parameter, and what the
    user's code raises.
    """
    images, labels = _examples(config)
    loss = build_loss(config.loss, labels, config.model.num_classes)
    model = build_model(config.model, config.seed, *known_of(config.data))
    with torch.random.fork_rng(devices=[]):
        why = difference(model, scale(images, config.data.scale), labels, loss)
    if why:
        raise InvalidConfig(f"data.micro_batch={config.data.micro_batch}: {why}; leave it out")


def _examples(config: Config) -> tuple[Tensor, Tensor]:
    """Return examples that differ, also of data that are not loaded yet."""
    images, labels = examples_of(config, EXAMPLES)
    if isinstance(config.data, OwnDataConfig):
        return images, labels
    random = torch.Generator().manual_seed(SEED)
    images = torch.randint(256, images.shape, generator=random).to(images.dtype)
    return images, torch.randint(config.model.num_classes or 2, labels.shape, generator=random).to(labels.dtype)


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
