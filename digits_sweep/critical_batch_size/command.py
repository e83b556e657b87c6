"""The command from end to end: plan, open the study's folder, search, write tables, say what came out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from digits_sweep.config.plan import Plan
from digits_sweep.console import Screen
from digits_sweep.critical_batch_size.answers.answer import answers, round_batch_size, with_check
from digits_sweep.critical_batch_size.answers.branches import branches, start_of_branches
from digits_sweep.critical_batch_size.answers.tables import (
    shown,
    steps_table,
    tuning_table,
    write_branches,
    write_steps,
    write_tuning,
)
from digits_sweep.critical_batch_size.folder import (
    FOLDER,
    find_study,
    read_study,
    refuse_another,
    study_file,
    write_study,
)
from digits_sweep.critical_batch_size.search.runs import goals_of, plan_batch_size, plan_batch_sizes
from digits_sweep.critical_batch_size.search.study import Stop, Study
from digits_sweep.critical_batch_size.settings import Typed
from digits_sweep.process.command import INTERRUPTED, TERMINATED, Terminated
from digits_sweep.report.analysis.curves.branches import branches_of
from digits_sweep.report.analysis.sentences.critical import branch_sentence, sentences
from digits_sweep.report.analysis.sentences.formatting import listed
from digits_sweep.report.analysis.study import load_study
from digits_sweep.report.page import write_page
from digits_sweep.results.critical import Answer, write_answers
from digits_sweep.results.disk.files import remove_leftovers
from digits_sweep.results.disk.lock import only_writer
from digits_sweep.results.sweep import RecordedSweep
from digits_sweep.sweep import preflight
from digits_sweep.sweep.launch import launch
from digits_sweep.sweep.resume_line import whole_command
from digits_sweep.sweep.session import claim_folder, datasets
from digits_sweep.trackers.process import following

MODULE = "digits_sweep.critical_batch_size"


def execute(typed: Typed, screen: Screen) -> int:
    """Find the steps to every goal at every batch size, say which is soonest, and return the exit code.

    A goal that no batch size reaches, or a rate at which runs diverge, is a result: the code is 0. Raises a
    `DigitsSweepError` or OSError if the command is refused or results cannot be written.
    """
    planned = plan_batch_sizes(typed.arguments)
    goals = goals_of(planned.settings)
    preflight.check(planned)
    with _opened(typed, planned, screen) as (sweep, choices):
        study = Study(planned, typed.settings, goals, sweep, choices, screen, launch)
        try:
            stop = _search(study) or _answer(study, typed)
        except KeyboardInterrupt as signal:
            stop = Stop(TERMINATED if isinstance(signal, Terminated) else INTERRUPTED, [])
        screen.say(f"this study {sweep.folder}")
        if stop:
            screen.say(f"not completed: {listed(stop.unfinished)}" if stop.unfinished else "stopped")
            screen.say(f"resume with: {whole_command(MODULE, typed.command, sweep.folder)}")
    return stop.code if stop else 0


@contextmanager
def _opened(typed: Typed, planned: Plan, screen: Screen) -> Iterator[tuple[RecordedSweep, list]]:
    """Open a new study, or the one to resume: this process alone writes in its folder in the block."""
    asked = study_file(typed.settings, planned.runs)
    earlier = find_study(typed.resume, planned.outputs) if typed.resume else None
    if earlier:
        refuse_another(earlier, read_study(earlier), asked)
    recorded = RecordedSweep(earlier) if earlier else None
    choices = datasets(planned, recorded, screen)
    folder = earlier or claim_folder(planned.outputs / FOLDER)
    with only_writer(folder):
        if earlier:
            remove_leftovers(folder)
            screen.say(f"resuming {folder}")
        else:
            write_study(folder, asked)
        with following(planned.settings.tracker, folder, screen.say):
            yield RecordedSweep(folder), choices


def _sizes(study: Study) -> list[int]:
    return [run.config.data.batch_size for run in study.planned.runs]


def _search(study: Study) -> Stop | None:
    sizes, folder = _sizes(study), study.sweep.folder
    if stop := study.search(study.planned.runs, lambda: write_tuning(folder, tuning_table(study, sizes))):
        return stop
    steps = steps_table(study, sizes)
    write_steps(folder, steps)
    for goal in study.goals:
        study.screen.table(*shown(goal, steps))
    return None


def _answer(study: Study, typed: Typed) -> Stop | None:
    """Say what the steps mean for the choice of a batch size, and run the one that is called soonest."""
    folder, found = study.sweep.folder, answers(study, _sizes(study), typed.cost)
    checked = {} if typed.cost else _to_check(study, [each for each, _ in found])
    others = [plan_batch_size(typed.arguments, size) for size in sorted(set(checked.values()) - {*_sizes(study)})]
    if stop := study.search(others, lambda: None):
        return stop
    final = [
        with_check(each, fit, study, goal, checked[str(study.goals[goal])])
        if fit and str(study.goals[goal]) in checked
        else each
        for goal, (each, fit) in enumerate(found)
    ]
    write_answers(folder, final)
    for line in sentences(final):
        study.screen.say(line)
    _branch(study)
    page = folder / "index.html"
    write_page(page, [load_study(folder)])
    study.screen.say(f"page       {page}")
    return None


def _branch(study: Study) -> None:
    """Write what branches of a run come to, if they are asked for."""
    if not study.settings.branch:
        return
    start = start_of_branches(study)
    if start is None:
        study.screen.say("no branches: no rate reaches the goal at the smallest batch size")
        return
    study.screen.say(f"branches of {start.folder}, {study.settings.branch_examples:,} examples each")
    table = branches(study, start)
    write_branches(study.sweep.folder, table)
    if found := branches_of(table):
        study.screen.say(branch_sentence(found))


def _to_check(study: Study, found: Sequence[Answer]) -> dict[str, int]:
    """Return the batch size to run for every goal: as chosen before the study was stopped, if it was."""
    before = read_study(study.sweep.folder)
    now = dict(before.checked)
    for goal, each in zip(map(str, study.goals), found, strict=True):
        if each.soonest_batch_size is not None and goal not in now:
            now[goal] = round_batch_size(each.soonest_batch_size, _sizes(study))
    if now != before.checked:
        write_study(study.sweep.folder, replace(before, checked=now))
    return now
