"""A part of the calibration: studies that are simulated, what happened in them, and how often it should happen."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

SEED = 20261130


@dataclass(frozen=True)
class Check:
    """What happened in `hits` of so many simulated `studies`, and between which shares of them it should happen."""

    what: str
    law: str
    hits: int
    studies: int
    least: float = 0.0
    most: float = 1.0

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval of the true share (Clopper and Pearson 1934)."""
        low, high = binomtest(self.hits, self.studies).proportion_ci(0.95, method="exact")
        return float(low), float(high)

    @property
    def holds(self) -> bool:
        """Whether the share can be what it should be: its interval reaches between `least` and `most`."""
        low, high = self.interval
        return high >= self.least and low <= self.most

    def __str__(self) -> str:
        """Return a row of a Markdown table."""
        low, high = self.interval
        share = f"{100 * self.hits / self.studies:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        return f"| {self.what} | {self.law} | {self.studies:,} | {share} | {self._stated()} |"

    def _stated(self) -> str:
        if (self.least, self.most) == (0, 1):
            return ""
        limits = [f"at least {100 * self.least:g} %"] if self.least else []
        limits += [f"at most {100 * self.most:g} %"] if self.most < 1 else []
        return " and ".join(limits) + ("" if self.holds else ": **does not hold**")


# Simulates some of the full number of studies, a share, and yields what came out.
Simulation = Callable[[np.random.Generator, float], Iterator[Check]]


@dataclass(frozen=True)
class Section:
    """A part of the page: its title, what it is about, and the simulation that fills its table."""

    title: str
    about: str
    simulate: Simulation

    def checks(self, share: float) -> list[Check]:
        """Return the rows of the table, from random numbers that are the section's own."""
        return list(self.simulate(np.random.default_rng([SEED, *self.title.encode()]), share))


def studies(full: int, share: float) -> int:
    """Return how many studies to simulate of a full number."""
    return max(5, round(full * share))
