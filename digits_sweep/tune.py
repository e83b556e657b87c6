"""`python -m digits_sweep.tune data.batch_size=5 tune.trials=30`: search learning rate and weight decay."""

from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from digits_sweep.errors import CannotSearch, not_installed
from digits_sweep.shell import INTERRUPTED, TERMINATED, Screen, Terminated, entry_point, stoppable, write_line

if TYPE_CHECKING:
    from digits_sweep.config.plan import Plan
    from digits_sweep.search.tune import TuneConfig


BEST = 5


@entry_point
def main(arguments: list[str]) -> int:
    """Run trials until the study has as many as asked for, and show the best of them; return the exit code."""
    from digits_sweep.config.compose import CONF
    from digits_sweep.search.tune import plan_trials, read_settings

    if {"-h", "--help"} & set(arguments):
        keys = (CONF / "tune.yaml").read_text(encoding="utf-8")
        write_line(f"{__doc__}\n\nIts keys are tune.KEY=VALUE:\n\n{keys}")
        write_line("Every other key is one of the runs: python -m digits_sweep --help")
        return 0
    settings, overrides = read_settings(arguments)
    planned = plan_trials(overrides)
    if find_spec("optuna") is None:
        raise CannotSearch(not_installed("optuna", "optuna"))
    return _tune(settings, planned)


def _tune(settings: "TuneConfig", planned: "Plan") -> int:
    """Search, and return the exit code. Raises a `DigitsSweepError` or OSError if the search is refused or fails."""
    # Only now, because Optuna, torch and pandas take seconds to import, and a mistake is reported at once.
    from digits_sweep.search.tune import best_trials, confirm, confirmation, opened_study, search
    from digits_sweep.sweep import preflight
    from digits_sweep.sweep.session import datasets

    screen = Screen()
    folder = planned.outputs / "tune" / str(settings.study)
    fresh = folder.with_name(f"{folder.name}_confirmed")
    with stoppable():
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
    from digits_sweep.config.keys import results_of

    own = {f"tune.{name}": getattr(settings, name) for name in ("objective", "seeds")}
    return {**results_of(asdict(planned.settings)), "dataset": digest, **own}


if __name__ == "__main__":
    main()
