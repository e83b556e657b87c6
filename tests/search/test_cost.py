"""The largest batch that fits, and the line that says which batch size to take: what fits, what pays, what helps."""

import gc
from dataclasses import asdict

import pytest
import torch

from digits_sweep.data.digits import Digits
from digits_sweep.results.critical import Answer, MachineCost, StepCost, network_of, write_answers
from digits_sweep.results.record import Record, write_record
from digits_sweep.search import cost
from digits_sweep.search.cost import MARGIN, Largest, Step, doubled, largest_batch, studied, which_to_take
from tests.workloads import settings

# Bytes of a step: so many for the network, and for every example.
NETWORK, EXAMPLE = 10_000, 100
MOST = 60_000


class Machine:
    """A machine with so much memory; it ends a process that takes more, unless that `may_fail`."""

    def __init__(self, memory: float, may_fail: bool, slow_from: float = float("inf")) -> None:
        self.memory, self.may_fail, self.slow_from = memory, may_fail, slow_from
        self.tried: list[int] = []

    def step(self, size: int) -> Step | None:
        self.tried.append(size)
        needed = NETWORK + EXAMPLE * size
        assert needed <= self.memory or self.may_fail, "the system has ended the process"
        return Step(needed, 3.0 if size >= self.slow_from else 0.01) if needed <= self.memory else None

    def largest(self, most: int = MOST) -> Largest | None:
        return doubled(self.step, lambda: self.memory, most, self.may_fail)


@pytest.mark.parametrize("may_fail", [True, False])
@pytest.mark.parametrize("memory", [20_500, 60_000, 250_000, 1_000_000, 5_000_000])
def test_the_largest_leaves_a_margin_and_the_next_one_would_not(memory, may_fail):
    largest = Machine(memory, may_fail).largest()
    assert NETWORK + EXAMPLE * largest.batch_size <= MARGIN * memory
    # On a CPU twice the memory of the last step counts, which is a little more than a step takes.
    assert 2 * (NETWORK + EXAMPLE * largest.batch_size) > MARGIN * memory
    assert largest.is_tried
    assert not largest.is_everything


def test_a_step_that_takes_long_is_the_last_and_larger_ones_are_reckoned():
    machine = Machine(5_000_000, False, slow_from=1_000)
    assert machine.largest() == Largest(32_768, is_tried=False)
    assert max(machine.tried) == 1_024


def test_all_examples_may_fit_and_not_even_the_first_ones():
    assert Machine(1e9, False).largest() == Largest(MOST, is_everything=True)
    assert Machine(1e9, False).largest(50) == Largest(50, is_everything=True)
    assert Machine(5_000, True).largest() is None


def noise(count: int = 600) -> Digits:
    images = torch.randint(256, (count, 28, 28), dtype=torch.uint8)
    return Digits.of("noise", images, torch.arange(count) % 10, images[:100], torch.arange(100) % 10)


@pytest.mark.full
def test_an_engine_takes_the_steps_and_nothing_of_them_is_kept(monkeypatch):
    config, digits = settings("model=cnn", "device=cpu"), noise()
    before = torch.random.get_rng_state()
    assert largest_batch(config, digits, "eager", 1) == Largest(600, is_everything=True)
    assert torch.equal(before, torch.random.get_rng_state())
    monkeypatch.setattr(cost, "free_memory", lambda: 10_000)
    few = largest_batch(config, digits, "eager", 1)
    assert few is None or few.batch_size < 600
    monkeypatch.setattr(cost, "free_memory", lambda: 2**40)
    assert largest_batch(config, noise(), "eager", 1) is None


@pytest.mark.full
def test_a_step_without_memory_is_an_end_and_another_error_one_too(monkeypatch):
    def fails(error):
        def build(config, digits):
            if config.data.batch_size > 200:
                raise error
            return fits_as_built(config, digits)

        return build

    fits_as_built = cost.build_engine
    config = settings("device=cpu")
    monkeypatch.setattr(cost, "build_engine", fails(torch.OutOfMemoryError("CUDA out of memory")))
    assert largest_batch(config, noise(), "closed_form", 1) == Largest(128)
    monkeypatch.setattr(cost, "build_engine", fails(RuntimeError("another")))
    with pytest.raises(RuntimeError, match="another"):
        largest_batch(config, noise(), "closed_form", 1)
    gc.collect()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_that_ran_out_of_memory_has_it_all_back():
    config, device = settings("model=cnn", "device=cuda"), torch.device("cuda", 0)
    taken = torch.empty(int(0.97 * torch.cuda.mem_get_info()[0]), dtype=torch.uint8, device=device)
    before = torch.cuda.memory_allocated()
    largest_batch(config, noise(20_000), "eager", 1)
    assert torch.cuda.memory_allocated() == before
    del taken
    assert largest_batch(config, noise(), "eager", 1) == Largest(600, is_everything=True)


def measured(iteration: float, example: float) -> MachineCost:
    rows = [(size, iteration + size * example) for size in (5, 20, 100, 300, 512, 1_000, 2_000, 4_000)]
    steps = [StepCost(batch_size=b, seconds=s, low=s, high=s, engine="eager", num_threads=1) for b, s in rows]
    return MachineCost(machine="a GPU", torch_version="2.15", measured_at="today", network={}, steps=steps)


ANSWER = Answer("train_error", 0.07, s_min=30.0, e_min=30.0 * 590, b_crit=590.0, exponent=1.45)


@pytest.mark.parametrize(
    ("measured", "largest", "answer", "line"),
    [
        (
            measured(50e-6, 1e-6), Largest(4_096), ANSWER,
            "largest that fits 4,096; throughput flat from 512; critical 590 (train error < 0.07): take 260, which is "
            "soonest there",
        ),
        (
            measured(1e-3, 1e-9), Largest(32_768, is_tried=False), ANSWER,
            "largest that fits about 32,768; throughput still rises at 4,000; critical 590 (train error < 0.07): take "
            "4,000, which is soonest there",
        ),
        (
            measured(1e-3, 1e-9), Largest(256), ANSWER,
            "largest that fits 256; throughput still rises at 4,000; critical 590 (train error < 0.07): take 256, "
            "which is soonest there",
        ),
        (
            measured(50e-6, 1e-6), Largest(60_000, is_everything=True), None,
            "all 60,000 examples fit in a batch; throughput flat from 512; critical not known (no study here: python "
            "-m digits_sweep.critical_batch_size): take at most 512",
        ),
        (
            measured(50e-6, 1e-6), None, None,
            "what fits is not known; throughput flat from 512; critical not known (no study here: python "
            "-m digits_sweep.critical_batch_size): take at most 512",
        ),
    ],
)  # fmt: skip
def test_the_line_has_all_three_and_what_follows(measured, largest, answer, line):
    assert which_to_take(measured, largest, answer) == line


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
