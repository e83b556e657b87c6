"""Memory: how much a run took, and which errors say that there is not enough."""

import subprocess
import sys

import pytest
import torch

from digits_sweep.training.device import CLEAR, PeakMemory, is_out_of_memory


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
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


def test_the_peak_is_that_of_a_run_not_of_its_process():
    before = PeakMemory(torch.device("cpu"))
    torch.ones(100_000_000, dtype=torch.uint8)
    first, second = before.peaks(), PeakMemory(torch.device("cpu")).peaks()
    if CLEAR.exists():
        assert first["peak_memory_mb"] - second["peak_memory_mb"] > 50


@pytest.mark.full
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
def test_the_peak_of_a_gpu_is_known_to_a_process_that_has_not_used_it():
    code = "from digits_sweep.training.device import *; PeakMemory(torch.device('cuda', 0)).peaks()"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
