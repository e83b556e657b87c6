"""The command, or the call, that resumes what was stopped, as it is printed: it works when pasted, from any folder."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from digits_sweep.config.command_line import key_of
from digits_sweep.config.hydra.compose import as_override
from digits_sweep.config.own_code import GROUPS
from digits_sweep.config.plan import Plan
from digits_sweep.sweep.resume import not_repeated


def resume_line(planned: Plan, sweep_dir: Path) -> str:
    """Return the command that resumes a sweep: what is not repeated from its files is typed again.

    Code of the user's is named in the whole command only, and found in the folder where that was typed.
    """
    if _has_own_code(planned):
        return whole_command("digits_sweep", planned.command, sweep_dir)
    again = _again(planned)
    command = f"python -m digits_sweep {shlex.join([_resume(sweep_dir), *again])}"
    # In what else says where something is, a path may be relative in a way that only its reader knows.
    has_places = any(key_of(each).startswith(("tracker", "data.mirrors")) for each in again)
    return f"{_here()} {command}" if has_places else command


def resume_call(planned: Plan, sweep_dir: Path) -> str:
    """Return the call of Python that resumes a sweep, as `resume_line` returns a command."""
    whole = [each for each in planned.command if each != "-m" and key_of(each) != "resume"]
    typed = whole if _has_own_code(planned) else _again(planned)
    return f"run({', '.join(map(repr, [*typed, _resume(sweep_dir)]))})"


def _has_own_code(planned: Plan) -> bool:
    return any(getattr(getattr(run.config, group), "target", None) for run in planned.runs for group in GROUPS)


def _again(planned: Plan) -> list[str]:
    """Return what has to be typed again, the folder of the data in full."""
    typed = not_repeated(planned.command, ())
    again = [each for each in typed if key_of(each) != "data.root"]
    root = Path(planned.settings.data.root).expanduser()
    # The environment may name a relative one too.
    if len(again) < len(typed) or not root.is_absolute():
        again.append(as_override("data.root", str(root.absolute())))
    return again


def whole_command(module: str, command: Sequence[str], folder: Path) -> str:
    """Return all that was typed, to be run where it was typed, and the folder to resume."""
    typed = [each for each in command if key_of(each) != "resume"]
    return f"{_here()} python -m {module} {shlex.join([*typed, _resume(folder)])}"


def _here() -> str:
    return f"cd {shlex.quote(str(Path.cwd()))} &&"


def _resume(folder: Path) -> str:
    return as_override("resume", str(folder.absolute()))
