"""Where a sweep and its runs are written: folder names that are safe, and folders that belong to one sweep alone."""

import hashlib
import re
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

LONGEST_NAME = 120


def run_folder(*swept: str, _root_: DictConfig) -> str:
    """`${run_folder:'data.batch_size','seed'}`: the name of a run's folder, from the resolved values of what is swept.

    Whatever the values are, the name is one plain path component: what is not a letter, a digit or one of `._=-`
    becomes `-`, and a name that had to be changed or cut ends with a digest of what it stood for.
    """
    wanted = "_".join(f"{re.split('[./]', key)[-1]}={_value(key, _root_)}" for key in swept or ("data.batch_size",))
    name = re.sub(r"[^A-Za-z0-9._=-]", "-", wanted)[:LONGEST_NAME]
    return name if name == wanted else f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"


def _value(key: str, config: DictConfig) -> str:
    """The choice of a group, or the value of a key, as text."""
    choices = config.hydra.runtime.choices
    value = choices[key] if key in choices else OmegaConf.select(config, key)
    return f"{value:g}" if isinstance(value, float) else str(value)


def claim_sweep_folder(outputs: Path) -> Path:
    """A new folder for a sweep that starts now, `outputs/sweeps/<date_time>`, that no other process can have too.

    Raises OSError where it cannot be made.
    """
    sweeps = outputs / "sweeps"
    sweeps.mkdir(parents=True, exist_ok=True)
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for again in range(1, 1_000):
        folder = sweeps / (started if again == 1 else f"{started}_{again}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise FileExistsError(f"{sweeps / started}: a thousand sweeps started in this second")
