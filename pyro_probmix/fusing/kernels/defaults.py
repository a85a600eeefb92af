"""The label kernel that follows from the support of a response."""

from __future__ import annotations

__all__ = ["default_kernel", "leaves"]

import math
from collections.abc import Iterator
from typing import Any

import pyro.distributions as dist
from pyro.distributions import constraints
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    Categorical,
    Distribution,
    Independent,
    TransformedDistribution,
    VonMises,
)

from pyro_probmix.fusing.kernels.directional import CircularKernel, SphericalKernel
from pyro_probmix.fusing.kernels.kernels import (
    BiasedBernoulliKernel,
    BiasedCategoricalKernel,
    BiasedOneHotKernel,
    DiracKernel,
    GaussianKernel,
    Kernel,
)
from pyro_probmix.fusing.kernels.spread import checked_beta
from pyro_probmix.pooling.rows.scoring import scores_as


def default_kernel(p: Any, beta: float | Tensor = 0.0) -> Kernel:
    """The kernel that follows from the support of the response's density.

    =================================  ================================  ==========================================
    support                            kernel                            mixed label where beta = 0
    =================================  ================================  ==========================================
    real                               :class:`GaussianKernel`           the convex combination
    circle (von Mises, also mixed,     :class:`CircularKernel`           the angle between, on the shorter way
    sine-skewed, or scaled)
    sphere                             :class:`SphericalKernel`          the direction between, on the shorter way
    {0, 1}                             :class:`BiasedBernoulliKernel`    one of the labels, by its weight
    classes                            :class:`BiasedCategoricalKernel`  likewise
    one-hot                            :class:`BiasedOneHotKernel`       likewise
    all others: counts, positive,      :class:`DiracKernel`              likewise; beta > 0 has no meaning
    bounded, simplex, matrices, ...
    =================================  ================================  ==========================================

    Densities with points of positive mass among real responses (``Empirical``, zero-inflated ones) count among the others, as
    do those on the circle that are transformed otherwise than by a number. A distribution on the circle of your own, whose
    ``support`` can say no more than that it is real, needs ``kernel=CircularKernel()``.

    Args:
        p: the density of the response.
        beta: the kernel's spread, at least 0; a tensor broadcasts over the batch.

    Raises:
        TypeError: if beta is no number or tensor.
        ValueError: if beta is negative or not finite, or positive where the support has no kernel with a spread, or if the
            density has no support.

    References:
        El-Laham et al., 2025, section 5.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> type(default_kernel(dist.Normal(torch.zeros(3), 1.0).to_event(1), 0.01)).__name__
        'GaussianKernel'
        >>> type(default_kernel(dist.Poisson(torch.ones(3)))).__name__
        'DiracKernel'
    """
    while scores_as(p, Independent):  # whose support is that of the numbers within
        p = p.base_dist
    support = _support(p)
    if support is constraints.real:
        periods = {_period(leaf) for leaf in leaves(p)}
        if periods == {None}:
            return GaussianKernel(beta)
        period = periods.pop() if len(periods) == 1 else None
        if period:
            return CircularKernel(beta, period)
    if support is constraints.boolean:
        return BiasedBernoulliKernel(beta)
    if support is constraints.one_hot:
        return BiasedOneHotKernel(beta)
    if support is constraints.sphere:
        return SphericalKernel(beta)
    member = next(leaves(p))
    if isinstance(member, Categorical):
        return BiasedCategoricalKernel(beta, member.param_shape[-1])
    beta = checked_beta(beta)
    positive = beta > 0
    if isinstance(positive, Tensor):  # looked at where arguments are validated, since that waits for the device
        positive = dist.is_validation_enabled() and bool(positive.any())
    if positive:
        shown = beta.tolist() if isinstance(beta, Tensor) else beta
        raise ValueError(
            f"beta={shown} has no meaning for the labels of a {type(member).__name__}, whose support is {support}. "
            "Try beta=0, or a kernel of your own."
        )
    return DiracKernel()


def _support(p: Distribution) -> Any:
    try:
        support: Any = p.support
    except NotImplementedError:
        raise ValueError(
            f"a {type(p).__name__} has no support, expected one that tells which labels are possible. "
            "Try kernel=DiracKernel(), or a `support` in its class."
        ) from None
    while isinstance(support, constraints.independent | constraints.MixtureSameFamilyConstraint):
        support = support.base_constraint
    return support


def leaves(p: Any) -> Iterator[Distribution]:
    """The distributions inside of wrappers, mixtures and pools; those that change the values of others are kept whole."""
    if isinstance(p, Categorical | TransformedDistribution | dist.SineSkewed | dist.ZeroInflatedDistribution):
        yield p
        return
    parts = [getattr(p, name, None) for name in ("base_dist", "component_distribution", "component0", "component1")]
    inner = [part for part in (*parts, *getattr(p, "members", ())[:1]) if isinstance(part, Distribution)]
    for part in inner:
        yield from leaves(part)
    if not inner:
        yield p


def _period(leaf: Any) -> float | None:
    """The length of the circle that a distribution lies on, None for the line, 0 for what is neither."""
    if isinstance(leaf, VonMises | dist.SineBivariateVonMises | dist.SineSkewed):
        return 2 * math.pi
    if isinstance(leaf, dist.Empirical | dist.ZeroInflatedDistribution):
        return 0.0
    observations = getattr(leaf, "observation_dist", None)  # of a hidden Markov model
    if not isinstance(leaf, TransformedDistribution) and not isinstance(observations, Distribution):
        return None
    inner, transforms = (
        (observations, ()) if isinstance(observations, Distribution) else (leaf.base_dist, leaf.transforms)
    )
    periods = {_period(one) for one in leaves(inner)}
    period = periods.pop() if len(periods) == 1 else 0.0
    return None if period is None else period * math.prod(abs(_scale(t)) for t in transforms)


def _scale(transform: Any) -> float:
    """The number that a transform multiplies by, 0 if it does more."""
    if not isinstance(transform, AffineTransform):
        return 0.0
    scale = transform.scale
    if isinstance(scale, Tensor):
        return float(scale.item()) if scale.numel() == 1 and scale.device.type == "cpu" else 0.0
    return float(scale)
