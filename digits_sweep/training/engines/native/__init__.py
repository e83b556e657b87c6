"""The engine in C: what is handed to `train.c`, which has the formula, and what keeps C within its memory."""

from collections.abc import Sequence
from ctypes import Structure, byref, c_double, c_int64, c_void_p, cast, pointer
from pathlib import Path
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from digits_sweep.config.schema import AdamConfig
from digits_sweep.data.digits import scale
from digits_sweep.errors import EngineRefused
from digits_sweep.training.engines.closed_form import ClosedFormEngine, FlatParameters
from digits_sweep.training.engines.compiler import find_compiler, load_library
from digits_sweep.training.engines.fused_steps import set_state
from digits_sweep.training.engines.protocol import Engine, Workload, float32_only, uint8_only


def fields(kind: Any, *names: str) -> list[tuple[str, Any]]:
    """Return fields of a C structure that are all of one kind."""
    return [(name, kind) for name in names]


class Rows(Structure):
    """`struct rows` of layers.h."""

    _fields_ = (("at", c_void_p), ("stride", c_int64))


class Layer(Structure):
    """`struct layer` of layers.h."""

    _fields_ = (
        *fields(c_int64, "inputs", "width", "height"),
        *fields(c_void_p, "weights", "transposed", "first", "second", "gradient"),
        *fields(Rows, "values", "delta"),
    )


class Sparse(Structure):
    """`struct sparse` of pixels.h."""

    _fields_ = (("entries", c_void_p), ("starts", c_void_p), ("groups", c_int64))


class Lists(Structure):
    """`struct lists` of pixels.h."""

    _fields_ = (("entries", c_void_p), ("ends", c_void_p), ("room", c_int64))


class Task(Structure):
    """`struct task` of train.c."""

    _fields_ = (
        *fields(c_void_p, "images", "labels", "order", "levels", "losses", "shares"),
        *fields(c_int64, "count", "batch_size", "pixels", "hidden", "classes", "num_layers", "threads", "most"),
        *fields(c_int64, "squashes", "dense", "adam", "nesterov", "steps_done"),
        *fields(c_double, "rate", "beta1", "beta2", "epsilon", "decay", "shrinks"),
        ("layers", c_void_p),
        ("inputs", Rows * 2),
        ("sparse", Sparse),
        ("lists", Lists),
        ("image_losses", c_void_p),
        ("scratch", Rows),
        ("outputs", c_void_p),
    )


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


def _rounds_well(workload: Workload) -> str | None:
    """Refuse an Adam whose moments C would round badly."""
    adam = workload.optimizer
    if isinstance(adam, AdamConfig) and (adam.betas[1] < LEAST_BETA2 or adam.eps < LEAST_EPS):
        return f"it knows Adam from optimizer.betas=[..., {LEAST_BETA2}] and optimizer.eps={LEAST_EPS} up only"
    return None


def _compiles(workload: Workload) -> str | None:
    """Refuse a machine that cannot compile C; while planning, one without a compiler: what it makes is known later."""
    try:
        if workload.mlp.output.weight.is_meta:
            find_compiler()
        else:
            load_library(SOURCE)
    except EngineRefused as refused:
        return str(refused)
    return None


class NativeEngine(Engine):
    """Forward, backward and step in C, for ReLU networks on the CPU."""

    # It has a table of what each of the 256 levels of a pixel is to the network.
    limits = (uint8_only, *ClosedFormEngine.limits, _rounds_well, float32_only, _compiles)

    def __init__(self, workload: Workload) -> None:
        _check(workload)
        super().__init__(workload)
        self.library = load_library(SOURCE)
        self.lanes: int = self.library.lanes()
        self.parameters = FlatParameters(workload.mlp, self.lanes, output_by_columns=False)
        self.memory = Memory()
        self.task = Task(
            squashes=isinstance(workload.mlp.head, nn.Softmax),
            classes=workload.mlp.output.out_features,
            adam=isinstance(workload.optimizer, AdamConfig),
        )
        self._lay_out_images(workload)
        self._lay_out_layers()
        self.resize(workload.batch_size, self.num_images)
        self.forward: _Forward | None = None

    def resize(self, batch_size: int, num_samples: int) -> None:
        self.batch_size = self.task.batch_size = batch_size
        if (most := min(batch_size, CHUNK)) != self.task.most:
            self.room = Memory()
            self.room.lay_out(self.task, self.layers, most)

    def train(self, order: Tensor, rates: Sequence[float] | None = None) -> Tensor:
        _check_order(order, self.num_images)
        losses = torch.empty(-(-len(order) // self.batch_size), dtype=torch.float32)
        shares = torch.ones(len(losses), dtype=torch.float64)
        if rates is not None:
            shares.copy_(torch.tensor(rates, dtype=torch.float64))
        steps = max(1, CALL // self.batch_size)
        parts = order.contiguous().split(steps * self.batch_size), losses.split(steps), shares.split(steps)
        for part in zip(*parts, strict=True):
            self._train(*part)
        return losses

    def _train(self, order: Tensor, losses: Tensor, shares: Tensor) -> None:
        task, (group,) = self.task, self.optimizer.param_groups
        task.order, task.count, task.losses = order.data_ptr(), len(order), losses.data_ptr()
        task.shares = shares.data_ptr()
        task.threads = _threads(task, self.lanes)
        decoupled = type(self.optimizer) is AdamW
        task.rate, task.decay = group["lr"], 0 if decoupled else group["weight_decay"]
        task.shrinks = group["weight_decay"] if decoupled else 0
        if task.adam:
            (task.beta1, task.beta2), task.epsilon = group["betas"], group["eps"]
            task.steps_done = int(self.steps_done)
            self.steps_done += len(losses)
        else:
            task.beta1, task.nesterov = group["momentum"], group["nesterov"]
        self.library.train(byref(task))

    def outputs(self, images: Tensor, chosen: Tensor) -> Tensor | None:
        if self.task.dense or images.dtype is not torch.uint8:
            return None
        self.forward = self.forward or _Forward(self.task, self.layers)
        return self.forward.outputs(self.library, images, chosen)

    def _lay_out_images(self, workload: Workload) -> None:
        task = self.task
        images, self.num_images = workload.images.flatten(1).contiguous(), len(workload.images)
        task.images, task.labels = self.memory.address(images), self.memory.address(workload.labels.contiguous())
        task.pixels = images.shape[1]
        # What each level of a pixel is to the network, and at last what the bias is multiplied by.
        levels = torch.ones(257, dtype=torch.float32)
        levels[:256] = scale(torch.arange(256, dtype=torch.uint8).view(256, 1, 1), workload.scale).flatten()
        task.levels = self.memory.address(levels)
        share = float(images[:1_000].count_nonzero()) / images[:1_000].numel()
        task.dense = bool(levels[0] != 0) or share > DENSE
        if not task.dense:
            self.listed = listed(self.library, workload.images)
            task.sparse = self.listed.sparse

    def _lay_out_layers(self) -> None:
        """Let C compute in the model's weights and the optimizer's state."""
        task, flat, self.steps_done = self.task, self.parameters, torch.zeros(())
        first, second = flat.new_vector(), flat.new_vector()
        set_state(self.optimizer, map(flat.views_of, (first, second)), self.steps_done)
        self.vectors = {"weights": flat.values, "first": first, "second": second, "gradient": flat.gradients}
        blocks = {name: flat.blocks_of(vector) for name, vector in self.vectors.items()}
        task.hidden, task.num_layers = flat.shapes[0][1], len(flat.shapes)
        layers = (Layer * len(flat.shapes))()
        for number, (layer, (rows, width)) in enumerate(zip(layers, flat.shapes, strict=True)):
            layer.inputs, layer.width = rows, width
            for name, of_layers in blocks.items():
                setattr(layer, name, of_layers[number].data_ptr())
            if number:
                columns = self.memory.rows(width, rows)
                layer.transposed, layer.height = columns.at, columns.stride
        self.layers = layers
        task.layers = cast(pointer(layers), c_void_p)
        task.scratch = self.memory.rows(task.hidden // self.lanes, task.classes)


class _Forward:
    """What comes out of a network that is being trained: a task of its own on the same weights."""

    def __init__(self, task: Task, layers: Any) -> None:
        self.task, self.layers, self.room = Task.from_buffer_copy(task), type(layers).from_buffer_copy(layers), Memory()
        self.task.layers = cast(pointer(self.layers), c_void_p)
        self.task.batch_size = CHUNK
        self.room.lay_out(self.task, self.layers, CHUNK)

    def outputs(self, library: Any, images: Tensor, chosen: Tensor) -> Tensor:
        task, order, pixels = self.task, chosen.contiguous(), listed(library, images)
        if images[0].numel() != task.pixels:
            raise ValueError(f"an image must have {task.pixels} pixels, not {images[0].numel()}")
        _check_order(order, len(images))
        outputs = torch.empty(len(order), task.classes, dtype=torch.float32)
        task.order, task.count, task.outputs = order.data_ptr(), len(order), outputs.data_ptr()
        task.sparse = pixels.sparse
        task.threads = _threads(task, library.lanes())
        library.predict(byref(task))
        return outputs


class Memory:
    """Tensors that C reads and writes, which lie where they are as long as this does."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []

    def address(self, tensor: Tensor) -> int:
        """Return where `tensor` lies, and keep it there."""
        self.tensors.append(tensor)
        return tensor.data_ptr()

    def rows(self, count: int, width: int, one_more: bool = False) -> Rows:
        """Return room for `count` rows of `width` floats and, with `one_more`, a 1 after them.

        The rows are an odd number of cache lines apart, so that a column of them spreads over the whole cache.
        """
        room = torch.zeros(count, (-(-(width + one_more) // 16) | 1) * 16, dtype=torch.float32)
        if one_more:
            room[:, width] = 1
        return Rows(self.address(room), room.stride(0))

    def lay_out(self, task: Task, layers: Any, most: int) -> None:
        """Let `task` and its `layers` point to room for what is computed of `most` images at a time."""
        task.most = most
        if task.dense:
            for side in range(2):
                task.inputs[side] = self.rows(most, task.pixels, one_more=True)
        else:
            rows = task.pixels + 1
            of_chunk, ends = torch.empty(rows, most, dtype=torch.int16), torch.empty(rows, dtype=torch.int64)
            task.lists = Lists(self.address(of_chunk), self.address(ends), most)
        for number, layer in enumerate(layers):
            layer.delta = self.rows(most, layer.width)
            if number:
                layer.values = self.rows(most, layer.inputs - 1, one_more=True)
        task.image_losses = self.address(torch.zeros(most, dtype=torch.float64))


class ListedPixels:
    """The pixels that are not 0 of `images`, (n, ...) uint8: `struct sparse` of pixels.h."""

    def __init__(self, library: Any, images: Tensor) -> None:
        flat = images.flatten(1).contiguous()
        count, pixels = flat.shape
        groups = pixels // GROUP + 1
        self.entries = torch.empty(int(flat.count_nonzero()) + count, dtype=torch.int16)
        self.starts = torch.empty(count * groups + 1, dtype=torch.int64)
        self.sparse = Sparse(self.entries.data_ptr(), self.starts.data_ptr(), groups)
        library.list_pixels(self.sparse, c_void_p(flat.data_ptr()), c_int64(count), c_int64(pixels))
        self._images, self._version = ref(images), images._version

    def is_of(self, images: Tensor) -> bool:
        """Return whether these are the pixels of this very tensor, and nothing has been written into it since."""
        return self._images() is images and self._version == images._version


def listed(library: Any, images: Tensor) -> ListedPixels:
    """Return the listed pixels of `images`: those of before if they are among the last that were listed."""
    for pixels in _last_listed:
        if pixels.is_of(images):
            return pixels
    _last_listed[:] = [*_last_listed[-1:], pixels := ListedPixels(library, images)]
    return pixels


# The images that a run trains on and those that test it: the runs of a process mostly have the same ones.
_last_listed: list[ListedPixels] = []


def _check(workload: Workload) -> None:
    """Raise TypeError, ValueError or IndexError if C would read outside of what `workload` holds."""
    images, labels, model = workload.images, workload.labels, workload.mlp
    if images.dtype is not torch.uint8 or labels.dtype is not torch.int64:
        raise TypeError(f"images must be uint8 and labels int64, not {images.dtype} and {labels.dtype}")
    if len(labels) != len(images) or images[0].numel() != model.hidden_layers[0].in_features:
        raise ValueError("every image must have a label, and as many pixels as the model has inputs")
    if not 0 <= int(labels.min()) <= int(labels.max()) < model.output.out_features:
        raise IndexError(f"labels must be from 0 to {model.output.out_features - 1}")


def _threads(task: Task, lanes: int) -> int:
    # Each has a vector of hidden units or more: others would have nothing to do.
    return min(torch.get_num_threads(), task.hidden // lanes)


def _check_order(order: Tensor, num_images: int) -> None:
    """Raise TypeError or IndexError if C would read images that are not there."""
    if order.dtype is not torch.int64:
        raise TypeError(f"order must be int64, not {order.dtype}")
    if len(order) and not 0 <= int(order.min()) <= int(order.max()) < num_images:
        raise IndexError(f"order must be from 0 to {num_images - 1}")
