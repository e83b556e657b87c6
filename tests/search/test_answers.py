"""What a study says of a goal, in its file and in words."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from digits_sweep.errors import UnreadableRecord
from digits_sweep.report.critical import answer_sentence, check_sentence
from digits_sweep.results.critical import ANSWERS, Answer, Check, read_answers, write_answers
from digits_sweep.results.record import EpochRow, Record
from digits_sweep.results.run import RecordedRun
from digits_sweep.search.answers import measured_cost, round_batch_size, soonest
from digits_sweep.search.fit import Fit
from digits_sweep.search.settings import Cost

FIT = Fit(14.16, 3433, 242.5, 204, 292, {5: 201.0, 4000: None}, {5: 0.19})
ANSWER = Answer(
    "train_error", 0.1, 14.16, 3433.0, 242.5, 204.0, 292.0, {"5": 201.0, "4000": None}, {"5": -0.19}, None,
    119e-6, 8.4e-6, False, 58.6, 0.2417, 61.0, Check(50, 4e-3, 7, 82.8, 75.0, 70.0, 80.0),
)  # fmt: skip


def test_the_answer_is_a_sentence():
    assert answer_sentence(ANSWER) == (
        "train error < 0.1: well below batch size 240 [204, 292] twice the batch needs about half the steps, well "
        "above it hardly fewer; on this machine (119 µs an iteration, 8.4 µs an example) about 59 is soonest, at 24% "
        "more examples than the fewest possible."
    )
    elsewhere = replace(ANSWER, cost_is_given=True)
    assert "; on a machine with these costs (119 µs an iteration" in answer_sentence(elsewhere)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"seconds_per_iteration": None, "seconds_per_example": None}, "well above it hardly fewer."),
        ({"seconds_per_iteration": 0.0}, "the smallest batch size is soonest."),
        ({"seconds_per_example": 0.0}, "the largest batch size is soonest."),
        ({"b_crit": None, "reason": "the curve is flat"}, "cannot be told (the curve is flat)."),
    ],
)
def test_what_is_not_known_is_not_said(changed, says):
    assert answer_sentence(replace(ANSWER, **changed)).endswith(says)


def test_the_check_stands_beside_what_was_expected():
    assert check_sentence(ANSWER) == (
        "train error < 0.1: run at batch size 50, it takes 75 steps [70, 80] on 7 fresh seeds, 0.0404 s of training; "
        "expected: 82.8."
    )
    missed = replace(ANSWER, check=Check(50, None, 0, 82.8, None, None, None))
    assert check_sentence(missed).endswith("run at batch size 50, the goal was not reached; 82.8 steps were expected.")
    assert check_sentence(replace(ANSWER, check=None)) is None


def test_the_soonest_batch_size_weighs_an_iteration_against_an_example():
    size = soonest(FIT, Cost(119e-6, 8.4e-6))
    assert size == pytest.approx(58.6, rel=1e-2)

    def seconds(batch_size):
        return FIT.steps(batch_size) * (119e-6 + batch_size * 8.4e-6)

    assert seconds(size) < min(seconds(size * 1.05), seconds(size / 1.05))
    assert soonest(FIT, Cost(1, 0)) is None
    assert soonest(FIT, Cost(0, 1)) is None


@pytest.mark.parametrize(("size", "rounded"), [(58.6, 50), (75, 100), (140, 100), (160, 200), (2, 5), (1e9, 4000)])
def test_the_batch_size_to_check_is_a_round_one_within_those_that_were_run(size, rounded):
    assert round_batch_size(size, [5, 4000]) == rounded


def test_answers_are_read_as_they_were_written(tmp_path):
    unknown = Answer("test_loss", 1.6, reason="3 batch sizes reached the goal, and a fit needs 4")
    write_answers(tmp_path, [ANSWER, unknown])
    assert read_answers(tmp_path) == [ANSWER, unknown]
    first = json.loads((tmp_path / ANSWERS).read_text())[0]
    assert list(first)[:7] == ["target", "threshold", "s_min", "e_min", "b_crit", "b_crit_low", "b_crit_high"]


@pytest.mark.parametrize(
    "content",
    [
        "{}", "[1]", "nonsense", "[" * 100_000, '[{"target": "x"}]', '[{"target": 1, "threshold": 0.1}]',
        '[{"target": "x", "threshold": 0.1, "b_crit": "240"}]', '[{"target": "x", "threshold": 0.1, "b_crit": -1}]',
        '[{"target": "x", "threshold": 0.1, "leave_one_out": {"5": "x"}}]', '[{"target": "x", "threshold": NaN}]',
        '[{"target": "x", "threshold": 1e999}]', '[{"target": "\\ud800", "threshold": 0.1}]',
        '[{"target": "x", "threshold": 0.1, "check": {"batch_size": 5}}]',
    ],
)  # fmt: skip
def test_a_file_of_somebody_else_is_refused_in_one_line(tmp_path, content):
    (tmp_path / ANSWERS).write_text(content)
    with pytest.raises(UnreadableRecord) as refused:
        read_answers(tmp_path)
    assert str(refused.value).startswith(f"{ANSWERS}: ")
    assert "\n" not in str(refused.value)


def timed(batch_size, seconds, iterations=100):
    row = EpochRow(1, 2.0, 0.1, seconds, batch_size * iterations / seconds, True, iterations, batch_size * iterations)
    return RecordedRun(Path("run"), Record(0, config={"data": {"batch_size": batch_size}}), [row])


def test_the_cost_of_an_iteration_and_of_an_example_come_from_the_seconds_of_runs():
    runs = [timed(size, 100 * (1e-4 + size * 1e-6)) for size in (10, 100, 1000)]
    cost = measured_cost([*runs, timed(100, 5.0), timed(100, 100 * 2e-4)])
    assert (cost.iteration, cost.example) == pytest.approx((1e-4, 1e-6))
    assert measured_cost(runs[:1]) is None
