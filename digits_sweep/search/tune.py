"""The search with Optuna: its runs, its table, the best rates on fresh seeds, and the export for optuna-dashboard."""

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from digits_sweep.config.compose import checked
from digits_sweep.config.plan import PlannedRun
from digits_sweep.config.text import to_text
from digits_sweep.errors import CannotSearch
from digits_sweep.search.optuna import Outcome, Proposals, Run, Trial
from digits_sweep.search.settings import OBJECTIVES, SEARCHED, TuneConfig, Typed, lesson_rates
from digits_sweep.search.study import RecordedRun, Request, Study, opened, recorded_run, study_file

# So many of the best trials are shown.
BEST = 5
# The packages of drivers whose modules have another name.
PACKAGES = {"MySQLdb": "mysqlclient", "psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary"}
# A run, by the number of its trial and the place of its seed.
Key = tuple[int, int]


class Tune:
    """The search for rates; see `command.Part`."""

    module = "digits_sweep.tune"

    def __init__(self, typed: Typed[TuneConfig]) -> None:
        """Raises `CannotSearch` if the storage cannot be used."""
        # This program reports itself what became of a trial.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.typed, self.settings = typed, typed.settings
        self.is_timed = self.settings.objective == "seconds_to_threshold"
        own = {name: getattr(self.settings, name) for name in ("objective", "seeds")}
        asked = study_file(own, typed.planned.runs, [f"optimizer.{name}" for name in SEARCHED])
        parent, name = typed.planned.outputs / "tune", str(self.settings.study)
        self.request = Request(asked, parent, parent / name, f"tune.study={name}", "tune.")
        if self.settings.storage:
            check_storage(self.settings.storage, name)

    def resumed_by(self, folder: Path) -> list[str]:
        """Return what is typed beside the same command to resume the search: nothing."""
        return []

    def conduct(self, study: Study) -> None:
        """Run trials until the study has as many as asked for, show the best, and confirm it on fresh seeds."""
        rates = Rates(self.settings, self.typed.planned.runs[0], study)
        found = rates.proposals(study.search(rates))
        study.screen.table(*best_trials(found))
        if found.best and self.settings.confirm:
            study.screen.say(self._confirmed(study, rates, found.best))
        folder = study.folder
        if self.settings.storage:
            export(self.settings.storage, str(self.settings.study), found)
            study.screen.say(f"exported to {self.settings.storage}")
        study.screen.say(f"every run of a trial is recorded in {folder}; a page of them: make report SWEEPS={folder}")

    def _confirmed(self, study: Study, rates: "Rates", best: Trial) -> str:
        """Train the best rates with seeds that no trial had, in a folder of their own, and say what they give."""
        folder = study.folder.with_name(f"{study.folder.name}_confirmed")
        places = range(self.settings.seeds, self.settings.seeds + self.settings.confirm)
        with opened(replace(self.request, folder=folder), study.planned, study.screen) as fresh:
            again = replace(rates, study=fresh)
            runs = [again.run(Run(best.number, place, best.rates, math.inf, rates.num_epochs)) for place in places]
            fresh.train(runs, lambda left: f"trial {best.number} again, on {len(left)} fresh seeds")
            values = [again.outcome(run, recorded).value for run in runs if (recorded := fresh.ended(run))]
        return confirmation(best, values, self.settings.objective)


@dataclass(frozen=True)
class Rates:
    """The search for the best rates at one batch size; `base` is every run but for what is searched."""

    settings: TuneConfig
    base: PlannedRun
    study: Study

    @property
    def num_epochs(self) -> int:
        return self.base.config.trainer.num_epochs

    def proposals(self, results: Mapping[Key, Outcome]) -> Proposals:
        """Return the search as far as `results` go."""
        bounds = {name: getattr(self.settings, name) for name in SEARCHED}
        first = [
            rates
            for rates in (lesson_rates() if self.settings.start_from_lesson else ())
            if all(low <= rates[name] <= high for name, (low, high) in bounds.items())
        ]
        # A rate that decays ends with the epochs: a run cannot train fewer of them first.
        may_pause = self.base.config.schedule.decay is None
        return Proposals(self.settings, first, self.num_epochs, may_pause, results)

    def next_runs(self, results: Mapping[Key, Outcome]) -> dict[Key, PlannedRun]:
        """Return the next runs of all trials."""
        return {(run.trial, run.place): self.run(run) for run in self.proposals(results).next_runs()}

    def run(self, run: Run) -> PlannedRun:
        """Return a run that Optuna proposes.

        What comes after the threshold counts for the last loss only, so that other runs end there. One that has started
        keeps its rates and its limit, whatever is typed, and however Optuna is installed, now.
        """
        config, name = self.base.config, f"trial_{run.trial:04d}_seed="
        rates: dict[str, Any] = dict(run.rates)
        limits = [run.most_examples, config.trainer.max_examples or math.inf]
        if recorded := self._recorded(f"{name}{config.seed}"):
            rates = {each: recorded["optimizer"][each] for each in SEARCHED}
        config = replace(config, seed=config.seed + run.place, optimizer=replace(config.optimizer, **rates))
        most = math.ceil(min(limits)) if math.isfinite(min(limits)) else None
        if recorded := self._recorded(f"{name}{config.seed}"):
            most = recorded["trainer"]["max_examples"]
        trainer = replace(config.trainer, num_epochs=run.num_epochs, max_examples=most)
        trainer.stop_at_threshold |= self.settings.objective != "final_loss"
        return PlannedRun(f"{name}{config.seed}", checked(replace(config, trainer=trainer)), self.base.overrides)

    def _recorded(self, name: str) -> dict[str, Any] | None:
        """Return the configuration of a run that has started."""
        return recorded_run(self.study.sweep, name).record.config if name in self.study.sweep.records else None

    def outcome(self, run: PlannedRun, recorded: RecordedRun) -> Outcome:
        """Return what a run resulted in, as far as it is planned: it may have trained on in a later wave."""
        history, row, objective = (
            recorded.history[: run.config.trainer.num_epochs],
            recorded.row,
            self.settings.objective,
        )
        losses = [epoch.loss_mean for epoch in history]
        value = row.get(OBJECTIVES[objective]) if objective != "final_loss" else losses[-1] if losses else None
        examples = row.get("examples_to_threshold")
        if objective == "epochs_to_threshold" and value is not None:
            examples = value * row["train_samples"]
        return Outcome(
            rates={name: getattr(run.config.optimizer, name) for name in SEARCHED},
            value=_finite(value),
            examples=_finite(examples),
            losses=losses,
            is_over=len(losses) >= self.num_epochs or not math.isfinite(_finite(value)) or objective != "final_loss",
        )

    def least_left(self, known: Collection[Key]) -> dict[int, int]:
        """Return how many runs follow at least: enough of every trial to give it up, and the fresh seeds."""
        seeds = self.settings.seeds // 2 + 1 if self.settings.prune else self.settings.seeds
        trials = self.settings.trials - len({trial for trial, _ in known})
        return {self.base.config.data.batch_size: trials * seeds + self.settings.confirm}


def _finite(value: Any) -> float:
    """Return a number, infinity for one that is missing or no number: the run diverged or did not get there."""
    return math.inf if value is None or not math.isfinite(float(value)) else float(value)


def best_trials(found: Proposals) -> tuple[list[str], list[list[str]]]:
    """Return a header, and a row for each of the best trials and for those whose rates were given."""
    complete = (each for each in found.trials if each.is_complete and not found.is_given_up(each))
    ranked = sorted(complete, key=lambda each: each.value)
    shown = dict.fromkeys(each.number for each in [*ranked[:BEST], *found.trials[: len(found.first)]])
    names = [name.replace("_", " ") for name in (*SEARCHED, found.rules.objective)]
    return ["trial", *names, "runs"], [_row(found, found.trials[number]) for number in shown]


def _row(found: Proposals, trial: Trial) -> list[str]:
    rates = [to_text(float(f"{trial.rates[name]:.3g}")) for name in SEARCHED]
    value = "given up" if found.is_given_up(trial) else _written(trial.value)
    return [str(trial.number), *rates, value, ", ".join(map(_written, trial.values))]


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


OURS = "digits_sweep"


def check_storage(address: str, name: str) -> None:
    """Raise `CannotSearch` if no study `name` can be written to a database, by its SQLAlchemy address."""
    with closing(_Storage(address)) as storage:
        storage.refuse_another(name)


def export(address: str, name: str, found: Proposals) -> None:
    """Write all trials as a study that optuna-dashboard opens, in place of an earlier export.

    Raises `CannotSearch` if that cannot be done.
    """
    with closing(_Storage(address)) as storage:
        storage.refuse_another(name)
        storage.replace(name, found)


class _Storage:
    """A database of Optuna's, open. Whatever it, SQLAlchemy or a driver raises becomes `CannotSearch`, on one line."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.storage = self._done(lambda: RDBStorage(address))

    def close(self) -> None:
        """Close its connections."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    def refuse_another(self, name: str) -> None:
        """Raise `CannotSearch` if it has a study of that name which this program did not write."""
        studies = self._done(lambda: optuna.get_all_study_summaries(self.storage))
        if any(each.study_name == name and OURS not in each.user_attrs for each in studies):
            raise CannotSearch(f"tune.storage={self.address}: has a study {name} of another program; tune.study=NAME")

    def replace(self, name: str, found: Proposals) -> None:
        """Write a study anew."""
        self._done(lambda: self._replace(name, found))

    def _replace(self, name: str, found: Proposals) -> None:
        if name in {each.study_name for each in optuna.get_all_study_summaries(self.storage)}:
            optuna.delete_study(study_name=name, storage=self.storage)
        study = optuna.create_study(storage=self.storage, study_name=name, direction="minimize")
        study.set_user_attr(OURS, found.rules.objective)
        for trial in found.trials:
            given_up = found.is_given_up(trial)
            state = TrialState.PRUNED if given_up else TrialState.COMPLETE
            study.add_trial(found.frozen(trial, state, None if given_up else trial.value))

    def _done(self, what: Any) -> Any:
        try:
            return what()
        except ImportError as error:
            missing = getattr(error.__cause__, "name", None) or error.name
            package = PACKAGES.get(str(missing), missing)
            reason = f"its driver {missing} is not installed; in the checkout, .venv/bin/pip install '{package}'"
            raise CannotSearch(f"tune.storage={self.address}: {reason}") from error
        # An address can make SQLAlchemy, a driver or Optuna, which knows older tables, raise anything.
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            raise CannotSearch(f"tune.storage={self.address}: {type(error).__name__}: {lines[0]}") from error
