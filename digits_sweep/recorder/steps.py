"""The losses of steps, copied when a loop gives them; no device is waited for until they are read."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from digits_sweep.errors import CannotRecord
from digits_sweep.results.losses import Losses, Sizes

# Losses that a device holds before the next vector is made.
LENGTH = 1_024


@dataclass
class Steps:
    """Losses of steps with their examples, and after how many of them each iteration was: several may make one.

    `examples` are those of the iterations.

    A loss on the CPU is read at once. One on another device is copied there, into a vector that was made beforehand, in
    the order of the device's own work: a buffer that the next step overwrites does no harm.
    """

    losses: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    examples: int = 0
    # Where in `losses` a number is to stand, and where in which vector it is.
    _on_device: list[tuple[int, Tensor, int]] = field(default_factory=list)
    _vector: Tensor = field(default_factory=lambda: torch.empty(0))
    _free: list[Tensor] = field(default_factory=list)

    def add(self, loss: Any, size: int) -> None:
        """Take the mean loss of a step of so many examples. Raises `CannotRecord` if it is not one number."""
        if loss.__class__ is not float:
            try:
                if isinstance(loss, str | bytes):
                    raise TypeError
                if isinstance(loss, Tensor):
                    loss = loss.item() if loss.is_cpu else self._copied(loss)
                if loss.__class__ is not float:
                    loss = float(loss)
            except (RuntimeError, TypeError, ValueError, OverflowError) as error:
                what = f"of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)[:60]
                raise CannotRecord(f"a loss {what}: must be one number, the mean over the batch") from error
        self.losses.append(loss)
        self.sizes.append(size)

    def close(self) -> None:
        """Let the steps since the last iteration make one, if there are any."""
        end, first = len(self.losses), self.ends[-1] if self.ends else 0
        if end > first:
            self.ends.append(end)
            self.examples += self.sizes[-1] if end == first + 1 else sum(self.sizes[first:])

    def _copied(self, loss: Tensor) -> float:
        """Copy a loss on its device; what stands in its place until it is read is not a number."""
        if not self._free or self._vector.device != loss.device:
            with torch.inference_mode(mode=False):
                self._vector = torch.empty(LENGTH, device=loss.device)
                self._free = list(self._vector.unbind())[::-1]
        self._on_device.append((len(self.losses), self._vector, LENGTH - len(self._free)))
        self._free.pop().copy_(loss.detach().reshape(()))
        return float("nan")

    def read(self) -> list[float]:
        """Return the losses of all steps, and wait for the device that has them."""
        values: dict[int, list[float]] = {}
        for index, vector, position in self._on_device:
            if id(vector) not in values:
                values[id(vector)] = vector.tolist()
            self.losses[index] = values[id(vector)][position]
        self._on_device = []
        return self.losses

    def take(self) -> tuple[Losses, Sizes]:
        """Return (iterations,) losses, means over the examples, and (iterations,) examples; keep what is no iteration.

        That is the steps since the last update.
        """
        if not self.ends:
            return np.empty(0, dtype="<f4"), np.empty(0, dtype=np.int64)
        end, starts = self.ends[-1], [0, *self.ends[:-1]]
        weights, values = np.array(self.sizes[:end], dtype=np.int64), np.array(self.read()[:end])
        sizes = np.add.reduceat(weights, starts)
        with np.errstate(invalid="ignore", over="ignore"):
            losses = (np.add.reduceat(values * weights, starts) / sizes).astype("<f4")
        self.losses, self.sizes, self.ends, self.examples = self.losses[end:], self.sizes[end:], [], 0
        return losses, sizes
