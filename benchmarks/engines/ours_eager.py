"""Ours: the process, its guide and the criterion, run at each step as ``pyro_probmix.fit(compile=False)`` runs them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyro
import torch
from numpy.typing import NDArray
from pyro.poutine.messenger import Messenger
from torch import Tensor

from benchmarks.cases import ALPHA, LEARNING_RATE, Case, Draws, Problem
from benchmarks.engines.torch_objective import Own
from pyro_probmix import METHODS, ExpectedLogLikelihood, ProbMix, build_density
from pyro_probmix.inference.data.pages import kept_pages
from pyro_probmix.inference.step.adam import fused_adam
from pyro_probmix.inference.step.captured import CapturedStep
from pyro_probmix.inference.step.eager import Step
from pyro_probmix.inference.step.objective import Gradient, Objective, eager_gradient
from pyro_probmix.inference.step.replicas import Replicas
from pyro_probmix.models import Gaussian
from pyro_probmix.random_state import own_random_state

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

    def __init__(self, case: Case, problem: Problem, precision: str = "float32", device: str = "cpu") -> None:
        # One model has no replica plate, as a user would write it.
        self.replicas = None if case.replicas == 1 else case.replicas
        self.own, dtype = Own(device, precision), getattr(torch, precision)
        named = METHODS["M-ProbMix" if case.method == "M-sampled" else case.method]
        density = build_density(named, num_features=problem.x.shape[-1], likelihood=Gaussian, replicas=self.replicas)
        at = None if case.method == "M-sampled" else named.site
        self.model = ProbMix(density, at=at, alpha=ALPHA, batch_size=case.batch_size).to(device, dtype)
        self.weights = {
            name: density.get_parameter(f"{LAYERS[layer]}.{kind}")
            for name in problem.weights
            for layer, kind in [name.split(".")]
        }
        for name, parameter in self.weights.items():
            parameter.data.copy_(self.own(problem.weights[name]).reshape(parameter.shape))
        self.x, self.y = (self._only(self.own(v)) for v in (problem.x, problem.y))
        self.rows = [self._only(rows) for rows in self.own(problem.rows)]
        self.stack = Replicas(self.model, self.replicas)
        n = self.model.num_rows(self.x, self.y)
        nesting = 1 if self.replicas is None else 2
        criterion = ExpectedLogLikelihood(case.draws, case.embeddings, max_plate_nesting=nesting)
        self.objective = Objective(self.model, criterion, self.stack, n)
        self.step: Step | CapturedStep | None = None

    def _only(self, value: Tensor) -> Tensor:
        return value[0] if self.replicas is None else value

    def _gradient(self) -> Gradient:
        return eager_gradient(self.objective, self.x, self.y)

    def _make_step(self) -> Step | CapturedStep:
        optimizer = fused_adam(self.stack.parameters, lr=LEARNING_RATE)
        return Step(self._gradient(), self.stack, optimizer, fused=True)

    def in_fit(self) -> AbstractContextManager[None]:
        """What ``fit`` does around its steps."""
        return kept_pages() if self.x.device.type == "cpu" else nullcontext()

    def train(self, steps: int) -> None:
        self._train(steps, LEARNING_RATE)

    def _train(self, steps: int, rate: float) -> Tensor:
        with pyro.validation_enabled(False):
            self.step = self.step or self._make_step()  # made once, as in a fit
            self.step.set_rate(rate, None)
            history = [self.step(self.rows[t % len(self.rows)]) for t in range(steps)]
        return history[-1]

    def loss_and_gradients(self, draws: Draws) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        weight, noise = (self.own(v) for v in draws)
        if weight.dim() > 2:  # the process has the dims of the draws left of the replicas
            weight, noise = weight.movedim(0, -2), noise.movedim(0, -3)
        if self.replicas is None:
            weight, noise = weight.squeeze(-2), noise.squeeze(-3)
        with pyro.validation_enabled(False), _Given(weight, noise):
            return self._results(eager_gradient(self.objective, self.x, self.y)(self.rows[0]))

    def own_loss_and_gradients(self, seed: int) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """As :meth:`loss_and_gradients`, of the fifth step from a seed on, which leaves the weights as they are.

        By then a step that is captured is replayed.
        """
        with own_random_state(self.x.device, seed):
            return self._results(self._train(5, rate=0.0))

    def _results(self, each: Tensor) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        gradients = {}
        for name, parameter in self.weights.items():
            assert parameter.grad is not None
            g = parameter.grad.cpu().numpy()
            gradients[name] = g if self.replicas else g.reshape(1, *(1,) * (2 - g.ndim), *g.shape)
        return each.cpu().numpy(), gradients


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
