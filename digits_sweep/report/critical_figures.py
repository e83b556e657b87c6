"""The figures of a critical batch size: what every goal needs, the best rates, branches, the gradient noise scale."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep.report.critical import Critical, goal_text, seconds_per_step
from digits_sweep.report.ranking import trained
from digits_sweep.report.study import Study
from digits_sweep.report.vega import (
    INK,
    Figure,
    Spec,
    amount,
    bars,
    color,
    layer,
    layout_of,
    line_figure,
    marks,
    series,
    size_axis,
    spec_of,
)
from digits_sweep.report.words import _, capitalized, noun_of
from digits_sweep.results.critical import Answer

# Points of a curve; and a miss is drawn so many times above the largest number there is.
POINTS, ABOVE = 60, 1.5


def critical_figures(study: Study, critical: Critical) -> list[Figure]:
    """Return every figure of a critical batch size that was found by the runs of `study`."""
    things = capitalized(noun_of(study.runs))
    kinds = [
        ("steps", _("Steps to the goal"), _("steps"), _("The same on every machine.")),
        ("examples", _("{things} to the goal", things=things), _("examples"),
         _("Left of the bend they hardly grow with the batch size, right of it in proportion.")),
        ("seconds", _("Seconds to the goal"), _("seconds of training"), _("Steps at what one costs.")),
    ]  # fmt: skip
    if all(math.isnan(seconds_per_step(answer, 1.0)) for answer in critical.answers):
        kinds.pop()
    # Open marks alone would say nothing.
    reached = np.isfinite(critical.steps["median"].astype(float)).any()
    return [
        *(against_batch_size(critical, *kind) for kind in kinds if reached),
        *rate_figure(critical),
        *response_figures(critical),
        *branch_figure(critical),
        *noise_figure(study, critical),
    ]


def _goal_color(critical: Critical) -> Spec:
    goals = [goal_text(answer) for answer in critical.answers]
    return series("goal", goals, legend={"title": None, "symbolType": "circle"} if len(goals) > 1 else None)


def _sizes(critical: Critical) -> list[int]:
    return sorted({int(size) for table in (critical.steps, critical.tuning) for size in table["batch_size"]})


def against_batch_size(critical: Critical, unit: str, title: str, label: str, caption: str) -> Figure:
    """Draw what every goal needs at every batch size: medians, the fit and B_crit, with their intervals."""
    rows = [
        {"goal": goal_text(answer), **row}
        for answer in critical.answers
        for row in (*_medians(critical, answer, unit), *_marked(critical, answer, unit))
    ]
    names = ["goal", "kind", "place", "value", "low", "high", "missed", "batch_size"]
    table = pd.DataFrame(rows).reindex(columns=names)
    x, shade = size_axis(_sizes(critical)), _goal_color(critical)
    y = amount("value", label, table["value"], kind="log", form="~s" if unit != "seconds" else ",.3~r")
    both, band = {"x": x, "y": y, "color": shade}, {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "fill": shade}
    layers = {
        "median": [marks("median", both, size=60), bars("median", both, size=1.5)],
        "fit": [layer("line", "fit", both, strokeWidth=1.2)],
        "perfect": [layer("line", "perfect", both, strokeDash=[2, 3], strokeWidth=1.2)],
    }
    for kind, opacity, dashes in (("b_crit", 0.13, [6, 3]), ("soonest", 0.08, [8, 3, 2, 3])):
        line = layer("rule", kind, {"x": x, "color": shade}, strokeDash=dashes)
        layers[kind] = [layer("rect", kind, band, opacity=opacity), line]
    diamond = layer("point", "check", {**both, "shape": {"value": "diamond"}}, size=130, filled=False, strokeWidth=1.5)
    layers["check"] = [diamond]
    drawn = [each for kind, own in layers.items() if (table["kind"] == kind).any() for each in own]
    spec = spec_of(drawn, None, 250, x="place", y="value", log=["x", "y"], kinds=["median", "check"])
    return Figure(
        f"critical-{unit}", title, " ".join([*filter(None, [caption]), *_signs(critical, table)]), table, spec
    )


def _signs(critical: Critical, table: pd.DataFrame) -> list[str]:
    """Return a sentence for every sign that is drawn."""
    medians = table[table["kind"] == "median"]
    present = {*table["kind"], *(["bar"] if (medians["low"] < medians["high"]).any() else [])}
    present |= {"open"} if medians["missed"].any() else set()
    factor = next((answer.factor for answer in critical.answers if answer.factor), None)
    signs = {
        "perfect": _("Along a dotted line twice the batch size needs half the steps."),
        "bar": _("Bars: the interval of the median."),
        "open": _("Open: not reached."),
        "b_crit": _("Dashed, with its interval: the critical batch size."),
        "soonest": _(
            "Dash-dotted: the batch size that the fit expects to be soonest, in a band where the time is at most 10 % "
            "more."
        ),
        "check": _("Diamond: one near it, in no fit, run as a check."),
    }
    if factor:
        signs["b_crit"] = _(
            "Dashed: the critical batch size, with a factor of {times:.3g} to each side.", times=factor.times
        )
    return [text for sign, text in signs.items() if sign in present]


def _per_step(answer: Answer, unit: str, size: float) -> float:
    return {"steps": 1.0, "examples": size, "seconds": seconds_per_step(answer, size)}[unit]


def _medians(critical: Critical, answer: Answer, unit: str) -> Iterator[dict[str, Any]]:
    """Yield the medians of one goal in a unit, with their intervals; a miss stands above all others."""
    steps = critical.steps_to(answer)
    scale = [_per_step(answer, unit, float(size)) for size in steps["real_batch_size"]]
    amounts = steps[["median", "low", "high"]].astype(float).mul(scale, axis=0)
    highest = ABOVE * amounts["median"].where(np.isfinite(amounts["median"])).max()
    sizes = zip(steps["real_batch_size"].astype(float), steps["batch_size"].astype(int), strict=True)
    for (place, size), (median, low, high) in zip(sizes, amounts.to_numpy(), strict=True):
        missed = not math.isfinite(median)
        yield {
            "kind": "median", "place": place, "batch_size": size, "missed": missed,
            **({"value": highest} if missed
               else {"value": median, "low": low, "high": high if math.isfinite(high) else ABOVE * median}),
        }  # fmt: skip


def _marked(critical: Critical, answer: Answer, unit: str) -> Iterator[dict[str, Any]]:
    """Yield the fit of one goal, perfect scaling, and what is marked on the axis of batch sizes."""
    steps = critical.steps_to(answer)
    places, medians = (steps[name].astype(float).to_numpy() for name in ("real_batch_size", "median"))
    if (law := answer.law) is not None and len(places):
        for size in np.geomspace(places.min(), places.max(), POINTS):
            yield {"kind": "fit", "place": size, "value": law.steps(size) * _per_step(answer, unit, size)}
    reached = np.isfinite(medians)
    if unit == "steps" and reached.sum() > 1:
        start = places[reached][0] * medians[reached][0]
        for size in places[reached][[0, -1]]:
            yield {"kind": "perfect", "place": size, "value": start / size}
    if unit != "seconds" and answer.b_crit is not None:
        ends = dict(zip(("low", "high"), answer.around_b_crit, strict=True))
        yield {"kind": "b_crit", "place": answer.b_crit, **ends}
    if unit == "seconds" and answer.soonest_batch_size:
        place, low, high = answer.soonest_batch_size, answer.within_low, answer.within_high
        yield {"kind": "soonest", "place": place, "low": low, "high": high}
    if unit == "seconds" and answer.check and answer.check.median is not None:
        size = answer.check.batch_size
        yield {"kind": "check", "place": size, "value": answer.check.median * _per_step(answer, unit, size)}


def rate_figure(critical: Critical) -> Iterator[Figure]:
    """Yield the best learning rate at every batch size, and the lines of the square-root and the linear rule."""
    rows: list[dict[str, Any]] = []
    for answer in critical.answers:
        rated = critical.steps_to(answer).dropna(subset=["lr"])
        pairs = list(zip(rated["batch_size"].astype(float), rated["lr"].astype(float), strict=True))
        rows += [{"goal": goal_text(answer), "kind": "best", "place": size, "lr": lr} for size, lr in pairs]
        if len(pairs) > 1:
            # The rules agree with the best rate at the batch size in the middle.
            middle, rate = pairs[(len(pairs) - 1) // 2]
            for kind, power in (("root", 0.5), ("linear", 1.0)):
                lines = [(size, rate * (size / middle) ** power) for size, lr in (pairs[0], pairs[-1])]
                rows += [{"goal": goal_text(answer), "kind": kind, "place": size, "lr": lr} for size, lr in lines]
    if not rows:
        return
    table = pd.DataFrame(rows, columns=["goal", "kind", "place", "lr"])
    x, y = size_axis(_sizes(critical)), amount("lr", _("learning rate"), kind="log", form=".0e")
    both = {"x": x, "y": y, "color": _goal_color(critical)}
    layers = [
        layer("point", "best", both, size=60, filled=True),
        layer("line", "root", both, strokeDash=[6, 3], strokeWidth=1.2),
        layer("line", "linear", both, strokeDash=[2, 3], strokeWidth=1.2),
    ]
    spec = spec_of(layers, None, x="place", y="lr", log=["x", "y"], kinds=["best"])
    caption = _("Dashed: the square-root rule; dotted: the linear rule.")
    yield Figure("critical-rates", _("Best learning rate"), caption, table, spec)


def response_figures(critical: Critical) -> Iterator[Figure]:
    """Yield the steps to each goal against the learning rate: a mark a run, a line through medians; open: missed."""
    for number, answer in enumerate(critical.answers):
        tuning = critical.tuning_of(answer)
        if not tuning["reached"].any():
            continue
        steps, lr = tuning["iterations"].astype(float), tuning["lr"].astype(float)
        runs = pd.DataFrame({"batch_size": tuning["batch_size"].astype(int), "lr": lr, "missed": steps.isna(),
                             "steps": steps.fillna(ABOVE * steps.max()), "kind": "run"})  # fmt: skip
        medians = steps.fillna(math.inf).groupby([runs["batch_size"], lr]).median().reset_index(name="steps")
        medians = medians[np.isfinite(medians["steps"])].assign(kind="median", missed=False)
        table = pd.concat([runs, medians])
        x = amount("lr", _("learning rate"), kind="log", form=".0e", grid=False)
        y, shade = amount("steps", _("steps"), table["steps"], "~s"), color(_sizes(critical), legend=True)
        both = {"x": x, "y": y, "color": shade}
        layers = [layer("line", "median", both, strokeWidth=1.5), marks("run", both, size=25, opacity=0.8)]
        title = _("Steps by learning rate, {goal}", goal=goal_text(answer))
        caption = _(
            "A mark a tuning seed, a line through the medians. Open marks, at the top: given up or not reached."
        )
        spec = spec_of(layers, None, x="lr", y="steps", log=["x", "y"], kinds=["run", "median"])
        yield Figure(f"critical-response-{number}", title, caption, table, spec)


def branch_figure(critical: Critical) -> Iterator[Figure]:
    """Yield the loss of branches over that of the branch at the run's own batch size, with B_crit of every goal."""
    branches = critical.branches
    if branches is None:
        return
    rows: list[dict[str, Any]] = [
        {"kind": "ratio", "place": size, "ratio": each.median, "low": each.low, "high": each.high}
        for size, each in zip(branches.batch_sizes, branches.ratios, strict=True)
    ]
    rows += [
        {"kind": "b_crit", "place": answer.b_crit, "goal": goal_text(answer)}
        for answer in critical.answers
        if answer.b_crit is not None
    ]
    both = {
        "x": size_axis(branches.batch_sizes),
        "y": amount("ratio", _("loss above its floor, times that of the same batch size")),
    }
    layers = [
        layer("line", "ratio", both, color=INK, point={"color": INK}),
        bars("ratio", both),
        layer("rule", "b_crit", {"x": both["x"], "color": _goal_color(critical)}, strokeDash=[6, 3]),
        {"data": {"values": [{"ratio": 1 + branches.tolerance}]}, "mark": {"type": "rule", "strokeDash": [2, 3]},
         "encoding": {"y": both["y"]}},
    ]  # fmt: skip
    caption = _(
        "What the loss exceeds its floor by at a multiple of the batch size, with the square-root rule, over that at "
        "the same batch size: medians with their intervals; dotted: the tolerance; dashed: the critical batch size."
    )
    table = pd.DataFrame(rows, columns=["kind", "place", "ratio", "low", "high", "goal"])
    spec = spec_of(layers, None, x="place", y="ratio", log=["x"], kinds=["ratio"])
    yield Figure("critical-branches", _("Branches of one run"), caption, table, spec)


def noise_figure(study: Study, critical: Critical) -> Iterator[Figure]:
    """Yield the gradient noise scale along runs, a color a batch size, and the critical batch size of every goal."""
    rows = study.evaluations[study.evaluations["run_dir"].isin(trained(study)["run_dir"])]
    measured = rows[np.isfinite(rows["noise_scale"]) & (rows["noise_scale"] > 0) & (rows["examples"] > 0)]
    if measured.empty:
        return
    layout, columns = layout_of(study), ["run", "configuration", "kind", "examples", "noise_scale"]
    table = layout.join(measured.rename(columns={"run_dir": "run"}).assign(kind="seed")[columns])
    levels = [(answer.b_crit, goal_text(answer)) for answer in critical.answers if answer.b_crit is not None]
    caption = _("tr(Sigma) / |G|^2 (McCandlish et al. 2018) along the first fresh seed of each best rate.")
    if levels:
        caption += " " + _("Lines across: the critical batch size of each goal, as measured.")
    x = amount("examples", _("{noun} trained on", noun=noun_of(study.runs)), kind="log", form="~s", grid=False)
    y = amount("noise_scale", _("gradient noise scale"), kind="log", form="~s")
    yield line_figure("critical-noise", _("Gradient noise scale along a run"), caption, table, layout, x, y, levels)
