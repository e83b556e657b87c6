"""Records that are changed on disk, with or without a checksum that fits, and runs put back to before they started."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from digits_sweep.results.record import Record, Status, read_record, write_record


def change_record(run_dir: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of `record.json`, and of the one before it, in place; the checksums fit what is there then."""
    for path in (run_dir / "record.json", run_dir / "record.json.previous"):
        content = json.loads(path.read_text(encoding="utf-8"))
        del content["sha256"]
        change(content)
        text = json.dumps(content, indent=2).removeprefix("{\n").encode() + b"\n"
        checksum = hashlib.sha256(text).hexdigest().encode()
        path.write_bytes(b'{\n  "sha256": "' + checksum + b'",\n' + text)


def interrupt(run_dir: Path) -> None:
    """Make a run that has ended one that is still to be finished."""
    change_record(run_dir, lambda content: content.update(status="interrupted", files={}))


def undo_the_last_epoch(run_dir: Path) -> None:
    """Leave a run as a process that is killed in its last epoch does: the checkpoint before, more in other files."""
    (run_dir / "checkpoint.safetensors.previous").replace(run_dir / "checkpoint.safetensors")
    interrupt(run_dir)


def unstart(run_dir: Path) -> None:
    """Put a run back to before it started: it is planned, and nothing more."""
    record = read_record(run_dir)
    shutil.rmtree(run_dir)
    run_dir.mkdir()
    write_record(run_dir, Record(record.number, Status.PLANNED, folder=run_dir.name, config=record.config))
