"""Plain PyTorch, one model after the other, each with its own optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.cases import LEARNING_RATE, Case, Draws, Problem
from benchmarks.engines.torch_objective import Own, Sampler, losses

__all__ = ["TorchLoop"]


class TorchLoop:
    """What one writes without thinking of speed: R modules of ``nn.Linear``, trained in turn."""

    def __init__(self, case: Case, problem: Problem, precision: str = "float32", device: str = "cpu") -> None:
        self.case, self.own = case, Own(device, precision)
        self.x, self.y, self.rows = (self.own(v) for v in (problem.x, problem.y, problem.rows))
        self.draw = Sampler(case, device=device)
        kind: dict[str, Any] = {"dtype": self.x.dtype, "device": device}
        self.models = [
            nn.ModuleDict({name: nn.Linear(*size, **kind) for name, size in case.layers.items()})
            for _ in range(case.replicas)
        ]
        for r, model in enumerate(self.models):
            weights = {name: self.own(value[r]) for name, value in problem.weights.items()}
            model.load_state_dict({k: v.T if k.endswith(".weight") else v[0] for k, v in weights.items()})
        self.optimizers = [torch.optim.Adam(model.parameters(), lr=LEARNING_RATE) for model in self.models]

    def _loss(self, r: int, rows: Tensor, weight: Tensor | None, noise: Tensor | None) -> Tensor:
        model: Any = self.models[r]
        return losses(self.case, model, self.x[r][rows], self.y[r][rows], weight, noise)

    def train(self, steps: int) -> None:
        for r, optimizer in enumerate(self.optimizers):
            history = []
            for t in range(steps):
                optimizer.zero_grad()
                loss = self._loss(r, self.rows[t % len(self.rows), r], *self.draw())
                loss.backward()
                optimizer.step()
                history.append(loss.detach())

    def loss_and_gradients(self, draws: Draws) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        weight, noise = (self.own(v) for v in draws)
        each = [self._loss(r, self.rows[0, r], weight[r], noise[r]) for r in range(len(self.models))]
        gradients: dict[str, list[Any]] = {}
        for loss, model in zip(each, self.models, strict=True):
            names, parameters = zip(*model.named_parameters(), strict=True)
            for name, g in zip(names, torch.autograd.grad(loss, parameters), strict=True):
                gradients.setdefault(name, []).append((g.T if name.endswith(".weight") else g[None]).cpu().numpy())
        return torch.stack(each).detach().cpu().numpy(), {name: np.stack(g) for name, g in gradients.items()}
