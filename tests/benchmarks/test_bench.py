"""The benchmark's table: who takes part, what is compared, and what is refused. How fast anything is, is not tested."""

from collections.abc import Callable

import pandas as pd
import pytest
import torch

from benchmarks import contest
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import DATASETS, DataSet
from digits_sweep.training.engines import ENGINES
from tests.commands import Finished, Program
from tests.workloads import GPU_ENGINES

# One thread and no workers: this is about the table.
QUICK = ("data=mnist_sample", "data.num_workers=0", "num_threads=1", "device=cpu", "model.hidden_size=8")


@pytest.fixture
def bench(program: Program, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finished]:
    """The command, with 200 images of noise in the place of the sample, and without JAX."""
    monkeypatch.setattr(contest, "find_spec", lambda name: None)
    images, labels = torch.zeros(200, 28, 28, dtype=torch.uint8), torch.arange(200) % 10
    noise = Digits.of("mnist_sample", images, labels, images, labels)
    monkeypatch.setitem(DATASETS, "mnist_sample", DataSet(lambda data, report: noise, train_samples=200))
    # A data set is loaded once per process for each folder.
    return lambda *arguments: program(*QUICK, f"data.root={program.folder}", *arguments, module="benchmarks")


def table(program: Program) -> pd.DataFrame:
    return pd.read_csv(program.outputs / "bench.csv")


@pytest.mark.full
def test_every_engine_that_can_train_this_has_a_row_at_every_batch_size(bench, program):
    finished = bench("data.batch_size=100,50")
    assert finished.returncode == 0, finished.stderr
    rows = table(program)
    engines = [name for name in reversed(ENGINES) if name not in GPU_ENGINES]
    assert engines[0] == "lesson"
    assert rows.batch_size.tolist() == [100] * len(engines) + [50] * len(engines)
    assert rows.engine.tolist() == engines * 2
    for name in GPU_ENGINES:
        assert f"batch size 100, {name}: left out, it needs an NVIDIA GPU" in finished.stdout
    # Of three epochs the first does not count. The lesson's loop has two, and one below batch size 100.
    assert rows.epochs_measured.tolist() == [2] * len(engines) + [1] + [2] * (len(engines) - 1)
    assert rows.columns[-3:].tolist() == ["cpu", "cpu_cores", "torch_version"]
    assert str(program.outputs.relative_to(program.folder) / "bench.csv") in finished.stdout
    assert (
        "jax: left out, jax is not installed; in the checkout, .venv/bin/pip install -e '.[bench]'" in finished.stdout
    )


@pytest.mark.full
def test_engines_are_compared_with_the_lessons_loop_and_with_the_bare_kernels(bench, program):
    bench("data.batch_size=100")
    rows = table(program)
    seconds, lesson = rows.seconds_per_epoch, rows[rows.engine == "lesson"]
    assert rows.times_faster_than_lesson.tolist() == pytest.approx((lesson.seconds_per_epoch.item() / seconds).tolist())
    assert lesson.floor_seconds.isna().all()
    others = rows[rows.engine != "lesson"]
    ratios = others.seconds_per_epoch / others.floor_seconds
    assert others.multiple_of_floor.tolist() == pytest.approx(ratios.tolist())


@pytest.mark.full
def test_jax_takes_part_if_it_is_installed(bench, program, monkeypatch):
    pytest.importorskip("jax")
    monkeypatch.undo()
    finished = program(*QUICK, "data.batch_size=500", module="benchmarks")
    assert finished.returncode == 0, finished.stderr
    assert "jax" in table(program).engine.tolist()


@pytest.mark.full
def test_a_network_without_a_floor_is_timed_without_it(bench, program):
    finished = bench("model.hidden_layers=1", "model.activation=tanh", "data.batch_size=100")
    assert finished.returncode == 0, finished.stderr
    assert "closed_form: left out, it knows the gradient of model.activation=relu only" in finished.stdout
    assert table(program).engine.tolist() == ["lesson", "eager"]
    assert table(program).floor_seconds.isna().all()


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["engine=eager"], "engine=eager: every engine takes part; leave it out"),
        (["seed=0,1"], "only data.batch_size may have several values here"),
        (["data.batch_size=201"], "data.batch_size=201: must be at most 200, the number of examples to train on"),
        (["optimizer.lr=-1"], "optimizer.lr=-1: must be a number above 0"),
        (["device=cuda:99"], "device=cuda:99: PyTorch sees"),
        (["data=mnist", "data.mirrors=[]"], "mnist is unavailable: MNIST is not in"),
    ],
)
def test_what_cannot_be_timed_is_refused_in_a_line(arguments, refusal, bench, program):
    finished = bench(*arguments)
    assert finished.returncode == 1
    assert finished.stderr.startswith(refusal)
    assert not program.outputs.exists()
