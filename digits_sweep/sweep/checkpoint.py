"""What a checkpoint file holds, looked at before torch loads it: nothing that inflates or that is no tensor.

`torch.load` with `weights_only` runs no code, but a file of a few kilobytes can still ask it for all memory there is.
"""

import hashlib
import io
import json
import pickletools
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from digits_sweep.errors import NewerFormat, UnreadableRecord
from digits_sweep.results.files import (
    CHECKPOINT_BYTES,
    LOSSES_BYTES,
    check_values,
    latest_readable,
    named,
    parse_json,
    read_file,
    reason_of,
)
from digits_sweep.results.record import EpochRow, EvaluationRow, Record, as_content, record_from
from digits_sweep.training.engines.protocol import Engine
from digits_sweep.training.optimizers import without_compiler

MOST_ENTRIES = 10_000

# All that the pickle of a checkpoint refers to. Of what else `weights_only` allows, `bytearray` can fill the memory.
GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Byte", "Bool")),
}


def check_checkpoint(content: bytes, name: str) -> None:
    """Check what `torch.save` has made before it is loaded: nothing in it inflates or refers to anything but tensors.

    `content` is the archive alone, and `name` the name of its file. Raises `UnreadableRecord` if the archive has more
    entries or bytes than the file can hold, is compressed, or if its pickle names what no checkpoint needs.
    """
    try:
        # Another beginning would make torch read another format, and a comment could hide a second directory.
        if not content.startswith(b"PK\x03\x04") or content[-22:-18] != b"PK\x05\x06":
            raise ValueError("not an archive of torch.save")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_ENTRIES:
                raise ValueError(f"more than {MOST_ENTRIES:,} entries")
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
                raise ValueError("its entries are compressed")
            if sum(entry.file_size for entry in entries) > len(content):
                raise ValueError("its entries are larger than the file")
            # torch does not distinguish case, and knows no second name of an entry, which zipfile would prefer.
            pickles = [entry for entry in entries if entry.orig_filename.lower().endswith("data.pkl")]
            if len(pickles) != 1:
                raise ValueError(f"{len(pickles)} pickles")
            _check_pickle(archive.read(pickles[0]))
    # zipfile and pickletools document no narrower errors for content that is made to mislead them.
    except Exception as error:
        raise UnreadableRecord(f"{name}: not a checkpoint: {reason_of(error)}") from error


def _check_pickle(content: bytes) -> None:
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "EXT1", "EXT2", "EXT4"):
            raise ValueError(f"its pickle has the operation {operation.name}")
        if operation.name == "GLOBAL" and argument not in GLOBALS:
            raise ValueError(f"its pickle refers to {str(argument).replace(' ', '.')}")


# 1: weights, optimizer state and history. 2: record, number of iterations and evaluations too. 3: the record is one
# text of JSON, which torch saves at once, and a CRC-32 is at the end instead of a SHA-256, which took as long as all
# the rest of a small network's checkpoint.
FORMAT = 3
CHECKPOINT_FILE = "checkpoint.pt"
_SHA256_BYTES, _CRC32_BYTES = 32, 4


@dataclass(frozen=True)
class Checkpoint:
    """What the next epoch starts from, on the CPU, and what led there.

    `record` and `iterations` are None in a checkpoint of format 1.
    """

    history: list[EpochRow]
    model: dict[str, Tensor]
    optimizer: dict[int, dict[str, Tensor]]
    record: Record | None = None
    iterations: int | None = None
    evaluations: Sequence[EvaluationRow] = ()


def checkpoint_content(
    engine: Engine,
    history: Tensor,
    record: Record,
    iterations: int,
    evaluations: Sequence[EvaluationRow] = (),
) -> bytes:
    """Return the content of `checkpoint.pt` after `iterations` iterations.

    `history` is what `history_tensor` makes of the epochs so far.
    """
    with without_compiler():
        optimizer = _on_cpu(engine.optimizer.state_dict()["state"])
    content = {
        "format": FORMAT,
        "record": json.dumps(as_content(record), allow_nan=False),
        "iterations": iterations,
        "evaluations": [list(vars(row).values()) for row in evaluations],
        "history": history,
        "model": _on_cpu(engine.model.state_dict()),
        "optimizer": optimizer,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with buffer.getbuffer() as whole:
        checksum = _crc32(whole)
    buffer.write(checksum)
    return buffer.getvalue()


def history_tensor(history: Sequence[EpochRow]) -> Tensor:
    """Return the rows of (epochs,) `history` as a checkpoint holds them: (epochs, columns) float64."""
    rows = [tuple(vars(row).values()) for row in history]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), len(fields(EpochRow)))


def _on_cpu(value: Any) -> Any:
    """Copy nested dicts of tensors, so that no two share memory."""
    if isinstance(value, Tensor):
        return torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())
    return {key: _on_cpu(each) for key, each in value.items()} if isinstance(value, dict) else value


def read_checkpoint(run_dir: Path) -> tuple[Checkpoint, str | None]:
    """Read the last checkpoint in `run_dir`; if it is damaged, the one before it, with what is wrong with the last.

    Raises `UnreadableRecord` if neither can be read, `NewerFormat` if a newer version of this program wrote it.
    """
    return latest_readable(run_dir / CHECKPOINT_FILE, _read)


def _read(path: Path) -> Checkpoint:
    whole = _archive(read_file(path, CHECKPOINT_BYTES), path.name)
    check_checkpoint(whole, path.name)
    try:
        found = torch.load(io.BytesIO(whole), weights_only=True, map_location="cpu")
        if found["format"] not in range(1, FORMAT + 1):
            raise NewerFormat(f"{path.name}: its format {named(found['format'])} is not known here")
        if found["format"] > 2:
            found["record"] = parse_json(found["record"].encode(), path.name)
        _check_content(found)
        return Checkpoint(
            history=[_epoch(*row) for row in _rows(found["history"])],
            model=found["model"],
            optimizer=found["optimizer"],
            record=record_from(found["record"], path.name) if found["format"] > 1 else None,
            iterations=found.get("iterations"),
            evaluations=[EvaluationRow(*row) for row in found.get("evaluations", ())],
        )
    except UnreadableRecord:
        raise
    # A file with a right checksum may hold anything; torch.load documents no narrower error.
    except Exception as error:
        raise UnreadableRecord(f"{path.name}: not a checkpoint of format {FORMAT} ({reason_of(error)})") from error


def _archive(content: bytes, name: str) -> bytes:
    """Return what `torch.save` has written. Raises `UnreadableRecord` if it does not fit the checksum behind it."""
    for checksum, size in ((_crc32, _CRC32_BYTES), (_sha256, _SHA256_BYTES)):
        if checksum(content[:-size]) == content[-size:]:
            return content[:-size]
    raise UnreadableRecord(f"{name}: corrupt: checksum mismatch")


def _crc32(content: bytes | memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(_CRC32_BYTES, "big")


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _check_content(found: dict[str, Any]) -> None:
    """Raise ValueError if there is something else in a checkpoint than belongs there, or more than its file holds."""
    check_values(found.get("record") or {})
    states = [found["model"], *found["optimizer"].values()]
    if not all(isinstance(state, dict) for state in states):
        raise ValueError("its weights are no tensors by name")
    history = found["history"]
    tensors = [each for state in states for each in state.values() if each is not None]
    for tensor in [*tensors, history] if isinstance(history, Tensor) else tensors:
        # A view can repeat one number as often as it likes: a file of a kilobyte, and a copy of a terabyte.
        if not isinstance(tensor, Tensor) or tensor.nbytes > tensor.untyped_storage().nbytes():
            raise ValueError("its weights are no tensors, or larger than the file")
    iterations = found.get("iterations", 0)
    if type(iterations) is not int or not 0 <= iterations <= LOSSES_BYTES // 4:
        raise ValueError("its number of iterations is none")


def _epoch(number: float, mean: float, std: float, seconds: float, per_second: float, complete: float = 1) -> EpochRow:
    return EpochRow(int(number), mean, std, seconds, per_second, bool(complete))


def _rows(history: Any) -> list[list[float]]:
    return history.tolist() if isinstance(history, Tensor) else history


def restore(engine: Engine, checkpoint: Checkpoint) -> None:
    """Set weights and optimizer state to those of `checkpoint`, in place: engines keep views of these tensors.

    Raises `UnreadableRecord` if they belong to another model or optimizer.
    """
    try:
        engine.model.load_state_dict(checkpoint.model)
        with without_compiler():
            made = engine.optimizer.state_dict()
            if made["state"]:
                _restore_in_place(made["state"], checkpoint.optimizer)
            else:
                groups = made["param_groups"]
                engine.optimizer.load_state_dict({"state": checkpoint.optimizer, "param_groups": groups})
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableRecord(f"{CHECKPOINT_FILE}: of another model or optimizer ({reason_of(error)})") from error


def _restore_in_place(state: dict[int, dict[str, Tensor]], saved: dict[int, dict[str, Tensor]]) -> None:
    for parameter, kept in state.items():
        for name, tensor in kept.items():
            tensor.copy_(saved[parameter][name])
