"""The figure of what runs predict."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from digits_sweep.report.figures.style import SERIES
from digits_sweep.report.language import said


def predictions(counts: pd.DataFrame, axis: Axes) -> None:
    """Draw how often a run predicts each class: a row a run, a disc a class, a frame around 0.

    `counts` has the name of a run as its index, and a column for every class: how many test digits are predicted as it.
    """
    table = counts.to_numpy(float)
    rows, columns = np.indices(table.shape)
    axis.scatter(columns, rows, s=230 * table / max(table.max(), 1), color=SERIES[0], alpha=0.35, linewidth=0)
    for row, name in enumerate(counts.index):
        axis.text(-0.5, row - 0.36, str(name), ha="left", va="center", fontsize=7)
    for (row, column), count in np.ndenumerate(table):
        style = {} if count else {"bbox": {"boxstyle": "square", "fill": False, "edgecolor": SERIES[1]}}
        axis.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=7, **style)
    axis.set_xticks(range(table.shape[1]), [str(each) for each in counts.columns])
    axis.set_yticks([])
    axis.set_ylim(len(counts) - 0.5, -0.6)
    axis.set_xlabel(said("predicted class, and number of test digits"))
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
