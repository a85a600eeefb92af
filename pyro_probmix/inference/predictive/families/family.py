"""What a univariate family of distributions is in NumPy, and how that of a distribution is found."""

from __future__ import annotations

__all__ = ["Family", "columns_of", "family_of", "marginals_of", "of_scipy"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
import numpy.typing as npt
import pyro.distributions as dist
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import Tensor


def marginals_of(p: Any) -> Any:
    """The distribution of each coordinate, without the wrappers that gather coordinates to events, or mask rows."""
    while isinstance(p, dist.Independent | MaskedDistribution | ExpandedDistribution):
        p = p.base_dist
    return p


@dataclass(frozen=True)
class Family:
    """A univariate family of distributions in NumPy, each function of (argument, *parameters), all arrays that broadcast.

    Attributes:
        parameters: tensors of the batch shape.
        cdf, sf: P(Y <= y) and P(Y > y), each exact in its own tail.
        ppf, isf: their inverses; of a discrete family the smallest integer at which the cdf reaches the level.
        discrete: whether it lives on integers.
        num_components: K, of a mixture: its parameters have the shape [..., K], and ``cdf`` and ``sf`` are those of the
            components, each times K and its weight.
        points: values with a probability of their own, where a distribution function jumps.
        pdf: the density, by which quantiles are found in fewer steps; None where ``cdf`` alone is known.
        score: the derivative of its logarithm; wherever ``pdf`` is.
        rough: approximations of ``cdf`` and ``sf`` that take a fraction of their time, for the first steps of a search; where
            ``pdf`` is.
        bracket: from levels, that they are above one half, and parameters [M, rows, 1] to bounds of the components' quantiles
            and a guess between, [rows, L] each, where that takes less time than all quantiles.
    """

    parameters: tuple[Tensor, ...]
    cdf: Callable[..., Any]
    sf: Callable[..., Any]
    ppf: Callable[..., Any]
    isf: Callable[..., Any]
    discrete: bool = False
    num_components: int | None = None
    points: tuple[float, ...] = ()
    pdf: Callable[..., Any] | None = None
    score: Callable[..., Any] | None = None
    rough: tuple[Callable[..., Any], Callable[..., Any]] | None = None
    bracket: Callable[..., tuple[Any, Any, Any]] | None = None


@singledispatch
def family_of(p: Any) -> Family:
    """The family and the parameters of a univariate distribution. Another family joins by ``@family_of.register``.

    Raises:
        TypeError: for a family that has not joined.
    """
    raise TypeError(
        f"quantiles of a {type(p).__name__} are not known, expected a univariate family that is registered. "
        f"Try pyro_probmix.inference.predictive.families.family_of.register({type(p).__name__}), or quantiles of its samples."
    )


def columns_of(family: Family, components: Any, num_mixed: int) -> list[npt.NDArray[np.float64]]:
    """The parameters of mixed components, each [M, columns]: every response of every row is a column.

    Components that are mixtures of K count for K each, M is K times as many.

    Args:
        family: of the components' marginals.
        components: with batch shape [*mixed, *batch].
        num_mixed: number of leading batch dims that are mixed over.
    """
    full = (*components.batch_shape, *components.event_shape)
    count = math.prod(components.batch_shape[:num_mixed])
    inner = () if family.num_components is None else (family.num_components,)

    def columns(t: Tensor) -> npt.NDArray[np.float64]:
        each = t.detach().expand(*full, *inner).reshape(count, -1, *inner)
        return (each.movedim(-1, 0).flatten(0, 1) if inner else each).double().cpu().numpy()

    return [columns(t) for t in family.parameters]


def of_scipy(found: Any, parameters: tuple[Tensor, ...], discrete: bool = False) -> Family:
    """A family of SciPy's, by the order of its parameters there; a ``loc`` of None is one that it has no tensor for."""

    def smallest(level: Any, *values: Any) -> Any:
        return np.maximum(found.ppf(level, *values), found.support(*values)[0])  # at level 0 SciPy is one below

    return Family(parameters, found.cdf, found.sf, smallest if discrete else found.ppf, found.isf, discrete)
