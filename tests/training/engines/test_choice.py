"""Which engine a run gets: the one asked for, or the fastest that can train it; what an engine refuses, and how."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn, optim
from torch.optim import AdamW

from digits_sweep.config.schema import ScheduleConfig
from digits_sweep.data.digits import Digits
from digits_sweep.errors import EngineRefused
from digits_sweep.training import engines
from digits_sweep.training.building import build_engine, model_on_meta
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.engines.closed_form import FlatParameters, FusedUpdate
from digits_sweep.training.engines.eager import EagerEngine
from digits_sweep.training.engines.protocol import constant_rate_only
from digits_sweep.training.model import MLP, MODELS
from digits_sweep.training.optimizers import OPTIMIZERS
from tests import workloads
from tests.workloads import (
    ADAM,
    choose_engine,
    engine_for,
    mlp,
    needs_compiler,
    optimizer_called,
    settings,
    small_convolution,
    workload,
)

NO_GPU = "it needs an NVIDIA GPU"


@needs_compiler
def test_auto_takes_native_for_the_lessons_network_on_a_cpu():
    name, reason = choose_engine("auto", workload())
    assert name == "native"
    assert reason == f"the fastest that can train this; not cuda_kernel: {NO_GPU}; not cuda_graph: {NO_GPU}"


def test_auto_takes_the_cuda_graph_for_batches_too_large_for_the_cuda_kernel_and_says_why():
    name, reason = choose_engine("auto", workload(batch_size=1_000, device="cuda"))
    assert name == "cuda_graph"
    assert reason.startswith("the fastest that can train this; not cuda_kernel: ")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
@pytest.mark.parametrize("batch_size", [1, 5, 20])
def test_auto_takes_the_cuda_kernel_for_small_batches(batch_size):
    given = workload(hidden_size=128, batch_size=batch_size, device="cuda")
    assert choose_engine("auto", given) == ("cuda_kernel", "the fastest that can train this")


def test_auto_takes_eager_for_what_no_faster_engine_knows_and_says_why():
    name, reasons = choose_engine("auto", workload(model=small_convolution()))
    assert name == "eager"
    assert reasons.endswith("; not closed_form: it knows the gradient of model=mlp only")


class OnlyByName(EagerEngine):
    automatic = False


def test_auto_tries_engines_in_the_registrys_order_and_only_those_that_agree(monkeypatch):
    assert not ENGINES["lesson"].automatic
    monkeypatch.setattr(engines, "ENGINES", {"by_name": OnlyByName, "first": EagerEngine, "second": EagerEngine})
    assert choose_engine("auto", workload())[0] == "first"
    assert choose_engine("by_name", workload()) == ("by_name", "asked for")


class Unscheduled(EagerEngine):
    limits = (constant_rate_only,)


@pytest.mark.parametrize("schedule", [ScheduleConfig(decay="cosine"), ScheduleConfig(warmup_examples=1)])
def test_an_engine_with_one_learning_rate_is_refused_for_a_schedule_and_passed_over_by_auto(schedule, monkeypatch):
    monkeypatch.setattr(engines, "ENGINES", {"fast": Unscheduled, "eager": EagerEngine})
    with pytest.raises(EngineRefused, match=r"^engine=fast: it trains with schedule=constant only"):
        choose_engine("fast", replace(workload(), schedule=schedule))
    assert choose_engine("auto", replace(workload(), schedule=schedule))[0] == "eager"
    assert choose_engine("auto", workload())[0] == "fast"


def test_if_every_engine_refuses_auto_lists_the_reasons(monkeypatch):
    monkeypatch.setattr(engines, "ENGINES", {"fast": ENGINES["closed_form"]})
    with pytest.raises(EngineRefused, match=r"^engine=auto: not fast: it computes on the CPU only$"):
        choose_engine("auto", workload(device="cuda"))


# What an engine refuses


class Wider(MLP):
    """A subclass may compute anything."""


CUDA, SGD = {"device": "cuda"}, {"optimizer": workloads.SGD}
MUON, FINE_ADAM = {"optimizer": optimizer_called("muon")}, {"optimizer": replace(ADAM, eps=1e-30)}
CONVOLUTION, FLOAT64 = {"model": small_convolution()}, {"model": workload().model.double()}
KNOWS, PLAIN_STEPS = "it knows the gradient of", "the plain steps of Adam, AdamW and SGD only, not optimizer=muon"
ADAM_LIMIT = "it knows Adam from optimizer.betas=[..., 0.5] and optimizer.eps=1e-28 up only"


@pytest.mark.parametrize(
    ("names", "described", "reason"),
    [
        ("closed_form native", CUDA, "it computes on the CPU only"),
        ("closed_form native", {"device": "mps"}, "it computes on the CPU only"),
        ("closed_form native", CONVOLUTION, f"{KNOWS} model=mlp only"),
        ("closed_form native", {"model": Wider(mlp(), (784,))}, f"{KNOWS} model=mlp only"),
        ("closed_form native", {"activation": "tanh"}, f"{KNOWS} model.activation=relu only"),
        ("closed_form native", MUON, f"it knows {PLAIN_STEPS}"),
        ("native", {"floats": True}, "it reads uint8 images only"),
        ("native", {"optimizer": replace(ADAM, betas=[0.9, 0.4])}, ADAM_LIMIT),
        ("native", FINE_ADAM, ADAM_LIMIT),
        ("native", FLOAT64, "it computes in float32 only"),
        ("cuda_graph cuda_kernel", {}, NO_GPU),
        ("cuda_graph", CONVOLUTION | CUDA, "it captures the step of model=mlp only"),
        ("cuda_graph", MUON | CUDA, f"it captures {PLAIN_STEPS}"),
        ("cuda_kernel", CONVOLUTION | CUDA, f"{KNOWS} model=mlp only"),
        ("cuda_kernel", {"hidden_layers": 1} | CUDA, f"{KNOWS} model.hidden_layers=2 only"),
        ("cuda_kernel", {"activation": "gelu"} | CUDA, f"{KNOWS} model.activation=relu only"),
        ("cuda_kernel", SGD | CUDA, "it knows the plain steps of Adam and AdamW only, not optimizer=sgd"),
        ("cuda_kernel", FINE_ADAM | CUDA, "it knows Adam from optimizer.eps=1e-28 up only"),
        ("cuda_kernel", FLOAT64 | CUDA, "it computes in float32 only"),
        ("eager lesson", CONVOLUTION | MUON | {"floats": True}, None),
    ],
)
def test_what_an_engine_cannot_train_it_refuses_in_these_words(names, described, reason):
    for name in names.split():
        assert ENGINES[name].refusal(workload(**described)) == reason
        if reason:
            with pytest.raises(EngineRefused) as refused:
                choose_engine(name, workload(**described))
            assert str(refused.value) == f"engine={name}: {reason}; engine=auto picks one that works"


class Mine(AdamW):
    """A subclass may step in any way."""


OTHERS = {
    "Mine": Mine,
    "RMSprop": optim.RMSprop,
    "AdamW with amsgrad": partial(AdamW, amsgrad=True),
    "Adam with amsgrad": partial(optim.Adam, amsgrad=True),
    "Adam with decoupled_weight_decay": partial(optim.Adam, decoupled_weight_decay=True),
    "SGD with dampening and maximize": partial(optim.SGD, momentum=0.9, dampening=0.1, maximize=True),
    "SGD with several groups of parameters": lambda parameters: optim.SGD([{"params": [each]} for each in parameters]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_no_other_optimizer_is_stepped_by_the_kernels_of_adam_or_sgd(name, monkeypatch):
    """Neither if it takes the place of Adam in the registry, nor if it is handed to the kernels."""
    monkeypatch.setitem(OPTIMIZERS, "adam", lambda config, parameters, **_: OTHERS[name](parameters))
    refusal = ENGINES["closed_form"].refusal(workload())
    assert refusal == "it knows the plain steps of Adam, AdamW and SGD only, not optimizer=adam"
    model = workload(hidden_size=3).model
    with pytest.raises(TypeError, match=f"^no fused step is known for {name}$"):
        FusedUpdate(OTHERS[name](model.parameters()), FlatParameters(model))


# While a run is planned


def test_the_engine_of_a_run_is_known_before_its_data_is_loaded():
    images, labels = torch.zeros(40, 28, 28, dtype=torch.uint8), torch.arange(40) % 10
    config = settings("device=cpu")
    assert {parameter.device.type for parameter in model_on_meta(config).parameters()} == {"meta"}
    built = build_engine(config, Digits.of("noise", images, labels, images, labels))
    assert engine_for(config) == (built.name, built.reason)
    assert built.seconds_setup > 0


def test_a_model_that_needs_numbers_to_be_built_is_built_with_them(monkeypatch):
    def scaled(config: object, image_shape: tuple[int, ...]) -> nn.Module:
        layer = nn.Linear(784, 10)
        layer.bias.data.fill_(float(layer.weight.detach().norm()))
        return layer

    monkeypatch.setitem(MODELS, "mlp", scaled)
    assert engine_for(settings("device=cpu"))[0] == "eager"
