"""Sweeps whose learning rate changes: resumed to the same bits, and what a resume may not change."""

import pytest

from tests.commands import Program
from tests.killing import assert_same_results
from tests.records import undo_the_last_epoch

SWEEP = (
    "-m", "data=mnist_sample", "data.batch_size=500", "model.hidden_size=16", "scaling=none",
    "schedule=constant,cosine", "schedule.warmup_examples=3000", "trainer.num_epochs=2",
)  # fmt: skip
DECAYS, STAYS = "schedule=cosine", "schedule=constant"


@pytest.fixture(scope="module")
def completed(tmp_path_factory) -> Program:
    program = Program(tmp_path_factory.mktemp("scheduled"))
    program.completes(*SWEEP)
    return program


@pytest.fixture
def copy(completed, tmp_path) -> Program:
    return completed.copy(tmp_path)


@pytest.mark.full
def test_a_run_with_a_schedule_is_resumed_to_the_same_bits(completed, copy):
    for folder in (DECAYS, STAYS):
        undo_the_last_epoch(copy.sweep() / folder)
    copy.completes("resume=latest")
    assert_same_results(copy.sweep(), completed.sweep())


def test_a_run_with_a_schedule_is_the_same_if_it_is_evaluated_between_its_iterations(completed, program):
    few = ("evaluation.every_examples=1700", "evaluation.train_samples=200", "evaluation.test_samples=100")
    program(*SWEEP, *few)
    assert_same_results(program.sweep(), completed.sweep())


def test_a_run_whose_rate_decays_is_not_made_longer_by_a_resume(copy):
    refused = copy("resume=latest", "trainer.num_epochs=3")
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        f"resume=latest: {DECAYS}: trainer.num_epochs was 2, is now 3, but schedule.decay=cosine ends with it"
    ]


def test_a_run_whose_decay_has_an_end_of_its_own_may_be_made_longer(program):
    ends = (*SWEEP, "schedule=cosine", "schedule.decay_examples=8000")
    program.completes(*ends)
    losses = program.table()["final_loss"]
    program.completes(*ends, "trainer.num_epochs=3", "resume=latest")
    # From there on its rate is 0.
    assert program.table()["epochs"].tolist() == [3]
    assert program.table()["final_loss"].tolist() == pytest.approx(losses.tolist(), abs=0.01)
