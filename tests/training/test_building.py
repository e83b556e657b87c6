"""From configuration and data to an engine: its device, its threads and its treatment of denormals."""

from types import SimpleNamespace

import pytest
import torch

from digits_sweep.data.digits import Digits
from digits_sweep.errors import DeviceUnavailable
from digits_sweep.training.building import BuiltEngine, build_engine
from digits_sweep.training.device import arithmetic_of, gpus_here, resolve_device
from tests.workloads import settings


def built(*overrides: str, side: int = 28) -> BuiltEngine:
    images, labels = torch.zeros(40, side, side, dtype=torch.uint8), torch.arange(40) % 10
    return build_engine(settings("device=cpu", *overrides), Digits.of("noise", images, labels, images, labels))


@pytest.mark.parametrize("num_threads", ["auto", 2])
@pytest.mark.parametrize("engine", ["auto", "lesson"])
def test_the_number_of_threads_follows_from_the_configuration_alone(num_threads, engine, monkeypatch):
    monkeypatch.setattr("digits_sweep.training.building.usable_cores", lambda: 64)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    engine = built(f"engine={engine}", f"num_threads={num_threads}")
    engine.configure_threads()
    assert torch.get_num_threads() == engine.num_threads == (1 if num_threads == "auto" else 2)


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


@pytest.fixture(autouse=True)
def _the_machine_as_it_is():
    yield
    gpus_here.cache_clear()


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


def sees(
    gpus: int, monkeypatch: pytest.MonkeyPatch, capability=(9, 0), kernels=("sm_80", "sm_90"), free=(80e9, 80e9)
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "A100")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(kernels))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free[index], 80e9))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    gpus_here.cache_clear()


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
def test_auto_takes_a_gpu_that_this_pytorch_has_kernels_for(capability, kernels, runs, monkeypatch):
    sees(1, monkeypatch, capability, kernels)
    assert resolve_device("auto").type == ("cuda" if runs else "cpu")
    if runs:
        assert resolve_device("cuda").type == "cuda"
        return
    with pytest.raises(DeviceUnavailable, match=r"device=cuda: cuda:0 \(A100, .*\): this PyTorch has kernels for"):
        resolve_device("cuda")


def test_auto_takes_a_gpu_that_has_memory_to_give_and_stays_with_it(monkeypatch):
    free = [0.3e9, 5e9]
    sees(2, monkeypatch, free=free)
    assert resolve_device("auto") == torch.device("cuda:1")
    # The process's own runs have it now.
    free[1] = 0.2e9
    assert resolve_device("auto") == torch.device("cuda:1")
    gpus_here.cache_clear()
    assert resolve_device("auto") == torch.device("cpu")
    assert gpus_here() == [
        f"cuda:{index} has {free} MB of memory left, and 1,074 are needed" for index, free in enumerate((300, 200))
    ]


def test_a_gpu_that_does_not_answer_is_passed_over(monkeypatch):
    def busy(index):
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCompile with ...")

    sees(1, monkeypatch)
    monkeypatch.setattr(torch.cuda, "mem_get_info", busy)
    assert resolve_device("auto").type == "cpu"
    assert gpus_here() == ["cuda:0: CUDA error: all CUDA-capable devices are busy or unavailable"]


def test_a_run_has_the_algorithms_that_it_asks_for_and_the_next_one_its_own():
    for asked in (True, False, True, False):
        built(f"deterministic={asked}").configure_threads()
        assert torch.are_deterministic_algorithms_enabled() is asked


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
