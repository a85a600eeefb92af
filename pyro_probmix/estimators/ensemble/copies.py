"""How often a row with the very features of another has its target, too, by rows that members hold out."""

from __future__ import annotations

__all__ = ["copied_share", "copy_scale"]

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_probmix.estimators.ensemble.dealt_rows import DealtRows
from pyro_probmix.estimators.ensemble.held_out import member_densities
from pyro_probmix.estimators.ensemble.rows import Array
from pyro_probmix.inference.data.parts import Part
from pyro_probmix.inference.predictive.families import marginals_of

#: Shares that are tried.
SHARES = np.concatenate([np.arange(1, 100) / 100, 1 - np.geomspace(0.005, 1e-4, 18)])
#: What copies have to gain in all, in nats, and of how many rows that were given again at least.
LEAST_GAIN, FEWEST_GIVEN_AGAIN = 10.0, 20
#: Of a continuous target, the width of the interval of targets that are taken for equal, in standard units.
FINEST = 1e-4
#: A kernel's scale is this share of the targets' grid, but no less than that of their standard deviation.
OF_GRID, OF_SPREAD = 1 / 8, 0.01
#: Rows whose densities are computed together.
BLOCK = 2048


def copy_scale(grid: float) -> float:
    """The scale, in standard units, of the kernel around the target of a copied row.

    With it the kernel lies within the interval that a target was rounded from, and is no narrower than that takes: narrower
    spikes on the grid would lower the NLL and tell nothing.

    Args:
        grid: distance of the values that the target can take, in standard units; 0 for a continuous one.
    """
    return max(OF_GRID * grid, OF_SPREAD)


@torch.no_grad()
def copied_share(
    density: nn.Module,
    noise: Tensor | None,
    data: DealtRows,
    again: Array | None,
    grid: float,
    adapted: Callable[[Any], Any],
) -> float:
    r"""The probability c that a row with the features of another is a copy of it, its target included.

    Tables hold rows that were entered twice, or listed once for each of two days. The target of a row whose features were there
    before is, with probability c, the one that was there, and else drawn from the density of the networks,

    .. math::
        \max_c \sum_{i \in A} \log(c + (1 - c)\, q_i) + \frac{1}{2} |B| \log(1 - c),

    where A are the rows that were given more than once, B those with the features of others and other targets, and
    :math:`q_i` is the probability of the target by chance: that of the interval that it was rounded from, under the members
    that hold out row i, or the share of other rows that have it, if that is more. So targets of few values, or such as are
    easily predicted, do not pass for copies.

    Args:
        density: of the members.
        noise: see :func:`~pyro_probmix.estimators.ensemble.held_out.member_densities`.
        data: the rows that each member holds out.
        again: which rows were given again, see :class:`~pyro_probmix.estimators.ensemble.rows.Rows`.
        grid: see :func:`copy_scale`.
        adapted: from the members' densities to those that are predicted.

    Returns:
        c, by the rule of succession at most :math:`1 - 1 / (G + 2)` for G rows given again; 0 where c gains less than ten nats,
        fewer than twenty rows were given again, or members hold out none of the training rows.
    """
    held_out, shares = data.held_out, data.shares
    given_again = 0 if again is None else int((again > 0).sum())
    if again is None or held_out is None or held_out.shared or given_again < FEWEST_GIVEN_AGAIN:
        return 0.0
    chances = [
        _chances(density, noise, held_out, list(range(g, len(held_out.rows), shares)), again, grid, adapted)
        for g in range(shares)
    ]
    chance = torch.cat(chances).double().cpu().numpy().clip(1e-12, 1.0)
    differing, most = int((again < 0).sum()) / 2, 1 - 1 / (given_again + 2)
    tried = [*SHARES[most > SHARES].tolist(), most]
    gains = [float(np.log(c / chance + 1 - c).sum() + differing * np.log1p(-c)) for c in tried]
    best = int(np.argmax(gains))
    return tried[best] if gains[best] > LEAST_GAIN else 0.0


def _chances(
    density: nn.Module,
    noise: Tensor | None,
    held_out: Part,
    members: list[int],
    again: Array,
    grid: float,
    adapted: Callable[[Any], Any],
) -> Tensor:
    """The probability, under members that hold out a share, of the target of each of its rows that were given again."""
    rows = held_out.rows[members[0]]
    rows = rows[torch.as_tensor(again > 0, device=rows.device)[rows]]
    half, found = max(grid, FINEST) / 2, []
    _, which, often = torch.unique(held_out.y, return_inverse=True, return_counts=True)
    others = (often[which] - 1) / len(which)  # [n, 1]; no density knows of a value, such as zero, that many rows have
    for some in rows.split(BLOCK):
        p = marginals_of(adapted(member_densities(density, held_out.x[some], noise)))
        y = held_out.y[some]
        each = (p.cdf(y + half) - p.cdf(y - half))[:, members, :, 0]  # [S, G, N]
        found.append(torch.maximum(torch.nanmean(each, (0, 1)).nan_to_num(1.0), others[some, 0]))
    return torch.cat(found) if found else held_out.y.new_zeros(0)
