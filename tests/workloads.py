"""Small workloads that every engine can train, made of random images."""

import torch

from digits_sweep.config.schema import AdamConfig, ModelConfig, OptimizerConfig, SGDConfig
from digits_sweep.training.engines.protocol import Workload
from digits_sweep.training.model import build_model

ADAM = AdamConfig(name="adam", lr=1e-3, weight_decay=5e-4, betas=[0.9, 0.999], eps=1e-8)
SGD = SGDConfig(name="sgd", lr=1e-2, weight_decay=5e-4, momentum=0.9, nesterov=True)
PLAIN_SGD = SGDConfig(name="sgd", lr=1e-2, weight_decay=0.0, momentum=0.0, nesterov=False)

# Weights move by exactly the gradient.
STEP_OF_ONE = SGDConfig(name="sgd", lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False)


def workload(
    num_samples: int = 203,
    batch_size: int = 20,
    head: str = "softmax",
    optimizer: OptimizerConfig = ADAM,
    hidden_size: int = 32,
    hidden_layers: int = 2,
    activation: str = "relu",
    scale: str = "unit",
    device: str = "cpu",
) -> Workload:
    random = torch.Generator().manual_seed(0)
    model = ModelConfig(
        name="mlp",
        hidden_size=hidden_size,
        hidden_layers=hidden_layers,
        activation=activation,
        head=head,
        num_classes=10,
    )
    return Workload(
        images=torch.randint(0, 256, (num_samples, 28, 28), generator=random, dtype=torch.uint8),
        labels=torch.randint(0, 10, (num_samples,), generator=random),
        scale=scale,
        model=build_model(model, seed=42),
        optimizer=optimizer,
        batch_size=batch_size,
        device=torch.device(device),
        num_workers=0,
    )
