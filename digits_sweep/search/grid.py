"""The search over rates at several batch sizes: which runs come next is a pure function of what runs resulted in.

A learning rate is known by its exponent k: it is the middle of the grid times factor ** k. A goal is a target and a
threshold, known by its index in the list of goals; a replicate is known by its number, how far its seed lies above the
first one.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from digits_sweep.config.keys import checked, value_of
from digits_sweep.config.plan import PlannedRun
from digits_sweep.config.text import to_text
from digits_sweep.results.record import Status
from digits_sweep.results.run import RecordedRun
from digits_sweep.results.targets import targets_of
from digits_sweep.search.pilot import Reached
from digits_sweep.search.settings import CriticalConfig, Goal
from digits_sweep.sweep.fitting import with_fixed_decay


@dataclass(frozen=True)
class Outcome:
    """What a run means for one goal.

    `iterations` to the goal are infinite for a miss; `best` is the least value that the goal's quantity had, infinite
    if it had none; `trained` are the iterations of the whole run, `batch_size` is the mean number of examples in a
    step, `noise_scales` are those of the gradient that were measured over the last doubling of steps before the goal.
    One that `failed` for a reason of its own says nothing and counts nowhere.
    """

    iterations: float
    best: float
    trained: int = 0
    batch_size: float = math.nan
    noise_scales: tuple[float, ...] = ()
    failed: bool = False


@dataclass(frozen=True)
class Trial:
    """A run to make: the exponent of its rate, its replicate, and after how many iterations to give it up.

    `measures_noise`: the gradient noise scale is measured along it too.
    """

    exponent: int
    replicate: int
    most_iterations: float = math.inf
    measures_noise: bool = False


# The outcomes of a run, one a goal, by the exponent of its rate and its replicate.
Results = Mapping[tuple[int, int], Sequence[Outcome]]


class BatchSize:
    """The search at one batch size, as far as `results` go.

    Replicates below `rules.seeds` are tuning seeds. Without any to confirm them, as in a quick study, they count.
    """

    def __init__(self, rules: CriticalConfig, batch_size: int, num_goals: int, results: Results) -> None:
        self.rules, self.batch_size, self.goals, self.results = rules, batch_size, range(num_goals), results
        self.majority = rules.seeds // 2 + 1
        self.fresh_replicates = range(rules.seeds if rules.confirm else 0, rules.seeds + rules.confirm)
        self.exponents = sorted({exponent for exponent, _ in results})
        # The least median of the rates with all seeds: the others were decided against, or are not decided yet.
        complete = [exponent for exponent in self.exponents if self._is_complete(exponent)]
        self.tuned_medians = [
            min((self._median(exponent, goal) for exponent in complete), default=math.inf) for goal in self.goals
        ]

    def next_trials(self) -> list[Trial]:
        """Return the runs that are to be made next, which do not depend on one another; none if all is done."""
        if not self.results:
            return [Trial(0, replicate) for replicate in range(self.rules.seeds)]
        return list(self._undecided()) or list(self._extended()) or list(self._fresh())

    def winner(self, goal: int) -> int | None:
        """Return the exponent of the rate with the least median, of equal ones the lower; None if none is finite."""
        best = self.tuned_medians[goal]
        if math.isinf(best):
            return None
        return next(
            exponent
            for exponent in self.exponents
            if self._is_complete(exponent) and self._median(exponent, goal) == best
        )

    def tuned_rate(self, goal: int) -> float | None:
        """Return the winner's learning rate; None if there is no winner."""
        winner = self.winner(goal)
        return None if winner is None else self.rules.learning_rate(self.batch_size, winner)

    def fresh(self, goal: int) -> list[Outcome]:
        """Return what the winner's fresh seeds resulted in, in the order of the seeds; without those that failed."""
        winner = self.winner(goal)
        return [] if winner is None else self._outcomes(winner, goal, self.fresh_replicates)

    def missing_seeds(self, goal: int) -> int:
        """Return how many of the winner's fresh seeds failed."""
        winner = self.winner(goal)
        runs = [] if winner is None else [(winner, replicate) for replicate in self.fresh_replicates]
        return sum(self.results[run][goal].failed for run in runs if run in self.results)

    def real_size(self, goal: int) -> float:
        """Return the mean number of examples in a step: fewer than the batch size if an epoch ends with a smaller one.

        The median over the fresh seeds; without any, the batch size itself.
        """
        sizes = [outcome.batch_size for outcome in self.fresh(goal) if outcome.batch_size > 0]
        return median(sizes) if sizes else float(self.batch_size)

    def most_trained(self) -> int:
        """Return the iterations of the longest run: a goal that no run has reached needs more."""
        return max((outcome.trained for outcomes in self.results.values() for outcome in outcomes), default=0)

    def _outcomes(self, exponent: int, goal: int, replicates: Iterable[int] | None = None) -> list[Outcome]:
        """Return what the seeds of a rate resulted in, those for tuning by default, without those that failed."""
        runs = ((exponent, replicate) for replicate in replicates or range(self.rules.seeds))
        outcomes = (self.results[run][goal] for run in runs if run in self.results)
        return [outcome for outcome in outcomes if not outcome.failed]

    def _is_complete(self, exponent: int) -> bool:
        return all((exponent, replicate) in self.results for replicate in range(self.rules.seeds))

    def _median(self, exponent: int, goal: int) -> float:
        return median([outcome.iterations for outcome in self._outcomes(exponent, goal)] or [math.inf])

    def _undecided(self) -> Iterator[Trial]:
        """Yield the fewest further seeds that can decide each rate: most seeds no better than the best median do.

        As many as decide a median come first.
        """
        for exponent in self.exponents:
            made = sum((exponent, replicate) in self.results for replicate in range(self.rules.seeds))
            missing = max(self._missing(exponent, goal) for goal in self.goals) if made else 0
            for replicate in range(made, min(made + missing, self.rules.seeds)):
                yield Trial(exponent, replicate, self._most_iterations())

    def _missing(self, exponent: int, goal: int) -> int:
        worse = sum(outcome.iterations >= self.tuned_medians[goal] for outcome in self._outcomes(exponent, goal))
        return max(0, self.majority - worse)

    def _extended(self) -> Iterator[Trial]:
        """Yield runs of the rates beside every goal's best one that have not been tried."""
        beside = {self._leader(goal) + step for goal in self.goals for step in (-1, 1)}
        for exponent in sorted(beside - set(self.exponents)):
            if abs(exponent) <= self.rules.most_steps:
                for replicate in range(self.majority):
                    yield Trial(exponent, replicate, self._most_iterations())

    def _leader(self, goal: int) -> int:
        """The winner; while no rate reaches the goal, the one that came nearest to it, of equal ones the lowest."""
        winner = self.winner(goal)
        if winner is not None:
            return winner
        nearest = {
            exponent: median([outcome.best for outcome in self._outcomes(exponent, goal)] or [math.inf])
            for exponent in self.exponents
        }
        return min(self.exponents, key=lambda exponent: (nearest[exponent], exponent))

    def _most_iterations(self) -> float:
        """Where a run is given up: at a multiple of the best median, once every goal has one."""
        return self.rules.give_up * max(self.tuned_medians)

    def _fresh(self) -> Iterator[Trial]:
        """Yield the runs of every winner on fresh seeds; the first of each measures the noise scale."""
        winners = [self.winner(goal) for goal in self.goals]
        reached = [steps for steps in self.tuned_medians if math.isfinite(steps)]
        for exponent in sorted({winner for winner in winners if winner is not None}):
            for replicate in self.fresh_replicates:
                if (exponent, replicate) not in self.results:
                    first = replicate == self.rules.seeds
                    yield Trial(exponent, replicate, self.rules.give_up * max(reached), measures_noise=first)


# The searches at the batch sizes of a study, the smallest first.
Sizes = Mapping[int, BatchSize]
# A run, by its batch size, the exponent of its rate and its replicate.
Key = tuple[int, int, int]


@dataclass(frozen=True)
class Grid:
    """The search for the best rate of every goal at several batch sizes; `bases` has a run for each of them.

    Goals that pilot runs have `reached` also say after how many examples a run is given up. `recorded` returns the
    configuration of a run that was made before, by its folder.
    """

    rules: CriticalConfig
    goals: Sequence[Goal]
    bases: Mapping[int, PlannedRun]
    reached: Reached | None = None
    recorded: Callable[[str], dict[str, Any] | None] = lambda folder: None

    def sizes(self, results: Mapping[Key, Sequence[Outcome]]) -> Sizes:
        """Return the search at every batch size, as far as `results` go."""
        own: dict[int, dict[tuple[int, int], Sequence[Outcome]]] = {size: {} for size in self.bases}
        for (size, exponent, replicate), outcomes in results.items():
            own[size][exponent, replicate] = outcomes
        return {size: BatchSize(self.rules, size, len(self.goals), of_size) for size, of_size in own.items()}

    def next_runs(self, results: Mapping[Key, Sequence[Outcome]]) -> dict[Key, PlannedRun]:
        """Return the next runs of all batch sizes."""
        return {
            (size, trial.exponent, trial.replicate): self.run(size, trial)
            for size, at in self.sizes(results).items()
            for trial in at.next_trials()
        }

    def run(self, batch_size: int, trial: Trial) -> PlannedRun:
        """Return the run of a trial. Raises `InvalidConfig` if its seed or its rate is too large."""
        base, lr = self.bases[batch_size], self.rules.learning_rate(batch_size, trial.exponent)
        config = with_fixed_decay(base.config)
        trainer, evaluation = config.trainer, config.evaluation
        most = min(trainer.max_examples or math.inf, trial.most_iterations * batch_size, self.most_examples(batch_size))
        most_examples = math.ceil(most) if math.isfinite(most) else None
        seed = config.seed + trial.replicate
        name = f"batch_size={batch_size}_lr={to_text(lr)}_seed={seed}"
        # The quick study that this one goes on from may have given it up sooner.
        if before := self.recorded(name):
            limit = value_of(before, "trainer.max_examples")
            most_examples = limit if isinstance(limit, int) else None
        config = replace(
            config,
            seed=seed,
            optimizer=replace(config.optimizer, lr=lr),
            trainer=replace(trainer, max_examples=most_examples),
            evaluation=replace(evaluation, noise_scale=evaluation.noise_scale or trial.measures_noise),
        )
        return PlannedRun(name, checked(config), base.overrides)

    def most_examples(self, batch_size: int) -> float:
        """Return after how many examples a run is given up, by the pilot runs."""
        return self.rules.give_up * self.reached.most_examples(batch_size) if self.reached else math.inf

    def outcome(self, run: PlannedRun, recorded: RecordedRun) -> list[Outcome]:
        """Return what a run means for every goal. One that diverged is a miss; one that failed says nothing."""
        outcomes, rows, status = [], recorded.evaluations, recorded.record.status
        for goal in self.goals:
            values = [value for row in rows if (value := getattr(row, goal.target)) is not None]
            best = min(filter(math.isfinite, values), default=math.inf)
            on_balance = run.config.evaluation.on_balance > 0
            (reached,) = targets_of("", {goal.target: [goal.threshold]}, rows, on_balance=on_balance)
            if status is not Status.COMPLETED or not reached.iterations or not reached.examples:
                size = rows[-1].examples / rows[-1].iterations if rows and rows[-1].iterations else math.nan
                outcomes.append(Outcome(math.inf, best, recorded.iterations, size, (), status is Status.FAILED))
                continue
            last_doubling = [row for row in rows if reached.iterations <= 2 * row.iterations <= 2 * reached.iterations]
            scales = (row.noise_scale for row in last_doubling if row.noise_scale is not None)
            noise = tuple(scale for scale in scales if 0 < scale < math.inf)
            size = reached.examples / reached.iterations
            outcomes.append(Outcome(reached.iterations, best, recorded.iterations, size, noise))
        return outcomes

    def least_left(self, known: Collection[Key]) -> int:
        """Return how many runs follow at least: fresh seeds, at one rate as long as it is not known at how many."""
        fresh = [size for size, _, replicate in known if replicate >= self.rules.seeds]
        return sum(max(0, self.rules.confirm - fresh.count(size)) for size in self.bases)
