"""What a sweep set out to do: `sweep.json` in its folder, written before its first run."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from digits_sweep.results.files import UnreadableRecord, replace_file

# 1: the first one. 2: `configs`.
FORMAT = 2


@dataclass(frozen=True)
class DatasetChoice:
    """The data set that runs use which ask for `requested`, the digest of its content, and why it differs, if so."""

    requested: str
    used: str
    digest: str
    note: str | None


@dataclass(frozen=True)
class Manifest:
    """`command` as it was typed, folder and configuration of every run in order, what each data set came to."""

    command: list[str]
    runs: list[str]
    configs: list[dict[str, Any]]
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
        manifest = Manifest(
            command=[_checked(argument, str) for argument in content["command"]],
            runs=[_checked(folder, str) for folder in content["runs"]],
            configs=[_checked(config, dict) for config in content["configs"]],
            datasets=[DatasetChoice(**choice) for choice in content["datasets"]],
        )
        if len(manifest.configs) != len(manifest.runs):
            raise ValueError("not as many configurations as runs")
        for choice in manifest.datasets:
            _checked(choice.used, str), _checked(choice.digest, str), _checked(choice.requested, str)
        return manifest
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableRecord(f"{path}: no manifest of a sweep ({error})") from error


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not what belongs there")
    return value


def newest_sweep(outputs: Path) -> Path:
    """The folder of the sweep that was started last. Raises FileNotFoundError where there is none."""
    sweeps = sorted(path.parent for path in (outputs / "sweeps").glob("*/sweep.json"))
    if not sweeps:
        raise FileNotFoundError(f"{outputs / 'sweeps'}: no sweep here yet; run python -m digits_sweep -m first")
    return sweeps[-1]
