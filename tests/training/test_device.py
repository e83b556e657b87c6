"""Which device a run computes on, and how many cores it may use."""

import os

import pytest
import torch

from digits_sweep.errors import DeviceUnavailable
from digits_sweep.training.device import SHARES, resolve_device, usable_cores


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


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(("value", "limits"), [("1", True), ("9999", False), ("", False), ("0", False), ("4,2", False)])
def test_a_launchers_share_of_the_cores_limits_a_run_and_nothing_else_does(share, value, limits, monkeypatch):
    for name in SHARES:
        monkeypatch.delenv(name, raising=False)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    monkeypatch.setenv(share, value)
    assert usable_cores() == (1 if limits else cores)
