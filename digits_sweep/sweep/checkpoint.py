"""Weights, optimizer state and history after an epoch, in one file that is used whole or not at all: `checkpoint.pt`.

The file is what `torch.save` writes followed by its SHA-256, so that a corrupt one is detected before anything in it is
read; it is loaded with `weights_only`, so that no code can come out of it.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.files import latest_readable, replace_file
from digits_sweep.results.history import EpochRow
from digits_sweep.training.engines.protocol import Engine

FORMAT = 1
NAME = "checkpoint.pt"
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Checkpoint:
    """A run after its last finished epoch: the epochs so far, and what the next one starts from, on the CPU."""

    history: list[EpochRow]
    model: dict[str, Tensor]
    optimizer: dict[int, dict[str, Tensor]]


def write_checkpoint(run_dir: Path, engine: Engine, history: Sequence[EpochRow]) -> None:
    """Replace `checkpoint.pt`; keep the one before it beside it. Raises OSError if it cannot be written."""
    content = {
        "format": FORMAT,
        "history": [list(astuple(row)) for row in history],
        "model": _on_cpu(engine.model.state_dict()),
        "optimizer": _on_cpu(engine.optimizer.state_dict()["state"]),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    whole = buffer.getvalue()
    replace_file(run_dir / NAME, whole + hashlib.sha256(whole).digest(), keep_previous=True)


def _on_cpu(value: Any) -> Any:
    """Copy nested dicts of tensors, so that no two share memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True).contiguous()
    return {key: _on_cpu(each) for key, each in value.items()} if isinstance(value, dict) else value


def read_checkpoint(run_dir: Path) -> tuple[Checkpoint, str | None]:
    """Read the last checkpoint in `run_dir`; if it is damaged, the one before it, with what is wrong with the last.

    Raises `UnreadableRecord` if neither can be read.
    """
    return latest_readable(run_dir / NAME, _read)


def _read(path: Path) -> Checkpoint:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableRecord(f"{path.name}: {error.strerror}") from error
    whole, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(whole).digest() != digest:
        raise UnreadableRecord(f"{path.name}: corrupt: checksum mismatch")
    try:
        found = torch.load(io.BytesIO(whole), weights_only=True, map_location="cpu")
        if found["format"] != FORMAT:
            raise ValueError(f"not of format {FORMAT}")
        return Checkpoint([EpochRow(*row) for row in found["history"]], found["model"], found["optimizer"])
    # A file with a right checksum may hold anything; torch.load documents no narrower error.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnreadableRecord(f"{path.name}: not a checkpoint of format {FORMAT} ({reason})") from error


def restore(engine: Engine, checkpoint: Checkpoint) -> None:
    """Set weights and optimizer state to those of `checkpoint`, in place: engines keep views of these tensors.

    Raises `UnreadableRecord` if they belong to another model or optimizer.
    """
    try:
        engine.model.load_state_dict(checkpoint.model)
        if engine.optimizer.state:
            _restore_in_place(engine.optimizer.state_dict()["state"], checkpoint.optimizer)
        else:
            groups = engine.optimizer.state_dict()["param_groups"]
            engine.optimizer.load_state_dict({"state": checkpoint.optimizer, "param_groups": groups})
    except (RuntimeError, ValueError, KeyError) as error:
        raise UnreadableRecord(f"{NAME}: of another model or optimizer ({str(error).splitlines()[0]})") from error


def _restore_in_place(state: dict[int, dict[str, Tensor]], saved: dict[int, dict[str, Tensor]]) -> None:
    for parameter, kept in state.items():
        for name, tensor in kept.items():
            tensor.copy_(saved[parameter][name])
