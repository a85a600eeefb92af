"""Ours: the process, its guide and the criterion, stepped as ``pyro_probmix.fit`` steps them."""

from __future__ import annotations

import inspect
from typing import Any

import pyro
import torch
from numpy.typing import NDArray
from pyro.poutine.messenger import Messenger
from torch import Tensor

from benchmarks.cases import ALPHA, LEARNING_RATE, Case, Draws, Problem
from pyro_probmix import METHODS, ExpectedLogLikelihood, ProbMix, build_density, fit
from pyro_probmix.inference.replicas import Replicas
from pyro_probmix.models import Gaussian

__all__ = ["OursEager"]

# A layer of the problem -> its module in the density.
LAYERS = {
    "encoder": "encoder.layers.0",
    "scale": "embedding.scale",
    "decoder": "decoder.layers.0",
    "head": "likelihood.linear",
}


class OursEager:
    """The body of the loop in ``fit``, with the optimizer that ``fit`` takes by default, no clipping and one rate."""

    def __init__(self, case: Case, problem: Problem, precision: str = "float32") -> None:
        # One model has no replica plate, as a user would write it.
        self.replicas = None if case.replicas == 1 else case.replicas
        dtype = getattr(torch, precision)
        named = METHODS["M-ProbMix" if case.method == "M-sampled" else case.method]
        density = build_density(named, num_features=problem.x.shape[-1], likelihood=Gaussian, replicas=self.replicas)
        density = density.to(dtype)
        at = None if case.method == "M-sampled" else named.site
        self.model = ProbMix(density, at=at, alpha=ALPHA, batch_size=case.batch_size).to(dtype)
        self.weights = {
            name: density.get_parameter(f"{LAYERS[layer]}.{kind}")
            for name in problem.weights
            for layer, kind in [name.split(".")]
        }
        for name, parameter in self.weights.items():
            parameter.data.copy_(torch.as_tensor(problem.weights[name]).reshape(parameter.shape))
        self.x, self.y = (self._own(torch.as_tensor(v, dtype=dtype)) for v in (problem.x, problem.y))
        self.rows = torch.as_tensor(problem.rows)
        self.criterion = ExpectedLogLikelihood()
        self.stack = Replicas(self.model, self.replicas)
        optimizer = inspect.signature(fit).parameters["optimizer"].default
        self.optimizer = optimizer(self.stack.parameters, lr=LEARNING_RATE)

    def _own(self, value: Tensor) -> Tensor:
        return value[0] if self.replicas is None else value

    def _terms(self, rows: Tensor) -> list[Tensor]:
        terms: list[Tensor] = self.criterion.terms(self.model, self.model.guide, self.x, self.y, self._own(rows))
        return terms

    def train(self, steps: int) -> None:
        n, history = self.model.num_rows(self.x, self.y), []
        with pyro.validation_enabled(False):
            for t in range(steps):
                self.optimizer.zero_grad()
                terms = self._terms(self.rows[t % len(self.rows)])
                (-sum(term.sum() for term in terms) / n).backward()
                self.stack.step(self.optimizer, None)
                history.append(-sum(self.stack.sum_of_each(term.detach()) for term in terms) / n)

    def loss_and_gradients(self, draws: Draws) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        n = self.model.num_rows(self.x, self.y)
        with _Given(*(self._own(torch.as_tensor(v, dtype=self.x.dtype)) for v in draws)):
            terms = self._terms(self.rows[0])
        each = -sum(self.stack.sum_of_each(term) for term in terms) / n
        assert isinstance(each, Tensor)
        gradients = torch.autograd.grad(each.sum(), list(self.weights.values()))
        stacked = (g if self.replicas is not None else g.reshape(1, *(1,) * (2 - g.dim()), *g.shape) for g in gradients)
        return each.detach().numpy(), {name: g.numpy() for name, g in zip(self.weights, stacked, strict=True)}


class _Given(Messenger):
    """Gives the weight and the embedding's noise instead of drawing them."""

    def __init__(self, weight: Tensor, noise: Tensor) -> None:
        super().__init__()
        self.weight, self.noise = weight, noise

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == "lambda":
            msg["value"] = self.weight
        elif msg["name"] == "z" and not msg["is_observed"]:
            msg["value"] = msg["fn"].mean + msg["fn"].stddev * self.noise
