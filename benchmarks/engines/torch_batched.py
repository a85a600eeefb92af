"""Plain PyTorch with stacked weights: all models in one batched product, one fused optimizer."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.cases import LEARNING_RATE, Case, Draws, Problem
from benchmarks.engines.torch_objective import Own, Sampler, losses

__all__ = ["TorchBatched"]


class TorchBatched:
    """What one writes by hand for speed, without any library between: weights [R, in, out] and ``baddbmm``."""

    def __init__(self, case: Case, problem: Problem, precision: str = "float32", device: str = "cpu") -> None:
        self.case, self.own = case, Own(device, precision)
        self.x, self.y, self.rows = (self.own(v) for v in (problem.x, problem.y, problem.rows))
        self.models = torch.arange(case.replicas, device=device)[:, None]
        self.draw = Sampler(case, case.replicas, device=device)
        self.weights = {k: self.own(v).clone().requires_grad_() for k, v in problem.weights.items()}
        self.layers = {layer: partial(self._affine, layer) for layer in case.layers}
        self.optimizer = torch.optim.Adam(self.weights.values(), lr=LEARNING_RATE, fused=True)

    def _affine(self, layer: str, x: Tensor) -> Tensor:
        rows = x.flatten(1, -2) if x.dim() > 3 else x  # draws are rows, too
        out = torch.baddbmm(self.weights[f"{layer}.bias"], rows, self.weights[f"{layer}.weight"])
        return out.view(*x.shape[:-1], -1) if x.dim() > 3 else out

    def _losses(self, rows: Tensor, weight: Tensor | None, noise: Tensor | None) -> Tensor:
        x, y = self.x[self.models, rows], self.y[self.models, rows]
        return losses(self.case, self.layers, x, y, weight, noise)

    def train(self, steps: int) -> None:
        history = []
        for t in range(steps):
            self.optimizer.zero_grad()
            each = self._losses(self.rows[t % len(self.rows)], *self.draw())
            each.sum().backward()
            self.optimizer.step()
            history.append(each.detach())

    def loss_and_gradients(self, draws: Draws) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        weight, noise = (self.own(v) for v in draws)
        each = self._losses(self.rows[0], weight, noise)
        gradients = torch.autograd.grad(each.sum(), list(self.weights.values()))
        return each.detach().cpu().numpy(), {k: g.cpu().numpy() for k, g in zip(self.weights, gradients, strict=True)}
