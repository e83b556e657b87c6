"""How a network lies on the chip: which block has which units, and what a block holds."""

from dataclasses import dataclass

import torch
from torch import nn

from digits_sweep.training.model import MLP

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
    threads: int = THREADS

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
        """The size of `Shared` in epoch.cu."""
        units, long = self.units, self.wide + 4
        of_an_image = 2 * self.row + 2 * long + self.wide + (self.classes + 3) // 4 * 4 + units
        of_an_image += self.threads // 32 * units + 1
        weights = units * (long + self.wide) + self.classes * long
        return 4 * (self.batch_size * of_an_image + weights)

    @property
    def registers(self) -> int:
        """The registers of a thread that hold weights and moments."""
        long, fours = self.wide + 4, -(-self.row // (4 * self.threads))
        elements = (self.units * long, self.units * self.wide, self.classes * long)
        return 12 * self.units * fours + 2 * sum(-(-count // self.threads) for count in elements)

    @property
    def options(self) -> tuple[str, ...]:
        """What `epoch.cu` is compiled with."""
        defined = {
            "BATCH": self.batch_size,
            "INPUTS": self.pixels,
            "HIDDEN": self.hidden,
            "CLASSES": self.classes,
            "UNITS": self.units,
            "THREADS": self.threads,
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
