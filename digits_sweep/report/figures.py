"""The report's figures, each a function of a table and a matplotlib axis.

`runs` is what `study.with_configurations(load_sweep(folder))` gives: a row a run. `history` is a row an epoch, as in
`study.load_study(folder).history`. A run that did not get below the threshold is drawn as an open mark, never left out.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator
from scipy.optimize import nnls

from digits_sweep.report.style import BAND, GRID, INK, MARKERS, SERIES
from digits_sweep.results.history import softmax_floor

SOFTMAX_FLOOR = softmax_floor(10)


def loss_against_epoch(runs: pd.DataFrame, history: pd.DataFrame, axis: Axes) -> None:
    """Mean loss against the epoch: every seed thin, the median thick, a band of one standard deviation around it."""
    _losses(runs, history.assign(x=history["epoch"]), axis)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("epoch")


def loss_against_seconds(runs: pd.DataFrame, history: pd.DataFrame, axis: Axes) -> None:
    """The same losses against the seconds of training that they took, on a logarithmic scale."""
    _losses(runs, history.assign(x=history.groupby("run_dir")["seconds"].cumsum()), axis)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(_plain)
    axis.set_xlabel("seconds of training")


def _losses(runs: pd.DataFrame, history: pd.DataFrame, axis: Axes) -> None:
    for name, colour, marker in _series(runs):
        seeds = history[history["configuration"] == name]
        count = seeds["run_dir"].nunique()
        if not count:
            continue
        for _, seed in seeds.groupby("run_dir") if count > 1 else ():
            axis.plot(seed["x"], seed["loss_mean"], color=colour, linewidth=0.6, alpha=0.45)
        # Where a seed has ended the others alone are not the configuration any more.
        epochs = seeds.groupby("epoch").filter(lambda rows, count=count: len(rows) == count).groupby("epoch")
        middle = epochs[["x", "loss_mean", "loss_std"]].median()
        axis.plot(
            middle["x"], middle["loss_mean"], color=colour, linewidth=1.8, label=name, marker=marker, markersize=3
        )
        low, high = middle["loss_mean"] - middle["loss_std"], middle["loss_mean"] + middle["loss_std"]
        axis.fill_between(middle["x"], low.clip(lower=_floor(runs)), high, color=colour, alpha=BAND, linewidth=0)
    _named_losses(runs, axis)
    axis.set_ylabel("mean loss of the epoch")
    _dress(axis)


def _floor(runs: pd.DataFrame) -> float:
    """What the loss cannot fall below: 1.4612 behind the softmax head, 0 without one."""
    return 0.0 if runs["model"].dropna().str.endswith("logits").any() else SOFTMAX_FLOOR


def _named_losses(runs: pd.DataFrame, axis: Axes) -> None:
    lines = [(float(loss), f"threshold {loss:g}", "--") for loss in runs["loss_threshold"].dropna().unique()]
    if _floor(runs):
        lines.append((SOFTMAX_FLOOR, f"floor {SOFTMAX_FLOOR:.4f}", ":"))
        axis.set_ylim(bottom=SOFTMAX_FLOOR - 0.07)
    for loss, name, style in lines:
        axis.axhline(loss, color=INK, linewidth=0.9, linestyle=style)
        axis.annotate(
            name, (1, loss), xycoords=("axes fraction", "data"), xytext=(0, -2), textcoords="offset points",
            ha="right", va="top", fontsize=8, color=INK,
        )  # fmt: skip


def seconds_per_epoch(runs: pd.DataFrame, axis: Axes) -> None:
    """Seconds per epoch against the batch size, both logarithmic: a mark a run."""
    _against_batch_size(runs, runs["seconds_per_epoch"], axis)
    axis.set_ylabel("seconds per epoch")


def seconds_to_threshold(runs: pd.DataFrame, axis: Axes) -> None:
    """Seconds until the loss was below the threshold; open: not reached in as many seconds of training."""
    spent = runs["seconds_per_epoch"] * runs["epochs"]
    _against_batch_size(runs, runs["seconds_to_threshold"], axis, otherwise=spent)
    axis.set_ylabel("seconds to the threshold")


def epochs_to_threshold(runs: pd.DataFrame, axis: Axes) -> None:
    """The first epoch below the threshold; open: not reached, at the last epoch trained."""
    _against_batch_size(runs, runs["first_epoch_below_threshold"], axis, otherwise=runs["epochs"])
    axis.set_ylabel("epochs to the threshold")


def iterations_to_threshold(runs: pd.DataFrame, axis: Axes) -> None:
    """Iterations until the threshold, with the line of perfect scaling (Shallue et al. 2019).

    Along that line twice the batch size needs half the iterations. It is drawn through the smallest batch size that
    got there.
    """
    reached = runs["first_epoch_below_threshold"] * runs["iterations_per_epoch"]
    _against_batch_size(runs, reached, axis, otherwise=runs["epochs"] * runs["iterations_per_epoch"])
    axis.set_ylabel("iterations to the threshold")
    there = runs.assign(iterations=reached).dropna(subset=["iterations"])
    if there["batch_size"].nunique() > 1:
        smallest = there["batch_size"].min()
        start = float(there.loc[there["batch_size"] == smallest, "iterations"].median())
        sizes = np.array([smallest, there["batch_size"].max()], dtype=float)
        axis.plot(sizes, start * smallest / sizes, color=INK, linestyle=":", linewidth=1, label="perfect scaling")
        _legend(axis)


def _against_batch_size(runs: pd.DataFrame, values: pd.Series, axis: Axes, otherwise: pd.Series | None = None) -> None:
    """A mark a run, moved aside a little where configurations share a batch size; `otherwise` is for the misses."""
    names = list(dict.fromkeys(runs["configuration"]))
    for name, colour, marker in _series(runs):
        own = runs["configuration"] == name
        aside = 1.04 ** (names.index(name) - (len(names) - 1) / 2)
        sizes = runs.loc[own, "batch_size"].astype(float) * aside
        axis.plot(sizes, values[own].astype(float), marker, color=colour, markersize=6, label=name, alpha=0.8)
        if otherwise is not None:
            missed = otherwise[own].where(values[own].isna()).astype(float)
            axis.plot(sizes, missed, marker, color=colour, markersize=6, markerfacecolor="none")
    axis.set_xscale("log")
    axis.set_yscale("log")
    sizes = sorted(runs["batch_size"].dropna().unique())
    axis.set_xticks([float(size) for size in sizes], [str(size) for size in sizes])
    axis.xaxis.set_minor_locator(NullLocator())
    lowest, highest = axis.yaxis.get_data_interval()
    # Within a few powers of ten, the powers alone would leave an axis with one number or none.
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if highest < 100 * lowest else (1,)))
    axis.yaxis.set_major_formatter(_plain)
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("batch size")
    _dress(axis)


def cost_of_iterations_and_examples(runs: pd.DataFrame) -> tuple[float, float] | None:
    """Seconds an iteration and seconds an example, fitted to seconds per epoch = a x iterations + b x examples.

    Non-negative least squares on relative errors over all runs; None where fewer than two batch sizes were timed.
    """
    timed = runs.dropna(subset=["seconds_per_epoch", "iterations_per_epoch", "train_samples"])
    if timed["iterations_per_epoch"].nunique() < 2:
        return None
    terms = timed[["iterations_per_epoch", "train_samples"]].to_numpy(float)
    seconds = timed["seconds_per_epoch"].to_numpy(float)
    (iteration, example), _ = nnls(terms / seconds[:, None], np.ones(len(seconds)))
    return float(iteration), float(example)


def cost_split(runs: pd.DataFrame, axis: Axes) -> None:
    """The fit's two parts of an epoch's seconds, stacked for every batch size, and the median measured beside them."""
    cost = cost_of_iterations_and_examples(runs)
    if cost is None:
        return
    iteration, example = cost
    sizes = runs.dropna(subset=["seconds_per_epoch"]).groupby("batch_size", sort=True)
    measured, first = sizes["seconds_per_epoch"].median().astype(float), sizes.first()
    places = np.arange(len(first))
    examples = first["train_samples"].to_numpy(float) * example
    iterations = first["iterations_per_epoch"].to_numpy(float) * iteration
    axis.bar(places, examples, width=0.55, color=SERIES[0], label=f"{example * 1e6:.3g} \u00b5s an example")
    axis.bar(
        places,
        iterations,
        width=0.55,
        bottom=examples,
        color=SERIES[1],
        label=f"{iteration * 1e6:.3g} \u00b5s an iteration",
    )
    axis.plot(places, measured, "o", color=INK, markersize=5, label="measured")
    axis.set_xticks(places, [str(size) for size in first.index])
    axis.set_xlabel("batch size")
    axis.set_ylabel("seconds per epoch")
    _dress(axis)


def fraction_reached(runs: pd.DataFrame, axis: Axes) -> None:
    """The share of a configuration's runs that are below the threshold by an epoch, a step line each."""
    last = runs["epochs"].max()
    for place, (name, colour, _) in enumerate(_series(runs)):
        own = runs.loc[runs["configuration"] == name, "first_epoch_below_threshold"]
        reached = sorted(own.dropna().astype(int))
        shares = [(index + 1) / len(own) for index in range(len(reached))]
        # Lines that coincide are all seen, because the later ones are thinner.
        width = max(4 - 0.8 * place, 0.8)
        epochs, shares = [0, *reached, last], [0.0, *shares, shares[-1] if shares else 0.0]
        axis.step(epochs, shares, where="post", color=colour, label=name, linewidth=width)
    axis.set_ylim(-0.03, 1.05)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("epoch")
    axis.set_ylabel("share of the runs")
    _dress(axis)


def answers_of_misses(answers: pd.DataFrame, axis: Axes) -> None:
    """How often a run that missed the threshold answers each class: a row a run, a disc a class, 0 in a frame.

    `answers` has a row a run, the run's name as its index, and the number of answers on the test digits for each class.
    """
    counts = answers.to_numpy(float)
    rows, columns = np.indices(counts.shape)
    axis.scatter(columns, rows, s=230 * counts / max(counts.max(), 1), color=SERIES[0], alpha=0.35, linewidth=0)
    for row, name in enumerate(answers.index):
        axis.text(-0.5, row - 0.36, str(name), ha="left", va="center", fontsize=7)
    for (row, column), count in np.ndenumerate(counts):
        style = {} if count else {"bbox": {"boxstyle": "square", "fill": False, "edgecolor": SERIES[1]}}
        axis.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=7, **style)
    axis.set_xticks(range(counts.shape[1]), [str(each) for each in answers.columns])
    axis.set_yticks([])
    axis.set_ylim(len(answers) - 0.5, -0.6)
    axis.set_xlabel("class, and how many test digits are answered with it")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def _series(runs: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Name, colour and marker of every configuration: the same in all figures."""
    for place, name in enumerate(dict.fromkeys(runs["configuration"])):
        yield str(name), SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]


def _dress(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    _legend(axis)


def _legend(axis: Axes) -> None:
    if axis.get_legend_handles_labels()[1]:
        # Above the axes it hides nothing, whatever is drawn.
        axis.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8, borderaxespad=0.2,
            columnspacing=1.2, handlelength=1.6,
        )  # fmt: skip


def _plain(value: float, _: object = None) -> str:
    """A tick's number as a person writes it."""
    return f"{value:,g}"
