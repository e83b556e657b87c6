"""Hydra's and OmegaConf's complaints in this program's words: one line with key, value and what would be right."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from digits_sweep.config.compose import Composer
from digits_sweep.config.keys import closest, declared
from digits_sweep.config.launchers import SITE_OPTIONS, launcher_called
from digits_sweep.config.schema import RATES
from digits_sweep.errors import InvalidConfig, not_installed

KINDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
KINDS |= {list[str]: "a list [a,b]", list[float]: "a list of numbers [a,b]", type(None): "null"}
KINDS[list[int]] = "a list of whole numbers [a,b]"
KINDS[RATES] = "numbers by optimizer, by batch size in quotes, and by key, as in conf/scaling/lesson.yaml"


@contextmanager
def explained(overrides: Sequence[str], composer: Composer) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise in the block into `InvalidConfig`; `overrides` are what the user typed."""
    try:
        yield
    except OverrideParseException as error:
        raise InvalidConfig(_unreadable(error.override)) from error
    except AssertionError as error:
        # OmegaConf's way to refuse a value inside something that is null.
        raise InvalidConfig(_first_line(error)) from error
    except MissingConfigException as error:
        raise InvalidConfig(_missing_choice(error, composer)) from error
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
        cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
        explanation = _wrong_value(cause, overrides, composer) or _wrong_group(overrides, composer)
        raise InvalidConfig(explanation or _first_line(error)) from error


def _unreadable(override: str) -> str:
    """Say how to type a text that Hydra's grammar cannot read."""
    key, equals, value = override.partition("=")
    if "\r" in override:
        return f"{override!r}: ends with a carriage return, as lines of a Windows file do; remove it"
    if not equals:
        return f"{override}: is not key=value; a list of values has no space after its commas (key=1,2,3)"
    if value.rstrip().endswith(","):
        return f"{override}: ends with a comma; a list of values has no space after its commas (key=1,2,3)"
    inner = value.strip("'\"").replace('"', '\\"')
    return f"{override}: cannot be read as key=value; quote it, also for the shell: '{key}=\"{inner}\"'"


def _missing_choice(error: MissingConfigException, composer: Composer) -> str:
    file = str(error.missing_cfg_file)
    group, _, choice = file.rpartition("/")
    if group == "hydra/launcher" and (extra := launcher_called(choice).extra):
        return f"{group}={choice}: {not_installed('its launcher', extra)}"
    if not error.options:
        return f"{group or file}={choice}: there is no such group; choose among {', '.join(composer.groups())}"
    if group == "optimizer" and (now := _with_scaling(choice, composer)):
        return f"{group}={choice}: is now {now}"
    return f"{group}={choice}: there is no such choice; choose {' or '.join(error.options)}"


def _with_scaling(choice: str, composer: Composer) -> str | None:
    """Return how a choice of before there was a group `scaling` is typed now: an optimizer and a rule, `adam_sqrt`."""
    optimizer, _, rule = choice.partition("_")
    scaling = {"same_rates": "none", "fixed": "none"}.get(rule, rule)
    is_one = optimizer in composer.options("optimizer") and scaling in composer.options("scaling")
    return f"optimizer={optimizer} scaling={scaling}" if is_one else None


def _wrong_value(cause: BaseException | None, overrides: Sequence[str], composer: Composer) -> str | None:
    # The key of a list, not of a value in it.
    key = re.sub(r"\[\d+\]$", "", getattr(cause, "full_key", None) or "")
    if not key:
        return None
    known = declared()
    if not key.startswith("tracker."):
        # What is wrong below a key is wrong with its value.
        key = next((above for above in known if key.startswith(f"{above}.")), key)
    typed = next((each for each in overrides if re.match(rf"[+~]*{re.escape(key)}[.=]", each)), key)
    if key.startswith("tracker."):
        name = key.split(".")[1]
        return f"{typed}: " + (f"add tracker={name}" if name in composer.options("tracker") else "there is no such key")
    if key not in known:
        launcher = next((each.partition("=")[2] for each in overrides if each.startswith("hydra/launcher=")), "")
        if key.startswith("hydra.launcher.") and launcher_called(launcher).is_slurm:
            option = f"{SITE_OPTIONS}.{key.rpartition('.')[2]}=VALUE"
            return f"{typed}: this launcher has no such key; an option of sbatch is {option}"
        close = closest(key, [*known, *(composer.groups() if "." not in key else ())])
        return f"{typed}: there is no such key" + (f"; did you mean {close}?" if close else " here")
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return f"{typed}: there is no such key with this {key.partition('.')[0]}"
    kind = known[key].kind
    kinds = [kind] if kind in KINDS else get_args(kind)
    return f"{typed}: must be {' or '.join(KINDS.get(each, 'of another type') for each in kinds)}"


def _wrong_group(overrides: Sequence[str], composer: Composer) -> str | None:
    """Return a line for the first override that gives a group something other than the name of a choice."""
    for override in overrides:
        group, _, choice = override.lstrip("+").partition("=")
        options = composer.options(group) if group in composer.groups() else []
        if options and choice not in options:
            return f"{override}: there is no such choice; choose {' or '.join(options)}"
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
