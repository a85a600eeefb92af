"""The Beta law of the weight, drawn right for small shapes too."""

from __future__ import annotations

__all__ = ["Beta"]

import pyro.distributions as dist
import torch
from torch import Tensor


class Beta(dist.Beta):
    r"""The Beta law, :math:`p(\lambda) \propto \lambda^{a - 1} (1 - \lambda)^{b - 1}`, drawn in log space.

    With :math:`G_a \sim \mathrm{Gamma}(a)`, :math:`\lambda = G_a / (G_a + G_b)` and
    :math:`\log G_a = \log G_{a + 1} + a^{-1} \log U`. torch's own draws divide gammas that have underflown: at
    a = b = 0.001 a quarter of them fall between 0.25 and 0.75, where 0.1 % belong.

    Args:
        concentration1: a > 0.
        concentration0: b > 0.

    References:
        Stuart (1962), Gamma-distributed products of independent random variables.

    Example:
        >>> import torch
        >>> from pyro_probmix.weights import Beta
        >>> _ = torch.manual_seed(0)
        >>> draws = Beta(torch.tensor(1e-4), torch.tensor(1e-4)).sample((10_000,))
        >>> bool(((draws > 0.01) & (draws < 0.99)).float().mean() < 0.005)
        True
    """

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws of shape [*sample_shape, *batch_shape], inside of (0, 1)."""
        shape = self.batch_shape
        concentration = torch.stack([self.concentration1.expand(shape), self.concentration0.expand(shape)])
        concentration = concentration.reshape(2, *(1,) * len(sample_shape), *shape).expand(2, *sample_shape, *shape)
        log_uniform = -torch.empty_like(concentration).exponential_()
        log_gamma = torch._standard_gamma(concentration + 1).log() + log_uniform / concentration
        info = torch.finfo(log_gamma.dtype)
        draws: Tensor = (log_gamma[0] - log_gamma[1]).sigmoid().clamp(info.tiny, 1 - info.eps / 2)
        return draws
