"""What a user may give as the weight of a row: a law on the unit interval, or values in it."""

from __future__ import annotations

__all__ = ["Weight", "checked_weight"]

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from pyro_probmix.weights import Beta

Weight = float | Tensor | Distribution


def checked_weight(weight: Weight) -> Weight:
    """Return the weight, a Beta law as one that is drawn right for small shapes too.

    Raises:
        ValueError: for a law of another support than the unit interval, or a value outside of it.
    """
    if isinstance(weight, Beta):
        return weight
    if isinstance(weight, torch.distributions.Beta):
        return Beta(weight.concentration1, weight.concentration0)
    if isinstance(weight, Distribution):
        support = weight.support
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        bounds = [torch.as_tensor(getattr(support, name, torch.nan)) for name in ("lower_bound", "upper_bound")]
        if not bool((bounds[0] == 0).all() and (bounds[1] == 1).all()):
            raise ValueError(
                f"fuse got a weight drawn from {type(weight).__name__} with support {support}, expected the unit interval. "
                "Try dist.Beta(alpha, alpha)."
            )
    elif not bool(((torch.as_tensor(weight) >= 0) & (torch.as_tensor(weight) <= 1)).all()):
        raise ValueError(
            f"fuse got the weight {weight}, expected values in [0, 1]. Try dist.Beta(alpha, alpha) or 0.5."
        )
    return weight
