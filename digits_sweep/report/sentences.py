"""What the report says in words: the verdict, how sweeps differ, and what it takes to make one again."""

import math
import shlex

import numpy as np
import pandas as pd

from digits_sweep.config.keys import results_of
from digits_sweep.report.critical import headline
from digits_sweep.report.ranking import (
    Replicates,
    between_sweeps,
    finished,
    groups_of,
    is_timed,
    leads,
    ranked,
    to_goal,
)
from digits_sweep.report.statistics import FEWEST_PAIRS, explained
from digits_sweep.report.study import (
    EPOCH_LOSS,
    MOST_NAMED,
    OF_TRAINING,
    RUNNING_LOSS,
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
from digits_sweep.results.critical import trust_in
from digits_sweep.results.losses import window_of
from digits_sweep.results.record import Environment, Status

# A verdict is read in one glance.
MOST_WORDS = 40
MORE_SEEDS = "seed=0,1,2,3,4,5"
# One run each: what came within this factor of the best is called near. A setting that explains less is not named.
NEAR, WORTH_A_WORD = 1.2, 0.1


def verdict(study: Study) -> str:
    """Say in two sentences which configuration reached the goal first, how far behind the next one is, and how sure.

    Runs that shared the machine are ranked by examples, which are the same there. If no run got there, say which came
    nearest and what would help. Of a study of the critical batch size it is the size to use.
    """
    if study.critical:
        return headline(study.critical.answers)
    runs, groups, goal = finished(study), groups_of(study), study.goal
    if not groups:
        return _without_an_end(study.runs)
    if runs["dataset"].nunique() > 1:
        return _("These runs have different data sets, so they are not ranked; the table lists them separately.")
    if goal.problem:
        return _("{problem}; the table lists them separately.", problem=capitalized(goal.problem))
    if not any(group.known for group in groups):
        return _("It is unknown if a run passed {goal}: no evaluation can be read.", goal=goal)
    ranking = _Ranking(study)
    if not any(group.reached for group in groups):
        return _none_arrived(ranking)
    if not math.isfinite(ranking.middle(ranking.order[0])):
        best = max(groups, key=lambda group: group.reached / max(group.known, 1))
        return _(
            "No configuration passed {goal} in more than half of its runs; {best} did most often, in {share} within "
            "{epochs}.",
            goal=goal, best=ranking.name(best, short=False), share=share(best.reached, best.known),
            epochs=trained_for(runs),
        )  # fmt: skip
    if len(groups) > MOST_NAMED:
        return _of_many(ranking)
    sure = _how_sure(ranking)
    candidates = [f"{first} {sure}" for first in _first_sentences(ranking)]
    return next((text for text in candidates if len(text.split()) <= MOST_WORDS), candidates[-1])


class _Ranking:
    """The configurations of a study, the best first; `odd` has the setting that is not as usual, by their names."""

    def __init__(self, study: Study) -> None:
        self.study, self.goal = study, study.goal
        self.runs, self.order, self.timed = finished(study), ranked(study), is_timed(study)
        self.odd = odd_settings(self.runs)

    def name(self, group: Replicates, short: bool = True) -> str:
        """Return a name in a sentence, with what is not as usual: `5 (lr 1e-6)`; in full at its beginning."""
        name = shortened(group.configuration) if short else group.configuration
        odd = self.odd.get(group.configuration)
        return f"{name} ({odd})" if odd else name

    def amount(self) -> str:
        """Return what the best took: `46,600 digits (0.373 s)`."""
        best = self.order[0]
        iterations = rounded(best.of("iterations_to_goal").median)
        took = seconds(best.of("seconds_to_goal").median) if self.timed else _("{count} iterations", count=iterations)
        return f"{rounded(best.of('examples_to_goal').median)} {noun_of(self.runs)} ({took})"

    def middle(self, group: Replicates) -> float:
        """Return the median that a configuration is ranked by."""
        return to_goal(group, self.timed).median


def _first_sentences(ranking: _Ranking) -> list[str]:
    """Return the first sentence of a verdict in full, and shorter ones for long names."""
    best, *others = ranking.order
    fields = {"best": capitalized(ranking.name(best, short=False)), "goal": ranking.goal, "amount": ranking.amount()}
    if not others:
        return [_("{best} passed {goal} after {amount}.", **fields)]
    parts = [_("{best} passed {goal} first, after {amount}", **fields)]
    reached = [group for group in others if math.isfinite(ranking.middle(group))]
    if reached:
        ratio = times(ranking.middle(reached[0]) / (ranking.middle(best) or math.nan))
        parts.append(
            _(
                "{second} took {ratio} times as long" if ranking.timed else "{second} needs {ratio} times the {noun}",
                second=ranking.name(reached[0]), ratio=ratio, noun=noun_of(ranking.runs),
            )
        )  # fmt: skip
    missed = [group for group in others if group not in reached]
    if missed:
        count = counted(len(missed), "configuration")
        names = listed(map(ranking.name, missed)) if len(missed) <= 2 else count
        parts.append(_("{names} did not get there", names=names))
    odd = [group for group in others if group.configuration in ranking.odd and group not in missed[:2]]
    if odd and odd[0] not in reached[:1]:
        parts.append(_("{name} is not like the others", name=ranking.name(odd[0])))
    return [f"{'; '.join(parts[:count])}." for count in range(len(parts), 0, -1)]


def _how_sure(ranking: _Ranking) -> str:
    """Say if the lead of the first is more than the noise between seeds, by pairs of runs with the same seed."""
    runs, (best, *others) = ranking.runs, ranking.order
    every = leads(ranking.study)
    # So near the best one, in every seed, that none can be said to be first.
    near = [
        ranking.name(lead.over)
        for lead in every
        if lead.pairs and not lead.pairs.smaller and not lead.pairs.larger and math.isfinite(ranking.middle(lead.over))
    ]
    if near and ranking.goal.measure in OF_TRAINING:
        window = (runs["lateness"] * runs["examples_to_goal"]).max()
        return _(
            "Its lead over {names} is undecided: {measure} cannot tell less than {count} {noun} apart (evaluation=fine "
            "can).",
            names=listed(near), count=rounded(window), noun=noun_of(runs),
            measure=_("the running loss" if ranking.goal.measure == RUNNING_LOSS else "the mean loss of an epoch"),
        )  # fmt: skip
    if max(group.runs for group in ranking.order) == 1:
        return _("One run each: add seeds ({seeds})." if others else "One run: add seeds ({seeds}).", seeds=MORE_SEEDS)
    if not others:
        examples = best.of("examples_to_goal")
        low, high = rounded(examples.low), rounded(examples.high)
        return _("The median of {seeds}, from {low} to {high}.", seeds=counted(best.runs, "seed"), low=low, high=high)
    undecided = [lead for lead in every if not lead.is_decided]
    if not undecided:
        weakest = min((lead.pairs for lead in every if lead.pairs), key=lambda pairs: pairs.smaller / pairs.pairs)
        agree = share(weakest.smaller, weakest.pairs)
        return _("Medians; it leads in {share} seeds, which is more than noise.", share=agree)
    listing = [ranking.name(lead.over) for lead in undecided]
    names = listed(f"({name})" if "," in name else name for name in listing)
    if len(undecided) > 2:
        names = counted(len(undecided), "configuration")
    pairs = undecided[0].pairs
    if pairs is None:
        return _("Seeds in common ({seeds}) would decide between it and {names}.", seeds=MORE_SEEDS, names=names)
    agree = share(pairs.smaller, pairs.pairs)
    if pairs.pairs < FEWEST_PAIRS:
        return _(
            "Its lead over {names} is undecided: {share} seeds agree, and it takes {count}.",
            names=names, share=agree, count=FEWEST_PAIRS,
        )  # fmt: skip
    most = most_seeds(ranking.study)
    how = "seeds=until_decided" if most is None else "resume=latest" if pairs.pairs < most else _("a larger max_seeds")
    return _(
        "Its lead over {names} is undecided: {share} seeds agree; more may decide ({how}).",
        names=names, share=agree, how=how,
    )  # fmt: skip


def _of_many(ranking: _Ranking) -> str:
    """Name the best of many configurations, how many come near, and the setting that separates the rest."""
    best, *others = ranking.order
    first = _(
        "Of {count} configurations, {best} passed {goal} first, after {amount}.",
        count=len(ranking.order), best=ranking.name(best, short=False), goal=ranking.goal, amount=ranking.amount(),
    )  # fmt: skip
    if max(group.runs for group in ranking.order) > 1:
        count = sum(not lead.is_decided for lead in leads(ranking.study))
        second = (
            _("{others} cannot be told from it by these seeds", others=counted(count, "other"))
            if count
            else _("These seeds tell every other one from it")
        )
    else:
        count = sum(ranking.middle(other) <= NEAR * ranking.middle(best) for other in others)
        near = localized(f"{NEAR - 1:.0%}")
        second = (
            _("{others} came within {near} (one run each)", others=counted(count, "other"), near=near)
            if count
            else _("No other came within {near} (one run each)", near=near)
        )
    runs = ranking.study.runs
    shares = {name: explained(runs, runs[name]) for name in telling_apart(runs)}
    name, most = max(shares.items(), key=lambda pair: pair[1], default=("", 0.0))
    if most < WORTH_A_WORD:
        return f"{first} {second}."
    part = _("{label} explains {share:.0%} of the differences", label=labels([name])[name], share=most)
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


def _none_arrived(ranking: _Ranking) -> str:
    """Say which configuration came nearest to the goal, how far from it, and what would get there."""
    runs, goal, threshold = ranking.runs, ranking.goal, ranking.goal.threshold
    if runs["status"].eq(Status.DIVERGED.value).all():
        if pd.isna(lr := runs["lr"].min()):
            return _("Every run diverged.")
        return _("Every run diverged. A learning rate below {lr} may help.", lr=cell(lr))
    gaps = _gaps(ranking.study)
    gaps = gaps[gaps["run_dir"].isin(runs["run_dir"])]
    if threshold is None or gaps.empty:
        return _("No run passed {goal}.", goal=goal)
    nearest = gaps.loc[gaps["gap"].idxmin()]
    course = gaps[gaps["run_dir"] == nearest["run_dir"]]
    group = next(group for group in ranking.order if group.configuration == nearest["configuration"])
    gap, value = nearest["gap"], threshold + nearest["gap"] * (-1 if goal.rises else 1)
    form = f".{max(2, 1 - math.floor(math.log10(gap or 1)))}f"
    first = _(
        "No run passed {goal} within {epochs}: {best} came nearest, with {value} ({gap} away).",
        goal=goal, epochs=trained_for(runs), best=ranking.name(group, short=False), value=cell(value, form),
        gap=cell(gap, form),
    )  # fmt: skip
    if course["epoch"].isna().any():
        return first
    return f"{first} {_what_helps(course, is_own_loop=bool((runs['engine'] == OWN_LOOP).all()))}"


def trained_for(runs: pd.DataFrame) -> str:
    """Return how long the longest of some runs trained: in epochs, or in iterations if they have none."""
    if runs["epochs"].notna().any():
        return counted(int(runs["epochs"].max()), "epoch")
    return counted(int(runs["iterations"].max()), "iteration")


def _gaps(study: Study) -> pd.DataFrame:
    """Return `run_dir, configuration, epoch, gap`: how far what the goal measures is from it, after so many epochs."""
    goal = study.goal
    if goal.measure in OF_TRAINING:
        rows = study.history[study.history["complete"]]
        epoch, value = rows["epoch"], rows["loss_mean"]
    else:
        rows = study.evaluations
        samples = study.runs.set_index("run_dir")["train_samples"]
        epoch, value = rows["examples"] / rows["run_dir"].map(samples), rows[goal.measure]
    gap = (value - (goal.threshold or 0.0)) * (-1 if goal.rises else 1)
    rows = rows[["run_dir", "configuration"]].assign(epoch=epoch.astype(float), gap=gap.astype(float))
    return rows[np.isfinite(rows["gap"])]


def _what_helps(course: pd.DataFrame, is_own_loop: bool) -> str:
    """Say how many epochs more the slope of the last third would take, or that another rate is needed.

    A loop of the user's has no keys to type.
    """
    last = course.tail(max(len(course) // 3, 2))
    if len(last) < 2:
        key = "" if is_own_loop else " (trainer.num_epochs)"
        return _("One epoch does not show how it goes on: try more{key}.", key=key)
    (start, before), (trained, gap) = (last[["epoch", "gap"]].iloc[row].tolist() for row in (0, -1))
    slope = (before - gap) / max(trained - start, 1e-9)
    if slope <= 0 or gap / slope > 10 * trained:
        key = "" if is_own_loop else " (optimizer.lr)"
        return _("It hardly gets nearer any more: try another learning rate{key}.", key=key)
    epochs = counted(max(1, math.ceil(gap / slope)), "epoch")
    return _("At its last slope that takes about {epochs} more, at another learning rate maybe fewer.", epochs=epochs)


def hint_sentences(study: Study) -> list[str]:
    """Say which critical batch size the gradients of single runs hint at, if any, and how far to trust that.

    Of several optimizers the least trustworthy counts.
    """
    hints = study.runs["batch_size_hint"].dropna()
    if study.critical or hints.empty:
        return []
    names = study.runs.loc[hints.index, "run_dir"].astype(str)
    trust = min(
        (trust_in(study.records[name].config.get("optimizer") or {}) for name in names),
        key=lambda trust: trust.within_2,
    )
    size = two_digits(hints.median())
    if len(hints) > 1:
        ends = {"low": two_digits(hints.min()), "high": two_digits(hints.max())}
        size = _("{size} ({low} to {high})", size=size, **ends)
    how = [
        _("within a factor of 1.5 in {share:.0%} of cases", share=trust.within_1_5),
        _("of 2 in {share:.0%}", share=trust.within_2),
    ]
    sentence = _(
        "A hint from the gradients of single runs: the critical batch size is about {size}, {trust}. python -m "
        "digits_sweep.critical_batch_size measures it.",
        size=size, trust=listed(how),
    )  # fmt: skip
    return [sentence]


def how_counted(study: Study) -> str:
    """Say what the goal is and how its examples and seconds are counted."""
    if study.critical:
        return study.critical.how_counted
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
    described = [_described(each) for record in study.records.values() for each in record.environments]
    for name in ("machine", "system", "versions", "commit"):
        rows += [(_(name), text) for text in dict.fromkeys(each[name] for each in described)]
    return rows


def _described(environment: Environment) -> dict[str, str]:
    """Describe the machine of a record's `environment`, its software, and the commit of the program."""
    host, cpu, cores = (environment.get(name) for name in ("host", "cpu", "cpu_cores"))
    packages = dict(environment.get("packages") or {})
    commit = str(environment.get("git_commit") or _("unknown: the program did not run from a checkout"))
    return {
        "machine": _("{host}: {cpu}, {cores} cores", host=host, cpu=cpu, cores=cores),
        "system": f"{environment.get('platform')}, Python {environment.get('python')}",
        "versions": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "commit": commit.replace("-dirty", _(", with uncommitted changes")),
    }
