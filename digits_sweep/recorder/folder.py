"""The folder of a sweep of loops that are not this program's: `sweep.json` grows by every run that starts."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from digits_sweep.config.keys import written
from digits_sweep.errors import CannotRecord, UnreadableRecord
from digits_sweep.results.columns import OWN_LOOP
from digits_sweep.results.disk.files import make_folder, safe_name
from digits_sweep.results.disk.lock import only_writer
from digits_sweep.results.manifest import NAME, Manifest, next_counter, read_manifest, write_manifest
from digits_sweep.results.run.record import read_record
from digits_sweep.results.summary import publish_summary
from digits_sweep.results.sweep import RecordedSweep


def add_run(sweep_dir: Path, folder: str, config: dict[str, Any]) -> int:
    """Write a run into `sweep.json`, which is made if there is none; return its number, from 0.

    Raises `CannotRecord` if the folder is a sweep of this program's own, OSError if it cannot be written.
    """
    make_folder(sweep_dir)
    with _held(sweep_dir):
        manifest = _manifest(sweep_dir)
        if any((each.get("engine") or {}).get("name") != OWN_LOOP for each in manifest.configs):
            raise CannotRecord(f"{sweep_dir}: a sweep of python -m digits_sweep; choose another folder")
        runs, configs = [*manifest.runs], [*manifest.configs]
        if folder in runs:
            configs[runs.index(folder)] = config
        else:
            runs.append(folder)
            configs.append(config)
        write_manifest(sweep_dir, replace(manifest, runs=runs, configs=configs))
        return runs.index(folder)


def folder_of(config: dict[str, Any]) -> str:
    """Return the name of the folder of a run: all that it differs in from one in which nothing is named."""
    unnamed: dict[str, Any] = {"model": "own", "optimizer": "own", "dataset": "own", "weight_decay": 0}
    optimizer = config["optimizer"]
    values = {"model": config["model"]["name"], "optimizer": optimizer["name"], "dataset": config["data"]["name"]}
    values |= {"batch_size": config["data"]["batch_size"], "lr": optimizer["lr"]}
    values |= {"weight_decay": optimizer["weight_decay"], "seed": config["seed"], **config["settings"]}
    named = (f"{name}={written(value)}" for name, value in values.items() if value != unnamed.get(name))
    return safe_name("_".join(named))


def is_completed(run_dir: Path) -> bool:
    """Return whether the run in `run_dir` was trained to its end."""
    try:
        return read_record(run_dir).status.has_ended
    except UnreadableRecord:
        return False


def publish(sweep_dir: Path) -> None:
    """Rebuild `summary.csv` and `targets.csv` of the sweep, and of its outputs folder if it is the newest there."""
    with _held(sweep_dir):
        publish_summary(RecordedSweep(sweep_dir), _outputs(sweep_dir))


def _outputs(sweep_dir: Path) -> Path:
    return sweep_dir.absolute().parent.parent


@contextmanager
def _held(sweep_dir: Path) -> Iterator[None]:
    with only_writer(sweep_dir, waits=lambda line: None):
        yield


def _manifest(sweep_dir: Path) -> Manifest:
    if (sweep_dir / NAME).exists():
        return read_manifest(sweep_dir)
    started, counter = datetime.now(timezone.utc).isoformat(), next_counter(_outputs(sweep_dir))
    return Manifest([], [], [], [], id=secrets.token_hex(8), started_at=started, counter=counter)
