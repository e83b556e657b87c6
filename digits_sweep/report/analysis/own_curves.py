"""What a page shows of a run alone: its losses as a curve, its evaluations, and its configuration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from digits_sweep.config.keys import flat
from digits_sweep.config.text import to_text
from digits_sweep.report.analysis.sentences.formatting import cell
from digits_sweep.report.analysis.study import Study
from digits_sweep.report.language import said
from digits_sweep.results.record import Record

# A curve of more points, and a table of more rows, shows no more.
MOST_POINTS, MOST_ROWS = 60, 12
# Of more runs a page has the curves only, without the numbers.
MOST_WITH_NUMBERS = 400
WIDE, HIGH = 320, 90


@dataclass(frozen=True)
class OwnCurve:
    """One run: `points` are those of its losses in a box of 320 by 90, `threshold` is the threshold's height there.

    `losses` and `evaluations` are rows of text without a header, `settings` the keys in which it differs from others.
    """

    number: int
    name: str
    status: str
    points: str
    threshold: float | None
    text: str
    losses: list[list[str]]
    evaluations: list[list[str]]
    settings: list[tuple[str, str]]


def own_curves(study: Study, first: int = 0) -> list[OwnCurve]:
    """Return one for every run in the order of the table; `first` is the number of the first one on the page."""
    epochs = dict(iter(study.history.groupby("run_dir")))
    evaluations = dict(iter(study.evaluations.groupby("run_dir")))
    scale = _scale(study)
    own = differing_settings(study)
    with_numbers = len(study.runs) <= MOST_WITH_NUMBERS
    found = []
    for number, run in enumerate(study.runs.to_dict("records"), first):
        name = str(run["run_dir"])
        history, evaluated = epochs.get(name), evaluations.get(name)
        losses = history["loss_mean"].astype(float).tolist() if history is not None else []
        threshold = None if pd.isna(run["loss_threshold"]) else _height(float(run["loss_threshold"]), scale)
        found.append(
            OwnCurve(
                number=number,
                name=name,
                status=said(cell(run["status"])),
                points=_points(losses, scale),
                threshold=threshold,
                text=_text(losses),
                losses=_rows(history, LOSSES) if with_numbers and history is not None else [],
                evaluations=_rows(evaluated, EVALUATIONS) if with_numbers and evaluated is not None else [],
                settings=own.get(name, []) if with_numbers else [],
            )
        )
    return found


def common_settings(study: Study) -> list[tuple[str, str]]:
    """Return the keys and values that are the same in the configurations of all runs."""
    configs = [_config(record) for record in study.records.values()]
    first = configs[0] if configs else {}
    return [(key, value) for key, value in first.items() if all(each.get(key) == value for each in configs)]


def differing_settings(study: Study) -> dict[str, list[tuple[str, str]]]:
    """Return for every run the keys in which the runs differ, with its values."""
    common = {key for key, _ in common_settings(study)}
    configs = {name: _config(record) for name, record in study.records.items()}
    return {
        name: [(key, value) for key, value in config.items() if key not in common] for name, config in configs.items()
    }


def _config(record: Record) -> dict[str, str]:
    return {str(key): to_text(value) for key, value in flat(record.config)}


def _scale(study: Study) -> tuple[float, float]:
    """Return the least and the greatest loss of all runs: their curves can be compared."""
    losses = [*study.history["loss_mean"].astype(float), *study.runs["loss_threshold"].dropna().astype(float)]
    finite = [loss for loss in losses if math.isfinite(loss)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def _height(loss: float, scale: tuple[float, float]) -> float:
    low, high = scale
    return round(HIGH - 5 - (HIGH - 10) * (loss - low) / (high - low or 1), 1)


def _points(losses: Sequence[float], scale: tuple[float, float]) -> str:
    places = [place for place in _spread(len(losses), MOST_POINTS) if math.isfinite(losses[place])]
    step = (WIDE - 10) / max(len(losses) - 1, 1)
    return " ".join(f"{5 + place * step:.1f},{_height(losses[place], scale)}" for place in places)


def _text(losses: Sequence[float]) -> str:
    if not losses:
        return said("no epoch")
    return said(
        "Loss from {first:.4f} in epoch 1 to {last:.4f} in epoch {epochs}",
        first=losses[0], last=losses[-1], epochs=len(losses),
    )  # fmt: skip


LOSSES = (("epoch", "d"), ("loss_mean", ".4f"), ("loss_std", ".4f"), ("seconds", ".3g"))
EVALUATIONS = (
    *(("examples", ",.0f"), ("train_loss", ".4f"), ("train_error", ".2%")),
    *(("test_loss", ".4f"), ("test_error", ".2%")),
)


def _rows(table: pd.DataFrame, forms: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Write some columns of a table, of a long one some rows. By columns: row by row it takes ten times as long."""
    places = _spread(len(table), MOST_ROWS)
    columns = [table[name].tolist() for name, _ in forms]
    return [[cell(values[place], form) for values, (_, form) in zip(columns, forms, strict=True)] for place in places]


def _spread(count: int, most: int) -> list[int]:
    """Return places from the first to the last of `count`, evenly, at most so many."""
    if count <= most:
        return list(range(count))
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)})
