"""What a reader has to know before relying on the figures: how runs ended, what is mixed, what is never predicted."""

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import pandas as pd

from digits_sweep.config.schema import UNTIL_DECIDED
from digits_sweep.report.pairs import still_compared
from digits_sweep.report.statistics import UNSTEADY, finished, groups_of, ranked, unsteady
from digits_sweep.report.study import Study
from digits_sweep.report.words import _, capitalized, counted, listed, share
from digits_sweep.results.columns import COLUMNS
from digits_sweep.results.record import Record, Status

CLASSES = 10
# A loss is flat if its last third, at least so many epochs, spreads over less than this share.
FLAT, FEWEST_FLAT = 0.01, 5


Said = TypeVar("Said", bound=Hashable)


@dataclass(frozen=True)
class Caution:
    """A sentence for one kind of thing that went wrong; does it bear on what the verdict says?"""

    text: str
    bears_on_verdict: bool = False

    def __str__(self) -> str:
        return self.text


def warnings(study: Study) -> list[Caution]:
    """Return a sentence for every kind of thing that went wrong in a sweep or that limits what its figures show."""
    seeds = filter(None, [seeds_so_far(study)])
    bearing = (*seeds, *_timing(study), *_machines(study), *_data(study), *_dead_at_the_goal(study), *_unknown(study))
    parts = (_ends, _resumed, _not_started, on_predictions, _misfits, _mixtures, _resumed_elsewhere, _threads, _lengths)
    rest = (sentence for part in parts for sentence in part(study))
    return [*(Caution(text, bears_on_verdict=True) for text in bearing), *map(Caution, rest)]


def most_seeds(study: Study) -> int | None:
    """Return `max_seeds` of a sweep with `seeds=until_decided`, None for any other."""
    configs = [record.config for record in study.records.values()]
    limits = [config.get("max_seeds") for config in configs if config.get("seeds") == UNTIL_DECIDED]
    return max((limit for limit in limits if isinstance(limit, int)), default=None)


def seeds_so_far(study: Study) -> str | None:
    """Say how many seeds every configuration of `seeds=until_decided` has, and why it has no more."""
    most, groups = most_seeds(study), groups_of(study)
    if most is None or not groups:
        return None
    names = _by((group.runs, group.configuration) for group in groups)
    counts = "; ".join(f"{listed(of_count)}: {count}" for count, of_count in sorted(names.items(), reverse=True))
    if still_compared(study):
        return _(
            "The lead is undecided with all seeds of max_seeds={most} ({counts})."
            if max(names) >= most
            else "Seeds are added until the lead is decided, so far {counts}.",
            most=most, counts=counts,
        )  # fmt: skip
    return _(
        "Seeds were added until the lead was decided ({counts})."
        if any(group.reached for group in groups)
        else "No run reached the goal, so no more seeds are added ({counts}).",
        counts=counts,
    )


def _by(pairs: Iterable[tuple[Said, str]]) -> dict[Said, list[str]]:
    """Return the names of runs by what is said of them."""
    names: dict[Said, list[str]] = {}
    for what, name in pairs:
        names.setdefault(what, []).append(name)
    return names


def _dead_at_the_goal(study: Study) -> Iterator[str]:
    groups = groups_of(study)
    order = ranked(finished(study), groups) if groups and not study.goal.problem else []
    if order and order[0].reached and order[0].dead:
        yield _(
            "{best}: in {share} of its runs that passed {goal}, a class is never predicted.",
            best=capitalized(order[0].configuration), share=share(order[0].dead, order[0].reached), goal=study.goal,
        )  # fmt: skip


def _unknown(study: Study) -> Iterator[str]:
    runs = finished(study)
    names = list(runs.loc[runs["reached"].isna(), "run_dir"])
    if names and not study.goal.problem:
        yield _("It is unknown if {names} passed {goal}.", names=listed(names), goal=study.goal)


def _ends(study: Study) -> Iterator[str]:
    runs = study.runs
    failed = runs[runs["status"] == Status.FAILED.value]
    trained = runs.set_index("run_dir")["epochs"].fillna(0)
    for why, names in _by(zip(failed["error"].astype(str), failed["run_dir"], strict=True)).items():
        yield _(
            "{name} failed after {epochs}: {why}" if len(names) == 1 else "{count} runs failed ({names}): {why}",
            name=names[0], epochs=counted(int(trained[names[0]]), "epoch"), count=len(names), names=listed(names),
            why=why,
        )  # fmt: skip
    diverged = runs[runs["status"] == Status.DIVERGED.value]
    if len(diverged) == 1:
        run = diverged.iloc[0]
        yield _(
            "{name} diverged: the mean loss of epoch {epoch} is {loss}.",
            name=run["run_dir"], epoch=run["epochs"], loss="nan" if pd.isna(run["final_loss"]) else run["final_loss"],
        )  # fmt: skip
    elif len(diverged):
        yield _("{count} runs diverged: {names}.", count=len(diverged), names=listed(diverged["run_dir"]))
    stopped = runs[runs["status"] == Status.INTERRUPTED.value]
    whys = ["" if pd.isna(error) else f" ({error})" for error in stopped["error"]]
    for why, names in _by(zip(whys, stopped["run_dir"], strict=True)).items():
        yield _(
            "{name} was interrupted after {epochs} or is still running{why}; the medians leave it out."
            if len(names) == 1
            else "{count} runs were interrupted or are still running{why}; the medians leave them out: {names}.",
            name=names[0], epochs=counted(int(trained[names[0]]), "epoch"), why=why, count=len(names),
            names=listed(names),
        )  # fmt: skip


def _resumed(study: Study) -> Iterator[str]:
    resumed = study.runs[study.runs["resumes"].fillna(0) > 0]
    if len(resumed) == 1:
        run = resumed.iloc[0]
        yield _(
            "{name} was resumed {times}: its losses are those of an uninterrupted run, but its seconds come from "
            "several processes.",
            name=run["run_dir"], times=counted(run["resumes"], "time"),
        )  # fmt: skip
    elif len(resumed):
        yield _(
            "{count} runs were resumed: their losses are those of uninterrupted runs, but their seconds come from "
            "several processes: {names}.",
            count=len(resumed), names=listed(resumed["run_dir"]),
        )  # fmt: skip


def _not_started(study: Study) -> Iterator[str]:
    # Of `seeds=until_decided`, runs that no decision needs are never started.
    expected = study.manifest.runs if study.manifest and most_seeds(study) is None else []
    started = set(study.runs["run_dir"])
    if missing := [name for name in expected if name not in started]:
        yield _(
            "{count} of {runs} not started: {names}.",
            count=len(missing), runs=counted(len(expected), "run"), names=listed(missing),
        )  # fmt: skip


def _mixtures(study: Study) -> Iterator[str]:
    for column in COLUMNS:
        values = study.runs[column.name].dropna().unique() if column.mixture else ()
        if len(values) > 1:
            yield _(
                "The runs mix {count} {things}: {values}.",
                count=len(values), things=_(str(column.mixture)), values=listed(values),
            )  # fmt: skip


def _resumed_elsewhere(study: Study) -> Iterator[str]:
    """Runs that were resumed with another version, commit or machine than they started with."""
    pairs = []
    for name, record in study.records.items():
        for before, after in pairwise(record.environments):
            keys = [key for key in (*before, *after) if key != "from_epoch" and before.get(key) != after.get(key)]
            changed = listed(key.replace("_", " ") for key in dict.fromkeys(keys))
            pairs.append((changed, after.get("from_epoch"), name))
    for (changed, epoch), names in _by(((changed, epoch), name) for changed, epoch, name in pairs).items():
        yield _(
            "{names} was trained with another {changed} from epoch {epoch} on."
            if len(names) == 1
            else "{names} were trained with another {changed} from epoch {epoch} on.",
            names=listed(names), changed=changed, epoch=epoch,
        )  # fmt: skip


def _misfits(study: Study) -> Iterator[str]:
    runs = study.runs[~study.runs["status"].isin([Status.FAILED.value, Status.INTERRUPTED.value])]
    noted = runs.dropna(subset=["error"])
    for why, names in _by(zip(noted["error"].astype(str), noted["run_dir"], strict=True)).items():
        yield _(
            "{names}: {why}; the figures leave it out."
            if len(names) == 1
            else "{names}: {why}; the figures leave them out.",
            names=listed(names), why=why,
        )  # fmt: skip


def _machines(study: Study) -> Iterator[str]:
    environments = (each for record in study.records.values() for each in record.environments)
    machines = {f"{environment.get('host')} ({environment.get('cpu')})" for environment in environments}
    if len(machines) > 1:
        yield _(
            "The runs mix {count} machines: {names}. Their seconds are not comparable.",
            count=len(machines), names=listed(sorted(machines)),
        )  # fmt: skip


def _threads(study: Study) -> Iterator[str]:
    for batch_size, group in study.runs.groupby("batch_size"):
        threads = sorted(group["num_threads"].dropna().unique())
        if len(threads) > 1:
            yield _(
                "At batch size {size} the runs mix numbers of threads: {threads}.",
                size=batch_size, threads=listed(threads),
            )  # fmt: skip


def _lengths(study: Study) -> Iterator[str]:
    completed = study.runs[study.runs["status"] == Status.COMPLETED.value]
    lengths = sorted(completed.loc[completed["first_epoch_below_threshold"].isna(), "epochs"].unique())
    if len(lengths) > 1:
        yield _(
            "The runs that missed the threshold were not trained equally long: {lengths} epochs.",
            lengths=listed(lengths),
        )


def _timing(study: Study) -> Iterator[str]:
    together = study.runs[study.runs["concurrent_runs"].fillna(1) > 1]
    if len(together):
        yield _(
            "{runs} shared the machine (up to {most} at once): the seconds are longer than those of a run alone, and "
            "runs are ranked by what is the same everywhere.",
            runs=counted(len(together), "run"), most=together["concurrent_runs"].max(),
        )  # fmt: skip
    if len(restless := unsteady(study.history)):
        yield _(
            "The epochs of {runs} of {all} were timed unsteadily: the middle half of them spreads over more than "
            "{limit:.0%} of the median, in {name} over {most:.0%}. Another program may have used the machine.",
            runs=counted(len(restless), "run"), all=len(study.runs), limit=UNSTEADY, name=restless.idxmax(),
            most=restless.max(),
        )  # fmt: skip


def _data(study: Study) -> Iterator[str]:
    for choice in study.manifest.datasets if study.manifest else ():
        if choice.note:
            yield _(
                "Trained on {used} instead of {requested}: {note}.",
                used=choice.used, requested=choice.requested, note=choice.note,
            )  # fmt: skip


# --- Predictions: which classes runs never predict, and whether their loss stands still.


def never_predicted(predictions: pd.Series, classes: int | None = None) -> list[str]:
    """Return the classes that a run never predicts; `predictions` has the number of predictions of every class.

    A network may have more outputs than its data has `classes`: none of the others is missing.
    """
    existing = predictions if classes is None else predictions.head(classes)
    return [str(label) for label in existing.index[existing == 0]]


def is_flat(losses: Sequence[float]) -> bool:
    """Return whether losses, one an epoch, stand still: the last third, at least five, spread over less than 1 %."""
    last = losses[-max(len(losses) // 3, FEWEST_FLAT) :]
    if len(last) < FEWEST_FLAT or not all(math.isfinite(loss) for loss in last):
        return False
    return max(last) - min(last) < FLAT * min(last)


def on_predictions(study: Study) -> Iterator[str]:
    """Yield one sentence for all runs whose loss is on a plateau, and one for those whose loss still falls."""
    epochs = dict(iter(study.history.groupby("run_dir")["loss_mean"]))
    kinds: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
    for name, counts in study.predictions.iterrows():
        if never := never_predicted(counts.dropna(), _existing_classes(study.records[str(name)])):
            losses = epochs.get(name)
            kinds[losses is not None and is_flat(losses.tolist())][str(name)] = never
    for flat, runs in kinds.items():
        if runs:
            yield _never_sentence(runs, flat) + _cost_of_a_class([study.records[name] for name in runs])


def _existing_classes(record: Record) -> int | None:
    """Return how many classes the data of a run has; None if its record does not say so."""
    classes = dict(record.config.get("data") or {}).get("num_classes")
    return classes if isinstance(classes, int) and classes > 0 else None


def _never_sentence(runs: dict[str, list[str]], flat: bool) -> str:
    (first, never), *others = runs.items()
    if not others:
        return _(
            "{name} never predicts {classes}: its loss is on a plateau."
            if flat
            else "{name} never predicts {classes}.",
            name=first, classes=listed(never),
        )  # fmt: skip
    named = [f"{name} ({listed(never)})" for name, never in runs.items()]
    return _(
        "{count} runs have classes that they never predict; their losses are on a plateau: {names}."
        if flat
        else "{count} runs have classes that they never predict: {names}.",
        count=len(runs), names=listed(named),
    )  # fmt: skip


def _cost_of_a_class(records: list[Record]) -> str:
    """Say what a class that is never predicted costs behind a softmax: its share of the data, which lose 1 more."""
    models = [dict(record.config.get("model") or {}) for record in records]
    heads = {model.get("head") for model in models}
    classes = {
        _existing_classes(record) or model.get("num_classes", CLASSES)
        for record, model in zip(records, models, strict=True)
    }
    if heads != {"softmax"} or len(classes) != 1:
        return ""
    (count,) = classes
    return " " + _(
        "With the softmax, every class of {count} that is never predicted costs about {loss:.2g} of loss.",
        count=count, loss=1 / count,
    )  # fmt: skip
