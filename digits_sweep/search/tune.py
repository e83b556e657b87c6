"""The search with Optuna: which runs come next, its table, the best rates on fresh seeds, and the export of its trials.

Which runs come next is a pure function of what the recorded ones have resulted in: whoever asks again, after a stop or
a power cut, tells Optuna what is recorded and gets the same answer. A trial is a pair of rates; its runs differ in
their seeds, known by their number: how far the seed lies above the first one.
"""

import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from digits_sweep.config.plan import PlannedRun
from digits_sweep.config.text import as_argument, to_text
from digits_sweep.errors import CannotSearch
from digits_sweep.results.run import RecordedRun
from digits_sweep.search.settings import OBJECTIVES, SEARCHED, Request, TuneConfig, lesson_rates
from digits_sweep.search.study import Study, opened, run_of

# So many trials are tried side by side, whatever the number of workers: the answer must not depend on that.
AT_ONCE = 4
# Last losses are compared after these shares of the epochs too, with those of the trials before, if there are so many.
SHARES, LEAST_TRIALS = (0.25, 0.5), 5


@dataclass(frozen=True)
class Outcome:
    """What a run resulted in: the objective, infinite for a miss, and the examples that it took to get there.

    `losses` are the mean losses of its epochs. One that `is_over` has no further epoch to train.
    """

    rates: Mapping[str, float]
    value: float
    examples: float
    losses: Sequence[float]
    is_over: bool


@dataclass(frozen=True)
class Trial:
    """A trial as far as its runs have come, in the order of their seeds."""

    number: int
    rates: Mapping[str, float]
    outcomes: Sequence[Outcome] = ()

    @cached_property
    def values(self) -> list[float]:
        return [outcome.value for outcome in self.outcomes if outcome.is_over]

    @property
    def value(self) -> float:
        """The median; of a trial without all of its runs, what the worse half of them may bring it to."""
        return sorted(self.values)[len(self.values) // 2] if self.values else math.inf

    @property
    def examples(self) -> float:
        """The examples that the median took."""
        return sorted(outcome.examples for outcome in self.outcomes)[len(self.outcomes) // 2]


# A run, by the numbers of its trial and its replicate.
Key = tuple[int, int]


@dataclass(frozen=True)
class Rates:
    """The search for rates as far as `results` go; `base` is every run but for them, `first` are tried unasked.

    `recorded` returns the configuration of a run that has started, by its folder: it keeps its rates and its limit,
    whatever is typed, and whichever version of Optuna is installed, now.
    """

    rules: TuneConfig
    base: PlannedRun
    first: Sequence[Mapping[str, float]]
    recorded: Callable[[str], dict[str, Any] | None]
    results: Mapping[Key, Outcome] = field(default_factory=dict)

    @cached_property
    def trials(self) -> list[Trial]:
        """All trials in their order."""
        outcomes: dict[int, list[Outcome]] = {}
        for number, replicate in sorted(self.results):
            outcomes.setdefault(number, []).append(self.results[number, replicate])
        return [Trial(number, runs[0].rates, runs) for number, runs in outcomes.items()]

    @cached_property
    def best(self) -> Trial | None:
        """The trial with the least median, of equal ones the first; None if there is none that is finite."""
        return min(filter(self._has_reached, self.trials), key=lambda trial: trial.value, default=None)

    def _has_reached(self, trial: Trial) -> bool:
        """Return whether all runs of a trial were made and their median is finite."""
        return len(trial.values) == self.rules.seeds and math.isfinite(trial.value)

    def is_given_up(self, trial: Trial) -> bool:
        """Return whether a trial of a search that is done has no median because another one is better."""
        return self.rules.prune and self.best is not None and not self._has_reached(trial)

    def next_runs(self, results: Mapping[Key, Outcome]) -> dict[Key, PlannedRun]:
        """Return the runs to make next, which do not depend on one another; none if the search is done."""
        now = replace(self, results=results)
        runs = [further for trial in now.trials if (further := now._further(trial))]
        number = len(now.trials)
        # As long as nothing says when a run is worse than the best one, every one of them may train to its end.
        at_once = AT_ONCE if now.best or not self.rules.prune else 1
        count = min(at_once - len(runs), self.rules.trials - number)
        lesson = self.first[number : number + max(0, count)]
        rates = [*lesson, *now._proposed(count - len(lesson))]
        runs += [now._further(Trial(number + index, pair)) for index, pair in enumerate(rates)]
        return {key: run for further in runs for key, run in further.items()}

    def outcome(self, run: PlannedRun, recorded: RecordedRun) -> Outcome:
        """Return what a run resulted in, as far as it is planned: it may have trained on in a later wave."""
        planned = None if run.config.command is not None else run.config.trainer.num_epochs
        losses = [epoch.loss_mean for epoch in recorded.history[:planned]]
        rates = {name: getattr(run.config.optimizer, name) for name in SEARCHED}
        if self.rules.objective == "final_loss":
            value = _finite(losses[-1] if losses else None)
            is_over = len(losses) >= self.base.config.trainer.num_epochs or math.isinf(value)
            is_over |= self.base.config.command is not None
            return Outcome(rates, value, math.inf, losses, is_over)
        value = _finite(recorded.row[OBJECTIVES[self.rules.objective]])
        examples = recorded.row["examples_to_threshold"]
        if self.rules.objective == "epochs_to_threshold":
            examples = value * recorded.row["train_samples"]
        return Outcome(rates, value, _finite(examples), losses, is_over=True)

    def least_left(self, known: Collection[Key]) -> int:
        """Return how many runs follow at least: enough of every trial to give it up, and the fresh seeds."""
        seeds = self.rules.seeds // 2 + 1 if self.rules.prune else self.rules.seeds
        return (self.rules.trials - len({trial for trial, _ in known})) * seeds + self.rules.confirm

    def run(
        self, trial: Trial, replicate: int, most_examples: float = math.inf, num_epochs: int | None = None
    ) -> PlannedRun:
        """Return a run of a trial. What comes after the threshold counts for the last loss only: others end there."""
        config, rates = self.base.config, trial.rates
        trainer, seed = config.trainer, config.seed + replicate
        first, own = (self.recorded(f"trial_{trial.number:04d}_seed={number}") for number in (config.seed, seed))
        if first:
            rates = first["optimizer"]
        values = {
            "seed": seed,
            "trainer.num_epochs": num_epochs or trainer.num_epochs,
            "trainer.stop_at_threshold": trainer.stop_at_threshold or self.rules.objective != "final_loss",
            **{f"optimizer.{name}": rates[name] for name in SEARCHED},
        }
        return run_of(self.base, f"trial_{trial.number:04d}_seed={seed}", values, most_examples, own)

    def _further(self, trial: Trial) -> dict[Key, PlannedRun]:
        """Return the fewest runs that can decide whether a trial's median is below the best one."""
        if self._is_worse_so_far(trial):
            return {}
        if (epochs := self._pause(trial)) is not None:
            return {(trial.number, 0): self.run(trial, 0, num_epochs=epochs)}
        done, last, limit = len(trial.values), self.rules.seeds, math.inf
        if self.rules.prune and (best := self.best):
            worse = sum(value >= best.value for value in trial.values)
            last = min(last, done + max(0, self.rules.seeds // 2 + 1 - worse))
            limit = best.examples
        return {(trial.number, replicate): self.run(trial, replicate, limit) for replicate in range(done, last)}

    def _pause(self, trial: Trial) -> int | None:
        """Return after how many epochs the last loss of a trial's first run is compared next; None for at its end."""
        # A command does not go on from where it was.
        is_compared = self.rules.objective == "final_loss" and self.base.config.command is None
        if not self.rules.prune or not is_compared or trial.number < LEAST_TRIALS or trial.values:
            return None
        trained = len(trial.outcomes[0].losses) if trial.outcomes else 0
        epochs = self.base.config.trainer.num_epochs
        return next((pause for share in SHARES if trained < (pause := math.ceil(share * epochs)) < epochs), None)

    def _is_worse_so_far(self, trial: Trial) -> bool:
        """Return whether a trial's first run pauses with a loss above the median of the trials before it."""
        if not trial.outcomes or trial.outcomes[0].is_over:
            return False
        losses = trial.outcomes[0].losses
        before = [earlier.outcomes[0].losses for earlier in self.trials[: trial.number]]
        compared = [others[len(losses) - 1] for others in before if len(others) >= len(losses)]
        return len(compared) >= LEAST_TRIALS and losses[-1] > median(compared)

    def _proposed(self, count: int) -> list[dict[str, float]]:
        """Tell Optuna what the trials resulted in, and ask for more; those asked for together know of one another."""
        if count <= 0:
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=self.rules.seed + len(self.trials), constant_liar=True)
        study = optuna.create_study(sampler=sampler)
        study.add_trials([self.frozen(trial, TrialState.COMPLETE, trial.value) for trial in self.trials])
        ranges = {name: self._range(name) for name in SEARCHED}
        return [study.ask(ranges).params for _ in range(count)]

    def frozen(self, trial: Trial, state: TrialState, value: float | None) -> FrozenTrial:
        """Return a trial as Optuna has it."""
        ranges = {name: self._range(name, rate) for name, rate in trial.rates.items()}
        values = {"values": [str(value) for value in trial.values]}
        return create_trial(state=state, value=value, params=dict(trial.rates), distributions=ranges, user_attrs=values)

    def _range(self, name: str, *tried: float) -> BaseDistribution:
        """Return the range of a rate, wide enough for what was tried: the bounds may have been others then."""
        bounds = (*getattr(self.rules, name), *tried)
        return FloatDistribution(min(bounds), max(bounds), log=True)


def _finite(value: Any) -> float:
    """Return a number, infinity for one that is missing or no number: the run diverged or did not get there."""
    return math.inf if value is None or not math.isfinite(float(value)) else float(value)


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
    more = f", {100 * abs(fresh / best.value - 1):.0f} % {'more' if fresh >= best.value else 'less'}"
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
