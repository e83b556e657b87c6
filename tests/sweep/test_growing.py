"""Runs whose batch grows: what they record, that a resume gives the same bits, and how they are told apart."""

import csv
from pathlib import Path

import numpy as np
import pytest

from digits_sweep.config.plan import plan
from digits_sweep.report.study import load_study
from digits_sweep.results.run import read_run
from digits_sweep.results.sweep import load_sweep
from digits_sweep.sweep.run import run
from tests.killing import losses, weights
from tests.workloads import needs_compiler

KEYS = ("data=mnist_sample", "model.hidden_size=16", "trainer.loss_threshold=2.2", "optimizer.lr=1e-2")
EVALUATED = ("evaluation=fine", "evaluation.every_examples=700", "evaluation.train_samples=500")
BY_EXAMPLES = ("schedule.batch={0:50,1010:200,4500:1000}",)
BY_NOISE = ("schedule.batch=grow", "data.batch_size=20", "evaluation.noise_scale=true")
CASES = (
    ("eager", BY_EXAMPLES),
    ("closed_form", BY_NOISE),
    pytest.param("native", BY_NOISE, marks=needs_compiler),
    *(pytest.param(*case, marks=pytest.mark.full) for case in (("eager", BY_NOISE), ("closed_form", BY_EXAMPLES))),
    pytest.param("native", BY_EXAMPLES, marks=[needs_compiler, pytest.mark.full]),
    pytest.param("lesson", (*BY_NOISE, "data.num_workers=0"), marks=pytest.mark.full),
)


def config(epochs: int, *more: str):
    return plan([*KEYS, *EVALUATED, f"trainer.num_epochs={epochs}", *more]).settings


def evaluations(folder: Path) -> list[dict[str, str]]:
    """The rows of `evaluations.csv`, but for the seconds."""
    with (folder / "evaluations.csv").open() as file:
        return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize(("engine", "batch"), CASES)
def test_a_run_that_is_stopped_after_an_epoch_gives_the_same_bits(engine, batch, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run(config(3, f"engine={engine}", *batch), whole)
    for epochs in (1, 3):
        run(config(epochs, f"engine={engine}", *batch), stopped)
    for name in ("losses.npy", "examples.npy"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name
    assert losses(stopped) == losses(whole)
    assert evaluations(stopped) == evaluations(whole)
    assert all(one.equal(other) for one, other in zip(weights(stopped), weights(whole), strict=True))
    assert read_run(stopped).crossing == read_run(whole).crossing


def test_records_count_the_examples_of_every_iteration(tmp_path):
    recorded = run(config(2, *BY_EXAMPLES), tmp_path / "run")
    sizes = np.load(tmp_path / "run" / "examples.npy").tolist()
    # The border at 1,010 lies in a batch of 50, which is whole; so is that of 200 with the border at 4,500.
    first = [50] * 21 + [200] * 14 + [150]
    assert sizes == first + [200] * 3 + [1_000] * 3 + [400]
    assert [(row.iterations, row.examples) for row in recorded.history] == [(36, 4_000), (43, 8_000)]
    ends = dict(enumerate(np.cumsum(sizes).tolist(), 1))
    assert all(ends[row.iterations] == row.examples for row in recorded.evaluations[1:])
    # The running loss is the mean over the last 200 examples, whatever the size of a batch.
    means = np.load(tmp_path / "run" / "losses.npy").astype(float)
    crossed = next(last for last in range(4, 22) if means[last - 4 : last].mean() < 2.2)
    assert (recorded.crossing.iterations, recorded.crossing.examples) == (crossed, 50 * crossed)
    assert read_run(tmp_path / "run").crossing == recorded.crossing
    assert read_run(tmp_path / "run").iterations_per_epoch is None


def test_a_batch_that_follows_the_noise_scale_grows_after_the_evaluations_that_say_so(tmp_path):
    recorded = run(config(1, *BY_NOISE, "schedule.largest_batch=50"), tmp_path / "run")
    sizes = np.load(tmp_path / "run" / "examples.npy")
    changes = (np.flatnonzero(np.diff(sizes)) + 1).tolist()
    assert sizes[0] == 20
    assert max(sizes) == 40
    assert {*changes} <= {row.iterations for row in recorded.evaluations} | {len(sizes) - 1}


def test_a_batch_that_grows_is_a_configuration_of_its_own(program):
    batches = "{0:50,1000:200},{0:50},{0:50,2000:200},grow"
    targets = "evaluation.targets.train_loss=[2.2]"
    keys = ("evaluation.noise_scale=true", targets, "data.batch_size=50", "trainer.num_epochs=1")
    assert program("-m", *KEYS, *EVALUATED, *keys, f"schedule.batch={batches}").returncode == 0
    study = load_study(program.sweep())
    assert list(study.runs["configuration"]) == [
        "batch size 50, 200 from 1,000", "batch size 50", "batch size 50, 200 from 2,000", "batch size 50, growing",
    ]  # fmt: skip
    table = load_sweep(program.sweep())
    assert table["batch_schedule"].fillna("").tolist() == ["{0:50,1000:200}", "", "{0:50,2000:200}", "grow"]
    assert table["iterations_per_epoch"].isna().tolist() == [True, False, True, True]
    # Their seconds are those of the very run.
    growing = study.runs[study.runs["batch_schedule"].notna() & study.runs["reached"]]
    assert len(growing)
    assert (growing["seconds_to_goal"] == growing["own_seconds_to_goal"]).all()
    assert growing["seconds_to_goal"].notna().all()
