"""The parts of a prediction's doubt: what the members differ in, which more data would take away, and what each expects."""

from __future__ import annotations

__all__ = ["Parts", "entropy_parts", "variance_parts"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_probmix.inference.predictive.families import marginals_of
from pyro_probmix.inference.predictive.mixture import PredictiveMixture

Array = npt.NDArray[np.float64]


class Parts(NamedTuple):
    """Two parts of a variance or an entropy, whose sum is that of the prediction.

    Attributes:
        between: by the differences of the members, the part that more data would take away (epistemic).
        within: of the density of one member, on average over them, the part that stays (aleatoric).
    """

    between: Array
    within: Array


def variance_parts(mixture: PredictiveMixture) -> Array:
    r"""The parts of the variance, by the law of total variance over members r.

    .. math::
        \mathrm{Var}[Y] = \mathrm{Var}_r\big[\mu_r\big] + \mathrm{E}_r\big[\sigma_r^2\big], \qquad
        \sigma_r^2 = \mathrm{E}_s\big[\sigma_{rs}^2\big] + \mathrm{Var}_s\big[\mu_{rs}\big]

    A member's draws s of the embedding are part of its density, so that their spread counts within.

    Args:
        mixture: of n rows, its components' batch shape [S, R, n] and event shape (d_y,).

    Returns:
        between and within, [n, 2, d_y], in squared units of the components.

    References:
        Depeweg, Hernández-Lobato, Doshi-Velez and Udluft, 2018, "Decomposition of uncertainty in Bayesian deep learning for
        efficient and risk-sensitive learning", eq. 4 and 5.

    Example:
        >>> import pyro.distributions as dist
        >>> loc = torch.tensor([0.0, 2.0])[None, :, None, None]  # two members, which differ by 2
        >>> mixture = PredictiveMixture(dist.Normal(loc, 3.0).to_event(1), 2)
        >>> variance_parts(mixture), mixture.variance
        (array([[[1.],
                [9.]]]), tensor([[10.]]))
    """
    mean, variance = mixture.components.mean.double(), mixture.components.variance.double()
    of_each = mean.mean(0)  # [R, n, d_y]
    within = variance.mean((0, 1)) + mean.var(0, correction=0).mean(0)
    return _stacked(of_each.var(0, correction=0), within)


def entropy_parts(mixture: PredictiveMixture) -> Array:
    r"""The parts of the entropy of a class: the mutual information of class and member, and the members' mean entropy.

    .. math:: H\big[\bar p\big] = \Big(H\big[\bar p\big] - \mathrm{E}_r H[p_r]\Big) + \mathrm{E}_r H[p_r]

    Args:
        mixture: of n rows, its components' batch shape [S, R, n].

    Returns:
        between and within, [n, 2], in nats.

    References:
        Houlsby, Huszár, Ghahramani and Lengyel, 2011, "Bayesian active learning for classification and preference learning",
        eq. 2.
    """
    probs = marginals_of(mixture.components).probs.double()
    if probs.shape[-1] == 1:  # of one of two classes
        probs = torch.cat([1 - probs, probs], -1)
    of_each = probs.mean(0)  # [R, n, K]
    total = torch.special.entr(of_each.mean(0)).sum(-1)
    within = torch.special.entr(of_each).sum(-1).mean(0)
    return _stacked((total - within).clamp(min=0), within)


def _stacked(between: Tensor, within: Tensor) -> Array:
    found: Array = torch.stack([between, within], 1).cpu().numpy()
    return found
