"""Log densities, distribution functions and quantiles of predictive mixtures at arrays of values, K for each row, in NumPy."""

from __future__ import annotations

__all__ = ["cdf_at", "log_density_at", "quantile_at"]

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_probmix.calibration.densities.density import invert_cdf
from pyro_probmix.inference.predictive.families import columns_of, family_of, marginals_of
from pyro_probmix.inference.predictive.mixture import PredictiveMixture
from pyro_probmix.inference.predictive.quantile import solve
from pyro_probmix.pooling.rows.tensors import floating_tensor

Array = npt.NDArray[np.float64]

#: The most numbers in one block of work.
LARGEST_BLOCK = 4_000_000
#: Doublings of a bracket, from one standard deviation, in which a quantile is looked for.
MOST_DOUBLINGS = 60


@torch.no_grad()
def log_density_at(mixture: PredictiveMixture, y: Array) -> Array:
    """The log densities, or log probabilities of a discrete response, in nats; minus infinity outside of the support.

    Args:
        mixture: of n rows, batch shape [n].
        y: K values for each row, [K, n, *event], no NaN.

    Returns:
        [K, n].

    Example:
        >>> import pyro.distributions as dist
        >>> mixture = PredictiveMixture(dist.Gamma(torch.tensor([[1.0], [1.0]]), 2.0), 1)
        >>> log_density_at(mixture, np.array([[0.0], [-1.0]])).round(4)
        array([[0.6931],
               [  -inf]])
    """

    def of_block(block: Array) -> Array:
        value = _tensor(mixture, block)
        moved = (value - mixture.loc) / mixture.scale if mixture.rescaled else value
        inside, stand_in = _inside(_support(mixture), moved)
        if mixture.rescaled:
            stand_in = mixture.loc + mixture.scale * stand_in
        found = mixture.log_prob(torch.where(inside, value, stand_in)).double()
        rows = inside.flatten(2).all(-1) if mixture.event_shape else inside
        found = found.masked_fill(~rows, -math.inf)
        return found.cpu().numpy()

    return _in_blocks(mixture, of_block, y)


def cdf_at(mixture: PredictiveMixture, y: Array) -> Array:
    """The distribution functions of each response, exact in the lower tail where the family is known.

    Args:
        mixture: of n rows, batch shape [n].
        y: K values for each row, [K, n, *event], no NaN.

    Returns:
        [K, n, *event].

    Raises:
        ValueError: for components of a family that has no distribution function.

    Example:
        >>> import pyro.distributions as dist
        >>> mixture = PredictiveMixture(dist.Normal(torch.tensor([[-1.0], [1.0]]), 1.0), 1)
        >>> cdf_at(mixture, np.array([[0.0], [np.inf]]))
        array([[0.5],
               [1. ]])
    """
    try:
        family = family_of(marginals_of(mixture.components))
    except TypeError:
        return _in_blocks(mixture, lambda block: _by_distribution(mixture, block), y)
    parameters = columns_of(family, mixture.components, mixture.num_mixed)
    loc, scale = _units(mixture)

    def of_block(block: Array) -> Array:
        with np.errstate(all="ignore"):  # at the ends of the support
            moved = ((block - loc) / scale).reshape(len(block), 1, -1)
            levels: Array = family.cdf(moved, *parameters).mean(1).reshape(block.shape)
        # The weights of a mixture's components add up to 1 but for rounding.
        return np.select([block == -np.inf, block == np.inf], [0.0, 1.0], np.minimum(levels, 1.0))

    return _in_blocks(mixture, of_block, y)


def quantile_at(mixture: PredictiveMixture, levels: Array) -> Array:
    """The quantiles of each response, the inverse of :func:`cdf_at`; of a discrete one the smallest integer that reaches it.

    Args:
        mixture: of n rows, batch shape [n].
        levels: K for each row, [K, n, *event], in [0, 1].

    Returns:
        [K, n, *event], in the units of the response.

    Raises:
        ValueError: for components of a family that has no distribution function.
        TypeError: for a discrete one whose quantiles are not known.

    Example:
        >>> import pyro.distributions as dist
        >>> mixture = PredictiveMixture(dist.Normal(torch.tensor([[-2.0], [2.0]]), 1.0), 1)
        >>> quantile_at(mixture, np.array([[0.5], [0.75]])).round(3)
        array([[0.],
               [2.]])
    """
    try:
        family = family_of(marginals_of(mixture.components))
    except TypeError:
        if _support(mixture).is_discrete:
            raise
        return _in_blocks(mixture, lambda block: _inverted(mixture, block), levels)
    parameters = columns_of(family, mixture.components, mixture.num_mixed)
    loc, scale = _units(mixture)

    def of_block(block: Array) -> Array:
        columns = block.reshape(len(block), -1).T  # [columns, K]
        return loc + scale * solve(family, parameters, columns).T.reshape(block.shape)

    return _in_blocks(mixture, of_block, levels)


def _in_blocks(mixture: PredictiveMixture, function: Callable[[Array], Array], values: Array) -> Array:
    """Applies a function to blocks of K, which bounds the memory."""
    each = mixture.num_components * max(1, math.prod(values.shape[1:]))
    size = max(1, LARGEST_BLOCK // each)
    if len(values) <= size:
        return function(values)
    return np.concatenate([function(values[start : start + size]) for start in range(0, len(values), size)])


def _tensor(mixture: PredictiveMixture, values: Array) -> Tensor:
    like = floating_tensor(mixture.components)
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)


def _units(mixture: PredictiveMixture) -> tuple[Array, Array]:
    """Mean and scale of the response, each [n, *event]."""
    shape = (*mixture.batch_shape, *mixture.event_shape)
    loc, scale = (torch.as_tensor(v).double().cpu().numpy() for v in (mixture.loc, mixture.scale))
    return np.broadcast_to(loc, shape), np.broadcast_to(scale, shape)


def _support(mixture: PredictiveMixture) -> Any:
    """The support of one number in the components' units."""
    support = marginals_of(mixture.components).support
    return getattr(support, "base_constraint", support)  # of a vector, as a multivariate Gaussian's


def _inside(support: Any, value: Tensor) -> tuple[Tensor, Tensor]:
    """Which numbers are finite and in the support, and numbers that are, to put in the place of those that are not."""
    inside = support.check(value) & value.isfinite()
    for number in (0.0, 1.0, 0.5, *_within(support)):
        stand_in = torch.zeros_like(value) + number
        if bool((support.check(stand_in) & stand_in.isfinite()).all()):
            return inside, stand_in
    return inside, value


def _within(support: Any) -> Iterator[float | Tensor]:
    """Numbers that a support of its own bounds may have."""
    lower, upper = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    if lower is not None and upper is not None:
        yield from ((lower + upper) / 2, lower)
    elif lower is not None:
        yield from (lower, lower + 1)
    elif upper is not None:
        yield from (upper, upper - 1)


def _by_distribution(mixture: PredictiveMixture, y: Array) -> Array:
    """The distribution function that the components bring themselves; 0 and 1 at the infinities."""
    finite = np.isfinite(y)
    found = mixture.cdf(_tensor(mixture, np.where(finite, y, 0.0))).detach().double().cpu().numpy()
    return np.where(finite, found, y > 0)


@torch.no_grad()
def _inverted(mixture: PredictiveMixture, levels: Array) -> Array:
    """Quantiles of components that bring a distribution function alone, in brackets that grow around the mean."""
    shape = levels.shape
    mean = np.broadcast_to(mixture.mean.double().cpu().numpy(), shape)
    step = np.broadcast_to(mixture.variance.sqrt().double().cpu().numpy(), shape)
    mean, step = np.where(np.isfinite(mean), mean, 0.0), np.where(np.isfinite(step) & (step > 0), step, 1.0)
    low, high = mean - step, mean + step
    for _ in range(MOST_DOUBLINGS):
        below, above = _by_distribution(mixture, low) >= levels, _by_distribution(mixture, high) < levels
        if not (below.any() or above.any()):
            break
        step = 2 * step
        low, high = np.where(below, mean - step, low), np.where(above, mean + step, high)
    found: Array = invert_cdf(lambda y: _by_distribution(mixture, y), levels, low, high)
    return np.select([levels == 0, levels == 1], [np.broadcast_to(end, shape) for end in _ends(mixture)], found)


def _ends(mixture: PredictiveMixture) -> list[Array]:
    """The ends of the support in the units of the response; infinite unless the support names them."""
    support = _support(mixture)
    ends = []
    for name, far in (("lower_bound", -np.inf), ("upper_bound", np.inf)):
        bound = getattr(support, name, far)
        if isinstance(bound, Tensor):  # of each component
            bound = bound.double().cpu().numpy().min() if far < 0 else bound.double().cpu().numpy().max()
        loc, scale = _units(mixture)
        ends.append(loc + scale * bound)
    return ends
