"""The study of the critical batch size from end to end."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from digits_sweep.config.keys import flat, results_of
from digits_sweep.config.launchers import SUBMITIT_FOLDER
from digits_sweep.config.plan import Plan, PlannedRun
from digits_sweep.config.text import expand_home, to_text
from digits_sweep.errors import CannotResume, UnreadableRecord
from digits_sweep.report.critical import branch_sentence, branches_of, sentences
from digits_sweep.report.page import write_page
from digits_sweep.report.study import load_study
from digits_sweep.report.words import listed
from digits_sweep.results.critical import Answer, write_answers
from digits_sweep.results.files import (
    RECORD_BYTES,
    check_plain,
    named,
    read_json,
    remove_leftovers,
    replace_file,
    run_folders,
)
from digits_sweep.results.lock import only_writer
from digits_sweep.results.sweep import RecordedSweep
from digits_sweep.search.answers import (
    answers,
    round_batch_size,
    shown,
    steps_table,
    tuning_table,
    with_check,
    write_branches,
    write_steps,
    write_tuning,
)
from digits_sweep.search.branches import branches, start_of_branches
from digits_sweep.search.settings import PREFIX, CriticalConfig, Typed
from digits_sweep.search.study import Stop, Study, goals_of, plan_batch_size, plan_batch_sizes
from digits_sweep.shell import INTERRUPTED, TERMINATED, Screen, Terminated
from digits_sweep.sweep import preflight
from digits_sweep.sweep.launch import launch
from digits_sweep.sweep.resume import whole_command
from digits_sweep.sweep.session import claim_folder, datasets
from digits_sweep.trackers.following import report_to_trackers

FOLDER, STUDY_FILE, FORMAT = "critical_batch_size", "study.json", 1


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
    replace_file(folder / STUDY_FILE, json.dumps({"format": FORMAT, **asdict(study)}, indent=2) + "\n")


def read_study(folder: Path) -> StudyFile:
    """Read `study.json`. Raises `UnreadableRecord` if that is not possible."""
    content = read_json(folder / STUDY_FILE, RECORD_BYTES)
    try:
        if (written_in := content.pop("format", None)) != FORMAT:
            raise UnreadableRecord(f"{STUDY_FILE}: its format {named(written_in)} is not known here")
        study = StudyFile(**content)
        parts = (study.settings, study.configs, study.checked, *study.configs.values())
        if not isinstance(study.started_at, str) or not all(isinstance(each, dict) for each in parts):
            raise TypeError("a part is not what belongs there")
        if not all(type(size) is int and 0 < size < 2**31 for size in study.checked.values()):
            raise TypeError("checked is no batch size")
    except (TypeError, AttributeError) as error:
        raise UnreadableRecord(f"{STUDY_FILE}: no study ({error})") from error
    return study


def find_study(resume: str, outputs: Path) -> Path:
    """Return the folder that `resume=` names, `latest` being the study that was started last.

    Raises `CannotResume` if there is none, or if something in it is no plain file.
    """
    try:
        folder = _latest(outputs / FOLDER) if resume == "latest" else Path(expand_home(resume))
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
    lines = (f"{key} was {to_text(old)}, is now {to_text(new)}" for key, old, new in pairs if old != new)
    yield from dict.fromkeys(lines)


MODULE = "digits_sweep.critical_batch_size"


def execute(typed: Typed, screen: Screen) -> int:
    """Find the steps to every goal at every batch size, say which is soonest, and return the exit code.

    A goal that no batch size reaches, or a rate at which runs diverge, is a result: the code is 0. Raises a
    `DigitsSweepError` or OSError if the command is refused or results cannot be written.
    """
    planned = plan_batch_sizes(typed.arguments)
    goals = goals_of(planned.settings)
    preflight.check(planned)
    with _opened(typed, planned, screen) as (sweep, choices):
        study = Study(planned, typed.settings, goals, sweep, choices, screen, launch)
        try:
            stop = _search(study) or _answer(study, typed)
        except KeyboardInterrupt as signal:
            stop = Stop(TERMINATED if isinstance(signal, Terminated) else INTERRUPTED, [])
        screen.say(f"this study {sweep.folder}")
        if stop:
            screen.say(f"not completed: {listed(stop.unfinished)}" if stop.unfinished else "stopped")
            screen.say(f"resume with: {whole_command(MODULE, typed.command, sweep.folder)}")
    return stop.code if stop else 0


@contextmanager
def _opened(typed: Typed, planned: Plan, screen: Screen) -> Iterator[tuple[RecordedSweep, list]]:
    """Open a new study, or the one to resume: this process alone writes in its folder in the block."""
    asked = study_file(typed.settings, planned.runs)
    earlier = find_study(typed.resume, planned.outputs) if typed.resume else None
    if earlier:
        refuse_another(earlier, read_study(earlier), asked)
    recorded = RecordedSweep(earlier) if earlier else None
    choices = datasets(planned, recorded, screen)
    folder = earlier or claim_folder(planned.outputs / FOLDER)
    with only_writer(folder):
        if earlier:
            remove_leftovers(folder)
            screen.say(f"resuming {folder}")
        else:
            write_study(folder, asked)
        with report_to_trackers(planned.settings.tracker, folder, screen.say):
            yield RecordedSweep(folder), choices


def _sizes(study: Study) -> list[int]:
    return [run.config.data.batch_size for run in study.planned.runs]


def _search(study: Study) -> Stop | None:
    sizes, folder = _sizes(study), study.sweep.folder
    if stop := study.search(study.planned.runs, lambda: write_tuning(folder, tuning_table(study, sizes))):
        return stop
    steps = steps_table(study, sizes)
    write_steps(folder, steps)
    for goal in study.goals:
        study.screen.table(*shown(goal, steps))
    return None


def _answer(study: Study, typed: Typed) -> Stop | None:
    """Say what the steps mean for the choice of a batch size, and run the one that is called soonest."""
    folder, found = study.sweep.folder, answers(study, _sizes(study), typed.cost)
    checked = {} if typed.cost else _to_check(study, [each for each, _ in found])
    others = [plan_batch_size(typed.arguments, size) for size in sorted(set(checked.values()) - {*_sizes(study)})]
    if stop := study.search(others, lambda: None):
        return stop
    final = [
        with_check(each, fit, study, goal, checked[str(study.goals[goal])])
        if fit and str(study.goals[goal]) in checked
        else each
        for goal, (each, fit) in enumerate(found)
    ]
    write_answers(folder, final)
    for line in sentences(final):
        study.screen.say(line)
    _branch(study)
    page = folder / "index.html"
    write_page(page, [load_study(folder)])
    study.screen.say(f"page       {page}")
    return None


def _branch(study: Study) -> None:
    """Write what branches of a run come to, if they are asked for."""
    if not study.settings.branch:
        return
    start = start_of_branches(study)
    if start is None:
        study.screen.say("no branches: no rate reaches the goal at the smallest batch size")
        return
    study.screen.say(f"branches of {start.folder}, {study.settings.branch_examples:,} examples each")
    table = branches(study, start)
    write_branches(study.sweep.folder, table)
    if found := branches_of(table):
        study.screen.say(branch_sentence(found))


def _to_check(study: Study, found: Sequence[Answer]) -> dict[str, int]:
    """Return the batch size to run for every goal: as chosen before the study was stopped, if it was."""
    before = read_study(study.sweep.folder)
    now = dict(before.checked)
    for goal, each in zip(map(str, study.goals), found, strict=True):
        if each.soonest_batch_size is not None and goal not in now:
            now[goal] = round_batch_size(each.soonest_batch_size, _sizes(study))
    if now != before.checked:
        write_study(study.sweep.folder, replace(before, checked=now))
    return now
