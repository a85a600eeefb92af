"""Mixtures of a few components of one family, each made from tensors whose last dimension is that of the components."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints

from pyro_probmix.models.distributions.student import StudentT

__all__ = ["GaussianMixture", "LogNormalMixture", "Mixture", "StudentTMixture"]


class Mixture(dist.MixtureSameFamily):  # type: ignore[misc] # Pyro is annotated in part
    """Base of the mixtures of K components: torch's, made from tensors, so that parts of a batch can be joined or taken.

    Args:
        logits: of the components' weights, [..., K].
        components: with batch shape [..., K].
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.real_vector}

    def __init__(self, logits: Tensor, components: Any, validate_args: bool | None = None) -> None:
        self.logits = logits
        weights = dist.Categorical(logits=logits, validate_args=False)
        super().__init__(weights, components, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self.__new__(type(self)) if _instance is None else _instance
        new.logits = self.logits.expand(*batch_shape, self.logits.shape[-1])
        for name in type(self).arg_constraints:
            if name != "logits":
                value = getattr(self, name)
                setattr(new, name, value.expand(*batch_shape, value.shape[-1]))
        new._component_distribution = self._component_distribution.expand((*batch_shape, self._num_component))
        new._mixture_distribution = self._mixture_distribution.expand(batch_shape)
        new._num_component, new._event_ndims = self._num_component, 0
        td.Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new


_POSITIVE = constraints.independent(constraints.positive, 1)


class GaussianMixture(Mixture):
    r"""The mixture :math:`\sum_k \pi_k\, \mathcal{N}(\mu_k, \sigma_k^2)`.

    Args:
        logits: of the weights, [..., K].
        loc, scale: of the components, [..., K].

    Example:
        >>> import torch
        >>> from pyro_probmix.models.distributions.mixtures import GaussianMixture
        >>> GaussianMixture(torch.zeros(2), torch.tensor([-1.0, 1.0]), torch.ones(2)).variance
        tensor(2.)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "logits": constraints.real_vector,
        "loc": constraints.real_vector,
        "scale": _POSITIVE,
    }

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(logits, dist.Normal(loc, scale, validate_args=False), validate_args)


class LogNormalMixture(Mixture):
    """The mixture of log-normal distributions.

    Args:
        logits: of the weights, [..., K].
        loc, scale: mean and standard deviation of the components' logarithms, [..., K].
    """

    arg_constraints: ClassVar[dict[str, Any]] = GaussianMixture.arg_constraints

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(logits, dist.LogNormal(loc, scale, validate_args=False), validate_args)

    def cdf(self, value: Tensor) -> Tensor:
        """The distribution function, which is 0 below 0."""
        inside = value > 0
        level: Tensor = super().cdf(torch.where(inside, value, 1.0)) * inside
        return level


class StudentTMixture(Mixture):
    """The mixture of Student's t distributions, each with more than 2 degrees of freedom.

    Args:
        logits: of the weights, [..., K].
        df, loc, scale: of the components, [..., K].
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "logits": constraints.real_vector,
        "df": _POSITIVE,
        "loc": constraints.real_vector,
        "scale": _POSITIVE,
    }

    def __init__(
        self, logits: Tensor, df: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None
    ) -> None:
        self.df, self.loc, self.scale = df, loc, scale
        super().__init__(logits, StudentT(df, loc, scale, validate_args=False), validate_args)
