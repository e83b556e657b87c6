"""The keys of a command of its own, such as `tune.` of the search: a YAML file in `conf/`, and what is typed."""

from collections.abc import Sequence
from typing import TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from digits_sweep.config.hydra.compose import CONF
from digits_sweep.errors import InvalidConfig

Settings = TypeVar("Settings")

# More runs of one configuration than anybody waits for.
MOST_SEEDS = 999


def own_keys(schema: type[Settings], file: str, prefix: str, typed: Sequence[str]) -> Settings:
    """Return the values of the YAML `file` in `conf/`, changed by `typed`, as the dataclass `schema`.

    `typed` are `key=value` without `prefix`. Raises `InvalidConfig` for an unknown key or a value of another type.
    """
    structured = OmegaConf.structured(schema)
    for each in typed:
        try:
            OmegaConf.merge(structured, OmegaConf.from_dotlist([each]))
        except (OmegaConfBaseException, YAMLError) as error:
            raise InvalidConfig(f"{prefix}{each}: {str(error).splitlines()[0]}") from error
    merged = OmegaConf.merge(structured, OmegaConf.load(CONF / file), OmegaConf.from_dotlist(list(typed)))
    settings: Settings = OmegaConf.to_object(merged)  # type: ignore[assignment]
    return settings
