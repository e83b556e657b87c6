"""What a study says of a goal, in its file and in words."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from digits_sweep.errors import UnreadableRecord
from digits_sweep.report.critical import (
    answer_sentence,
    check_sentence,
    elsewhere_sentence,
    headline,
    law_sentence,
    moves_sentence,
    price_sentence,
    soonest_sentence,
)
from digits_sweep.results.critical import ANSWERS, Answer, Check, Law, read_answers, write_answers
from digits_sweep.results.record import EpochRow, Record
from digits_sweep.results.run import RecordedRun
from digits_sweep.search.answers import answers, measured_cost, round_batch_size, soonest, soonest_at
from digits_sweep.search.grid import BatchSize, Outcome
from digits_sweep.search.settings import Cost, CriticalConfig, Goal

ANSWER = Answer(
    "train_error", 0.1, 14.16, 3433.0, 242.5, 204.0, 292.0, {"5": 201.0, "4000": None}, {"5": -0.19}, None,
    119e-6, 8.4e-6, False, 58.6, 0.2417, 61.0, Check(50, 4e-3, 7, 82.8, 75.0, 70.0, 80.0, {"20": 180.0, "100": 41.0}),
    1.5, 0.9, 2.1, 0.4, 100.0, 70.0, 140.0, 45.0, 75.0, 31.0, 110.0, 0, 25.0, 150.0,
)  # fmt: skip
UNKNOWN = replace(ANSWER, s_min=None, e_min=None, b_crit=None, soonest_batch_size=None, reason="the curve is flat")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, "Use about 60 (31 to 110 cost at most 10 % more time here, for train error < 0.1). "
             "Larger pays only with parallel hardware, up to about 240."),
        ({"cost_is_given": True}, "Use about 60 (31 to 110 cost at most 10 % more time at these costs, for train error "
                                  "< 0.1). Larger pays only with parallel hardware, up to about 240."),
        ({"within_high": 300.0}, "Use about 60 (31 to 300 cost at most 10 % more time here, for train error < 0.1). "
                                 "Larger hardly saves steps."),
        ({"within_low": 58.0, "within_high": 59.0}, "Use about 59 (58 to 59 cost at most 10 % more time here, for "
                                                    "train error < 0.1). Larger pays only with parallel hardware, up "
                                                    "to about 240."),
        ({"soonest_batch_size": None}, "Up to about 240 a larger batch saves steps, beyond that hardly any (for train "
                                       "error < 0.1)."),
    ],
)  # fmt: skip
def test_the_first_sentence_says_which_batch_size_to_use(changed, says):
    assert headline([UNKNOWN, replace(ANSWER, **changed)]) == says
    assert len(says.split()) <= 40


def test_the_goal_that_takes_the_most_examples_is_answered_first_and_the_answers_are_said_to_move():
    late = replace(ANSWER, threshold=0.03, e_min=9e4, b_crit=2400.0)
    assert "for train error < 0.03" in headline([late, ANSWER])
    assert moves_sentence([late, ANSWER]) == (
        "It holds for its goal alone: the critical batch size is 240 (train error < 0.1), then 2,400 (train error < "
        "0.03)."
    )
    assert moves_sentence([ANSWER, UNKNOWN]) is None


SHARP = replace(ANSWER, exponent=1.7, exponent_low=1.2, p_value=0.0002)
NO_INTERVALS = replace(ANSWER, b_crit_low=None, b_crit_high=None, b_20_low=None, b_20_high=None)
ELSEWHERE = replace(
    ANSWER, cost_is_given=True, seconds_per_iteration=None, seconds_per_example=None, machine="1 H200", price=3.0,
    seconds_per_step={5: 1e-4, 1000: 2e-3}, soonest_batch_size=900.0, within_low=500.0, within_high=2000.0,
    soonest_here=60.0, within_low_here=31.0, within_high_here=110.0,
)  # fmt: skip
SLOW = replace(ELSEWHERE, seconds_per_step={5: 10.0, 1000: 10.0})
MONEY = float(Law(14.16, 242.5, 1.5).steps(900)) * 10 / 3600 * 3


@pytest.mark.parametrize(
    ("sentence", "answer", "says"),
    [
        # Both usual definitions with their intervals, and the noise scale where the fit refuses.
        (answer_sentence, ANSWER, "the critical batch size is 240 [204, 292]; 100 [70, 140] costs 20 % more examples "
                                  "than the fewest."),
        (answer_sentence, NO_INTERVALS, "the critical batch size is 240 (no interval: fewer than 3 seeds); 100 (no "
                                        "interval: fewer than 3 seeds) costs 20 % more examples than the fewest."),
        (answer_sentence, replace(UNKNOWN, missing_seeds=2),
         "the critical batch size cannot be told (the curve is flat). A rough guess is the gradient noise scale on the "
         "way there: 61 (25 to 150). Fresh seeds that failed and count nowhere: 2."),
        (answer_sentence, replace(UNKNOWN, noise_scale_at_target=None),
         "the critical batch size cannot be told (the curve is flat)."),
        # A law that the steps reject.
        (law_sentence, ANSWER, None),
        (law_sentence, SHARP,
         "the law S = S_min + E_min / B is rejected; the exponent is 1.7 [1.2, 2.1] in place of 1. train error < 0.1: "
         "no law of this form fits (p = 0.0002); batch size 5 takes 0.83 times the steps of the curve."),
        # The soonest batch size with its costs, which are of this machine or of another one.
        (soonest_sentence, ANSWER, "soonest is about 59 [45, 75], at 119 µs an iteration and 8.4 µs an example; it "
                                   "needs 24 % more examples than the fewest."),
        (soonest_sentence, ELSEWHERE, "soonest is about 900 [45, 75], at 100 µs a step of 5 up to 2 ms a step of 1,000 "
                                      "on 1 H200; it needs 24 % more examples than the fewest."),
        (soonest_sentence, UNKNOWN, None),
        (elsewhere_sentence, ELSEWHERE, "the answer flips: about 900 (500 to 2,000) is soonest at these costs, about "
                                        "60 (31 to 110) here."),
        (elsewhere_sentence, replace(ELSEWHERE, within_low=80.0),
         "80 to 110 cost at most 10 % more time both at these costs and here."),
        (elsewhere_sentence, ANSWER, None),
        (price_sentence, SLOW, f"batch size 900 takes 2 min 35 s, which is {MONEY:.3g} in money, at 3 an hour."),
        (price_sentence, replace(ELSEWHERE, price=None), None),
        # The check beside what was expected and its neighbours.
        (check_sentence, ANSWER,
         "batch size 50, which is in no fit, takes 75 steps [70, 80], 0.0404 s; expected: 82.8. Its neighbours: 180 at "
         "20, 0.0517 s; 41 at 100, 0.0393 s."),
        (check_sentence, replace(ANSWER, check=Check(50, None, 0, 82.8, None, None, None)),
         "batch size 50, which is in no fit, did not reach the goal; 82.8 steps were expected."),
        (check_sentence, replace(ANSWER, check=None), None),
    ],
)  # fmt: skip
def test_what_is_known_of_a_goal_is_said_and_what_is_not_known_is_not(sentence, answer, says):
    assert sentence(answer) == (says and f"train error < 0.1: {says}")


@pytest.mark.parametrize("exponent", [1.0, 1.66])
def test_the_soonest_batch_size_weighs_an_iteration_against_an_example(exponent):
    law, sizes = Law(14.16, 242.5, exponent), (5, 4000)
    size = float(soonest(law, 119e-6, 8.4e-6, sizes))

    def seconds(batch_size):
        return law.steps(batch_size) * (119e-6 + batch_size * 8.4e-6)

    assert seconds(size) < min(seconds(size * 1.05), seconds(size / 1.05))
    assert exponent > 1 or size == pytest.approx(58.6, rel=1e-2)
    assert [float(soonest(law, *cost, sizes)) for cost in ((1, 0), (0, 1))] == [4000, 5]


@pytest.mark.parametrize("exponent", [1.0, 1.66])
def test_the_soonest_batch_size_of_a_table_on_a_line_is_that_of_the_line_for_every_draw(exponent):
    line, sizes = Cost(119e-6, 8.4e-6), (5, 4000)
    table = Cost(steps={int(size): line.seconds(size) for size in np.unique(np.geomspace(5, 4000, 60).astype(int))})
    draws = Law(np.full(3, 14.16), np.array([120.0, 242.5, 500.0]), np.full(3, exponent))
    assert soonest_at(draws, table, sizes) == pytest.approx(soonest_at(draws, line, sizes), rel=0.1)
    assert soonest_at(Law(14.16, 242.5, exponent), table, sizes).shape == ()


@pytest.mark.parametrize(
    ("size", "checked"), [(58.6, 50), (75, 70), (110, 70), (155, 200), (2, 7), (1e9, 3000), (5, 7)]
)
def test_the_batch_size_to_check_is_a_round_one_that_is_in_no_fit(size, checked):
    assert round_batch_size(size, [5, 20, 100, 300, 1000, 4000]) == checked
    assert round_batch_size(size, [5, 7]) is None


def test_answers_are_read_as_they_were_written(tmp_path):
    unknown = Answer("test_loss", 1.6, reason="3 batch sizes reached the goal, and a fit needs 4")
    write_answers(tmp_path, [ANSWER, unknown])
    assert read_answers(tmp_path) == [ANSWER, unknown]
    first = json.loads((tmp_path / ANSWERS).read_text())[0]
    assert list(first)[:7] == ["target", "threshold", "s_min", "e_min", "b_crit", "b_crit_low", "b_crit_high"]


@pytest.mark.parametrize(
    "entry",
    ['{}', '1', '{"target": "x", "threshold": 0.1}', '{"target": "test_loss", "threshold": 1e999}',
     '{"target": "test_loss", "threshold": 1, "b_crit": -1}', '{"target": "test_loss", "threshold": 1, "b_crit": "2"}',
     '{"target": "test_loss", "threshold": 1, "leave_one_out": {"5": "x"}}',
     '{"target": "test_loss", "threshold": 1, "check": {"batch_size": 5}}', "nonsense", "[" * 100_000],
    ids=lambda entry: entry[:70],
)  # fmt: skip
def test_a_file_of_somebody_else_is_refused_in_one_line(tmp_path, entry):
    (tmp_path / ANSWERS).write_text(f"[{entry}]")
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
    assert cost.draws.min(axis=0) == pytest.approx((1e-4, 1e-6), rel=0.9)
    assert measured_cost(runs[:1]) is None


@pytest.mark.parametrize(("sizes", "fresh"), [((5, 20, 1_000), 0), ((5, 20, 100, 1_000), 7)], ids=["quick", "full"])
def test_an_answer_is_near_the_truth_and_has_intervals_only_with_fresh_seeds(sizes, fresh, tmp_path):
    rules = CriticalConfig(lr=1e-3, reference_batch_size=100, factor=2, seeds=1, confirm=fresh)
    law, chance, at = Law(17.0, 240.0, 1.45), np.random.default_rng(0), {}
    for size in sizes:
        steps = (law.steps(size) * np.exp(chance.normal(0, 0.05, fresh + 1))).tolist()
        results = {(0, replicate): [Outcome(each, 0.1, 100, size)] for replicate, each in enumerate(steps)}
        at[size] = BatchSize(rules, size, 1, results)
    costs = np.array([[1e-4, 1e-6], [2e-4, 1e-6]])
    (answer,) = answers(at, [Goal("train_error", 0.3)], Cost(1e-4, 1e-6, costs), least_sizes=3)
    write_answers(tmp_path, [answer])
    assert read_answers(tmp_path) == [answer]
    assert answer.b_crit == pytest.approx(240, rel=0.3)
    assert answer.soonest_batch_size == pytest.approx(float(soonest(law, *costs[0], sizes)), rel=0.3)
    if fresh:
        assert answer.b_crit_low < 240 < answer.b_crit_high
        assert answer.b_20_low < law.batch_size(0.2) < answer.b_20_high
        assert answer.soonest_low < answer.soonest_batch_size < answer.soonest_high
        assert set(answer.residuals) == {"5", "20", "100", "1000"}
    else:
        none = (answer.b_crit_low, answer.b_20_low, answer.soonest_low, answer.residuals, answer.p_value)
        assert none == (None,) * 5
