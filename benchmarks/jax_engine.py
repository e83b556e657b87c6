"""The same training in JAX, as a peer to compare with: an epoch is one compiled scan, on all cores that it takes."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam

from digits_sweep.config.schema import AdamConfig, Config, OptimizerConfig
from digits_sweep.data.digits import Digits, scale
from digits_sweep.training.building import BuiltEngine, workload_of
from digits_sweep.training.engines.protocol import Engine, Workload, constant_rate_only, mlp_only, relu_only
from digits_sweep.training.epochs import Stopwatch
from digits_sweep.training.model import build_model
from digits_sweep.training.optimizers import build_optimizer, plain_kind

# On a machine with a GPU, JAX would compute on it otherwise, and take most of its memory at once.
jax.config.update("jax_platforms", "cpu")


def _written_for(workload: Workload) -> str | None:
    """Refuse what the functions below do not compute. AdamW is another step than Adam."""
    if mlp_only(workload) or relu_only(workload):
        return "it is written for model=mlp model.activation=relu"
    if plain_kind(workload.optimizer) is not Adam or workload.device.type != "cpu":
        return "it is written for Adam on the CPU"
    return None


class JaxEngine(Engine):
    """Forward, `jax.grad` and Adam in one `lax.scan` over the batches of an epoch."""

    automatic = False
    flushes_denormals = False
    limits = (_written_for, constant_rate_only)

    def __init__(self, workload: Workload) -> None:
        self.model = model = workload.mlp
        self.optimizer = build_optimizer(workload.optimizer, model.parameters(), fused=False)
        self.batch_size = workload.batch_size
        self.images = jnp.asarray(scale(workload.images, workload.scale).flatten(1).numpy())
        self.labels = jnp.asarray(workload.labels.numpy().astype(np.int32))
        parameters = [jnp.asarray(parameter.detach().numpy()) for parameter in model.parameters()]
        # An epoch reuses the memory of all three, so each moment needs zeros of its own.
        first_moments, second_moments = ([jnp.zeros_like(each) for each in parameters] for _ in range(2))
        self.state = (parameters, first_moments, second_moments, jnp.zeros((), jnp.float32))
        self.run = _compiled(workload.optimizer, isinstance(model.head, nn.Softmax))

    def train(self, order: Tensor, rates: Sequence[float] | None = None) -> Tensor:
        assert rates is None, "schedules are refused"
        whole = len(order) // self.batch_size * self.batch_size
        losses = []
        for part in (order[:whole].view(-1, self.batch_size), order[whole:].view(1, -1)):
            if part.numel():
                rows = jnp.asarray(part.numpy().astype(np.int32))
                self.state, of_part = self.run(self.state, rows, self.images, self.labels)
                losses.append(torch.from_numpy(np.asarray(of_part).copy()))
        return torch.cat(losses)


def _compiled(optimizer: OptimizerConfig, has_softmax: bool) -> Any:
    """Return the compiled epoch: (state, rows (batches, size), images, labels) to (state, losses (batches,))."""
    assert isinstance(optimizer, AdamConfig)
    lr, decay, eps, (beta1, beta2) = optimizer.lr, optimizer.weight_decay, optimizer.eps, optimizer.betas

    def loss_of(parameters: list[Any], images: Any, labels: Any) -> Any:
        values = images
        *hidden, (weight, bias) = zip(parameters[::2], parameters[1::2], strict=True)
        for hidden_weight, hidden_bias in hidden:
            values = jax.nn.relu(values @ hidden_weight.T + hidden_bias)
        scores = values @ weight.T + bias
        scores = jax.nn.softmax(scores) if has_softmax else scores
        return -jnp.take_along_axis(jax.nn.log_softmax(scores), labels[:, None], 1).mean()

    def iteration(state: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        """Step as Adam with L2 added to the gradient (Kingma and Ba 2015, algorithm 1), rounded as in PyTorch."""
        parameters, firsts, seconds, step = state
        step = step + 1
        loss, gradients = jax.value_and_grad(loss_of)(parameters, images, labels)
        gradients = jax.tree.map(lambda slope, value: slope + decay * value, gradients, parameters)
        firsts = jax.tree.map(lambda first, slope: beta1 * first + (1 - beta1) * slope, firsts, gradients)
        seconds = jax.tree.map(lambda second, slope: beta2 * second + (1 - beta2) * slope**2, seconds, gradients)

        def stepped(value: Any, first: Any, second: Any) -> Any:
            root = jnp.sqrt(second) / jnp.sqrt(1 - beta2**step) + eps
            return value - lr / (1 - beta1**step) * first / root

        return (jax.tree.map(stepped, parameters, firsts, seconds), firsts, seconds, step), loss

    def epoch(state: Any, rows: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        return jax.lax.scan(lambda carry, batch: iteration(carry, images[batch], labels[batch]), state, rows)

    return jax.jit(epoch, donate_argnums=0)


def build_jax(config: Config, digits: Digits) -> BuiltEngine:
    """Build the contestant. What it compiles, it compiles in its first epoch, which does not count."""
    device = torch.device("cpu")
    stopwatch = Stopwatch(device)
    with stopwatch.running():
        model = build_model(config.model, config.seed, image_shape=digits.image_shape)
        engine = JaxEngine(workload_of(config, digits.train_images, digits.train_labels, model, device))
    return BuiltEngine(engine, "jax", "a peer", device, os.cpu_count() or 1, stopwatch.seconds)
