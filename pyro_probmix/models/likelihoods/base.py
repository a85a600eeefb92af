"""The base of the density heads: from features to the density of the response, p(y|x)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_probmix.arguments import checked
from pyro_probmix.models.layers.linear import Linear
from pyro_probmix.models.layers.scales import FLOOR

__all__ = ["FLOOR", "Likelihood", "components", "positive"]


class Likelihood(nn.Module):
    """Base of the density heads: an affine map of the features, then the map from its output to a density.

    Args:
        in_features: width of the features.
        num_outputs: number d_y of responses, or of classes for :class:`Categorical`.
        replicas: number of independent copies, see :class:`Linear`.

    Shape:
        features [..., B, in_features] to a density with batch shape [..., B] and event shape [d_y], or [] for classes.
    """

    #: Parameters of the density for each output.
    parameters_per_output = 1

    @checked(least={"in_features": 1, "num_outputs": 1, "replicas": 1})
    def __init__(self, in_features: int, num_outputs: int = 1, replicas: int | None = None) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        self.linear = Linear(in_features, num_outputs * self.parameters_per_output, replicas)

    @abstractmethod
    def density(self, raw: Tensor) -> Any:  # a Pyro distribution; Pyro annotates `to_event` and similar as Any
        """The density whose unconstrained parameters are ``raw``, [..., B, d_y * parameters_per_output]."""
        raise NotImplementedError(
            f"{type(self).__name__} has no density, expected a method density(raw) that returns a Pyro distribution. "
            "Try dist.Normal(raw, 1.0).to_event(1)."
        )

    def forward(self, features: Tensor) -> Any:
        return self.density(self.linear(features))


def positive(raw: Tensor) -> Tensor:
    """A scale, rate or concentration: a softplus with a floor."""
    return softplus(raw) + FLOOR


def components(raw: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Parts of the raw parameters of each output, [..., d_y, size], from [..., d_y * sum(sizes)]."""
    total = sum(sizes)
    parts: tuple[Tensor, ...] = raw.unflatten(-1, (total, -1)).transpose(-1, -2).split(sizes, -1)
    return parts
