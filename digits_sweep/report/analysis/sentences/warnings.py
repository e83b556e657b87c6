"""List what a reader has to know before relying on a sweep's figures: what went wrong, and what was mixed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from digits_sweep.report.analysis.sentences.formatting import counted, listed
from digits_sweep.report.analysis.sentences.predictions import on_predictions
from digits_sweep.report.analysis.study import Study
from digits_sweep.results.columns import COLUMNS
from digits_sweep.results.run.record import Status

# Timing is unsteady if the middle half of a run's epochs spreads over more than this share of their median.
UNSTEADY = 0.10


@dataclass(frozen=True)
class Caution:
    """A sentence for one kind of thing that went wrong; does it bear on what the verdict says?"""

    text: str
    bears_on_verdict: bool = False

    def __str__(self) -> str:
        return self.text


def warnings(study: Study) -> list[Caution]:
    """Return a sentence for every kind of thing that went wrong in a sweep or that limits what its figures show."""
    bearing = (*_timing(study), *_machines(study), *_data(study))
    parts = (_ends, _resumed, _not_started, on_predictions, _misfits, _mixtures, _resumed_elsewhere, _threads, _lengths)
    rest = (sentence for part in parts for sentence in part(study))
    return [*(Caution(text, bears_on_verdict=True) for text in bearing), *map(Caution, rest)]


def _by(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the names of runs by what is said of them."""
    found: dict[str, list[str]] = {}
    for said, name in pairs:
        found.setdefault(said, []).append(name)
    return found


def _ends(study: Study) -> Iterator[str]:
    runs = study.runs
    failed = runs[runs["status"] == Status.FAILED.value]
    for why, names in _by(zip(failed["error"].astype(str), failed["run_dir"], strict=True)).items():
        epochs = failed.set_index("run_dir")["epochs"].fillna(0)
        yield (
            f"{names[0]} failed after {counted(int(epochs[names[0]]), 'epoch')}: {why}"
            if len(names) == 1
            else f"{len(names)} runs failed ({listed(names)}): {why}"
        )
    diverged = runs[runs["status"] == Status.DIVERGED.value]
    if len(diverged) == 1:
        run = diverged.iloc[0]
        yield f"{run['run_dir']} diverged: the mean loss of epoch {run['epochs']} is {run['final_loss']}."
    elif len(diverged):
        yield f"{len(diverged)} runs diverged: {listed(diverged['run_dir'])}."
    stopped = runs[runs["status"] == Status.INTERRUPTED.value]
    whys = ["" if pd.isna(error) else f" ({error})" for error in stopped["error"]]
    for why, names in _by(zip(whys, stopped["run_dir"], strict=True)).items():
        if len(names) == 1:
            epochs = stopped.set_index("run_dir")["epochs"].fillna(0)
            after = counted(int(epochs[names[0]]), "epoch")
            yield f"{names[0]} was interrupted after {after} or is still running{why}; the medians leave it out."
        else:
            yield (
                f"{len(names)} runs were interrupted or are still running{why}; the medians leave them out: "
                f"{listed(names)}."
            )


def _resumed(study: Study) -> Iterator[str]:
    resumed = study.runs[study.runs["resumes"].fillna(0) > 0]
    if len(resumed) == 1:
        run = resumed.iloc[0]
        yield (
            f"{run['run_dir']} was resumed {counted(run['resumes'], 'time')}: its losses are those of an uninterrupted "
            "run, but its seconds come from several processes."
        )
    elif len(resumed):
        yield (
            f"{len(resumed)} runs were resumed: their losses are those of uninterrupted runs, but their seconds come "
            f"from several processes: {listed(resumed['run_dir'])}."
        )


def _not_started(study: Study) -> Iterator[str]:
    expected = study.manifest.runs if study.manifest else []
    started = set(study.runs["run_dir"])
    if missing := [name for name in expected if name not in started]:
        yield f"{len(missing)} of {counted(len(expected), 'run')} not started: {listed(missing)}."


def _mixtures(study: Study) -> Iterator[str]:
    for column in COLUMNS:
        values = study.runs[column.name].dropna().unique() if column.mixture else ()
        if len(values) > 1:
            yield f"The runs mix {len(values)} {column.mixture}: {listed(values)}."


def _resumed_elsewhere(study: Study) -> Iterator[str]:
    """Runs that were resumed with another version, commit or machine than they started with."""
    pairs = []
    for name, record in study.records.items():
        for before, after in pairwise(record.environments):
            names = [key for key in (*before, *after) if key != "from_epoch" and before.get(key) != after.get(key)]
            changed = listed(name.replace("_", " ") for name in dict.fromkeys(names))
            pairs.append((f"trained with another {changed} from epoch {after.get('from_epoch')} on", name))
    for said, names in _by(pairs).items():
        yield f"{listed(names)} {'was' if len(names) == 1 else 'were'} {said}."


def _misfits(study: Study) -> Iterator[str]:
    kept = study.runs[~study.runs["status"].isin([Status.FAILED.value, Status.INTERRUPTED.value])]
    noted = kept.dropna(subset=["error"])
    for why, names in _by(zip(noted["error"].astype(str), noted["run_dir"], strict=True)).items():
        yield f"{listed(names)}: {why}; the figures leave {'it' if len(names) == 1 else 'them'} out."


def _machines(study: Study) -> Iterator[str]:
    environments = (each for record in study.records.values() for each in record.environments)
    machines = {f"{environment.get('host')} ({environment.get('cpu')})" for environment in environments}
    if len(machines) > 1:
        yield f"The runs mix {len(machines)} machines: {listed(sorted(machines))}. Their seconds are not comparable."


def _threads(study: Study) -> Iterator[str]:
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
