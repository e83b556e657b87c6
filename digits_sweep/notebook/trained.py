"""The trained network of a run, built anew with the weights of its checkpoint."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import msgspec
import torch
from torch import nn

from digits_sweep.config.keys import mistakes
from digits_sweep.config.own_code import is_object, name_object, object_called
from digits_sweep.config.schema import CHOICES, ModelConfig, OwnModelConfig
from digits_sweep.errors import InvalidConfig, UnreadableRecord, first_lines, reason_of
from digits_sweep.results.record import RECORD_FILE, Record, read_record
from digits_sweep.sweep.checkpoint import CHECKPOINT_FILE, read_checkpoint, restore_weights
from digits_sweep.training.model import MODELS, build_model


def load_model(run_dir: os.PathLike[str] | str, model: Callable[..., nn.Module] | None = None) -> nn.Module:
    """Load the network of the run in `run_dir` with its weights after the last finished epoch, on the CPU, to evaluate.

    It maps images (batch, channels, height, width) float32, on the scale that `data.scale` of its run says, to scores
    (batch, classes). `model` is the class or function that makes a network of the user's own, which `model.target` of
    the run named: code that a file names is not run.

    Raises `InvalidConfig` if `model` is missing, or is not for this run, `UnreadableRecord` if its record or checkpoint
    cannot be read or belong to different networks.
    """
    folder = Path(run_dir)
    record = read_record(folder)
    config = _model_config(record)
    if record.image_shape is None:
        raise UnreadableRecord(f"{RECORD_FILE}: does not say the shape of an image of {record.dataset}")
    is_own = isinstance(config, OwnModelConfig)
    if isinstance(config, OwnModelConfig):
        config = replace(config, target=_target(str(config.target), model))
    elif model is not None:
        raise InvalidConfig(f"model: the network of {folder.name} is model={config.name}; leave it out")
    checkpoint = read_checkpoint(folder / CHECKPOINT_FILE)
    if checkpoint.run_id != record.run_id:
        raise UnreadableRecord(f"{CHECKPOINT_FILE}: of another run than {RECORD_FILE}")
    # Without memory: the sizes in a file may be anything, those in the checkpoint are no larger than it is.
    with nullcontext() if is_own else torch.device("meta"):
        network = build_model(config, 0, tuple(record.image_shape), torch.int64 if record.tokens else torch.uint8)
    restore_weights(network, checkpoint)
    return network.eval()


def _model_config(record: Record) -> ModelConfig:
    """Return the model's part of a run's configuration, checked: it comes from a file."""
    try:
        values = record.config["model"]
        config: ModelConfig = msgspec.convert(values, CHOICES[ModelConfig].get(values["name"], ModelConfig))
        lines = list(mistakes(config, "model."))
        if config.name not in MODELS:
            lines.append(f"model.name={config.name}: choose {' or '.join(MODELS)}")
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableRecord(f"{RECORD_FILE}: not the configuration of a network ({reason_of(error)})") from error
    if lines:
        raise UnreadableRecord(first_lines([f"{RECORD_FILE}: {line}" for line in lines]))
    return config


def _target(recorded: str, model: Callable[..., nn.Module] | None) -> str:
    """Return the name of what makes the user's own network: what was passed now, or to `run` before."""
    if model is not None:
        return name_object("model", model)
    if is_object(recorded) and object_called(recorded) is not None:
        return recorded
    raise InvalidConfig(f"model.target={recorded}: code that a file names is not run; pass it: load_model(..., model=)")
