"""Loops of somebody else's for the tests: a recorder with usual arguments, epochs of given losses, what came of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep import Recorder, load_sweep
from digits_sweep.report.sentences import verdict
from digits_sweep.report.study import Study, load_study

# Five iterations of 20 examples, and at most one problem a test.
USUAL: dict[str, Any] = {"batch_size": 20, "train_samples": 100, "lr": 1e-3, "loss_threshold": 0.5}


def recorder(folder: Path, **changed: Any) -> Recorder:
    return Recorder(folder / "outputs" / "sweeps" / "mine", **(USUAL | changed))


def epoch(run: Recorder, losses: Any) -> None:
    with run.epoch():
        for loss in losses:
            run.step(loss)


def row(run: Recorder) -> pd.Series:
    """The run's row in the table of its sweep."""
    table = load_sweep(run.sweep_dir)
    return table[table["run_dir"] == run.run_dir.name].iloc[0]


def losses_of(run: Recorder) -> list[float]:
    return np.load(run.run_dir / "losses.npy").tolist()


def counted(run: Recorder) -> Study:
    """The study of the run's sweep; the report counts every run of it."""
    study = load_study(run.sweep_dir)
    assert not (study.runs["status"] == "unknown").any(), study.runs["error"].tolist()
    return study


def says(run: Recorder) -> str:
    """The verdict on the run's sweep."""
    return verdict(counted(run))
