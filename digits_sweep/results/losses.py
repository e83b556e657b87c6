"""The losses of all iterations: `losses.npy`, and the running loss that follows from them."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results import changes
from digits_sweep.results.files import LOSSES_BYTES, append_to_file, read_file, replace_file, shorten_file

LOSSES_FILE = "losses.npy"
# The running loss is the mean over so many examples: enough to be steady, few beside an epoch of 60,000.
WINDOW = 3_000

Losses = NDArray[np.float32]


def _header(count: int) -> bytes:
    """The head of an .npy file of `count` float32 numbers. NumPy pads it: its length stays as the count grows."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (count,)})
    return buffer.getvalue()


HEADER_BYTES = len(_header(0))


class LossesFile:
    """`losses.npy` of a run that trains: losses are appended epoch by epoch, and survive a power cut.

    Between the data and its head a process may be killed; the head then counts fewer numbers than there are, and the
    file is what it was before. Nothing else has these losses, so they are flushed before an epoch is committed.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOSSES_FILE
        self.count = 0
        self._digest = hashlib.sha256()

    def restore(self, count: int) -> Losses:
        """Cut the file back to the first `count` losses, which were committed, and return them.

        Losses that are missing become NaN: they are unknown, and what follows keeps its place.
        """
        try:
            found = read_file(self.path, LOSSES_BYTES)
        except UnreadableRecord:
            found = b""
        data = found[HEADER_BYTES : HEADER_BYTES + 4 * count]
        whole = data[: len(data) // 4 * 4]
        missing = np.full(count - len(whole) // 4, np.nan, dtype="<f4").tobytes()
        if not found or missing:
            replace_file(self.path, _header(count) + whole + missing)
        else:
            shorten_file(self.path, HEADER_BYTES + 4 * count)
            changes.overwrite(self.path, _header(count))
            changes.flush(self.path)
        self.count, self._digest = count, hashlib.sha256(whole + missing)
        return np.frombuffer(whole + missing, dtype="<f4")

    def append(self, losses: Losses) -> None:
        """Append the losses of an epoch, to be flushed. Raises OSError if they cannot be written."""
        data = losses.astype("<f4").tobytes()
        append_to_file(self.path, data, durable=False)
        self.count += len(losses)
        changes.overwrite(self.path, _header(self.count))
        self._digest.update(data)

    def flush(self) -> None:
        """Wait until what was appended is on the disk. Raises OSError if that fails."""
        changes.flush(self.path)

    @property
    def signature(self) -> dict[str, Any]:
        """How many losses there are and the SHA-256 of their bytes, as the record has them."""
        return {"count": self.count, "sha256": self._digest.hexdigest()}


def read_losses(folder: Path, signature: dict[str, Any]) -> Losses:
    """Read the (iterations,) float32 losses in `folder` that its record says are there.

    Raises `UnreadableRecord` if they are missing or others.
    """
    count = signature.get("count", 0)
    if type(count) is not int or count < 0:
        raise UnreadableRecord(f"{LOSSES_FILE}: record.json does not say how many there are")
    data = read_file(folder / LOSSES_FILE, LOSSES_BYTES)[HEADER_BYTES : HEADER_BYTES + 4 * count]
    if len(data) < 4 * count or hashlib.sha256(data).hexdigest() != signature.get("sha256"):
        raise UnreadableRecord(f"{LOSSES_FILE}: does not fit record.json")
    return np.frombuffer(data, dtype="<f4")


@dataclass(frozen=True)
class Crossing:
    """The first iteration after which the running loss is below a threshold: its number, and the examples so far."""

    iterations: int
    examples: int


class RunningLoss:
    """The mean loss over the last `WINDOW` examples, followed until it is below a threshold.

    An iteration's loss is the mean over its batch, so it counts as often as the batch has examples. The window holds
    the fewest last iterations that have `WINDOW` examples; before there are as many, there is no running loss, and none
    after a loss that is NaN, because the run diverged or the loss is not known.
    """

    def __init__(self, batch_size: int, num_samples: int, threshold: float) -> None:
        self.sizes = _batch_sizes(batch_size, num_samples)
        self.threshold = threshold
        self.iterations = 0
        self.crossing: Crossing | None = None
        self._ended = False
        self._tail_losses = np.empty(0)
        self._tail_sizes = np.empty(0, dtype=np.int64)

    def follow(self, losses: Losses | Sequence[float]) -> Crossing | None:
        """Take the next losses, in order; return where the running loss was first below the threshold, if it was."""
        places = (self.iterations + np.arange(len(losses))) % len(self.sizes)
        values = np.concatenate([self._tail_losses, np.asarray(losses, dtype=np.float64)])
        sizes = np.concatenate([self._tail_sizes, self.sizes[places]])
        if self.crossing is None and not self._ended and len(losses):
            self._look_for_crossing(values, sizes, len(losses))
        self._ended |= bool(np.isnan(values).any())
        self.iterations += len(losses)
        kept = len(sizes) - np.searchsorted(np.cumsum(sizes[::-1]), WINDOW) - 1
        self._tail_losses, self._tail_sizes = values[max(kept, 0) :], sizes[max(kept, 0) :]
        return self.crossing

    def _look_for_crossing(self, values: NDArray[Any], sizes: NDArray[Any], new: int) -> None:
        seen = np.concatenate([[0], np.cumsum(sizes)])
        weighted = np.concatenate([[0.0], np.cumsum(values * sizes)])
        ends = np.arange(len(sizes) - new + 1, len(sizes) + 1)
        # The last iteration that the window may begin after.
        starts = np.searchsorted(seen, seen[ends] - WINDOW, side="right") - 1
        full = starts >= 0
        means = (weighted[ends] - weighted[np.maximum(starts, 0)]) / (seen[ends] - seen[np.maximum(starts, 0)])
        below = np.flatnonzero(full & (means < self.threshold))
        if len(below):
            iterations = self.iterations + int(below[0]) + 1
            self.crossing = Crossing(iterations, self._examples(iterations))

    def _examples(self, iterations: int) -> int:
        epochs, rest = divmod(iterations, len(self.sizes))
        return int(epochs * self.sizes.sum() + self.sizes[:rest].sum())


def _batch_sizes(batch_size: int, num_samples: int) -> NDArray[np.int64]:
    full, rest = divmod(num_samples, batch_size)
    return np.array([batch_size] * full + [rest] * bool(rest), dtype=np.int64)
