"""A run after its last finished epoch, in one file that is used whole or not at all: `checkpoint.safetensors`.

The checkpoint is what an epoch is committed by: it holds weights and optimizer state, and how much of the files beside
it belongs to that epoch. Safetensors holds nothing but tensors and text, so that no code can come out of it, and no
tensor can be larger than the file. A CRC-32 of all that is a part of the text.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load, save
from torch import Tensor

from digits_sweep.config.schema import Config, OwnOptimizerConfig
from digits_sweep.errors import InvalidConfig, NewerFormat, UnreadableRecord, reason_of
from digits_sweep.results.files import CHECKPOINT_BYTES, named, read_file
from digits_sweep.results.record import FORMAT, Written
from digits_sweep.training.engines.protocol import Engine
from digits_sweep.training.optimizers import without_compiler

CHECKPOINT_FILE = "checkpoint.safetensors"
# What safetensors holds as it is; tensors of other types are kept as their bytes.
PLAIN_TYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
# Where in the text a tensor stands, and a value that JSON does not have.
TENSOR, DICT, TUPLE, COMPLEX = "tensor", "dict", "tuple", "complex"


@dataclass(frozen=True)
class State:
    """Weights and optimizer state on the CPU: tensors by name, and in `tree` everything else with their places."""

    tensors: dict[str, Tensor]
    tree: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """What the next epoch starts from, and how much of the files beside it was `written` by then."""

    run_id: str
    written: dict[str, Written]
    state: State


@dataclass(frozen=True)
class _Text:
    """The text in a checkpoint's header, but for its tree, which may hold what no type says."""

    format: int
    run_id: str
    written: dict[str, Written]


def state_of(engine: Engine, config: Config) -> State:
    """Copy an engine's weights and optimizer state to the CPU.

    Raises `InvalidConfig` if the user's own network or optimizer keeps what a checkpoint cannot hold.
    """
    with without_compiler():
        optimizer = engine.optimizer.state_dict()
    if not isinstance(config.optimizer, OwnOptimizerConfig):
        # The groups of others follow from the configuration.
        optimizer = {"state": optimizer["state"]}
    try:
        return split_state(engine.model.state_dict(), optimizer)
    except TypeError as error:
        group = str(error).partition(".")[0]
        target = getattr(getattr(config, group), "target", None)
        who = f"{group}.target={target}" if target else f"{group}={getattr(config, group).name}"
        right = "keep tensors, numbers, text, and lists or dictionaries of them"
        raise InvalidConfig(f"{who}: {error}, which a checkpoint cannot hold; {right}") from error


def split_state(model: Mapping[str, Any], optimizer: Mapping[str, Any]) -> State:
    """Return the states of a model and an optimizer. Raises TypeError, which names the part, if one cannot be kept."""
    tensors: dict[str, Tensor] = {}
    tree = {name: _split(part, name, tensors) for name, part in (("model", model), ("optimizer", optimizer))}
    return State(tensors, tree)


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors in a nested value to `tensors`, by the name of their place; return the rest, ready for JSON."""
    if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized:
        # A copy, so that no two share memory, and a view that repeats a number becomes as large as it looks.
        copied = torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())
        if value.dtype in PLAIN_TYPES:
            tensors[name] = copied
            return {TENSOR: name}
        tensors[name] = (torch.view_as_real(copied) if value.is_complex() else copied).reshape(-1).view(torch.uint8)
        return {TENSOR: name, "type": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
    if isinstance(value, Mapping) and all(isinstance(key, str | int) for key in value):
        return {DICT: [[key, _split(each, f"{name}.{key}", tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        parts = [_split(each, f"{name}.{index}", tensors) for index, each in enumerate(value)]
        return parts if isinstance(value, list) else {TUPLE: parts}
    if isinstance(value, complex):
        return {COMPLEX: [value.real, value.imag]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is of type {type(value).__name__}")


def checkpoint_content(state: State, run_id: str, written: Mapping[str, Written]) -> bytes:
    """Return the content of `checkpoint.safetensors`."""
    files = {name: asdict(each) for name, each in written.items()}
    text = json.dumps({"format": FORMAT, "run_id": run_id, "written": files, "tree": state.tree})
    return save(state.tensors, {"run": text, "crc32": str(_crc32(text, state.tensors))})


def _crc32(text: str, tensors: Mapping[str, Tensor]) -> int:
    checksum = zlib.crc32(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        checksum = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), checksum)
        checksum = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, checksum)
    return checksum


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises `UnreadableRecord` if it is damaged, `NewerFormat` if a newer version of this program wrote it.
    """
    return checkpoint_of(read_file(path, CHECKPOINT_BYTES), path.name)


def checkpoint_of(content: bytes, name: str) -> Checkpoint:
    """Return the checkpoint that `checkpoint_content` made `content` of; `name` is that of its file, for messages.

    Raises as `read_checkpoint` does.
    """
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        if metadata["crc32"] != str(_crc32(metadata["run"], tensors)):
            raise UnreadableRecord(f"{name}: corrupt: checksum mismatch")
        values = json.loads(metadata["run"])
        tree = values.pop("tree")
        text = msgspec.convert(values, _Text)
        if text.format != FORMAT:
            raise NewerFormat(f"{name}: its format {named(text.format)} is not known here")
        return Checkpoint(text.run_id, text.written, State(tensors, tree))
    except UnreadableRecord:
        raise
    # A file with a right checksum may hold anything; safetensors documents no narrower error.
    except Exception as error:
        raise UnreadableRecord(f"{name}: not a checkpoint ({reason_of(error)})") from error


def _joined(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the nested value that `_split` took apart."""
    if isinstance(tree, list):
        return [_joined(each, tensors) for each in tree]
    if not isinstance(tree, dict):
        return tree
    if TENSOR in tree:
        return _as_it_was(tensors[tree[TENSOR]], tree)
    if DICT in tree:
        return {key: _joined(each, tensors) for key, each in tree[DICT]}
    if TUPLE in tree:
        return tuple(_joined(each, tensors) for each in tree[TUPLE])
    return complex(*tree[COMPLEX])


def _as_it_was(tensor: Tensor, place: Mapping[str, Any]) -> Tensor:
    if "type" not in place:
        return tensor
    kind = getattr(torch, place["type"])
    if kind.is_complex:
        return torch.view_as_complex(tensor.view(kind.to_real()).reshape(*place["shape"], 2))
    return tensor.view(kind).reshape(place["shape"])


def restore(engine: Engine, checkpoint: Checkpoint) -> None:
    """Set weights and optimizer state to those of `checkpoint`, in place: engines keep views of these tensors.

    Raises `UnreadableRecord` if they belong to another model or optimizer.
    """
    try:
        restore_weights(engine.model, checkpoint)
        optimizer = _joined(checkpoint.state.tree["optimizer"], checkpoint.state.tensors)
        with without_compiler():
            made = engine.optimizer.state_dict()
            if made["state"]:
                _restore_in_place(made["state"], optimizer["state"])
                return
            engine.optimizer.load_state_dict({**made, **optimizer, "param_groups": _groups(made, optimizer)})
            _correct(engine.optimizer, optimizer["state"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableRecord(f"{CHECKPOINT_FILE}: of another model or optimizer ({reason_of(error)})") from error


def restore_weights(model: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Set a model's weights to those of `checkpoint`, in place; one without memory, on PyTorch's meta device, gets it.

    Raises `UnreadableRecord` if they belong to another model.
    """
    try:
        weights = _joined(checkpoint.state.tree["model"], checkpoint.state.tensors)
        _own_memory(model)
        model.load_state_dict(weights, assign=all(parameter.is_meta for parameter in model.parameters()))
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableRecord(f"{CHECKPOINT_FILE}: of another model ({reason_of(error)})") from error


def _own_memory(model: torch.nn.Module) -> None:
    """Give every buffer that is a view of fewer numbers than it shows memory of its own: others cannot be loaded."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.nbytes > buffer.untyped_storage().nbytes():
                setattr(module, name, buffer.clone())


def _groups(made: dict[str, Any], saved: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the groups of parameters as they were, with the rates of now; an own optimizer may count in them."""
    rates = [{name: group[name] for name in ("params", "lr") if name in group} for group in made["param_groups"]]
    before = saved.get("param_groups", made["param_groups"])
    return [group | now for group, now in zip(before, rates, strict=True)]


def _correct(optimizer: torch.optim.Optimizer, saved: Mapping[int, Any]) -> None:
    """Make the state what was saved: PyTorch gives all tensors the type of the parameter, and spoils nested text."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, state in saved.items():
        now, device = optimizer.state[parameters[index]], parameters[index].device
        for name, value in state.items():
            if not isinstance(value, Tensor) or now[name].dtype != value.dtype:
                now[name] = _on(device, value)


def _on(device: torch.device, value: Any) -> Any:
    """Return a nested value with its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _on(device, part) for key, part in value.items()}
    return type(value)(_on(device, part) for part in value) if isinstance(value, list | tuple) else value


def _restore_in_place(state: dict[int, dict[str, Any]], saved: dict[int, dict[str, Any]]) -> None:
    for parameter, values in state.items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                value.copy_(saved[parameter][name])
            else:
                values[name] = saved[parameter][name]
