"""List what a reader has to know before relying on a sweep's figures: what went wrong, and what was mixed."""

from collections.abc import Iterator
from itertools import pairwise

import pandas as pd

from digits_sweep.report.analysis.sentences.formatting import counted, listed
from digits_sweep.report.analysis.statistics.curves import never_predicted
from digits_sweep.report.analysis.study import Study
from digits_sweep.results.columns import COLUMNS
from digits_sweep.results.record import Status

# Timing is unsteady if the middle half of a run's epochs spreads over more than this share of their median.
UNSTEADY = 0.10


def warnings(study: Study) -> list[str]:
    """Return a sentence for everything that went wrong in a sweep or that limits what its figures show."""
    runs, sweep = (_ends, _not_started, _predictions, _misfits), (_mixtures, _resumed_elsewhere, _machines, _lengths)
    parts = (*runs, *sweep, _timing, _data)
    return [sentence for part in parts for sentence in part(study)]


def _ends(study: Study) -> Iterator[str]:
    for _, run in study.runs.iterrows():
        name = run["run_dir"]
        epochs = counted(0 if pd.isna(run["epochs"]) else run["epochs"], "epoch")
        if run["status"] == Status.FAILED.value:
            yield f"{name} failed after {epochs}: {run['error']}"
        elif run["status"] == Status.DIVERGED.value:
            yield f"{name} diverged: the mean loss of epoch {run['epochs']} is {run['final_loss']}."
        elif run["status"] == Status.INTERRUPTED.value:
            why = "" if pd.isna(run["error"]) else f" ({run['error']})"
            yield f"{name} was interrupted after {epochs} or is still running{why}; the medians leave it out."
        if not pd.isna(run["resumes"]) and run["resumes"]:
            yield (
                f"{name} was resumed {counted(run['resumes'], 'time')}: its losses are those of an uninterrupted run, "
                "but its seconds come from several processes."
            )


def _not_started(study: Study) -> Iterator[str]:
    expected = study.manifest.runs if study.manifest else []
    started = set(study.runs["run_dir"])
    if missing := [name for name in expected if name not in started]:
        yield f"{len(missing)} of {counted(len(expected), 'run')} not started: {listed(missing)}."


def _predictions(study: Study) -> Iterator[str]:
    for name, counts in study.predictions.iterrows():
        if never := never_predicted(counts):
            yield (
                f"{name} never predicts {listed(never)}: its loss is on a plateau. With the softmax, every digit that "
                "is never predicted costs about 0.1 of loss."
            )


def _mixtures(study: Study) -> Iterator[str]:
    for column in COLUMNS:
        values = study.runs[column.name].dropna().unique() if column.mixture else ()
        if len(values) > 1:
            yield f"The runs mix {len(values)} {column.mixture}: {listed(values)}."


def _resumed_elsewhere(study: Study) -> Iterator[str]:
    """A run that was resumed with another version, commit or machine than it started with."""
    for name, record in study.records.items():
        for before, after in pairwise(record.environments):
            names = [key for key in (*before, *after) if key != "from_epoch" and before.get(key) != after.get(key)]
            changed = listed(name.replace("_", " ") for name in dict.fromkeys(names))
            yield f"{name} was trained with another {changed} from epoch {after.get('from_epoch')} on."


def _misfits(study: Study) -> Iterator[str]:
    for _, run in study.runs[study.runs["status"] != Status.FAILED.value].dropna(subset=["error"]).iterrows():
        if run["status"] != Status.INTERRUPTED.value:
            yield f"{run['run_dir']}: {run['error']}; the figures leave it out."


def _machines(study: Study) -> Iterator[str]:
    environments = (each for record in study.records.values() for each in record.environments)
    machines = {f"{environment.get('host')} ({environment.get('cpu')})" for environment in environments}
    if len(machines) > 1:
        yield f"The runs mix {len(machines)} machines: {listed(sorted(machines))}. Their seconds are not comparable."
    for batch_size, group in study.runs.groupby("batch_size"):
        threads = sorted(group["num_threads"].dropna().unique())
        if len(threads) > 1:
            yield f"At batch size {batch_size} the runs mix numbers of threads: {listed(threads)}."


def _lengths(study: Study) -> Iterator[str]:
    misses = study.runs[
        study.runs["first_epoch_below_threshold"].isna() & (study.runs["status"] == Status.COMPLETED.value)
    ]
    lengths = sorted(misses["epochs"].unique())
    if len(lengths) > 1:
        yield f"The runs that missed the threshold were not trained equally long: {listed(lengths)} epochs."


def _timing(study: Study) -> Iterator[str]:
    together = study.runs[study.runs["concurrent_runs"].fillna(1) > 1]
    if len(together):
        yield (
            f"{counted(len(together), 'run')} shared the machine (up to {together['concurrent_runs'].max()} at once): "
            "the seconds are longer than those of a run alone."
        )
    if len(unsteady := _unsteady(study.history)):
        yield (
            f"The epochs of {counted(len(unsteady), 'run')} of {len(study.runs)} were timed unsteadily: the middle "
            f"half of them spreads over more than {UNSTEADY:.0%} of the median, in {unsteady.idxmax()} over "
            f"{unsteady.max():.0%}. Another program may have used the machine."
        )


def _unsteady(history: pd.DataFrame) -> pd.Series:
    """Return the spread of the epochs' seconds, as a share of their median, of every run whose timing is unsteady.

    The first epoch is left out: it pays for warming up.
    """
    seconds = history[history["epoch"] > 1].groupby("run_dir")["seconds"]
    spread = (seconds.quantile(0.75) - seconds.quantile(0.25)) / seconds.median()
    return spread[spread > UNSTEADY]


def _data(study: Study) -> Iterator[str]:
    for choice in study.manifest.datasets if study.manifest else ():
        if choice.note:
            yield f"Trained on {choice.used} instead of {choice.requested}: {choice.note}."
