"""Folders in a configuration: `~` becomes the home folder, and each is checked, once, while a command line is planned.

From then on a path means the same to everything that it is given to.
"""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from digits_sweep.config.keys import declared
from digits_sweep.config.rules import FOLDER
from digits_sweep.errors import InvalidConfig
from digits_sweep.results.disk.folders import expanded

# The address of a local store, such as sqlite:///~/mlflow.db, has a path behind it.
OF_AN_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*:///)?(.*)", re.DOTALL)


@cache
def _folders() -> list[str]:
    return [name for name, key in declared().items() if key.rule.is_folder]


def expand_folders(config: DictConfig) -> None:
    """Expand `~` in every folder of a composed configuration, before other keys are made of them.

    Raises OmegaConf's own errors if one cannot be resolved.
    """
    for name in _folders():
        typed = OmegaConf.select(config, name)
        if isinstance(typed, str) and (full := expanded(typed)) != typed:
            # A dollar sign in the name of a home folder is no interpolation.
            OmegaConf.update(config, name, full.replace("${", "\\${"))


def expanded_settings(settings: Any) -> Any:
    """Return the settings of a tracker with `~` expanded at the start of paths and of addresses of local stores."""
    if not isinstance(settings, dict):
        return settings
    return {name: _expanded_address(value) if isinstance(value, str) else value for name, value in settings.items()}


def _expanded_address(value: str) -> str:
    found = OF_AN_ADDRESS.fullmatch(value)
    return (found[1] or "") + expanded(found[2]) if found else value


def check_working_folder() -> None:
    """Raise `InvalidConfig` if nothing can be composed in the working folder: it is gone, or Hydra cannot name it."""
    try:
        working = str(Path.cwd())
    except FileNotFoundError:
        raise InvalidConfig("the working folder has been removed; change to another one") from None
    if "${" in working:
        raise InvalidConfig(f"the working folder {working} has ${{ in its name, which Hydra replaces; use another one")


def configuration_folder(typed: str) -> str:
    """Return the full path of a folder for Hydra's search path. Raises `InvalidConfig` if there is none."""
    folder = Path(expanded(typed)).absolute()
    if not folder.is_dir():
        raise InvalidConfig(f"--config-dir={typed}: there is no such folder")
    if not FOLDER.holds(str(folder)):
        raise InvalidConfig(f"--config-dir={typed}: {FOLDER.right}")
    return f"file://{folder}"


def folder_of_the_environment(variable: str, default: str) -> str:
    """Resolve `${folder_of:NAME,"default"}`: the environment variable, unless it is missing or empty."""
    folder = os.environ.get(variable, "")
    return folder if folder.strip() else default
