"""Rates proposed by Optuna: which runs come next is a pure function of what the recorded ones have resulted in.

Whoever asks again, after a stop or a power cut, tells Optuna what is recorded and gets the same answer. A trial is a
pair of rates; its runs differ in their seeds, known by their place: how far a seed lies above the first one.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState, create_trial

from digits_sweep.search.settings import SEARCHED, TuneConfig

Rates = Mapping[str, float]
# So many trials are tried side by side, whatever the number of workers: the answer must not depend on that.
AT_ONCE = 4
# Of a last loss, trials are compared after these shares of their epochs, as soon as there are so many to compare with.
SHARES, LEAST_TRIALS = (0.25, 0.5), 5


@dataclass(frozen=True)
class Outcome:
    """What a run resulted in: the objective, infinite for a miss, and the examples that it took to get there.

    `losses` are the mean losses of its epochs. One that `is_over` has no further epoch to train.
    """

    rates: Rates
    value: float
    examples: float
    losses: Sequence[float]
    is_over: bool


@dataclass(frozen=True)
class Run:
    """A run to make: its trial and the place of its seed, its rates, and where it is given up or compared."""

    trial: int
    place: int
    rates: Rates
    most_examples: float
    num_epochs: int


@dataclass(frozen=True)
class Trial:
    """A trial as far as its runs have come, in the order of their seeds; `seeds` is how many it has at most."""

    number: int
    outcomes: Sequence[Outcome]
    seeds: int

    @cached_property
    def rates(self) -> Rates:
        return self.outcomes[0].rates

    @cached_property
    def values(self) -> list[float]:
        return [each.value for each in self.outcomes if each.is_over]

    @property
    def is_complete(self) -> bool:
        return len(self.values) == self.seeds

    @cached_property
    def value(self) -> float:
        """The median; of a trial without all of its runs, one that the worse half of them may bring it to."""
        return sorted(self.values)[len(self.values) // 2] if self.values else math.inf

    @cached_property
    def examples(self) -> float:
        """The examples that the median took."""
        return sorted(each.examples for each in self.outcomes)[self.seeds // 2]


# By the number of the trial and the place of the seed.
Results = Mapping[tuple[int, int], Outcome]


@dataclass(frozen=True)
class Proposals:
    """The search as far as `results` go; `first` are the rates that are tried before Optuna is asked."""

    rules: TuneConfig
    first: Sequence[Rates]
    num_epochs: int
    may_pause: bool
    results: Results

    @cached_property
    def trials(self) -> list[Trial]:
        """All trials in their order."""
        outcomes: dict[int, list[Outcome]] = {}
        for (number, _), outcome in sorted(self.results.items(), key=lambda item: item[0]):
            outcomes.setdefault(number, []).append(outcome)
        return [Trial(number, each, self.rules.seeds) for number, each in outcomes.items()]

    @cached_property
    def best(self) -> Trial | None:
        """The trial with the least median, of equal ones the first; None if there is none that is finite."""
        finite = (each for each in self.trials if each.is_complete and math.isfinite(each.value))
        return min(finite, key=lambda each: each.value, default=None)

    def is_given_up(self, trial: Trial) -> bool:
        """Return whether a trial of a search that is done has no median because others are better."""
        return self.rules.prune and self.best is not None and not (trial.is_complete and math.isfinite(trial.value))

    def next_runs(self) -> list[Run]:
        """Return the runs to make next, which do not depend on one another; none if the search is done."""
        runs = [run for trial in self.trials for run in self._further(trial)]
        number = len(self.trials)
        # As long as nothing says when a run is worse than the best one, every one of them may train to its end.
        at_once = AT_ONCE if self.best or not self.rules.prune else 1
        count = min(at_once - len({run.trial for run in runs}), self.rules.trials - number)
        given = self.first[number : number + max(0, count)]
        for index, rates in enumerate([*given, *self._proposed(count - len(given))]):
            runs += self._further(Trial(number + index, [], self.rules.seeds), rates)
        return runs

    def _further(self, trial: Trial, rates: Rates | None = None) -> list[Run]:
        """Return the fewest runs that can decide whether a trial's median is below the best one."""
        rates = rates or trial.rates
        if self._is_worse(trial):
            return []
        if (epochs := self._pause(trial)) is not None:
            return [Run(trial.number, 0, rates, math.inf, epochs)]
        best, limit = (self.best.value, self.best.examples) if self.best else (math.inf, math.inf)
        first, last = len(trial.values), self.rules.seeds
        if self.rules.prune and self.best:
            worse = sum(value >= best for value in trial.values)
            last = min(last, first + max(0, last // 2 + 1 - worse))
        limit = limit if self.rules.prune and self.rules.objective != "final_loss" else math.inf
        return [Run(trial.number, place, rates, limit, self.num_epochs) for place in range(first, last)]

    def _pause(self, trial: Trial) -> int | None:
        """Return after how many epochs a trial's first run is compared next; None if it trains to its end."""
        if not (self.may_pause and self.rules.prune and self.rules.objective == "final_loss"):
            return None
        if trial.number < LEAST_TRIALS or trial.values:
            return None
        trained = len(trial.outcomes[0].losses) if trial.outcomes else 0
        pauses = (math.ceil(share * self.num_epochs) for share in SHARES)
        return next((epochs for epochs in pauses if trained < epochs < self.num_epochs), None)

    def _is_worse(self, trial: Trial) -> bool:
        """Return whether a trial's first run pauses with a loss above the median of the trials before it."""
        if not trial.outcomes or trial.outcomes[0].is_over:
            return False
        losses = trial.outcomes[0].losses
        others = [each.outcomes[0].losses for each in self.trials[: trial.number]]
        there = [each[len(losses) - 1] for each in others if len(each) >= len(losses)]
        return len(there) >= LEAST_TRIALS and losses[-1] > median(there)

    def _proposed(self, count: int) -> list[Rates]:
        """Tell Optuna what the trials resulted in, and ask for more; those asked for together know of one another."""
        if count <= 0:
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=self.rules.seed + len(self.trials), constant_liar=True)
        study = optuna.create_study(sampler=sampler)
        study.add_trials([self.frozen(each, TrialState.COMPLETE, each.value) for each in self.trials])
        ranges = {name: self._range(name) for name in SEARCHED}
        return [study.ask(ranges).params for _ in range(count)]

    def frozen(self, trial: Trial, state: TrialState, value: float | None) -> FrozenTrial:
        """Return a trial as Optuna has it."""
        ranges = {name: self._range(name, rate) for name, rate in trial.rates.items()}
        values = {"values": [str(each) for each in trial.values]}
        return create_trial(state=state, value=value, params=dict(trial.rates), distributions=ranges, user_attrs=values)

    def _range(self, name: str, *tried: float) -> BaseDistribution:
        """Return the range of a rate, wide enough for what was tried: the bounds may have been others then."""
        bounds = (*getattr(self.rules, name), *tried)
        return FloatDistribution(min(bounds), max(bounds), log=True)
