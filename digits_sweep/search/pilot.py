"""Goals that follow from the data: how far pilot runs come, for a study that is given none."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from digits_sweep.config.keys import checked
from digits_sweep.config.plan import PlannedRun
from digits_sweep.config.text import to_text
from digits_sweep.results.record import EvaluationRow, Status
from digits_sweep.results.run import RecordedRun
from digits_sweep.search.settings import CriticalConfig, Goal
from digits_sweep.sweep.fitting import with_fixed_decay

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
LEARNED = {"error": 0.5, "loss": 0.95}


@dataclass(frozen=True)
class Course:
    """The evaluations of a pilot run, each on so many training examples of all `train_samples`, if these are known."""

    rows: Sequence[EvaluationRow]
    samples: int
    train_samples: int | None = None

    def values(self, target: str) -> list[tuple[EvaluationRow, float]]:
        """Return the evaluations that have a finite value of a target, with that."""
        pairs = ((row, getattr(row, target)) for row in self.rows)
        return [(row, value) for row, value in pairs if value is not None and math.isfinite(value)]

    def reached(self, target: str, exponent: int) -> "Reached | None":
        """Return how far the run comes; None if it was evaluated less than twice, or had nothing to learn."""
        values = self.values(target)
        if len(values) < 2 or values[0][1] <= 0:
            return None
        (_, start), *later = values
        least = max(LEAST_SHARE * start, LEAST_ERRORS / self.samples if target.endswith("error") else 0.0)
        best = min(start, max(least, min(value for _, value in later)))
        row = next((row for row, value in later if value <= best), later[-1][0])
        return Reached(target, start, best, row.iterations, row.examples, exponent, self.train_samples)


@dataclass(frozen=True)
class Reached:
    """How far pilot runs come with a target: from `start`, untrained, to `best`.

    The run whose rate has this `exponent` was there first, after so many iterations and examples of a training set of
    `train_samples`.
    """

    target: str
    start: float
    best: float
    iterations: float
    examples: float
    exponent: int
    train_samples: int | None = None

    @property
    def has_learned(self) -> bool:
        return self.best <= LEARNED[self.target.rpartition("_")[2]] * self.start

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
        shares = ", ".join(f"{share:.0%}" for share in SHARES)
        way = f"{shares} of the way from {self.start:.3g} to {self.best:.3g} in logarithms"
        return f"goals by the pilot runs: {self.target.replace('_', ' ')} {goals} ({way})"


def round_up(value: float) -> float:
    """Return the least number of `DIGITS` digits that is not below `value`, which is above 0."""
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - DIGITS)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.{DIGITS}g}")


@dataclass(frozen=True)
class Pilots:
    """The search for the rate at which runs of one batch size come farthest; a run's key is its rate's exponent."""

    rules: CriticalConfig
    base: PlannedRun

    def next_runs(self, results: Mapping[int, Course]) -> dict[int, PlannedRun]:
        """Return runs at three rates, then those beside the best one until it lies between two others."""
        best = farthest(results)
        exponents = {0, -STRIDE, STRIDE} if best is None else {best.exponent - STRIDE, best.exponent + STRIDE}
        within = (exponent for exponent in sorted(exponents) if abs(exponent) <= max(STRIDE, self.rules.most_steps))
        return {exponent: self._run(exponent) for exponent in within if exponent not in results}

    def outcome(self, run: PlannedRun, recorded: RecordedRun) -> Course:
        """Return the evaluations of a run, none if it failed."""
        wanted, samples = run.config.evaluation.train_samples, recorded.record.train_samples
        count = min(wanted or math.inf, samples or math.inf)
        rows = [] if recorded.record.status is Status.FAILED else recorded.evaluations
        return Course(rows, int(count) if math.isfinite(count) else SAMPLES, samples)

    def least_left(self, known: Collection[int]) -> int:
        return 0

    def _run(self, exponent: int) -> PlannedRun:
        base, rules = self.base, self.rules
        config, size = with_fixed_decay(base.config), base.config.data.batch_size
        lr = rules.learning_rate(size, exponent)
        most = min(rules.pilot_examples, config.trainer.max_examples or math.inf)
        config = replace(
            config,
            optimizer=replace(config.optimizer, lr=lr),
            trainer=replace(config.trainer, max_examples=int(most)),
            evaluation=replace(config.evaluation, stop=False),
        )
        name = f"pilot_batch_size={size}_lr={to_text(lr)}_seed={config.seed}"
        return PlannedRun(name, checked(config), base.overrides)


def farthest(results: Mapping[int, Course]) -> Reached | None:
    """Return how far pilot runs come: in the training error if it halves, else in the loss; None if none is evaluated.

    A program of the user's may evaluate on test examples only: these count then.
    """
    best: Reached | None = None
    for target in ("train_error", "train_loss", "test_error", "test_loss"):
        if several := list(_each(results, target)):
            best = min(several, key=lambda reached: (reached.best, reached.examples, abs(reached.exponent)))
            if best.has_learned:
                return best
    return best


def _each(results: Mapping[int, Course], target: str) -> Iterator[Reached]:
    courses = ((exponent, course.reached(target, exponent)) for exponent, course in results.items())
    yield from (reached for _, reached in courses if reached)
