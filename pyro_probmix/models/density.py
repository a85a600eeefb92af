"""A conditional density p(y|x) as a Pyro model: the sites x, z and y at which a mixup method may fuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
from torch import Tensor, nn

from pyro_probmix.arguments import checked
from pyro_probmix.fusing.exposure import expose_parameters

__all__ = ["ConditionalDensity"]


class ConditionalDensity(nn.Module):
    r"""The Pyro model :math:`x \to h \to z \to y`, whose rows lie in the plate ``"data"`` at dim=-1.

    The sites are ``"x"``, the input, deterministic; ``"z"``, the embedding, deterministic or drawn; and ``"y"``, the response.

    Args:
        encoder: from [..., B, d_x] to the hidden features h, [..., B, d_z]; any module.
        embedding: from x and h to z, with the site ``"z"`` inside; a :class:`PointEmbedding` or :class:`GaussianEmbedding`.
        decoder: from z to the features of the likelihood; any module.
        likelihood: from features to a density of the response; a :class:`Likelihood` or any module that returns one.
        replicas: number R of independent copies in the plate ``"replica"`` at dim=-2; all parts must be batched over them.
        event_dim: number of rightmost dims of x that are one row's; 1 for tables.

    Shape:
        x [B, d_x], with replicas also [R, B, d_x]; y [B, d_y], or [B] for classes, likewise.

    Example:
        >>> import torch
        >>> from pyro_probmix.models import ConditionalDensity, Gaussian, PointEmbedding
        >>> density = ConditionalDensity(torch.nn.Linear(3, 8), PointEmbedding(), torch.nn.ReLU(), Gaussian(8))
        >>> density(torch.zeros(5, 3)).shape
        torch.Size([5, 1])
    """

    @checked(least={"replicas": 1, "event_dim": 0})
    def __init__(
        self,
        encoder: nn.Module,
        embedding: nn.Module,
        decoder: nn.Module,
        likelihood: nn.Module,
        *,
        replicas: int | None = None,
        event_dim: int = 1,
    ) -> None:
        super().__init__()
        self.encoder, self.embedding, self.decoder, self.likelihood = encoder, embedding, decoder, likelihood
        self.replicas = replicas
        self.event_dim = event_dim

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        expose_parameters(self)
        if self.replicas is None:
            return self._rows(x, y)
        with pyro.plate("replica", self.replicas, dim=-2):
            return self._rows(x, y)

    def _rows(self, x: Tensor, y: Tensor | None) -> Tensor:
        if x.dim() <= self.event_dim:
            raise ValueError(
                f"a ConditionalDensity got x of shape {tuple(x.shape)}, expected rows of {self.event_dim} dims each, [n, ...]. "
                "Try x[None] for a single row, or another event_dim."
            )
        with pyro.plate("data", x.shape[-1 - self.event_dim], dim=-1):
            x = pyro.deterministic("x", x, event_dim=self.event_dim)
            response: Tensor = pyro.sample("y", self.response(x, self.embedding), obs=y)
            return response

    def response(self, x: Tensor, embed: Callable[[Tensor, Tensor], Tensor]) -> Any:
        """The density of the response, by tensors alone: without sites, plates and handlers of Pyro.

        Args:
            x: the rows.
            embed: from x and the hidden features to the embedding, as :attr:`embedding` does it with a site.
        """
        return self.likelihood(self.decoder(embed(x, self.encoder(x))))
