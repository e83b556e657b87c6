"""Sweeps over networks that are no MLP: evaluated, with their gradient noise, and resumed to the same bits."""

import pandas as pd
import pytest

from tests.commands import Program
from tests.killing import assert_same_results

SWEEP = (
    "-m", "data=mnist_sample", "data.batch_size=1000", "optimizer=adamw", "trainer.num_epochs=2", "model=cnn,linear",
    "evaluation.every_examples=2000", "evaluation.train_samples=60", "evaluation.test_samples=50",
    "evaluation.noise_scale=true",
)  # fmt: skip


@pytest.fixture(scope="module")
def completed(tmp_path_factory) -> Program:
    program = Program(tmp_path_factory.mktemp("networks"))
    program.completes(*SWEEP)
    return program


@pytest.mark.full
def test_every_network_is_trained_and_its_gradient_noise_is_measured(completed):
    table = completed.table()
    assert list(table["model"]) == ["cnn", "linear"]
    assert list(table["status"]) == ["completed"] * 2
    assert list(table["hidden_size"].isna()) == [False, True]
    for name in ("cnn", "linear"):
        assert (pd.read_csv(completed.sweep() / f"model={name}" / "evaluations.csv")["gradient_trace"] > 0).all()


@pytest.mark.full
def test_every_network_is_resumed_to_the_same_bits(completed, program):
    program(*[each.replace("num_epochs=2", "num_epochs=1") for each in SWEEP])
    program.completes("resume=latest", "trainer.num_epochs=2")
    assert_same_results(program.sweep(), completed.sweep())
