"""The device: which one a run gets, how it computes, its memory, and which errors say that there is not enough."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from digits_sweep.errors import DeviceUnavailable
from digits_sweep.training.device import (
    CLEAR,
    PeakMemory,
    arithmetic_of,
    gpus_here,
    is_out_of_memory,
    resolve_device,
)


@pytest.fixture
def sees(monkeypatch):
    """Let PyTorch see so many GPUs, and Apple's not."""

    def see(gpus: int, capability=(9, 0), kernels=("sm_80", "sm_90"), free=(80e9, 80e9)) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "A100")
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(kernels))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free[index], 80e9))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        gpus_here.cache_clear()

    yield see
    gpus_here.cache_clear()


@pytest.mark.parametrize(
    ("gpus", "name", "device"),
    [(0, "auto", "cpu"), (0, "cpu", "cpu"), (2, "auto", "cuda:0"), (2, "cuda", "cuda:0"), (2, "cuda:1", "cuda:1")],
)
def test_auto_takes_the_first_gpu_or_the_cpu_and_a_gpu_can_be_asked_for_by_number(gpus, name, device, sees):
    sees(gpus)
    assert resolve_device(name) == torch.device(device)


@pytest.mark.parametrize(
    ("gpus", "name", "reason"),
    [
        (0, "cuda", "PyTorch sees 0 CUDA devices here"),
        (0, "cuda:1", "PyTorch sees 0 CUDA devices here"),
        (2, "cuda:2", "PyTorch sees 2 CUDA devices here"),
        (2, "mps", "PyTorch sees no Apple GPU here"),
    ],
)
def test_a_device_that_is_not_there_is_refused_by_name(gpus, name, reason, sees):
    sees(gpus)
    with pytest.raises(DeviceUnavailable) as refusal:
        resolve_device(name)
    assert str(refusal.value) == f"device={name}: {reason}; choose auto or cpu"


@pytest.mark.parametrize(
    ("capability", "kernels", "runs"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 6), ["sm_80", "sm_90"], True),
        ((8, 0), ["sm_86"], False),
        ((3, 7), ["sm_75", "sm_80"], False),
        ((12, 0), ["sm_90"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((10, 0), ["sm_100a", "sm_120"], True),
        ((9, 0), [], False),
    ],
)
def test_auto_takes_a_gpu_that_this_pytorch_has_kernels_for(capability, kernels, runs, sees):
    sees(1, capability, kernels)
    assert resolve_device("auto").type == ("cuda" if runs else "cpu")
    if runs:
        assert resolve_device("cuda").type == "cuda"
        return
    with pytest.raises(DeviceUnavailable, match=r"device=cuda: cuda:0 \(A100, .*\): this PyTorch has kernels for"):
        resolve_device("cuda")


def test_auto_takes_a_gpu_that_has_memory_to_give_and_stays_with_it(sees):
    free = [0.3e9, 5e9]
    sees(2, free=free)
    assert resolve_device("auto") == torch.device("cuda:1")
    # The process's own runs have it now.
    free[1] = 0.2e9
    assert resolve_device("auto") == torch.device("cuda:1")
    gpus_here.cache_clear()
    assert resolve_device("auto") == torch.device("cpu")
    assert gpus_here() == [
        f"cuda:{index} has {free} MB of memory left, and 1,074 are needed" for index, free in enumerate((300, 200))
    ]


def test_a_gpu_that_does_not_answer_is_passed_over(sees, monkeypatch):
    def busy(index):
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCompile with ...")

    sees(1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", busy)
    assert resolve_device("auto").type == "cpu"
    assert gpus_here() == ["cuda:0: CUDA error: all CUDA-capable devices are busy or unavailable"]


@pytest.mark.parametrize(
    ("matmul", "conv", "said"),
    [
        ("none", "tf32", "matrix products: float32, convolutions: TF32, cuDNN 91900"),
        ("ieee", "ieee", "matrix products: float32, convolutions: float32, cuDNN 91900"),
        ("tf32", "tf32", "matrix products: TF32, convolutions: TF32, cuDNN 91900"),
    ],
)
def test_how_a_gpu_computes_is_said(matmul, conv, said, monkeypatch):
    backends = SimpleNamespace(
        cuda=SimpleNamespace(matmul=SimpleNamespace(fp32_precision=matmul)),
        cudnn=SimpleNamespace(conv=SimpleNamespace(fp32_precision=conv), version=lambda: 91900, benchmark=False),
    )
    monkeypatch.setattr(torch, "backends", backends)
    assert arithmetic_of(torch.device("cuda")) == said
    assert arithmetic_of(torch.device("cpu")) is None


# Its memory


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
