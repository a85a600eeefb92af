"""A fitted density with its scalings as one module, from rows of numbers to moments and quantiles, or probabilities."""

from __future__ import annotations

__all__ = ["Program", "Scaling"]

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyro_probmix.inference.export.marginals import marginal_of
from pyro_probmix.inference.export.quantiles import fixed_step_quantiles
from pyro_probmix.inference.predictive.families import marginals_of
from pyro_probmix.inference.predictive.plain import GRAIN, plain_density
from pyro_probmix.models.density import ConditionalDensity
from pyro_probmix.models.stacked import Stacked

#: Dims of a density's batch that are mixed over: draws of the embedding, and members.
MIXED = 2


class Scaling(nn.Module):
    r"""The maps :math:`x \mapsto (x / u - m) / s`, cut off far outside, and :math:`y \mapsto a + c\, y` back.

    Args:
        unit, mean, scale: u, m and s of each feature.
        farthest: the largest magnitude of a standardised feature.
        offset, step: a and c of each target; None for classes.
    """

    unit: Tensor
    mean: Tensor
    scale: Tensor
    offset: Tensor
    step: Tensor

    def __init__(self, unit: Any, mean: Any, scale: Any, farthest: float, offset: Any = 0.0, step: Any = 1.0) -> None:
        super().__init__()
        for name, value in (("unit", unit), ("mean", mean), ("scale", scale), ("offset", offset), ("step", step)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))
        self.farthest = farthest

    def forward(self, x: Tensor) -> Tensor:
        return ((x / self.unit - self.mean) / self.scale).clamp(-self.farthest, self.farthest)


class Program(nn.Module):
    """The numbers that an estimator predicts for rows, by tensors alone.

    Args:
        density: of standardised features and targets, its members as replicas; a copy is made.
        noise: standard normal, [S, R, 1, width], of a Gaussian embedding; None passes its mean on.
        spread: from the density of the response, and the scaled features, to the density that is predicted.
        inputs: from the numbers of a row to the features, before they are scaled.
        scaling: of features and targets.
        levels: of the quantiles; None for probabilities of classes.
        single: whether a target's dim is dropped from what is returned.
        recorded: from means and quantiles, in the targets' units, to those within bounds and of values that are recorded.

    Shape:
        x [n, *row] to mean [n, d_y], std [n, d_y] and quantiles [n, d_y, L], without d_y if ``single``; or to probabilities
        [n, K].
    """

    noise: Tensor | None

    def __init__(
        self,
        density: ConditionalDensity,
        noise: Tensor | None,
        spread: Callable[[Any, Tensor], Any],
        inputs: nn.Module,
        scaling: Scaling,
        levels: Sequence[float] | None,
        single: bool,
        recorded: nn.Module,
    ) -> None:
        super().__init__()
        self.density = copy.deepcopy(density).cpu().eval().requires_grad_(False)
        for parent in [*self.density.modules()]:
            for name, child in [*parent.named_children()]:
                if isinstance(child, Stacked):
                    setattr(parent, name, _Unrolled(child))
        self.register_buffer("noise", None if noise is None else noise.cpu())
        self.spread, self.inputs, self.scaling = spread, inputs, scaling
        self.levels, self.single, self.recorded = levels, single, recorded

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        # Filled up by the last row, as the estimator's blocks are, so that even the last digits are the same.
        n = x.shape[0]
        rows = torch.arange((n + GRAIN - 1) // GRAIN * GRAIN, device=x.device).clamp(max=n - 1)
        given = torch.arange(n, device=x.device)  # of a slice, a trace would have to prove that it is inside
        return {name: value[given] for name, value in self._predicted(x[rows]).items()}

    def _predicted(self, x: Tensor) -> dict[str, Tensor]:
        # A number that is infinite, which estimators refuse, makes a row of nothing but NaN.
        lost = torch.where(x.isinf(), torch.nan, 0.0).flatten(1).sum(-1)
        features = self.scaling(self.inputs(torch.where(x.isinf(), torch.nan, x)))
        components = self.spread(plain_density(self.density, features, self.noise), features)
        marginals = marginals_of(components)
        if self.levels is None:
            probabilities = marginals.probs.mean((0, 1))
            if isinstance(marginals, dist.Bernoulli):
                probabilities = torch.cat([1 - probabilities, probabilities], -1)
            return {"probabilities": probabilities / probabilities.sum(-1, keepdim=True) + lost[:, None]}
        means = components.mean
        mean = means.mean((0, 1))
        std = (components.variance.mean((0, 1)) + means.var((0, 1), correction=0)).sqrt()
        solved = fixed_step_quantiles(marginal_of(marginals), MIXED, self.levels, mean, std)
        offset, step = self.scaling.offset, self.scaling.step
        mean = mean + lost[:, None]
        std, solved = std + lost[:, None], solved + lost[:, None, None]
        mean, quantiles = self.recorded(mean * step + offset, solved * step[:, None] + offset[:, None])
        found = {"mean": mean, "std": std * step, "quantiles": quantiles}
        return {name: value[:, 0] if self.single else value for name, value in found.items()}


class _Unrolled(nn.Module):
    """Copies of a module one after the other: what maps over them at once fixes the number of rows in a traced program."""

    def __init__(self, stacked: Stacked) -> None:
        super().__init__()
        self.stacked = stacked

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([functional_call(code, weights, (x,)) for code, weights in self.stacked.copies()])
