"""Which device a run computes on, and with how many threads."""

import os

import pytest
import torch

from digits_sweep.errors import DeviceUnavailable
from digits_sweep.training.device import resolve_device, threads_for


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_without_an_accelerator_a_run_computes_on_the_cpu(name, no_accelerator):
    assert resolve_device(name) == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cuda", "device=cuda: PyTorch sees 0 CUDA devices here; choose auto or cpu"),
        ("cuda:1", "device=cuda:1: PyTorch sees 0 CUDA devices here; choose auto or cpu"),
        ("mps", "device=mps: PyTorch sees no Apple GPU here; choose auto or cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused_by_name(name, text, no_accelerator):
    with pytest.raises(DeviceUnavailable) as refusal:
        resolve_device(name)
    assert str(refusal.value) == text


def test_auto_takes_the_first_gpu_and_a_gpu_can_be_asked_for_by_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceUnavailable, match="device=cuda:2: PyTorch sees 2 CUDA devices here"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(("num_threads", "expected"), [("auto", 1), (1, 1), (3, 3)])
def test_the_number_of_threads_follows_from_the_configuration_alone(num_threads, expected, monkeypatch):
    for cores in (1, 2, 64):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
        assert threads_for(num_threads) == expected
