"""Calibration of medians, shares and verdicts: seeds of several configurations with a known lead, or with none."""

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.calibration import Check, Section, studies
from digits_sweep.report.pairs import DECIDED, FEWEST_PAIRS, decided, evidence
from digits_sweep.report.statistics import estimate, share_interval

# Logarithms of what the runs need, (studies, configurations, seeds), with a spread of about 1; infinite: a miss.
Law = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
LAWS: dict[str, Law] = {
    "normal": lambda chance, shape: chance.normal(size=shape),
    "heavy tails (Student's t_2)": lambda chance, shape: chance.standard_t(2, size=shape),
    "skewed (exponential)": lambda chance, shape: chance.exponential(size=shape),
    "a miss in 10 %": lambda chance, shape: np.where(chance.random(shape) < 0.1, np.inf, chance.normal(size=shape)),
    "many ties (whole numbers)": lambda chance, shape: np.round(chance.normal(size=shape)),
}
MOST_SEEDS = 24


def differences(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return by how much the second is above the first, seed by seed; two misses are a tie."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(values[:, second] - values[:, first], nan=0.0, posinf=np.inf, neginf=-np.inf)


class Looks:
    """Simulated sweeps, `values` (studies, configurations, seeds), as one sees them after any number of seeds."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.count = values, values.shape[1]
        first, second = np.divmod(np.arange(self.count**2), self.count)
        signed = differences(values, first, second)
        self.looks, self.ahead = evidence(signed), np.cumsum(np.sign(signed), axis=-1) > 0

    def leads(self, study: int, seeds: int) -> tuple[int, list[bool]]:
        """Return who leads by the median in a study, and over which of the others that is decided."""
        leader = int(np.argmin(np.median(self.values[study, :, :seeds], axis=-1)))
        pairs = [leader * self.count + other for other in range(self.count) if other != leader]
        looks = np.where(self.ahead[study, pairs, seeds - 1 : seeds], self.looks[study, pairs, :seeds], 0.0)
        return leader, decided(list(looks), self.count)


def medians(chance: np.random.Generator, share: float) -> Iterator[Check]:
    """Count how often the interval of a median covers the true one."""
    count = studies(20_000, share)
    for seeds in (6, 7, 11, 24):
        for name in ("normal", "skewed (exponential)", "a miss in 10 %"):
            values = LAWS[name](chance, (count, seeds))
            truth = {"normal": 0.0, "skewed (exponential)": np.log(2), "a miss in 10 %": MEDIAN_WITH_MISSES}[name]
            intervals = map(estimate, values.tolist())
            hits = sum(interval.low <= truth <= interval.high for interval in intervals)
            yield Check(f"the interval of a median over {seeds} seeds covers it", name, hits, count, least=0.95)


# Of a normal distribution, 10 % of which is infinite: its share 5/9.
MEDIAN_WITH_MISSES = 0.13971


def shares(chance: np.random.Generator, share: float) -> Iterator[Check]:
    """Count how often the interval of a share of runs covers the true one."""
    count = studies(20_000, share)
    for runs in (6, 24, 120):
        for truth in (0.05, 0.5):
            intervals = [share_interval(int(hits), runs) for hits in chance.binomial(runs, truth, count)]
            hits = sum(low <= truth <= high for low, high in intervals)
            what = f"the interval of a share of {runs} runs covers it"
            yield Check(what, f"the true share is {100 * truth:g} %", hits, count, least=0.95)


def errors(chance: np.random.Generator, share: float) -> Iterator[Check]:
    """Count wrong verdicts: a lead is decided although all configurations are the same, or the two that lead."""
    for name, law in LAWS.items():
        for alike, behind in ((2, 0), (3, 0), (10, 0), (2, 1)):
            count = studies(10_000 if alike < 10 else 1_000, share)
            values = law(chance, (count, alike + behind, MOST_SEEDS))
            values[:, alike:] += 10
            looks = Looks(values)
            sizes = range(FEWEST_PAIRS, MOST_SEEDS + 1)
            ever = sum(any(_is_wrong(looks, study, seeds, alike) for seeds in sizes) for study in range(count))
            law_text = f"{alike} configurations{', and one far behind' if behind else ''}, {name}"
            yield Check("a lead is wrongly decided, at any look from 6 to 24 seeds", law_text, ever, count, most=0.05)


def _is_wrong(looks: Looks, study: int, seeds: int, alike: int) -> bool:
    leader, is_decided = looks.leads(study, seeds)
    return leader >= alike or any(is_decided[: alike - 1])


def power(chance: np.random.Generator, share: float) -> Iterator[Check]:
    """Count how often a lead that is there is seen: over all others, by the first configuration."""
    count = studies(4_000, share)
    for name in ("normal", "heavy tails (Student's t_2)", "a miss in 10 %"):
        for configurations, lead in ((2, 0.22), (3, 0.22), (3, 0.49)):
            values = LAWS[name](chance, (count, configurations, MOST_SEEDS)) * 0.2 / np.sqrt(2)
            values[:, 1:] += np.log1p(lead)
            looks = Looks(values)
            law = f"{100 * lead:.0f} % over {configurations - 1}, paired spread 0.2, {name}"
            for seeds in (6, 10, 20):
                verdicts = (looks.leads(study, seeds) for study in range(count))
                hits = sum(leader == 0 and all(is_decided) for leader, is_decided in verdicts)
                yield Check(f"a lead is decided at {seeds} seeds", law, hits, count)


SECTIONS = (
    Section("Medians", "A run that misses the goal is infinite.", medians),
    Section("Shares", "Of runs that reach the goal, say.", shares),
    Section(
        "A verdict where there is no difference",
        f"The first have one distribution. An e-value of {DECIDED:g} decides; several leads are judged together.",
        errors,
    ),
    Section("A verdict where there is one", "What the seeds of a sweep show of a lead that is there.", power),
)
