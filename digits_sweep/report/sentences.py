"""What the report says in words: the verdict, how sweeps differ, and what it takes to make one again."""

import math
import shlex
from collections.abc import Sequence

import numpy as np
import pandas as pd

from digits_sweep.config.keys import results_of
from digits_sweep.report.pairs import FEWEST_PAIRS, compared, leads
from digits_sweep.report.side_by_side import between_sweeps
from digits_sweep.report.statistics import Replicates, explained, finished, groups_of, is_timed, ranked, to_goal
from digits_sweep.report.study import (
    EPOCH_LOSS,
    OF_TRAINING,
    RUNNING_LOSS,
    Goal,
    Study,
    labels,
    odd_settings,
    shortened,
    telling_apart,
)
from digits_sweep.report.warnings import most_seeds
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
    two_digits,
)
from digits_sweep.results.columns import OWN_LOOP
from digits_sweep.results.hint import trust_in
from digits_sweep.results.losses import window_of
from digits_sweep.results.record import Environment, Status

# A verdict is read in one glance.
MOST_WORDS = 40
# Of more configurations only the best is named.
MOST_NAMED = 6
MORE_SEEDS = "seed=0,1,2,3,4,5"
# One run each: what came within this factor of the best is called near.
NEAR = 1.2


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
            epochs=trained_for(runs),
        )  # fmt: skip
    if len(groups) > MOST_NAMED:
        return _of_many(study.runs, runs, order, goal, timed, names)
    candidates = _first_sentences(runs, order, goal, timed, names)
    sure = _how_sure(runs, order, goal, timed, names, most_seeds(study))
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


def _how_sure(
    runs: pd.DataFrame, order: Sequence[Replicates], goal: Goal, timed: bool, names: _Names, most: int | None
) -> str:
    """Say if the lead of the first is more than the noise between seeds, by pairs of runs with the same seed.

    `most` are the seeds that `seeds=until_decided` may try, None of another sweep.
    """
    best, *others = order
    if goal.measure in OF_TRAINING and (near := _unresolved(runs, best, others, timed)):
        window = (runs["lateness"] * runs["examples_to_goal"]).max()
        return _(
            "Its lead over {names} is undecided: {measure} cannot tell less than {count} {noun} apart (evaluation=fine "
            "can).",
            names=listed(names.of(group, short=True) for group in near), count=rounded(window), noun=noun_of(runs),
            measure=_("the running loss" if goal.measure == RUNNING_LOSS else "the mean loss of an epoch"),
        )  # fmt: skip
    if max(group.runs for group in order) == 1:
        return _("One run each: add seeds ({seeds})." if others else "One run: add seeds ({seeds}).", seeds=MORE_SEEDS)
    seeds = counted(best.runs, "seed")
    if not others:
        low, high = (rounded(end) for end in (best.examples_to_goal.low, best.examples_to_goal.high))
        return _("The median of {seeds}, from {low} to {high}.", seeds=seeds, low=low, high=high)
    every = leads(runs, order, timed)
    undecided = [lead for lead in every if not lead.is_decided]
    if not undecided:
        weakest = min((lead.pairs for lead in every if lead.pairs), key=lambda pairs: pairs.smaller / pairs.pairs)
        agree = share(weakest.smaller, weakest.pairs)
        return _("Medians; it leads in {share} seeds, which is more than noise.", share=agree)
    listing = [names.of(lead.over, short=True) for lead in undecided]
    them = listed(f"({name})" if "," in name else name for name in listing)
    if len(undecided) > 2:
        them = counted(len(undecided), "configuration")
    pairs = undecided[0].pairs
    if pairs is None:
        return _("Seeds in common ({seeds}) would decide between it and {names}.", seeds=MORE_SEEDS, names=them)
    return _(
        "Its lead over {names} is undecided: {share} seeds agree, and it takes {count}."
        if pairs.pairs < FEWEST_PAIRS
        else "Its lead over {names} is undecided: {share} seeds agree; more may decide (seeds=until_decided)."
        if most is None
        else "Its lead over {names} is undecided: {share} seeds agree; more may decide (resume=latest)."
        if pairs.pairs < most
        else "Its lead over {names} is undecided: {share} seeds agree; more may decide (a larger max_seeds).",
        names=them, share=share(pairs.smaller, pairs.pairs), count=FEWEST_PAIRS,
    )  # fmt: skip


def _unresolved(runs: pd.DataFrame, best: Replicates, others: Sequence[Replicates], timed: bool) -> list[Replicates]:
    """Return the configurations that crossed so near the best one, in every seed, that none can be said to be first."""
    pairs = {
        other: compared(runs, best, other, timed) for other in others if math.isfinite(to_goal(other, timed).median)
    }
    return [other for other, pair in pairs.items() if pair and not pair.smaller and not pair.larger]


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
        count = sum(not lead.is_decided for lead in leads(runs, order, timed))
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
        if math.isnan(least.lr):
            return _("Every run diverged.")
        return _("Every run diverged. A learning rate below {lr} may help.", lr=cell(least.lr))
    goal, threshold = study.goal, study.goal.threshold
    courses = {name: course for name in runs["run_dir"] if len(course := course_of(study, str(name)))}
    if threshold is None or not courses:
        return _("No run passed {goal}.", goal=goal)
    sign = -1 if goal.rises else 1
    nearest = min(courses, key=lambda name: float((sign * courses[name]["value"]).min()))
    run = runs[runs["run_dir"] == nearest].iloc[0]
    course = courses[nearest]
    value = sign * float((sign * course["value"]).min())
    group = next(group for group in groups if group.configuration == run["configuration"])
    digits = max(2, 1 - math.floor(math.log10(abs(value - threshold) or 1)))
    first = _(
        "No run passed {goal} within {epochs}: {best} came nearest, with {value} ({gap} away).",
        goal=goal, epochs=trained_for(runs), best=_Names(runs).of(group),
        value=cell(value, f".{digits}f"), gap=cell(abs(value - threshold), f".{digits}f"),
    )  # fmt: skip
    if course["epoch"].isna().any():
        return first
    is_own = bool((runs["engine"] == OWN_LOOP).all())
    return f"{first} {_what_helps(course.assign(value=sign * course['value']), sign * threshold, is_own)}"


def trained_for(runs: pd.DataFrame) -> str:
    """Return how long the longest of some runs trained: in epochs, or in iterations if they have none."""
    if runs["epochs"].notna().any():
        return counted(int(runs["epochs"].max()), "epoch")
    return counted(int(runs["iterations"].max()), "iteration")


def course_of(study: Study, run: str) -> pd.DataFrame:
    """Return `epoch, value` of a run: what its goal measures, after so many epochs."""
    if study.goal.measure in OF_TRAINING:
        history = study.history[(study.history["run_dir"] == run) & study.history["complete"]]
        course = pd.DataFrame({"epoch": history["epoch"].astype(float), "value": history["loss_mean"].astype(float)})
    else:
        rows = study.evaluations[study.evaluations["run_dir"] == run]
        samples = float(study.runs.loc[study.runs["run_dir"] == run, "train_samples"].iloc[0])
        course = pd.DataFrame({"epoch": rows["examples"] / samples, "value": rows[study.goal.measure]})
    return course[np.isfinite(course["value"])]


def _what_helps(course: pd.DataFrame, threshold: float, is_own_loop: bool) -> str:
    """Say how many epochs more the slope of the last third would take, or that another rate is needed.

    A loop of the user's has no keys to type.
    """
    last = course.tail(max(len(course) // 3, 2))
    if len(last) < 2:
        key = "" if is_own_loop else " (trainer.num_epochs)"
        return _("One epoch does not show how it goes on: try more{key}.", key=key)
    trained = float(course["epoch"].iloc[-1])
    fallen = float(last["value"].iloc[0] - last["value"].iloc[-1])
    slope = fallen / max(float(last["epoch"].iloc[-1] - last["epoch"].iloc[0]), 1e-9)
    more = (float(last["value"].iloc[-1]) - threshold) / slope if slope > 0 else math.inf
    if more > 10 * trained:
        key = "" if is_own_loop else " (optimizer.lr)"
        return _("It hardly gets nearer any more: try another learning rate{key}.", key=key)
    epochs = counted(max(1, math.ceil(more)), "epoch")
    return _("At its last slope that takes about {epochs} more, at another learning rate maybe fewer.", epochs=epochs)


def hint_sentences(study: Study) -> list[str]:
    """Say which critical batch size the gradients of single runs hint at, if any, and how far to trust that.

    Of several optimizers the least trustworthy counts.
    """
    hints = study.runs["batch_size_hint"].dropna()
    if hints.empty:
        return []
    names = study.runs.loc[hints.index, "run_dir"].astype(str)
    trust = min(
        (trust_in(study.records[name].config.get("optimizer") or {}) for name in names),
        key=lambda trust: trust.within_1_5,
    )
    size = two_digits(hints.median())
    if len(hints) > 1:
        ends = {"low": two_digits(hints.min()), "high": two_digits(hints.max())}
        size = _("{size} ({low} to {high})", size=size, **ends)
    how = [_("within a factor of 1.5 in {share:.0%} of cases", share=trust.within_1_5)]
    how += [_("of 2 in {share:.0%}", share=trust.within_2)] if trust.within_2 else []
    sentence = _(
        "A hint from the gradients of single runs: the critical batch size is about {size}, {trust}. python -m "
        "digits_sweep.critical_batch_size measures it.",
        size=size, trust=listed(how),
    )  # fmt: skip
    return [sentence]


def how_counted(study: Study) -> str:
    """Say what the goal is and how its examples and seconds are counted."""
    goal, runs = study.goal, study.runs
    if goal.measure == EPOCH_LOSS:
        what = _("The losses of some iterations are not known, so every run is counted by the mean loss of its epochs.")
    elif goal.measure == RUNNING_LOSS:
        windows = sorted({window_of(int(count)) for count in runs["train_samples"].dropna().unique()})
        what = _(
            "The running loss is the mean over the last {count} examples trained on, a twentieth of the training set. "
            "It looks back, so it is late by about half of that{bias}; a lead within it is undecided. The loss at "
            "frozen weights (evaluation=fine) is exact.",
            count=listed(map(rounded, windows)), bias=_bias(runs),
        )  # fmt: skip
    else:
        what = _(
            "The {measure} at frozen weights, interpolated between the evaluations before and after.",
            measure=_(goal.measure.replace("_", " ")),
        )
    cost = _("Seconds are the iterations to it at what one costs at that batch size, the median over its runs.")
    if runs["batch_schedule"].notna().any():
        cost += " " + _("Those of a batch that grows are what each run took.")
    return f"{what} {cost}"


def _bias(runs: pd.DataFrame) -> str:
    """Say how late the running loss is at every batch size: `, 2 % at batch size 100, 7 % at 5`."""
    late = (runs["lateness"] / 2).groupby(runs["batch_size"]).median().dropna().sort_index(ascending=False)
    if late.empty or len(late) > MOST_NAMED:
        return ""
    parts = [
        _("{share:.0%} at batch size {size}" if not number else "{share:.0%} at {size}", share=share, size=size)
        for number, (size, share) in enumerate(late.items())
    ]
    return f" ({listed(parts)})"


def differences(combined: Study) -> list[str]:
    """Return what differs between sweeps, a sentence each: `engine: lesson in A, closed_form in B`."""
    names = between_sweeps(combined.runs)
    values = combined.runs.groupby("sweep")[names].first()
    return [
        f"{label}: "
        + ", ".join(_("{value} in {sweep}", value=cell(value), sweep=sweep) for sweep, value in values[name].items())
        for name, label in labels(names).items()
    ]


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
