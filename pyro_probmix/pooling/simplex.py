"""The weights of the fused rows: a distribution on the simplex, or values in it."""

from __future__ import annotations

__all__ = ["Dirichlet", "SymmetricDirichlet", "Weight", "checked_weight"]

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import logsigmoid

from pyro_probmix.pooling.rows.supports import bounds
from pyro_probmix.pooling.weights import Beta

Weight = float | Tensor | Distribution


class Dirichlet(dist.Dirichlet):
    r"""The Dirichlet distribution, :math:`p(\lambda) \propto \prod_m \lambda_m^{a_m - 1}`, drawn in log space.

    :math:`\lambda = \operatorname{softmax}(\log G)` of gammas :math:`G_m \sim \mathrm{Gamma}(a_m)`, with
    :math:`\log G_a = \log G_{a + 1} + a^{-1} \log U`. torch's own draws divide gammas that have underflown. Two weights of
    one shape follow :class:`~pyro_probmix.pooling.weights.Beta`, :math:`\lambda_1 \sim \mathrm{Beta}(a, a)`.

    Args:
        concentration: a > 0, [..., k].

    References:
        Stuart (1962), Gamma-distributed products of independent random variables.

    Example:
        >>> import torch
        >>> from pyro_probmix.pooling.simplex import Dirichlet
        >>> _ = torch.manual_seed(0)
        >>> draws = Dirichlet(torch.full((3,), 1e-4)).sample((10_000,))
        >>> bool((draws.amax(-1) > 0.99).float().mean() > 0.99)  # nearly always at a corner
        True
        >>> bool((draws.argmax(-1).bincount() / 10_000 - 1 / 3).abs().max() < 0.02)  # at each as often
        True
    """

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws of shape [*sample_shape, *batch_shape, k], of positive weights that sum to one."""
        concentration = self.concentration.expand((*sample_shape, *self.batch_shape, *self.event_shape))
        log_uniform = -torch.empty_like(concentration).exponential_()
        log_gamma = torch._standard_gamma(concentration + 1).log() + log_uniform / concentration
        # Above 0, where the log density is finite.
        return log_gamma.softmax(-1).clamp(min=torch.finfo(concentration.dtype).tiny)


class SymmetricDirichlet(dist.Dirichlet):
    r"""The distribution Dirichlet(a, ..., a) of k weights, for k = 2, 4, 8 and so on drawn without the rejections of a gamma.

    Half of the weights sum to :math:`\mathrm{Beta}(ka/2, ka/2)`, and so on within each half: k - 1 draws of
    :class:`~pyro_probmix.pooling.weights.Beta`, whose logarithms are added. For other k see :class:`Dirichlet`.

    Args:
        concentration: a > 0, [...].
        num_fused: k.

    Example:
        >>> import torch
        >>> from pyro_probmix.pooling.simplex import SymmetricDirichlet
        >>> SymmetricDirichlet(torch.tensor([0.1, 1.0]), 4).sample().shape
        torch.Size([2, 4])
    """

    def __init__(self, concentration: Tensor, num_fused: int, validate_args: bool | None = None) -> None:
        self.num_fused = num_fused
        expanded = concentration.unsqueeze(-1).expand(*concentration.shape, num_fused)
        super().__init__(expanded, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> SymmetricDirichlet:
        """The distribution with its batch expanded."""
        base: Any = super()
        new: SymmetricDirichlet = base._get_checked_instance(SymmetricDirichlet, _instance)
        new.num_fused = self.num_fused
        base.expand(torch.Size(batch_shape), new)
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws of shape [*sample_shape, *batch_shape, k], of positive weights that sum to one."""
        if self.num_fused & (self.num_fused - 1):  # no power of two
            return Dirichlet(self.concentration, validate_args=False).rsample(sample_shape)
        a = self.concentration[..., :1]
        log_weight = a.new_zeros((*sample_shape, *self.batch_shape, 1))
        parts = 1
        while parts < self.num_fused:
            shape = (a * (self.num_fused / (2 * parts))).expand(*self.batch_shape, parts)
            logit = Beta(shape, shape, validate_args=False).logit(sample_shape)
            both = torch.stack([logsigmoid(logit), logsigmoid(-logit)], -1)
            log_weight = (log_weight.unsqueeze(-1) + both).flatten(-2)
            parts *= 2
        return log_weight.exp().clamp(min=torch.finfo(a.dtype).tiny)


def checked_weight(weight: Weight | Sequence[Any], num_fused: int) -> Weight:
    """The weight, a Beta or Dirichlet distribution as one that is drawn right for small shapes too.

    Args:
        weight: of the first of two rows, in the unit interval; of k > 2 rows a distribution on the simplex, or values [..., k].
        num_fused: k.

    Raises:
        ValueError: for a distribution of another support or event shape, values outside of it, neither of the
            two, or fewer than two rows.
    """
    if not isinstance(num_fused, int) or num_fused < 2:
        raise ValueError(
            f"fuse got num_fused={num_fused!r}, expected an integer of at least 2, the rows that are fused. Try num_fused=2."
        )
    if isinstance(weight, list | tuple):  # in double precision, as an array of NumPy's
        with suppress(RuntimeError, TypeError, ValueError):
            weight = torch.as_tensor(np.asarray(weight))
    return _on_unit_interval(weight) if num_fused == 2 else _on_simplex(weight, num_fused)


def _on_unit_interval(weight: Any) -> Weight:
    advice = "Try dist.Beta(alpha, alpha) or 0.5."
    if isinstance(weight, Beta):
        return weight
    if isinstance(weight, torch.distributions.Beta):
        return Beta(weight.concentration1, weight.concentration0)
    if isinstance(weight, Distribution):
        support: Any = weight.support
        if weight.event_shape or not _lies_in_unit_interval(support):
            raise ValueError(
                f"fuse got a weight drawn from {type(weight).__name__} with event shape {tuple(weight.event_shape)} and "
                f"support {support}, expected the unit interval and no event shape. "
                "Try dist.Beta(alpha, alpha), or num_fused=k for k weights on the simplex."
            )
        return weight
    try:
        values = torch.as_tensor(weight)
    except (RuntimeError, TypeError, ValueError):
        raise ValueError(
            f"fuse got the weight {weight!r}, expected a number, a tensor or a distribution. {advice}"
        ) from None
    if values.layout is not torch.strided:
        raise ValueError("fuse got a sparse tensor as weight, expected a dense one. Try weight.to_dense().")
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise ValueError(f"fuse got the weight {weight}, expected values in [0, 1]. {advice}")
    return weight if isinstance(weight, int | float) else values


def _lies_in_unit_interval(support: Any) -> bool:
    if support is constraints.boolean:
        return True
    low, high = (torch.as_tensor(torch.nan if bound is None else bound) for bound in bounds(support))
    return bool((low >= 0).all() and (high <= 1).all())


def _on_simplex(weight: Any, num_fused: int) -> Weight:
    advice = f"Try dist.Dirichlet(alpha * torch.ones({num_fused}))."
    if isinstance(weight, Distribution):
        if weight.event_shape != (num_fused,) or weight.support is not constraints.simplex:
            raise ValueError(
                f"fuse got weights drawn from {type(weight).__name__} with event shape {tuple(weight.event_shape)} and "
                f"{weight.support}, expected the simplex of {num_fused} weights. {advice}"
            )
        if isinstance(weight, torch.distributions.Dirichlet) and not isinstance(weight, SymmetricDirichlet):
            return Dirichlet(weight.concentration)
        return weight
    if isinstance(weight, np.ndarray):
        with suppress(RuntimeError, TypeError, ValueError):
            weight = torch.as_tensor(weight)
    if not isinstance(weight, Tensor) or weight.shape[-1:] != (num_fused,):
        shape = f"of shape {tuple(weight.shape)}" if isinstance(weight, Tensor) else f"{weight!r}"
        raise ValueError(
            f"fuse got the weight {shape} for num_fused={num_fused}, expected a tensor [..., {num_fused}]. {advice}"
        )
    if not bool((weight >= 0).all() and ((weight.sum(-1) - 1).abs() < 1e-5).all()):
        raise ValueError(f"fuse got the weights {weight}, expected values of at least 0 that sum to 1. {advice}")
    return weight
