"""What a sweep set out to do: `sweep.json` in its folder, written before its first run."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from digits_sweep.results.files import replace_file
from digits_sweep.results.record import UnreadableRecord

FORMAT = 1


@dataclass(frozen=True)
class DatasetChoice:
    """The data set that runs use which ask for `requested`, the digest of its content, and why it differs, if so."""

    requested: str
    used: str
    digest: str
    note: str | None


@dataclass(frozen=True)
class Manifest:
    """`command` as it was typed, the folder of every run in order, and what each requested data set came to."""

    command: list[str]
    runs: list[str]
    datasets: list[DatasetChoice]

    def dataset(self, requested: str) -> DatasetChoice:
        """What the runs use that ask for `requested`. Raises KeyError where the sweep made no such data ready."""
        for choice in self.datasets:
            if choice.requested == requested:
                return choice
        raise KeyError(requested)


def write_manifest(sweep_dir: Path, manifest: Manifest) -> None:
    """Write `sweep.json`. Raises OSError where it cannot be written."""
    replace_file(sweep_dir / "sweep.json", json.dumps({"format": FORMAT, **asdict(manifest)}, indent=2) + "\n")


def read_manifest(sweep_dir: Path) -> Manifest:
    """The manifest in `sweep_dir`. Raises `UnreadableRecord` where it is missing, torn or of another format."""
    path = sweep_dir / "sweep.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"not of format {FORMAT}")
        return Manifest(
            command=list(content["command"]),
            runs=list(content["runs"]),
            datasets=[DatasetChoice(**choice) for choice in content["datasets"]],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableRecord(f"{path}: {error}") from error
