"""Figures of few and of many configurations: where marks stand, what a color means, and that all text can be read."""

import math
from collections.abc import Iterator
from itertools import combinations

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from digits_sweep.report.analysis.panels import Layout, layout_of
from digits_sweep.report.analysis.statistics.comparison import apart, combine
from digits_sweep.report.figures.style import color_of
from digits_sweep.report.figures.svg import drawing, figure_of
from digits_sweep.report.pictures.captions import pictures
from tests.many import sweep_of
from tests.studies import add_run, finished, losses_reaching

AGAINST_BATCH_SIZE = {"examples", "iterations", "seconds", "epochs", "seconds-epoch"}
Drawn = tuple[Layout, dict[str, Figure]]


@pytest.fixture(
    scope="module",
    params=[
        (3, 1),
        (24, 1),
        pytest.param((24, 3), marks=pytest.mark.full),
        pytest.param((40, 1), marks=pytest.mark.full),
        pytest.param((300, 1), marks=pytest.mark.full),
    ],
    ids=lambda shape: "{} configurations, {} seeds".format(*shape),
)
def drawn(request, tmp_path_factory) -> Drawn:
    """The layout and the figures of a sweep, as they are drawn on its page."""
    study = sweep_of(tmp_path_factory.mktemp("sweep"), *request.param)
    return layout_of(study.runs), figures_of(study)


def figures_of(study) -> dict[str, Figure]:
    with drawing():
        found = {each.name: figure_of(each.panels, each.columns, each.height) for each in pictures(study)}
        for figure in found.values():
            FigureCanvasAgg(figure).draw()
    return found


def marks(axis: Axes) -> Iterator[tuple[float, str]]:
    """Yield where on the x axis a mark stands, and its color."""
    for collection in axis.collections:
        if isinstance(collection, PathCollection):
            colors = collection.get_edgecolor()
            for place, (x, _) in enumerate(collection.get_offsets()):
                yield float(x), to_hex(colors[place % len(colors)])


def texts(figure: Figure) -> list[Text]:
    """All texts that are drawn within the axes' limits."""
    found = []
    for axis in figure.axes:
        for each in (axis.xaxis, axis.yaxis):
            low, high = sorted(each.get_view_interval())
            found += [tick.label1 for tick in each.get_major_ticks() if low <= tick.get_loc() <= high]
            found.append(each.label)
        found += [*axis.texts, axis.title, axis._left_title]
    found += [each for each in (figure._supxlabel, figure._supylabel) if each]
    return [each for each in found if each.get_visible() and each.get_text()]


@pytest.mark.sampled(2)
def test_every_mark_stands_at_its_batch_size_in_its_color(drawn):
    layout, figures = drawn
    seen = set()
    for name in figures.keys() & AGAINST_BATCH_SIZE:
        for x, color in (mark for axis in figures[name].axes for mark in marks(axis)):
            nearest = min(layout.sizes, key=lambda size: abs(math.log(size / x)))
            others = [abs(math.log(size / nearest)) for size in layout.sizes if size != nearest]
            assert abs(math.log(x / nearest)) <= 0.21 * min(others)
            assert color == color_of(nearest, layout.sizes)
            seen.add(nearest)
    assert sorted(seen) == layout.sizes


@pytest.mark.sampled(2)
def test_no_text_is_clipped(drawn):
    for name, figure in drawn[1].items():
        for text in texts(figure):
            box = text.get_window_extent()
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
            assert inside, (name, text.get_text())


def test_no_text_overlaps_another(drawn):
    for name, figure in drawn[1].items():
        boxes = [(text.get_text(), text.get_window_extent().padded(-0.5)) for text in texts(figure)]
        overlapping = [(one, other) for (one, box), (other, there) in combinations(boxes, 2) if box.overlaps(there)]
        assert overlapping == [], name


def test_the_axes_keep_most_of_the_figure(drawn):
    for name, figure in drawn[1].items():
        share = sum(axis.get_position().width * axis.get_position().height for axis in figure.axes)
        assert share >= 0.6, name


def test_figures_of_one_sweep_have_at_most_twelve_panels(drawn):
    layout, figures = drawn
    assert len(layout.panels) <= 12
    assert all(len(figure.axes) in (1, len(layout.panels)) for figure in figures.values())


def test_the_setting_that_explains_most_has_the_panels(tmp_path):
    for size in (5, 20):
        for lr, epoch in ((1e-5, 9), (1e-4, 3), (1e-3, 1)):
            for width in (32, 128):
                name = f"{size}_{lr}_{width}"
                add_run(tmp_path, name, losses_reaching(epoch), batch_size=size, lr=lr, hidden_size=width)
    layout = layout_of(finished(tmp_path).runs)
    assert [factor.name for factor in layout.factors] == ["lr", "hidden_size"]
    assert layout.factors[0].explained == pytest.approx(1)
    assert [column for column, _ in layout.panels] == ["lr 1e-5", "lr 1e-4", "lr 1e-3"]


def test_few_configurations_of_a_batch_size_differ_by_shape_in_one_panel(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2), batch_size=100)
    add_run(tmp_path, "b", losses_reaching(2), batch_size=5)
    add_run(tmp_path, "c", losses_reaching(2), batch_size=5, lr=1e-6)
    layout = layout_of(finished(tmp_path).runs)
    assert len(layout.panels) == 1
    assert layout.shapes == ["lr 1e-4", "lr 1e-6"]


def test_a_factor_of_too_many_values_for_panels_has_a_heat_map(tmp_path):
    for size in (5, 20):
        for place in range(8):
            add_run(tmp_path, f"{size}_{place}", losses_reaching(2), batch_size=size, lr=1e-4 * 2**place)
    study = finished(tmp_path)
    assert len(layout_of(study.runs).panels) == 1
    (heat,) = (each for each in pictures(study) if each.name.startswith("heat"))
    assert heat.title == "Digits to 1.6 by batch size and lr"


def test_the_bar_of_several_seeds_is_the_interval_of_their_median(tmp_path):
    for seed, epoch in enumerate((3, 4, None)):
        add_run(tmp_path, f"{seed}", losses_reaching(epoch), seed=seed)
    axis = figures_of(finished(tmp_path))["epochs"].axes[0]
    (bar,) = (path for each in axis.collections if type(each).__name__ == "LineCollection" for path in each.get_paths())
    assert bar.vertices[:, 1].tolist() == [3, 10]


def test_several_sweeps_stand_side_by_side_on_one_scale(tmp_path):
    for name, epoch in (("a", 2), ("b", 9)):
        for size, lr in ((5, 1e-4), (20, 1e-4), (20, 1e-3)):
            add_run(tmp_path / name, f"{size}_{lr:g}", losses_reaching(epoch), batch_size=size, lr=lr)
    shared = apart(combine([finished(tmp_path / name) for name in "ab"]))
    layout = layout_of(shared.runs)
    assert layout.panels == [("A", ""), ("B", "")]
    assert layout.shapes == ["lr 1e-4", "lr 1e-3"]
    for name, figure in figures_of(shared).items():
        if len(figure.axes) == 2:
            left, right = figure.axes
            assert left.get_ylim() == right.get_ylim(), name
            assert left.get_xlim() == right.get_xlim(), name
