"""One sweep, seen from the process that launches it: digits ready before the first run, the table after the last."""

from collections.abc import Sequence
from pathlib import Path

from digits_sweep.config import DataConfig
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import make_ready
from digits_sweep.data.mnist import DataUnavailable, UnusableRoot
from digits_sweep.data.torchvision_import import MismatchedTorchvision
from digits_sweep.folders import claim_sweep_folder
from digits_sweep.learning.device import DeviceUnavailable, flush_denormals_from_now_on, resolve_device
from digits_sweep.plan import Plan
from digits_sweep.progress import Screen
from digits_sweep.results.manifest import DatasetChoice, Manifest, write_manifest
from digits_sweep.results.summary import publish_summary
from digits_sweep.rules import InvalidConfig, check_batch_size

# Everything that `start` refuses to go on with; the text of each is meant for the user.
REFUSALS = (InvalidConfig, DeviceUnavailable, DataUnavailable, UnusableRoot, MismatchedTorchvision, OSError)


def start(plan: Plan, command: Sequence[str], screen: Screen) -> Path:
    """Make the digits ready for every run of `plan` and return the sweep's own new folder, its manifest inside.

    Raises one of `REFUSALS` where a run cannot be trained here, the digits cannot be had or the outputs cannot be
    written; nothing is left behind then.
    """
    flush_denormals_from_now_on()
    for run in plan.runs:
        resolve_device(run.config.device)
    datasets = []
    for data in {run.config.data.name: run.config.data for run in plan.runs}.values():
        digits, note = make_ready(data, screen.say)
        _check_batches(plan, data, digits)
        if note:
            screen.say(f"WARNING: every run trains on {digits.name}, not on {data.name}. {note}")
        datasets.append(DatasetChoice(data.name, digits.name, digits.digest, note))
    sweep_dir = claim_sweep_folder(plan.outputs)
    write_manifest(sweep_dir, Manifest(list(command), [run.folder for run in plan.runs], datasets))
    return sweep_dir


def _check_batches(plan: Plan, data: DataConfig, digits: Digits) -> None:
    for run in plan.runs:
        if run.config.data.name == data.name:
            check_batch_size(run.config, digits.name, len(digits.train_labels))


def finish(plan: Plan, sweep_dir: Path, screen: Screen) -> int:
    """Show the table of every run that left a record, and say where the files are.

    Returns the exit code: 0 where every run of the plan completed, else 1.
    """
    summary = publish_summary(sweep_dir, plan.outputs)
    screen.table(summary, sweep_dir, plan.outputs)
    completed = (summary["status"] == "completed").sum()
    return 0 if completed == len(plan.runs) else 1
