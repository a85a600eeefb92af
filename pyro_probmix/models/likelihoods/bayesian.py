"""A Bayesian linear regression as a head: its predictive density, a Student's t, in closed form, for a handful of rows."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_probmix.models.distributions.student import StudentT

__all__ = ["BayesianLinear"]

#: Shape of the inverse gamma prior of the noise's variance, and its scale times the number of rows, in standard units of the
#: response: the fewer rows, the less a line through them says of the noise.
SHAPE, RATE = 1.5, 3.0
#: Precisions of the slopes, relative to the noise's, among which the evidence chooses; the largest leaves none.
PRECISIONS = tuple(10.0**k for k in range(-4, 7))


class BayesianLinear(nn.Module):
    r"""Head of a linear regression whose coefficients and variance are integrated out.

    .. math::
        y \mid x \sim t_{2a}\!\left(m + \beta^\top (x - \bar x),\;
        \tfrac{b}{a} \left(1 + \tfrac1n + (x - \bar x)^\top A^{-1} (x - \bar x)\right)\right)

    with a flat prior of the intercept, slopes :math:`\beta \sim \mathcal{N}(0, \sigma^2 / \lambda)`, and an inverse gamma prior
    of :math:`\sigma^2`. :math:`\lambda` is that of the highest evidence. It is not trained: :meth:`learn` takes the rows.

    Args:
        in_features: number of standardised inputs.
        num_outputs: number d_y of responses.
        replicas: 1, or None.

    References:
        Bishop, 2006, "Pattern recognition and machine learning", sections 3.3 and 3.5, and exercises 3.12 to 3.14.
    """

    def __init__(self, in_features: int, num_outputs: int = 1, replicas: int | None = None) -> None:
        super().__init__()
        lead = () if replicas is None else (replicas, 1)

        def held(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(*lead, *shape), requires_grad=False)

        self.centre, self.slopes, self.middle = held(in_features), held(in_features, num_outputs), held(num_outputs)
        self.root, self.width, self.degrees = held(in_features, in_features), held(num_outputs), held(num_outputs)
        self.least = held(1)
        nn.init.ones_(self.width)
        nn.init.constant_(self.degrees, 2 * SHAPE)
        nn.init.ones_(self.least)

    @torch.no_grad()
    def learn(self, x: Tensor, y: Tensor, weights: Tensor) -> None:
        """Takes the posterior of the rows.

        Args:
            x: inputs, [n, d].
            y: responses, [n, d_y].
            weights: how often each row occurs, [n].
        """
        x, y, w = x.double(), y.double(), weights.double()[:, None]
        n = float(w.sum())
        centre, middle = (w * x).sum(0) / n, (w * y).sum(0) / n
        x, y = (x - centre) * w.sqrt(), (y - middle) * w.sqrt()
        values, vectors = torch.linalg.eigh(x.T @ x)
        values = values.clamp(min=0)
        projected = vectors.T @ (x.T @ y)
        shape, total = SHAPE + (n - 1) / 2, y.square().sum(0)

        def rate(precision: float) -> Tensor:
            explained = (projected.square() / (values + precision)[:, None]).sum(0)
            left: Tensor = RATE / n + (total - explained).clamp(min=0) / 2
            return left

        def evidence(precision: float) -> float:
            shrunk = (precision / (values + precision)).log().sum() / 2
            return float((shrunk - shape * rate(precision).log()).sum())

        best = max((n * precision for precision in PRECISIONS), key=evidence)
        inverse = 1 / (values + best)
        for held, found in (
            (self.centre, centre),
            (self.middle, middle),
            (self.slopes, vectors @ (inverse[:, None] * projected)),
            (self.root, vectors * inverse.sqrt()),
            (self.width, (rate(best) / shape).sqrt()),
            (self.degrees, torch.full_like(middle, 2 * shape)),
            (self.least, torch.full_like(middle[:1], 1 + 1 / n)),
        ):
            held.copy_(found.reshape(held.shape))

    def forward(self, features: Tensor) -> Any:
        x = features - self.centre
        # Sums over the inputs of each row by itself, whatever rows are beside it.
        loc = self.middle + (x.unsqueeze(-1) * self.slopes).sum(-2)
        spread = (x.unsqueeze(-1) * self.root).sum(-2).square().sum(-1, keepdim=True)
        scale = self.width * (self.least + spread).sqrt()
        return dist.Independent(StudentT(self.degrees.expand(loc.shape), loc, scale), 1)
