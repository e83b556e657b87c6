"""One sweep, as the process that launches it sees it: data ready before the first run, the table after the last."""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from digits_sweep.config.plan import Plan, PlannedRun
from digits_sweep.config.schema import DataConfig, OwnDataConfig
from digits_sweep.config.text import as_argument
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import changed, load, make_ready, name_of
from digits_sweep.errors import LONGEST_LINE, LONGEST_REASON, DataUnavailable, FolderInUse, InvalidConfig, shortened
from digits_sweep.report.sentences import hint_sentences
from digits_sweep.report.study import study_of
from digits_sweep.report.tables import run_table, runs_for_terminal
from digits_sweep.report.warnings import seeds_so_far
from digits_sweep.report.words import listed
from digits_sweep.results import changes
from digits_sweep.results.files import OLD_SECONDS, make_folder, remove_leftovers, set_aside
from digits_sweep.results.lock import only_writer
from digits_sweep.results.record import Record, Status, write_record
from digits_sweep.results.run import RecordedRun
from digits_sweep.results.sweep import (
    DatasetChoice,
    Manifest,
    RecordedSweep,
    new_manifest,
    next_counter,
    publish_summary,
    write_manifest,
)
from digits_sweep.shell import Screen, as_typed
from digits_sweep.sweep import preflight
from digits_sweep.sweep.fitting import Settled, fitted, settle, traceback_in_file
from digits_sweep.sweep.resume import is_finished, not_repeated, resume_call, resume_line, resumed
from digits_sweep.sweep.run_files import FILES
from digits_sweep.sweep.seeds import Launch, due, launch_due
from digits_sweep.trackers.following import report_to_trackers
from digits_sweep.training.device import flush_denormals_from_now_on


def execute(planned: Plan, launch: Launch, screen: Screen) -> tuple[int, Path | None]:
    """Resume if the plan says so, make data ready, launch every run, and show the table.

    Returns the exit code and the sweep's folder; no folder for `dry_run=true`. Raises a `DigitsSweepError` or OSError
    if the plan is refused.
    """
    earlier = None
    planned = fitted(planned, screen.say)
    if planned.settings.resume:
        typed = planned.command
        with traceback_in_file(planned.outputs):
            planned, earlier = resumed(planned)
        if planned.command != typed and (left_out := not_repeated(planned.command, typed)):
            texts = shortened(shlex.join(left_out), LONGEST_LINE)
            screen.say(f"not repeated from sweep.json, type again what is still wanted: {texts}")
    preflight.check(planned, screen.say)
    if planned.settings.dry_run:
        screen.table(preflight.HEADER, preflight.preview(planned, earlier))
        return 0, None
    before = {name: run.record.run_id for name, run in earlier.runs.items() if run.history} if earlier else {}
    with opened(planned, earlier, screen) as sweep:
        try:
            code = launch_due(planned, sweep, screen, launch)
        finally:
            finished = finish(planned, sweep, screen, before)
    return max(code, finished), sweep.folder


@contextmanager
def opened(planned: Plan, earlier: RecordedSweep | None, screen: Screen) -> Iterator[RecordedSweep]:
    """Open a new sweep, or `earlier` to resume it: this process alone writes in its folder in the block.

    Data is ready for every run before anything is written. Raises `DataUnavailable` or `UnusableRoot` if it cannot be
    had or has changed, `FolderInUse` if another process has the folder, OSError if it cannot be written.
    """
    choices = datasets(planned, earlier, screen)
    sweep_dir = earlier.folder if earlier else claim_folder(planned.outputs / "sweeps")
    remove_leftovers(planned.outputs, OLD_SECONDS)
    with writing(sweep_dir, planned, earlier is not None, screen):
        sweep = earlier or RecordedSweep(sweep_dir)
        write_plan(planned, _manifest(planned, choices, earlier), sweep, screen.say)
        yield sweep


@contextmanager
def writing(folder: Path, planned: Plan, resumes: bool, screen: Screen) -> Iterator[None]:
    """Let this process alone write in a sweep's folder in the block, and report what it records to trackers."""
    with only_writer(folder):
        if resumes:
            remove_leftovers(folder)
            screen.say(f"resuming {folder}")
        with report_to_trackers(planned.settings.tracker, folder, screen.say):
            yield


def claim_folder(parent: Path) -> Path:
    """Create a folder in `parent` for what starts now, `<date_time>`, that no other process has too.

    Raises OSError if it cannot be made.
    """
    make_folder(parent)
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for again in range(1, 1_000):
        folder = parent / (started if again == 1 else f"{started}_{again}")
        try:
            folder.mkdir()
            changes.flush_folder(parent)
            return folder
        except FileExistsError:
            continue
    raise FileExistsError(f"{parent / started}: a thousand sweeps started in this second")


def datasets(planned: Plan, earlier: RecordedSweep | None, screen: Screen) -> list[DatasetChoice]:
    """Make ready what the runs train on: what they trained on in `earlier`, if there is one. A command has its own.

    Raises `DataUnavailable`, `UnusableRoot`, or `InvalidConfig` for what does not fit it.
    """
    flush_denormals_from_now_on()
    before = earlier.manifest.datasets if earlier and earlier.manifest else []
    if planned.settings.command is not None:
        return []
    asked_for = {name_of(run.config.data): run.config.data for run in planned.runs}
    return [_ready(planned, data, before, screen) for data in asked_for.values()]


def _ready(planned: Plan, data: DataConfig, before: list[DatasetChoice], screen: Screen) -> DatasetChoice:
    """The data set that `data` is resolved to; in a sweep that resumes, the one that it was `before`."""
    earlier = next((choice for choice in before if choice.requested == name_of(data)), None)
    if earlier:
        digits, note = load(data, earlier.used, screen.say), earlier.note
        if digits.digest != earlier.digest:
            raise DataUnavailable(changed(data, earlier.used))
    else:
        digits, note = make_ready(data, screen.say)
    _check_sizes(planned, data, digits)
    if not isinstance(data, OwnDataConfig):
        preflight.refuse_thresholds(planned, data, digits)
    if note:
        why = shortened(note, LONGEST_REASON)
        screen.say(f"WARNING: every run trains on {digits.name}, not on {data.name}. {why}")
    return DatasetChoice(name_of(data), digits.name, digits.digest, note)


def _check_sizes(planned: Plan, data: DataConfig, digits: Digits) -> None:
    configs = (run.config for run in planned.runs if name_of(run.config.data) == name_of(data))
    # All labels are looked at, which takes milliseconds: once for runs that are alike in what is checked.
    checked = {repr((each.data, each.model, each.loss, each.evaluation)): each for each in configs}
    for config in checked.values():
        if mistakes := list(preflight.unfit(config, digits, planned.typed)):
            raise InvalidConfig("\n".join(mistakes))


def _manifest(planned: Plan, choices: list[DatasetChoice], earlier: RecordedSweep | None) -> Manifest:
    """What `planned` sets out to do; of a sweep that resumes, what it does now: the number of epochs may have grown."""
    typed = [each for each in planned.command if not each.startswith(("resume=", "dry_run=", "fail_fast=", "quiet="))]
    before = earlier.manifest if earlier else None
    return (before or new_manifest(next_counter(planned.outputs))).with_runs(
        typed, [run.folder for run in planned.runs], choices
    )


def write_plan(planned: Plan, manifest: Manifest, sweep: RecordedSweep, say: Callable[[str], None]) -> None:
    """Write `sweep.json`, and the record of every planned run that is not finished: its job reads its configuration.

    Of a run whose record cannot be read, all files are set aside, which `say` is told. Raises OSError if something
    cannot be written.
    """
    write_manifest(sweep.folder, manifest)
    sweep.refresh()
    _write_records(planned, sweep, say)
    sweep.refresh()


def _write_records(planned: Plan, sweep: RecordedSweep, say: Callable[[str], None]) -> None:
    def is_ready(run: PlannedRun) -> bool:
        before = sweep.runs.get(run.folder)
        finished = before is not None and is_finished(before, run.config)
        return finished or sweep.config_of(run.folder) == asdict(run.config)

    unready = tuple(run for run in planned.runs if not is_ready(run))
    new = tuple(run for run in unready if run.folder not in sweep.runs)
    settled: dict[str, Settled] = {}
    if new and sweep.manifest:
        recorded = (run.record for run in sweep.runs.values())
        settled = settle(replace(planned, runs=new), sweep.manifest, say, recorded)
    numbers = {run.folder: number for number, run in enumerate(planned.runs)}
    for run in unready:
        changes.make_folder(sweep.folder / run.folder)
    changes.flush_folder(sweep.folder)
    for run in unready:
        folder, config, before = sweep.folder / run.folder, asdict(run.config), sweep.runs.get(run.folder)
        if before:
            _continue(before, config)
            continue
        if run.folder in sweep.unreadable:
            aside = set_aside(folder, FILES)
            say(f"{sweep.unreadable[run.folder]}; the files of {run.folder} are in {aside}, it starts again")
        auto = asdict(settled.get(run.folder, Settled()))
        write_record(folder, Record(numbers[run.folder], folder=run.folder, config=config, **auto))


def _continue(run: RecordedRun, config: dict[str, Any]) -> None:
    """Write what a run that has started is asked to do now, unless a job of a cluster still trains it."""
    status = Status.INTERRUPTED if run.record.status is Status.COMPLETED else run.record.status
    with suppress(FolderInUse), only_writer(run.folder):
        write_record(run.folder, replace(run.record, config=config, status=status))


def left(planned: Plan, sweep: RecordedSweep) -> list[str]:
    """Return the folders of the runs that are not finished as planned; a diverged run is finished."""
    recorded = ((run.folder, sweep.runs.get(run.folder), run.config) for run in planned.runs)
    return [folder for folder, run, config in recorded if run is None or not is_finished(run, config)]


def finish(planned: Plan, sweep: RecordedSweep, screen: Screen, before: Mapping[str, str]) -> int:
    """Show the table of every recorded run, where the files are, and how to resume if not all is done.

    `before` has the id of every run that had trained before this command. Returns the exit code: 0 if every run of the
    plan completed and can be read, and none was trained again from the start, else 1.
    """
    sweep.refresh()
    is_newest = False
    try:
        is_newest = publish_summary(sweep, planned.outputs)
    except OSError as error:
        screen.say(f"ERROR: summary.csv is as it was, not as the table below: {error}")
    study = study_of(sweep)
    runs = study.runs
    if screen.is_terminal:
        found = runs_for_terminal(runs)
        screen.table(found.header, found.rows, found.notes, found.optional)
    else:
        header, *rows = run_table(runs).as_text()
        screen.table(header, rows)
    for sentence in (*filter(None, [seeds_so_far(study)]), *hint_sentences(study)):
        screen.say(sentence)
    screen.say(f"table      {(planned.outputs if is_newest else sweep.folder) / 'summary.csv'}")
    screen.say(f"this sweep {sweep.folder}")
    if unfinished := left(replace(planned, runs=tuple(due(planned, sweep))), sweep):
        screen.say(f"not completed: {listed(unfinished)}")
        line = (resume_call if screen.in_python else resume_line)(planned, sweep.folder)
        screen.say(f"resume with: {'make resume' if _by_make(planned, is_newest) else line}")
    if screen.in_python:
        screen.say(f"show with:   {_call(planned, sweep.folder, is_newest)}")
        screen.say(f"page with:   {_call(planned, sweep.folder, is_newest)}.report()")
    else:
        screen.say(f"page with:   {_report_line(planned, sweep.folder, is_newest)}")
    again = [name for name, run_id in before.items() if name in sweep.runs and sweep.runs[name].record.run_id != run_id]
    if again:
        screen.say(f"trained again from the start: {listed(again)}")
    bad = (Status.DIVERGED, Status.UNKNOWN)
    return 1 if unfinished or again or any(run.status in bad for run in sweep.runs.values()) else 0


def _report_line(planned: Plan, sweep_dir: Path, is_newest: bool) -> str:
    """The command that turns this sweep into a page: the newest one of the usual folder needs no name."""
    if _by_make(planned, is_newest):
        return "make report"
    sweep = [] if is_newest and str(planned.outputs) == "outputs" else [as_argument(sweep_dir)]
    return as_typed("digits_sweep.report", *sweep)


def _by_make(planned: Plan, is_newest: bool) -> bool:
    """Whether make started this sweep, and its targets are about it."""
    return is_newest and str(planned.outputs) == "outputs" and "DIGITS_SWEEP_BY_MAKE" in os.environ


def _call(planned: Plan, sweep_dir: Path, is_newest: bool) -> str:
    """The call of Python that returns this sweep."""
    if not is_newest:
        return f"SweepResult({str(sweep_dir.absolute())!r})"
    return "latest()" if str(planned.outputs) == "outputs" else f"latest({str(planned.outputs)!r})"
