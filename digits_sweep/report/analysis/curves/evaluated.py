"""The courses of the runs that were evaluated at frozen weights: loss and gradient noise scale against examples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Course:
    """A run: after so many `examples` the `loss` at frozen weights, and the noise scale, NaN if it was not measured."""

    run: str
    configuration: str
    examples: list[float]
    loss: list[float]
    noise_scale: list[float]


def courses(evaluations: pd.DataFrame) -> list[Course]:
    """Return the course of every run with an evaluation; `evaluations` is a study's."""
    return [
        Course(
            str(name),
            str(rows["configuration"].iloc[0]),
            rows["examples"].tolist(),
            rows["train_loss"].tolist(),
            rows["noise_scale"].tolist(),
        )
        for name, rows in evaluations.groupby("run_dir", sort=False)
    ]


def with_noise_scale(found: Sequence[Course]) -> list[Course]:
    """Return the courses along which a noise scale was measured, those points alone.

    An estimate of |G|^2 from few digits may be 0 or below: then the noise scale is no number above 0, and left out.
    """
    measured = []
    for course in found:
        kept = [place for place, scale in enumerate(course.noise_scale) if np.isfinite(scale) and scale > 0]
        if kept:
            columns = (course.examples, course.loss, course.noise_scale)
            measured.append(
                Course(course.run, course.configuration, *([column[place] for place in kept] for column in columns))
            )
    return measured
