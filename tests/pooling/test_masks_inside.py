"""Masks inside of other wrappers: a row counts in what is unmasked in both rows."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution
from pyro.distributions.transforms import AffineTransform, ExpTransform

from pyro_probmix.pooling import pool_rows

REAL = torch.float64


@pytest.mark.parametrize("rows", [None, 4], ids=["alone", "expanded"])
@pytest.mark.parametrize("pool", ["log-linear", "linear"])
def test_masks_inside_of_transforms_are_those_of_both_rows(pool: Any, rows: int | None) -> None:
    torch.manual_seed(0)
    loc, scale = torch.randn(4, 2, dtype=REAL), torch.rand(4, 2, dtype=REAL) + 0.5
    mask = torch.tensor([[True, False], [True, True], [False, True], [True, True]])
    weight, value = torch.tensor([0.3, 0.6, 0.7, 0.4], dtype=REAL), torch.randn(4, 2, dtype=REAL).exp()
    p: Any = dist.TransformedDistribution(dist.Normal(loc, scale).mask(mask).to_event(1), [ExpTransform()])
    if rows is not None:
        p, value = ExpandedDistribution(p, torch.Size([3, rows])), value.expand(3, rows, 2)
    both, z = mask & mask.roll(2, 0), value.log()
    own, partner = dist.Normal(loc, scale).log_prob(z), dist.Normal(loc.roll(2, 0), scale.roll(2, 0)).log_prob(z)
    if pool == "linear":
        own, partner = (own * both).sum(-1), (partner * both).sum(-1)
        expected = torch.logaddexp(weight.log() + own, (1 - weight).log() + partner)
    else:
        precision = weight[:, None] / scale**2 + (1 - weight[:, None]) / scale.roll(2, 0) ** 2
        mean = weight[:, None] * loc / scale**2 + (1 - weight[:, None]) * loc.roll(2, 0) / scale.roll(2, 0) ** 2
        expected = (dist.Normal(mean / precision, precision.rsqrt()).log_prob(z) * both).sum(-1)
    pooled = pool_rows(p, weight, shift=2, pool=pool)
    torch.testing.assert_close(pooled.log_prob(value), expected - z.sum(-1))


@pytest.mark.parametrize("pool", ["log-linear", "linear"])
def test_masks_inside_of_transforms_of_each_row_are_refused(pool: Any) -> None:
    base = dist.Normal(torch.zeros(4, 2), 1.0).mask(torch.ones(4, 2, dtype=torch.bool)).to_event(1)
    p = dist.TransformedDistribution(base, [AffineTransform(torch.randn(4, 2), 1.0, event_dim=1)])
    with pytest.raises(TypeError, match="mask inside of transforms that differ"):
        pool_rows(p, 0.5, shift=2, pool=pool)
