"""The study of the critical batch size: its runs, its tables, and what they mean for the choice of a batch size."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from digits_sweep.config.keys import changed, flat, results_of
from digits_sweep.config.plan import Plan, PlannedRun
from digits_sweep.config.schema import TargetsConfig, softmax_floor
from digits_sweep.config.text import as_override, key_of, to_text
from digits_sweep.errors import CannotResume, CannotSearch, InvalidConfig, UnreadableRecord
from digits_sweep.report.critical import branch_sentence, branches_of, details, headline
from digits_sweep.report.page import write_page
from digits_sweep.report.study import load_study
from digits_sweep.results.critical import (
    BRANCHES,
    FOLDER,
    STEPS,
    TUNING,
    Answer,
    Factor,
    Pilot,
    StudyFile,
    find_study,
    read_study,
    studies_in,
    write_answers,
    write_study,
)
from digits_sweep.results.files import write_table
from digits_sweep.search.answers import (
    answers,
    branches,
    check_of,
    measured_cost,
    round_batch_size,
    shown,
    steps_table,
    tuning_table,
)
from digits_sweep.search.fit import LEAST_SIZES
from digits_sweep.search.grid import MOST_EPOCHS, Grid, Key, Outcome, Pilots, Sizes, Trial, farthest, round_up
from digits_sweep.search.settings import (
    QUICK,
    SIZE,
    STOP,
    Cost,
    CriticalConfig,
    Goal,
    Request,
    goals_of,
    plan_batch_sizes,
)
from digits_sweep.search.study import Study
from digits_sweep.shell import Screen, as_typed
from digits_sweep.sweep.fitting import fitted, fitted_run, train_examples
from digits_sweep.sweep.launch import launch_in_process

# What an iteration costs is measured on so many seeds, over so many examples, or iterations if that is more.
COST_SEEDS, COST_EXAMPLES, COST_ITERATIONS = 3, 10_000, 20
NEVER_EVALUATED: Mapping[str, Any] = {
    **{"evaluation.every_examples": None, "evaluation.per_doubling": None},
    **{"evaluation.noise_scale": False, "evaluation.stop": False},
    **{f"evaluation.targets.{target.name}": [] for target in fields(TargetsConfig)},
}
# Batch sizes that were not typed and fit the data are taken if there are so many; else so many others are.
FEWEST_SIZES, SIZES = 5, 6
# How far the answers of quick studies lay from those of full ones, on other seeds: ten settings of data, network and
# optimizer (`benchmarks/estimators.py`, December 1, 2026). Two of the misses had no answer.
FACTOR = Factor(times=1.5, held=18, of=21)
# A law of the steps has three numbers; the third of them, its exponent, hardly differs from case to case.
QUICK_SIZES = 3
# The largest batch size of a quick study, and the share of the training set that a batch may be.
LARGEST, SHARE = 1_000, 0.5


def study_file(request: Request[CriticalConfig]) -> StudyFile:
    """Return what a study that starts now is asked to find out."""
    # Branches start from runs that are there anyway, and costs say what runs mean: both may be asked for later.
    later = ("runs", "cost", "price", "branch", "branch_examples", "branch_tolerance")
    settings = {key: value for key, value in asdict(request.settings).items() if key not in later}
    pilot = None
    if request.settings.quick and request.settings.pilot_examples:
        # Small batches come far with few examples; the smallest takes longest.
        _, run, *_ = request.planned.runs
        pilot = Pilot(run.config.data.batch_size, request.settings.pilot_examples)
    configs = {str(run.config.data.batch_size): results_of(asdict(run.config)) for run in request.planned.runs}
    for config in configs.values():
        del config["optimizer.lr"]
    return StudyFile(started_at=datetime.now(timezone.utc).isoformat(), settings=settings, configs=configs, pilot=pilot)


def refuse_another(folder: Path, before: StudyFile, now: StudyFile) -> None:
    """Raise `CannotResume` with a line for everything in which the study in `folder` is not the one asked for."""
    if lines := list(dict.fromkeys(_differences(before, now))):
        raise CannotResume("\n".join(f"resume={folder}: {line}" for line in lines))


def takes_quick_goals(request: Request[CriticalConfig]) -> bool:
    """Return whether a full study resumes a quick one, or one that has gone on from it, whose goals follow from runs.

    Raises `CannotResume` if there is no study to resume.
    """
    if not request.resume or request.settings.quick:
        return False
    return _read_before(find_study(request.resume, request.planned.outputs / FOLDER)).pilot is not None


def _read_before(folder: Path) -> StudyFile:
    try:
        return read_study(folder)
    except UnreadableRecord as error:
        raise CannotResume(f"resume={folder}: {error}") from error


def _differences(before: StudyFile, now: StudyFile) -> Iterator[str]:
    goes_on = before.is_quick and not now.is_quick
    if now.is_quick and not before.is_quick:
        yield "critical.quick was false, is now true: a full study has its answer"
        return
    if before.configs.keys() != now.configs.keys() and not goes_on:
        sizes = [",".join(study.configs) for study in (before, now)]
        yield f"data.batch_size was {sizes[0]}, is now {sizes[1]}"
        return
    pairs = [("critical.", before.settings, now.settings)]
    pairs += [("", before.configs[size], config) for size, config in now.configs.items() if size in before.configs]
    free = {"quick", *QUICK} if goes_on else set()
    for prefix, old, new in pairs:
        was = dict(flat(old))
        for key in dict.fromkeys([*new, *was]):
            # A key that is 0 does nothing, as one that was not there yet.
            if key not in free and was.get(key) != new.get(key) and (was.get(key) or new.get(key)):
                yield f"{prefix}{key} was {to_text(was.get(key))}, is now {to_text(new.get(key))}"


class Critical:
    """The study of the critical batch size, for `command`; `is_timed`: its runs are compared by their seconds."""

    module, is_timed = "digits_sweep.critical_batch_size", False

    def __init__(self, request: Request[CriticalConfig]) -> None:
        """Raises `CannotResume` if there is no study to resume, or if it is another one."""
        self.request, self.study = request, study_file(request)
        bases = {run.config.data.batch_size: run for run in request.planned.runs}
        self.grid = Grid(request.settings, goals_of(request.planned.settings), bases)
        self.parent = request.planned.outputs / FOLDER
        self.folder = find_study(request.resume, self.parent) if request.resume else None
        if self.folder:
            before = _read_before(self.folder)
            refuse_another(self.folder, before, self.study)
            self.study = replace(before, settings=self.study.settings, configs=self.study.configs)

    def resumed_by(self, folder: Path) -> list[str]:
        """Return what the same command needs besides to resume the study: the folder."""
        return [as_override("resume", str(folder.absolute()))]

    def conduct(self, study: Study) -> None:
        """Count the steps to every goal, say what they mean, and run a batch size near the soonest."""
        study.leaves_out_failures = True
        if not self.folder:
            counters = [read_study(folder).counter for folder in studies_in(self.parent)]
            self.study = replace(self.study, counter=1 + max(counters, default=0))
        write_study(study.folder, self.study)
        self.grid = replace(self._with_pilot(study), recorded=study.sweep.config_of)
        goals, folder = self.grid.goals, study.folder

        def write_tuning(results: Mapping[Key, Sequence[Outcome]]) -> None:
            table = tuning_table(self.grid.sizes(results), goals, self.request.planned.settings.seed)
            write_table(folder / TUNING, table)

        sizes = self.grid.sizes(study.search(self.grid, write_tuning))
        steps = steps_table(sizes, goals)
        write_table(folder / STEPS, steps)
        for goal in goals:
            study.screen.table(*shown(goal, steps, self.study.is_quick))
        checked_answers = self._answers(study, sizes)
        write_answers(folder, checked_answers)
        for line in [headline(checked_answers), *details(checked_answers)]:
            study.screen.say(line)
        if self.study.is_quick:
            full = [word for word in self.request.command if key_of(word) != "critical.quick"]
            again = as_typed(self.module, *full, *self.resumed_by(folder))
            study.screen.say(f"with intervals, from these runs on: {again}")
        if self.request.settings.branch:
            self._branch(study, sizes)
        page = folder / "index.html"
        write_page(page, [load_study(folder)])
        study.screen.say(f"page       {page}")

    def _with_pilot(self, study: Study) -> Grid:
        """Return the grid with one more goal, the best that a run of `pilot_examples` reaches, if that is harder.

        Without any goal, all of them follow from pilot runs.
        """
        examples, grid, goals = self.request.settings.pilot_examples, self.grid, self.grid.goals
        if not goals:
            return self._with_goals(study)
        if not examples:
            return grid
        size = self._reference_size()
        pilot = Pilots(grid.rules, grid.bases[size]).run(0)
        line = f"a pilot run of {examples:,} examples at batch size {size}: the best that it reaches is a goal too"
        study.train([pilot], lambda left: line)
        recorded, target = study.ended(pilot), goals[-1].target
        best = grid.outcome(pilot, recorded)[-1].best if recorded else math.inf
        hardest = min(goal.threshold for goal in goals if goal.target == target)
        if not 0 < best < hardest or (threshold := round_up(best)) >= hardest:
            study.screen.say(f"the pilot run reaches {to_text(best)}, which is no harder goal")
            return grid
        harder = Goal(target, threshold)
        bases = {size: with_goals(run, [harder]) for size, run in grid.bases.items()}
        return replace(grid, goals=[*goals, harder], bases=bases)

    def _reference_size(self) -> int:
        """Return the batch size that is nearest to the reference, by ratio."""
        reference = self.request.settings.reference_batch_size
        return min(self.grid.bases, key=lambda size: abs(math.log(size / reference)))

    def _with_goals(self, study: Study) -> Grid:
        """Return the grid with the goals, the middle rate and the number of epochs that follow from pilot runs.

        What is typed stays. Raises `CannotSearch` if these runs learn nothing.
        """
        grid, typed = self.grid, self.request.planned.typed
        fits_epochs = "trainer.num_epochs" not in typed and not self.request.planned.settings.command
        pilot = self.study.pilot or Pilot(self._reference_size(), grid.rules.pilot_examples)
        base = grid.bases[pilot.batch_size]
        base = with_epochs(base, MOST_EPOCHS) if fits_epochs else base
        study.screen.say(f"pilot runs at batch size {base.config.data.batch_size} say which goals can be reached")
        found = farthest(study.search(Pilots(replace(grid.rules, pilot_examples=pilot.examples), base)))
        if found is None or not found[1].has_learned:
            nothing = "the pilot runs learn nothing, so that no goal follows from them"
            raise CannotSearch(f"{nothing}: type one, such as evaluation.targets.train_error=[0.1], or critical.lr")
        exponent, reached = found
        lr = grid.rules.learning_rate(grid.rules.reference_batch_size, exponent)
        rules = grid.rules if "critical.lr" in typed else replace(grid.rules, lr=lr)
        stops = all(text.lower().endswith("=true") for text in self.request.command if key_of(text) == STOP)
        goals = reached.goals[-1:] if self.study.pilot else reached.goals
        study.screen.say(f"the goal by the pilot runs: {goals[0]}" if self.study.pilot else str(reached))
        grid = replace(grid, rules=rules, goals=goals, reached=reached)
        bases = {size: with_goals(run, grid.goals, stop=stops) for size, run in grid.bases.items()}
        if fits_epochs and reached.train_samples:
            epochs = math.ceil(max(map(grid.most_examples, bases)) / reached.train_samples)
            bases = {size: with_epochs(run, epochs) for size, run in bases.items()}
        return replace(grid, bases=bases)

    def _answers(self, study: Study, sizes: Sizes) -> list[Answer]:
        """Return what the steps mean, with batch sizes run as a check that are in no fit."""
        elsewhere, price = self.request.cost, self.request.settings.price
        # Costs that are typed say that nothing is to be measured here; those in a file are for a comparison.
        here = self._cost(study, measures=elsewhere is None or elsewhere.steps is not None)
        least = QUICK_SIZES if self.study.is_quick else LEAST_SIZES
        unchecked = answers(sizes, self.grid.goals, here, elsewhere, price, least)
        if self.study.is_quick:
            return [replace(answer, factor=FACTOR) if answer.law else answer for answer in unchecked]
        checks = {} if elsewhere else self._to_check(study, unchecked)
        new, like = sorted({*checks.values()} - {*sizes}), next(iter(self.grid.bases.values()))
        others = replace(self.grid, bases=_fitted_runs(self.request.planned, new, like))
        tried = {**sizes, **others.sizes(study.search(others))}
        return [
            replace(answer, check=check_of(tried[checks[str(goal)]], index, answer.law, sizes))
            if answer.law and str(goal) in checks
            else answer
            for index, (goal, answer) in enumerate(zip(self.grid.goals, unchecked, strict=True))
        ]

    def _to_check(self, study: Study, unchecked: Sequence[Answer]) -> dict[str, int]:
        """Return the batch size to run for every goal: as chosen before the study was stopped, if it was."""
        before = read_study(study.folder)
        chosen = {
            str(goal): size
            for goal, answer in zip(self.grid.goals, unchecked, strict=True)
            if answer.soonest_batch_size and (size := round_batch_size(answer.soonest_batch_size, self.grid.bases))
        } | before.checked
        if chosen != before.checked:
            write_study(study.folder, replace(before, checked=chosen))
        return chosen

    def _cost(self, study: Study, measures: bool) -> Cost | None:
        """Return what an iteration and an example cost here, by runs that had the machine to themselves.

        None if there are no such runs, and none are made because it `measures` nothing.
        """
        searched = [run for run in study.sweep.runs.values() if run.batch_size in self.grid.bases]
        searched = [run for run in searched if not run.name.startswith("cost_")]
        if len(self.grid.bases) < 2 or all(run.record.concurrent_runs == 1 for run in searched):
            return measured_cost(searched)
        runs = list(self._cost_runs())
        line = f"the cost of an iteration is measured by {len(runs)} short runs, one after the other"
        if measures:
            study.train(
                runs,
                lambda left: line,
                lambda planned, sweep, screen: launch_in_process(planned, sweep, Screen(quiet=True)),
            )
        return measured_cost(recorded for run in runs if (recorded := study.ended(run)))

    def _cost_runs(self) -> Iterator[PlannedRun]:
        """Yield runs that train and are not evaluated, seed by seed: what slows the machine slows all sizes alike."""
        for replicate in range(1 if self.study.is_quick else COST_SEEDS):
            for size, base in self.grid.bases.items():
                seed, examples = base.config.seed + replicate, max(COST_EXAMPLES, COST_ITERATIONS * size)
                values = {"seed": seed, "trainer.max_examples": examples, "trainer.stop_at_threshold": False}
                name = f"cost_batch_size={size}_seed={seed}"
                yield PlannedRun(name, changed(base.config, {**values, **NEVER_EVALUATED}), base.overrides)

    def _branch(self, study: Study, sizes: Sizes) -> None:
        """Train branches of the first fresh seed at the smallest batch size, where it reached the last goal."""
        settings, (smallest, *_) = self.request.settings, sizes.values()
        winner = smallest.winner(len(self.grid.goals) - 1)
        if winner is None:
            study.screen.say("no branches: no rate reaches the goal at the smallest batch size")
            return
        start = self.grid.run(smallest.batch_size, Trial(winner, settings.seeds))
        study.screen.say(f"branches of {start.folder}, {settings.branch_examples:,} examples each")
        table = branches(study, start, max(sizes), settings)
        write_table(study.folder / BRANCHES, table)
        model = start.config.model
        floor = softmax_floor(model.num_classes) if model.head == "softmax" and model.num_classes else 0.0
        if summary := branches_of(table, floor):
            study.screen.say(branch_sentence(summary))


def with_goals(run: PlannedRun, goals: Sequence[Goal], **others: Any) -> PlannedRun:
    """Return a run with more goals, and other values of some keys of its evaluation."""
    targets = asdict(run.config.evaluation.targets)
    for goal in goals:
        targets[goal.target] = list(dict.fromkeys([*targets[goal.target], goal.threshold]))
    values = {f"evaluation.{name}": value for name, value in others.items()}
    return replace(run, config=changed(run.config, {"evaluation.targets": TargetsConfig(**targets), **values}))


def with_epochs(run: PlannedRun, epochs: int) -> PlannedRun:
    """Return a run of so many epochs."""
    return replace(run, config=changed(run.config, {"trainer.num_epochs": epochs}))


def fitted_to_data(request: Request[CriticalConfig], say: Callable[[str], None]) -> Request[CriticalConfig]:
    """Return a request as it fits the data, which are loaded; what was typed stays as it is.

    If too few batch sizes fit that were not typed, others do, up to half of the training set; a quick study has three
    of them. Raises `InvalidConfig` as `fitted` does.
    """
    planned = fitted(request.planned, say)
    if not (SIZE in planned.typed or len(planned.runs) >= FEWEST_SIZES or planned.settings.command is not None):
        again = plan_batch_sizes(planned, *spread_sizes(train_examples(planned.settings)))
        planned = fitted(again, lambda line: None)
    request = replace(request, planned=planned)
    return with_few_sizes(request) if request.settings.quick else request


def with_few_sizes(request: Request[CriticalConfig]) -> Request[CriticalConfig]:
    """Return the request of a quick study with three batch sizes that suit the data, unless batch sizes are typed.

    The two smallest of the full study and its largest one that is at most half of the training set; of less data,
    a half, an eighth and a 32nd of it. Raises `InvalidConfig` if there are fewer than three.
    """
    planned = request.planned
    runs = {run.config.data.batch_size: run for run in planned.runs}
    chosen = sorted(runs)
    if SIZE not in planned.typed:
        half = LARGEST
        if planned.settings.command is None:
            half = int(train_examples(planned.runs[0].config) * SHARE)
        fitting = [size for size in chosen if size <= min(LARGEST, half)]
        chosen = [*fitting[:2], fitting[-1]] if len(fitting) >= QUICK_SIZES else [half // 16, half // 4, half]
    if len(chosen) < QUICK_SIZES or not 0 < chosen[0] < chosen[1] < chosen[2]:
        raise InvalidConfig(f"{SIZE}={','.join(map(str, chosen))}: a quick study needs {QUICK_SIZES} or more")
    others = [size for size in chosen if size not in runs]
    runs |= _fitted_runs(planned, others, planned.runs[0])
    return replace(request, planned=replace(planned, runs=tuple(runs[size] for size in chosen)))


def _fitted_runs(planned: Plan, batch_sizes: Sequence[int], like: PlannedRun) -> dict[int, PlannedRun]:
    """Return the runs of further batch sizes, with what the data have decided for another run."""
    return {size: fitted_run(run, like) for size in batch_sizes for run in plan_batch_sizes(planned, size).runs}


def spread_sizes(examples: int) -> list[int]:
    """Return `SIZES` batch sizes of one digit from 2 to half of so many examples, at equal ratios; equal ones once."""
    largest = max(2, examples // 2)
    exact = (2 * (largest / 2) ** (number / (SIZES - 1)) for number in range(SIZES))
    return sorted({int(float(f"{size:.1g}")) for size in exact})
