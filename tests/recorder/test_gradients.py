"""The noise of the gradients of somebody else's loop, from two gradients at a time, and the hint that follows."""

import pickle

import pandas as pd
import pytest
import torch

from digits_sweep.errors import CannotRecord
from digits_sweep.recorder.gradients import TwoBatches
from digits_sweep.report.sentences import hint_sentences
from tests.recorder.loops import counted, recorder, row

# A gradient of 60 numbers, a third of them noise alone, in two parameters.
MEAN = torch.cat([torch.full((40,), 0.1), torch.zeros(20)])
DEVIATION = torch.linspace(0.2, 1.0, 60)
FEW, MANY = 10, 40
METRIC = (MEAN.square() + DEVIATION.square() / MANY).rsqrt()
SCALE = ((METRIC * DEVIATION.square()).sum() / (METRIC * MEAN.square()).sum()).item()


def pair(random, few=FEW, many=MANY):
    """The mean gradients of a micro-batch, and of the batch that it is a part of."""
    examples = MEAN + DEVIATION * torch.randn(many, 60, generator=random)
    return [[mean[:50].view(5, 10), mean[50:]] for mean in (examples[:few].mean(0), examples.mean(0))]


def loop(run, steps, random, every=1):
    for step in range(steps):
        if step % every == 0:
            run.gradients(*pair(random), examples=(FEW, MANY))
        run.step(1.0)


def own(folder, **changed):
    usual = {"train_samples": None, "batch_size": MANY, "optimizer": "adamw"}
    return recorder(folder, **usual | changed)


def test_the_estimates_are_unbiased_in_the_plain_metric_and_in_the_optimizers():
    random, noise = torch.Generator().manual_seed(0), TwoBatches(MANY, has_metric=True)
    for _ in range(2_000):
        noise.add(*pair(random), FEW, MANY)
    plain, in_metric = noise.take(2_000)
    variance = DEVIATION.square()
    assert plain.squared_norm == pytest.approx(MEAN.square().sum().item(), rel=0.1)
    assert plain.trace == pytest.approx(variance.sum().item(), rel=0.02)
    assert in_metric.scale == pytest.approx(SCALE, rel=0.1)


@pytest.mark.parametrize(("few", "many"), [(5, 20), (3, 40), (40, 80)])
def test_any_two_sizes_give_the_noise_of_steps_on_the_batch_size(few, many):
    random, noise = torch.Generator().manual_seed(1), TwoBatches(MANY, has_metric=True)
    for _ in range(2_000):
        noise.add(*pair(random, few, many), few, many)
    _, in_metric = noise.take(2_000)
    assert in_metric.scale == pytest.approx(SCALE, rel=0.35)


def test_the_hint_is_in_the_table_and_on_the_page_with_how_far_to_trust_it(tmp_path):
    with own(tmp_path) as run:
        loop(run, 600, torch.Generator().manual_seed(0))
    assert row(run)["batch_size_hint"] == pytest.approx(SCALE, rel=0.25)
    (sentence,) = hint_sentences(counted(run))
    assert "within a factor of 1.5 in 42 % of cases and of 2 in 78 %" in sentence
    evaluations = pd.read_csv(run.run_dir / "evaluations.csv")
    assert evaluations["gradient_trace"].iloc[-1] == pytest.approx(DEVIATION.square().sum().item(), rel=0.1)
    # Two readings a doubling, the last of them at the end.
    assert 15 < len(evaluations) < 25
    assert evaluations["iterations"].iloc[-1] >= 540


def test_an_evaluation_at_the_same_step_has_the_same_row(tmp_path):
    with own(tmp_path, targets={"test_error": [0.1]}) as run:
        for _ in range(4):
            run.evaluated(test_error=0.5)
            loop(run, 1, torch.Generator().manual_seed(0))
    evaluations = pd.read_csv(run.run_dir / "evaluations.csv")
    assert list(evaluations["iterations"]) == [0, 1, 2, 3, 4]
    assert list(evaluations["test_error"].notna()) == [True] * 4 + [False]
    assert list(evaluations["gradient_trace"].notna()) == [False, True, True, True, True]


def test_gradients_now_and_then_will_do_and_those_that_are_no_numbers_count_nowhere(tmp_path):
    broken = [torch.full((5, 10), float("nan")), torch.ones(10)]
    with own(tmp_path) as run:
        run.gradients(broken, broken, examples=(1, 2))
        loop(run, 600, torch.Generator().manual_seed(0), every=5)
    assert row(run)["batch_size_hint"] == pytest.approx(SCALE, rel=0.4)


def test_without_the_name_of_the_optimizer_the_metric_is_plain(tmp_path):
    with own(tmp_path, optimizer=None) as run:
        loop(run, 200, torch.Generator().manual_seed(0))
    evaluations = pd.read_csv(run.run_dir / "evaluations.csv")
    assert list(evaluations["noise_scale"]) == list(evaluations["optimizer_noise_scale"])
    assert "within a factor of 1.5 in 46 % of cases" in hint_sentences(counted(run))[0]


def test_a_run_that_continues_goes_on_adding(tmp_path):
    random = torch.Generator().manual_seed(0)
    run = own(tmp_path)
    run.start()
    loop(run, 110, random)
    state = pickle.loads(pickle.dumps(run.state_dict()))
    run.end(KeyboardInterrupt())
    run = own(tmp_path)
    run.load_state_dict(state)
    with run:
        loop(run, 490, random)
    assert row(run)["batch_size_hint"] == pytest.approx(SCALE, rel=0.3)


@pytest.mark.parametrize(
    ("small", "large", "examples", "message"),
    [
        (torch.ones(3), torch.ones(4), (1, 2), r"gradients: \(3,\) and \(4,\); must be two tensors, or two lists"),
        ([torch.ones(3)], [torch.ones(3), torch.ones(2)], (1, 2), "must be two tensors, or two lists of tensors"),
        ([None], [None], (1, 2), "gradients: None and None; must be"),
        (torch.ones(3), torch.ones(3), (4, 4), "gradients: of 4 and 4 examples; the second must be more$"),
        (torch.ones(3), torch.ones(3), None, r"of 40 and 40 examples; the second must be more; pass examples=\(b, B\)"),
        (torch.ones(3), torch.ones(3), (0, 4), "examples=0: must be a whole number from 1"),
    ],
)
def test_what_is_no_pair_is_refused_at_the_call(tmp_path, small, large, examples, message):
    with own(tmp_path) as run, pytest.raises(CannotRecord, match=message):
        run.gradients(small, large, examples)


def test_other_parameters_than_before_are_refused(tmp_path):
    with own(tmp_path) as run:
        run.gradients(torch.ones(3), torch.ones(3), (1, 2))
        with pytest.raises(CannotRecord, match="gradients: of other parameters than before"):
            run.gradients(torch.ones(4), torch.ones(4), (1, 2))


def test_with_accumulation_the_sizes_are_known(tmp_path):
    with own(tmp_path, accumulate=4) as run:
        random = torch.Generator().manual_seed(0)
        for _ in range(300):
            run.gradients(*pair(random))
            for _step in range(4):
                run.step(1.0)
    assert row(run)["batch_size_hint"] == pytest.approx(SCALE, rel=0.4)
