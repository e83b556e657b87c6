"""The structures in which the engine tells C what to compute, and where."""

from collections.abc import Sequence
from ctypes import Structure, byref, c_double, c_int64, c_void_p, cast, pointer
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from digits_sweep.config.schema import AdamConfig, OptimizerConfig
from digits_sweep.data.digits import scale
from digits_sweep.errors import EngineRefused
from digits_sweep.training.engines.closed_form import ClosedFormEngine
from digits_sweep.training.engines.compiler import find_compiler, load_library
from digits_sweep.training.engines.protocol import Workload
from digits_sweep.training.model import MLP
from digits_sweep.training.optimizers import build_optimizer


def integers(*names: str) -> list[tuple[str, Any]]:
    """Return fields of a C structure."""
    return [(name, c_int64) for name in names]


def pointers(*names: str) -> list[tuple[str, Any]]:
    """Return fields of a C structure."""
    return [(name, c_void_p) for name in names]


class Rows(Structure):
    """`struct rows` of layers.h."""

    _fields_ = (*pointers("at"), *integers("stride"))


class Layer(Structure):
    """`struct layer` of layers.h."""

    _fields_ = (
        *integers("inputs", "width", "height"),
        *pointers("weights", "transposed", "first", "second", "gradient"),
        ("values", Rows),
        ("delta", Rows),
    )


class Sparse(Structure):
    """`struct sparse` of pixels.h."""

    _fields_ = (*pointers("entries", "starts"), *integers("groups"))


class Lists(Structure):
    """`struct lists` of pixels.h."""

    _fields_ = (*pointers("entries", "ends"), *integers("room"))


class Task(Structure):
    """`struct task` of train.c."""

    _fields_ = (
        *pointers("images", "labels", "order", "levels", "losses", "shares"),
        *integers("count", "batch_size", "pixels", "hidden", "classes", "num_layers", "threads", "most"),
        *integers("squashes", "dense", "adam", "nesterov", "steps_done"),
        *((name, c_double) for name in ("rate", "beta1", "beta2", "epsilon", "decay", "shrinks")),
        *pointers("layers"),
        ("inputs", Rows * 2),
        ("sparse", Sparse),
        ("lists", Lists),
        *pointers("image_losses"),
        ("scratch", Rows),
    )


class PaddedParameters:
    """Move the weights and biases of `model` into one vector, `values`, that they become views of.

    A layer's block in it is (inputs + 1, width): the width is the number of outputs, and beyond the first layer the
    inputs are the number of inputs, both rounded up to a multiple of `lanes`. The last row is the bias; what is padding
    is 0 and stays 0.
    """

    def __init__(self, model: MLP, lanes: int) -> None:
        self.layers: list[nn.Linear] = [*model.hidden_layers, model.output]
        padded = [self.layers[0].in_features, *(-(-layer.out_features // lanes) * lanes for layer in self.layers)]
        self.shapes = [(inputs + 1, width) for inputs, width in pairwise(padded)]
        self.values = self.new_vector()
        for parameter, view in self.views_of(self.values).items():
            parameter.data = view.copy_(parameter.data)

    def new_vector(self) -> Tensor:
        """Return a vector of zeros with a place for every weight."""
        return torch.zeros(sum(rows * width for rows, width in self.shapes), dtype=torch.float32)

    def blocks_of(self, vector: Tensor) -> list[Tensor]:
        """Return every layer's part of `vector`, (inputs + 1, width), the one next to the images first."""
        parts = vector.split([rows * width for rows, width in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def views_of(self, vector: Tensor) -> dict[Tensor, Tensor]:
        """Return every parameter's part of `vector`, in the parameter's shape."""
        views: dict[Tensor, Tensor] = {}
        for layer, block in zip(self.layers, self.blocks_of(vector), strict=True):
            used = block[:, : layer.out_features]
            views |= {layer.weight: used[: layer.in_features].t(), layer.bias: used[-1]}
        return views


SOURCE = Path(__file__).parent / "train.c"
# The most images that are computed at a time, and the rows of weights: pixels.h has 7 bits for the number of one.
CHUNK = GROUP = 128
# Images trained on in one call, during which Python hears no Ctrl-C.
CALL = 10_000
# If more than this share of the pixels is not 0, it is faster to compute with all of them.
DENSE = 0.4
# Adam's squares are averaged as old + share * (new - old), which rounds well if the share is not large; and in the
# padding, 0 is divided by epsilon.
LEAST_BETA2, LEAST_EPS = 0.5, 1e-28


class NativeEngine:
    """Forward, backward and step in C, for ReLU networks on the CPU."""

    automatic: ClassVar[bool] = True
    flushes_denormals: ClassVar[bool] = True
    follows_schedules: ClassVar[bool] = True
    # It has a table of what each of the 256 levels of a pixel is to the network.
    reads_floats: ClassVar[bool] = False

    @staticmethod
    def refusal(model: nn.Module, optimizer: OptimizerConfig, device: torch.device, batch_size: int = 1) -> str | None:
        # The same networks and optimizers.
        if refusal := ClosedFormEngine.refusal(model, optimizer, device):
            return refusal
        if isinstance(optimizer, AdamConfig) and (optimizer.betas[1] < LEAST_BETA2 or optimizer.eps < LEAST_EPS):
            return f"it knows Adam from optimizer.betas=[..., {LEAST_BETA2}] and optimizer.eps={LEAST_EPS} up only"
        weight: Tensor = model.get_submodule("output").weight  # type: ignore[assignment]
        if weight.dtype is not torch.float32:
            return "it computes in float32 only"
        try:
            # While planning it is enough that there is a compiler: what it makes is known when a run starts.
            if weight.is_meta:
                find_compiler()
            else:
                load_library(SOURCE)
        except EngineRefused as refused:
            return str(refused)
        return None

    def __init__(self, workload: Workload) -> None:
        model = workload.model
        assert isinstance(model, MLP), "every other model is refused"
        _check(workload, model)
        self.library = load_library(SOURCE)
        self.lanes: int = self.library.lanes()
        self.model: nn.Module = model
        self.batch_size = workload.batch_size
        self.optimizer = build_optimizer(workload.optimizer, model.parameters(), fused=True)
        self.parameters = PaddedParameters(model, self.lanes)
        # Whatever the task below points to.
        self.kept: list[object] = []
        self.task = Task(
            batch_size=workload.batch_size,
            most=min(workload.batch_size, CHUNK),
            squashes=isinstance(model.head, nn.Softmax),
            classes=model.output.out_features,
        )
        self.steps_done = self._lay_out_optimizer(isinstance(workload.optimizer, AdamConfig))
        self._lay_out_images(workload)
        self._lay_out_layers()

    def train(self, order: Tensor, rates: Sequence[float] | None = None) -> Tensor:
        if order.dtype is not torch.int64:
            raise TypeError(f"order must be int64, not {order.dtype}")
        if len(order) and not 0 <= int(order.min()) <= int(order.max()) < self.num_images:
            raise IndexError(f"order must be from 0 to {self.num_images - 1}")
        losses = torch.empty(-(-len(order) // self.batch_size), dtype=torch.float32)
        shares = torch.ones(len(losses), dtype=torch.float64)
        if rates is not None:
            shares.copy_(torch.tensor(rates, dtype=torch.float64))
        calls = order.contiguous().split(max(1, CALL // self.batch_size) * self.batch_size)
        done = 0
        for part in calls:
            self._train(part, losses[done:], shares[done:])
            done += -(-len(part) // self.batch_size)
        return losses

    def _train(self, order: Tensor, losses: Tensor, shares: Tensor) -> None:
        task, (group,) = self.task, self.optimizer.param_groups
        task.order, task.count, task.losses = order.data_ptr(), len(order), losses.data_ptr()
        task.shares = shares.data_ptr()
        # More than this have nothing to do.
        task.threads = min(torch.get_num_threads(), task.hidden // self.lanes)
        decoupled = type(self.optimizer) is AdamW
        task.rate, task.decay = group["lr"], 0 if decoupled else group["weight_decay"]
        task.shrinks = group["weight_decay"] if decoupled else 0
        if task.adam:
            (task.beta1, task.beta2), task.epsilon = group["betas"], group["eps"]
            task.steps_done = int(self.steps_done)
            self.steps_done += -(-len(order) // self.batch_size)
        else:
            task.beta1, task.nesterov = group["momentum"], group["nesterov"]
        self.library.train(byref(task))

    def _kept(self, tensor: Tensor) -> int:
        self.kept.append(tensor)
        return tensor.data_ptr()

    def _rows(self, count: int, width: int, one_more: bool = False) -> tuple[Rows, Tensor]:
        """Return room for `count` rows of `width` floats and, if asked for, a 1 after them.

        The rows are an odd number of cache lines apart, so that a column of them spreads over the whole cache.
        """
        room = torch.zeros(count, (-(-(width + one_more) // 16) | 1) * 16, dtype=torch.float32)
        if one_more:
            room[:, width] = 1
        return Rows(self._kept(room), room.stride(0)), room[:, :width]

    def _lay_out_optimizer(self, adam: bool) -> Tensor:
        """Make the optimizer's state views of the vectors that C computes in; return its number of steps."""
        done, (first, second, gradient) = torch.zeros(()), (self.parameters.new_vector() for _ in range(3))
        self.vectors = {"weights": self.parameters.values, "first": first, "second": second, "gradient": gradient}
        self.task.adam = adam
        of_first, of_second = self.parameters.views_of(first), self.parameters.views_of(second)
        for parameter in self.model.parameters():
            if adam:
                moments = {"exp_avg": of_first[parameter], "exp_avg_sq": of_second[parameter]}
                self.optimizer.state[parameter] = {"step": done, **moments}
            elif self.optimizer.param_groups[0]["momentum"]:
                self.optimizer.state[parameter] = {"momentum_buffer": of_first[parameter]}
        return done

    def _lay_out_images(self, workload: Workload) -> None:
        task = self.task
        images, self.num_images = workload.images.flatten(1).contiguous(), len(workload.images)
        task.images, task.labels = self._kept(images), self._kept(workload.labels.contiguous())
        task.pixels = pixels = images.shape[1]
        # What each level of a pixel is to the network, and at last what the bias is multiplied by.
        levels = torch.ones(257, dtype=torch.float32)
        levels[:256] = scale(torch.arange(256, dtype=torch.uint8).view(256, 1, 1), workload.scale).flatten()
        task.levels = self._kept(levels)
        share = float(images[:1_000].count_nonzero()) / images[:1_000].numel()
        task.dense = bool(levels[0] != 0) or share > DENSE
        if task.dense:
            for side in range(2):
                task.inputs[side] = self._rows(task.most, pixels, one_more=True)[0]
        else:
            self._list_pixels(images)

    def _list_pixels(self, images: Tensor) -> None:
        """List the pixels of `images`, (n, pixels) uint8, that are not 0."""
        count, pixels = images.shape
        groups = pixels // GROUP + 1
        entries = torch.empty(int(images.count_nonzero()) + count, dtype=torch.int16)
        starts = torch.empty(count * groups + 1, dtype=torch.int64)
        sparse = self.task.sparse = Sparse(self._kept(entries), self._kept(starts), groups)
        self.library.list_pixels(sparse, c_void_p(images.data_ptr()), c_int64(count), c_int64(pixels))
        rows, room = pixels + 1, self.task.most
        of_chunk, ends = torch.empty(rows, room, dtype=torch.int16), torch.empty(rows, dtype=torch.int64)
        self.task.lists = Lists(self._kept(of_chunk), self._kept(ends), room)

    def _lay_out_layers(self) -> None:
        task, shapes = self.task, self.parameters.shapes
        task.hidden, task.num_layers = shapes[0][1], len(shapes)
        blocks = {name: self.parameters.blocks_of(vector) for name, vector in self.vectors.items()}
        layers = (Layer * len(shapes))()
        for number, (layer, (rows, width)) in enumerate(zip(layers, shapes, strict=True)):
            layer.inputs, layer.width = rows, width
            layer.delta, _ = self._rows(task.most, width)
            for name, of_layers in blocks.items():
                setattr(layer, name, of_layers[number].data_ptr())
            if number:
                layer.values, _ = self._rows(task.most, rows - 1, one_more=True)
                columns, _ = self._rows(width, rows)
                layer.transposed, layer.height = columns.at, columns.stride
        self.kept.append(layers)
        task.layers = cast(pointer(layers), c_void_p)
        task.image_losses = self._kept(torch.zeros(task.most, dtype=torch.float64))
        task.scratch, _ = self._rows(task.hidden // self.lanes, task.classes)


def _check(workload: Workload, model: MLP) -> None:
    """Raise TypeError, ValueError or IndexError if C would read outside of what `workload` holds."""
    images, labels, classes = workload.images, workload.labels, model.output.out_features
    if images.dtype is not torch.uint8 or labels.dtype is not torch.int64:
        raise TypeError(f"images must be uint8 and labels int64, not {images.dtype} and {labels.dtype}")
    if len(labels) != len(images) or images[0].numel() != model.hidden_layers[0].in_features:
        raise ValueError("every image must have a label, and as many pixels as the model has inputs")
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise IndexError(f"labels must be from 0 to {classes - 1}")
