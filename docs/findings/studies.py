"""Two studies of the critical batch size: do their answers differ by more than they state, and what is searching worth?

    python docs/findings/studies.py outputs/critical_batch_size/<date_time> outputs/critical_batch_size/<date_time>

The logarithm of the ratio of two answers is compared with its standard error, from the two 95 % intervals. Steps at the
best rate on fresh seeds are compared with those while tuning, whose least median was searched for.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from evidence import print_table
from scipy.stats import norm

from digits_sweep.config.text import to_text
from digits_sweep.results.critical import STEPS, Answer, read_answers, read_steps

HEADER = ("goal", "first", "second", "ratio", "standard errors apart", "p")


def differences(first: Sequence[Answer], second: Sequence[Answer]) -> Iterator[tuple[str, ...]]:
    """Yield a row for every goal that both studies answer with an interval."""
    others = {(answer.target, answer.threshold): answer for answer in second}
    for answer in first:
        other = others.get((answer.target, answer.threshold))
        if other is None or not answer.b_crit or not other.b_crit or not answer.b_crit_low or not other.b_crit_low:
            continue
        apart = math.log(answer.b_crit / other.b_crit)
        apart_by = apart / math.hypot(standard_error(answer), standard_error(other))
        goal = f"{answer.target.replace('_', ' ')} < {to_text(answer.threshold)}"
        sizes = (f"{each.b_crit:.0f} [{each.b_crit_low:.0f}, {each.b_crit_high:.0f}]" for each in (answer, other))
        yield goal, *sizes, f"{math.exp(apart):.2f}", f"{abs(apart_by):.1f}", f"{2 * norm.sf(abs(apart_by)):.2f}"


def standard_error(answer: Answer) -> float:
    """Return the standard error of the logarithm of a critical batch size, from its 95 % interval."""
    assert answer.b_crit_low
    assert answer.b_crit_high
    return math.log(answer.b_crit_high / answer.b_crit_low) / (2 * norm.ppf(0.975))


def optimism(steps: pd.DataFrame) -> tuple[float, float, int]:
    """Return by what share steps on fresh seeds exceed those while tuning, its standard error, and the rows."""
    reached = steps[np.isfinite(steps["median"]) & np.isfinite(steps["tuned_median"])]
    above = np.log((reached["median"] / reached["tuned_median"]).astype(float))
    return math.expm1(above.mean()), float(above.std() / math.sqrt(len(above))), len(above)


def main(first: Path, second: Path) -> None:
    """Print how far two studies lie apart, and by how much a minimum that was searched for is optimistic."""
    print_table(HEADER, list(differences(*(read_answers(folder) for folder in (first, second)))))
    print()
    tables = {str(folder): read_steps(folder / STEPS) for folder in (first, second)}
    for name, steps in [*tables.items(), ("both", pd.concat(tables.values()))]:
        share, error, rows = optimism(steps)
        of = f"(standard error {100 * error:.1f} %, {rows} of them)"
        print(f"{name}: a tuned minimum is optimistic by {100 * share:+.1f} % {of}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
