"""The figures of a sweep: each is one function that returns title, caption, text and a Vega-Lite specification."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from digits_sweep.report.layout import Layout, layout_of
from digits_sweep.report.statistics import estimate, explained, finished, groups_of, is_timed, trained
from digits_sweep.report.study import Study, costs, labels, loss_floor, shortened
from digits_sweep.report.tables import other_goals, to_another_goal
from digits_sweep.report.vega import (
    DASHES,
    HEAT,
    HEIGHT,
    INK,
    QUIET,
    SERIES,
    SHAPES,
    Figure,
    Spec,
    amount,
    color,
    epochs_axis,
    layer,
    of_kind,
    open_if_missed,
    plain,
    size_axis,
    size_bands,
    spec_of,
    told_apart,
)
from digits_sweep.report.warnings import never_predicted
from digits_sweep.report.words import _, capitalized, listed, noun_of, number, rounded, seconds, short_seconds, up_to
from digits_sweep.results.record import Status

# Of more configurations single seeds are not drawn beside their median, and lines have no names; a letter's width.
MOST_WITH_SEEDS, MOST_NAMED, LONGEST_NAME, LETTER = 24, 6, 14, 6.5
# Of more configurations a page leaves out what other figures say in other units.
MOST_WITH_ALL = 100
MOST_POINTS = 120
FEWEST_IN_A_MAP, FEWEST_LEVELS, MOST_IN_A_MAP = 7, 3, 40
MOST_MISSES = 24
MOST_CLASSES_DRAWN = 30


def figures(study: Study) -> list[Figure]:
    """Return every figure that a sweep, or several in one, has something for: first the one that shows the verdict."""
    if study.critical:
        from digits_sweep.report.critical import critical_figures

        return critical_figures(study, study.critical)
    runs = trained(study.runs)
    if runs.empty:
        return []
    layout = layout_of(study)
    few = runs["configuration"].nunique() <= MOST_WITH_ALL
    to_goal = to_goal_figures(study, runs, layout, few)
    first = "seconds" if is_timed(runs) else "examples"
    to_goal.sort(key=lambda figure: figure.name != first)
    return [
        *to_goal[:1],
        *loss_figures(study, runs, layout, few),
        *to_goal[1:],
        *map_figures(study, runs, layout),
        *evaluation_figures(study, runs, layout),
        *target_figures(study, layout),
        *time_figures(runs, layout),
        *reached_figures(study, runs, layout),
        *prediction_figures(study, runs),
    ]


# --- Against the batch size.


def to_goal_figures(study: Study, runs: pd.DataFrame, layout: Layout, few: bool) -> list[Figure]:
    """Return examples, seconds, iterations and epochs to the goal; none if no run arrived."""
    noun, goal = noun_of(runs), study.goal
    iterations = (runs["epochs"] * runs["iterations_per_epoch"]).fillna(runs["iterations"])
    kinds: list[tuple[str, str, pd.Series, Callable[[float], str], str, str]] = [
        (
            "examples", "examples_to_goal", runs["epochs"] * runs["train_samples"], rounded,
            up_to(noun, goal), _("The same on every machine."),
        ),
        (
            "seconds", "seconds_to_goal", runs["epochs"] * runs["seconds_per_epoch"], seconds,
            up_to(_("seconds"), goal),
            _("These iterations at what one costs at this batch size, the median over its runs."),
        ),
        (
            "iterations", "iterations_to_goal", iterations, rounded, up_to(_("iterations"), goal),
            _(
                "Dotted: perfect scaling, by which twice the batch size needs half the iterations (Shallue et al. "
                "2019)."
            ),
        ),
        (
            "epochs", "first_epoch_below_threshold", runs["epochs"], number, _("first epoch below the threshold"),
            _("The first epoch with a mean loss below it."),
        ),
    ]  # fmt: skip
    return [
        against_batch_size(runs, runs["run_dir"].isin(finished(study)["run_dir"]), layout, *kind)
        for kind in kinds
        if runs[kind[1]].notna().any() and (few or kind[0] != "epochs")
    ]


def against_batch_size(
    runs: pd.DataFrame, has_ended: pd.Series, layout: Layout, name: str, column: str, otherwise: pd.Series | None,
    write: Callable[[float], str], label: str, caption: str,
) -> Figure:  # fmt: skip
    """Draw a mark a run, and of several seeds their median with its interval; open: missed, at what it had trained."""
    value = runs[column].astype("Float64")
    missed = value.isna() & has_ended & runs["reached"].notna() & (otherwise is not None)
    drawn = value if otherwise is None else value.fillna(otherwise.astype("Float64").where(missed))
    table = runs[["run_dir", "configuration"]].rename(columns={"run_dir": "run"})
    table = table.assign(kind="run", value=drawn, missed=missed)[drawn.notna()]
    medians = [row for configuration, own in table.groupby("configuration", sort=False) if len(own) > 1
               for row in [_median_mark(str(configuration), own)]]  # fmt: skip
    several = bool(medians)
    table = table if not several or len(medians) <= MOST_WITH_SEEDS else table[[False] * len(table)]
    table = layout.join(pd.concat([table, pd.DataFrame(medians)]) if several else table)
    if name == "iterations":
        table = pd.concat([table, pd.DataFrame(_perfect_scaling(runs, layout))])
    form = {rounded: "~s", number: "d"}.get(write, ",.4~r")
    x, y = size_axis(layout.sizes), amount("value", label, plain(table["value"].astype(float)), form)
    if write is number:
        y["axis"] |= {"tickMinStep": 1}
    colors = color(layout.sizes)
    both = {"x": x, "y": y, "color": colors, "fill": colors, **told_apart(layout, "shape", SHAPES)}
    points = {**both, "fillOpacity": open_if_missed()}
    layers = [
        layer("point", "run", points, size=22 if several else 70, strokeWidth=1.5, opacity=0.6 if several else 1),
        layer("rule", "median", {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colors}, size=2),
        layer("point", "median", points, size=80, strokeWidth=1.5),
    ][: 3 if several else 1]
    if (table["note"].fillna("") != "").any():
        # On the side that has room.
        is_right = f"datum.place > {math.sqrt(layout.sizes[0] * layout.sizes[-1]):g}"
        beside = {"align": {"expr": f"{is_right} ? 'right' : 'left'"}, "dx": {"expr": f"{is_right} ? -10 : 10"}}
        words = {"x": x, "y": y, "text": {"field": "note"}}
        layers.append(layer("text", "median" if several else "run", words, **beside))
    if name == "iterations":
        layers.append(layer("line", "perfect", {"x": x, "y": y}, strokeDash=[2, 3], color=QUIET, strokeWidth=1.2))
    begins = [_("A batch that grows stands at the size that it begins with.")]
    grows = (runs["batch_schedule"].notna() & drawn.notna()).any()
    caption = " ".join([caption, *_signs(table, several), *(begins if grows else [])])
    text = _("{title}: {ends}.", title=capitalized(label), ends=_ends_of(runs, column, write))
    spec = spec_of(layers, layout, x="place", y="value", log=["x", "y"], kinds=["median", "run"])
    return Figure(name, capitalized(label), caption, text, table, spec)


def _signs(table: pd.DataFrame, several: bool) -> list[str]:
    """Explain the signs that a figure has."""
    bars = [_("Bars: the interval of the median over the seeds.")] if several else []
    is_open = [_("Open: not reached, drawn where the run ended.")] if table["missed"].fillna(False).any() else []
    return [*bars, *is_open]


def _ends_of(runs: pd.DataFrame, column: str, write: Callable[[float], str]) -> str:
    """Name the least and the greatest median of a figure, and how many configurations have none."""
    values = runs.groupby("configuration", sort=False)[column].median().dropna().astype(float)
    missing = runs["configuration"].nunique() - len(values)
    parts = []
    if len(values):
        least, most = str(values.idxmin()), str(values.idxmax())
        parts.append(_("least {value} ({name})", value=write(values[least]), name=least))
        if least != most:
            parts.append(_("most {value} ({name})", value=write(values[most]), name=most))
    if missing:
        parts.append(_("not reached by {count}", count=missing))
    return "; ".join([*parts, _("all numbers are in the tables")])


def _median_mark(configuration: str, own: pd.DataFrame) -> Spec:
    """Return the median of a configuration's runs with its interval; an end that is missed is the most that it had."""
    most = float(own["value"].max())
    values = [math.inf if missed else value for value, missed in zip(own["value"], own["missed"], strict=True)]
    found = estimate(list(map(float, values)))
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


def time_figures(runs: pd.DataFrame, layout: Layout) -> Iterator[Figure]:
    """Yield the seconds of an epoch, and their two parts if several batch sizes were timed alike."""
    if runs["seconds_per_epoch"].notna().any():
        caption = _("Of a run: the median of its epochs without the first.")
        has_ended = pd.Series(False, index=runs.index)
        yield against_batch_size(
            runs, has_ended, layout, "seconds-epoch", "seconds_per_epoch", None, seconds, _("seconds per epoch"),
            caption,
        )  # fmt: skip
    found = costs(runs)
    if found is None:
        return
    words = {"examples": _("for its examples"), "iterations": _("for its iterations")}
    parts = found.parts[list(words)].rename(columns=words)
    bars = parts.reset_index(names="batch_size").melt("batch_size", var_name="part", value_name="seconds")
    measured = found.parts["measured"].reset_index(name="seconds").rename(columns={"index": "batch_size"})
    table = pd.concat([bars.assign(kind="part"), measured.assign(kind="measured", part=_("measured"))])
    x = size_bands()
    y = {"field": "seconds", "type": "quantitative", "title": _("seconds per epoch"), "axis": {"tickCount": 5}}
    scale = {"domain": list(words.values()), "range": SERIES[:2]}
    shades = {"field": "part", "type": "nominal", "title": None, "scale": scale, "legend": {"symbolType": "square"}}
    layers = [
        layer("bar", "part", {"x": x, "y": {**y, "stack": "zero"}, "color": shades}),
        layer("tick", "measured", {"x": x, "y": y}, color=INK, thickness=2),
    ]
    text = _(
        "Fitted: {iteration} for every iteration and {example} for every example.",
        iteration=short_seconds(found.seconds_per_iteration), example=short_seconds(found.seconds_per_example),
    )  # fmt: skip
    yield Figure("cost", _("Where an epoch's seconds go"), text + " " + _("Line: as measured."), text, table,
                 spec_of(layers, None))  # fmt: skip


def target_figures(study: Study, layout: Layout) -> Iterator[Figure]:
    """Yield the examples to each of several targets, a color a target."""
    others = other_goals(study)
    if not others:
        return
    noun = noun_of(study.runs)
    groups = {group.configuration: group.examples_to_goal for group in groups_of(study)}
    goals = {str(goal): to_another_goal(study, goal) for goal in others}
    if not study.goal.problem:
        goals = {str(study.goal): groups, **goals}
    rows = [
        {"configuration": name, "kind": "median", "target": goal, "value": found.median, "low": found.low,
         "high": found.high if math.isfinite(found.high) else found.median}
        for goal, estimates in goals.items() for name, found in estimates.items() if math.isfinite(found.median)
    ]  # fmt: skip
    if not rows:
        return
    table = layout.join(pd.DataFrame(rows))
    x, y = size_axis(layout.sizes), amount("value", _("{noun} trained on", noun=noun), table["value"], "~s")
    scale = {"domain": list(goals), "range": SERIES[: len(goals)]}
    shades = {"field": "target", "type": "nominal", "title": None, "scale": scale}
    layers = [
        layer("rule", "median", {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": shades}, size=2),
        layer("point", "median", {"x": x, "y": y, "color": shades, **told_apart(layout, "shape", SHAPES)}, size=80,
              filled=True),
    ]  # fmt: skip
    title = _("{things} to every target", things=capitalized(noun))
    text = _("{title}: {targets}; all numbers are in the tables.", title=title, targets=listed(goals))
    caption = _("Medians over the seeds with their intervals; a target that was not reached has no mark.")
    yield Figure("targets", title, caption, text, table,
                 spec_of(layers, layout, x="place", y="value", log=["x", "y"], kinds=["median"]))  # fmt: skip


def map_figures(study: Study, runs: pd.DataFrame, layout: Layout) -> Iterator[Figure]:
    """Yield maps of the median examples to the goal by batch size and factor, if there are too many for marks."""
    groups = groups_of(study)
    factors = {name: values for name, values in layout.factors.items() if name != "sweep"}
    wanted = [name for name, values in factors.items() if FEWEST_LEVELS <= len(set(values.values())) <= MOST_IN_A_MAP]
    things = capitalized(up_to(noun_of(runs), study.goal))
    for index, name in enumerate(wanted[:2] if len(groups) >= FEWEST_IN_A_MAP else ()):
        levels = factors[name]
        cells = pd.DataFrame(
            [(group.batch_size, levels[group.configuration], group.examples_to_goal.median) for group in groups],
            columns=["batch_size", "level", "examples"],
        )
        table = cells.groupby(["batch_size", "level"], sort=False)["examples"].median().reset_index()
        if not np.isfinite(table["examples"]).any():
            continue
        table = table.assign(kind="cell", label=[_in_short(value) for value in table["examples"]])
        table["examples"] = table["examples"].where(np.isfinite(table["examples"]))
        label = labels([name])[name]
        order = list(dict.fromkeys(levels.values()))
        x = size_bands()
        y = {"field": "level", "type": "nominal", "title": None, "sort": order, "axis": {"labelLimit": 200}}
        # Steps, because Vega cannot mix two custom properties.
        shade = {"type": "quantile", "range": HEAT}
        fill = {"field": "examples", "type": "quantitative", "scale": shade, "legend": None}
        layers = [
            layer("rect", "cell", {"x": x, "y": y, "color": fill}),
            layer("text", "cell", {"x": x, "y": y, "text": {"field": "label"}}),
        ]
        caption = _(
            "Medians over all else; {share:.0%} of the differences within a batch size lie between the values of "
            "{label}. A dash: half of the runs or more did not get there.",
            share=explained(runs, runs[name]), label=label,
        )  # fmt: skip
        title = _("{things} by batch size and {label}", things=things, label=label)
        text = _("{title}: {ends}.", title=title, ends=_ends_of(runs, "examples_to_goal", rounded))
        yield Figure(f"heat-{index}", title, caption, text, table, spec_of(layers, None, max(28 * len(order), 90)))


def _in_short(count: float) -> str:
    if not math.isfinite(count):
        return "\u2013"
    return rounded(count) if count < 10_000 else f"{rounded(float(f'{count / 1000:.3g}'))}k"


# --- Along the runs.


def loss_figures(study: Study, runs: pd.DataFrame, layout: Layout, few: bool) -> Iterator[Figure]:
    """Yield the mean loss of every epoch against epochs, and against the seconds that they took."""
    history = study.history[study.history["run_dir"].isin(runs["run_dir"])]
    if not np.isfinite(history["loss_mean"]).any():
        return
    floor = loss_floor(runs)
    table = layout.join(losses_of(history, floor, runs["configuration"].nunique()))
    table = table if few else table.drop(columns="seconds")
    levels = thresholds_of(runs)
    levels += [(floor, _("floor {value:.4f}", value=floor))] if floor else []
    final = runs.groupby("configuration", sort=False)["final_loss"].median().dropna().astype(float)
    ends = "; ".join(
        _("{name} ends at {loss:.4f}", name=name, loss=value)
        for name, value in (final.items() if len(final) <= MOST_NAMED else [(final.idxmin(), final.min())])
    )
    caption = _lines_caption(table)
    if floor:
        sentence = _("With the softmax, the loss cannot fall below the floor, {floor:.4f}.", floor=floor)
        caption = f"{caption} {sentence}"
    x = epochs_axis(float(table["epoch"].max() - table["epoch"].min()))
    text = _("Mean loss of every epoch: {ends}; all numbers are in the tables.", ends=ends)
    yield line_figure("loss-epoch", _("Loss against epoch"), caption, text, table, layout, x,
                      amount("loss", _("mean loss of the epoch")), levels)  # fmt: skip
    if few:
        text = _("Mean loss against the seconds trained: {ends}; all numbers are in the tables.", ends=ends)
        yield line_figure(
            "loss-seconds", _("Loss against seconds"),
            _("The same losses, against the seconds that their epochs took."), text, table, layout,
            amount("seconds", _("seconds of training"), grid=False),
            amount("loss", _("mean loss of the epoch")), levels,
        )  # fmt: skip


def thresholds_of(runs: pd.DataFrame) -> list[tuple[float, str]]:
    """Return every threshold of the loss that runs have, with its name."""
    values = runs["loss_threshold"].dropna().unique()
    return [(float(value), _("threshold {value:g}", value=value)) for value in values]


def _lines_caption(table: pd.DataFrame) -> str:
    kinds = set(table["kind"])
    if "seed" in kinds:
        lines = _("Thin: every seed; thick: their median.")
    else:
        lines = _("A line a configuration, the median of its seeds.")
    band = _("Band: one standard deviation over an epoch's iterations.") if table["low"].notna().any() else ""
    return f"{lines} {band}".strip()


def losses_of(history: pd.DataFrame, floor: float, configurations: int) -> pd.DataFrame:
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
    median = thinned(median[complete].assign(kind="median"), "configuration")
    if configurations <= MOST_NAMED:
        low, high = median["loss"] - median["loss_std"], median["loss"] + median["loss_std"]
        # A loop of the user's may have losses below 0.
        least = floor if (median["loss"] >= floor).all() else None
        median = median.assign(low=low.clip(lower=least), high=high)
    else:
        median = median.assign(low=np.nan, high=np.nan)
    tables = [median]
    if counts.max() > 1 and configurations <= MOST_WITH_SEEDS:
        tables.insert(0, thinned(seeds.assign(kind="seed"), "run"))
    names = ["run", "configuration", "kind", "epoch", "seconds", "loss", "low", "high"]
    return pd.concat(tables).reindex(columns=names)


def thinned(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return at most so many rows of each line as can be told apart, the first and the last among them."""
    index, count = table.groupby(by).cumcount(), table.groupby(by)[by].transform("size")
    every = np.ceil(count / MOST_POINTS)
    return table[(index % every == 0) | (index == count - 1)]


def line_figure(
    name: str, title: str, caption: str, text: str, table: pd.DataFrame, layout: Layout, x: Spec, y: Spec,
    levels: Sequence[tuple[float, str]] = (), interpolate: str = "linear",
) -> Figure:  # fmt: skip
    """Draw a thin line a seed and a thick one a configuration, named at its end if they are few; levels across."""
    table = table[np.isfinite(table[[x["field"], y["field"]]].astype(float)).all(axis=1)]
    longest = max(len(shortened(name)) for name in table["configuration"].unique())
    named = table["configuration"].nunique() <= MOST_NAMED and longest <= LONGEST_NAME and len(layout.panels) < 2
    colors = color(layout.sizes, legend=not named)
    dashes = told_apart(layout, "strokeDash", DASHES, **({"legend": None} if named else {}))
    single = table.groupby("configuration")[x["field"]].transform("size") == 1
    both = {"x": x, "y": y, "color": colors, "detail": {"field": "configuration"}, **dashes}
    layers = []
    if "low" in table and table["low"].notna().any():
        area = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "fill": colors,
                "detail": {"field": "configuration"}}  # fmt: skip
        layers.append(layer("area", "median", area, opacity=0.12))
    lines = {**both, "detail": [{"field": name} for name in ("run", "configuration", "kind") if name in table]}
    lines |= {"strokeWidth": of_kind("median", 2, 0.7), "opacity": of_kind("median", 1, 0.6)}
    drawn = {"transform": [{"filter": "datum.kind == 'seed' || datum.kind == 'median'"}], "encoding": lines}
    layers.append({**drawn, "mark": {"type": "line", "interpolate": interpolate}})
    if single.any():
        table = pd.concat([table, table[single].assign(kind="point")])
        layers.append(layer("point", "point", {"x": x, "y": y, "color": colors}, filled=True, size=50))
    if named:
        names = _names_of(table, x["field"], y, levels)
        table = pd.concat([table, names])
        words, beside = (
            {"x": {"value": "width"}, "y": y, "text": {"field": "label"}},
            {"align": "left", "dx": 5, "clip": False},
        )
        layers.append(layer("text", "name", {**words, "color": colors}, **beside, fontSize=12))
        layers.append(layer("text", "level", words, **beside))
    layers += _levels(levels, y, has_names=not named)
    kinds = ["median", "seed"] if (table["kind"] == "median").any() else ["seed"]
    log = [channel for channel, axis in (("x", x), ("y", y)) if (table[axis["field"]].astype(float) > 0).all()]
    spec = spec_of(layers, layout, x=x["field"], y=y["field"], log=log, kinds=[*kinds, "point"])
    if named:
        spec["width"] -= LETTER * max(map(len, names["label"]))
    return Figure(name, title, caption, text, table, spec)


def _levels(levels: Sequence[tuple[float, str]], y: Spec, has_names: bool) -> list[Spec]:
    """Return a line across for every level, and its name unless it stands elsewhere: above the first, below others."""
    if not levels:
        return []
    rows = [
        {"level": float(f"{value:.6g}"), "label": name, "first": index == 0}
        for index, (value, name) in enumerate(levels)
    ]
    data, at = {"values": rows}, {"y": {**y, "field": "level"}}
    dash = {"condition": {"test": "datum.first", "value": [6, 4]}, "value": [2, 3]}
    above = {"baseline": {"expr": "datum.first ? 'bottom' : 'top'"}, "dy": {"expr": "datum.first ? -2 : 3"}}
    words = {**at, "x": {"value": "width"}, "text": {"field": "label"}}
    names = {"data": data, "mark": {"type": "text", "align": "right", "dx": -3, **above}, "encoding": words}
    return [{"data": data, "mark": "rule", "encoding": {**at, "strokeDash": dash}}, *([names] if has_names else [])]


def _names_of(table: pd.DataFrame, x: str, y: Spec, levels: Sequence[tuple[float, str]]) -> pd.DataFrame:
    """Return the names of lines at the heights of their ends, and those of levels among them, none over another."""
    lines = table[table["kind"].isin(["median", "point"])] if (table["kind"] == "median").any() else table
    last = lines.sort_values(x, kind="stable").groupby("configuration", sort=False).tail(1)
    field = y["field"]
    height, value_at = (math.log, math.exp) if y["scale"]["type"] == "log" else (float, float)
    # With their bands.
    drawn = table[[name for name in (field, "low", "high") if name in table]].astype(float).to_numpy().ravel()
    heights = [height(value) for value in (*drawn[np.isfinite(drawn)], *(value for value, _name in levels))]
    names = [{**row, "kind": "name", "label": shortened(row["configuration"])} for row in last.to_dict("records")]
    names += [{"kind": "level", "label": name, field: value} for value, name in levels]
    names.sort(key=lambda row: row[field])
    at = spread([height(row[field]) for row in names], (max(heights) - min(heights)) * 14 / HEIGHT)
    return pd.DataFrame([{**row, field: value_at(place)} for row, place in zip(names, at, strict=True)])


def spread(heights: Sequence[float], least: float) -> list[float]:
    """Return ascending heights moved apart so far that each is at least so much above the one before."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + least) if moved else height)
    excess = moved[-1] - heights[-1] if moved else 0.0
    return [height - excess / 2 for height in moved]


def evaluation_figures(study: Study, runs: pd.DataFrame, layout: Layout) -> Iterator[Figure]:
    """Yield the loss at frozen weights and the gradient noise scale, if runs were evaluated."""
    rows = study.evaluations[study.evaluations["run_dir"].isin(runs["run_dir"])]
    if rows.empty:
        return
    noun = noun_of(runs)
    table = thinned(rows.rename(columns={"run_dir": "run"}), "run").assign(kind="seed", low=np.nan, high=np.nan)
    table = layout.join(table[["run", "configuration", "kind", "examples", "train_loss", "noise_scale", "low", "high"]])
    x = amount("examples", _("{noun} trained on", noun=noun), form="~s", grid=False)
    levels = thresholds_of(runs)
    by_run = _("A line a run: no step is taken while it is measured.")
    title = _("Loss at frozen weights against {noun}", noun=noun)
    text = _("{title}; all numbers are in the tables.", title=title)
    y = amount("train_loss", _("loss at frozen weights"))
    # A loop of the user's own may measure its errors alone.
    if np.isfinite(table["train_loss"]).any():
        yield line_figure("frozen-loss", title, by_run, text, table.drop(columns="noise_scale"), layout, x, y, levels)
    # An estimate of |G|^2 from few examples may be 0 or below, and then there is no noise scale.
    measured = table[table["noise_scale"] > 0]
    if len(measured):
        title = _("Gradient noise scale against {noun}", noun=noun)
        caption = _(
            "tr(Sigma) / |G|^2 (McCandlish et al. 2018): it has no single value, because it grows as the loss falls."
        )
        text = _("{title}; all numbers are in the tables.", title=title)
        y = amount("noise_scale", _("gradient noise scale"), measured["noise_scale"])
        yield line_figure("noise-scale", title, caption, text, measured, layout, x, y)


def reached_figures(study: Study, runs: pd.DataFrame, layout: Layout) -> Iterator[Figure]:
    """Yield the share of the runs below the threshold by every epoch, if a configuration has several runs."""
    ends = finished(study)
    counts = ends.groupby("configuration").size()
    if not (counts > 1).any() or ends["first_epoch_below_threshold"].isna().all():
        return
    rows: list[Spec] = []
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
    text = _("The share of the runs below the threshold by every epoch; all numbers are in the tables.")
    caption = _("The share of the runs that have been below the threshold by an epoch.")
    yield line_figure("reached", _("Runs below the threshold"), caption, text, layout.join(pd.DataFrame(rows)), layout,
                      epochs_axis(last), y, interpolate="step-after")  # fmt: skip


def prediction_figures(study: Study, runs: pd.DataFrame) -> Iterator[Figure]:
    """Yield what the runs that missed the threshold predict, if any did."""
    ends = finished(study)
    missed = ends.loc[ends["first_epoch_below_threshold"].isna() & (ends["status"] != Status.DIVERGED.value), "run_dir"]
    predictions = study.predictions[study.predictions.index.isin(missed)]
    # Cells of more classes could not be read.
    predictions = predictions[predictions.count(axis=1) <= MOST_CLASSES_DRAWN].dropna(axis="columns", how="all")
    if predictions.empty:
        return
    shown = predictions.head(MOST_MISSES)
    table = shown.rename_axis("run").reset_index().melt("run", var_name="class", value_name="count").dropna()
    table = table.assign(kind="cell", never=table["count"] == 0, **{"class": table["class"].astype(str)})
    classes = [str(each) for each in shown.columns]
    x = {"field": "class", "type": "ordinal", "title": _("predicted class, and number of test digits"),
         "sort": classes, "axis": {"labelAngle": 0}}  # fmt: skip
    y = {"field": "run", "type": "nominal", "title": None, "sort": list(shown.index), "axis": {"labelLimit": 170}}
    shade = {"field": "count", "type": "quantitative", "legend": None, "scale": {"type": "quantize", "range": HEAT}}
    frame = {"condition": {"test": "datum.never", "value": SERIES[1]}, "value": None}
    layers = [
        layer("rect", "cell", {"x": x, "y": y, "color": shade, "stroke": frame}, strokeWidth=2),
        layer("text", "cell", {"x": x, "y": y, "text": {"field": "count"}}),
    ]
    caption = _("Predictions on the test digits; framed: a digit that is never predicted.")
    if len(predictions) > MOST_MISSES:
        caption += " " + _("The first {count} of {all}.", count=MOST_MISSES, all=len(predictions))
    never = {str(name): never_predicted(counts.dropna()) for name, counts in shown.iterrows()}
    text = "; ".join(
        _("{run} never predicts {classes}", run=name, classes=listed(found))
        if found
        else _("{run} predicts every class", run=name)
        for name, found in never.items()
    )
    title = _("Predictions of the runs that missed the threshold")
    yield Figure("misses", title, caption, f"{text}.", table, spec_of(layers, None, max(30 * len(shown), 60)))
