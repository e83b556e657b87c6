"""Small workloads that every engine can train, made of random images."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from digits_sweep.config.plan import plan
from digits_sweep.config.schema import AdamConfig, Config, MLPConfig, ModelConfig, OptimizerConfig, SGDConfig
from digits_sweep.training.building import options_here
from digits_sweep.training.engines import engines_for
from digits_sweep.training.engines.native import NativeEngine
from digits_sweep.training.engines.protocol import Workload
from digits_sweep.training.model import MODELS, build_model
from digits_sweep.training.optimizers import OPTIMIZERS

ADAM = AdamConfig(name="adam", lr=1e-3, weight_decay=5e-4, betas=[0.9, 0.999], eps=1e-8)
SGD = SGDConfig(name="sgd", lr=1e-2, weight_decay=5e-4, momentum=0.9, nesterov=True)
PLAIN_SGD = SGDConfig(name="sgd", lr=1e-2, weight_decay=0.0, momentum=0.0, nesterov=False)
# Weights move by exactly the gradient.
STEP_OF_ONE = replace(PLAIN_SGD, lr=1.0)

# What the registries have but for the user's own, which has no code until it is named.
KNOWN_MODELS = [name for name in MODELS if name != "own"]
KNOWN_OPTIMIZERS = [name for name in OPTIMIZERS if name != "own"]

# What computes on an NVIDIA GPU only. Every other engine is tested on the CPU.
GPU_ENGINES = ("cuda_kernel", "cuda_graph")


def device_of(engine: str) -> str:
    return "cuda" if engine in GPU_ENGINES else "cpu"


def on_this_machine(engine: str) -> object:
    """The engine's name for a parametrized test, which is skipped if the engine needs a GPU and there is none."""
    lacks_gpu = engine in GPU_ENGINES and not torch.cuda.is_available()
    return pytest.param(engine, marks=pytest.mark.skipif(lacks_gpu, reason=f"{engine} needs an NVIDIA GPU"))


@cache
def settings(*overrides: str) -> Config:
    """The configuration of one run on the sample, as a command line would give it."""
    return plan(["data=mnist_sample", *overrides]).settings


def model_called(name: str, head: str) -> ModelConfig:
    """A model of the registry as its YAML has it, with this head."""
    return replace(settings(f"model={name}").model, head=head)


def optimizer_called(name: str) -> OptimizerConfig:
    """An optimizer of the registry as its YAML has it."""
    return settings(f"optimizer={name}").optimizer


def mlp(**changed: object) -> MLPConfig:
    """The configuration of a small MLP, but for what is changed."""
    keys = {"head": "softmax", "num_classes": 10, "hidden_size": 32, "hidden_layers": 2, "activation": "relu"}
    return MLPConfig(name="mlp", **(keys | changed))


def small_convolution() -> nn.Module:
    """A network that is no MLP, with a layer that behaves differently in training. Its weights depend on no seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10)
        )


def workload(
    num_samples: int = 203,
    batch_size: int = 20,
    optimizer: OptimizerConfig = ADAM,
    scale: str = "unit",
    device: str = "cpu",
    model: nn.Module | ModelConfig | None = None,
    image_shape: tuple[int, ...] = (28, 28),
    floats: bool = False,
    **shape: object,
) -> Workload:
    """Random images and labels and what to train on them: an MLP of this `shape` if no `model` is given.

    `floats` makes images of float32. Those of (height, width) have one channel.
    """
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num_samples, *image_shape), generator=random, dtype=torch.uint8)
    seen = (1, *image_shape) if len(image_shape) == 2 else image_shape
    return Workload(
        images=images / 100 - 1 if floats else images,
        labels=torch.randint(0, 10, (num_samples,), generator=random),
        scale=scale,
        model=model if isinstance(model, nn.Module) else build_model(model or mlp(**shape), 42, seen),
        optimizer=optimizer,
        batch_size=batch_size,
        device=torch.device(device),
    )


needs_compiler = pytest.mark.skipif(NativeEngine.refusal(workload()) is not None, reason="there is no C compiler")


def choose_engine(name: str, workload: Workload) -> tuple[str, str]:
    """The engine that comes first for a workload, and why."""
    names, reason = engines_for(name, workload)
    return names[0], reason


def engine_for(config: Config) -> tuple[str, str]:
    """The engine that comes first for a configuration, and why."""
    options, reason = options_here(config)
    return options[0].engine, reason
