"""The engine in one CUDA kernel: how a network lies on the chip, and what is handed to `epoch.cu`."""

import ctypes
from collections.abc import Callable, Sequence
from ctypes import Structure, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_void_p
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from digits_sweep.config.schema import AdamConfig
from digits_sweep.data.digits import scale
from digits_sweep.errors import EngineRefused
from digits_sweep.training.engines.fused_steps import set_state
from digits_sweep.training.engines.protocol import (
    Engine,
    Only,
    Workload,
    cuda_only,
    float32_only,
    mlp_only,
    one_batch_size_only,
    plain_loss_only,
    plain_steps_only,
    relu_only,
)
from digits_sweep.training.model import MLP

SOURCE = Path(__file__).parent / "epoch.cu"
# In the padding of weights, 0 is divided by epsilon over the rate, which must not be 0 in float32.
LEAST_EPS, LEAST_RATE = 1e-28, 1e-30
# Images converted at a time.
PORTION = 5_000
# Of 256, 416 and 512, these were the fastest on an H100, by a twentieth at batch size 5 and a seventh at 20.
THREADS = 416
# A class is computed by a lane of a warp.
MOST_CLASSES = 32
# A warp sums up the inputs of an image's units at once.
MOST_UNITS = 32
# Registers of a thread, of some 150, that weights and moments may take.
MOST_REGISTERS = 100
# Copies from memory to a block's shared memory, past the registers, came with these GPUs.
LEAST_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Layout:
    """An MLP with two hidden layers, a batch, and a GPU; `epoch.cu` computes the same sizes from `options`."""

    batch_size: int
    pixels: int
    hidden: int
    classes: int
    squashes: bool
    capability: tuple[int, int]
    multiprocessors: int
    most_shared: int

    @classmethod
    def of(cls, model: MLP, batch_size: int, device: torch.device) -> "Layout":
        """Lay out `model`, which may lie on the meta device, for `device`."""
        gpu = torch.cuda.get_device_properties(device)
        return cls(
            batch_size=batch_size,
            pixels=model.hidden_layers[0].in_features,
            hidden=model.output.in_features,
            classes=model.output.out_features,
            squashes=isinstance(model.head, nn.Softmax),
            capability=(gpu.major, gpu.minor),
            multiprocessors=gpu.multi_processor_count,
            most_shared=gpu.shared_memory_per_block_optin,
        )

    @property
    def units(self) -> int:
        """The units of each hidden layer that a block has: a power of two, so that every block can run at once."""
        units = 1
        while -(-self.hidden // units) > self.multiprocessors:
            units *= 2
        return units

    @property
    def blocks(self) -> int:
        """The number of blocks, all of which must run at once, each on a multiprocessor of its own."""
        return -(-self.hidden // self.units)

    @property
    def row(self) -> int:
        """The floats of an image's row: its pixels, a 1, and zeros up to a multiple of 16 bytes."""
        return (self.pixels + 4) // 4 * 4

    @property
    def wide(self) -> int:
        """The units of a hidden layer, up to a multiple of four for every lane of a warp."""
        return (self.hidden + 127) // 128 * 128

    @property
    def shared_bytes(self) -> int:
        """The size of `Shared` in memory.cuh."""
        units, long = self.units, self.wide + 4
        of_an_image = 2 * self.row + 2 * long + self.wide + (self.classes + 3) // 4 * 4 + units
        of_an_image += THREADS // 32 * units + 1
        weights = units * (long + self.wide) + self.classes * long
        return 4 * (self.batch_size * of_an_image + weights)

    @property
    def registers(self) -> int:
        """The registers of a thread that hold weights and moments."""
        long, fours = self.wide + 4, -(-self.row // (4 * THREADS))
        elements = (self.units * long, self.units * self.wide, self.classes * long)
        return 12 * self.units * fours + 2 * sum(-(-count // THREADS) for count in elements)

    @property
    def options(self) -> tuple[str, ...]:
        """What `epoch.cu` is compiled with."""
        defined = {
            "BATCH": self.batch_size,
            "INPUTS": self.pixels,
            "HIDDEN": self.hidden,
            "CLASSES": self.classes,
            "UNITS": self.units,
            "THREADS": THREADS,
            "SQUASHES": int(self.squashes),
            "SHARED_BYTES": self.shared_bytes,
        }
        return tuple(f"-D{name}={value}" for name, value in defined.items())

    def refusal(self) -> str | None:
        """Return why it cannot be trained so, or None."""
        if self.capability < LEAST_CAPABILITY:
            return f"it needs an NVIDIA GPU of compute capability {'.'.join(map(str, LEAST_CAPABILITY))} or later"
        if self.classes > MOST_CLASSES:
            return f"it knows up to {MOST_CLASSES} classes only"
        if self.units > MOST_UNITS or self.registers > MOST_REGISTERS:
            return "the weights do not fit on the chip"
        if self.shared_bytes > self.most_shared:
            return f"a batch of {self.batch_size} does not fit on the chip"
        return None


class Layer(Structure):
    """`Layer` in memory.cuh."""

    _fields_ = [
        (name, c_void_p) for name in ("weight", "bias", "weight_mean", "bias_mean", "weight_square", "bias_square")
    ]


class Task(Structure):
    """`Task` in memory.cuh."""

    _fields_ = [
        ("layers", Layer * 3),
        *((name, c_void_p) for name in ("images", "labels", "order", "rates", "losses", "sent")),
        ("count", c_int),
        *((name, c_float) for name in ("decay", "one_minus_beta1", "beta2", "one_minus_beta2")),
    ]


_two_layers_only = Only(
    lambda workload: len(workload.mlp.hidden_layers) == 2, "it knows the gradient of model.hidden_layers=2 only"
)
_divides_well = Only(
    lambda workload: cast(AdamConfig, workload.optimizer).eps >= LEAST_EPS,
    f"it knows Adam from optimizer.eps={LEAST_EPS} up only",
)


def _fits(workload: Workload) -> str | None:
    """Refuse a machine without CUDA's libraries, and what has no room on its GPU."""
    try:
        load_compiler()
        load_driver()
        return Layout.of(workload.mlp, workload.batch_size, workload.device).refusal()
    except EngineRefused as refused:
        return str(refused)


class CudaKernelEngine(Engine):
    """Forward, backward and step of two hidden layers in one kernel for as many steps as there are."""

    limits = (
        cuda_only,
        one_batch_size_only,
        mlp_only,
        plain_loss_only,
        _two_layers_only,
        relu_only,
        partial(plain_steps_only, kinds=("Adam", "AdamW")),
        _divides_well,
        float32_only,
        _fits,
    )

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        model, device = workload.mlp, workload.device
        self.steps_done = torch.zeros(())
        self.layout = layout = Layout.of(model, self.batch_size, device)
        code = compiled(SOURCE, layout.capability, layout.options)
        self.kernel = Kernel(code, "train", layout.shared_bytes, device)
        self.images = _rows(workload, layout)
        self.labels = workload.labels.to(device)
        self.sent = torch.zeros(2, self.batch_size, layout.wide, dtype=torch.int64, device=device)
        self.task = Task(images=self.images.data_ptr(), sent=self.sent.data_ptr())
        self._lay_out_layers(model)

    def train(self, order: Tensor, rates: Sequence[float] | None = None) -> Tensor:
        if len(order) and not 0 <= int(order.min()) <= int(order.max()) < len(self.images):
            raise IndexError(f"order must be from 0 to {len(self.images) - 1}")
        task, device, steps = self.task, self.images.device, -(-len(order) // self.batch_size)
        order = order.to(device).contiguous()
        labels, losses = self.labels[order], torch.empty(steps, device=device)
        of_steps = torch.from_numpy(self._rates(steps, rates)).to(device)
        task.order, task.labels, task.count = order.data_ptr(), labels.data_ptr(), len(order)
        task.rates, task.losses = of_steps.data_ptr(), losses.data_ptr()
        if not steps:
            return losses
        # Numbers of earlier steps must not be taken for those of these.
        self.sent.zero_()
        self.kernel(self.layout.blocks, THREADS, task)
        self.steps_done += steps
        return losses

    def _rates(self, steps: int, shares: Sequence[float] | None) -> Any:
        """Return what a step's weight - mean / (root * a + b) needs, (steps, 4) float32: a, b, and the decay of AdamW.

        With rate r, Adam's step is r mean / c1 / (root / sqrt(c2) + epsilon), c1 and c2 the moments' corrections
        (Kingma and Ba 2015, algorithm 1).
        """
        (group,) = self.optimizer.param_groups
        (beta1, beta2), decoupled = group["betas"], type(self.optimizer) is AdamW
        number = float(self.steps_done) + np.arange(1, steps + 1)
        rate = group["lr"] * (np.ones(steps) if shares is None else np.asarray(shares, np.float64))
        task = self.task
        task.decay = 0.0 if decoupled else group["weight_decay"]
        task.one_minus_beta1, task.beta2, task.one_minus_beta2 = 1 - beta1, beta2, 1 - beta2
        size = np.maximum(rate / (1 - beta1**number), LEAST_RATE)
        terms = np.zeros((steps, 4), np.float32)
        terms[:, 0] = 1 / (size * np.sqrt(1 - beta2**number))
        terms[:, 1] = group["eps"] / size
        terms[:, 2] = 1 - rate * group["weight_decay"] * decoupled
        return terms

    def _lay_out_layers(self, model: MLP) -> None:
        """Let the kernel read and write the model's weights and the optimizer's state."""
        parameters: list[Tensor] = list(model.parameters())
        means, squares = ({tensor: torch.zeros_like(tensor) for tensor in parameters} for _ in range(2))
        set_state(self.optimizer, (means, squares), self.steps_done)
        for pointers, layer in zip(self.task.layers, [*model.hidden_layers, model.output], strict=True):
            for name, parameter in (("weight", layer.weight), ("bias", layer.bias)):
                setattr(pointers, name, parameter.data_ptr())
                setattr(pointers, f"{name}_mean", means[parameter].data_ptr())
                setattr(pointers, f"{name}_square", squares[parameter].data_ptr())


def _rows(workload: Workload, layout: Layout) -> Tensor:
    """Return the images as the kernel reads them: a row is an image, a 1 for the bias, and zeros.

    A portion is converted at a time: all images are four times as large in float32.
    """
    rows = torch.zeros(len(workload.images), layout.row, device=workload.device)
    for images, of_images in zip(workload.images.split(PORTION), rows.split(PORTION), strict=True):
        of_images[:, : layout.pixels] = scale(images, workload.scale).flatten(1).to(workload.device)
    rows[:, layout.pixels] = 1
    return rows


# CUfunction_attribute: how much shared memory a block may be given when it starts.
MAX_DYNAMIC_SHARED = 8


def load_compiler() -> ctypes.CDLL:
    """Load CUDA's run-time compiler, of the version that PyTorch is built with. Raises `EngineRefused` without it."""
    return _load(f"libnvrtc.so.{str(torch.version.cuda).split('.')[0]}", "CUDA's run-time compiler")


def load_driver() -> ctypes.CDLL:
    """Load the GPU's driver. Raises `EngineRefused` if there is none."""
    return _load("libcuda.so.1", "NVIDIA's driver")


@cache
def _load(name: str, what: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as missing:
        raise EngineRefused(f"it needs {what} ({missing})") from missing


class Kernel:
    """One kernel on one device, of which every block has `shared` bytes of shared memory."""

    def __init__(self, code: bytes, name: str, shared: int, device: torch.device) -> None:
        self.driver, self.shared, self.device = load_driver(), shared, device
        # The device's own context, the one that PyTorch computes in, is current from its first operation on.
        with torch.cuda.device(device):
            torch.empty(1, device=device)
            module, self.function = c_void_p(), c_void_p()
            self._check(self.driver.cuModuleLoadData(byref(module), code))
            self._check(self.driver.cuModuleGetFunction(byref(self.function), module, name.encode()))
            self._check(self.driver.cuFuncSetAttribute(self.function, c_int(MAX_DYNAMIC_SHARED), c_int(shared)))

    def __call__(self, blocks: int, threads: int, argument: ctypes.Structure) -> None:
        """Start it after whatever PyTorch has started on this device. Whatever `argument` points to must be kept."""
        with torch.cuda.device(self.device):
            arguments = (c_void_p * 1)(ctypes.addressof(argument))
            sizes = [c_uint(size) for size in (blocks, 1, 1, threads, 1, 1, self.shared)]
            stream = c_void_p(torch.cuda.current_stream().cuda_stream)
            self._check(self.driver.cuLaunchKernel(self.function, *sizes, stream, arguments, None))

    def _check(self, error: int) -> None:
        if error:
            text = c_char_p()
            self.driver.cuGetErrorString(error, byref(text))
            raise RuntimeError(f"CUDA: {(text.value or b'error').decode()}")


@cache
def compiled(source: Path, capability: tuple[int, int], options: Sequence[str]) -> bytes:
    """Compile the file `source`, CUDA C, for GPUs of this capability; what it includes lies beside it.

    Raises `EngineRefused` with the compiler's message.
    """
    compiler = load_compiler()
    arguments = [f"--gpu-architecture=sm_{capability[0]}{capability[1]}", "--std=c++17", "-ftz=true", *options]
    arguments.append(f"--include-path={source.parent}")
    program = c_void_p()
    compiler.nvrtcCreateProgram(byref(program), source.read_bytes(), source.name.encode(), 0, None, None)
    try:
        lines = (c_char_p * len(arguments))(*(argument.encode() for argument in arguments))
        if compiler.nvrtcCompileProgram(program, len(arguments), lines):
            log = _bytes_of(compiler.nvrtcGetProgramLogSize, compiler.nvrtcGetProgramLog, program)
            raise EngineRefused(f"CUDA's compiler ended with {log.rstrip(bytes(1)).decode(errors='replace')}")
        return _bytes_of(compiler.nvrtcGetCUBINSize, compiler.nvrtcGetCUBIN, program)
    finally:
        compiler.nvrtcDestroyProgram(byref(program))


def _bytes_of(size_of: Callable[..., object], copy: Callable[..., object], program: c_void_p) -> bytes:
    size = c_size_t()
    size_of(program, byref(size))
    room = ctypes.create_string_buffer(size.value)
    copy(program, room)
    return room.raw
