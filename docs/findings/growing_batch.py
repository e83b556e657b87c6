"""Does a batch that grows pay, and does the critical batch size tell so beforehand?

    python docs/findings/growing_batch.py outputs/critical_batch_size/<date_time> outputs/sweeps/<date_time> ...

The study has the law of the steps at every goal, and what an iteration and an example cost. The sweeps have runs with
fixed and with growing batches, which stop at the study's last goal. All are compared, seed by seed, with the fixed
batch size that takes the least seconds, at the study's costs: a machine with other work measures none.

The prediction: between two goals, the steps at a batch size are the difference of the two laws there, whatever batch
sizes came before; the first goal's steps are its law. A batch that grows goes through them at the size that it has.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from evidence import ended_runs, print_table, rate_text

from digits_sweep import DigitsSweepError
from digits_sweep.config.keys import value_of
from digits_sweep.config.scaling import Sizes, sizes_in
from digits_sweep.report.statistics import Estimate, estimate
from digits_sweep.results.critical import Answer, Law, read_answers
from digits_sweep.results.record import read_record
from digits_sweep.results.targets import TARGETS_FILE

HEADER = ("batch", "lr", "seeds", "steps", "examples", "seconds", "steps saved", "seconds saved", "foretold")


@dataclass(frozen=True)
class Batch:
    """The runs of one batch, fixed or growing: what every seed needed to the goal, its medians and its savings."""

    name: str
    sizes: Sizes | None
    lr: float
    runs: pd.DataFrame

    @property
    def is_fixed(self) -> bool:
        """Whether all its batches have one size."""
        return self.sizes is not None and len(self.sizes) == 1


def goals_of(study: Path) -> list[Answer]:
    """Return what a study says of its goals, the easiest first. Raises ValueError if one of them has no law."""
    goals = sorted(read_answers(study), key=lambda goal: -goal.threshold)
    if not goals or not all(goal.law for goal in goals) or len({goal.target for goal in goals}) > 1:
        raise ValueError("needs a law for every goal, all of one measure")
    return goals


def foretold(sizes: Sizes, laws: Sequence[Law]) -> tuple[float, float]:
    """Return the steps and the examples that a batch of these sizes needs to the last goal, by the laws of all."""
    steps = examples = 0.0
    for number, law in enumerate(laws):
        left = 1.0
        while left > 0:
            index = max(index for index, (start, _) in enumerate(sizes) if start <= examples)
            size = sizes[index][1]
            border = sizes[index + 1][0] if index + 1 < len(sizes) else math.inf
            whole = law.steps(size) - (laws[number - 1].steps(size) if number else 0.0)
            part = min(left, (border - examples) / (size * whole))
            examples = border if part < left else examples + part * whole * size
            steps, left = steps + part * whole, left - part
    return steps, examples


def batches(sweeps: Sequence[Path], goal: Answer) -> Iterator[Batch]:
    """Yield the batches of the runs that ended. Raises ValueError if a run has no such goal."""
    rows = []
    for sweep in sweeps:
        targets = pd.read_csv(sweep / TARGETS_FILE)
        at = targets[targets["target"].eq(goal.target) & targets["threshold"].eq(goal.threshold)].set_index("run_dir")
        for run in ended_runs(sweep).to_dict("records"):
            if run["run_dir"] not in at.index:
                raise ValueError(f"{run['run_dir']} does not look for {goal.target} below {goal.threshold:g}")
            growth = value_of(read_record(sweep / run["run_dir"]).config, "schedule.batch")
            first = {column: at.loc[run["run_dir"], column] for column in ("iterations", "examples")}
            rows.append({"growth": growth or f"{{0:{run['batch_size']}}}", **run, **first})
    table = pd.DataFrame(rows).drop_duplicates(["growth", "batch_size", "lr", "seed"])
    a, b = _costs(goal)
    table = table.assign(seconds=a * table["iterations"] + b * table["examples"]).fillna(
        dict.fromkeys(("iterations", "examples", "seconds"), math.inf)
    )
    for (growth, size, lr), own in table.groupby(["growth", "batch_size", "lr"], sort=False):
        sizes = sizes_in(growth)
        name = f"{size}, grown by the hint" if sizes is None else _name(sizes)
        yield Batch(name, sizes, float(lr), own.set_index("seed"))


def _name(sizes: Sizes) -> str:
    (_, first), *later = sizes
    return ", ".join([f"{first:,}", *(f"{size:,} from {start:,}" for start, size in later)])


def saved(batch: Batch, best: Batch, column: str) -> Estimate | None:
    """Return the share that a batch saves of what the best fixed one needs, seed by seed; None without common seeds."""
    ratios = (1 - batch.runs[column] / best.runs[column]).dropna()
    return estimate(ratios.tolist()) if len(ratios) else None


def main(study: Path, sweeps: Sequence[Path]) -> None:
    """Print the table of the sweeps, and what the study foretold."""
    try:
        goals = goals_of(study)
        found = list(batches(sweeps, goals[-1]))
    except (DigitsSweepError, OSError, ValueError) as error:
        sys.exit(f"{study}: {error}")
    if not (fixed := [batch for batch in found if batch.is_fixed]):
        sys.exit("no run here has a fixed batch size to compare with")
    best = min(fixed, key=lambda batch: float(batch.runs["seconds"].median()))
    print_table(HEADER, [_cells(batch, best, goals) for batch in found])
    goal = goals[-1]
    iteration, example = (1e6 * cost for cost in _costs(goal))
    print(
        f"\nTo {goal.target.replace('_', ' ')} < {goal.threshold:g}, at {iteration:g} us an iteration and {example:g} "
        f"us an example; saved: of batch size {best.name}, the median over common seeds with its 95 % interval; "
        "foretold: steps and seconds saved, by the study's laws."
    )


def _cells(batch: Batch, best: Batch, goals: Sequence[Answer]) -> list[object]:
    medians = [float(batch.runs[column].median()) for column in ("iterations", "examples", "seconds")]
    cells: list[object] = [batch.name, rate_text(batch.lr), len(batch.runs)]
    cells += [f"{medians[0]:.0f}", f"{medians[1]:,.0f}", f"{medians[2]:.3f}"]
    if batch is best:
        return [*cells, "-", "-", "-"]
    for column in ("iterations", "seconds"):
        share = saved(batch, best, column)
        cells.append(f"{_share(share.median)} [{_share(share.low)}, {_share(share.high)}]" if share else "-")
    return [*cells, "-" if batch.sizes is None else _foretold(batch.sizes, best.sizes or (), goals)]


def _foretold(sizes: Sizes, best: Sizes, goals: Sequence[Answer]) -> str:
    laws, a, b = [goal.law for goal in goals if goal.law], *_costs(goals[-1])
    (steps, examples), (best_steps, best_examples) = foretold(sizes, laws), foretold(best, laws)
    ratio = (a * steps + b * examples) / (a * best_steps + b * best_examples)
    return f"{_share(1 - steps / best_steps)}, {_share(1 - ratio)}"


def _share(value: float) -> str:
    """Return a saved share as text; a run that misses the goal saves less than nothing."""
    return f"{100 * value:.0f} %" if math.isfinite(value) else "missed"


def _costs(goal: Answer) -> tuple[float, float]:
    """Return the seconds that an iteration and an example cost."""
    return goal.seconds_per_iteration or 0.0, goal.seconds_per_example or 0.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path, help="the folder of a study of the critical batch size")
    parser.add_argument("sweeps", type=Path, nargs="+", help="the folders of recorded sweeps")
    arguments = parser.parse_args()
    main(arguments.study, arguments.sweeps)
