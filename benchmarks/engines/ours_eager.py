"""Ours: the process, its guide and the criterion, run at each step as ``pyro_probmix.fit(compile=False)`` runs them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pyro
import torch
from numpy.typing import NDArray
from pyro.poutine.messenger import Messenger
from torch import Tensor

from benchmarks.cases import ALPHA, LEARNING_RATE, Case, Draws, Problem
from pyro_probmix import METHODS, ExpectedLogLikelihood, ProbMix, build_density
from pyro_probmix.inference.adam import FusedStep, fused_adam
from pyro_probmix.inference.objective import Gradient, Objective, eager_gradient
from pyro_probmix.inference.pages import kept_pages
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
    """The body of the loop in ``fit``, with its default optimizer, no clipping and one rate."""

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
        self.stack = Replicas(self.model, self.replicas)
        n = self.model.num_rows(self.x, self.y)
        nesting = 1 if self.replicas is None else 2
        criterion = ExpectedLogLikelihood(case.draws, case.embeddings, max_plate_nesting=nesting)
        self.objective = Objective(self.model, criterion, self.stack, n)
        self.kept: Gradient | None = None
        self.optimizer = FusedStep(fused_adam(self.stack.parameters, lr=LEARNING_RATE))

    def _own(self, value: Tensor) -> Tensor:
        return value[0] if self.replicas is None else value

    def _gradient(self) -> Gradient:
        return eager_gradient(self.objective, self.x, self.y)

    def in_fit(self) -> AbstractContextManager[None]:
        """What ``fit`` does around its steps."""
        return kept_pages()

    def train(self, steps: int) -> None:
        with pyro.validation_enabled(False):
            history = []
            self.kept = self.kept or self._gradient()  # made once, as in a fit
            for t in range(steps):
                history.append(self.kept(self._own(self.rows[t % len(self.rows)])))
                self.stack.step(self.optimizer, None)

    def loss_and_gradients(self, draws: Draws) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        weight, noise = (torch.as_tensor(v, dtype=self.x.dtype) for v in draws)
        if weight.dim() > 2:  # the process has the dims of the draws left of the replicas
            weight, noise = weight.movedim(0, -2), noise.movedim(0, -3)
        if self.replicas is None:
            weight, noise = weight.squeeze(-2), noise.squeeze(-3)
        with pyro.validation_enabled(False), _Given(weight, noise):
            return self._results(eager_gradient(self.objective, self.x, self.y))

    def own_loss_and_gradients(self, seed: int) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """As :meth:`loss_and_gradients`, of the step that is trained by, with draws of its own from a seed."""
        with pyro.validation_enabled(False), torch.random.fork_rng(devices=[]):
            self.kept = self.kept or self._gradient()
            torch.manual_seed(seed)
            return self._results(self.kept)

    def _results(self, gradient: Gradient) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        each = gradient(self._own(self.rows[0]))
        gradients = {}
        for name, parameter in self.weights.items():
            assert parameter.grad is not None
            g = parameter.grad.numpy()
            gradients[name] = g if self.replicas else g.reshape(1, *(1,) * (2 - g.ndim), *g.shape)
        return each.numpy(), gradients


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
