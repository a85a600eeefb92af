"""Periodic features of the inputs, with which a smooth network follows what trees split on."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pyro_probmix.arguments import checked

__all__ = ["PeriodicFeatures"]


class PeriodicFeatures(nn.Module):
    r"""Each input beside cosines of it: :math:`x_j \mapsto (x_j, \cos(c_{jk} x_j + b_{jk}),\ k = 1, \dots, K)`.

    Frequencies :math:`c_{jk} \sim \mathcal{N}(0, (2 \pi s)^2)` and phases, uniform on a circle, are trained.

    Args:
        in_features: number of inputs, standardised.
        frequencies: K, cosines of each input.
        scale: s, standard deviation of the initial frequencies, in periods for each unit of the input. The larger it is, the
            finer the detail, and the noise, that the network follows.
        replicas: number of independent copies, see :class:`~pyro_probmix.models.Linear`.

    Shape:
        [..., B, in_features] to [..., B, in_features * (K + 1)]; with replicas to [..., R, B, in_features * (K + 1)].

    Raises:
        ValueError: for fewer than one frequency, or a scale that is not above 0.

    References:
        Gorishniy, Rubachev and Babenko, 2022, "On Embeddings for Numerical Features in Tabular Deep Learning"; Holzmueller,
        Grinsztajn and Steinwart, 2024, "Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on Tabular Data".

    Example:
        >>> import torch
        >>> from pyro_probmix.models import PeriodicFeatures
        >>> PeriodicFeatures(3, frequencies=4)(torch.zeros(7, 3)).shape
        torch.Size([7, 15])
    """

    @checked(least={"in_features": 1, "frequencies": 1, "replicas": 1})
    def __init__(self, in_features: int, frequencies: int = 8, scale: float = 0.5, replicas: int | None = None) -> None:
        super().__init__()
        if frequencies < 1 or not scale > 0:
            raise ValueError(
                f"PeriodicFeatures got frequencies={frequencies} and scale={scale}, expected at least 1 and a value above 0. "
                "Try frequencies=8, scale=0.5."
            )
        stack = () if replicas is None else (replicas, 1)
        self.scale = scale
        self.out_features = in_features * (frequencies + 1)
        self.frequency = nn.Parameter(torch.empty(*stack, in_features, frequencies))
        self.phase = nn.Parameter(torch.empty(*stack, in_features, frequencies))
        for replica in range(replicas or 1):
            self.initialise(replica, None)

    @torch.no_grad()
    def initialise(self, replica: int, generator: torch.Generator | None) -> None:
        """Draws frequencies and phases of one replica."""
        for parameter in (self.frequency, self.phase):
            target = parameter[replica] if parameter.dim() == 4 else parameter
            if parameter is self.frequency:
                drawn = torch.randn(target.shape, generator=generator) * self.scale
            else:
                drawn = torch.rand(target.shape, generator=generator)
            target.copy_(2 * math.pi * drawn)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1:] != self.frequency.shape[-2:-1]:
            raise ValueError(
                f"PeriodicFeatures of {self.frequency.shape[-2]} inputs got x of shape {tuple(x.shape)}, expected as many "
                "numbers to a row. Try in_features=x.shape[-1]."
            )
        encoded = self.encoded(x)
        return torch.cat([x.expand(*encoded.shape[:-1], -1), encoded], -1)

    def encoded(self, x: Tensor) -> Tensor:
        """The features beside the inputs, [..., B, in_features * K]."""
        return torch.cos(self.frequency * x[..., None] + self.phase).flatten(-2)
