"""Hydra's and OmegaConf's complaints in this program's words: one line with key, value and what would be right."""

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from digits_sweep.config.rules import InvalidConfig
from digits_sweep.config.schema import AdamConfig, Config, SGDConfig

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list[str]: "a list [a,b]"}


# Which extra brings which of Hydra's launchers.
EXTRAS = {"joblib": "joblib", "ray": "ray", "slurm": "slurm", "submitit_slurm": "slurm", "submitit_local": "slurm"}


@contextmanager
def explained(overrides: Sequence[str]) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise in the block into `InvalidConfig`; `overrides` are what the user typed."""
    try:
        yield
    except OverrideParseException as error:
        raise InvalidConfig(f"{error.override}: cannot be read as key=value") from error
    except AssertionError as error:
        # What OmegaConf does where a value is given inside something that is null.
        raise InvalidConfig(_of_no_tracker(overrides) or _first_line(error)) from error
    except MissingConfigException as error:
        raise InvalidConfig(_missing_choice(error)) from error
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
        cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
        raise InvalidConfig(_wrong_value(cause, overrides) or _wrong_group(overrides) or _first_line(error)) from error


def _of_no_tracker(overrides: Sequence[str]) -> str | None:
    of_trackers = (each for each in overrides if each.lstrip("+").startswith("tracker."))
    return next((f"{each}: add tracker={re.split('[.=]', each)[1]}" for each in of_trackers), None)


def _missing_choice(error: MissingConfigException) -> str:
    wanted = str(error.missing_cfg_file)
    group, _, choice = wanted.rpartition("/")
    options = error.options
    if group == "hydra/launcher" and choice in EXTRAS:
        return f"{group}={choice}: its launcher is not installed; pip install 'digits-sweep[{EXTRAS[choice]}]'"
    if not options:
        return f"{group or wanted}={choice}: there is no such group; choose among {', '.join(_groups())}"
    return f"{group}={choice}: there is no such choice; choose {' or '.join(options)}"


def _wrong_value(cause: BaseException | None, overrides: Sequence[str]) -> str | None:
    key = getattr(cause, "full_key", None)
    if not key:
        return None
    typed = next((each for each in overrides if each.lstrip("+~").partition("=")[0] == key), key)
    known = _keys(Config)
    if key in known and isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return f"{typed}: there is no such key with this {key.partition('.')[0]}"
    if key not in known:
        close = difflib.get_close_matches(key, [*known, *_groups()], n=1, cutoff=0.5)
        return f"{typed}: there is no such key" + (f"; did you mean {close[0]}?" if close else " here")
    return f"{typed}: must be {KINDS.get(known[key], 'of another type')}"


def _wrong_group(overrides: Sequence[str]) -> str | None:
    """The first override that gives a group something which is not the name of a choice."""
    loader = GlobalHydra.instance().config_loader()
    for each in overrides:
        group, _, choice = each.lstrip("+").partition("=")
        options = loader.get_group_options(group) if group in _groups() else []
        if options and choice not in options:
            return f"{each}: there is no such choice; choose {' or '.join(options)}"
    return None


def _keys(node: Any) -> dict[str, Any]:
    """Every key that the schema knows, and its type."""
    hints = get_type_hints(node)
    found: dict[str, Any] = {}
    for each in fields(node):
        kind = hints[each.name]
        if is_dataclass(kind):
            for option in (AdamConfig, SGDConfig) if each.name == "optimizer" else (kind,):
                found |= {f"{each.name}.{name}": inner for name, inner in _keys(option).items()}
        else:
            found[each.name] = kind
    return found


def _groups() -> list[str]:
    loader = GlobalHydra.instance().config_loader()
    return [group for group in loader.list_groups("") if group not in ("hydra", "schema")]


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
