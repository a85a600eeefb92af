"""The log-linear pool of a family of counts that has no closed form, normalised by a sum."""

from __future__ import annotations

__all__ = ["CountPool", "is_count"]

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributions as td
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import ExpandedDistribution, TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pyro_probmix.pooling.integrals.negative_binomials import NegativeBinomials
from pyro_probmix.pooling.integrals.once import Once
from pyro_probmix.pooling.integrals.sums import CountSum
from pyro_probmix.pooling.linear import LinearPool
from pyro_probmix.pooling.rows.batches import RolledRows
from pyro_probmix.pooling.rows.declared import unvalidated
from pyro_probmix.pooling.rows.landmarks import landmarks, spread_over
from pyro_probmix.pooling.rows.parameters import negative_binomial
from pyro_probmix.pooling.rows.rebuilding import all_settled
from pyro_probmix.pooling.rows.rolls import roll_tensor
from pyro_probmix.pooling.rows.scoring import scores_as
from pyro_probmix.pooling.rows.supports import bounds
from pyro_probmix.pooling.rows.tensors import can_be_read, floating_tensor, requires_grad

_EXTENDED = (dist.ExtendedBinomial, dist.ExtendedBetaBinomial)  # their support is declared to be all integers
_SMOOTH: tuple[type[Any], ...] = (
    *(td.Poisson, td.Binomial, td.NegativeBinomial, td.Geometric, dist.Poisson, dist.Binomial, dist.Geometric),
    *(dist.GammaPoisson, dist.BetaBinomial, dist.LogNormalNegativeBinomial, *_EXTENDED),
)
_WRAPPERS = (ExpandedDistribution, RolledRows, dist.ZeroInflatedDistribution)
_EXACT = 4096  # a finite support of up to this many counts is summed count by count, where the family is not known


class CountPool(TorchDistribution):
    r"""Log-linear pool of distributions of counts, normalised by a sum.

    .. math:: p(n) = \frac{1}{Z} \prod_k p_k(n)^{w_k}, \qquad Z = \sum_{n \ge 0} \prod_k p_k(n)^{w_k}

    A member whose weight is zero has no part in the value nor in the gradient; the support is the intersection of the
    others'. The sum is by :class:`~pyro_probmix.pooling.integrals.sums.CountSum`, in double precision whatever the members
    have: the log-gamma function of a large count has no digits to spare. It is exact up to rounding where the mass lies on
    the first or last 45 counts. Otherwise log Z is within 1e-7 for the families of torch and Pyro, as the tests measure
    with means up to 1e4. Negative binomials are normalised by
    :class:`~pyro_probmix.pooling.integrals.negative_binomials.NegativeBinomials`, within 1e-8 where totals lie
    between 0.05 and 50 and means between 0.5 and 500, within 1e-7 for totals of 0.001 to 10,000 and means of 0.01 to 10,000,
    and within 1e-5 for totals up to 1e9 and means up to 1e6. Counts above 2^52 are left out: they hold less than 1e-15 of the
    mass of a density that falls geometrically over fewer than 1e14 counts.

    A family of one's own with unbounded counts takes part if its ``log_prob`` is smooth between the counts (it is asked for
    values there), except at 0.

    Args:
        members: at least two distributions of counts, of event shape ``()``, whose batch shapes broadcast.
        weights: tensor ``[..., k]`` on the simplex, which broadcasts with the batch shape.
        validate_args: whether to check the weights, that the pool exists, and values to be scored.

    Raises:
        ValueError: if the members have no common support.

    References:
        El-Laham et al., 2025, eq. (18).

    Example:
        >>> import torch, pyro.distributions as dist
        >>> from pyro_probmix.pooling.counts import CountPool
        >>> members = [dist.Binomial(torch.tensor(n), torch.tensor(0.5)) for n in (2.0, 3.0)]
        >>> pool = CountPool(members, torch.tensor([0.5, 0.5]))
        >>> pool.enumerate_support()
        tensor([0., 1., 2.])
        >>> pool.mean
        tensor(1.1413)
    """

    arg_constraints = {"weights": constraints.simplex}  # noqa: RUF012  # as in every torch distribution

    def __init__(self, members: Sequence[td.Distribution], weights: Tensor, validate_args: bool | None = None) -> None:
        self.members = tuple(members)
        batch_shape = torch.Size(broadcast_shape(weights.shape[:-1], *(p.batch_shape for p in members)))
        self.weights = weights.expand((*batch_shape, -1))
        self._dtype = floating_tensor(members[0]).dtype
        limits = [_largest(p) for p in members]
        wide = weights.double()
        product = _negative_binomials(members, wide)
        if product is not None:
            self._score: Callable[[Tensor], Tensor] = product.score
        else:
            centres = [landmarks(p)[0][0].double() for p in members]
            anchors = [_inside(centre, limit) for centre, limit in zip(centres, limits, strict=True)]
            self._score = partial(_score, self._scored(anchors), wide.unbind(-1), limits, anchors)
        none = wide.new_full((), torch.inf)
        tight = [
            none if limit is None else torch.where(weight == 0, none, limit.to(wide))
            for weight, limit in zip(wide.unbind(-1), limits, strict=True)
        ]
        largest = torch.stack(torch.broadcast_tensors(*tight)).amin(0).expand(batch_shape).detach()
        self._largest = None if all(limit is None for limit in limits) else largest
        exact = None
        if self._largest is not None and not all(map(_is_smooth, members)) and can_be_read(largest) and largest.numel():
            most = float(largest.max())
            exact = int(most) if most < _EXACT else None
        self._sum = Once(partial(self._summed, largest, exact, product is not None))
        self._log_normalizer = self._sum().log_normalizer if product is None else product.log_mass()
        super().__init__(batch_shape, torch.Size(), validate_args=validate_args)
        if self._validate_args and not bool(self._log_normalizer.isfinite().all()):
            raise ValueError(
                f"The log-linear pool of {' and '.join(type(p).__name__ for p in members)} does not exist: they have no "
                "count of positive probability in common. Try members whose supports overlap, or the linear pool."
            )

    def _summed(self, largest: Tensor, exact: int | None, bounded_slopes: bool) -> CountSum:
        centres, widths = (
            torch.cat([spread_over(x, largest.shape) for x in xs]).double()
            for xs in zip(*(landmarks(p)[:2] for p in self.members), strict=True)
        )
        ends = self._largest is not None
        return CountSum(self._score, largest, ends, centres, widths, self._dtype, exact, bounded_slopes)

    def _scored(self, anchors: Sequence[Tensor]) -> list[Any]:
        """The members as they are scored; those that are NaN at their anchors and not read, with standard parameters."""
        scored = [unvalidated(p) for p in self.members]
        if not any(map(requires_grad, self.members)):
            return scored
        with torch.no_grad():
            scores = [p.log_prob(anchor) for p, anchor in zip(scored, anchors, strict=True)]
        return list(all_settled(scored, (self.weights == 0).unbind(-1), scores))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> CountPool:
        """The pool with its batch expanded."""
        new: CountPool = type(self).__new__(type(self)) if _instance is None else _instance
        for name in ("members", "_score", "_sum", "_log_normalizer", "_dtype"):
            setattr(new, name, getattr(self, name))
        new._largest = None if self._largest is None else self._largest.expand(batch_shape)
        new.weights = self.weights.expand((*batch_shape, -1))
        super(CountPool, new).__init__(torch.Size(batch_shape), torch.Size(), validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """The intersection of the members' supports."""
        if any(p.support is constraints.integer for p in self.members):
            return constraints.integer
        if self._largest is None:
            return constraints.nonnegative_integer
        return constraints.integer_interval(0, self._largest.to(self._dtype))

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]  # a plain attribute in the base
        """Whether the members' counts are bounded."""
        return self._largest is not None

    def log_prob(self, value: Tensor) -> Tensor:
        """The log probability, shape ``sample_shape + batch_shape``."""
        if self._validate_args:
            self._validate_sample(value)
        value = value.expand(torch.broadcast_shapes(value.shape, self.batch_shape)).double()
        return (self._score(value) - self._log_normalizer).to(self._dtype)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws by inverting the distribution function."""
        like = self._sum().log_normalizer
        shape = (*sample_shape, *self.batch_shape)
        level = torch.rand(shape, dtype=like.dtype, device=like.device).clamp(min=torch.finfo(like.dtype).tiny)
        return self._sum().draw(level, None if can_be_read(like) else 53).to(self._dtype)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """The counts from 0 to the largest one, which has to be that of all rows."""
        if self._largest is None or not bool(self._largest.isfinite().all()):
            raise NotImplementedError("The counts of this CountPool are unbounded. Try sample.")
        total = int(self._largest.max())
        if not self._largest.min() == total:
            raise NotImplementedError("The counts of this CountPool end at another one in each row. Try sample.")
        values = torch.arange(1 + total, dtype=self._dtype, device=self._largest.device)
        values = values.reshape(-1, *(1,) * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values

    @property
    def mean(self) -> Tensor:
        """The mean."""
        return self._sum().mean().to(self._dtype).expand(self.batch_shape)

    @property
    def variance(self) -> Tensor:
        """The variance."""
        return self._sum().variance().to(self._dtype).expand(self.batch_shape)


def _negative_binomials(members: Sequence[td.Distribution], weights: Tensor) -> NegativeBinomials | None:
    """The product of negative binomials, None of other distributions."""
    pairs = [negative_binomial(p) for p in members]
    known = [pair for pair in pairs if pair is not None]
    if len(known) < len(pairs):
        return None
    some_are_zero = not all(can_be_read(total) and bool((total != 0).all()) for total, _ in known)
    return NegativeBinomials(known, weights.unbind(-1), some_are_zero=some_are_zero)


def is_count(p: Any) -> bool:
    """Whether a distribution is one of counts 0, 1, ..., of event shape ``()``."""
    if p.event_shape or p.support is None or not p.support.is_discrete:
        return False
    low = bounds(p.support)[0]
    return p.support is constraints.boolean or (isinstance(low, (int, float)) and low == 0) or _extended(p)


def _extended(p: Any) -> bool:
    if isinstance(p, _WRAPPERS):
        return _extended(p.base_dist)
    if isinstance(p, CountPool):
        return any(map(_extended, p.members))
    return isinstance(p, _EXTENDED)


def _largest(p: Any) -> Tensor | None:
    """The largest count of each row, None where there is none."""
    if isinstance(p, CountPool):
        return p._largest
    if isinstance(p, RolledRows):
        own = _largest(p.base_dist)
        return None if own is None else roll_tensor(own, p.shift, p.dim)
    if isinstance(p, _WRAPPERS):
        return _largest(p.base_dist)
    if isinstance(p, _EXTENDED):
        total: Tensor = p.total_count
        return total
    high = 1.0 if p.support is constraints.boolean else bounds(p.support)[1]
    return high if high is None or isinstance(high, Tensor) else floating_tensor(p).new_full((), high)


def _is_smooth(p: Any) -> bool:
    """Whether the log density is known to be a smooth function between the counts."""
    if scores_as(p, *_WRAPPERS):
        return _is_smooth(p.base_dist)
    if scores_as(p, td.MixtureSameFamily):
        return _is_smooth(p.component_distribution)
    if scores_as(p, LinearPool, CountPool):
        return all(map(_is_smooth, p.members))
    return scores_as(p, *_SMOOTH)


def _inside(centre: Tensor, limit: Tensor | None) -> Tensor:
    """A count near the centre, and so of positive probability."""
    count = centre.round().clamp(min=0)
    return count if limit is None else torch.minimum(count, limit.to(count)).clamp(min=0)


def _score(
    members: Sequence[td.Distribution],
    weights: Sequence[Tensor],
    limits: Sequence[Tensor | None],
    anchors: Sequence[Tensor],
    value: Tensor,
) -> Tensor:
    """Weighted sum of the members' log densities; one of no weight, or beyond its largest count, is read elsewhere."""
    total: Tensor | float = 0.0
    for p, weight, limit, anchor in zip(members, weights, limits, anchors, strict=True):
        elsewhere = absent = weight == 0
        outside = None
        if limit is not None:
            outside = ((value < 0) | (value > limit)) & ~absent
            elsewhere = absent | outside
        with dist.validation_enabled(False):  # which a class of one's own may leave to distributions that it makes
            read = p.log_prob(torch.where(elsewhere, anchor.to(value), value))
        total = total + (weight.to(read) * read).masked_fill(absent, 0.0)
        if outside is not None:
            total = total.masked_fill(outside, -torch.inf)
    assert isinstance(total, Tensor)
    return total
