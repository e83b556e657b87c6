"""From the optimizer's configuration to `torch.optim`."""

from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, Adam, Optimizer

from digits_sweep.config.schema import AdamConfig, OptimizerConfig, SGDConfig


def build_optimizer(
    config: OptimizerConfig, parameters: Iterable[nn.Parameter], fused: bool, capturable: bool = False
) -> Optimizer:
    """Adam or SGD with L2 weight decay added to the gradient (coupled; not AdamW's).

    `fused` takes PyTorch's single-kernel step; otherwise PyTorch chooses, as it does when nothing is said.
    `capturable` keeps Adam's step count on the device, for a CUDA graph.
    """
    choice = True if fused else None
    match config:
        case AdamConfig():
            return Adam(
                parameters,
                lr=config.lr,
                betas=(config.betas[0], config.betas[1]),
                eps=config.eps,
                weight_decay=config.weight_decay,
                fused=choice,
                capturable=capturable,
            )
        case SGDConfig():
            return SGD(
                parameters,
                lr=config.lr,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                nesterov=config.nesterov,
                fused=choice,
            )
    raise ValueError(f"no optimizer is called {config.name}")
