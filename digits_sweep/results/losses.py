"""The losses of all iterations: `losses.npy`, and the running loss that follows from them.

Of a loop of the user's, `examples.npy` beside it has the examples of every iteration.
"""

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results import changes
from digits_sweep.results.files import LOSSES_BYTES, read_file, replace_file
from digits_sweep.results.record import Written

LOSSES_FILE, SIZES_FILE = "losses.npy", "examples.npy"
LOSS, SIZE = "<f4", "<i4"
# The running loss is the mean over this part of the training set: of MNIST's 60,000 examples, over 3,000.
WINDOWS_PER_EPOCH, WITHOUT_LENGTH = 20, 1_000

Losses = NDArray[np.float32]
Sizes = NDArray[np.int64]


def _header(count: int, dtype: str = LOSS) -> bytes:
    """The head of an .npy file of `count` numbers of 4 bytes. NumPy pads it: its length stays as the count grows."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": (count,)})
    return buffer.getvalue()


HEADER_BYTES = len(_header(0))


class LossesFile:
    """`losses.npy`, or another file of a number an iteration, of a run that trains: it grows epoch by epoch.

    `written` counts the bytes behind its head. A process may be killed between the data and the head, which then counts
    fewer numbers than there are: the file is what it was before.
    """

    def __init__(self, folder: Path, name: str = LOSSES_FILE, dtype: str = LOSS) -> None:
        self.path, self.dtype = folder / name, dtype
        self.written = Written(0, 0)

    def create(self) -> None:
        """Start an empty file, in place of what is there."""
        replace_file(self.path, _header(0, self.dtype))
        self.written = Written(0, 0)

    def restore(self, written: Written) -> Losses:
        """Cut the file back to what was `written`, and return it. Raises `UnreadableRecord` if it is not there."""
        losses = _read(self.path, self.dtype, written)
        changes.shorten(self.path, HEADER_BYTES + written.bytes)
        changes.overwrite(self.path, _header(len(losses), self.dtype))
        changes.flush(self.path)
        self.written = written
        return losses

    def append(self, losses: NDArray[Any]) -> None:
        """Append the numbers of an epoch, and wait until they are on the disk. Raises OSError if that fails."""
        data = losses.astype(self.dtype).tobytes()
        changes.append(self.path, data)
        self.written = Written(self.written.bytes + len(data), zlib.crc32(data, self.written.crc32))
        changes.overwrite(self.path, _header(self.written.bytes // 4, self.dtype))
        changes.flush(self.path)


def read_losses(folder: Path, written: Written | None = None, count: int | None = None) -> Losses:
    """Read the (iterations,) float32 losses in `folder`: those that are `written`, or the first `count`.

    Raises `UnreadableRecord` if they are missing or others.
    """
    return _read(folder / LOSSES_FILE, LOSS, written, count)


def read_sizes(folder: Path, written: Written | None = None, count: int | None = None) -> Sizes:
    """Read the (iterations,) int64 examples of every iteration in `folder`, as `read_losses` does the losses."""
    sizes = _read(folder / SIZES_FILE, SIZE, written, count).astype(np.int64)
    if len(sizes) and sizes.min() < 1:
        raise UnreadableRecord(f"{SIZES_FILE}: an iteration without an example")
    return sizes


def _read(path: Path, dtype: str, written: Written | None = None, count: int | None = None) -> NDArray[Any]:
    size = written.bytes if written else 4 * (count or 0)
    data = read_file(path, LOSSES_BYTES, HEADER_BYTES + size)[HEADER_BYTES:]
    if len(data) < size or (written and zlib.crc32(data[:size]) != written.crc32):
        raise UnreadableRecord(f"{path.name}: does not fit the run's other files")
    return np.frombuffer(data[: size // 4 * 4], dtype=dtype)


def window_of(num_samples: int | None) -> int:
    """Return how many examples the running loss is a mean over: a twentieth of the training set, and at least one.

    1,000 if it is not known how many examples there are.
    """
    return WITHOUT_LENGTH if num_samples is None else -(-num_samples // WINDOWS_PER_EPOCH)


def window_width(batch_size: int, num_samples: int) -> int:
    """Return how many examples the iterations have that fill the window, at most."""
    return -(-window_of(num_samples) // batch_size) * batch_size


@dataclass(frozen=True)
class Crossing:
    """The first iteration after which the running loss is below a threshold: its number, and the examples so far."""

    iterations: int
    examples: int


class RunningLoss:
    """The mean loss over the last `window_of` examples, followed until it is below a threshold.

    An iteration's loss is the mean over its batch, so it counts as often as the batch has examples. The window holds
    the fewest last iterations that have as many; before there are as many, there is no running loss, and none after a
    loss that is NaN, because the run diverged or the loss is not known.
    """

    def __init__(self, batch_size: int, num_samples: int | None, threshold: float, window: int | None = None) -> None:
        """Follow the losses of a run over `window` examples, by default `window_of` its training set.

        Without `num_samples`, both `window` and the examples of every iteration are needed.
        """
        self.batch_size, self.num_samples = batch_size, num_samples or batch_size
        self.window = window or window_of(self.num_samples)
        self.threshold = threshold
        self.iterations = self.examples = 0
        self.crossing: Crossing | None = None
        self._ended = False
        self._tail_losses = np.empty(0)
        self._tail_sizes = np.empty(0, dtype=np.int64)

    def follow(self, losses: Losses | Sequence[float], sizes: Sizes | None = None) -> Crossing | None:
        """Take the next losses, in order; return where the running loss was first below the threshold, if it was.

        `sizes` are the examples of these iterations if they do not follow from batch size and training set.
        """
        if sizes is None:
            sizes = sizes_from(self.iterations, len(losses), self.batch_size, self.num_samples)
        values = np.concatenate([self._tail_losses, np.asarray(losses, dtype=np.float64)])
        new, sizes = int(sizes.sum()), np.concatenate([self._tail_sizes, sizes])
        if self.crossing is None and not self._ended and len(losses):
            self._look_for_crossing(values, sizes, len(losses))
        self._ended |= bool(np.isnan(values).any())
        self.iterations += len(losses)
        self.examples += new
        start = max(0, len(sizes) - np.searchsorted(np.cumsum(sizes[::-1]), self.window) - 1)
        self._tail_losses, self._tail_sizes = values[start:], sizes[start:]
        return self.crossing

    def _look_for_crossing(self, values: NDArray[Any], sizes: NDArray[Any], new: int) -> None:
        seen = np.concatenate([[0], np.cumsum(sizes)])
        weighted = np.concatenate([[0.0], np.cumsum(values * sizes)])
        ends = np.arange(len(sizes) - new + 1, len(sizes) + 1)
        # The last iteration that the window may begin after.
        starts = np.searchsorted(seen, seen[ends] - self.window, side="right") - 1
        full = starts >= 0
        means = (weighted[ends] - weighted[np.maximum(starts, 0)]) / (seen[ends] - seen[np.maximum(starts, 0)])
        below = np.flatnonzero(full & (means < self.threshold))
        if len(below):
            examples = self.examples + int(seen[ends[below[0]]] - seen[ends[0] - 1])
            self.crossing = Crossing(self.iterations + int(below[0]) + 1, examples)


def sizes_from(first: int, count: int, batch_size: int, num_samples: int) -> Sizes:
    """Return the (count,) examples of a run's iterations, the one with index `first` first.

    An epoch of `num_samples` examples ends with what is left for its last batch.
    """
    per_epoch = -(-num_samples // batch_size)
    is_last = np.arange(first, first + count) % per_epoch == per_epoch - 1
    return np.where(is_last, num_samples - (per_epoch - 1) * batch_size, batch_size)


def mean_of_last(recent: Losses, sizes: Sizes, window: int) -> float | None:
    """Return the mean over the fewest last iterations that have `window` examples; None if there are not as many.

    `recent` are the last losses, `sizes` the examples of the last iterations.
    """
    count = int(np.searchsorted(np.cumsum(sizes[::-1]), window)) + 1
    if count > len(sizes):
        return None
    return float(np.average(np.asarray(recent[-count:], dtype=np.float64), weights=sizes[-count:]))
