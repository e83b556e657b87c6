"""`python -m digits_sweep.tune data.batch_size=5 tune.trials=30`: search learning rate and weight decay."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from digits_sweep import __version__
from digits_sweep.errors import CannotSearch, DigitsSweepError
from digits_sweep.shell import INTERRUPTED, TERMINATED, Terminated, command, die_on_signal, write_line

if TYPE_CHECKING:
    from digits_sweep.config.plan import Plan
    from digits_sweep.search.tune import TuneConfig


BEST = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Run trials until the study has as many as asked for, and show the best of them (`sys.argv` if None).

    Raises SystemExit with an exit code other than 0, or with a message, if the search fails or is refused.
    """
    with command(arguments):
        arguments = sys.argv[1:] if arguments is None else list(arguments)
        if "--version" in arguments:
            write_line(f"digits_sweep {__version__}")
            return
        with die_on_signal():
            from digits_sweep.config.compose import CONF
            from digits_sweep.search.tune import plan_trials, read_settings
        if {"-h", "--help"} & set(arguments):
            keys = (CONF / "tune.yaml").read_text(encoding="utf-8")
            write_line(f"{__doc__}\n\nIts keys are tune.KEY=VALUE:\n\n{keys}")
            write_line("Every other key is one of the runs: python -m digits_sweep --help")
            return
        try:
            settings, overrides = read_settings(arguments)
            code = _tune(settings, plan_trials(overrides))
        except (DigitsSweepError, OSError) as error:
            sys.exit(str(error))
        if code:
            sys.exit(code)


def _tune(settings: "TuneConfig", planned: "Plan") -> int:
    """Search, and return the exit code. Raises a `DigitsSweepError` or OSError if the search is refused or fails."""
    with die_on_signal():
        from digits_sweep.errors import not_installed
    if find_spec("optuna") is None:
        raise CannotSearch(not_installed("optuna", "optuna"))
    # Only now, because Optuna, torch and pandas take seconds to import, and a mistake is reported at once.
    with die_on_signal():
        from digits_sweep.search.tune import best_trials, confirm, confirmation, opened_study, search
        from digits_sweep.shell import Screen
        from digits_sweep.sweep import preflight
        from digits_sweep.sweep.session import datasets

    screen = Screen()
    folder = planned.outputs / "tune" / str(settings.study)
    fresh = folder.with_name(f"{folder.name}_confirmed")
    try:
        preflight.check(planned)
        (dataset,) = datasets(planned, None, screen)
        with opened_study(settings, folder, _base(settings, planned, dataset.digest)) as study:
            search(study, settings, planned.settings, dataset, folder)
            screen.table(*best_trials(study, settings.objective, BEST))
            confirmed = confirm(study, settings, planned.settings, dataset, fresh)
    except KeyboardInterrupt as stop:
        screen.say("stopped; the same command continues the study")
        return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
    if confirmed:
        screen.say(confirmation(confirmed, settings.objective))
    screen.say(f"every run of a trial is recorded in {folder}; a page of them: make report SWEEPS={folder}")
    return 0


def _base(settings: "TuneConfig", planned: "Plan", digest: str) -> dict[str, Any]:
    """Return what must be the same for two trials to be comparable."""
    with die_on_signal():
        from digits_sweep.config.keys import results_of
    own = {f"tune.{name}": getattr(settings, name) for name in ("objective", "seeds")}
    return {**results_of(asdict(planned.settings)), "dataset": digest, **own}


if __name__ == "__main__":
    main()
