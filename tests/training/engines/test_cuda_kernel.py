"""What has room on the chip for the engine with a CUDA kernel; the kernel compiles without a GPU too."""

from dataclasses import replace

import pytest
import torch

from digits_sweep.errors import EngineRefused
from digits_sweep.training.engines.cuda_kernel import SOURCE, CudaKernelEngine, Layout, compiled, load_compiler
from tests.workloads import workload

# The lesson's network at its smallest batch size, on an H100.
LESSON = Layout(
    batch_size=5,
    pixels=784,
    hidden=128,
    classes=10,
    squashes=True,
    capability=(9, 0),
    multiprocessors=132,
    most_shared=232_448,
)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        *(({"batch_size": batch_size}, None) for batch_size in (1, 5, 20)),
        ({"batch_size": 100}, "a batch of 100 does not fit on the chip"),
        ({"batch_size": 20, "most_shared": 101_376}, "a batch of 20 does not fit on the chip"),
        ({"classes": 33}, "it knows up to 32 classes only"),
        ({"hidden": 2_048}, "the weights do not fit on the chip"),
        ({"pixels": 50_000}, "the weights do not fit on the chip"),
        ({"capability": (7, 5)}, "it needs an NVIDIA GPU of compute capability 8.0 or later"),
    ],
)
def test_what_has_no_room_on_the_chip_is_refused(changed, text):
    assert replace(LESSON, **changed).refusal() == text


@pytest.mark.parametrize(("multiprocessors", "hidden", "blocks"), [(132, 128, 128), (132, 133, 67), (20, 128, 16)])
def test_every_block_has_a_multiprocessor_of_its_own(multiprocessors, hidden, blocks):
    laid_out = replace(LESSON, multiprocessors=multiprocessors, hidden=hidden)
    assert laid_out.blocks == blocks
    assert laid_out.blocks * laid_out.units >= hidden


@pytest.mark.full
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"batch_size": 20, "squashes": False},
        {"batch_size": 1, "hidden": 1, "classes": 2},
        {"pixels": 3_072, "hidden": 200, "classes": 26},
        {"capability": (8, 0), "multiprocessors": 20},
    ],
)
def test_the_kernel_compiles_with_the_memory_that_is_counted_for_it(changed):
    try:
        load_compiler()
    except EngineRefused as refused:
        pytest.skip(str(refused))
    laid_out = replace(LESSON, **changed)
    assert compiled(SOURCE, laid_out.capability, laid_out.options)


def test_without_the_compiler_it_is_refused_in_a_line(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "7.0")
    reason = CudaKernelEngine.refusal(workload(device="cuda"))
    assert reason is not None
    assert reason.startswith("it needs CUDA's run-time compiler (libnvrtc.so.7: ")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
@pytest.mark.parametrize("order", [[0, 203], [-1, 0]])
def test_no_image_outside_the_data_set_is_read(order):
    with pytest.raises(IndexError, match=r"^order must be from 0 to 202$"):
        CudaKernelEngine(workload(device="cuda")).train(torch.tensor(order))
