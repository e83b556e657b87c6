"""Mutated files through everything that reads them: no traceback, no hang, and nothing believed that is contradicted.

`make test-all` tries a few mutations of each kind, `make torture` more than 2,000.
"""

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from digits_sweep.report import page
from digits_sweep.results.sweep import load_history, load_sweep
from tests.commands import Finished, Program
from tests.searches import CRITICAL, QUICK, STUDY, TUNE
from tests.security.mutations import (
    NAMES,
    OF_A_STUDY,
    RUN,
    VALUES,
    byte_changes,
    change_and_seal,
    change_cell,
    change_values,
    changed_bytes,
)

pytestmark = pytest.mark.full

# Far longer than anything here takes on a slow machine, and no end if something hangs.
MOST_SECONDS = 300
FEW, MANY = 6, 520
BRANCHES = ("critical.branch=true", "critical.branch_examples=2000")
SEARCH, TRIAL = (*QUICK, "tune.trials=3", "hydra/launcher=basic"), "trial_0001_seed=42"

# What a run resulted in: the rest says where it lies and how it stands.
RESULTS = ["batch_size", "lr", "seed", "seconds_per_epoch", "first_epoch_below_threshold", "final_loss", "epochs",
           "test_accuracy", "classes_never_predicted", "iterations_to_threshold"]  # fmt: skip

where = st.floats(0, 1, exclude_max=True)
hostile = st.sampled_from(VALUES)
how = st.sampled_from(["replace", "replace", "replace", "remove", "rename"])


class Hangs(BaseException):
    """Not an Exception, which a run that fails would take for its own."""


@contextmanager
def ending() -> Iterator[None]:
    """Fail a block that does not end. Only a signal interrupts a wait for a pipe."""

    def stop(*_: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def extended(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The table after a third epoch, of the sweep that nothing happened to."""
    program = Program(tmp_path_factory.mktemp("extended"))
    shutil.copytree(recorded, program.outputs / "sweeps" / "received")
    assert program("resume=latest", "trainer.num_epochs=3").returncode == 0
    return load_sweep(program.sweep())


def cells(table: pd.DataFrame, run: str, columns: list[str]) -> list[Any]:
    rows = table[table["run_dir"] == run]
    return [None if pd.isna(value) else value for _, row in rows.iterrows() for value in row[columns]]


def assert_nothing_contradicted_is_believed(sweep: Path, recorded: Path) -> None:
    """Every run is as it was recorded, or its row says what is wrong with it."""
    table, before = load_sweep(sweep), load_sweep(recorded)
    for run in before["run_dir"]:
        (error,) = cells(table, run, ["error"]) or [None]
        results = cells(table, run, RESULTS)
        assert error is not None or results == cells(before, run, RESULTS)
        columns = ["epoch", "loss_mean", "loss_std", "seconds"]
        epochs = cells(load_history(sweep), run, columns)
        # A run whose record is the one before it has the epochs of that one.
        assert epochs == cells(load_history(recorded), run, columns)[: len(epochs)]


def assert_a_line_or_nothing(done: Finished) -> None:
    text = done.stdout + done.stderr
    assert "Traceback" not in text
    assert done.returncode in (0, 1)
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    # What a run failed of was found wrong on purpose, not stumbled over.
    assert not any(f"failed: {kind}" in text for kind in ("TypeError", "KeyError", "AttributeError", "IndexError"))
    if done.returncode and not done.stdout:
        assert 1 <= done.stderr.count("\n") <= 4
        assert len(done.stderr) < 5_000


@contextmanager
def copied(recorded: Path) -> Iterator[tuple[Program, Path]]:
    with tempfile.TemporaryDirectory() as name:
        program = Program(Path(name))
        shutil.copytree(recorded, program.outputs / "sweeps" / "received")
        yield program, program.outputs / "sweeps" / "received"


def read_by_everything(recorded: Path, mutate: Callable[[Path], None], contradicted: bool) -> None:
    """Read a mutated copy of `recorded` as the library, the report and a resume do."""
    with copied(recorded) as (program, sweep), ending(), pytest.MonkeyPatch.context() as patch:
        mutate(sweep)
        load_sweep(sweep)
        load_history(sweep)
        if contradicted:
            assert_nothing_contradicted_is_believed(sweep, recorded)
        # Figures take a second each; what they are given is tried by `test_figures_are_drawn_of_it`.
        patch.setattr(page, "figures", lambda *tables: [])
        assert_a_line_or_nothing(program(str(sweep), module="digits_sweep.report"))
        assert_a_line_or_nothing(program(f"resume={sweep}", "dry_run=true", "trainer.num_epochs=3"))


def resumed(recorded: Path, mutate: Callable[[Path], None], extended: pd.DataFrame | None) -> None:
    """Resume a mutated copy: it ends with the results of the sweep that nothing happened to, or says why not."""
    with copied(recorded) as (program, sweep), ending():
        mutate(sweep)
        done = program(f"resume={sweep}", "trainer.num_epochs=3")
        assert_a_line_or_nothing(done)
        if extended is not None:
            results = [
                "batch_size",
                "lr",
                "seed",
                "first_epoch_below_threshold",
                "final_loss",
                "epochs",
                "test_accuracy",
            ]
            for run in extended["run_dir"]:
                ours, (error,) = cells(load_sweep(sweep), run, results), cells(load_sweep(sweep), run, ["error"])
                assert error is not None or done.returncode == 1 or ours == cells(extended, run, results)


def drawn(recorded: Path, mutate: Callable[[Path], None]) -> None:
    with copied(recorded) as (program, sweep), ending():
        mutate(sweep)
        assert_a_line_or_nothing(program(str(sweep), module="digits_sweep.report"))


@st.composite
def in_bytes(draw: st.DrawFn) -> tuple[str, Callable[[Path], None]]:
    name, changes = draw(st.sampled_from(NAMES)), draw(byte_changes())

    def mutate(sweep: Path) -> None:
        path = sweep / name
        path.write_bytes(changed_bytes(path.read_bytes(), changes))

    return name, mutate


@st.composite
def in_values(draw: st.DrawFn) -> tuple[str, Callable[[Path], None]]:
    name = draw(st.sampled_from([name for name in NAMES if name.endswith(".json")]))
    arguments = draw(where), draw(hostile), draw(how)
    return name, lambda sweep: change_values(sweep, name, *arguments)


@st.composite
def sealed(draw: st.DrawFn) -> tuple[str, Callable[[Path], None]]:
    name, arguments = draw(st.sampled_from(NAMES)), (draw(where), draw(hostile), draw(how))
    return name, lambda sweep: change_and_seal(sweep, name, *arguments)


def tries(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


MUTATIONS = {"bytes": in_bytes(), "values": in_values(), "sealed values": sealed()}


@pytest.mark.parametrize(
    "examples", [FEW, pytest.param(MANY, marks=pytest.mark.torture)], ids=["few", "many"]
)  # fmt: skip
@pytest.mark.parametrize("kind", MUTATIONS)
def test_a_mutated_sweep_is_read_by_everything(recorded, kind, examples):
    @tries(examples)
    @given(MUTATIONS[kind])
    def every(mutation: tuple[str, Callable[[Path], None]]) -> None:
        name, mutate = mutation
        # sweep.json has no checksum, and what is sealed contradicts none.
        read_by_everything(recorded, mutate, contradicted=kind != "sealed values" and name.startswith(RUN))

    every()


@pytest.mark.parametrize("examples", [3, pytest.param(170, marks=pytest.mark.torture)], ids=["few", "many"])
@pytest.mark.parametrize("kind", MUTATIONS)
def test_a_mutated_sweep_is_resumed_to_the_same_results_or_says_why_not(recorded, extended, kind, examples):
    @tries(examples)
    @given(MUTATIONS[kind])
    def every(mutation: tuple[str, Callable[[Path], None]]) -> None:
        name, mutate = mutation
        tied = kind != "sealed values" and name.startswith(RUN)
        resumed(recorded, mutate, extended if tied else None)

    every()


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of the critical batch size, with branches."""
    program = Program(tmp_path_factory.mktemp("study"))
    done = program(*STUDY, *BRANCHES, module=CRITICAL)
    assert done.returncode == 0, done.stdout + done.stderr
    return next((program.outputs / "critical_batch_size").iterdir())


@st.composite
def in_a_study(draw: st.DrawFn) -> tuple[str, Callable[[Path], None]]:
    """A change of a file of a study, or of what every sweep has."""
    name = draw(st.sampled_from(OF_A_STUDY))
    if draw(st.booleans()):
        changes = draw(byte_changes())
        return name, lambda folder: (folder / name).write_bytes(changed_bytes((folder / name).read_bytes(), changes))
    place, value, what = draw(where), draw(hostile), draw(how)
    if name.endswith(".csv"):
        return name, lambda folder: change_cell(folder / name, place, value)
    return name, lambda folder: change_values(folder, name, place, value, what)


@pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.torture)], ids=["few", "many"])
def test_a_mutated_study_is_read_by_the_report(study, examples):
    @tries(examples)
    @given(in_a_study())
    def every(mutation: tuple[str, Callable[[Path], None]]) -> None:
        with copied(study) as (program, folder), ending():
            mutation[1](folder)
            assert_a_line_or_nothing(program(str(folder), module="digits_sweep.report"))

    every()


@pytest.mark.parametrize("examples", [3, pytest.param(60, marks=pytest.mark.torture)], ids=["few", "many"])
def test_a_mutated_study_is_resumed_to_the_same_table_or_says_why_not(study, examples):
    @tries(examples)
    @given(in_a_study())
    def every(mutation: tuple[str, Callable[[Path], None]]) -> None:
        with copied(study) as (program, folder), ending():
            mutation[1](folder)
            done = program(*STUDY, *BRANCHES, f"resume={folder}", module=CRITICAL)
            assert_a_line_or_nothing(done)
            if not done.returncode:
                for name in ("tuning.csv", "steps_to_target.csv"):
                    assert (folder / name).read_bytes() == (study / name).read_bytes()

    every()


@pytest.fixture(scope="session")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search with Optuna."""
    pytest.importorskip("optuna")
    program = Program(tmp_path_factory.mktemp("search"))
    done = program(*SEARCH, module=TUNE)
    assert done.returncode == 0, done.stdout + done.stderr
    return program.outputs / "tune" / "s"


@pytest.mark.parametrize("examples", [3, pytest.param(60, marks=pytest.mark.torture)], ids=["few", "many"])
@pytest.mark.parametrize("kind", ["bytes", "values", "sealed"])
def test_a_mutated_search_continues_or_says_why_not(search, kind, examples):
    @tries(examples)
    @given(st.sampled_from(["sweep.json", f"{TRIAL}/record.json", f"{TRIAL}/history.csv"]), where, hostile, how)
    def every(name: str, place: float, value: Any, what: str) -> None:
        with tempfile.TemporaryDirectory() as temporary, ending():
            program = Program(Path(temporary))
            folder = program.outputs / "tune" / "s"
            shutil.copytree(search, folder)
            if kind == "bytes":
                changed = changed_bytes((folder / name).read_bytes(), [("flip", place, b"\x15")])
                (folder / name).write_bytes(changed)
            elif kind == "sealed" or name.endswith(".csv"):
                change_and_seal(folder, name, place, value, what)
            else:
                change_values(folder, name, place, value, what)
            assert_a_line_or_nothing(program(*SEARCH, module=TUNE))

    every()


@pytest.mark.parametrize("examples", [2, pytest.param(60, marks=pytest.mark.torture)], ids=["few", "many"])
def test_figures_are_drawn_of_it(recorded, examples):
    @tries(examples)
    @given(MUTATIONS["sealed values"])
    def every(mutation: tuple[str, Callable[[Path], None]]) -> None:
        drawn(recorded, mutation[1])

    every()
