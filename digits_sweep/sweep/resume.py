"""Resuming a sweep: what is done of it already, and whether a command line may continue it.

Values come from `sweep.json` as plain text, numbers and lists, never as overrides for Hydra to read: a folder from
somebody else must not start code, read the environment, or say where files are.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from digits_sweep.config.command_line import read_command_line
from digits_sweep.config.keys import (
    as_recorded,
    changes_results,
    checked,
    default_of,
    differing,
    flat,
    holds_for_the_sweep,
    may_grow,
    role_of,
    value_of,
)
from digits_sweep.config.launchers import LAUNCHERS, SUBMITIT_FOLDER
from digits_sweep.config.own_code import NOT_HERE, changed_code, is_object
from digits_sweep.config.plan import Plan, PlannedRun, plan
from digits_sweep.config.schema import OWN_GROUPS, Config, Role
from digits_sweep.config.text import as_override, key_of, to_text
from digits_sweep.errors import CannotResume, InvalidConfig, UnreadableRecord, first_lines, reason_of
from digits_sweep.machine import usable_cores
from digits_sweep.results.columns import OWN_LOOP
from digits_sweep.results.files import check_plain
from digits_sweep.results.record import HISTORY_FILE, RECORD_FILE, Status
from digits_sweep.results.run import RecordedRun
from digits_sweep.results.sweep import Manifest, RecordedSweep, configs_of_format_3, newest_own_sweep, read_manifest
from digits_sweep.shell import as_typed, in_this_folder

LAUNCHER = re.compile(r"hydra/launcher=(\w+)")
OF_A_LAUNCHER = re.compile(r"\+{0,2}hydra\.launcher\.(\w+)=([\w.-]{1,100})")
# A value of a file is repeated if it is no larger than any of ours; messages quote no more of it.
LONGEST_LIST, LONGEST_TEXT, LONGEST_QUOTE = 100, 1_000, 300


def resumed(planned: Plan) -> tuple[Plan, RecordedSweep]:
    """Return the plan that resumes the sweep which `planned.settings.resume` names, and that sweep.

    A command line with nothing but keys that change no result, and keys that may grow, repeats the recorded runs; any
    other must plan the very runs of that sweep. Raises `CannotResume` if there is no such sweep, or if it is another
    one, with the keys that differ.
    """
    name = str(planned.settings.resume)
    try:
        sweep_dir = newest_own_sweep(planned.outputs) if name == "latest" else Path(name).expanduser()
        if "${" in str(sweep_dir):
            raise CannotResume("has ${ in its name, which is read as an interpolation; rename it")
        manifest = read_manifest(sweep_dir)
        check_plain(sweep_dir, unused=SUBMITIT_FOLDER)
        earlier = RecordedSweep(sweep_dir)
        recorded = recorded_configs(earlier, manifest)
        if any(value_of(config, "engine.name") == OWN_LOOP for config in recorded.values()):
            raise CannotResume(f"{sweep_dir}: recorded by digits_sweep.Recorder; start its own program again")
        if not manifest.runs:
            raise CannotResume(f"{sweep_dir}: a sweep without runs")
        typed = {key_of(override) for override in read_command_line(planned.command).overrides}
        if not any(_names_runs(key) for key in typed):
            planned = _repeated(planned, typed, manifest, recorded, sweep_dir)
        # A run whose record cannot be read may have had any value.
        elif len(recorded) == len(manifest.runs) and (
            lines := list(_typed_otherwise(planned, typed, list(recorded.values())))
        ):
            raise CannotResume("; ".join(lines))
        planned = _matched(planned, manifest, recorded)
    except (FileNotFoundError, UnreadableRecord, CannotResume) as error:
        raise CannotResume(f"resume={name}: {error}") from error
    if lines := list(_differences(planned, earlier, manifest, recorded)):
        raise CannotResume(first_lines([f"resume={name}: {line}" for line in lines]))
    return planned, earlier


def recorded_configs(sweep: RecordedSweep, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return the recorded configuration of every run whose record can be read, by its folder, in the sweep's order."""
    before = configs_of_format_3(sweep.folder) if manifest.format == 3 else {}
    configs = ((name, sweep.config_of(name) or before.get(name)) for name in manifest.runs)
    return {name: config for name, config in configs if config}


def _names_runs(key: str) -> bool:
    """Return whether typing this key says which runs the sweep has."""
    of_hydra = key.startswith(("hydra/launcher", "hydra.launcher", "hydra.verbose"))
    return (changes_results(key) or role_of(key) is Role.ORIGIN) and not may_grow(key) and not of_hydra


def _typed_otherwise(planned: Plan, typed: set[str], configs_before: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for every typed key, or key of a typed group, that has a value which no recorded run has."""
    recorded = [dict(flat(config)) for config in configs_before]
    configs = [dict(flat(asdict(run.config))) for run in planned.runs]
    for key in configs[0] if configs and recorded else ():
        is_typed = any(f"{key}.".startswith(f"{each}.") for each in typed)
        if is_typed and changes_results(key) and not may_grow(key):
            before, now = ([to_text(each.get(key, default_of(key))) for each in some] for some in (recorded, configs))
            if new := [value for value in dict.fromkeys(now) if value not in before]:
                yield f"{key} was {' and '.join(dict.fromkeys(before))}, is now {' and '.join(new)}"


def _repeated(
    planned: Plan, typed: set[str], manifest: Manifest, recorded: dict[str, dict[str, Any]], sweep_dir: Path
) -> Plan:
    """Return the recorded runs, with what is typed now: places, what this command does, and keys that may grow."""
    if "hydra/launcher" not in typed and (launcher := _launcher(manifest.command)):
        planned = plan([*launcher, *planned.command])
    if lost := [folder for folder in manifest.runs if folder not in recorded]:
        raise CannotResume(f"the record of {lost[0]} cannot be read; type the whole command")
    if own := next((each for config in recorded.values() for each in _own_code(config)), None):
        key, _, target = own.partition("=")
        if is_object(target):
            raise CannotResume(f"{own}: {NOT_HERE.format(group=key.partition('.')[0])}")
        raise CannotResume(f"{own} in {RECORD_FILE} names code, which must be typed; type the whole command")
    settings = planned.settings
    now = {key: value for key, value in flat(asdict(settings)) if key in typed and not holds_for_the_sweep(key)}
    runs = tuple(
        PlannedRun(folder, _restored(settings, config, now, sweep_dir / folder), ())
        for folder, config in recorded.items()
    )
    return replace(planned, command=tuple(manifest.command), runs=runs, typed=frozenset(map(key_of, manifest.command)))


def _own_code(config: dict[str, Any]) -> Iterator[str]:
    """Yield `group.target=module:name` for all code that a recorded configuration names, and its command."""
    for key, value in flat(config):
        if key.endswith(".target") and value is not None:
            yield f"{key}={str(value)[:LONGEST_QUOTE]}"
    if config.get("command") is not None:
        yield f"command={str(config['command'])[:LONGEST_QUOTE]}"


def _launcher(command: Sequence[str]) -> list[str]:
    """What a resume repeats of a recorded command: the name of a known launcher, and the few keys that its row names.

    More processes than there are cores for this one are not started because a file says so.
    """
    name = next((found[1] for each in command if (found := LAUNCHER.fullmatch(each))), "basic")
    if name == "basic" or name not in LAUNCHERS:
        return []
    matches = (match.groups() for each in command if (match := OF_A_LAUNCHER.fullmatch(each)))
    keys = {str(key): str(value) for key, value in matches if key in LAUNCHERS[name].resumed_keys}
    if not re.fullmatch(r"-?\d{1,4}", keys.get("n_jobs", "1")) or int(keys.get("n_jobs", 1)) > usable_cores():
        del keys["n_jobs"]
    return [f"hydra/launcher={name}", *(f"hydra.launcher.{key}={value}" for key, value in keys.items())]


def _restored(settings: Config, recorded: dict[str, Any], now: dict[str, Any], run_dir: Path) -> Config:
    try:
        for key, value in flat(recorded):
            if not holds_for_the_sweep(key) and not _is_plain(value):
                raise ValueError(f"{key} is not a plain value; type the sweep's whole command")
        config = as_recorded(settings, recorded)
        for key, value in now.items():
            group, _, name = key.rpartition(".")
            setattr(getattr(config, group) if group else config, name, value)
        # OmegaConf holds every value to the type of its key.
        return checked(OmegaConf.to_object(OmegaConf.structured(config)))  # type: ignore[arg-type]
    except (KeyError, AttributeError, TypeError, ValueError, InvalidConfig, OmegaConfBaseException) as error:
        reason = reason_of(error)[:LONGEST_QUOTE]
        raise CannotResume(f"{run_dir / RECORD_FILE}: not the configuration of a run ({reason})") from error


def _is_plain(value: Any) -> bool:
    """Return whether nothing in `value` can be an interpolation or an escape, and it is no larger than ours are."""
    if isinstance(value, list):
        return len(value) <= LONGEST_LIST and all(map(_is_plain, value))
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT and not set(value) & set("$\\{")
    return value is None or (isinstance(value, int | float) and abs(value) < 2**64)


def _matched(planned: Plan, manifest: Manifest, recorded: dict[str, dict[str, Any]]) -> Plan:
    """Return the same runs in the order and with the folders of `sweep.json`.

    `shuffle()` gives another order every time, and the names of folders may have been written otherwise before.
    """
    runs, free = [], [folder for folder in recorded if folder not in {run.folder for run in planned.runs}]
    for run in planned.runs:
        alike = (folder for folder in free if not differing(recorded[folder], run.config))
        folder = run.folder if run.folder in manifest.runs else next(alike, run.folder)
        runs.append(replace(run, folder=folder))
    number = {folder: number for number, folder in enumerate(manifest.runs)}
    return replace(planned, runs=tuple(sorted(runs, key=lambda run: number.get(run.folder, len(number)))))


def _differences(
    planned: Plan, earlier: RecordedSweep, manifest: Manifest, recorded: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """A line for everything in which the plan is not the recorded sweep."""
    folders = [run.folder for run in planned.runs]
    for run in planned.runs:
        if run.folder in recorded:
            yield from (f"{run.folder}: {line}" for line in differing(recorded[run.folder], run.config))
    # Runs that were never due have no record, and `max_seeds` may grow.
    grows = planned.settings.seeds is not None and set(folders) >= set(manifest.runs)
    if sorted(folders) != sorted(manifest.runs) and not grows:
        names = f"{len(manifest.runs)} runs ({', '.join(manifest.runs)})"
        yield f"that sweep has {names}, this one {len(folders)} ({', '.join(folders)})"
    for run in planned.runs:
        if (before := earlier.runs.get(run.folder)) is None:
            continue
        yield from (f"{run.folder}: {line}" for line in changed_code(run.config, before.record.own_code))
        if (requested := run.config.trainer.num_epochs) < before.epochs:
            yield f"{run.folder}: trainer.num_epochs={requested} is less than the {before.epochs} epochs already done"


def not_repeated(typed_before: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Return the recorded overrides that a resume does not repeat, unless they are typed again in `arguments`.

    They say where files are, or whom to notify.
    """
    typed = {key_of(argument) for argument in arguments}
    keys = ((override, key_of(override)) for override in typed_before if not override.startswith(("-", "hydra")))
    once = ("resume", "dry_run", "fail_fast", "quiet", "max_runs", "retries")
    return [each for each, key in keys if holds_for_the_sweep(key) and key not in typed and key not in once]


def is_finished(run: RecordedRun, config: Config) -> bool:
    """Return True if resuming would do nothing.

    A diverged run counts as finished: it would diverge again at the same iteration. A command says itself when it is
    done.
    """
    if run.record.status is Status.COMPLETED:
        trainer = config.trainer
        reached = trainer.stop_at_threshold and run.first_epoch_below_threshold is not None
        # Completed, it had all epochs that it was to have, even if they cannot be read any more.
        epochs = run.number("trainer.num_epochs") if HISTORY_FILE in run.misfits else run.epochs
        return config.command is not None or run.record.ended is not None or reached or epochs >= trainer.num_epochs
    return run.record.status is Status.DIVERGED


def resume_line(planned: Plan, sweep_dir: Path) -> str:
    """Return the command that resumes a sweep: what is not repeated from its files is typed again.

    Code of the user's is named in the whole command only, and found in the folder where that was typed.
    """
    if _has_own_code(planned):
        typed = (each for each in planned.command if key_of(each) != "resume")
        return in_this_folder(as_typed("digits_sweep", *typed, _resume(sweep_dir)))
    again = _again(planned)
    command = as_typed("digits_sweep", _resume(sweep_dir), *again)
    # In what else says where something is, a path may be relative in a way that only its reader knows.
    has_places = any(key_of(each).startswith(("tracker", "data.mirrors")) for each in again)
    return in_this_folder(command) if has_places else command


def resume_call(planned: Plan, sweep_dir: Path) -> str:
    """Return the call of Python that resumes a sweep, as `resume_line` returns a command."""
    whole = [each for each in planned.command if each != "-m" and key_of(each) != "resume"]
    typed = whole if _has_own_code(planned) else _again(planned)
    objects = {key_of(each): each.partition("=")[2] for each in typed if is_object(each.partition("=")[2])}
    texts = [each for each in typed if key_of(each) not in objects and f"{key_of(each)}.target" not in objects]
    keywords = [f"{key.partition('.')[0]}={_as_passed(targets)}" for key, targets in objects.items()]
    return f"run({', '.join([*map(repr, [*texts, _resume(sweep_dir)]), *keywords])})"


def _as_passed(targets: str) -> str:
    names = [target.partition(":")[2] for target in targets.split(",")]
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"


def _has_own_code(planned: Plan) -> bool:
    names = (getattr(getattr(run.config, group), "target", None) for run in planned.runs for group in OWN_GROUPS)
    return planned.settings.command is not None or any(names)


def _again(planned: Plan) -> list[str]:
    """Return what has to be typed again, the folders of the data and of all results in full."""
    typed = {key_of(each): each for each in not_repeated(planned.command, ())}
    root = Path(planned.settings.data.root).expanduser()
    # The environment may name a relative one too.
    if "data.root" in typed or not root.is_absolute():
        typed["data.root"] = as_override("data.root", str(root.absolute()))
    # A recorded command says where the results of whoever typed it are.
    typed.pop("outputs", None)
    if str(planned.outputs) != "outputs":
        typed["outputs"] = as_override("outputs", str(planned.outputs.absolute()))
    return list(typed.values())


def _resume(folder: Path) -> str:
    return as_override("resume", str(folder.absolute()))
