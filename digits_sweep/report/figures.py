"""Figures of a sweep, each a function that draws on a matplotlib axis."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from digits_sweep.results.outcome import softmax_floor
from digits_sweep.results.record import read_history

# Okabe and Ito's palette: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SOFTMAX_FLOOR = softmax_floor(10)


def loss_against_epoch(summary: pd.DataFrame, sweep_dir: Path, axis: Axes) -> None:
    """Every run's mean loss against the epoch, a band of one standard deviation around it, threshold and floor named.

    `summary` is what `load_sweep(sweep_dir)` gives. A run without a history is left out.
    """
    for (_, run), colour in zip(summary.iterrows(), COLOURS * len(summary), strict=False):
        if not (sweep_dir / run["run_dir"] / "history.csv").exists():
            continue
        history = read_history(sweep_dir / run["run_dir"])
        epochs = [row.epoch for row in history]
        losses = [row.loss_mean for row in history]
        label = f"batch size {run['batch_size']}, lr {run['lr']:g}"
        axis.plot(epochs, losses, color=colour, label=label, marker=".", markersize=4, linewidth=1.4)
        low = [max(row.loss_mean - row.loss_std, SOFTMAX_FLOOR) for row in history]
        high = [row.loss_mean + row.loss_std for row in history]
        axis.fill_between(epochs, low, high, color=colour, alpha=0.12, linewidth=0)
    for threshold in summary["loss_threshold"].dropna().unique():
        _named_line(axis, threshold, f"threshold {threshold:g}", "--")
    if not summary["model"].dropna().str.endswith("logits").any():
        _named_line(axis, SOFTMAX_FLOOR, f"floor {SOFTMAX_FLOOR:.4f}", ":")
        axis.set_ylim(bottom=SOFTMAX_FLOOR - 0.07)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("epoch")
    axis.set_ylabel("mean loss of the epoch's iterations")
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _named_line(axis: Axes, loss: float, name: str, style: str) -> None:
    axis.axhline(loss, color="#555555", linewidth=0.9, linestyle=style)
    axis.annotate(
        name, (1, loss), xycoords=("axes fraction", "data"), xytext=(0, -3), textcoords="offset points",
        ha="right", va="top", fontsize=8,
    )  # fmt: skip


def draw(summary: pd.DataFrame, sweep_dir: Path, path: Path) -> None:
    """Write `loss_against_epoch` to `path`; its ending says the format, such as .svg or .png."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    figure.patch.set_facecolor("white")
    loss_against_epoch(summary, sweep_dir, figure.subplots())
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
