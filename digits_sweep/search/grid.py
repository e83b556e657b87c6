"""The search over rates at several batch sizes, and over pilot runs for its goals if none is typed.

Which runs come next is a pure function of what runs resulted in. A learning rate is known by its exponent k: it is the
middle of the grid times factor ** k. A goal is a target and a threshold, known by its index in the list of goals; a
replicate is known by its number, how far its seed lies above the first one.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from digits_sweep.config.plan import PlannedRun
from digits_sweep.config.text import to_text
from digits_sweep.results.record import EvaluationRow, Status
from digits_sweep.results.run import RecordedRun
from digits_sweep.results.targets import targets_of
from digits_sweep.search.settings import CriticalConfig, Goal
from digits_sweep.search.study import run_of

# Rates of the pilot runs lie so many steps of the grid apart.
STRIDE = 2
# No pilot run trains on the examples of a small data set more often.
MOST_EPOCHS = 40
# The early, the middle and the late goal: how much of the way they are, in logarithms.
SHARES = (0.6, 0.8, 1.0)
# A goal has so many digits.
DIGITS = 2
# On so many examples a program of the user's is taken to evaluate if it does not say.
SAMPLES = 1_000
# The late goal is no less than this share of what the untrained network has, and than so many wrong examples.
LEAST_SHARE, LEAST_ERRORS = 0.05, 10
# An error that does not become so much smaller says less than the loss; a loss that does not has learned nothing.
LEARNED = {"train_error": 0.5, "train_loss": 0.95, "test_error": 0.5, "test_loss": 0.95}


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
        # Of the rates with all seeds: the others were decided against, or are not decided yet.
        complete = [exponent for exponent in self.exponents if self._made(exponent) == rules.seeds]
        self._medians = [
            {exponent: _median(outcome.iterations for outcome in self._tuning(exponent, goal)) for exponent in complete}
            for goal in self.goals
        ]
        self.tuned_medians = [min(medians.values(), default=math.inf) for medians in self._medians]

    def next_trials(self) -> list[Trial]:
        """Return the runs that are to be made next, which do not depend on one another; none if all is done."""
        if not self.results:
            return [Trial(0, replicate) for replicate in range(self.rules.seeds)]
        return list(self._undecided()) or list(self._extended()) or list(self._fresh())

    def winner(self, goal: int) -> int | None:
        """Return the exponent of the rate with the least median, of equal ones the lower; None if none is finite."""
        medians = self._medians[goal]
        return min(medians, key=medians.__getitem__) if math.isfinite(self.tuned_medians[goal]) else None

    def tuned_rate(self, goal: int) -> float | None:
        """Return the winner's learning rate; None if there is no winner."""
        winner = self.winner(goal)
        return None if winner is None else self.rules.learning_rate(self.batch_size, winner)

    def fresh(self, goal: int) -> list[Outcome]:
        """Return what the winner's fresh seeds resulted in, in the order of the seeds; without those that failed."""
        return [outcome for outcome in self._of_winner(goal) if not outcome.failed]

    def missing_seeds(self, goal: int) -> int:
        """Return how many of the winner's fresh seeds failed."""
        return sum(outcome.failed for outcome in self._of_winner(goal))

    def real_size(self, goal: int) -> float:
        """Return the mean number of examples in a step: fewer than the batch size if an epoch ends with a smaller one.

        The median over the fresh seeds; without any, the batch size itself.
        """
        sizes = [outcome.batch_size for outcome in self.fresh(goal) if outcome.batch_size > 0]
        return median(sizes) if sizes else float(self.batch_size)

    def _of_winner(self, goal: int) -> list[Outcome]:
        winner = self.winner(goal)
        return [] if winner is None else self._outcomes(winner, goal, self.fresh_replicates)

    def _outcomes(self, exponent: int, goal: int, replicates: Iterable[int]) -> list[Outcome]:
        runs = ((exponent, replicate) for replicate in replicates)
        return [self.results[run][goal] for run in runs if run in self.results]

    def _tuning(self, exponent: int, goal: int) -> list[Outcome]:
        """Return what the tuning seeds of a rate resulted in, without those that failed."""
        return [each for each in self._outcomes(exponent, goal, range(self.rules.seeds)) if not each.failed]

    def _made(self, exponent: int) -> int:
        return sum((exponent, replicate) in self.results for replicate in range(self.rules.seeds))

    def _undecided(self) -> Iterator[Trial]:
        """Yield the fewest further seeds that can decide each rate: most seeds no better than the best median do.

        As many as decide a median come first.
        """
        for exponent in self.exponents:
            worse = min(
                sum(outcome.iterations >= best for outcome in self._tuning(exponent, goal))
                for goal, best in enumerate(self.tuned_medians)
            )
            made = self._made(exponent)
            for replicate in range(made, min(made + self.majority - worse, self.rules.seeds)):
                yield Trial(exponent, replicate, self._most_iterations())

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
        return min(self.exponents, key=lambda exponent: _median(each.best for each in self._tuning(exponent, goal)))

    def _most_iterations(self) -> float:
        """Where a run is given up: at a multiple of the best median, once every goal has one."""
        return self.rules.give_up * max(self.tuned_medians)

    def _fresh(self) -> Iterator[Trial]:
        """Yield the runs of every winner on fresh seeds; the first of each measures the noise scale."""
        winners = {winner for goal in self.goals if (winner := self.winner(goal)) is not None}
        reached = [steps for steps in self.tuned_medians if math.isfinite(steps)]
        for exponent in sorted(winners):
            for replicate in self.fresh_replicates:
                if (exponent, replicate) not in self.results:
                    first = replicate == self.rules.seeds
                    yield Trial(exponent, replicate, self.rules.give_up * max(reached), measures_noise=first)


def _median(values: Iterable[float]) -> float:
    return median([*values] or [math.inf])


@dataclass(frozen=True)
class Reached:
    """How far pilot runs come with a target: from `start`, untrained, to `best`.

    The run was there after so many iterations and examples of a training set of `train_samples`, if that is known.
    """

    target: str
    start: float
    best: float
    iterations: float
    examples: float
    train_samples: int | None = None

    @property
    def has_learned(self) -> bool:
        return self.best <= LEARNED[self.target] * self.start

    @property
    def goals(self) -> list[Goal]:
        """The early, the middle and the late goal, the easiest first; equal ones once."""
        thresholds = (self.start ** (1 - share) * self.best**share for share in SHARES)
        return [Goal(self.target, value) for value in dict.fromkeys(map(round_up, thresholds)) if value < self.start]

    def most_examples(self, batch_size: int) -> float:
        """Return how many examples a batch size may need by the pilot: as many as it, or as many steps."""
        return max(self.examples, self.iterations * batch_size)

    def __str__(self) -> str:
        """Say the goals and where they lie, in a line."""
        goals = ", ".join(f"< {to_text(goal.threshold)}" for goal in self.goals)
        shares = ", ".join(f"{100 * share:.0f} %" for share in SHARES)
        way = f"{shares} of the way from {self.start:.3g} to {self.best:.3g} in logarithms"
        return f"goals by the pilot runs: {self.target.replace('_', ' ')} {goals} ({way})"


def round_up(value: float) -> float:
    """Return the least number of `DIGITS` digits that is not below `value`, which is above 0."""
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - DIGITS)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.{DIGITS}g}")


def reached_by(rows: Sequence[EvaluationRow], samples: int, train_samples: int | None = None) -> dict[str, Reached]:
    """Return how far a run comes, by target, from its evaluations on so many `samples`.

    A target that was evaluated less than twice, or has nothing to learn, is left out.
    """
    several = {}
    for target in LEARNED:
        pairs = ((row, getattr(row, target)) for row in rows)
        values = [(row, value) for row, value in pairs if value is not None and math.isfinite(value)]
        if len(values) < 2 or values[0][1] <= 0:
            continue
        (_, start), *later = values
        least = max(LEAST_SHARE * start, LEAST_ERRORS / samples if target.endswith("error") else 0.0)
        best = min(start, max(least, min(value for _, value in later)))
        row = next((row for row, value in later if value <= best), later[-1][0])
        several[target] = Reached(target, start, best, row.iterations, row.examples, train_samples)
    return several


def farthest(results: Mapping[int, Mapping[str, Reached]]) -> tuple[int, Reached] | None:
    """Return how far pilot runs come, and the exponent of the rate with which one was there first.

    In the training error if it halves, else in the loss; None if none is evaluated. A program of the user's may
    evaluate on test examples only: these count then.
    """
    best = None
    for target in LEARNED:
        several = [(exponent, by_target[target]) for exponent, by_target in results.items() if target in by_target]
        if several:
            best = min(several, key=lambda pair: (pair[1].best, pair[1].examples, abs(pair[0])))
            if best[1].has_learned:
                break
    return best


@dataclass(frozen=True)
class Pilots:
    """The search for the rate at which runs of one batch size come farthest; a run's key is its rate's exponent."""

    rules: CriticalConfig
    base: PlannedRun

    def next_runs(self, results: Mapping[int, Mapping[str, Reached]]) -> dict[int, PlannedRun]:
        """Return runs at three rates, then those beside the best one until it lies between two others."""
        best = farthest(results)
        exponents = (-STRIDE, 0, STRIDE) if best is None else (best[0] - STRIDE, best[0] + STRIDE)
        within = (exponent for exponent in exponents if abs(exponent) <= max(STRIDE, self.rules.most_steps))
        return {exponent: self.run(exponent) for exponent in within if exponent not in results}

    def run(self, exponent: int) -> PlannedRun:
        """Return the run at a rate, which trains on `pilot_examples` whatever it reaches."""
        config = self.base.config
        lr = self.rules.learning_rate(config.data.batch_size, exponent)
        name = f"pilot_batch_size={config.data.batch_size}_lr={to_text(lr)}_seed={config.seed}"
        return run_of(self.base, name, {"optimizer.lr": lr, "evaluation.stop": False}, self.rules.pilot_examples)

    def outcome(self, run: PlannedRun, recorded: RecordedRun) -> dict[str, Reached]:
        """Return how far a run comes with every target; one that failed with none."""
        wanted, samples = run.config.evaluation.train_samples, recorded.record.train_samples
        rows = [] if recorded.record.status is Status.FAILED else recorded.evaluations
        known = [count for count in (wanted, samples) if count]
        return reached_by(rows, min(known, default=SAMPLES), samples)

    def least_left(self, known: Collection[int]) -> int:
        return 0


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
        values = {"seed": base.config.seed + trial.replicate, "optimizer.lr": lr}
        if trial.measures_noise:
            values["evaluation.noise_scale"] = True
        name = f"batch_size={batch_size}_lr={to_text(lr)}_seed={values['seed']}"
        most_examples = min(trial.most_iterations * batch_size, self.most_examples(batch_size))
        # The quick study that this one goes on from may have given it up sooner.
        return run_of(base, name, values, most_examples, self.recorded(name))

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
