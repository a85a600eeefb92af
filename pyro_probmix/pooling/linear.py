"""The linear pool: a mixture of a few distributions of any one family, as a distribution."""

from __future__ import annotations

__all__ = ["LinearPool", "masks_inside", "simplex_weights"]

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
import torch.distributions as td
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution, TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pyro_probmix.pooling.rows.batches import RolledRows, expand_batch
from pyro_probmix.pooling.rows.declared import common_support, declared_support, supported_log_prob
from pyro_probmix.pooling.rows.rebuilding import all_settled
from pyro_probmix.pooling.rows.scoring import scores_as
from pyro_probmix.pooling.rows.supports import AnyOf, bounds
from pyro_probmix.pooling.rows.tensors import floating_tensor


class LinearPool(TorchDistribution):
    r"""Mixture of *k* distributions with given weights, the linear opinion pool.

    .. math:: p(y) = \sum_{k} w_k\, p_k(y), \qquad w_k \ge 0, \quad \sum_k w_k = 1

    A member whose weight is zero has no part in the value nor in the gradient. :meth:`rsample` chooses a member, then
    draws from it; its gradient passes through the member's parameters alone, so ``has_rsample`` is false while the
    weights require a gradient.

    Args:
        members: at least two distributions of one event shape, whose batch shapes broadcast.
        weights: tensor ``[..., k]`` on the simplex, which broadcasts with the batch shape.
        validate_args: whether to check the weights, and that values to be scored lie in a support that depends on
            parameters; each member checks values for itself. By default the members say so: false if one has been told.

    Raises:
        ValueError: if the members' shapes do not fit each other or the weights, their masks differ, or the weights are
            not on the simplex.

    References:
        El-Laham et al., 2025, eq. (17).

    Example:
        >>> import torch, pyro.distributions as dist
        >>> from pyro_probmix.pooling.linear import LinearPool
        >>> pool = LinearPool([dist.Normal(0.0, 1.0), dist.Normal(4.0, 1.0)], torch.tensor([0.25, 0.75]))
        >>> pool.mean, pool.variance
        (tensor(3.), tensor(4.))
    """

    arg_constraints = {"weights": constraints.simplex}  # noqa: RUF012  # as in every torch distribution

    def __init__(self, members: Sequence[td.Distribution], weights: Tensor, validate_args: bool | None = None) -> None:
        members = tuple(members)
        event_shape = members[0].event_shape if members else torch.Size()
        if len(members) < 2 or weights.shape[-1:] != (len(members),):
            raise ValueError(
                f"LinearPool got {len(members)} members and weights of shape {tuple(weights.shape)}, expected at least "
                "two members and one weight for each in the last dimension. Try weights of shape [..., len(members)]."
            )
        if any(p.event_shape != event_shape for p in members):
            shapes = ", ".join(str(tuple(p.event_shape)) for p in members)
            raise ValueError(f"LinearPool got members of event shapes {shapes}, expected one. Try to_event on each.")
        first = list(masks_inside(members[0]))
        if any(list(masks_inside(p)) != first for p in members[1:]):
            raise ValueError(
                "LinearPool got members with masks of their own, where log_prob is zero and no density, expected one mask. "
                "Try linear_pool, which masks all members alike."
            )
        batch_shape = torch.Size(broadcast_shape(weights.shape[:-1], *(p.batch_shape for p in members)))
        self.members = tuple(expand_batch(p, batch_shape) for p in members)
        self.weights = weights.expand((*batch_shape, -1))
        if validate_args is None and td.Distribution._validate_args:
            validate_args = all(map(_validates, self.members))
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> LinearPool:
        """The pool with its batch expanded."""
        new: LinearPool = type(self).__new__(type(self)) if _instance is None else _instance
        batch_shape = torch.Size(batch_shape)
        new.weights = self.weights.expand((*batch_shape, -1))
        new.members = tuple(expand_batch(p, batch_shape) for p in self.members)
        super(LinearPool, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]  # a plain attribute in the base, as in torch's wrappers
        """Whether draws carry the gradient of all that depends on parameters."""
        return all(p.has_rsample for p in self.members) and not self.weights.requires_grad

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]  # likewise
        """Whether the members have finite supports."""
        return all(p.has_enumerate_support for p in self.members)

    @cached_property
    def _support(self) -> Any:
        return common_support(self.members)

    @constraints.dependent_property
    def support(self) -> Any:
        """The members' support: their union, where they have several."""
        return self._support

    def log_prob(self, value: Tensor) -> Tensor:
        """The log of the mixture's density, shape ``sample_shape + batch_shape``."""
        self._check(value)
        absent = self.weights == 0
        differing = isinstance(self._support, AnyOf)
        log_weights = self.weights.masked_fill(absent, 1.0).log().masked_fill(absent, -torch.inf)
        try:
            each = [supported_log_prob(p, value, differing) for p in self.members]
            if any(score.requires_grad for score in each):
                members = all_settled(self.members, absent.unbind(-1), each)
                each = [
                    score if p is own else supported_log_prob(p, value, differing)
                    for p, own, score in zip(members, self.members, each, strict=True)
                ]
            scores = torch.stack(each, -1)
        except (KeyError, NotImplementedError) as error:  # a flow without an inverse, a family without a density
            raise TypeError(
                f"The linear pool of {' and '.join(type(p).__name__ for p in self.members)} needs log densities at other "
                f"values than their draws, but got {type(error).__name__}: {error}. Try invertible transforms."
            ) from error
        scores = (scores + log_weights).masked_fill(absent, -torch.inf)  # whatever a member of no weight says
        impossible = (scores == -torch.inf).all(-1)  # of which logsumexp has no gradient
        total = torch.logsumexp(scores.masked_fill(impossible.unsqueeze(-1), 0.0), -1)
        return total.masked_fill(impossible, -torch.inf)

    def cdf(self, value: Tensor) -> Tensor:
        """The mixture of the members' distribution functions."""
        self._check(value)
        levels = []
        for p in self.members:
            low, high = bounds(declared_support(p))  # beyond its own bounds a member's function is that at the bound
            inside = value if low is None else value.clamp(min=low)
            inside = inside if high is None else inside.clamp(max=high)
            levels.append(_of_member(p, "cdf", inside))
        return self._average(levels)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Chooses a member for each draw, then draws from it."""
        with torch.no_grad():
            return self._choose([p.sample(torch.Size(sample_shape)).detach() for p in self.members], sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Chooses a member for each draw, then draws from it with the gradient of its parameters."""
        if not self.has_rsample:
            raise NotImplementedError("This LinearPool has no rsample (see its has_rsample). Try sample.")
        return self._choose([p.rsample(torch.Size(sample_shape)) for p in self.members], sample_shape)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """The members' finite support, shape ``[n, *batch_shape, *event_shape]``: all that one may draw."""
        if not self.has_enumerate_support:
            raise NotImplementedError("The members of this LinearPool have no finite support. Try sample.")
        if not isinstance(self._support, AnyOf):
            return max((p.enumerate_support(expand) for p in self.members), key=len)
        low, high = map(torch.as_tensor, bounds(self._support))  # of counts, whose totals may differ from row to row
        like = floating_tensor(self.members[0])
        values = torch.arange(int(low.min()), int(high.max()) + 1, dtype=like.dtype, device=like.device)
        values = values.reshape(-1, *(1,) * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values

    @property
    def mean(self) -> Tensor:
        """The weighted mean of the members' means."""
        return self._average([_of_member(p, "mean") for p in self.members])

    @property
    def variance(self) -> Tensor:
        """The variance within the members plus that between their means."""
        means = [_of_member(p, "mean") for p in self.members]
        mean = self._average(means)
        variances = [_of_member(p, "variance") for p in self.members]
        return self._average([v + (m - mean).square() for v, m in zip(variances, means, strict=True)])

    def _check(self, value: Tensor) -> None:
        """Looks for values outside of a support that depends on parameters; the members look for others."""
        if self._validate_args and isinstance(self._support, AnyOf):
            self._validate_sample(value)

    def _average(self, values: Sequence[Tensor]) -> Tensor:
        """Weighted mean of one value per member, ``[..., *batch_shape, *event_shape]``."""
        total: Tensor | float = 0.0
        for weight, value in zip(self._event_weights(), values, strict=True):
            total = total + (weight * value).masked_fill(weight == 0, 0.0)  # an infinite moment of no weight
        assert isinstance(total, Tensor)
        return total

    def _choose(self, draws: Sequence[Tensor], sample_shape: Sequence[int]) -> Tensor:
        """Takes each draw from one member, chosen by its weight."""
        *levels, total = accumulate(self.weights.detach().unbind(-1), torch.add)
        uniform = torch.rand((*sample_shape, *self.batch_shape), dtype=total.dtype, device=total.device)
        event = (1,) * len(self.event_shape)
        result = draws[0]
        for level, draw in zip(levels, draws[1:], strict=True):  # the last level that was passed counts
            beyond = uniform >= level / total  # exactly 1 from the last member of positive weight on
            result = torch.where(beyond.reshape(beyond.shape + event), draw, result)
        return result

    def _event_weights(self) -> list[Tensor]:
        return [w.reshape(w.shape + (1,) * len(self.event_shape)) for w in self.weights.unbind(-1)]


def simplex_weights(members: Sequence[td.Distribution], weights: Sequence[float | Tensor]) -> Tensor:
    """Stack the weights, or that of the first of two members and its complement, as a tensor like the members'."""
    like = floating_tensor(members[0])
    own = [w.to(like) if isinstance(w, Tensor) else like.new_full((), w) for w in weights]
    if len(own) == 1:
        return torch.stack([own[0], 1 - own[0]], -1)
    return torch.stack(torch.broadcast_tensors(*own), -1)


def _inside(p: Any) -> Iterator[Any]:
    """A distribution and what is inside of its wrappers."""
    yield p
    while scores_as(
        p, td.Independent, MaskedDistribution, ExpandedDistribution, RolledRows, td.TransformedDistribution
    ):
        p = p.base_dist
        yield p


def masks_inside(p: td.Distribution) -> Iterator[int]:
    """Gives for each mask inside which object it is."""
    return (id(part._mask) for part in _inside(p) if isinstance(part, MaskedDistribution) and part._mask is not True)


def _validates(p: td.Distribution) -> bool:
    """Whether nothing inside has been told not to validate."""
    return all(part.__dict__.get("_validate_args") is not False for part in _inside(p))


def _of_member(p: td.Distribution, what: str, *at: Tensor) -> Tensor:
    try:
        read: Any = getattr(p, what)
        value: Tensor = read(*at) if at else read
    except NotImplementedError:
        name = type(list(_inside(p))[-1]).__name__
        raise NotImplementedError(
            f"A LinearPool of {name} has no {what}, as a {name} has none, expected members with one. Try draws of it."
        ) from None
    return value
