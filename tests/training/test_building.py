"""From configuration and data to an engine: its device, its threads and its treatment of denormals."""

import os

import pytest
import torch

from digits_sweep.data.digits import Digits
from digits_sweep.errors import DeviceUnavailable
from digits_sweep.training.building import BuiltEngine, build_engine, engine_for
from digits_sweep.training.device import resolve_device
from tests.workloads import settings


def built(*overrides: str, side: int = 28) -> BuiltEngine:
    images, labels = torch.zeros(40, side, side, dtype=torch.uint8), torch.arange(40) % 10
    return build_engine(settings("device=cpu", *overrides), Digits.of("noise", images, labels, images, labels))


def test_an_engine_knows_why_it_was_chosen_and_how_long_it_took_to_build():
    engine = built()
    assert (engine.name, engine.reason) == engine_for(settings("device=cpu"))
    assert engine.device == torch.device("cpu")
    assert engine.seconds_setup > 0


@pytest.mark.parametrize(("num_threads", "expected"), [("auto", 1), (1, 1), (2, 2)])
@pytest.mark.parametrize("engine", ["auto", "lesson"])
def test_the_number_of_threads_follows_from_the_configuration_alone(num_threads, expected, engine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for variable in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.setenv(variable, "64")
    engine = built(f"engine={engine}", f"num_threads={num_threads}")
    engine.configure_threads()
    assert torch.get_num_threads() == engine.num_threads == expected


def test_only_the_lessons_loop_computes_with_denormals():
    assert built("engine=eager").configure_threads()
    assert (torch.tensor(2e-38) / 10).item() == 0
    assert not built("engine=lesson").configure_threads()
    assert (torch.tensor(2e-38) / 10).item() > 0


def test_a_model_is_built_for_the_images_of_its_data():
    engine = built(side=8).engine
    assert engine.model.hidden_layers[0].in_features == 64
    assert torch.isfinite(engine.train(torch.arange(40))).all()


# The device


@pytest.mark.parametrize(
    ("gpus", "name", "device"),
    [(0, "auto", "cpu"), (0, "cpu", "cpu"), (2, "auto", "cuda:0"), (2, "cuda", "cuda:0"), (2, "cuda:1", "cuda:1")],
)
def test_auto_takes_the_first_gpu_or_the_cpu_and_a_gpu_can_be_asked_for_by_number(gpus, name, device, monkeypatch):
    sees(gpus, monkeypatch)
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
def test_a_device_that_is_not_there_is_refused_by_name(gpus, name, reason, monkeypatch):
    sees(gpus, monkeypatch)
    with pytest.raises(DeviceUnavailable) as refusal:
        resolve_device(name)
    assert str(refusal.value) == f"device={name}: {reason}; choose auto or cpu"


def sees(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
