"""Where a univariate density may be narrow or kinked, as far as the distribution says."""

from __future__ import annotations

__all__ = ["landmarks", "spread_over"]

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributions as td
from pyro.distributions.torch_distribution import ExpandedDistribution
from pyro.distributions.transforms import ELUTransform, LeakyReLUTransform
from torch import Tensor
from torch.distributions import transforms

from pyro_probmix.pooling.rows.batches import RolledRows
from pyro_probmix.pooling.rows.coordinate import Coordinate
from pyro_probmix.pooling.rows.declared import declared_support
from pyro_probmix.pooling.rows.rolls import roll_tensor
from pyro_probmix.pooling.rows.supports import bounds
from pyro_probmix.pooling.rows.tensors import floating_tensor

Landmarks = tuple[Tensor, Tensor, Tensor]


def landmarks(p: Any) -> Landmarks:
    """Centres and widths ``[k, *batch_shape]``, and kinks ``[m, *batch_shape]``, without gradients.

    Args:
        p: a distribution of event shape ``()``. A mixture or a pool has the landmarks of its parts.
    """
    with torch.no_grad():
        centres, widths, kinks = _landmarks(p)
        return (
            spread_over(centres.detach(), p.batch_shape),
            spread_over(widths.detach(), p.batch_shape),
            spread_over(kinks.detach(), p.batch_shape),
        )


def spread_over(x: Tensor, batch_shape: torch.Size) -> Tensor:
    """Expands ``[m, *fewer]`` to ``[m, *batch_shape]``."""
    return x.reshape(x.shape[0], *(1,) * (len(batch_shape) + 1 - x.dim()), *x.shape[1:]).expand(-1, *batch_shape)


def _landmarks(p: Any) -> Landmarks:
    if isinstance(p, td.MixtureSameFamily):
        centres, widths, kinks = (x.movedim(-1, 1).flatten(0, 1) for x in landmarks(p.component_distribution))
        return centres, widths, kinks
    if isinstance(p, (ExpandedDistribution, dist.ZeroInflatedDistribution)):
        return landmarks(p.base_dist)
    if isinstance(p, Coordinate) and isinstance(p.base_dist, ExpandedDistribution):
        return landmarks(Coordinate(p.base_dist.base_dist))
    if isinstance(p, Coordinate) and isinstance(p.base_dist, RolledRows):
        rows = p.base_dist
        return _landmarks(RolledRows(Coordinate(rows.base_dist), rows.shift, rows.dim - 1))
    if isinstance(p, RolledRows):
        centres, widths, kinks = (roll_tensor(x, p.shift, p.dim) for x in landmarks(p.base_dist))
        return centres, widths, kinks
    if isinstance(getattr(p, "members", None), tuple):  # a pool
        parts = [landmarks(member) for member in p.members]
        centres, widths, kinks = (torch.cat([spread_over(part[i], p.batch_shape) for part in parts]) for i in range(3))
        return centres, widths, kinks
    like = floating_tensor(p)
    mean, loc, stddev, scale = (_read(p, name) for name in ("mean", "loc", "stddev", "scale"))
    cuts = [loc] if loc is not None else []
    shape = p.batch_shape
    flow = p if isinstance(p, td.TransformedDistribution) else getattr(p, "base_dist", None)
    zero, one = like.new_zeros(()), like.new_ones(())
    if mean is None and isinstance(flow, td.TransformedDistribution):
        middle, width, cuts = _through(flow)
        middle, width = torch.where(middle.isfinite(), middle, zero), torch.where(width.isfinite(), width, one)
    else:
        middle = _first_finite([x for x in (mean, loc) if x is not None] + [zero]).expand(shape).unsqueeze(0)
        width = _first_finite([x for x in (stddev, scale) if x is not None] + [one]).expand(shape).unsqueeze(0)
    width = torch.where(width > 0, width, 1.0)
    cuts += [x if isinstance(x, Tensor) else like.new_full((), x) for x in bounds(declared_support(p)) if x is not None]
    knots = _read(p, "knots")  # [*batch_shape, m], between which a density is smooth
    cuts += [] if knots is None else list(knots.unbind(-1))
    kinks = torch.stack([torch.where(x.isfinite(), x, middle[0]).expand(shape) for x in cuts or [middle[0]]])
    return middle, width, kinks


def _through(p: Any) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Where a transformed distribution has the landmarks of its base, and where its transforms have kinks."""
    base = p.base_dist
    while isinstance(base, td.Independent):
        base = base.base_dist
    shape = p.batch_shape + p.event_shape
    centres, widths, kinks = (spread_over(x, shape) for x in landmarks(base))
    ends, cuts = [centres - widths, centres + widths], list(kinks)
    for transform in (part for t in p.transforms for part in getattr(t, "parts", (t,))):
        cuts += [torch.zeros_like(centres[0]) + x for x in _knots(transform)]
        ends, cuts = [transform(x) for x in ends], [transform(x) for x in cuts]
    return (ends[0] + ends[1]) / 2, (ends[1] - ends[0]).abs() / 2, cuts


def _knots(transform: Any) -> list[float | Tensor]:
    """Where a transform has kinks, in its domain: the parts of a spline of Pyro meet, outside of which it is the identity."""
    if isinstance(transform, transforms._InverseTransform):
        return [transform.inv(x) if isinstance(x, Tensor) else x for x in _knots(transform.inv)]
    if isinstance(transform, LeakyReLUTransform | ELUTransform):
        return [0.0]
    bound = getattr(transform, "bound", None)
    if not isinstance(bound, (int, float)):
        return []
    parts = getattr(transform, "_params", None)
    parts = parts() if callable(parts) else parts
    if not isinstance(parts, tuple) or not parts or not isinstance(parts[0], Tensor):
        return [-bound, bound]
    least, count = 1e-3, parts[0].shape[-1]  # Pyro's smallest width of a part
    widths = (least + (1 - least * count) * parts[0]) * (2 * bound)
    ends = widths.cumsum(-1) - bound
    inner: list[float | Tensor] = [*ends[..., :-1].unbind(-1)]
    if isinstance(parts[-1], Tensor):  # each of a linear order has two pieces
        least = 0.025  # and its smallest share
        inner += [*(ends - widths * (1 - least - (1 - 2 * least) * parts[-1])).unbind(-1)]
    return [-bound, *inner, bound]


def _read(p: Any, name: str) -> Tensor | None:
    try:
        value = getattr(p, name)
    except (AttributeError, NotImplementedError):
        return None
    return value if isinstance(value, Tensor) else None


def _first_finite(values: Sequence[Tensor]) -> Tensor:
    result = values[-1]
    for value in reversed(values[:-1]):
        result = torch.where(value.isfinite(), value, result)
    return result
