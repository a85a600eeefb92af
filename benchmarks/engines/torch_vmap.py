"""Plain PyTorch with stacked weights by ``torch.func``: the gradient of one model's loss, mapped over the models."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.nn.functional import linear

from benchmarks.cases import LEARNING_RATE, Case, Draws, Problem
from benchmarks.engines.torch_objective import Own, Sampler, losses

__all__ = ["TorchVmap"]


class TorchVmap:
    """What PyTorch's tutorial on model ensembling does: one model is written, ``vmap`` makes it many."""

    def __init__(self, case: Case, problem: Problem, precision: str = "float32", device: str = "cpu") -> None:
        self.case, self.own = case, Own(device, precision)
        self.x, self.y, self.rows = (self.own(v) for v in (problem.x, problem.y, problem.rows))
        self.models = torch.arange(case.replicas, device=device)[:, None]
        self.draw = Sampler(case, case.replicas, device=device)
        # As nn.Linear has them: weights [R, out, in], biases [R, out].
        own = {k: self.own(v) for k, v in problem.weights.items()}
        own = {k: v.mT.contiguous() if k.endswith(".weight") else v[:, 0].clone() for k, v in own.items()}
        self.weights = {k: v.requires_grad_() for k, v in own.items()}
        self.optimizer = torch.optim.Adam(self.weights.values(), lr=LEARNING_RATE, fused=True)
        drawn = (0 if case.fuses else None, 0 if case.embeds else None)
        self.gradients = vmap(grad_and_value(self._loss), in_dims=(0, 0, 0, *drawn))

    def _loss(
        self, own: dict[str, Tensor], x: Tensor, y: Tensor, weight: Tensor | None, noise: Tensor | None
    ) -> Tensor:
        layers = {
            layer: partial(linear, weight=own[f"{layer}.weight"], bias=own[f"{layer}.bias"])
            for layer in self.case.layers
        }
        return losses(self.case, layers, x, y, weight, noise)

    def _evaluate(self, rows: Tensor, weight: Tensor | None, noise: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        own = {name: value.detach() for name, value in self.weights.items()}
        found: tuple[dict[str, Tensor], Tensor] = self.gradients(
            own, self.x[self.models, rows], self.y[self.models, rows], weight, noise
        )
        return found

    def train(self, steps: int) -> None:
        history = []
        for t in range(steps):
            gradients, each = self._evaluate(self.rows[t % len(self.rows)], *self.draw())
            for name, value in self.weights.items():
                value.grad = gradients[name]
            self.optimizer.step()
            history.append(each)

    def loss_and_gradients(self, draws: Draws) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        weight, noise = (self.own(v) for v in draws)
        gradients, each = self._evaluate(
            self.rows[0], weight if self.case.fuses else None, noise if self.case.embeds else None
        )
        ours = {k: g.mT if k.endswith(".weight") else g[:, None] for k, g in gradients.items()}
        return each.cpu().numpy(), {k: g.cpu().numpy() for k, g in ours.items()}
