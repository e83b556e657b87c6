"""The line that says which batch size to take: what fits, what pays, what helps."""

from dataclasses import asdict

import pytest

from digits_sweep.results.critical import Answer, MachineCost, StepCost, network_of, write_answers
from digits_sweep.results.record import Record, write_record
from digits_sweep.search.cost import Largest, studied, which_to_take
from tests.workloads import settings


def cost(iteration: float, example: float) -> MachineCost:
    rows = [(size, iteration + size * example) for size in (5, 20, 100, 300, 512, 1_000, 2_000, 4_000)]
    steps = [StepCost(batch_size=b, seconds=s, low=s, high=s, engine="eager", num_threads=1) for b, s in rows]
    return MachineCost(machine="a GPU", torch_version="2.15", measured_at="today", network={}, steps=steps)


ANSWER = Answer("train_error", 0.07, s_min=30.0, e_min=30.0 * 590, b_crit=590.0, exponent=1.45)


@pytest.mark.parametrize(
    ("cost", "largest", "answer", "line"),
    [
        (
            cost(50e-6, 1e-6), Largest(4_096), ANSWER,
            "largest that fits 4,096; throughput flat from 512; critical 590 (train error < 0.07): take 260, which is "
            "soonest there",
        ),
        (
            cost(1e-3, 1e-9), Largest(32_768, is_tried=False), ANSWER,
            "largest that fits about 32,768; throughput still rises at 4,000; critical 590 (train error < 0.07): take "
            "4,000, which is soonest there",
        ),
        (
            cost(1e-3, 1e-9), Largest(256), ANSWER,
            "largest that fits 256; throughput still rises at 4,000; critical 590 (train error < 0.07): take 256, "
            "which is soonest there",
        ),
        (
            cost(50e-6, 1e-6), Largest(60_000, is_everything=True), None,
            "all 60,000 examples fit in a batch; throughput flat from 512; critical not known (no study here: python "
            "-m digits_sweep.critical_batch_size): take at most 512",
        ),
        (
            cost(50e-6, 1e-6), None, None,
            "what fits is not known; throughput flat from 512; critical not known (no study here: python "
            "-m digits_sweep.critical_batch_size): take at most 512",
        ),
    ],
)  # fmt: skip
def test_the_line_has_all_three_and_what_follows(cost, largest, answer, line):
    assert which_to_take(cost, largest, answer) == line


def test_the_newest_study_of_the_same_network_counts(tmp_path):
    config, other = settings("optimizer=sgd"), settings("model.hidden_size=7")
    for name, its, b_crit in (("1", config, 100.0), ("2", config, 200.0), ("3", other, 300.0), ("4", config, None)):
        run = tmp_path / "critical_batch_size" / name / "batch_size=5"
        run.mkdir(parents=True)
        write_record(run, Record(0, folder=run.name, config=asdict(its)))
        answer = Answer("train_error", 0.1, s_min=10.0, e_min=1e3, b_crit=b_crit)
        write_answers(run.parent, [answer])
    (tmp_path / "critical_batch_size" / "5").mkdir()
    (tmp_path / "critical_batch_size" / "5" / "critical_batch_size.json").write_text("[")
    assert studied(tmp_path, network_of(config)).b_crit == 200
    assert studied(tmp_path, network_of(settings("optimizer=muon"))) is None
    assert studied(tmp_path / "nowhere", network_of(config)) is None
