"""The process that reports to the trackers, beside the one that launches a sweep."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# How long the end of a sweep waits for trackers that are still sending.
MOST_SECONDS = 60
# After this it is said what is waited for.
PATIENCE_SECONDS = 0.5

# Keeps the libraries from printing between the epochs, and MLflow from trying for minutes to reach a server.
QUIET = {"WANDB_SILENT": "true", "MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


@contextmanager
def following(tracker: Mapping[str, Any], sweep_dir: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Report what is recorded in `sweep_dir` during the block to the trackers whose settings `tracker` holds by name.

    Without a tracker no process is started. What goes wrong is a line to `say`; nothing is raised.
    """
    if not tracker:
        yield
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "digits_sweep.trackers", str(sweep_dir)],
        stdin=subprocess.PIPE,
        # Ctrl-C is for the sweep, whose end this process must still report.
        start_new_session=True,
        env=QUIET | os.environ,
    )
    # A process that has died already says so by its exit code.
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(tracker).encode() + b"\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_SECONDS)
            if process.poll() is None:
                verb = "have" if len(tracker) > 1 else "has"
                say(f"waiting until {' and '.join(tracker)} {verb} what is left, at most {MOST_SECONDS} s")
            if process.wait(MOST_SECONDS):
                say(f"WARNING: the process of the trackers ended with exit code {process.returncode}")
        except subprocess.TimeoutExpired:
            say(f"process {process.pid} is still reporting to the trackers; the sweep does not wait for it")
