"""The density of an embedding, q(z|x): a point, or a diagonal Gaussian."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_probmix.arguments import checked
from pyro_probmix.models.layers.linear import Linear
from pyro_probmix.models.layers.scales import FLOOR, scale_map
from pyro_probmix.models.networks import MLP
from pyro_probmix.names import shown

__all__ = ["GaussianEmbedding", "PointEmbedding"]


class PointEmbedding(nn.Module):
    """The encoder's output itself, as the deterministic site ``"z"``."""

    def density(self, x: Tensor, hidden: Tensor) -> None:
        """None: there is nothing to draw."""

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        z: Tensor = pyro.deterministic("z", hidden, event_dim=1)
        return z


class GaussianEmbedding(nn.Module):
    r"""A diagonal Gaussian around the encoder's output, drawn at the sample site ``"z"``.

    .. math::
        q(z \mid x) = \mathcal{N}\bigl(z \mid h(x), \operatorname{diag} \sigma^2(x)\bigr),
        \qquad \sigma(x) = \sigma_0 + \operatorname{softplus}(A s(x) + b + a)

    Args:
        width: width of the embedding.
        variance: the network s before the last affine map of the scale, any module. None shares the encoder, s = h.
        variance_width: width of the output of s; needed if that module has no ``out_features``.
        replicas: number of independent copies, see :class:`Linear`.
        scale: the map in the place of the softplus, a name in ``SCALES``.
        floor: :math:`\sigma_0`, at least 0.
        start: a, the number to which the affine map's initial weights add little.
        layers: hidden layers, of the embedding's width, between s and the affine map.
        activation: of these, see :class:`MLP`.

    Raises:
        ValueError: if the width of s is not known, for an unknown map, a negative floor, or a start that is not finite.

    References:
        El-Laham et al. (2025), eq. (24).
    """

    FLOOR = FLOOR
    #: a = -3 starts the scale near 0.05, small against activations of order one, so that the signal comes through.
    INITIAL_BIAS = -3.0

    @checked(least={"width": 1, "replicas": 1, "variance_width": 1, "layers": 0})
    def __init__(
        self,
        width: int,
        variance: nn.Module | None = None,
        replicas: int | None = None,
        variance_width: int | None = None,
        *,
        scale: str = "softplus",
        floor: float = FLOOR,
        start: float = INITIAL_BIAS,
        layers: int = 0,
        activation: str | Callable[[], nn.Module] = "relu",
    ) -> None:
        super().__init__()
        if not math.isfinite(start):
            raise ValueError(f"GaussianEmbedding got start={shown(start)}, expected a finite number. Try start=-3.")
        self.map, self.floor, self.start = scale_map("GaussianEmbedding", scale, floor), float(floor), start
        self.variance = variance
        in_features = width if variance is None else variance_width or getattr(variance, "out_features", None)
        if not isinstance(in_features, int):
            raise ValueError(
                f"GaussianEmbedding got a variance network {type(variance).__name__} of unknown width, expected it said. "
                "Try variance_width=64."
            )
        # The identity without layers, which has no weights.
        self.hidden = MLP(in_features, [width] * layers, activation=activation, replicas=replicas)
        self.scale = Linear(self.hidden.out_features, width, replicas)

    def density(self, x: Tensor, hidden: Tensor) -> Any:
        """The density q(z|x), batch shape [..., B] and event shape [width]."""
        return dist.Normal(hidden, self.deviation(x, hidden)).to_event(1)

    def deviation(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The standard deviation of each coordinate of the embedding, [..., B, width]."""
        raw = self.scale(self.hidden(hidden if self.variance is None else self.variance(x)))
        return self.map(raw + self.start) + self.floor

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        z: Tensor = pyro.sample("z", self.density(x, hidden))
        return z if torch.is_tensor(z) else torch.as_tensor(z)
