"""The parameters of distributions whose products have a known form, also behind exchanged or expanded rows."""

from __future__ import annotations

__all__ = ["negative_binomial", "power_tail"]

from typing import Any

import torch
import torch.distributions as td
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor

from pyro_probmix.pooling.integrals.power_tails import PowerTail
from pyro_probmix.pooling.rows.batches import RolledRows
from pyro_probmix.pooling.rows.rolls import roll_tensor
from pyro_probmix.pooling.rows.scoring import scores_as


def power_tail(p: Any) -> PowerTail | None:
    """Location, scale and degrees of freedom of a Student's t or Cauchy distribution, None of another one."""
    if scores_as(p, RolledRows):
        inner = power_tail(p.base_dist)
        return None if inner is None else PowerTail(*(roll_tensor(x, p.shift, p.dim) for x in inner))
    if scores_as(p, ExpandedDistribution):
        return power_tail(p.base_dist)
    if scores_as(p, td.StudentT):
        return PowerTail(p.loc, p.scale, p.df)
    return PowerTail(p.loc, p.scale, torch.ones_like(p.loc)) if scores_as(p, td.Cauchy) else None


def negative_binomial(p: Any) -> tuple[Tensor, Tensor] | None:
    """Total count and logits of a negative binomial distribution, None of another one."""
    if scores_as(p, RolledRows):
        inner = negative_binomial(p.base_dist)
        if inner is None:
            return None
        total, logits = (roll_tensor(x, p.shift, p.dim) for x in inner)
        return total, logits
    if scores_as(p, ExpandedDistribution):
        return negative_binomial(p.base_dist)
    return (p.total_count, p.logits) if scores_as(p, td.NegativeBinomial) else None
