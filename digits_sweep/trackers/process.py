"""The process that tells the trackers, beside the one that launches a sweep."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from digits_sweep.config.rules import InvalidConfig
from digits_sweep.config.schema import TrackerConfig

# How long the end of a sweep waits for trackers that still send.
PATIENCE_SECONDS = 60

# What their libraries would otherwise print between the epochs, and how long MLflow tries a server that is not there.
QUIET = {"WANDB_SILENT": "true", "MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


def chosen(config: TrackerConfig) -> list[str]:
    """The names of the trackers that `config` asks for, which are those of their libraries and extras too."""
    return [name for name, settings in vars(config).items() if settings is not None]


def refuse_missing(config: TrackerConfig) -> None:
    """Raise `InvalidConfig` where the library of a tracker is not installed."""
    for name in chosen(config):
        if find_spec(name) is None:
            raise InvalidConfig(f"tracker={name}: {name} is not installed; pip install 'digits-sweep[{name}]'")


@contextmanager
def told(config: TrackerConfig, sweep_dir: Path, say: Callable[[str], None]) -> Iterator[None]:
    """What happens in `sweep_dir` during the block is told to the trackers; without one there is no process."""
    if not chosen(config):
        yield
        return
    # Its own session: Ctrl-C is for the sweep, whose end this process still has to tell.
    process = subprocess.Popen(
        [sys.executable, "-m", "digits_sweep.trackers", str(sweep_dir)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env=QUIET | os.environ,
    )
    try:
        yield
    finally:
        process.stdin.close()  # type: ignore[union-attr]
        try:
            if process.wait(PATIENCE_SECONDS):
                say(f"WARNING: the trackers' process ended with exit code {process.returncode}")
        except subprocess.TimeoutExpired:
            say(f"the trackers are still being told, by process {process.pid}; the sweep does not wait for them")
