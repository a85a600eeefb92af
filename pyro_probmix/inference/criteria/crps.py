"""The CRPS as a criterion: densities trained by how far their distribution functions are from the responses."""

from __future__ import annotations

__all__ = ["CRPS"]

import math
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask, sum_rightmost
from torch import Tensor
from torch.distributions import Independent, Normal

from pyro_probmix.arguments import checked
from pyro_probmix.inference.criteria.criteria import Criterion
from pyro_probmix.pooling.expectation import ExpectedLikelihood


class CRPS(Criterion):
    r"""Minus the continuous ranked probability score, for those who ask for quantiles, or whose targets have outliers.

    .. math::
        \hat\ell = -\sum_b \frac1K \sum_{k=1}^K \sum_d \mathrm{CRPS}\big(p_\theta(\cdot \mid x_b), \tilde y_{bd}^{(k)}\big),
        \qquad \mathrm{CRPS}(p, y) = \mathrm{E}|Y - y| - \tfrac12 \mathrm{E}|Y - Y'|
        = 2 \int_0^1 \rho_q\big(F^{-1}(q), y\big)\, dq

    where d are the responses of a row and :math:`\rho_q` is the pinball loss of the quantile of level q. It grows linearly in
    an error, where the log density of a Gaussian grows with its square, and is in the units that the response is trained in, so
    that targets are best standardised. Of a Gaussian it is in closed form, of another density with ``rsample`` an unbiased
    estimate by draws.

    It is a criterion to train by and no log density: its values cannot be compared with those of others.

    Args:
        num_particles, max_plate_nesting: see :class:`Criterion`.
        num_embeddings: 1; the score of a mixture over draws of an embedding is not the mean of their scores.
        num_draws: of the response in each estimate, at least two.

    Raises:
        ValueError: for another number of embeddings; when used, for a response that is not reparameterised, as counts are, or
            whose several coordinates are not independent.

    References:
        Gneiting, Raftery, Westveld and Goldman (2005), Calibrated Probabilistic Forecasting Using Ensemble Model Output
        Statistics and Minimum CRPS Estimation; Gneiting and Raftery (2007), Strictly proper scoring rules, eq. 21.

    Example:
        >>> from pyro_probmix import ProbMix
        >>> from pyro_probmix.inference import CRPS
        >>> from pyro_probmix.models import METHODS, Gaussian, build_density
        >>> density = build_density(METHODS["ERM"], num_features=2, likelihood=Gaussian, widths=(8, 4))
        >>> model = ProbMix(density, at=None)
        >>> CRPS()(model, model.guide)(torch.randn(10, 2), torch.randn(10, 1)).shape
        torch.Size([])
    """

    @checked(least={"num_particles": 1, "num_embeddings": 1, "max_plate_nesting": 0, "num_draws": 2})
    def __init__(
        self,
        num_particles: int = 1,
        num_embeddings: int = 1,
        max_plate_nesting: int | float = math.inf,
        num_draws: int = 16,
    ) -> None:
        super().__init__(num_particles, num_embeddings, max_plate_nesting)
        if num_embeddings != 1:
            raise ValueError(
                f"CRPS got num_embeddings={num_embeddings}, expected 1, since the score of a mixture is not the mean of "
                "scores. Try num_particles."
            )
        self.num_draws = num_draws

    def check(self, sites: list[dict[str, Any]]) -> None:
        for site in sites:
            fn = site["fn"]
            if isinstance(fn, ExpectedLikelihood) or fn.support.is_discrete or not fn.has_rsample:
                raise ValueError(
                    f"site {site['name']!r} has the distribution {type(fn).__name__}, expected a continuous one with rsample, "
                    "labels that are drawn and the log-linear pool. Try ExpectedLogLikelihood."
                )
            if fn.event_shape.numel() > 1 and not (isinstance(fn, Independent) and not fn.base_dist.event_shape):
                raise ValueError(
                    f"site {site['name']!r} has {fn.event_shape.numel()} coordinates that a {type(fn).__name__} ties, expected "
                    "independent ones, each with a score of its own. Try ExpectedLogLikelihood."
                )

    def log_prob(self, site: dict[str, Any]) -> Tensor:
        fn, value, dims = site["fn"], site["value"], len(site["fn"].event_shape)
        base = fn.base_dist if isinstance(fn, Independent) else fn
        score = gaussian_crps(base, value) if isinstance(base, Normal) else self._of_draws(fn, value)
        masked: Tensor = scale_and_mask(-sum_rightmost(score, dims), 1.0, site["mask"])
        return masked

    def average(self, log_prob: Tensor) -> Tensor:
        return log_prob.mean((0, 1))

    def _of_draws(self, fn: Any, value: Tensor) -> Tensor:
        """The fair estimate: draws in their order, each larger than those before it."""
        draws = fn.rsample((self.num_draws,))
        ordered, count = draws.sort(0).values, self.num_draws
        rank = 2 * torch.arange(count, dtype=draws.dtype, device=draws.device) - count + 1
        half_gap = (rank.reshape(-1, *(1,) * (draws.dim() - 1)) * ordered).sum(0) / (count * (count - 1))
        score: Tensor = (draws - value).abs().mean(0) - half_gap
        return score


def gaussian_crps(p: Any, value: Tensor) -> Tensor:
    """The score of Gaussians in closed form, differentiable in their parameters."""
    z = (value - p.loc) / p.scale
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    score: Tensor = p.scale * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))
    return score
