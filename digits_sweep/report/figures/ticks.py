"""The ticks of the axes: round numbers without an exponent, as many as there is room for; and where axes end."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator

from digits_sweep.report.figures.style import room, width_of


def size_ticks(sizes: Sequence[float], axis: Axes) -> None:
    """Make the x axis a logarithmic one of batch sizes, with a tick at as many of them as there is room for."""
    axis.set_xscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    if not len(sizes):
        return
    low, high = math.log(min(sizes)), math.log(max(sizes))
    margin = 0.11 * (high - low) if high > low else 0.5
    axis.set_xlim(math.exp(low - margin), math.exp(high + margin))
    points = room(axis)[0] / (high - low + 2 * margin)
    shown: list[float] = []
    end = math.inf
    # The largest first, so that a crowd of small ones gives way.
    for size in sorted(sizes, reverse=True):
        half, place = width_of(plain(size)) / 2, points * math.log(size)
        if place + half < end:
            shown.append(size)
            end = place - half - 3
    axis.set_xticks(shown, [plain(size) for size in shown])


def logarithmic(axis: Axis) -> None:
    """Make an axis logarithmic, with plain numbers at as many ticks as there is room for."""
    horizontal = axis is axis.axes.xaxis
    (axis.axes.set_xscale if horizontal else axis.axes.set_yscale)("log")
    low, high = axis.get_view_interval()
    points = room(axis.axes)[0 if horizontal else 1]
    most = max(int(points / (46 if horizontal else 16)), 2)
    axis.set_major_locator(FixedLocator(_ticks(float(low), float(high), min(most, 9))))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(NullFormatter())


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers between two, at most so many: the densest of some kinds that has no more."""
    if not (0 < low < high < math.inf):
        return []
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for each in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [first * 10.0**power for power in powers for first in each]
        found = [value for value in found if low <= value <= high]
        if len(found) <= most:
            break
    if len(found) < 2:
        return [
            float(value)
            for value in MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high)
            if low <= value <= high
        ]
    return found[:: math.ceil(len(found) / most)]


def counting(axis: Axis) -> None:
    """Give a linear x axis as many whole numbers as there is room for."""
    axis.set_major_locator(MaxNLocator(max(int(room(axis.axes)[0] / 46), 2), integer=True))
    axis.set_major_formatter(plain)


def plain(value: float, _: object = None) -> str:
    """Write the number at a tick without an exponent: `0.5`, `2,500`, `12k`, `1.5M`."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if name == 'k' else unit):,.4g}{name}"
    return f"{value:,.6g}" if abs(value) >= 1e-3 or not value else f"{value:.2g}"


def rate(value: float, _: object = None) -> str:
    """Write a rate at a tick as everywhere: `1e-4`."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def limits(values: Sequence[float] | np.ndarray, is_logarithmic: bool = False) -> tuple[float, float] | None:
    """Return where an axis that holds all of some values begins and ends, a little beside them; None without any."""
    found = np.asarray(values, float)
    found = found[np.isfinite(found) & ((found > 0) | (not is_logarithmic))]
    if not len(found):
        return None
    low, high = (float(each) for each in (found.min(), found.max()))
    if is_logarithmic:
        margin = (high / low) ** 0.06 if high > low else 1.5
        return low / margin, high * margin
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
