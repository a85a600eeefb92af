"""The linear pool: a mixture of a few distributions of any one family, as a distribution."""

from __future__ import annotations

__all__ = ["LinearPool"]

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributions as td
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import MaskedDistribution, TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pyro_probmix.pooling.batches import expand_batch, floating_tensor, roll_batch
from pyro_probmix.pooling.rolls import roll_tensor
from pyro_probmix.pooling.supports import AnyOf, bounds, is_fixed, supported_log_prob


class LinearPool(TorchDistribution):
    r"""Mixture of *k* distributions with given weights, the linear opinion pool.

    .. math:: p(y) = \sum_{k} w_k\, p_k(y), \qquad w_k \ge 0, \quad \sum_k w_k = 1

    A member whose weight is zero has no part in the value nor in the gradient. :meth:`rsample` chooses a member, then
    draws from it; its gradient passes through the member's parameters alone, so ``has_rsample`` is false while the
    weights require a gradient.

    Args:
        members: at least two distributions of one event shape, whose batch shapes broadcast.
        weights: tensor ``[..., k]`` on the simplex, which broadcasts with the batch shape.
        validate_args: whether to check the weights, and values to be scored.

    Raises:
        ValueError: if the members' shapes do not fit each other or the weights, a member is masked, or the weights are
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
        if any(_is_masked(p) for p in members):
            raise ValueError(
                "LinearPool got a masked member, whose log_prob of zero where it is masked is no density. "
                "Try to mask the pool."
            )
        batch_shape = broadcast_shape(weights.shape[:-1], *(p.batch_shape for p in members))
        self.members = tuple(expand_batch(p, batch_shape) for p in members)
        self.weights = weights.expand((*batch_shape, -1))
        super().__init__(torch.Size(batch_shape), event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> LinearPool:
        """Return the pool with its batch expanded."""
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
        """Whether the members have one finite support."""
        return all(p.has_enumerate_support and is_fixed(p.support) for p in self.members)

    @constraints.dependent_property
    def support(self) -> Any:
        """The members' support: their union, where it depends on parameters."""
        supports: list[Any] = [p.support for p in self.members]
        return supports[0] if all(map(is_fixed, supports)) else AnyOf(supports)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log of the mixture's density, shape ``sample_shape + batch_shape``."""
        if self._validate_args:
            self._validate_sample(value)
        absent = self.weights == 0
        log_weights = self.weights.masked_fill(absent, 1.0).log().masked_fill(absent, -torch.inf)
        scores = torch.stack([supported_log_prob(p, value) for p in self.members], -1)
        return torch.logsumexp(scores + log_weights, -1)

    def cdf(self, value: Tensor) -> Tensor:
        """Return the mixture of the members' distribution functions."""
        if self._validate_args:
            self._validate_sample(value)
        levels = []
        for p in self.members:
            low, high = bounds(p.support)  # beyond its own bounds a member's function is that at the bound
            inside = value if low is None else value.clamp(min=low)
            levels.append(p.cdf(inside if high is None else inside.clamp(max=high)))
        return self._average(levels)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Choose a member for each draw, then draw from it."""
        with torch.no_grad():
            return self._choose([p.sample(torch.Size(sample_shape)) for p in self.members], sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Choose a member for each draw, then draw from it with the gradient of its parameters."""
        if not self.has_rsample:
            raise NotImplementedError("This LinearPool has no rsample (see its has_rsample). Try sample.")
        return self._choose([p.rsample(torch.Size(sample_shape)) for p in self.members], sample_shape)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return the members' common finite support."""
        if not self.has_enumerate_support:
            raise NotImplementedError("The members of this LinearPool have no common finite support. Try sample.")
        return self.members[0].enumerate_support(expand)

    @property
    def mean(self) -> Tensor:
        """The weighted mean of the members' means."""
        return self._average([p.mean for p in self.members])

    @property
    def variance(self) -> Tensor:
        """The variance within the members plus that between their means."""
        mean = self.mean
        return self._average([p.variance + (p.mean - mean).square() for p in self.members])

    def _average(self, values: Sequence[Tensor]) -> Tensor:
        """Weighted mean of one value per member, ``[..., *batch_shape, *event_shape]``."""
        total: Tensor | float = 0.0
        for weight, value in zip(self._event_weights(), values, strict=True):
            total = total + (weight * value).masked_fill(weight == 0, 0.0)  # an infinite moment of no weight
        assert isinstance(total, Tensor)
        return total

    def _choose(self, draws: Sequence[Tensor], sample_shape: Sequence[int]) -> Tensor:
        """Take each draw from one member, chosen by its weight."""
        levels = self.weights.detach().cumsum(-1)
        levels = levels / levels[..., -1:]  # exactly 1 from the last member of positive weight on
        uniform = torch.rand((*sample_shape, *self.batch_shape, 1), dtype=levels.dtype, device=levels.device)
        chosen = (uniform >= levels[..., :-1]).sum(-1)
        chosen = chosen.reshape(chosen.shape + (1,) * len(self.event_shape))
        result = draws[0]
        for k, draw in enumerate(draws[1:], start=1):
            result = torch.where(chosen == k, draw, result)
        return result

    def _event_weights(self) -> list[Tensor]:
        return [w.reshape(w.shape + (1,) * len(self.event_shape)) for w in self.weights.unbind(-1)]


def simplex_weights(members: Sequence[td.Distribution], weights: Sequence[float | Tensor]) -> Tensor:
    """Stack the weights, or that of the first of two members and its complement, as a tensor like the members'."""
    like = floating_tensor(members[0])
    own = [w.to(like) if isinstance(w, Tensor) else like.new_full((), w) for w in weights]
    if len(own) == 1:
        own.append(1 - own[0])
    return torch.stack(torch.broadcast_tensors(*own), -1)


def _is_masked(p: Any) -> bool:
    while not isinstance(p, MaskedDistribution) and hasattr(p, "base_dist"):
        p = p.base_dist
    return isinstance(p, MaskedDistribution) and p._mask is not True


@roll_batch.register(LinearPool)
def _roll_linear_pool(p: Any, shift: int, dim: int = -1) -> td.Distribution:
    members = [roll_batch(member, shift, dim) for member in p.members]
    return LinearPool(members, roll_tensor(p.weights, shift, dim, 1), validate_args=p.__dict__.get("_validate_args"))
