"""Each replica's loss of a minibatch, and its gradient by running the model."""

from __future__ import annotations

__all__ = ["Gradient", "Objective", "eager_gradient", "hold"]

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pyro_probmix.inference.criteria import Criterion
from pyro_probmix.inference.step.precision import bfloat16_products
from pyro_probmix.inference.step.replicas import Replicas
from pyro_probmix.models.process import ProbMix

#: From the rows of a minibatch, [B] or [R, B], to each replica's loss, [R]; leaves its gradient in the parameters.
Gradient = Callable[[Tensor], Tensor]


class Objective(nn.Module):
    """Each replica's loss of a minibatch, minus its criterion in nats a row, [R]; R = 1 without replicas.

    Args:
        model: the process.
        criterion: what is maximised.
        replicas: the replicas of the process.
        num_rows: n, rows of the data set, to which the criterion is scaled; x and y may be a part of it.
        clip_norm: largest norm of a replica's gradient; None does not clip.
        bf16: whether matrix products are rounded to bfloat16.
    """

    def __init__(
        self,
        model: ProbMix,
        criterion: Criterion,
        replicas: Replicas,
        num_rows: int,
        clip_norm: float | None = None,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.criterion, self.replicas = model, criterion, replicas
        self.num_rows, self.clip_norm, self.bf16 = num_rows, clip_norm, bf16

    def forward(self, x: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        with bfloat16_products(self.bf16):
            terms = self.criterion.terms(self.model, self.model.guide, x, y, rows, self.num_rows)
        return torch.stack([-self.replicas.sum_of_each(term) / self.num_rows for term in terms]).sum(0)

    def gradients(self, losses: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradients of the losses, clipped, of those parameters on which they depend."""
        # In each replica, the sum's gradient is that of its loss alone, also where another's is NaN.
        found = torch.autograd.grad(losses.sum(), list(parameters.values()), allow_unused=True)
        found_by_name = {name: g for name, g in zip(parameters, found, strict=True) if g is not None}
        return dict(zip(found_by_name, self._clipped(list(found_by_name.values())), strict=True))

    def clip(self) -> None:
        """Clips the gradients that the parameters hold."""
        held = [p for p in self.replicas.parameters if p.grad is not None]
        for parameter, clipped in zip(held, self._clipped([p.grad for p in held if p.grad is not None]), strict=True):
            parameter.grad = clipped

    def _clipped(self, gradients: list[Tensor]) -> list[Tensor]:
        return gradients if self.clip_norm is None else self.replicas.clipped(gradients, self.clip_norm)


def hold(parameter: Tensor, gradient: Tensor | None) -> None:
    """Leaves a gradient in a parameter, laid out as the parameter is: a fused optimizer walks through memory."""
    if gradient is not None and gradient.stride() != parameter.stride():
        gradient = torch.empty_like(parameter).copy_(gradient)
    parameter.grad = gradient


def eager_gradient(objective: Objective, x: Tensor, y: Tensor) -> Gradient:
    """The gradient by running the model at each step."""
    parameters = {name: p for name, p in objective.named_parameters() if p.requires_grad}

    def gradient(rows: Tensor) -> Tensor:
        losses: Tensor = objective(x, y, rows)
        gradients = objective.gradients(losses, parameters)
        for name, parameter in parameters.items():
            hold(parameter, gradients.get(name))
        return losses.detach()

    return gradient
