"""Muon for the matrices of a network and AdamW for the rest, as one optimizer."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer


class MuonWithAdamW(Optimizer):
    """Step every parameter of two dimensions by `torch.optim.Muon`, and every other one by AdamW.

    Muon makes a step of a matrix orthogonal (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural
    networks"); it knows nothing else, so that biases and the kernels of convolutions are AdamW's. Its steps are scaled
    to the size of AdamW's (Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2), so that one learning
    rate and one decay, which is decoupled in both, serve all parameters.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        momentum: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        listed = list(parameters)
        matrices = [each for each in listed if each.ndim == 2]
        others = [each for each in listed if each.ndim != 2]
        self.parts: list[Optimizer] = []
        if matrices:
            self.parts.append(Muon(matrices, lr, weight_decay, momentum, adjust_lr_fn="match_rms_adamw"))
        if others:
            self.parts.append(AdamW(others, lr, betas, eps, weight_decay))
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state, as `load_state_dict` does."""
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        """Let each part step on its group here, and keep what it keeps here."""
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.state, part.param_groups = self.state, [group]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Step every parameter by its gradient; return what `closure` returns, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss
