"""What a reader has to know before relying on the figures: how runs ended, what is mixed, what is never predicted."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from digits_sweep.config.keys import value_of
from digits_sweep.config.schema import UNTIL_DECIDED
from digits_sweep.report.ranking import finished, groups_of, ranked, still_compared
from digits_sweep.report.statistics import UNSTEADY, unsteady
from digits_sweep.report.study import Study, as_dicts, grouped
from digits_sweep.report.words import _, capitalized, counted, listed, share
from digits_sweep.results.columns import COLUMNS
from digits_sweep.results.record import Record, Status

CLASSES = 10
# A loss is flat if its last third, at least so many epochs, spreads over less than this share.
FLAT, FEWEST_FLAT = 0.01, 5
# What is said of a run; those of which the same is said share a sentence.
OF_A_RUN = {
    "failed": "{names} failed after {epochs}: {why}",
    "diverged": "{names} diverged: the mean loss of epoch {epoch} is {loss}.",
    "interrupted": "Interrupted after {epochs}, or still running{why}: {names}; left out of the medians.",
    "resumed": "Resumed {times}: {names}; the losses are those of an uninterrupted run, but the seconds come from "
    "several processes.",
    "elsewhere": "Trained with another {changed} from epoch {epoch} on: {names}.",
    "misfit": "{names}: {why}; left out of the figures.",
}


def cautions(study: Study) -> list[str]:
    """Return a sentence for every kind of thing that bears on what the verdict says, to stand beside it."""
    return [*filter(None, [seeds_so_far(study)]), *_on_seconds(study), *_on_the_goal(study)]


def warnings(study: Study) -> list[str]:
    """Return a sentence for every other thing that went wrong in a sweep or that limits what its figures show."""
    return [*_of_runs(study), *_not_started(study), *_on_predictions(study), *_mixtures(study)]


# --- What bears on the verdict.


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
    names = grouped((group.runs, group.configuration) for group in groups)
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


def _on_seconds(study: Study) -> Iterator[str]:
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
    environments = (each for record in study.records.values() for each in record.environments)
    machines = {f"{environment.get('host')} ({environment.get('cpu')})" for environment in environments}
    if len(machines) > 1:
        yield _(
            "The runs mix {count} machines: {names}. Their seconds are not comparable.",
            count=len(machines), names=listed(sorted(machines)),
        )  # fmt: skip


def _on_the_goal(study: Study) -> Iterator[str]:
    for choice in study.manifest.datasets if study.manifest else ():
        if choice.note:
            yield _(
                "Trained on {used} instead of {requested}: {note}.",
                used=choice.used, requested=choice.requested, note=choice.note,
            )  # fmt: skip
    if study.goal.problem:
        return
    best = next(iter(ranked(study)), None)
    if best and best.dead:
        yield _(
            "{best}: in {share} of its runs that passed {goal}, a class is never predicted.",
            best=capitalized(best.configuration), share=share(best.dead, best.reached), goal=study.goal,
        )  # fmt: skip
    runs = finished(study)
    if names := list(runs.loc[runs["reached"].isna(), "run_dir"]):
        yield _("It is unknown if {names} passed {goal}.", names=listed(names), goal=study.goal)


# --- The rest.


def _of_runs(study: Study) -> Iterator[str]:
    said = grouped(
        ((kind, *fields.items()), str(run["run_dir"]))
        for run in as_dicts(study.runs)
        for kind, fields in _of_a_run(run, study.records.get(run["run_dir"]))
    )
    kinds = list(OF_A_RUN)
    for (kind, *fields), names in sorted(said.items(), key=lambda pair: kinds.index(pair[0][0])):
        yield _(OF_A_RUN[kind], names=listed(names), **dict(fields))


def _of_a_run(run: dict[str, Any], record: Record | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what is to be said of a run, and what goes into the sentence."""
    status, why = run["status"], run["error"] or ""
    epochs = counted(run["epochs"] or 0, "epoch")
    if status == Status.FAILED:
        yield "failed", {"epochs": epochs, "why": why}
    elif status == Status.INTERRUPTED:
        yield "interrupted", {"epochs": epochs, "why": f" ({why})" if why else ""}
    elif why:
        yield "misfit", {"why": why}
    if status == Status.DIVERGED:
        yield "diverged", {"epoch": run["epochs"], "loss": "nan" if run["final_loss"] is None else run["final_loss"]}
    if run["resumes"]:
        yield "resumed", {"times": counted(run["resumes"], "time")}
    for before, after in pairwise(record.environments if record else ()):
        keys = [key for key in (*before, *after) if key != "from_epoch" and before.get(key) != after.get(key)]
        changed = listed(key.replace("_", " ") for key in dict.fromkeys(keys))
        yield "elsewhere", {"changed": changed, "epoch": after.get("from_epoch")}


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
    for size, group in study.runs.groupby("batch_size"):
        threads = sorted(group["num_threads"].dropna().unique())
        if len(threads) > 1:
            yield _(
                "At batch size {size} the runs mix numbers of threads: {threads}.", size=size, threads=listed(threads)
            )
    missed = study.runs["status"].eq(Status.COMPLETED.value) & study.runs["first_epoch_below_threshold"].isna()
    lengths = sorted(study.runs.loc[missed, "epochs"].unique())
    if len(lengths) > 1:
        yield _(
            "The runs that missed the threshold were not trained equally long: {lengths} epochs.",
            lengths=listed(lengths),
        )


# --- Predictions: which classes runs never predict, and whether their loss stands still.


def is_flat(losses: Sequence[float]) -> bool:
    """Return whether losses, one an epoch, stand still: the last third, at least five, spread over less than 1 %."""
    last = losses[-max(len(losses) // 3, FEWEST_FLAT) :]
    if len(last) < FEWEST_FLAT or not all(math.isfinite(loss) for loss in last):
        return False
    return max(last) - min(last) < FLAT * min(last)


def _on_predictions(study: Study) -> Iterator[str]:
    """Yield one sentence for all runs whose loss is on a plateau, and one for those whose loss still falls."""
    epochs = study.history.groupby("run_dir")["loss_mean"].apply(list).to_dict()
    # A network may have more outputs than its data has classes: none of the others is missing.
    never = {
        name: [label for label, count in enumerate((record.test_answers or [])[: _classes(record)]) if count == 0]
        for name, record in study.records.items()
    }
    kinds = grouped((is_flat(epochs.get(name, [])), name) for name, classes in never.items() if classes)
    for flat, names in sorted(kinds.items(), reverse=True):
        runs = listed(f"{name} ({listed(never[name])})" for name in names)
        sentence = _(
            "Classes that are never predicted, with the loss on a plateau: {runs}."
            if flat
            else "Classes that are never predicted: {runs}.",
            runs=runs,
        )
        yield f"{sentence} {_cost_of_a_class([study.records[name] for name in names])}".strip()


def _classes(record: Record) -> int | None:
    """Return how many classes the data of a run has; None if its record does not say so."""
    classes = value_of(record.config, "data.num_classes")
    return classes if isinstance(classes, int) and classes > 0 else None


def _cost_of_a_class(records: Sequence[Record]) -> str:
    """Say what a class that is never predicted costs behind a softmax: its share of the data, which lose 1 more."""
    counts = {_classes(each) or value_of(each.config, "model.num_classes") or CLASSES for each in records}
    if {value_of(each.config, "model.head") for each in records} != {"softmax"} or len(counts) != 1:
        return ""
    (count,) = counts
    return _(
        "With the softmax, every class of {count} that is never predicted costs about {loss:.2g} of loss.",
        count=count, loss=1 / count,
    )  # fmt: skip
