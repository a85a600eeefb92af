"""One step of a fit: the gradient of a minibatch's loss, and the optimizer's step by it."""

from __future__ import annotations

__all__ = ["Step"]

import torch
from torch import Tensor

from pyro_probmix.inference.step.adam import FusedStep
from pyro_probmix.inference.step.objective import Gradient
from pyro_probmix.inference.step.replicas import Replicas


class Step:
    """A step of all replicas, from the rows of a minibatch, [B] or [R, B], to each one's loss, [R].

    Args:
        gradient: leaves the losses' gradient in the parameters.
        replicas: the replicas that step.
        optimizer: of their parameters.
        fused: whether it is ``fused_adam``'s.
    """

    def __init__(self, gradient: Gradient, replicas: Replicas, optimizer: torch.optim.Optimizer, fused: bool) -> None:
        self.gradient, self.replicas, self.optimizer = gradient, replicas, optimizer
        self._stepper = FusedStep(optimizer) if fused else optimizer
        self.share: Tensor | None = None

    def set_rate(self, rate: float | Tensor, share: Tensor | None) -> None:
        """The optimizer's rate from now on, and each replica's share of it, [R] in [0, 1]; None is one for all."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.share = share

    def __call__(self, rows: Tensor) -> Tensor:
        losses = self.gradient(rows)
        self.replicas.step(self._stepper, self.share)
        return losses
