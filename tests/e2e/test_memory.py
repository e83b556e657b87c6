"""Memory: how much a run took, and a batch for which there is not enough."""

import subprocess
import sys

import pytest
import torch

from digits_sweep.training import device as memory
from digits_sweep.training.device import PeakMemory, is_out_of_memory

# A stand-in for a device with room for 500 examples.
SMALL_DEVICE = """
import torch
from torch import nn

class Network(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 10))

    def forward(self, images):
        if self.training and len(images) > 500:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(images)
"""


def test_a_sweep_upwards_finds_the_largest_batch_that_fits(program):
    (program.folder / "small_device.py").write_text(SMALL_DEVICE)
    own = ["model=own", "model.target=small_device:Network"]
    finished = program(
        "-m", "data=mnist_sample", "data.batch_size=250,500,1000,2000", "trainer.num_epochs=1", *own
    )  # fmt: skip
    sys.modules.pop("small_device")
    assert finished.returncode == 1
    assert "  failed: out of memory at batch size 1000\n" in finished.stdout
    table = program.table()
    assert list(table["status"]) == ["completed", "completed", "failed", "failed"]
    assert list(table["error"][2:]) == [f"out of memory at batch size {size}" for size in (1000, 2000)]
    assert (table["peak_memory_mb"] > 10).all()
    assert table["peak_cuda_memory_mb"].isna().all() != torch.cuda.is_available()


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_which_errors_say_that_there_is_no_memory_left(error, is_one):
    assert is_out_of_memory(error) is is_one


def test_what_the_allocator_of_the_cpu_raises_is_known():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**58, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)


@pytest.mark.full
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
def test_the_peak_of_a_gpu_is_known_to_a_process_that_has_not_used_it():
    code = "from digits_sweep.training.device import *; PeakMemory(torch.device('cuda', 0)).peaks()"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_the_peak_is_that_of_a_run_not_of_its_process():
    before = PeakMemory(torch.device("cpu"))
    torch.ones(100_000_000, dtype=torch.uint8)
    first, second = before.peaks(), PeakMemory(torch.device("cpu")).peaks()
    if memory.CLEAR.exists():
        assert first["peak_memory_mb"] - second["peak_memory_mb"] > 50
