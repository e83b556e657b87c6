"""Up to which batch size a run can be branched without losing anything: `branches.csv`, summarized."""

from dataclasses import dataclass

import pandas as pd

from digits_sweep.report.analysis.statistics.replicates import Estimate, estimate


@dataclass(frozen=True)
class Branches:
    """From the run at `batch_sizes[0]`: the loss after `examples` more, over that of the branch at that batch size.

    One ratio a batch size, seed by seed. `limit` is the largest batch size up to which every median ratio is at most
    1 + `tolerance`.
    """

    batch_sizes: list[int]
    ratios: list[Estimate]
    examples: int
    tolerance: float
    limit: int

    @property
    def is_open(self) -> bool:
        """Whether no batch size that was tried went beyond the tolerance."""
        return self.limit == self.batch_sizes[-1]


def branches_of(table: pd.DataFrame) -> Branches | None:
    """Summarize `branches.csv`; None if it has no row. The branch at the run's own batch size has the ratio 1."""
    if table.empty:
        return None
    losses = table.pivot_table(index="seed", columns="batch_size", values="train_loss").astype(float)
    ratios = losses.div(losses[losses.columns.min()], axis=0)
    found = {int(size): estimate(ratios[size].dropna().tolist()) for size in sorted(ratios.columns)}
    tolerance = float(table["tolerance"].iloc[0])
    limit = next(iter(found))
    for size, ratio in found.items():
        if ratio.median > 1 + tolerance:
            break
        limit = size
    return Branches(list(found), list(found.values()), int(table["examples"].iloc[0]), tolerance, limit)
