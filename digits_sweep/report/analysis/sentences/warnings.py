"""List what a reader has to know before relying on a sweep's figures: what went wrong, and what was mixed."""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import pandas as pd

from digits_sweep.report.analysis.sentences.formatting import counted, listed
from digits_sweep.report.analysis.sentences.predictions import on_predictions
from digits_sweep.report.analysis.study import Study
from digits_sweep.report.language import said
from digits_sweep.results.columns import COLUMNS
from digits_sweep.results.record import Status

Said = TypeVar("Said", bound=Hashable)
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


def _by(pairs: Iterable[tuple[Said, str]]) -> dict[Said, list[str]]:
    """Return the names of runs by what is said of them."""
    found: dict[Said, list[str]] = {}
    for what, name in pairs:
        found.setdefault(what, []).append(name)
    return found


def _ends(study: Study) -> Iterator[str]:
    runs = study.runs
    failed = runs[runs["status"] == Status.FAILED.value]
    for why, names in _by(zip(failed["error"].astype(str), failed["run_dir"], strict=True)).items():
        epochs = failed.set_index("run_dir")["epochs"].fillna(0)
        yield said(
            "{name} failed after {epochs}: {why}" if len(names) == 1 else "{count} runs failed ({names}): {why}",
            name=names[0], epochs=counted(int(epochs[names[0]]), "epoch"), count=len(names), names=listed(names),
            why=why,
        )  # fmt: skip
    diverged = runs[runs["status"] == Status.DIVERGED.value]
    if len(diverged) == 1:
        run = diverged.iloc[0]
        yield said(
            "{name} diverged: the mean loss of epoch {epoch} is {loss}.",
            name=run["run_dir"], epoch=run["epochs"], loss=run["final_loss"],
        )  # fmt: skip
    elif len(diverged):
        yield said("{count} runs diverged: {names}.", count=len(diverged), names=listed(diverged["run_dir"]))
    stopped = runs[runs["status"] == Status.INTERRUPTED.value]
    whys = ["" if pd.isna(error) else f" ({error})" for error in stopped["error"]]
    for why, names in _by(zip(whys, stopped["run_dir"], strict=True)).items():
        if len(names) == 1:
            epochs = stopped.set_index("run_dir")["epochs"].fillna(0)
            after = counted(int(epochs[names[0]]), "epoch")
            yield said(
                "{name} was interrupted after {epochs} or is still running{why}; the medians leave it out.",
                name=names[0], epochs=after, why=why,
            )  # fmt: skip
        else:
            yield said(
                "{count} runs were interrupted or are still running{why}; the medians leave them out: {names}.",
                count=len(names), why=why, names=listed(names),
            )  # fmt: skip


def _resumed(study: Study) -> Iterator[str]:
    resumed = study.runs[study.runs["resumes"].fillna(0) > 0]
    if len(resumed) == 1:
        run = resumed.iloc[0]
        yield said(
            "{name} was resumed {times}: its losses are those of an uninterrupted run, but its seconds come from "
            "several processes.",
            name=run["run_dir"], times=counted(run["resumes"], "time"),
        )  # fmt: skip
    elif len(resumed):
        yield said(
            "{count} runs were resumed: their losses are those of uninterrupted runs, but their seconds come from "
            "several processes: {names}.",
            count=len(resumed), names=listed(resumed["run_dir"]),
        )  # fmt: skip


def _not_started(study: Study) -> Iterator[str]:
    expected = study.manifest.runs if study.manifest else []
    started = set(study.runs["run_dir"])
    if missing := [name for name in expected if name not in started]:
        yield said(
            "{count} of {runs} not started: {names}.",
            count=len(missing), runs=counted(len(expected), "run"), names=listed(missing),
        )  # fmt: skip


def _mixtures(study: Study) -> Iterator[str]:
    for column in COLUMNS:
        values = study.runs[column.name].dropna().unique() if column.mixture else ()
        if len(values) > 1:
            yield said(
                "The runs mix {count} {things}: {values}.",
                count=len(values), things=said(str(column.mixture)), values=listed(values),
            )  # fmt: skip


def _resumed_elsewhere(study: Study) -> Iterator[str]:
    """Runs that were resumed with another version, commit or machine than they started with."""
    pairs = []
    for name, record in study.records.items():
        for before, after in pairwise(record.environments):
            names = [key for key in (*before, *after) if key != "from_epoch" and before.get(key) != after.get(key)]
            changed = listed(name.replace("_", " ") for name in dict.fromkeys(names))
            pairs.append((changed, after.get("from_epoch"), name))
    for (changed, epoch), names in _by(((changed, epoch), name) for changed, epoch, name in pairs).items():
        yield said(
            "{names} was trained with another {changed} from epoch {epoch} on."
            if len(names) == 1
            else "{names} were trained with another {changed} from epoch {epoch} on.",
            names=listed(names), changed=changed, epoch=epoch,
        )  # fmt: skip


def _misfits(study: Study) -> Iterator[str]:
    kept = study.runs[~study.runs["status"].isin([Status.FAILED.value, Status.INTERRUPTED.value])]
    noted = kept.dropna(subset=["error"])
    for why, names in _by(zip(noted["error"].astype(str), noted["run_dir"], strict=True)).items():
        yield said(
            "{names}: {why}; the figures leave it out."
            if len(names) == 1
            else "{names}: {why}; the figures leave them out.",
            names=listed(names), why=why,
        )  # fmt: skip


def _machines(study: Study) -> Iterator[str]:
    environments = (each for record in study.records.values() for each in record.environments)
    machines = {f"{environment.get('host')} ({environment.get('cpu')})" for environment in environments}
    if len(machines) > 1:
        yield said(
            "The runs mix {count} machines: {names}. Their seconds are not comparable.",
            count=len(machines), names=listed(sorted(machines)),
        )  # fmt: skip


def _threads(study: Study) -> Iterator[str]:
    for batch_size, group in study.runs.groupby("batch_size"):
        threads = sorted(group["num_threads"].dropna().unique())
        if len(threads) > 1:
            yield said(
                "At batch size {size} the runs mix numbers of threads: {threads}.",
                size=batch_size, threads=listed(threads),
            )  # fmt: skip


def _lengths(study: Study) -> Iterator[str]:
    misses = study.runs[
        study.runs["first_epoch_below_threshold"].isna() & (study.runs["status"] == Status.COMPLETED.value)
    ]
    lengths = sorted(misses["epochs"].unique())
    if len(lengths) > 1:
        yield said(
            "The runs that missed the threshold were not trained equally long: {lengths} epochs.",
            lengths=listed(lengths),
        )


def _timing(study: Study) -> Iterator[str]:
    together = study.runs[study.runs["concurrent_runs"].fillna(1) > 1]
    if len(together):
        yield said(
            "{runs} shared the machine (up to {most} at once): the seconds are longer than those of a run alone.",
            runs=counted(len(together), "run"), most=together["concurrent_runs"].max(),
        )  # fmt: skip
    if len(unsteady := _unsteady(study.history)):
        yield said(
            "The epochs of {runs} of {all} were timed unsteadily: the middle half of them spreads over more than "
            "{limit:.0%} of the median, in {name} over {most:.0%}. Another program may have used the machine.",
            runs=counted(len(unsteady), "run"), all=len(study.runs), limit=UNSTEADY, name=unsteady.idxmax(),
            most=unsteady.max(),
        )  # fmt: skip


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
            yield said(
                "Trained on {used} instead of {requested}: {note}.",
                used=choice.used, requested=choice.requested, note=choice.note,
            )  # fmt: skip
