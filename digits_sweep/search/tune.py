"""The search with Optuna: its table, the best rates on fresh seeds, and the export for optuna-dashboard."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from digits_sweep.config.text import as_argument, to_text
from digits_sweep.errors import CannotSearch
from digits_sweep.search.optuna import Rates, Trial
from digits_sweep.search.settings import SEARCHED, Request, TuneConfig, lesson_rates
from digits_sweep.search.study import Study, opened

# So many of the best trials are shown.
BEST = 5


class Tune:
    """The search with Optuna, for `command`; `is_timed`: its runs are compared by their seconds."""

    module = "digits_sweep.tune"

    def __init__(self, request: Request[TuneConfig]) -> None:
        """Raises `CannotSearch` if the trials cannot be exported to `tune.storage`."""
        # This program reports itself what became of a trial.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.request, self.settings, self.name = request, request.settings, str(request.settings.study)
        self.is_timed = self.settings.objective == "seconds_to_threshold"
        self.parent = request.planned.outputs / "tune"
        self.folder = self.parent / self.name
        if self.settings.storage:
            with storage(self.settings.storage, self.name):
                pass

    def resumed_by(self, folder: Path) -> list[str]:
        """Return what the same command needs besides to resume the search: nothing."""
        return []

    def conduct(self, study: Study) -> None:
        """Run trials until the study has as many as asked for, show the best, and confirm it on fresh seeds."""
        rates = self._rates(study)
        rates = replace(rates, results=study.search(rates))
        study.screen.table(*best_trials(rates))
        if rates.best and self.settings.confirm:
            study.screen.say(self._confirmed(study, rates.best))
        if self.settings.storage:
            export(self.settings.storage, self.name, rates)
            study.screen.say(f"exported to {self.settings.storage}")
        folder = study.folder
        page = f"make report SWEEPS={as_argument(folder)}"
        study.screen.say(f"every run of a trial is recorded in {folder}; a page of them: {page}")

    def _rates(self, study: Study) -> Rates:
        bounds = {name: getattr(self.settings, name) for name in SEARCHED}
        lesson = lesson_rates() if self.settings.start_from_lesson else ()
        inside = [rates for rates in lesson if all(low <= rates[name] <= high for name, (low, high) in bounds.items())]
        return Rates(self.settings, self.request.planned.runs[0], inside, study.sweep.config_of)

    def _confirmed(self, study: Study, best: Trial) -> str:
        """Train the best rates with seeds that no trial had, in a folder of their own, and say what they give."""
        folder = study.folder.with_name(f"{study.folder.name}_confirmed")
        with opened(folder, self.parent, study.planned, study.screen) as fresh:
            rates = self._rates(fresh)
            runs = [rates.run(best, self.settings.seeds + number) for number in range(self.settings.confirm)]
            fresh.train(runs, lambda left: f"trial {best.number} again, on {len(left)} fresh seeds")
            values = [rates.outcome(run, recorded).value for run in runs if (recorded := fresh.ended(run))]
        return confirmation(best, values, self.settings.objective)


def best_trials(rates: Rates) -> tuple[list[str], list[list[str]]]:
    """Return a header, and a row for each of the best trials and for those whose rates were given."""
    ranked = sorted((trial for trial in rates.trials if not rates.is_given_up(trial)), key=lambda trial: trial.value)
    shown = dict.fromkeys(trial.number for trial in [*ranked[:BEST], *rates.trials[: len(rates.first)]])
    names = [name.replace("_", " ") for name in (*SEARCHED, rates.rules.objective)]
    return ["trial", *names, "runs"], [_row(rates, rates.trials[number]) for number in shown]


def _row(rates: Rates, trial: Trial) -> list[str]:
    pair = [to_text(float(f"{trial.rates[name]:.3g}")) for name in SEARCHED]
    value = "given up" if rates.is_given_up(trial) else _written(trial.value)
    return [str(trial.number), *pair, value, ", ".join(map(_written, trial.values))]


def _written(value: float) -> str:
    return "not reached" if value == math.inf else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def confirmation(best: Trial, values: Sequence[float], objective: str) -> str:
    """Say what the best trial's rates give on fresh seeds, beside what they gave in the search."""
    fresh, name = median(values), objective.replace("_", " ")
    rates = ", ".join(f"{rate.replace('_', ' ')} {best.rates[rate]:.3g}" for rate in SEARCHED)
    more = f", {abs(fresh / best.value - 1):.0%} {'more' if fresh >= best.value else 'less'}"
    return (
        f"{rates} on {len(values)} fresh seeds: {name} {_written(fresh)} ({_written(min(values))} to "
        f"{_written(max(values))}); in the search {_written(best.value)}{more if math.isfinite(fresh) else ''}"
    )


# The mark of a study that this program wrote.
OURS = "digits_sweep"
# The packages of drivers whose modules have another name.
PACKAGES = {"MySQLdb": "mysqlclient", "psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary"}


@contextmanager
def storage(address: str, name: str) -> Iterator[RDBStorage]:
    """Open a database, by its SQLAlchemy address, that the study `name` can be exported to.

    Raises `CannotSearch` with one line, in the block too, if it cannot be used, or if another program's study of that
    name lies there.
    """
    opened_storage = None
    try:
        opened_storage = RDBStorage(address)
        for study in optuna.get_all_study_summaries(opened_storage):
            if study.study_name == name and OURS not in study.user_attrs:
                raise CannotSearch(
                    f"has a study {name} of another program; tune.study=NAME gives this one another name"
                )
        yield opened_storage
    # An address can make SQLAlchemy, a driver or Optuna, which knows older tables, raise anything.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        missing = getattr(error.__cause__, "name", None) if isinstance(error, ImportError) else None
        if missing:
            package = PACKAGES.get(missing, missing)
            reason = f"its driver {missing} is not installed; in the checkout, .venv/bin/pip install '{package}'"
        elif not isinstance(error, CannotSearch):
            reason = f"{type(error).__name__}: {reason}"
        raise CannotSearch(f"tune.storage={address}: {reason}") from error
    finally:
        if opened_storage:
            opened_storage.remove_session()
            opened_storage.engine.dispose()


def export(address: str, name: str, rates: Rates) -> None:
    """Write all trials as a study that optuna-dashboard opens, in place of an earlier export.

    Raises `CannotSearch` if that cannot be done.
    """
    with storage(address, name) as database:
        if name in optuna.get_all_study_names(database):
            optuna.delete_study(study_name=name, storage=database)
        study = optuna.create_study(storage=database, study_name=name, direction="minimize")
        study.set_user_attr(OURS, rates.rules.objective)
        for trial in rates.trials:
            given_up = rates.is_given_up(trial)
            state = TrialState.PRUNED if given_up else TrialState.COMPLETE
            study.add_trial(rates.frozen(trial, state, None if given_up else trial.value))
