"""The Beta distribution of the weight, drawn right for small shapes too."""

from __future__ import annotations

__all__ = ["Beta"]

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions.utils import broadcast_all


class Beta(dist.Beta):
    r"""The Beta distribution, :math:`p(\lambda) \propto \lambda^{a - 1} (1 - \lambda)^{b - 1}`, drawn in log space.

    With :math:`G_a \sim \mathrm{Gamma}(a)`, :math:`\lambda = G_a / (G_a + G_b)` and
    :math:`\log G_a = \log G_{a + 1} + a^{-1} \log U`. torch's own draws divide gammas that have underflown: at
    a = b = 0.001 a quarter of them fall between 0.25 and 0.75, where 0.1 % belong.

    Where both shapes are one tensor (or one number), :math:`\lambda` is drawn from three uniforms, without the rejections
    of a gamma: :math:`\log(G_{a + 1} / G'_{a + 1})` is the logit of a Beta(a + 1, a + 1), which Ulrich's polar method draws,

    .. math::
        \operatorname{logit}(\lambda) = 2 \operatorname{artanh}\!\left(
            \sqrt{1 - U^{2 / (2a + 1)}} \cos(2 \pi V)\right) + L / a,

    and L, the difference of two exponentials, is Laplace.

    Args:
        concentration1: a > 0.
        concentration0: b > 0.

    References:
        Stuart (1962), Gamma-distributed products of independent random variables. Ulrich (1984), Computer generation of
        distributions on the m-sphere.

    Example:
        >>> import torch
        >>> from pyro_probmix.pooling.weights import Beta
        >>> _ = torch.manual_seed(0)
        >>> draws = Beta(torch.tensor(1e-4), torch.tensor(1e-4)).sample((10_000,))
        >>> bool(((draws > 0.01) & (draws < 0.99)).float().mean() < 0.005)
        True
    """

    def __init__(
        self, concentration1: float | Tensor, concentration0: float | Tensor, validate_args: bool | None = None
    ) -> None:
        self.symmetric = concentration1 is concentration0
        # As they are given: torch's own Beta stacks them for a Dirichlet, which is made here when it is asked for.
        self._shapes: tuple[Tensor, ...]
        if self.symmetric and isinstance(concentration1, Tensor):
            self._shapes = concentration1, concentration1
        else:
            self._shapes = broadcast_all(concentration1, concentration0)
        td.Distribution.__init__(self, self._shapes[0].shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Beta:
        """The distribution with its batch expanded."""
        new: Beta = type(self).__new__(type(self)) if _instance is None else _instance
        new.symmetric, new._shapes = self.symmetric, self._shapes
        td.Distribution.__init__(new, torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def concentration1(self) -> Tensor:
        """The first shape, of the batch shape."""
        return self._shapes[0].expand(self.batch_shape)

    @property
    def concentration0(self) -> Tensor:
        """The second shape, of the batch shape."""
        return self._shapes[1].expand(self.batch_shape)

    @cached_property
    def _dirichlet(self) -> td.Dirichlet:  # type: ignore[override]  # a plain attribute in the base
        return td.Dirichlet(torch.stack([self.concentration1, self.concentration0], -1), validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws of shape [*sample_shape, *batch_shape], inside of (0, 1)."""
        logit = self.logit(sample_shape)
        info = torch.finfo(logit.dtype)
        draws: Tensor = logit.sigmoid().clamp(info.tiny, 1 - info.eps / 2)
        return draws

    def logit(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """The logits of draws, [*sample_shape, *batch_shape], which tell those apart that round to 0 or 1."""
        shape = (*sample_shape, *self.batch_shape)
        return self._symmetric_logit(shape) if self.symmetric else self._logit(shape)

    def _logit(self, shape: tuple[int, ...]) -> Tensor:
        concentration = torch.stack([self.concentration1.expand(shape), self.concentration0.expand(shape)])
        log_uniform = -torch.empty_like(concentration).exponential_()
        log_gamma = torch._standard_gamma(concentration + 1).log() + log_uniform / concentration
        return log_gamma[0] - log_gamma[1]

    def _symmetric_logit(self, shape: tuple[int, ...]) -> Tensor:
        a = self._shapes[0]  # not of the batch shape, as far as rows have it in common
        uniform = torch.rand(3, *shape, dtype=a.dtype, device=a.device)
        # Above 0, where the logarithm and the root have slopes; below 1 by construction. In place, as it is done in each step,
        # and before anything that a gradient may go through.
        radius, angle, sign = uniform.clamp_(min=torch.finfo(a.dtype).eps / 4).unbind(0)
        log_radius, turned, centred = radius.log_(), angle.mul_(2 * math.pi).cos_(), sign.add_(sign).sub_(1)
        cosine = (-torch.expm1(log_radius * (a + 0.5).reciprocal())).sqrt() * turned
        laplace = centred.copysign(-1.0).log1p_().copysign_(centred)
        return (laplace / a).add_(cosine.atanh(), alpha=2)
