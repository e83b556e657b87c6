"""The figures of a sweep: each is one function that returns title, caption, table and a Vega-Lite specification."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from digits_sweep.report.critical_figures import critical_figures
from digits_sweep.report.ranking import finished, groups_of, is_timed, trained
from digits_sweep.report.statistics import estimate, explained, fitted_costs
from digits_sweep.report.study import MOST_NAMED, Study, labels, loss_floor, slowing
from digits_sweep.report.tables import other_goals, to_another_goal
from digits_sweep.report.vega import (
    HEAT,
    INK,
    QUIET,
    SERIES,
    SHAPES,
    Figure,
    Layout,
    Level,
    Spec,
    amount,
    bars,
    color,
    epochs_axis,
    layer,
    layout_of,
    line_figure,
    marks,
    plain,
    series,
    size_axis,
    size_bands,
    spec_of,
    thinned,
    told_apart,
    whole_numbers,
)
from digits_sweep.report.words import _, capitalized, noun_of, number, rounded, seconds, short_seconds, up_to
from digits_sweep.results.record import Status

# Of more configurations single seeds are not drawn beside their median.
MOST_WITH_SEEDS = 24
# Of more configurations a page leaves out what other figures say in other units.
MOST_WITH_ALL = 100
FEWEST_IN_A_MAP, FEWEST_LEVELS, MOST_IN_A_MAP = 7, 3, 40
MOST_MISSES, MOST_CLASSES_DRAWN = 24, 30


def figures(study: Study) -> list[Figure]:
    """Return every figure that a sweep, or several in one, has something for: first the one that shows the verdict."""
    if study.critical:
        return critical_figures(study, study.critical)
    if trained(study).empty:
        return []
    to_goal = to_goal_figures(study)
    first = "seconds" if is_timed(study) else "examples"
    to_goal.sort(key=lambda figure: figure.name != first)
    return [
        *to_goal[:1],
        *loss_figures(study),
        *to_goal[1:],
        *map_figures(study),
        *evaluation_figures(study),
        *target_figures(study),
        *time_figures(study),
        *reached_figures(study),
        *prediction_figures(study),
    ]


def _is_large(study: Study) -> bool:
    return bool(trained(study)["configuration"].nunique() > MOST_WITH_ALL)


# --- Against the batch size.


class Measure(NamedTuple):
    """What is drawn against the batch size: a column of the runs.

    A run that missed the goal stands at what it trained on, in what an epoch `per_epoch` has of it.
    """

    name: str
    column: str
    per_epoch: str | None
    write: Callable[[float], str]
    label: str
    caption: str


def to_goal_figures(study: Study) -> list[Figure]:
    """Return examples, seconds, iterations and epochs to the goal; none if no run arrived."""
    goal, runs = study.goal, trained(study)
    measures = [
        Measure("examples", "examples_to_goal", "train_samples", rounded, up_to(noun_of(runs), goal),
                _("The same on every machine.")),
        Measure("seconds", "seconds_to_goal", "seconds_per_epoch", seconds, up_to(_("seconds"), goal),
                _("These iterations at what one costs at this batch size, the median over its runs.")),
        Measure("iterations", "iterations_to_goal", "iterations_per_epoch", rounded, up_to(_("iterations"), goal),
                _("The same on every machine.")),
        Measure("epochs", "first_epoch_below_threshold", "", number, _("first epoch below the threshold"),
                _("The first epoch with a mean loss below it.")),
    ]  # fmt: skip
    if _is_large(study):
        measures.pop()
    return [against_batch_size(study, measure) for measure in measures if runs[measure.column].notna().any()]


def _trained_on(study: Study, per_epoch: str) -> pd.Series:
    """Return how much every run trained, if it ended; iterations of a batch that grows are counted."""
    runs = trained(study)
    whole = runs["epochs"] * runs[per_epoch] if per_epoch else runs["epochs"]
    whole = whole.fillna(runs["iterations"]) if per_epoch == "iterations_per_epoch" else whole
    return whole.where(runs["run_dir"].isin(finished(study)["run_dir"]) & runs["reached"].notna()).astype("Float64")


def against_batch_size(study: Study, measure: Measure) -> Figure:
    """Draw a mark a run, and of several seeds their median with its interval; an open mark is a miss."""
    runs, layout = trained(study), layout_of(study)
    name, column, per_epoch, write, label, caption = measure
    value = runs[column].astype("Float64")
    drawn = value if per_epoch is None else value.fillna(_trained_on(study, per_epoch))
    table = runs[["run_dir", "configuration"]].rename(columns={"run_dir": "run"})
    table = table.assign(kind="run", value=drawn, missed=value.isna())[drawn.notna()]
    medians = [_median_mark(str(name), own) for name, own in table.groupby("configuration", sort=False) if len(own) > 1]
    several = bool(medians)
    table = table if len(medians) <= MOST_WITH_SEEDS else table.head(0)
    table = layout.join(pd.concat([table, pd.DataFrame(medians)]) if several else table)
    perfect = _perfect_scaling(runs, layout) if name == "iterations" else []
    table = pd.concat([table, pd.DataFrame(perfect)])
    form = {rounded: "~s", number: "d"}.get(write, ",.4~r")
    x, y = size_axis(layout.sizes), amount("value", label, plain(table["value"].astype(float)), form)
    if write is number:
        y["axis"] |= whole_numbers(float(table["value"].max() - table["value"].min()))
    both = {"x": x, "y": y, "color": color(layout.sizes), **told_apart(layout, "shape", SHAPES)}
    layers = [marks("run", both, size=22 if several else 70, opacity=0.6 if several else 1)]
    signs = [caption]
    if several:
        layers += [bars("median", both), marks("median", both, size=80)]
    if (table["note"].fillna("") != "").any():
        # On the side that has room.
        is_right = f"datum.place > {math.sqrt(layout.sizes[0] * layout.sizes[-1]):g}"
        beside = {"align": {"expr": f"{is_right} ? 'right' : 'left'"}, "dx": {"expr": f"{is_right} ? -10 : 10"}}
        words = {"x": x, "y": y, "text": {"field": "note"}}
        layers.append(layer("text", "median" if several else "run", words, **beside))
    if perfect:
        layers.append(layer("line", "perfect", {"x": x, "y": y}, strokeDash=[2, 3], color=QUIET, strokeWidth=1.2))
        signs.append(
            _("Dotted: perfect scaling, by which twice the batch size needs half the iterations (Shallue et al. 2019).")
        )
    signs += [_("Bars: the interval of the median over the seeds.")] if several else []
    signs += [_("Open: not reached, drawn where the run ended.")] if table["missed"].fillna(False).any() else []
    if (runs["batch_schedule"].notna() & drawn.notna()).any():
        signs.append(_("A batch that grows stands at the size that it begins with."))
    spec = spec_of(layers, layout, x="place", y="value", log=["x", "y"], kinds=["median", "run"])
    return Figure(name, capitalized(label), " ".join(signs), table, spec)


def _median_mark(configuration: str, own: pd.DataFrame) -> Spec:
    """Return the median of a configuration's runs with its interval; an end that is missed is the most that it had."""
    most = float(own["value"].max())
    found = estimate([math.inf if missed else float(value) for value, missed in own[["value", "missed"]].to_numpy()])
    middle, low, high = (most if math.isinf(each) else each for each in (found.median, found.low, found.high))
    ends = {"value": middle, "low": low, "high": high, "missed": math.isinf(found.median)}
    return {"configuration": configuration, "kind": "median", **ends}


def _perfect_scaling(runs: pd.DataFrame, layout: Layout) -> list[Spec]:
    """Return the ends of the lines along which twice the batch size needs half the iterations, a line a panel.

    It starts at the smallest fixed batch size that is trained with the usual settings, if there are usual ones: with
    other rates it scales otherwise.
    """
    runs = runs[runs["batch_schedule"].isna() & runs["iterations_to_goal"].notna()]
    reached = layout.join(runs[["configuration", "iterations_to_goal"]])
    ends = []
    usual = reached[~reached["is_odd"]] if not reached["is_odd"].all() else reached
    for panel, own in usual.groupby("panel"):
        least, most = own["batch_size"].min(), own["batch_size"].max()
        if least < most:
            first = own[own["batch_size"] == least]
            start = float(first.groupby("configuration")["iterations_to_goal"].median().min())
            ends += [
                {"kind": "perfect", "panel": panel, "place": float(size), "value": start * least / size}
                for size in (least, most)
            ]
    return ends


def time_figures(study: Study) -> Iterator[Figure]:
    """Yield the seconds of an epoch, and their two parts if several batch sizes were timed alike."""
    runs, label = trained(study), _("seconds per epoch")
    if runs["seconds_per_epoch"].notna().any():
        caption = _("Of a run: the median of its epochs without the first.")
        yield against_batch_size(study, Measure("seconds-epoch", "seconds_per_epoch", None, seconds, label, caption))
    if (costs := costs_of(runs)) is None:
        return
    iteration, example, parts = costs
    words = {"examples": _("for its examples"), "iterations": _("for its iterations"), "measured": _("measured")}
    table = parts.rename(columns=words).reset_index().melt("batch_size", var_name="part", value_name="seconds")
    table["kind"] = np.where(table["part"] == words["measured"], "measured", "part")
    x = size_bands()
    y = {"field": "seconds", "type": "quantitative", "title": label, "axis": {"tickCount": 5}}
    shades = series("part", [words["examples"], words["iterations"]], legend={"symbolType": "square"})
    layers = [
        layer("bar", "part", {"x": x, "y": {**y, "stack": "zero"}, "color": shades}),
        layer("tick", "measured", {"x": x, "y": y}, color=INK, thickness=2),
    ]
    caption = _(
        "Fitted: {iteration} for every iteration and {example} for every example. Line: as measured.",
        iteration=short_seconds(iteration), example=short_seconds(example),
    )  # fmt: skip
    title = _("Where an epoch's seconds go")
    yield Figure("cost", title, caption, table, spec_of(layers, None))


def costs_of(runs: pd.DataFrame) -> tuple[float, float, pd.DataFrame] | None:
    """Fit what an iteration and an example cost in seconds, and return both, and a table: a row a batch size.

    Its columns `examples` and `iterations` are the two parts of an epoch, and `measured` is the median over the runs.
    Return None if fewer than two batch sizes were timed, or if the runs differ in more than their batch size, their
    rates and their number of threads: two networks or two engines do not share their costs.
    """
    timed = runs.dropna(subset=["seconds_per_epoch", "iterations_per_epoch", "train_samples"])
    alike = all(timed[name].nunique() <= 1 for name in slowing(timed) if name != "num_threads")
    if timed["iterations_per_epoch"].nunique() < 2 or not alike:
        return None
    names = ["iterations_per_epoch", "train_samples", "seconds_per_epoch"]
    iteration, example = fitted_costs(*timed[names].to_numpy(float).T)
    sizes = timed.groupby("batch_size")
    columns = {
        "examples": sizes["train_samples"].first() * example,
        "iterations": sizes["iterations_per_epoch"].first() * iteration,
        "measured": sizes["seconds_per_epoch"].median(),
    }
    return iteration, example, pd.DataFrame(columns)


def target_figures(study: Study) -> Iterator[Figure]:
    """Yield the examples to each of several targets, a color a target."""
    layout, others = layout_of(study), other_goals(study)
    goals = {str(goal): to_another_goal(study, goal) for goal in others}
    if others and not study.goal.problem:
        own = {each.configuration: each.of("examples_to_goal") for each in groups_of(study)}
        goals = {str(study.goal): own, **goals}
    rows = [
        {"configuration": name, "kind": "median", "target": goal, "value": found.median, "low": found.low,
         "high": found.high if math.isfinite(found.high) else found.median}
        for goal, estimates in goals.items() for name, found in estimates.items() if math.isfinite(found.median)
    ]  # fmt: skip
    if not rows:
        return
    noun, table = noun_of(study.runs), layout.join(pd.DataFrame(rows))
    x, y = size_axis(layout.sizes), amount("value", _("{noun} trained on", noun=noun), table["value"], "~s")
    both = {"x": x, "y": y, "color": series("target", list(goals))}
    mark = layer("point", "median", {**both, **told_apart(layout, "shape", SHAPES)}, size=80, filled=True)
    title = _("{things} to every target", things=capitalized(noun))
    caption = _("Medians over the seeds with their intervals; a target that was not reached has no mark.")
    spec = spec_of([bars("median", both), mark], layout, x="place", y="value", log=["x", "y"], kinds=["median"])
    yield Figure("targets", title, caption, table, spec)


# --- Maps: cells by row and column.


def cells(
    name: str, title: str, caption: str, table: pd.DataFrame, x: Spec, rows: Spec, fill: Spec, label: str,
    stroke: Spec | None = None,
) -> Figure:  # fmt: skip
    """Draw a cell a row of the table, as dark as its `fill`, with its `label` in it."""
    place = {"x": x, "y": {"type": "nominal", "title": None, **rows}}
    shade = {"type": "quantitative", "legend": None, **fill}
    layers = [
        layer("rect", "cell", {**place, "color": shade, **({"stroke": stroke} if stroke else {})}, strokeWidth=2),
        layer("text", "cell", {**place, "text": {"field": label}}),
    ]
    height = max(29 * len(rows["sort"]), 75)
    return Figure(name, title, caption, table.assign(kind="cell"), spec_of(layers, None, height))


def map_figures(study: Study) -> Iterator[Figure]:
    """Yield maps of the median examples to the goal by batch size and factor, if there are too many for marks."""
    runs, groups = trained(study), groups_of(study)
    factors = {name: values for name, values in layout_of(study).factors.items() if name != "sweep"}
    wanted = [name for name, values in factors.items() if FEWEST_LEVELS <= len(set(values.values())) <= MOST_IN_A_MAP]
    things = capitalized(up_to(noun_of(runs), study.goal))
    for index, name in enumerate(wanted[:2] if len(groups) >= FEWEST_IN_A_MAP else ()):
        levels = factors[name]
        rows = [
            (group.batch_size, levels[group.configuration], group.of("examples_to_goal").median) for group in groups
        ]
        table = pd.DataFrame(rows, columns=["batch_size", "level", "examples"])
        table = table.groupby(["batch_size", "level"], sort=False)["examples"].median().reset_index()
        if not np.isfinite(table["examples"]).any():
            continue
        table = table.assign(label=[_in_short(value) for value in table["examples"]])
        table["examples"] = table["examples"].where(np.isfinite(table["examples"]))
        label = labels([name])[name]
        caption = _(
            "Medians over all else; {share:.0%} of the differences within a batch size lie between the values of "
            "{label}. A dash: half of the runs or more did not get there.",
            share=explained(runs, runs[name]), label=label,
        )  # fmt: skip
        title = _("{things} by batch size and {label}", things=things, label=label)
        across = {"field": "level", "sort": list(dict.fromkeys(levels.values())), "axis": {"labelLimit": 200}}
        # Steps, because Vega cannot mix two custom properties.
        fill = {"field": "examples", "scale": {"type": "quantile", "range": HEAT}}
        yield cells(f"heat-{index}", title, caption, table, size_bands(), across, fill, "label")


def _in_short(count: float) -> str:
    if not math.isfinite(count):
        return "\u2013"
    return rounded(count) if count < 10_000 else f"{rounded(float(f'{count / 1000:.3g}'))}k"


def prediction_figures(study: Study) -> Iterator[Figure]:
    """Yield what the runs that missed the threshold predict, if any did."""
    ends = finished(study)
    missed = ends.loc[ends["first_epoch_below_threshold"].isna() & (ends["status"] != Status.DIVERGED.value), "run_dir"]
    answers = {name: study.records[name].test_answers for name in missed}
    # Cells of more classes could not be read.
    answers = {name: counts for name, counts in answers.items() if counts and len(counts) <= MOST_CLASSES_DRAWN}
    if not answers:
        return
    shown = list(answers)[:MOST_MISSES]
    rows = [(name, str(label), count) for name in shown for label, count in enumerate(answers[name] or [])]
    table = pd.DataFrame(rows, columns=["run", "class", "count"])
    table["never"] = table["count"] == 0
    x = {"field": "class", "type": "ordinal", "title": _("predicted class, and number of test digits"),
         "sort": sorted(set(table["class"]), key=int), "axis": {"labelAngle": 0}}  # fmt: skip
    caption = _("Predictions on the test digits; framed: a digit that is never predicted.")
    if len(answers) > MOST_MISSES:
        caption += " " + _("The first {count} of {all}.", count=MOST_MISSES, all=len(answers))
    yield cells(
        "misses", _("Predictions of the runs that missed the threshold"), caption, table, x,
        {"field": "run", "sort": shown, "axis": {"labelLimit": 170}},
        {"field": "count", "scale": {"type": "quantize", "range": HEAT}}, "count",
        stroke={"condition": {"test": "datum.never", "value": SERIES[1]}, "value": None},
    )  # fmt: skip


# --- Along the runs.


def loss_figures(study: Study) -> Iterator[Figure]:
    """Yield the mean loss of every epoch against epochs, and against the seconds that they took."""
    runs, layout = trained(study), layout_of(study)
    history = study.history[study.history["run_dir"].isin(runs["run_dir"])]
    if not np.isfinite(history["loss_mean"]).any():
        return
    floor = loss_floor(runs)
    table = layout.join(losses_along(history, floor, runs["configuration"].nunique()))
    table = table.drop(columns="seconds") if _is_large(study) else table
    levels = thresholds_of(runs)
    levels += [(floor, _("floor {value:.4f}", value=floor))] if floor else []
    title = _("Loss against epoch")
    y = amount("loss", _("mean loss of the epoch"))
    x = epochs_axis(float(table["epoch"].max() - table["epoch"].min()))
    yield line_figure("loss-epoch", title, _lines_caption(table, floor), table, layout, x, y, levels)
    if not _is_large(study):
        caption = _("The same losses, against the seconds that their epochs took.")
        x = amount("seconds", _("seconds of training"), grid=False)
        yield line_figure("loss-seconds", _("Loss against seconds"), caption, table, layout, x, y, levels)


def thresholds_of(runs: pd.DataFrame) -> list[Level]:
    """Return every threshold of the loss that runs have, with its name."""
    values = runs["loss_threshold"].dropna().unique()
    return [(float(value), _("threshold {value:g}", value=value)) for value in values]


def _lines_caption(table: pd.DataFrame, floor: float) -> str:
    parts = [
        _("Thin: every seed; thick: their median.")
        if (table["kind"] == "seed").any()
        else _("A line a configuration, the median of its seeds.")
    ]
    if table["low"].notna().any():
        parts.append(_("Band: one standard deviation over an epoch's iterations."))
    if floor:
        parts.append(_("With the softmax, the loss cannot fall below the floor, {floor:.4f}.", floor=floor))
    return " ".join(parts)


def losses_along(history: pd.DataFrame, floor: float, configurations: int) -> pd.DataFrame:
    """Return a row a point of a line: of every seed if they are few, and of their median, with its band.

    The median ends with the shortest run: after it that of the others would be another configuration's. The band is one
    standard deviation of the iterations' losses, and ends at the floor.
    """
    seeds = history.assign(seconds=history.groupby("run_dir")["seconds"].cumsum())
    seeds = seeds.rename(columns={"run_dir": "run", "loss_mean": "loss"})
    counts = seeds.groupby("configuration")["run"].nunique()
    grouped = seeds.groupby(["configuration", "epoch"], sort=False)
    median = grouped[["seconds", "loss", "loss_std"]].median().reset_index()
    complete = grouped.size().to_numpy() == counts.reindex(median["configuration"]).to_numpy()
    median = thinned(median[complete].assign(kind="median", low=np.nan, high=np.nan), "configuration")
    if configurations <= MOST_NAMED:
        low, high = median["loss"] - median["loss_std"], median["loss"] + median["loss_std"]
        # A loop of the user's may have losses below 0.
        least = floor if (median["loss"] >= floor).all() else None
        median = median.assign(low=low.clip(lower=least), high=high)
    tables = [median]
    if counts.max() > 1 and configurations <= MOST_WITH_SEEDS:
        tables.insert(0, thinned(seeds.assign(kind="seed"), "run"))
    names = ["run", "configuration", "kind", "epoch", "seconds", "loss", "low", "high"]
    return pd.concat(tables).reindex(columns=names)


def evaluation_figures(study: Study) -> Iterator[Figure]:
    """Yield the loss at frozen weights and the gradient noise scale, if runs were evaluated."""
    runs, layout = trained(study), layout_of(study)
    rows = study.evaluations[study.evaluations["run_dir"].isin(runs["run_dir"])]
    noun = noun_of(runs)
    kinds: list[tuple[str, str, str, str, str, list[Level]]] = [
        (
            "frozen-loss", "train_loss", _("loss at frozen weights"),
            _("Loss at frozen weights against {noun}", noun=noun),
            _("A line a run: no step is taken while it is measured."), thresholds_of(runs),
        ),
        (
            "noise-scale", "noise_scale", _("gradient noise scale"),
            _("Gradient noise scale against {noun}", noun=noun),
            _(
                "tr(Sigma) / |G|^2 (McCandlish et al. 2018): it has no single value, because it grows as the loss "
                "falls."
            ), [],
        ),
    ]  # fmt: skip
    for name, column, label, title, caption, levels in kinds:
        # A loop of the user's own may measure its errors alone; an estimate of |G|^2 may be 0 or below.
        measured = rows[np.isfinite(rows[column]) & ((rows[column] > 0) | (column == "train_loss"))]
        if len(measured):
            table = thinned(measured.rename(columns={"run_dir": "run"}), "run").assign(kind="seed")
            table = layout.join(table[["run", "configuration", "kind", "examples", column]])
            x = amount("examples", _("{noun} trained on", noun=noun), form="~s", grid=False)
            y = amount(column, label, table[column] if name == "noise-scale" else None)
            yield line_figure(name, title, caption, table, layout, x, y, levels)


def reached_figures(study: Study) -> Iterator[Figure]:
    """Yield the share of the runs below the threshold by every epoch, if a configuration has several runs."""
    ends = finished(study)
    counts = ends.groupby("configuration").size()
    if not (counts > 1).any() or ends["first_epoch_below_threshold"].isna().all():
        return
    rows: list[dict[str, Any]] = []
    last = int(ends["epochs"].max())
    for name, own in ends.groupby("configuration", sort=False):
        epochs = sorted(int(epoch) for epoch in own["first_epoch_below_threshold"].dropna())
        steps = [(0, 0.0), *((epoch, (rank + 1) / len(own)) for rank, epoch in enumerate(epochs))]
        rows += [
            {"run": None, "configuration": name, "kind": "median", "epoch": epoch, "share": share}
            for epoch, share in (*steps, (last, steps[-1][1]))
        ]
    y = amount("share", _("share of the runs"), form="%")
    y["scale"] = {"domain": [0, 1], "type": "linear", "padding": 4}
    layout = layout_of(study)
    caption = _("The share of the runs that have been below the threshold by an epoch.")
    yield line_figure("reached", _("Runs below the threshold"), caption, layout.join(pd.DataFrame(rows)), layout,
                      epochs_axis(last), y, interpolate="step-after")  # fmt: skip
