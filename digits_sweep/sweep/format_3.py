"""A run of record format 3, made into one of today's when it is resumed. It goes with the next release."""

import io
import json
import math
import pickle
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from digits_sweep.errors import UnreadableRecord, reason_of
from digits_sweep.results.files import CHECKPOINT_BYTES, latest_readable, previous, read_file, replace_file
from digits_sweep.results.losses import LOSSES_FILE, read_losses
from digits_sweep.results.record import (
    EVALUATIONS_FILE,
    HISTORY_FILE,
    EpochRow,
    EvaluationRow,
    Written,
    read_record,
    record_of_format_3,
    write_record,
)
from digits_sweep.results.run import RecordedRun, with_counts
from digits_sweep.results.writing import write_rows
from digits_sweep.sweep.checkpoint import CHECKPOINT_FILE, checkpoint_content, split_state

OLD_CHECKPOINT_FILE = "checkpoint.pt"


def convert_run(run_dir: Path) -> None:
    """Write the files of today for a run whose checkpoint is of format 3; nothing if it is none.

    The checkpoint, which is written last, says which epochs there are. Raises `UnreadableRecord` if neither it nor the
    one before can be read, and OSError.
    """
    old = run_dir / OLD_CHECKPOINT_FILE
    if (run_dir / CHECKPOINT_FILE).exists() or not (old.exists() or previous(old).exists()):
        return
    content, _ = latest_readable(old, _read)
    try:
        record = read_record(run_dir)
    except UnreadableRecord:
        record = record_of_format_3(json.loads(content["record"]), OLD_CHECKPOINT_FILE)
    rows = content["history"].tolist()
    epochs = [EpochRow(int(row[0]), row[1], row[2], row[3], row[4], bool(row[5])) for row in rows]
    history = with_counts(epochs, RecordedRun(run_dir, record))
    losses = read_losses(run_dir, count=content["iterations"]).tobytes()
    written = {LOSSES_FILE: Written(len(losses), zlib.crc32(losses))}
    written[HISTORY_FILE] = write_rows(run_dir / HISTORY_FILE, EpochRow, history)
    if evaluations := [EvaluationRow(*row) for row in content["evaluations"]]:
        written[EVALUATIONS_FILE] = write_rows(run_dir / EVALUATIONS_FILE, EvaluationRow, evaluations)
    write_record(run_dir, record)
    state = split_state(content["model"], {"state": content["optimizer"]})
    replace_file(run_dir / CHECKPOINT_FILE, checkpoint_content(state, record.run_id, written))


def _read(path: Path) -> dict[str, Any]:
    """Read a checkpoint as `torch.save` wrote it, with a CRC-32 behind it: no code in it runs, and nothing inflates."""
    content = read_file(path, CHECKPOINT_BYTES)
    archive, checksum = content[:-4], content[-4:]
    if zlib.crc32(archive).to_bytes(4, "big") != checksum:
        raise UnreadableRecord(f"{path.name}: corrupt: checksum mismatch")
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            entries = opened.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ValueError("its entries are compressed")
            if sum(entry.file_size for entry in entries) > len(archive):
                raise ValueError("its entries are larger than the file")
            return _Tensors(opened).load()
    # A file with a right checksum may hold anything; neither library documents narrower errors.
    except Exception as error:
        raise UnreadableRecord(f"{path.name}: not a checkpoint of format 3 ({reason_of(error)})") from error


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], *_: Any) -> Tensor:
    """Return a tensor as a checkpoint has it: the numbers of `storage` one after the other."""
    return storage[offset : offset + math.prod(size)].reshape(size)


# All that the pickle of a checkpoint refers to.
ALLOWED: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict, "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.FloatStorage": torch.float32, "torch.DoubleStorage": torch.float64, "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32,
    "torch.ByteStorage": torch.uint8, "torch.BoolStorage": torch.bool,
}  # fmt: skip


# Python's own one: the one in C takes as much memory as a number in the file says.
class _Tensors(pickle._Unpickler):
    """Reads dictionaries, lists, numbers, text and tensors, and nothing else."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        (name,) = [each for each in archive.namelist() if each.endswith("/data.pkl")]
        super().__init__(io.BytesIO(archive.read(name)))
        self._archive, self._folder = archive, name.removesuffix("data.pkl")
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what the pickle may refer to. Raises UnpicklingError for anything else."""
        if (full := f"{module}.{name}") not in ALLOWED:
            raise pickle.UnpicklingError(f"its pickle refers to {full}")
        return ALLOWED[full]

    def persistent_load(self, pid: tuple[Any, ...]) -> Tensor:
        """Return the numbers of a tensor."""
        _, kind, key, _, _ = pid
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._folder}data/{key}"))
            self._storages[key] = torch.frombuffer(data, dtype=kind) if data else torch.empty(0, dtype=kind)
        return self._storages[key]
