"""A figure as the page shows it: its panels, with a title, a caption and a text alternative."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from matplotlib.axes import Axes

from digits_sweep.report.analysis.panels import Layout
from digits_sweep.report.figures.svg import Draw, Panel, as_svg


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it: panels with their titles, in rows of `columns`, and its text alternative."""

    name: str
    title: str
    caption: str
    text: str
    panels: Sequence[Panel]
    columns: int = 1
    height: float | None = None

    @cached_property
    def svg(self) -> str:
        """Draw it as an inline SVG element."""
        return as_svg(self.name, self.text, self.panels, self.columns, self.height)


def picture(name: str, title: str, caption: str, text: str, draw: Draw, height: float | None = None) -> Picture:
    """Return a figure of one panel; `height` is in inches at a width of 4.7 inches."""
    return Picture(name, title, caption, text, [("", "", draw)], height=height)


def panelled(
    name: str, title: str, caption: str, text: str, layout: Layout, draw: Callable[[Layout, int, Axes], None]
) -> Picture:
    """Return a figure with the panels of the layout."""
    panels = [(column, row, partial(draw, layout, place)) for place, (column, row) in enumerate(layout.panels)]
    return Picture(name, title, caption, text, panels, layout.columns)
