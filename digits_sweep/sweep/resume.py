"""What is already there of a sweep, and whether a command line may go on with it."""

import re
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from digits_sweep.config.plan import Plan, override, plan
from digits_sweep.config.rules import InvalidConfig
from digits_sweep.config.schema import Config
from digits_sweep.results.files import UnreadableRecord
from digits_sweep.results.record import Record, changes_results, read_record, results_of
from digits_sweep.results.sweep import Manifest, newest_sweep, read_manifest

# What may be another number: more epochs are more of the same run.
MAY_GROW = "trainer.num_epochs"
# What a command line read from a file may hold: a key or a group of this program's own, and of a launcher its name and
# what it is asked for. Hydra starts programs that other keys of its own name, and reads configuration from folders.
OWN = {each.name for each in fields(Config)} | {"experiment"}
OWN_KEY = re.compile(r"[+]?[A-Za-z][\w/.]*")
OF_A_LAUNCHER = re.compile(
    r"hydra/launcher=\w+|hydra\.launcher\.(n_jobs|partition|account|qos|timeout_min|cpus_per_task|mem_gb)=[\w.-]+"
)


def sweep_to_resume(planned: Plan) -> tuple[Plan, Path]:
    """The sweep that `planned` goes on with, its folder, and the plan in full.

    `resume=...` with nothing beside it but free keys and `trainer.num_epochs` repeats the command that the sweep was
    started with; any other command line must be that very sweep. Raises `InvalidConfig` where there is no such sweep,
    or where it is another one, with the keys that differ.
    """
    folder = str(planned.settings.resume)
    try:
        sweep_dir = newest_sweep(planned.outputs) if folder == "latest" else Path(folder)
        manifest = read_manifest(sweep_dir)
    except (FileNotFoundError, UnreadableRecord) as error:
        raise InvalidConfig(f"resume={folder}: {error}") from error
    typed = {_key(argument) for argument in planned.arguments if _key(argument)}
    if not any(_is_another_sweeps(key) for key in typed - {MAY_GROW}):
        repeated = [each for each in _repeated(manifest, sweep_dir, typed) if each not in planned.arguments]
        # Flags first, and once: Hydra's parser takes no override behind a flag that follows one.
        planned = plan(sorted([*repeated, *planned.arguments], key=lambda each: not each.startswith("-")))
    if found := list(_differences(planned, sweep_dir, manifest)):
        raise InvalidConfig("\n".join(f"resume={folder}: {line}" for line in found))
    return planned, sweep_dir


def _key(argument: str) -> str:
    """The key of `key=value`; nothing for a flag."""
    return "" if argument.startswith("-") else argument.lstrip("+").partition("=")[0]


def _is_another_sweeps(key: str) -> bool:
    """Whether typing this key is more than saying how the same sweep goes on."""
    return changes_results(key) and not key.startswith(("hydra/launcher", "hydra.launcher", "hydra.verbose"))


def _repeated(manifest: Manifest, sweep_dir: Path, typed: set[str]) -> list[str]:
    command = [argument for argument in manifest.command if _key(argument) not in {*typed, "outputs"}]
    if "hydra/launcher" in typed:
        command = [argument for argument in command if not argument.startswith("hydra.launcher.")]
    # Where the sweep is says more than what was typed, perhaps in another folder.
    if "outputs" not in typed and sweep_dir.parent.name == "sweeps":
        command.append(override("outputs", str(sweep_dir.parent.parent)))
    for argument in command:
        if not _is_harmless(argument):
            raise InvalidConfig(
                f"{sweep_dir / 'sweep.json'}: {argument} is not repeated from a file; type the sweep's whole command"
            )
    return command


def _is_harmless(argument: str) -> bool:
    if argument in ("-m", "--multirun") or OF_A_LAUNCHER.fullmatch(argument):
        return True
    typed, _, value = argument.partition("=")
    key = typed.lstrip("+")
    is_path = key in ("outputs", "data.root")
    return (
        OWN_KEY.fullmatch(typed) is not None
        and re.split("[./]", key)[0] in OWN
        and "${" not in value
        and "_target_" not in argument
        and (is_path or ".." not in value)
    )


def _differences(planned: Plan, sweep_dir: Path, manifest: Manifest) -> Iterator[str]:
    """A line for everything in which the plan is not the recorded sweep."""
    folders = [run.folder for run in planned.runs]
    if len(folders) == len(manifest.runs) == len(manifest.configs):
        for run, recorded in zip(planned.runs, manifest.configs, strict=True):
            yield from (f"{run.folder}: {each}" for each in differing(recorded, run.config))
    if folders != manifest.runs:
        before = f"{len(manifest.runs)} runs ({', '.join(manifest.runs)})"
        yield f"that sweep has {before}, this one {len(folders)} ({', '.join(folders)})"
    for run in planned.runs:
        record = recorded_run(sweep_dir / run.folder)
        done, asked = record.summary.get("epochs", 0) if record else 0, run.config.trainer.num_epochs
        if asked < done:
            yield f"{run.folder}: {MAY_GROW}={asked} is less than the {done} epochs already done"


def differing(recorded: dict[str, Any], config: Config) -> list[str]:
    """`key was ..., is now ...` for every key that is not what `recorded` says and may change a result."""
    before, now = results_of(recorded), results_of(asdict(config))
    return [
        f"{key} was {before.get(key)}, is now {now.get(key)}"
        for key in dict.fromkeys([*before, *now])
        if key != MAY_GROW and before.get(key) != now.get(key)
    ]


def recorded_run(run_dir: Path) -> Record | None:
    """The record in `run_dir`, or None where there is none or it cannot be read."""
    try:
        return read_record(run_dir)
    except UnreadableRecord:
        return None


def is_finished(record: Record, config: Config) -> bool:
    """Whether nothing is left to do for this run: a diverged one would diverge again at the same iteration."""
    if record.status == "completed":
        reached = record.summary.get("first_epoch_below_threshold") is not None
        epochs = record.summary.get("epochs", 0)
        return epochs >= config.trainer.num_epochs or (config.trainer.stop_at_threshold and reached)
    return record.status == "diverged"
