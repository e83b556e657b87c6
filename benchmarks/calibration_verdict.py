"""Calibration of medians, shares and verdicts: seeds of several configurations with a known lead, or with none."""

from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.calibration_section import Check, Section, studies
from digits_sweep import run
from digits_sweep.config.plan import plan
from digits_sweep.report.ranking import leads
from digits_sweep.report.statistics import (
    DECIDED,
    FEWEST_PAIRS,
    decided,
    estimate,
    evidence,
    holm,
    seeds_agree,
    share_interval,
)
from digits_sweep.report.study import load_study
from digits_sweep.sweep.launch import in_order

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
        others = [other for other in range(self.count) if other != leader]
        return leader, decided([self.of_lead(study, leader, other, seeds) for other in others], self.count)

    def of_lead(self, study: int, leader: int, other: int, seeds: int) -> list[float]:
        """Return the evidence after each of so many seeds that one leads over another; none if it trails now."""
        pair = leader * self.count + other
        return list(self.looks[study, pair, :seeds]) if self.ahead[study, pair, seeds - 1] else [0.0]


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


def until_decided(chance: np.random.Generator, share: float) -> Iterator[Check]:
    """Count wrong winners of `seeds=until_decided`, and how many runs it takes if there is a lead."""
    count = studies(10_000, share)
    for name, law in LAWS.items():
        ends = _raced(law(chance, (count, 3, MOST_SEEDS)))
        wrong = sum(winner is not None for winner, _ in ends)
        yield Check("a winner is decided", f"3 configurations, no difference, {name}", wrong, count, most=0.05)
    count = studies(2_000, share)
    values = chance.normal(size=(count, 3, MOST_SEEDS)) * 0.2 / np.sqrt(2)
    values[:, 1:] += np.log1p(0.22)
    ends = _raced(values)
    runs = np.mean([runs for _, runs in ends])
    what = f"the right winner is decided, after {runs:.0f} runs on average (20 seeds of all are 60)"
    right = sum(winner == 0 for winner, _ in ends)
    yield Check(what, "22 % over 2, paired spread 0.2, normal", right, count)


def _raced(values: np.ndarray) -> list[tuple[int | None, int]]:
    """Return the winner of each study, None if it is not decided, and how many runs it took."""
    looks = Looks(values)
    return [_race(looks, study) for study in range(len(values))]


def _race(looks: Looks, study: int) -> tuple[int | None, int]:
    """Add a seed of the leader and of all over which its lead is undecided, as `sweep.seeds.due` does."""
    seeds = [FEWEST_PAIRS] * looks.count
    while True:
        medians = [np.median(looks.values[study, each, :own]) for each, own in enumerate(seeds)]
        leader = int(np.argmin(medians))
        others = [other for other in range(looks.count) if other != leader]
        of_leads = [looks.of_lead(study, leader, other, min(seeds[leader], seeds[other])) for other in others]
        is_decided = decided(of_leads, looks.count)
        racing = [leader, *(other for other, done in zip(others, is_decided, strict=True) if not done)]
        if len(racing) == 1:
            return leader, sum(seeds)
        fewest = min(seeds[each] for each in racing)
        if fewest == MOST_SEEDS:
            return None, sum(seeds)
        for each in racing:
            seeds[each] += seeds[each] == fewest


def drift(chance: np.random.Generator, share: float) -> Iterator[Check]:
    """Count false differences in seconds on a machine whose speed drifts, in the order in which runs are started."""
    count, seeds = studies(5_000, share), 6
    runs = plan(["-m", "data.batch_size=100,99", f"seed=range({seeds})"]).runs
    by_seed = np.array([(run.config.data.batch_size == 99, run.config.seed) for run in in_order(runs)], int)
    by_size = np.array([(run.config.data.batch_size == 99, run.config.seed) for run in runs], int)
    for amount, spread in ((0.05, 0.03), (0.1, 0.2)):
        for order, name in ((by_seed, "seed by seed, as here"), (by_size, "one configuration after the other")):
            speed = np.empty((2, seeds))
            speed[order[:, 0], order[:, 1]] = np.linspace(0, 2 * amount, len(order))
            seconds = speed + spread * chance.normal(size=(count, 2, seeds))
            wrong = (evidence(seconds[:, 1] - seconds[:, 0]) >= DECIDED).any(axis=-1).sum()
            law_text = f"drift of {100 * amount:.0f} % from half to half, seed spread {100 * spread:.0f} %, {name}"
            most = 0.05 if order is by_seed else 1.0
            yield Check(f"seconds differ in {seeds} of {seeds} seeds", law_text, int(wrong), count, most=most)


def one_and_the_same(chance: np.random.Generator, share: float) -> Iterator[Check]:
    """Train batch size 100 against 101, sweep after sweep, and count how often the seconds of one are decided on."""
    count, wrong = max(3, round(40 * share)), 0
    for _ in range(count):
        with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
            seeds = [int(seed) for seed in chance.integers(2**31, size=8)]
            study = load_study(run(*AA, f"outputs={folder}", seed=seeds))
            wrong += any(lead.is_decided for lead in leads(study))
    yield Check(
        "a lead is decided", "batch size 100 against 101, 8 seeds, timed on this machine", wrong, count, most=0.05
    )


# Short runs on the embedded digits.
AA = (
    *("data=mnist_sample", "data.batch_size=100,101", "scaling=none", "optimizer.lr=1e-3"),
    *("trainer.num_epochs=6", "quiet=true"),
)


def factors(chance: np.random.Generator, share: float) -> Iterator[Check]:
    """Count tables of 24 null factors in which one is found, if runs that share a seed share its sign."""
    count, tests, seeds, settings = studies(2_000, share), 24, 20, 6
    for name, shared in (("pairs are independent", False), ("pairs of a seed share their sign", True)):
        signs = chance.choice((-1, 1), size=(count, tests, seeds, 1 if shared else settings))
        discordant = chance.random((count, tests, seeds, settings)) < 1 / 3
        by_seed = (signs * discordant).sum(axis=-1)
        wrong = sum(min(holm([seeds_agree(test) for test in table])) < 0.05 for table in by_seed.tolist())
        law_text = f"{tests} settings without effect, {seeds} seeds of {settings} others, {name}"
        yield Check("some setting has p < 0.05 after Holm", law_text, wrong, count, most=0.05)


SECTIONS = (
    Section("Medians", "A run that misses the goal is infinite.", medians),
    Section("Shares", "Of runs that reach the goal, say.", shares),
    Section(
        "A verdict where there is no difference",
        f"The first have one distribution. An e-value of {DECIDED:g} decides; several leads are judged together.",
        errors,
    ),
    Section("A verdict where there is one", "What the seeds of a sweep show of a lead that is there.", power),
    Section("seeds=until_decided", f"At most {MOST_SEEDS} seeds, six of each at first.", until_decided),
    Section("A machine that drifts", "Two configurations that take equally long.", drift),
    Section("The same twice", "Two batch sizes that hardly differ, trained and timed here.", one_and_the_same),
    Section("Tables of factors", "`docs/findings/dead_digits.py`: the seeds are clusters, and Holm adjusts.", factors),
)
