"""What a reader has to know before believing a sweep's figures: what went wrong, and what was mixed."""

from collections.abc import Iterator

import pandas as pd

from digits_sweep.report.analysis.formatting import counted, listed
from digits_sweep.report.analysis.study import Study

# Beyond this share of the median, the middle half of a run's epochs is spread too wide to be called steady.
UNSTEADY = 0.10
MIXED = {
    "engine": "engines",
    "device": "devices",
    "dataset": "data sets",
    "loss_threshold": "thresholds",
    "torch_version": "versions of torch",
    "git_commit": "commits of this program",
}


def concerns(study: Study) -> list[str]:
    """A sentence for everything that went wrong in a sweep or makes its figures less than they seem."""
    return [sentence for part in (_ends, _answers, _mixtures, _timing, _data) for sentence in part(study)]


def _ends(study: Study) -> Iterator[str]:
    for _, run in study.runs.iterrows():
        name, epochs = run["run_dir"], 0 if pd.isna(run["epochs"]) else run["epochs"]
        if run["status"] == "failed":
            yield f"{name} failed after {counted(epochs, 'epoch')}: {run['error']}"
        elif run["status"] == "diverged":
            yield f"{name} diverged: the mean loss of epoch {epochs} is {run['final_loss']}."
        elif run["status"] == "interrupted":
            why = "" if pd.isna(run["error"]) else f" ({run['error']})"
            yield f"{name} stands at epoch {epochs}, interrupted or still running{why}; the medians leave it out."
        if not pd.isna(run["resumes"]) and run["resumes"]:
            yield (
                f"{name} was picked up again {counted(run['resumes'], 'time')}: its losses are those of an undisturbed "
                "run, its seconds come from several processes."
            )
    begun = set(study.runs["run_dir"])
    expected = study.manifest.runs if study.manifest else []
    if missing := [name for name in expected if name not in begun]:
        yield f"{counted(len(missing), 'run')} of {len(expected)} not begun: {listed(missing)}."


def _answers(study: Study) -> Iterator[str]:
    for name, record in study.records.items():
        never = [str(digit) for digit, count in enumerate(record.test_answers or ()) if not count]
        if never:
            yield (
                f"{name} never answers {listed(never)}: a plateau. Behind the softmax each digit that is never "
                "predicted costs about 0.1 of loss."
            )


def _mixtures(study: Study) -> Iterator[str]:
    for column, words in MIXED.items():
        values = list(study.runs[column].dropna().unique())
        if len(values) > 1:
            yield f"The runs mix {len(values)} {words}: {listed(str(each) for each in values)}."
    machines = {
        f"{record.environment.get('host')} ({record.environment.get('cpu')})" for record in study.records.values()
    }
    if len(machines) > 1:
        yield f"The runs mix {len(machines)} machines: {listed(sorted(machines))}. Their seconds do not compare."
    for name, group in study.runs.groupby("batch_size"):
        threads = sorted(group["num_threads"].dropna().unique())
        if len(threads) > 1:
            yield f"At batch size {name} the runs mix numbers of threads: {listed(str(each) for each in threads)}."
    misses = study.runs[study.runs["first_epoch_below_threshold"].isna() & (study.runs["status"] == "completed")]
    if misses["epochs"].nunique() > 1:
        lengths = listed(str(each) for each in sorted(misses["epochs"].unique()))
        yield f"The runs that missed the threshold were not trained equally long: {lengths} epochs."


def _timing(study: Study) -> Iterator[str]:
    together = study.runs[study.runs["concurrent_runs"].fillna(1) > 1]
    if len(together):
        yield (
            f"{counted(len(together), 'run')} shared the machine (up to {together['concurrent_runs'].max()} at once): "
            "their seconds are longer than those of a run alone."
        )
    if len(unsteady := _unsteady(study)):
        worst, spread = max(unsteady.items(), key=lambda run: run[1])
        yield (
            f"The epochs of {counted(len(unsteady), 'run')} of {len(study.runs)} were timed unsteadily: the middle "
            f"half of them spreads over more than {UNSTEADY:.0%} of the median, in {worst} over {spread:.0%}. "
            "Something else used the machine."
        )


def _unsteady(study: Study) -> pd.Series:
    """The spread of the epochs' seconds of every run that is too wide, the first epoch left out."""
    seconds = study.history[study.history["epoch"] > 1].groupby("run_dir")["seconds"]
    spread = (seconds.quantile(0.75) - seconds.quantile(0.25)) / seconds.median()
    return spread[spread > UNSTEADY]


def _data(study: Study) -> Iterator[str]:
    for choice in study.manifest.datasets if study.manifest else ():
        if choice.note:
            yield f"Trained on {choice.used} instead of {choice.requested}: {choice.note}."
