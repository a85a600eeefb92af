"""The beta-NLL: a log-likelihood in which a response counts more where the density is wide."""

from __future__ import annotations

__all__ = ["BetaNLL"]

import math
from typing import Any

from pyro.distributions.util import scale_and_mask, sum_rightmost
from torch import Tensor
from torch.distributions import Cauchy, Distribution, HalfCauchy, Independent

from pyro_probmix.arguments import checked
from pyro_probmix.inference.criteria.criteria import Criterion
from pyro_probmix.pooling.expectation import ExpectedLikelihood


class BetaNLL(Criterion):
    r"""The expected log-likelihood whose terms are weighted by a power of the density's own variance.

    .. math::
        \hat\ell = \sum_b \frac1K \sum_{k=1}^K \sum_d
        \lfloor \sigma_{bkd}^2 \rfloor^{\beta} \log p_\theta(\tilde y_{bd}^{(k)} \mid x_b)

    where :math:`\lfloor \cdot \rfloor` passes no gradient and d are the responses of a row. The gradient of a Gaussian's
    mean is :math:`(y - \mu) / \sigma^{2 - 2 \beta}`: at :math:`\beta = 0` that of the log-likelihood, in which rows that are
    fitted badly at first lose their weight, at :math:`\beta = 1` that of the squared error. The variance is that of the fused
    density, in squared units of the response as it is trained on, a standardised one.

    It is a criterion to train by and no log density: its values of two models cannot be compared.

    Args:
        num_particles, max_plate_nesting: see :class:`Criterion`.
        num_embeddings: 1; a mixture over draws of an embedding has no such weights.
        beta: the power, in [0, 1].

    Raises:
        ValueError: for another number of embeddings or a beta outside of [0, 1]; when used, for a response that is discrete,
            that has no variance (a Cauchy), or whose several coordinates are not independent.

    References:
        Seitzer et al. (2022), On the Pitfalls of Heteroscedastic Uncertainty Estimation with Probabilistic Neural Networks,
        which recommends beta = 0.5.

    Example:
        >>> import torch
        >>> from pyro_probmix import ProbMix
        >>> from pyro_probmix.inference import BetaNLL
        >>> from pyro_probmix.models import METHODS, Gaussian, build_density
        >>> density = build_density(METHODS["ERM"], num_features=2, likelihood=Gaussian, widths=(8, 4))
        >>> model = ProbMix(density, at=None)
        >>> BetaNLL(beta=0.5)(model, model.guide)(torch.randn(10, 2), torch.randn(10, 1)).shape
        torch.Size([])
    """

    @checked(least={"num_particles": 1, "num_embeddings": 1, "max_plate_nesting": 0})
    def __init__(
        self,
        num_particles: int = 1,
        num_embeddings: int = 1,
        max_plate_nesting: int | float = math.inf,
        beta: float = 0.5,
    ) -> None:
        super().__init__(num_particles, num_embeddings, max_plate_nesting)
        if num_embeddings != 1:
            raise ValueError(
                f"BetaNLL got num_embeddings={num_embeddings}, expected 1, since each density is weighted by its own variance. "
                "Try num_particles."
            )
        if not 0 <= beta <= 1:
            raise ValueError(f"BetaNLL got beta={beta}, expected a power in [0, 1]. Try beta=0.5.")
        self.beta = beta

    def check(self, sites: list[dict[str, Any]]) -> None:
        for site in sites:
            fn = site["fn"]
            if fn.support.is_discrete:
                raise ValueError(
                    f"site {site['name']!r} is discrete, expected a continuous response, whose variance is its weight. "
                    "Try ExpectedLogLikelihood."
                )
            if lacking := _without_variance(fn):
                raise ValueError(
                    f"site {site['name']!r} has the distribution {lacking}, which has no variance, expected one whose variance "
                    "is its weight. Try ExpectedLogLikelihood."
                )
            if fn.event_shape.numel() > 1 and not _factorises(fn):
                raise ValueError(
                    f"site {site['name']!r} has {fn.event_shape.numel()} coordinates that a {type(fn).__name__} ties, "
                    "expected independent ones, each with a weight of its own. Try labels='sample' and pool='log-linear'."
                )

    def log_prob(self, site: dict[str, Any]) -> Tensor:
        fn, value = site["fn"], site["value"]
        density = fn.p if isinstance(fn, ExpectedLikelihood) else fn
        weight = density.variance.detach() ** self.beta
        if fn.event_shape.numel() == 1:
            weighted = weight.reshape(fn.batch_shape) * fn.log_prob(value)
        else:
            weighted = sum_rightmost(weight * fn.base_dist.log_prob(value), fn.reinterpreted_batch_ndims)
        masked: Tensor = scale_and_mask(weighted, 1.0, site["mask"])
        return masked

    def average(self, log_prob: Tensor) -> Tensor:
        return log_prob.mean((0, 1))


def _without_variance(p: Any) -> str | None:
    """The name of the distribution inside of p that has no variance, by its class: a step looks at no values."""
    if isinstance(p, ExpectedLikelihood):
        return _without_variance(p.p)
    if isinstance(p, Cauchy | HalfCauchy) or type(p).variance is Distribution.variance:  # torch's, not implemented
        return type(p).__name__
    inner = [part for part in (getattr(p, "base_dist", None), *getattr(p, "members", ())) if part is not None]
    return next(filter(None, map(_without_variance, inner)), None)


def _factorises(fn: Any) -> bool:
    return isinstance(fn, Independent) and not fn.base_dist.event_shape
