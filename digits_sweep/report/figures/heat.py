"""The heat map of a factor: examples to the goal at every batch size and level."""

import math

from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle

from digits_sweep.report.analysis.curves.heat import Heat
from digits_sweep.report.analysis.sentences.formatting import rounded
from digits_sweep.report.figures.style import HEAT, SMALL, room, shortened, width_of
from digits_sweep.report.figures.svg import hover
from digits_sweep.report.figures.ticks import plain
from digits_sweep.report.language import said

ROW_INCHES = 0.24


def height_of(heat: Heat) -> float:
    """Return the height of the figure in inches."""
    return 0.65 + ROW_INCHES * max(len(heat.levels), 4)


def heat_map(heat: Heat, axis: Axes) -> None:
    """Draw a cell for every batch size and level, darker if more examples are needed; a dash: not reached."""
    wide = room(axis)[0] * 0.85 / len(heat.sizes)
    cells, colors, urls = [], [], []
    names = [shortened(level, 90) for level in heat.levels]
    for row, (medians, shades) in enumerate(zip(heat.medians, heat.shades, strict=True)):
        for column, (median, shade) in enumerate(zip(medians, shades, strict=True)):
            if math.isnan(median):
                continue
            known = not math.isnan(shade)
            color = HEAT[round(shade * (len(HEAT) - 1))] if known else "none"
            cells.append(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92))
            colors.append(color)
            urls.append(
                hover(f"{said('batch size {size}', size=heat.sizes[column])}, {heat.levels[row]}: {rounded(median)}")
            )
            text = plain(float(f"{median:.3g}")) if known else "\u2013"
            if width_of(text, SMALL) <= wide:
                axis.text(column, row, text, ha="center", va="center", fontsize=SMALL)
    axis.add_collection(PatchCollection(cells, facecolors=colors, edgecolors="none", urls=urls))
    axis.set_xlim(-0.5, len(heat.sizes) - 0.5)
    axis.set_ylim(-0.5, max(len(heat.levels), 4) - 0.5)
    every = math.ceil(max(width_of(plain(size)) + 4 for size in heat.sizes) / wide)
    axis.set_xticks(range(0, len(heat.sizes), every), [plain(size) for size in heat.sizes[::every]])
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel(said("batch size"))
