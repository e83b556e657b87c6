"""One sweep, seen from the process that launches it: digits ready before the first run, the table after the last."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from digits_sweep.config.compose import claim_sweep_folder
from digits_sweep.config.plan import Plan, override
from digits_sweep.config.rules import InvalidConfig, check_batch_size
from digits_sweep.config.schema import DataConfig
from digits_sweep.console import Screen
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import load, make_ready
from digits_sweep.data.mnist import DataUnavailable, UnusableRoot
from digits_sweep.data.torchvision_import import MismatchedTorchvision
from digits_sweep.report.analysis.study import load_study
from digits_sweep.report.tables import short_table
from digits_sweep.results.files import remove_leftovers
from digits_sweep.results.lock import FolderInUse, only_writer
from digits_sweep.results.record import Record
from digits_sweep.results.summary import publish_summary
from digits_sweep.results.sweep import DatasetChoice, Manifest, read_manifest, write_manifest
from digits_sweep.sweep.resume import is_finished
from digits_sweep.trackers.process import refuse_missing, told
from digits_sweep.training.device import DeviceUnavailable, flush_denormals_from_now_on, resolve_device

# Everything that a sweep refuses to start or to go on with; the text of each is meant for the user.
REFUSALS = (
    InvalidConfig,
    DeviceUnavailable,
    DataUnavailable,
    UnusableRoot,
    MismatchedTorchvision,
    FolderInUse,
    OSError,
)


@contextmanager
def opened(plan: Plan, earlier: Path | None, screen: Screen) -> Iterator[Path]:
    """The folder of a new sweep, or `earlier`, one to go on with: this process alone writes there in the block.

    The digits are ready for every run before anything is written. Raises one of `REFUSALS` where a run cannot be
    trained here, the digits cannot be had or are others than before, or the folder cannot be written or is another
    process's.
    """
    refuse_missing(plan.settings.tracker)
    choices = datasets(plan, earlier, screen)
    sweep_dir = earlier or claim_sweep_folder(plan.outputs)
    with only_writer(sweep_dir):
        if earlier:
            remove_leftovers(sweep_dir)
            screen.say(f"going on with {sweep_dir}")
        write_manifest(sweep_dir, _manifest(plan, choices))
        with told(plan.settings.tracker, sweep_dir, screen.say):
            yield sweep_dir


def datasets(plan: Plan, earlier: Path | None, screen: Screen) -> list[DatasetChoice]:
    """Make ready what the runs of `plan` train on: what they trained on in `earlier`, a sweep to go on with.

    Raises those of `REFUSALS` that are about devices and digits.
    """
    flush_denormals_from_now_on()
    for run in plan.runs:
        resolve_device(run.config.device)
    before = read_manifest(earlier).datasets if earlier else []
    return [_ready(plan, data, before, screen) for data in _asked_for(plan)]


def _manifest(plan: Plan, datasets: list[DatasetChoice]) -> Manifest:
    """What `plan` sets out to do; of a sweep that goes on, what it does now: the number of epochs may have grown."""
    command = [each for each in plan.arguments if not each.startswith(("resume=", "dry_run=", "fail_fast="))]
    configs = [asdict(run.config) for run in plan.runs]
    return Manifest(command, [run.folder for run in plan.runs], configs, datasets)


def _asked_for(plan: Plan) -> list[DataConfig]:
    return list({run.config.data.name: run.config.data for run in plan.runs}.values())


def _ready(plan: Plan, data: DataConfig, before: list[DatasetChoice], screen: Screen) -> DatasetChoice:
    """What `data` comes to: what it came to `before`, in a sweep that goes on."""
    for choice in before:
        if choice.requested == data.name:
            digits, note = load(data, choice.used, screen.say), choice.note
            if digits.digest != choice.digest:
                raise DataUnavailable(f"{choice.used} in data.root={data.root} is not what this sweep began with")
            break
    else:
        digits, note = make_ready(data, screen.say)
    _check_batches(plan, data, digits)
    if note:
        screen.say(f"WARNING: every run trains on {digits.name}, not on {data.name}. {note}")
    return DatasetChoice(data.name, digits.name, digits.digest, note)


def _check_batches(plan: Plan, data: DataConfig, digits: Digits) -> None:
    for run in plan.runs:
        if run.config.data.name == data.name:
            check_batch_size(run.config, digits.name, len(digits.train_labels))


def lost_runs(plan: Plan, sweep_dir: Path) -> list[str]:
    """The runs whose processes ended without recording how, and those that they kept from starting.

    They may be started again. Where no run has begun there are none: no process was lost, no launcher has worked.
    """
    records = load_study(sweep_dir).records
    left = _left(plan, records) if records else []
    return [name for name in left if name not in records or records[name].status != "failed"]


def _left(plan: Plan, records: dict[str, Record]) -> list[str]:
    """The runs that are not finished as they are planned; one that has diverged is."""
    folders = ((run.folder, records.get(run.folder), run.config) for run in plan.runs)
    return [folder for folder, record, config in folders if record is None or not is_finished(record, config)]


def finish(plan: Plan, sweep_dir: Path, screen: Screen) -> int:
    """Show the table of every run that left a record, where the files are, and how to go on where not all is done.

    Returns the exit code: 0 where every run of the plan completed, else 1.
    """
    try:
        publish_summary(sweep_dir, plan.outputs)
    except OSError as error:
        screen.say(f"ERROR: summary.csv is as it was, not as the table below: {error}")
    study = load_study(sweep_dir)
    header, *rows = short_table(study.runs)
    screen.table(header, rows)
    screen.say(f"table      {plan.outputs / 'summary.csv'}")
    screen.say(f"this sweep {sweep_dir}")
    if left := _left(plan, study.records):
        screen.say(f"not completed: {', '.join(left)}")
        screen.say(f"go on with python -m digits_sweep {shlex.quote(override('resume', str(sweep_dir)))}")
    diverged = any(study.records[run.folder].status == "diverged" for run in plan.runs if run.folder in study.records)
    return 1 if left or diverged else 0
