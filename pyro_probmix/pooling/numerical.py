"""The log-linear pool of a one-dimensional family that has no closed form, normalised numerically."""

from __future__ import annotations

__all__ = ["NumericalPool", "numerical_pool"]

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributions as td
from pyro.distributions import constraints
from pyro.distributions.hmm import HiddenMarkovModel
from pyro.distributions.torch_distribution import ExpandedDistribution, TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pyro_probmix.pooling.integrals.once import Once
from pyro_probmix.pooling.integrals.power_tails import PowerTails
from pyro_probmix.pooling.integrals.quadrature import LineMap, Quadrature
from pyro_probmix.pooling.rows.batches import RolledRows
from pyro_probmix.pooling.rows.coordinate import Coordinate
from pyro_probmix.pooling.rows.declared import declared_support, supported_log_prob, unvalidated
from pyro_probmix.pooling.rows.intersections import common_support
from pyro_probmix.pooling.rows.landmarks import landmarks, spread_over
from pyro_probmix.pooling.rows.parameters import power_tail
from pyro_probmix.pooling.rows.rebuilding import all_settled
from pyro_probmix.pooling.rows.supports import interior_point, is_interval
from pyro_probmix.pooling.rows.tensors import requires_grad
from pyro_probmix.pooling.rows.turns import one_turn

_ROUGH = 6  # times as many cells for densities of unknown smoothness


def numerical_pool(
    members: Sequence[td.Distribution], weights: Tensor, validate_args: bool | None = None
) -> TorchDistribution:
    """The :class:`NumericalPool` of members of event shape ``()``, or of ``(1,)`` with that event shape.

    Args:
        members: continuous distributions of one number for each row.
        weights: tensor ``[..., k]`` on the simplex, which broadcasts with the batch shape.
        validate_args: see :class:`NumericalPool`.

    Raises:
        TypeError, ValueError: see :class:`NumericalPool`.
    """
    if all(p.event_shape == (1,) and is_interval(p.support) and not _is_series(p) for p in members):
        pool = NumericalPool([Coordinate(p) for p in members], weights.unsqueeze(-2), validate_args=validate_args)
        return dist.Independent(pool, 1)
    return NumericalPool(members, weights, validate_args=validate_args)


def _is_series(p: Any) -> bool:
    """Whether it is a hidden Markov model: without a duration, its event shape (1,) stands for series of any length."""
    while not isinstance(p, HiddenMarkovModel) and hasattr(p, "base_dist"):
        p = p.base_dist
    return isinstance(p, HiddenMarkovModel)


class NumericalPool(TorchDistribution):
    r"""Log-linear pool of univariate continuous distributions, normalised by adaptive quadrature.

    .. math:: p(y) = \frac{1}{Z} \prod_k p_k(y)^{w_k}, \qquad Z = \int \prod_k p_k(y)^{w_k} \, dy

    A member whose weight is zero has no part in the value nor in the gradient; the support is the intersection of the
    others'. Draws are reparameterised implicitly, through the derivative of the distribution function. Two Student's t or
    Cauchy densities are normalised by :class:`~pyro_probmix.pooling.integrals.power_tails.PowerTails`; the quadrature is then
    made for draws, moments and the distribution function alone.

    Args:
        members: at least two continuous distributions of event shape ``()``, whose batch shapes broadcast.
        weights: tensor ``[..., k]`` on the simplex, which broadcasts with the batch shape.
        validate_args: whether to check the weights, that the pool exists, and values to be scored.

    Raises:
        TypeError: if a member is not univariate, or discrete.
        ValueError: if the members have no common support.

    References:
        El-Laham et al., 2025, eq. (18); Figurnov et al., 2018, Implicit reparameterization gradients, eq. (3).

    Example:
        >>> import torch, pyro.distributions as dist
        >>> from pyro_probmix.pooling.numerical import NumericalPool
        >>> pool = NumericalPool([dist.Laplace(0.0, 1.0), dist.Laplace(2.0, 1.0)], torch.tensor([0.5, 0.5]))
        >>> pool.log_prob(torch.tensor([0.5, 1.0, 1.5]))  # flat between the two points
        tensor([-1.3863, -1.3863, -1.3863])
    """

    arg_constraints = {"weights": constraints.simplex}  # noqa: RUF012  # as in every torch distribution
    has_rsample = True

    def __init__(self, members: Sequence[td.Distribution], weights: Tensor, validate_args: bool | None = None) -> None:
        for p in members:
            if p.event_shape or p.support is None or p.support.is_discrete:
                raise TypeError(
                    f"A {type(p).__name__} with event shape {tuple(p.event_shape)} has no closed log-linear pool, and "
                    "a numerical one is for continuous densities of one number only. "
                    "Try the linear pool, or register_family for an exponential family."
                )
        self.members = tuple(members)
        batch_shape = torch.Size(broadcast_shape(weights.shape[:-1], *(p.batch_shape for p in members)))
        self.weights = weights.expand((*batch_shape, -1))
        self._support, lower, upper = common_support(self.members, self.weights)
        product = _tails(members, self.weights)
        self._integral = _Integral(
            self.members, self.weights, (lower, upper), None if product is None else product.score
        )
        self._log_normalizer = self._integral.quadrature().log_normalizer if product is None else product.log_mass()
        super().__init__(batch_shape, torch.Size(), validate_args=validate_args)
        if self._validate_args and not bool(self._log_normalizer.isfinite().all()):
            raise ValueError(
                f"The log-linear pool of {' and '.join(type(p).__name__ for p in members)} does not exist: its density "
                "has no finite, positive mass. Try members whose supports overlap, or the linear pool."
            )

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> NumericalPool:
        """The pool with its batch expanded."""
        new: NumericalPool = type(self).__new__(type(self)) if _instance is None else _instance
        for name in ("members", "_support", "_integral", "_log_normalizer"):
            setattr(new, name, getattr(self, name))
        new.weights = self.weights.expand((*batch_shape, -1))
        super(NumericalPool, new).__init__(torch.Size(batch_shape), torch.Size(), validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property
    def support(self) -> Any:
        """The intersection of the members' supports."""
        return self._support

    def log_prob(self, value: Tensor) -> Tensor:
        """The normalised log density, shape ``sample_shape + batch_shape``."""
        if self._validate_args:
            self._validate_sample(value)
        return self._integral.score(self._full(value)) - self._log_normalizer

    def cdf(self, value: Tensor) -> Tensor:
        """The distribution function."""
        if self._validate_args:
            self._validate_sample(value)
        return self._integral.quadrature().cdf(self._full(value))

    def icdf(self, value: Tensor) -> Tensor:
        """The quantiles at levels in (0, 1), without gradient."""
        return self._integral.quadrature().icdf(self._full(value))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws by inverting the distribution function, differentiated implicitly."""
        like = self._integral.quadrature().log_normalizer
        level = torch.rand((*sample_shape, *self.batch_shape), dtype=like.dtype, device=like.device)
        eps = torch.finfo(like.dtype).eps
        draw = self._integral.quadrature().icdf(level.clamp(eps, 1 - eps))
        if not torch.is_grad_enabled():
            return draw
        # F(y; theta) stays at the level: dy/dtheta = -(dF/dtheta) / p(y)
        below = self._integral.quadrature().cdf(draw)
        density = (self._integral.score(draw) - like).exp().detach()
        return draw - (below - below.detach()) / density.clamp(min=torch.finfo(like.dtype).tiny)

    @property
    def mean(self) -> Tensor:
        """The mean; NaN where there is none."""
        return self._integral.quadrature().mean().expand(self.batch_shape)

    @property
    def variance(self) -> Tensor:
        """The variance; infinite or NaN where there is none."""
        return self._integral.quadrature().variance().expand(self.batch_shape)

    def _full(self, value: Tensor) -> Tensor:
        return value.expand(torch.broadcast_shapes(value.shape, self.batch_shape))


class _Integral:
    """The product of the members' densities raised to their weights, and its quadrature, made when it is first asked for.

    Args:
        members: of event shape ``()``.
        weights: on the simplex, ``[*batch_shape, k]``.
        limits: lower and upper bound of the support.
        score: the logarithm of the product, up to a constant; None takes the sum of the members' log densities.
    """

    def __init__(
        self,
        members: Sequence[td.Distribution],
        weights: Tensor,
        limits: tuple[Tensor | None, Tensor | None],
        score: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self._members, self._batch_shape, self._limits = members, weights.shape[:-1], limits
        self.score = self._sum_of_scores(weights) if score is None else score
        self.quadrature = Once(self._quadrature)

    def _quadrature(self) -> Quadrature:
        centres, widths, kinks = (
            torch.cat([spread_over(x, self._batch_shape) for x in xs]) for xs in zip(*self._marks, strict=True)
        )
        lower, upper = self._limits
        if lower is not None and upper is not None and one_turn(self._members) is not None:
            centres, kinks = (lower + (x - lower).remainder(upper - lower) for x in (centres, kinks))
        line = LineMap(lower, upper, centres.mean(0), widths.mean(0))
        fineness = _ROUGH if any(map(_may_be_rough, self._members)) else 1
        tame = all(power_tail(p) is not None for p in self._members)
        try:
            return Quadrature(self.score, line, centres, widths, kinks, fineness=fineness, bounded_slopes=tame)
        except (KeyError, NotImplementedError) as error:  # a flow without an inverse, a family without a density
            raise TypeError(
                f"The log-linear pool of {' and '.join(type(p).__name__ for p in self._members)} needs log densities at "
                f"other values than their draws, but got {type(error).__name__}: {error}. Try invertible transforms, or the "
                "linear pool."
            ) from error

    @cached_property
    def _marks(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        return [landmarks(p) for p in self._members]

    def _sum_of_scores(self, weights: Tensor) -> Callable[[Tensor], Tensor]:
        own = (spread_over(centres, self._batch_shape)[0] for centres, _, _ in self._marks)
        anchors = [_inside(p, centre) for p, centre in zip(self._members, own, strict=True)]
        scored = [unvalidated(p) for p in self._members]
        absent = (weights == 0).unbind(-1)
        if any(map(requires_grad, self._members)):
            with torch.no_grad():
                scores = [supported_log_prob(p, anchor) for p, anchor in zip(scored, anchors, strict=True)]
            scored = list(all_settled(scored, absent, scores))
        return partial(_score, scored, list(zip(weights.unbind(-1), absent, strict=True)), anchors)


def _tails(members: Sequence[td.Distribution], weights: Tensor) -> PowerTails | None:
    """The product of two densities with power tails, None of others."""
    pair = [power_tail(p) for p in members]
    if len(pair) != 2 or pair[0] is None or pair[1] is None:
        return None
    return PowerTails([pair[0], pair[1]], weights.unbind(-1))


def _score(
    members: Sequence[td.Distribution],
    shares: Sequence[tuple[Tensor, Tensor]],
    anchors: Sequence[Tensor],
    value: Tensor,
) -> Tensor:
    """Weighted sum of the members' log densities; one of no weight is read at a harmless point of its own.

    Args:
        members: the members.
        shares: for each, its weight, and where that is zero.
        anchors: for each, a point of its support.
        value: where to score.
    """
    with_grad = torch.is_grad_enabled()
    total: Tensor | float = 0.0
    for p, (weight, absent), anchor in zip(members, shares, anchors, strict=True):
        if with_grad:
            read = supported_log_prob(p, torch.where(absent, anchor, value))
            total = total + (weight * read).masked_fill(absent, 0.0)
        else:  # no slopes to look after
            total = (weight * supported_log_prob(p, value)).masked_fill_(absent, 0.0).add_(total)
    assert isinstance(total, Tensor)
    return total


def _may_be_rough(p: Any) -> bool:
    """Whether the density may have kinks of which the landmarks say nothing: behind a spline's knots, in a user's class."""
    if isinstance(p, (Coordinate, ExpandedDistribution, RolledRows)):
        return _may_be_rough(p.base_dist)
    if type(p).log_prob.__module__.partition(".")[0] not in ("torch", "pyro", "pyro_probmix"):
        return True
    return isinstance(p, td.TransformedDistribution) and not type(p).arg_constraints


def _inside(p: td.Distribution, point: Tensor) -> Tensor:
    """The point, or another one where it is not in the support."""
    support: Any = declared_support(p)
    return torch.where(support.check(point), point, interior_point(support))
