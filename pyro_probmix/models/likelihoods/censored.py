"""A head of responses that are censored: known from below, from above, or up to an interval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from pyro_probmix.models.distributions.censored import Known
from pyro_probmix.names import shown

__all__ = ["Censored", "CensoredHead"]


class CensoredHead(nn.Module):
    """A head of what is known of responses, around the ``head`` of the responses themselves.

    Args:
        head: from features to a density of event shape [d_y].
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Any:
        return Known(self.head(features))


class Censored:
    """Makes a head that is trained on censored responses, for ``build_density(likelihood=Censored(Gaussian))``.

    A response is given by its ends, first the lower ones of all responses, then the upper ones, [n, 2 d_y]: twice the same
    number where it is known, ``(c, FAR)`` where it is above c (right-censored), ``(-FAR, c)`` where it is at most c
    (left-censored), ``(a, b)`` where it lies between. ``FAR`` is a number far beyond all responses, such as 1e9: ``fit`` takes
    finite ones alone. After training, ``density.likelihood = density.likelihood.head`` predicts
    the responses themselves.

    Args:
        likelihood: a head whose density has an integral with a gradient: Gaussian, log-normal, or a mixture of either.

    Raises:
        TypeError: for what makes no head.

    References:
        Tobin, 1958, "Estimation of relationships for limited dependent variables".

    Example:
        >>> import torch
        >>> from pyro_probmix.models import METHODS, Censored, Gaussian, build_density
        >>> density = build_density(METHODS["ERM"], num_features=2, likelihood=Censored(Gaussian))
        >>> density(torch.zeros(5, 2), torch.tensor([[1.0, 1e9]] * 5)).shape
        torch.Size([5, 2])
    """

    def __init__(self, likelihood: Callable[[int, int, int | None], nn.Module]) -> None:
        if not callable(likelihood):
            raise TypeError(
                f"Censored got likelihood={shown(likelihood)}, expected the class of a head. Try Censored(Gaussian)."
            )
        self.likelihood = likelihood

    def __call__(self, in_features: int, num_outputs: int = 1, replicas: int | None = None) -> CensoredHead:
        return CensoredHead(self.likelihood(in_features, num_outputs, replicas))
