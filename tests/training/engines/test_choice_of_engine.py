"""Which engine a run gets: the one asked for, or the fastest that can train it."""

from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.optim import Adagrad

from digits_sweep.config.schema import OptimizerConfig, ScheduleConfig
from digits_sweep.data.digits import Digits
from digits_sweep.errors import DeviceUnavailable, EngineRefused
from digits_sweep.training.building import build_engine, engine_for, model_on_meta
from digits_sweep.training.engines import ENGINES, choose_engine
from digits_sweep.training.engines.eager import EagerEngine
from digits_sweep.training.engines.native import NativeEngine
from digits_sweep.training.model import MODELS
from digits_sweep.training.optimizers import OPTIMIZERS
from tests.workloads import ADAM, settings, small_convolution, workload

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def adagrad(config: OptimizerConfig, parameters, **_: object) -> Adagrad:
    return Adagrad(parameters, lr=config.lr)


COMPILES = NativeEngine.refusal(workload().model, ADAM, CPU) is None


@pytest.mark.skipif(not COMPILES, reason="there is no C compiler")
def test_auto_takes_native_for_the_lessons_network_on_a_cpu():
    name, reason = choose_engine("auto", workload().model, ADAM, CPU)
    assert name == "native"
    assert reason == (
        "the fastest that can train this; not cuda_kernel: it needs an NVIDIA GPU; "
        "not cuda_graph: it needs an NVIDIA GPU"
    )


def test_auto_takes_the_cuda_graph_for_batches_too_large_for_the_cuda_kernel_and_says_why():
    name, reason = choose_engine("auto", workload().model, ADAM, GPU, batch_size=1_000)
    assert name == "cuda_graph"
    assert reason.startswith("the fastest that can train this; not cuda_kernel: ")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
@pytest.mark.parametrize("batch_size", [1, 5, 20])
def test_auto_takes_the_cuda_kernel_for_small_batches(batch_size):
    found = choose_engine("auto", workload(hidden_size=128).model, ADAM, GPU, batch_size=batch_size)
    assert found == ("cuda_kernel", "the fastest that can train this")


def test_auto_takes_eager_for_an_activation_that_the_closed_form_does_not_know_and_says_why():
    name, reason = choose_engine("auto", workload(activation="tanh").model, ADAM, CPU)
    assert name == "eager"
    assert "not closed_form: it knows the gradient of model.activation=relu only" in reason


@pytest.mark.parametrize("device", [CPU, GPU])
def test_auto_takes_eager_for_a_model_that_is_no_mlp_and_says_why(device):
    name, reason = choose_engine("auto", small_convolution(), ADAM, device)
    assert name == "eager"
    assert "model=mlp only" in reason


@pytest.mark.parametrize("name", ["cnn", "linear"])
def test_auto_takes_eager_for_every_network_but_the_mlp(name):
    assert engine_for(settings(f"model={name}", "device=cpu"))[0] == "eager"


@pytest.mark.parametrize("device", [CPU, GPU])
def test_auto_takes_eager_for_an_optimizer_whose_step_no_faster_engine_knows(device, monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "adagrad", adagrad)
    config = OptimizerConfig(name="adagrad", lr=1e-3, weight_decay=0.1)
    name, reason = choose_engine("auto", workload().model, config, device)
    assert name == "eager"
    assert "the plain steps of Adam, AdamW and SGD only, not optimizer=adagrad" in reason


@pytest.mark.parametrize(
    ("name", "activation", "device", "refusal"),
    [
        ("closed_form", "tanh", CPU, "it knows the gradient of model.activation=relu only"),
        ("closed_form", "relu", GPU, "it computes on the CPU only"),
        ("cuda_graph", "relu", CPU, "it needs an NVIDIA GPU"),
        ("cuda_kernel", "relu", CPU, "it needs an NVIDIA GPU"),
    ],
)
def test_an_engine_asked_for_by_name_is_never_replaced(name, activation, device, refusal):
    with pytest.raises(EngineRefused) as refused:
        choose_engine(name, workload(activation=activation).model, ADAM, device)
    assert str(refused.value) == f"engine={name}: {refusal}; engine=auto picks one that works"
    assert choose_engine("eager", workload(activation=activation).model, ADAM, device) == ("eager", "asked for")


class Unscheduled(EagerEngine):
    follows_schedules: ClassVar[bool] = False


@pytest.mark.parametrize("schedule", [ScheduleConfig(decay="cosine"), ScheduleConfig(warmup_examples=1)])
def test_an_engine_with_one_learning_rate_is_refused_for_a_schedule_and_passed_over_by_auto(schedule, monkeypatch):
    monkeypatch.setattr("digits_sweep.training.engines.ENGINES", {"fast": Unscheduled, "eager": EagerEngine})
    with pytest.raises(EngineRefused, match=r"^engine=fast: it trains with schedule=constant only"):
        choose_engine("fast", workload().model, ADAM, CPU, schedule)
    assert choose_engine("auto", workload().model, ADAM, CPU, schedule)[0] == "eager"
    assert choose_engine("auto", workload().model, ADAM, CPU, ScheduleConfig())[0] == "fast"


class OnlyByName(EagerEngine):
    automatic: ClassVar[bool] = False


def test_auto_tries_engines_in_the_registrys_order_and_only_those_that_agree(monkeypatch):
    assert not ENGINES["lesson"].automatic
    registry = {"by_name": OnlyByName, "first": EagerEngine, "second": EagerEngine}
    monkeypatch.setattr("digits_sweep.training.engines.ENGINES", registry)
    assert choose_engine("auto", small_convolution(), ADAM, CPU)[0] == "first"
    assert choose_engine("by_name", small_convolution(), ADAM, CPU) == ("by_name", "asked for")


def test_the_engine_of_a_run_is_known_before_its_data_is_loaded():
    config = settings("device=cpu")
    assert {parameter.device.type for parameter in model_on_meta(config).parameters()} == {"meta"}
    built = build_engine(config, noise())
    assert engine_for(config) == (built.name, built.reason)


@pytest.mark.parametrize(
    ("overrides", "error", "text"),
    [
        (("engine=closed_form", "model.activation=tanh", "device=cpu"), EngineRefused, "relu only"),
        (("engine=cuda_graph", "device=cpu"), EngineRefused, "engine=cuda_graph: it needs an NVIDIA GPU"),
        (("device=cuda:99",), DeviceUnavailable, r"^device=cuda:99: PyTorch sees \d+ CUDA devices here; choose auto"),
    ],
)
def test_an_engine_or_device_that_a_run_cannot_have_is_known_before_its_data_is_loaded(overrides, error, text):
    with pytest.raises(error, match=text):
        engine_for(settings(*overrides))


def test_a_model_that_needs_numbers_to_be_built_is_built_with_them(monkeypatch):
    def scaled(config: object, image_shape: tuple[int, ...]) -> nn.Module:
        layer = nn.Linear(784, 10)
        layer.bias.data.fill_(float(layer.weight.detach().norm()))
        return layer

    monkeypatch.setitem(MODELS, "mlp", scaled)
    assert engine_for(settings("device=cpu"))[0] == "eager"


def noise() -> Digits:
    images, labels = torch.zeros(40, 28, 28, dtype=torch.uint8), torch.arange(40) % 10
    return Digits.of("noise", images, labels, images, labels)
