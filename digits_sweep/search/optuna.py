"""Rates proposed by Optuna: which runs come next is a pure function of what the recorded ones have resulted in.

Whoever asks again, after a stop or a power cut, tells Optuna what is recorded and gets the same answer. A trial is a
pair of rates; its runs differ in their seeds, known by their number: how far the seed lies above the first one.
"""

import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState, create_trial

from digits_sweep.config.keys import checked
from digits_sweep.config.plan import PlannedRun
from digits_sweep.results.run import RecordedRun
from digits_sweep.search.settings import OBJECTIVES, SEARCHED, TuneConfig
from digits_sweep.sweep.fitting import with_fixed_decay

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
    """A trial as far as its runs have come, in the order of their seeds; `seeds` is how many it may have."""

    number: int
    rates: Mapping[str, float]
    seeds: int
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

    @property
    def has_reached(self) -> bool:
        """Whether all of its runs were made and their median is finite."""
        return len(self.values) == self.seeds and math.isfinite(self.value)


# A run, by the numbers of its trial and its replicate.
Key = tuple[int, int]


@dataclass(frozen=True)
class Rates:
    """The search for rates as far as `results` go; `base` is every run but for them, `first` are tried unasked.

    `started` returns the configuration of a run that has started, by its folder: it keeps its rates and its limit,
    whatever is typed, and whichever version of Optuna is installed, now.
    """

    rules: TuneConfig
    base: PlannedRun
    first: Sequence[Mapping[str, float]]
    started: Callable[[str], dict[str, Any] | None]
    results: Mapping[Key, Outcome] = field(default_factory=dict)

    @cached_property
    def trials(self) -> list[Trial]:
        """All trials in their order."""
        outcomes: dict[int, list[Outcome]] = {}
        for number, replicate in sorted(self.results):
            outcomes.setdefault(number, []).append(self.results[number, replicate])
        return [Trial(number, runs[0].rates, self.rules.seeds, runs) for number, runs in outcomes.items()]

    @cached_property
    def best(self) -> Trial | None:
        """The trial with the least median, of equal ones the first; None if there is none that is finite."""
        return min((trial for trial in self.trials if trial.has_reached), key=lambda trial: trial.value, default=None)

    def is_given_up(self, trial: Trial) -> bool:
        """Return whether a trial of a search that is done has no median because another one is better."""
        return self.rules.prune and self.best is not None and not trial.has_reached

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
        runs += [now._further(Trial(number + index, pair, self.rules.seeds)) for index, pair in enumerate(rates)]
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
        config = with_fixed_decay(self.base.config)
        trainer, seed, rates = config.trainer, config.seed + replicate, dict(trial.rates)
        first, own = (self.started(f"trial_{trial.number:04d}_seed={number}") for number in (config.seed, seed))
        if first:
            rates = {name: first["optimizer"][name] for name in SEARCHED}
        limit = min(most_examples, trainer.max_examples or math.inf)
        trainer = replace(
            trainer,
            num_epochs=num_epochs or trainer.num_epochs,
            max_examples=own["trainer"]["max_examples"] if own else math.ceil(limit) if math.isfinite(limit) else None,
            stop_at_threshold=trainer.stop_at_threshold or self.rules.objective != "final_loss",
        )
        optimizer = replace(config.optimizer, **rates)  # type: ignore[arg-type]
        config = checked(replace(config, seed=seed, optimizer=optimizer, trainer=trainer))
        return PlannedRun(f"trial_{trial.number:04d}_seed={seed}", config, self.base.overrides)

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
