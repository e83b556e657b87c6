"""A value of its own for every batch size: `${by_batch_size:...}` in `conf/`, `key={5:1e-4,else:1e-3}` when typed."""

from typing import Any, get_origin

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from digits_sweep.config.keys import declared
from digits_sweep.errors import InvalidConfig

OTHERWISE = "else"


def resolved_by_batch_size(default: float, exceptions: DictConfig, *, _root_: DictConfig) -> float:
    """Resolve `${by_batch_size:1e-4,{5:1e-6}}`: the value for this run's batch size, else the default."""
    return exceptions.get(_root_.data.batch_size, default)


def is_by_batch_size(override: Override) -> bool:
    """Return whether a dictionary is typed for a key that holds no dictionary: it has a value for every batch size."""
    kind = declared()[override.key_or_group].kind if override.key_or_group in declared() else dict
    return isinstance(override.value(), dict) and dict not in (kind, get_origin(kind))


def value_at(override: Override, batch_size: int) -> Any:
    """Return the value that `key={5:1e-4,else:1e-3}` gives to a run of `batch_size`.

    Raises `InvalidConfig` if it gives none, or if something else than batch sizes is named.
    """
    values: Any = override.value()
    key = override.key_or_group
    if key == "data.batch_size" or not all(type(size) is int or size == OTHERWISE for size in values):
        right = "give each batch size its value, such as 'optimizer.lr={5:1e-4,20:3e-4,else:1e-3}'"
        raise InvalidConfig(f"{override.input_line}: {right}")
    if batch_size in values or OTHERWISE in values:
        return values.get(batch_size, values.get(OTHERWISE))
    raise InvalidConfig(f"{override.input_line}: has no value for batch size {batch_size}; add else:VALUE")
