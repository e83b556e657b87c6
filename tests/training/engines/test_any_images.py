"""Images of any shape, uint8 or float32: engines that take them give the same losses, others are refused in words."""

from dataclasses import replace

import pytest
import torch

from digits_sweep.training.engines import CONSTANT, ENGINES, choose_engine, refusal
from digits_sweep.training.engines.protocol import Workload
from digits_sweep.training.model import build_model
from tests.workloads import ADAM, GPU_ENGINES, mlp, on_this_machine, workload

CPU = torch.device("cpu")


def work(shape: tuple[int, ...], floats: bool) -> Workload:
    given = workload(num_samples=70, batch_size=20, scale="standard")
    images = given.images.flatten(1)[:, : torch.Size(shape).numel()].reshape(70, *shape)
    seen = (1, *shape) if len(shape) == 2 else shape
    return replace(given, images=images / 100 - 1 if floats else images, model=build_model(mlp(), 42, seen))


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8), (40,), (2, 3, 4, 5)])
@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("name", [name for name in ENGINES if name not in GPU_ENGINES])
def test_every_engine_gives_the_losses_of_eager_or_is_refused(name, floats, shape):
    given = work(shape, floats)
    if refusal(name, given.model, ADAM, CPU, CONSTANT, floats):
        assert (name, floats) == ("native", True)
        return
    expected, found = (ENGINES[each](work(shape, floats)).train(torch.arange(70)) for each in ("eager", name))
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=0)


@pytest.mark.parametrize("name", [on_this_machine(name) for name in GPU_ENGINES])
@pytest.mark.parametrize("floats", [False, True])
def test_every_engine_for_a_gpu_gives_the_losses_of_eager(name, floats):
    there = [replace(work((3, 8, 8), floats), device=torch.device("cuda")) for _ in range(2)]
    expected, found = (
        ENGINES[engine](each).train(torch.arange(70)).cpu() for engine, each in zip(("eager", name), there, strict=True)
    )
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=0)


def test_auto_takes_the_fastest_engine_that_reads_them():
    model = work((40,), floats=True).model
    name, reason = choose_engine("auto", model, ADAM, CPU, floats=True)
    assert name == "closed_form"
    assert "not native: it reads uint8 images only" in reason
