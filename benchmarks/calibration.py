"""`python -m benchmarks.calibration [--share SHARE]`: is what the program states as often right as it says?

Studies with a known truth are simulated and judged by the program's own functions: how often an interval covers the
truth, how often a verdict errs, and how often it sees what is there. The table is written to `docs/calibration.md`.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path

from benchmarks import calibration_critical, calibration_verdict
from benchmarks.calibration_section import Check, Section
from digits_sweep.results.record import describe_environment

PAGE = Path(__file__).parents[1] / "docs" / "calibration.md"
WORKERS = 2
SECTIONS = [*calibration_critical.SECTIONS, *calibration_verdict.SECTIONS]


def page(checks: Sequence[Sequence[Check]], share: float, seconds: float) -> str:
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
    for section, rows in zip(SECTIONS, checks, strict=True):
        lines += ["", f"## {section.title}", "", section.about, ""]
        lines += ["| what | if | n | happened in | should |", "|---|---|---|---|---|", *map(str, rows)]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, write the page, and return 1 if something is stated that does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__.partition("\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="the share of the full number of studies to simulate")
    parser.add_argument("--page", type=Path, default=PAGE, help="the file to write (default: docs/calibration.md)")
    read = parser.parse_args(arguments)
    started = time.monotonic()
    # Small matrices on many threads wait for one another; and a process that is forked beside threads, for ever.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    started_anew = get_context("spawn")
    with ProcessPoolExecutor(min(WORKERS, os.cpu_count() or 1), started_anew) as workers:
        checks = list(workers.map(Section.checks, SECTIONS, [read.share] * len(SECTIONS)))
    text = page(checks, read.share, time.monotonic() - started)
    read.page.write_text(text, encoding="utf-8")
    print(text)
    return 0 if all(check.holds for rows in checks for check in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
