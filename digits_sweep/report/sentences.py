"""What the report says in words: the verdict, what limits it, and what it takes to make a sweep again."""

import math
import shlex
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pandas as pd

from digits_sweep.config.keys import results_of
from digits_sweep.report.statistics import (
    UNSTEADY,
    Paired,
    Replicates,
    between_sweeps,
    explained,
    finished,
    groups_of,
    is_timed,
    paired,
    ranked,
    to_goal,
    unsteady,
)
from digits_sweep.report.study import (
    RUNNING_LOSS,
    Goal,
    Study,
    labels,
    odd_settings,
    shortened,
    telling_apart,
)
from digits_sweep.report.words import (
    _,
    capitalized,
    cell,
    counted,
    listed,
    localized,
    noun_of,
    rounded,
    seconds,
    share,
    times,
)
from digits_sweep.results.columns import COLUMNS, OWN_LOOP
from digits_sweep.results.record import Environment, Record, Status

# A verdict is read in one glance.
MOST_WORDS = 40
# Of more configurations only the best is named.
MOST_NAMED = 6
MORE_SEEDS = "seed=0,1,2,3,4,5"
# Fewer pairs cannot pass the sign test at 5 %, even if all agree.
FEWEST_PAIRS = 6
# One run each: what came within this factor of the best is called near.
NEAR = 1.2
CLASSES = 10
# A loss is flat if its last third, at least so many epochs, spreads over less than this share.
FLAT, FEWEST_FLAT = 0.01, 5


def verdict(study: Study) -> str:
    """Say in two sentences which configuration reached the goal first, how far behind the next one is, and how sure.

    Runs that shared the machine are ranked by examples, which are the same there. If no run got there, say which came
    nearest and what would help.
    """
    runs, groups, goal = finished(study), groups_of(study), study.goal
    if not groups:
        return _without_an_end(study.runs)
    if runs["dataset"].nunique() > 1:
        return _("These runs have different data sets, so they are not ranked; the table lists them separately.")
    if goal.problem:
        return _("{problem}; the table lists them separately.", problem=capitalized(goal.problem))
    timed, order = is_timed(runs), ranked(runs, groups)
    if not any(group.known for group in groups):
        return _("It is unknown if a run passed {goal}: no evaluation can be read.", goal=goal)
    if not any(group.reached for group in groups):
        return _none_arrived(study, runs, groups)
    names = _Names(runs)
    if not math.isfinite(to_goal(order[0], timed).median):
        best = max(groups, key=lambda group: group.reached / max(group.known, 1))
        return _(
            "No configuration passed {goal} in more than half of its runs; {best} did most often, in {share} within "
            "{epochs}.",
            goal=goal, best=names.of(best), share=share(best.reached, best.known),
            epochs=counted(best.epochs, "epoch"),
        )  # fmt: skip
    if len(groups) > MOST_NAMED:
        return _of_many(study.runs, runs, order, goal, timed, names)
    candidates = _first_sentences(runs, order, goal, timed, names)
    sure = _how_sure(runs, order, timed, names)
    fitting = [f"{text} {sure}" for text in candidates if len(f"{text} {sure}".split()) <= MOST_WORDS]
    return fitting[0] if fitting else f"{candidates[-1]} {sure}"


class _Names:
    """The names of configurations in a sentence, with the setting that is not as usual: `batch size 5 (lr 1e-6)`."""

    def __init__(self, runs: pd.DataFrame) -> None:
        self.odd = odd_settings(runs)

    def of(self, group: Replicates, short: bool = False) -> str:
        name = shortened(group.configuration) if short else group.configuration
        odd = self.odd.get(group.configuration)
        return f"{name} ({odd})" if odd else name


def _first_sentences(
    runs: pd.DataFrame, order: Sequence[Replicates], goal: Goal, timed: bool, names: _Names
) -> list[str]:
    """Return the first sentence of a verdict in full, and shorter ones for long names."""
    best, *others = order
    noun = noun_of(runs)
    examples = rounded(best.examples_to_goal.median)
    beside = (
        seconds(best.seconds_to_goal.median)
        if timed
        else _("{count} iterations", count=rounded(best.iterations_to_goal.median))
    )
    amount = f"{examples} {noun} ({beside})"
    name = capitalized(names.of(best))
    if not others:
        return [_("{best} passed {goal} after {amount}.", best=name, goal=goal, amount=amount)]
    start = _("{best} passed {goal} first, after {amount}", best=name, goal=goal, amount=amount)
    parts = []
    reached = [group for group in others if math.isfinite(to_goal(group, timed).median)]
    if reached:
        ratio = times(to_goal(reached[0], timed).median / (to_goal(best, timed).median or math.nan))
        second = names.of(reached[0], short=True)
        parts.append(
            _(
                "{second} took {ratio} times as long" if timed else "{second} needs {ratio} times the {noun}",
                second=second, ratio=ratio, noun=noun,
            )
        )  # fmt: skip
    missed = [group for group in others if group not in reached]
    if missed:
        listing = listed([names.of(group, short=True) for group in missed])
        count = counted(len(missed), "configuration")
        named = listing if len(missed) <= 2 else count
        parts.append(_("{names} did not get there", names=named))
    odd = [group for group in (*others, best) if group.configuration in names.odd and group not in (best, *missed[:2])]
    if odd and odd[0] not in reached[:1]:
        parts.append(_("{name} is not like the others", name=names.of(odd[0], short=True)))
    return [f"{'; '.join([start, *parts[:count]])}." for count in range(len(parts), -1, -1)]


def _how_sure(runs: pd.DataFrame, order: Sequence[Replicates], timed: bool, names: _Names) -> str:
    """Say if the lead of the first is more than the noise between seeds, by pairs of runs with the same seed."""
    best, *others = order
    if max(group.runs for group in order) == 1:
        return _("One run each: add seeds ({seeds})." if others else "One run: add seeds ({seeds}).", seeds=MORE_SEEDS)
    seeds = counted(best.runs, "seed")
    if not others:
        low, high = (rounded(end) for end in (best.examples_to_goal.low, best.examples_to_goal.high))
        return _("The median of {seeds}, from {low} to {high}.", seeds=seeds, low=low, high=high)
    compared = {other: _paired(runs, best, other, timed) for other in others}
    undecided = [other for other, pairs in compared.items() if pairs is None or not pairs.is_significant]
    if not undecided:
        weakest = min((pairs for pairs in compared.values() if pairs), key=lambda pairs: pairs.smaller / pairs.pairs)
        agree = share(weakest.smaller, weakest.pairs)
        return _("Medians; it leads in {share} seeds, which is more than noise.", share=agree)
    listing = [names.of(group, short=True) for group in undecided]
    them = listed(f"({name})" if "," in name else name for name in listing)
    if len(undecided) > 2:
        them = counted(len(undecided), "configuration")
    pairs = compared[undecided[0]]
    if pairs is None:
        return _("Seeds in common ({seeds}) would decide between it and {names}.", seeds=MORE_SEEDS, names=them)
    return _(
        "Its lead over {names} is undecided: {share} seeds agree, and it takes {count}."
        if pairs.pairs < FEWEST_PAIRS
        else "Its lead over {names} is undecided: {share} seeds agree.",
        names=them, share=share(pairs.smaller, pairs.pairs), count=FEWEST_PAIRS,
    )  # fmt: skip


def _paired(runs: pd.DataFrame, best: Replicates, other: Replicates, timed: bool) -> Paired | None:
    """Compare seed by seed, with the noise of the timing; at one batch size an iteration costs the same."""
    column = "own_seconds_to_goal" if timed and best.batch_size != other.batch_size else "examples_to_goal"
    ours, theirs = (runs[runs["configuration"] == group.configuration] for group in (best, other))
    return paired(ours, theirs, column)


def _of_many(
    all_runs: pd.DataFrame, runs: pd.DataFrame, order: Sequence[Replicates], goal: Goal, timed: bool, names: _Names
) -> str:
    """Name the best of many configurations, how many come near, and the setting that separates the rest."""
    best, *others = order
    amount = f"{rounded(best.examples_to_goal.median)} {noun_of(runs)}"
    if timed:
        amount += f" ({seconds(best.seconds_to_goal.median)})"
    first = _(
        "Of {count} configurations, {best} passed {goal} first, after {amount}.",
        count=len(order), best=names.of(best), goal=goal, amount=amount,
    )  # fmt: skip
    if max(group.runs for group in order) > 1:
        pairs = [_paired(runs, best, other, timed) for other in others]
        count = sum(pair is None or not pair.is_significant for pair in pairs)
        second = (
            _("{others} cannot be told from it by these seeds", others=counted(count, "other"))
            if count
            else _("These seeds tell every other one from it")
        )
    else:
        least = to_goal(best, timed).median
        count = sum(to_goal(other, timed).median <= NEAR * least for other in others)
        near = localized(f"{NEAR - 1:.0%}").replace("%", " %")
        second = (
            _("{others} came within {near} (one run each)", others=counted(count, "other"), near=near)
            if count
            else _("No other came within {near} (one run each)", near=near)
        )
    shares = {name: explained(all_runs, all_runs[name]) for name in telling_apart(all_runs)}
    if not shares or (most := max(shares, key=lambda name: shares[name])) is None or shares[most] < 0.1:
        return f"{first} {second}."
    part = _("{label} explains {share:.0%} of the differences", label=labels([most])[most], share=shares[most])
    return f"{first} {second}; {part}."


def _without_an_end(runs: pd.DataFrame) -> str:
    """Say why there is no run to judge."""
    failed = runs[runs["status"] == Status.FAILED.value]
    if runs.empty or len(failed) < len(runs):
        return _("No run has ended yet, so there is no verdict.")
    reasons = failed["error"].astype("string").fillna("").value_counts()
    why = str(reasons.index[0]).rstrip(".")
    if len(why.split()) > 20:
        why = " ".join(why.split()[:20]) + " ..."
    return _("Every run failed: {why}." if len(reasons) == 1 else "Every run failed; most often: {why}.", why=why)


def _none_arrived(study: Study, runs: pd.DataFrame, groups: Sequence[Replicates]) -> str:
    """Say which configuration came nearest to the goal, how far from it, and what would get there."""
    if runs["status"].eq(Status.DIVERGED.value).all():
        least = min(groups, key=lambda group: group.lr)
        return _("Every run diverged. A learning rate below {lr} may help.", lr=cell(least.lr))
    goal, threshold = study.goal, study.goal.threshold
    courses = {name: course for name in runs["run_dir"] if len(course := course_of(study, str(name)))}
    if threshold is None or not courses:
        return _("No run passed {goal}.", goal=goal)
    nearest = min(courses, key=lambda name: float(courses[name]["value"].min()))
    run = runs[runs["run_dir"] == nearest].iloc[0]
    course = courses[nearest]
    value = float(course["value"].min())
    group = next(group for group in groups if group.configuration == run["configuration"])
    digits = max(2, 1 - math.floor(math.log10(abs(value - threshold) or 1)))
    first = _(
        "No run passed {goal} within {epochs}: {best} came nearest, with {value} ({gap} above).",
        goal=goal, epochs=counted(int(runs["epochs"].max()), "epoch"), best=_Names(runs).of(group),
        value=cell(value, f".{digits}f"), gap=cell(value - threshold, f".{digits}f"),
    )  # fmt: skip
    return f"{first} {_what_helps(course, threshold)}"


def course_of(study: Study, run: str) -> pd.DataFrame:
    """Return `epoch, value` of a run: what its goal measures, after so many epochs."""
    if study.goal.measure == RUNNING_LOSS:
        history = study.history[study.history["run_dir"] == run]
        course = pd.DataFrame({"epoch": history["epoch"].astype(float), "value": history["loss_mean"].astype(float)})
    else:
        rows = study.evaluations[study.evaluations["run_dir"] == run]
        samples = float(study.runs.loc[study.runs["run_dir"] == run, "train_samples"].iloc[0])
        course = pd.DataFrame({"epoch": rows["examples"] / samples, "value": rows[study.goal.measure]})
    return course[np.isfinite(course["value"])]


def _what_helps(course: pd.DataFrame, threshold: float) -> str:
    """Say how many epochs more the slope of the last third would take, or that another rate is needed."""
    last = course.tail(max(len(course) // 3, 2))
    if len(last) < 2:
        return _("One epoch does not show how it goes on: try more (trainer.num_epochs).")
    trained = float(course["epoch"].iloc[-1])
    fallen = float(last["value"].iloc[0] - last["value"].iloc[-1])
    slope = fallen / max(float(last["epoch"].iloc[-1] - last["epoch"].iloc[0]), 1e-9)
    more = (float(last["value"].iloc[-1]) - threshold) / slope if slope > 0 else math.inf
    if more > 10 * trained:
        return _("It hardly falls any more: try another learning rate (optimizer.lr).")
    epochs = counted(max(1, math.ceil(more)), "epoch")
    return _("At its last slope that takes about {epochs} more, at another learning rate maybe fewer.", epochs=epochs)


def how_counted(goal: Goal) -> str:
    """Say what the goal is and how its examples and seconds are counted."""
    if goal.measure == RUNNING_LOSS:
        what = _(
            "The running loss is the mean over the last 3,000 examples trained on: good for an order, and late by some "
            "percent where the loss is steep. The loss at frozen weights (evaluation=fine) is exact."
        )
    else:
        what = _(
            "The {measure} at frozen weights, interpolated between the evaluations before and after.",
            measure=_(goal.measure.replace("_", " ")),
        )
    cost = _("Seconds are the iterations to it at what one costs at that batch size, the median over its runs.")
    return f"{what} {cost}"


def differences(combined: Study) -> list[str]:
    """Return what differs between sweeps, a sentence each: `engine: lesson in A, closed_form in B`."""
    names = between_sweeps(combined.runs)
    values = combined.runs.groupby("sweep")[names].first()
    return [
        f"{label}: "
        + ", ".join(_("{value} in {sweep}", value=cell(value), sweep=sweep) for sweep, value in values[name].items())
        for name, label in labels(names).items()
    ]


# --- Warnings.

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
    bearing = (*_timing(study), *_machines(study), *_data(study), *_dead_at_the_goal(study), *_unknown(study))
    parts = (_ends, _resumed, _not_started, on_predictions, _misfits, _mixtures, _resumed_elsewhere, _threads, _lengths)
    rest = (sentence for part in parts for sentence in part(study))
    return [*(Caution(text, bears_on_verdict=True) for text in bearing), *map(Caution, rest)]


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
    expected = study.manifest.runs if study.manifest else []
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


# --- Provenance: what it takes to reproduce a sweep.


def provenance(study: Study) -> list[tuple[str, str]]:
    """Return names and texts of machine, versions, commit, data and command; of several machines all of them."""
    rows = []
    if study.manifest:
        own = any(results_of(record.config).get("engine.name") == OWN_LOOP for record in study.records.values())
        typed = f"python -m digits_sweep {shlex.join(study.manifest.command)}".rstrip()
        rows.append((_("command"), _("a program of its own, recorded by digits_sweep.Recorder") if own else typed))
        rows += [(_("data"), f"{choice.used}, SHA-256 {choice.digest}") for choice in study.manifest.datasets]
    environments = [environment for record in study.records.values() for environment in record.environments]
    for name, describe in (("machine", machine), ("system", _system), ("versions", _versions), ("commit", _commit)):
        rows += [(_(name), text) for text in dict.fromkeys(map(describe, environments))]
    return rows


def machine(environment: Environment) -> str:
    """Describe the machine of a record's `environment`: host, processor and number of cores."""
    host, cpu, cores = (environment.get(name) for name in ("host", "cpu", "cpu_cores"))
    return _("{host}: {cpu}, {cores} cores", host=host, cpu=cpu, cores=cores)


def _system(environment: Environment) -> str:
    return f"{environment.get('platform')}, Python {environment.get('python')}"


def _versions(environment: Environment) -> str:
    return ", ".join(f"{name} {version}" for name, version in dict(environment.get("packages") or {}).items())


def _commit(environment: Environment) -> str:
    commit = str(environment.get("git_commit") or _("unknown: the program did not run from a checkout"))
    return commit.replace("-dirty", _(", with uncommitted changes"))
