"""Probabilities of intervals under a predictive mixture, by which rounded targets are scored."""

from __future__ import annotations

__all__ = ["log_probability_at"]

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pyro_probmix.inference.predictive.families import columns_of, family_of, marginals_of
from pyro_probmix.inference.predictive.mixture import PredictiveMixture

Array = npt.NDArray[np.float64]

#: The most numbers in one block of work.
LARGEST_BLOCK = 4_000_000


@torch.no_grad()
def log_probability_at(mixture: PredictiveMixture, low: Array, high: Array) -> Array:
    r"""The logarithm of the probability of an interval, :math:`\log [F(b) - F(a)]`, of each response.

    Below the median the difference is that of F, above it that of 1 - F, each exact in its tail. Of counts it is the
    probability of those in (a, b].

    Args:
        mixture: of n rows, batch shape [n], of a univariate family known to :func:`family_of`.
        low, high: the ends a < b, [n, *event], in the units of the response; they may be infinite.

    Returns:
        [n, *event], in nats; minus infinity for an interval outside of the support.

    Raises:
        TypeError: for components of another family.

    Example:
        >>> import pyro.distributions as dist
        >>> mixture = PredictiveMixture(dist.Normal(torch.tensor([[0.0], [0.0]]), 1.0), 1)
        >>> log_probability_at(mixture, np.array([20.0]), np.array([np.inf])).round(3)
        array([-203.917])
    """
    family = family_of(marginals_of(mixture.components))
    parameters = columns_of(family, mixture.components, mixture.num_mixed)
    shape = (*mixture.batch_shape, *mixture.event_shape)
    loc, scale = (
        np.broadcast_to(torch.as_tensor(v).double().cpu().numpy(), shape) for v in (mixture.loc, mixture.scale)
    )
    with np.errstate(all="ignore"):
        ends = [((np.broadcast_to(end, shape) - loc) / scale).reshape(1, -1) for end in (low, high)]
    count, columns = parameters[0].shape
    found = np.empty(columns)
    size = max(1, LARGEST_BLOCK // count)
    for start in range(0, columns, size):
        here = slice(start, start + size)
        found[here] = _of_block(family, [v[:, here] for v in parameters], *(end[:, here] for end in ends))
    return found.reshape(shape)


def _of_block(family: Any, parameters: list[Array], low: Array, high: Array) -> Array:
    def mixed(function: Any, y: Array) -> Array:
        with np.errstate(all="ignore"):
            level: Array = function(y, *parameters).mean(0)
        rising = function is family.cdf
        return np.select([y[0] == -np.inf, y[0] == np.inf], [float(not rising), float(rising)], level)

    below = mixed(family.cdf, low)
    mass = np.where(below < 0.5, mixed(family.cdf, high) - below, mixed(family.sf, low) - mixed(family.sf, high))
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.maximum(mass, 0.0)))
