"""`python -m benchmarks.calibration [--share SHARE]`: is what the program states as often right as it says?

Studies with a known truth are simulated and judged by the program's own functions: how often an interval covers the
truth, how often a verdict errs, and how often it sees what is there. The table is written to `docs/calibration.md`.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from digits_sweep.results.record import describe_environment

PAGE = Path(__file__).parents[1] / "docs" / "calibration.md"
SEED, WORKERS = 20261130, 2


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


def sections() -> list[Section]:
    """Return every part of the page."""
    from benchmarks import calibration_critical, calibration_verdict

    return [*calibration_critical.SECTIONS, *calibration_verdict.SECTIONS]


def studies(full: int, share: float) -> int:
    """Return how many studies to simulate of a full number."""
    return max(5, round(full * share))


def page(parts: Sequence[Section], checks: Sequence[Sequence[Check]], share: float, seconds: float) -> str:
    """Return the page with all tables."""
    machine = describe_environment()
    cores = f"{machine['cpu_cores']} cores of {machine['cpu']}"
    command = "make calibration" + ("" if share == 1 else f' ARGS="--share {share:g}"')
    lines = [
        "# Calibration: is what is stated as often right as it says?",
        "",
        f"    {command}",
        "",
        "Studies with a known truth are simulated and judged by the program's own functions. *n* is the number of",
        "simulated studies; in brackets stands the exact 95 % interval of the share. An empty last cell: power.",
        "The more power, the better.",
        f"Written on {date.today():%Y-%m-%d} on {cores}, in {seconds / 60:.0f} min.",
    ]
    for section, rows in zip(parts, checks, strict=True):
        lines += ["", f"## {section.title}", "", section.about, ""]
        lines += ["| what | if | n | happened in | should |", "|---|---|---|---|---|", *map(str, rows)]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, write the page, and return 1 if something is stated that does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__.partition("\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="the share of the full number of studies to simulate")
    parser.add_argument("--page", type=Path, default=PAGE, help="the file to write (default: docs/calibration.md)")
    read = parser.parse_args(arguments)
    started, parts = time.monotonic(), sections()
    # Small matrices on many threads wait for one another; and a process that is forked beside threads, for ever.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    started_anew = get_context("spawn")
    with ProcessPoolExecutor(min(WORKERS, os.cpu_count() or 1), started_anew) as workers:
        checks = list(workers.map(Section.checks, parts, [read.share] * len(parts)))
    text = page(parts, checks, read.share, time.monotonic() - started)
    read.page.write_text(text, encoding="utf-8")
    print(text)
    return 0 if all(check.holds for rows in checks for check in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
