"""The folder of a study: `outputs/critical_batch_size/<date_time>/`, and `study.json`, by which a resume knows it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from digits_sweep.config.hydra.launchers import SUBMITIT_FOLDER
from digits_sweep.config.keys import flat, results_of, written
from digits_sweep.config.plan import PlannedRun
from digits_sweep.critical_batch_size.settings import PREFIX, CriticalConfig
from digits_sweep.errors import CannotResume, UnreadableRecord
from digits_sweep.results.disk.files import replace_file
from digits_sweep.results.disk.folders import expanded
from digits_sweep.results.disk.reading import RECORD_BYTES, check_plain, named, read_json, run_folders

FOLDER, NAME, FORMAT = "critical_batch_size", "study.json", 1


@dataclass(frozen=True)
class StudyFile:
    """`study.json`: what a study is asked to find out.

    `settings` are the keys `critical.`, `configs` the keys of each batch size that may change a result. `checked` is
    the batch size that is run to check the answer of a goal, by the goal: it follows from measured seconds, which are
    not the same twice.
    """

    started_at: str
    settings: dict[str, Any]
    configs: dict[str, dict[str, Any]]
    checked: dict[str, int] = field(default_factory=dict)


def study_file(settings: CriticalConfig, runs: Sequence[PlannedRun]) -> StudyFile:
    """Return what a study that starts now is asked to find out; `runs` has one for every batch size."""
    # Branches start from runs that are there anyway: they may be asked for later.
    own = {name: value for name, value in asdict(settings).items() if name != "runs" and not name.startswith("branch")}
    configs = {str(run.config.data.batch_size): _without_rate(asdict(run.config)) for run in runs}
    return StudyFile(datetime.now(timezone.utc).isoformat(), own, configs)


def _without_rate(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in results_of(config).items() if key != "optimizer.lr"}


def write_study(folder: Path, study: StudyFile) -> None:
    """Write `study.json`. Raises OSError if it cannot be written."""
    replace_file(folder / NAME, json.dumps({"format": FORMAT, **asdict(study)}, indent=2) + "\n")


def read_study(folder: Path) -> StudyFile:
    """Read `study.json`. Raises `UnreadableRecord` if that is not possible."""
    content = read_json(folder / NAME, RECORD_BYTES)
    try:
        if (written_in := content.pop("format", None)) != FORMAT:
            raise UnreadableRecord(f"{NAME}: its format {named(written_in)} is not known here")
        study = StudyFile(**content)
        parts = (study.settings, study.configs, study.checked, *study.configs.values())
        if not isinstance(study.started_at, str) or not all(isinstance(each, dict) for each in parts):
            raise TypeError("a part is not what belongs there")
        if not all(type(size) is int and 0 < size < 2**31 for size in study.checked.values()):
            raise TypeError("checked is no batch size")
    except (TypeError, AttributeError) as error:
        raise UnreadableRecord(f"{NAME}: no study ({error})") from error
    return study


def find_study(resume: str, outputs: Path) -> Path:
    """Return the folder that `resume=` names, `latest` being the study that was started last.

    Raises `CannotResume` if there is none, or if something in it is no plain file.
    """
    try:
        folder = _latest(outputs / FOLDER) if resume == "latest" else Path(expanded(resume))
        read_study(folder)
        check_plain(folder, unused=SUBMITIT_FOLDER)
    except UnreadableRecord as error:
        raise CannotResume(f"resume={resume}: {error}") from error
    return folder


def _latest(parent: Path) -> Path:
    found = []
    for name in run_folders(parent)[0]:
        try:
            found.append((read_study(parent / name).started_at, parent / name))
        except UnreadableRecord:
            continue
    if not found:
        raise UnreadableRecord(f"{parent}: no study here yet")
    return max(found)[1]


def refuse_another(folder: Path, before: StudyFile, now: StudyFile) -> None:
    """Raise `CannotResume` with a line for everything in which the study in `folder` is not the one that is typed."""
    if found := list(_differences(before, now)):
        raise CannotResume("\n".join(f"resume={folder}: {line}" for line in found))


def _differences(before: StudyFile, now: StudyFile) -> Iterator[str]:
    if before.configs.keys() != now.configs.keys():
        sizes = [",".join(each.configs) for each in (before, now)]
        yield f"data.batch_size was {sizes[0]}, is now {sizes[1]}"
        return
    pairs = [(f"{PREFIX}{key}", before.settings.get(key), value) for key, value in now.settings.items()]
    for size, config in now.configs.items():
        old = dict(flat(before.configs[size]))
        pairs += [(key, old.get(key), value) for key, value in config.items()]
        pairs += [(key, value, None) for key, value in old.items() if key not in config]
    lines = (f"{key} was {written(old)}, is now {written(new)}" for key, old, new in pairs if old != new)
    yield from dict.fromkeys(lines)
