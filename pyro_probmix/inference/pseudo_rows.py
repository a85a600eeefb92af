"""Rows made from a table's own, which a method trains on beside them: mixed, moved to or from anchors, or along tangents."""

from __future__ import annotations

__all__ = [
    "OF_ALPHA", "PSEUDO_ROWS", "anchored_rows", "mixed_rows", "part_with_pseudo_rows", "tangent_rows", "with_pseudo_rows",
]  # fmt: skip

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Beta, Gamma

from pyro_probmix.inference.data.parts import Part
from pyro_probmix.random_state import own_random_state

#: From x [n, d], y [n, d_y] or classes [n], the rows' weights [n] and alpha to as many rows, one for each.
PseudoRows = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]

#: Anchors, and the largest factor, gamma, by which they pull.
ANCHORS, LARGEST_GAMMA = 8, 2.0
#: Rows whose tangent is taken together, and the share of their squares that lies along it.
BLOCK, EXPLAINED = 32, 0.9


def mixed_rows(x: Tensor, y: Tensor, weights: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    r"""Rows mixed with others, :math:`\lambda v_i + (1 - \lambda) v_j` with :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`.

    A class is that of row i with probability :math:`\lambda`, else that of row j: a cross-entropy is then that of the mixed
    label in the mean.

    Args:
        x, y: the rows, [n, d], and [n, d_y] or classes [n].
        weights: of the rows, [n]; partners j are drawn by them.
        alpha: above 0.

    References:
        Wu and Williamson (2024), Posterior Uncertainty Quantification in Neural Networks using Data Augmentation.
    """
    share = Beta(alpha, alpha).sample((len(x), 1)).to(x)
    partner = torch.multinomial(weights.double(), len(x), replacement=True)
    mixed = share * x + (1 - share) * x[partner]
    if y.is_floating_point() or y.dim() > 1:  # integers with a dim of their own are counts
        return mixed, share * y + (1 - share) * y[partner]
    return mixed, torch.where(torch.rand_like(share[:, 0]) < share[:, 0], y, y[partner])


def anchored_rows(x: Tensor, y: Tensor, weights: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    r"""Rows moved to or from the mean of their cluster: anchor data augmentation.

    With :math:`\Pi` the projection on the clusters' indicators and :math:`V = (X, Y)`,

    .. math::
        \tilde v_i = \frac{v_i + (\sqrt\gamma - 1)(\Pi V)_i}{1 + (\sqrt\gamma - 1) \sum_j \Pi_{ij}}
        = \bar v + \frac{v_i - \bar v}{\sqrt\gamma}

    where :math:`\bar v` is the mean of the row's cluster, by k-means, and :math:`\gamma` or :math:`1/\gamma` is uniform from 1
    to 2.

    Args:
        x, y: the rows, [n, d] and [n, d_y].
        weights, alpha: not used.

    References:
        Schneider, Goshtasbpour and Perez-Cruz (2023), Anchor Data Augmentation.
    """
    from sklearn.cluster import KMeans

    rows = torch.cat([x, y], -1)
    seed = int(torch.randint(2**31, ()))
    distinct = len(torch.unique(rows, dim=0))
    found = KMeans(min(ANCHORS, distinct), n_init=1, random_state=seed).fit_predict(rows.double().cpu().numpy())
    cluster = torch.as_tensor(found, dtype=torch.long, device=x.device)
    sizes = torch.bincount(cluster, minlength=ANCHORS).clamp(min=1)
    means = rows.new_zeros(len(sizes), rows.shape[1]).index_add_(0, cluster, rows) / sizes[:, None]
    gamma = 1 + (LARGEST_GAMMA - 1) * torch.rand(len(rows), 1, device=x.device)
    gamma = torch.where(torch.rand_like(gamma) < 0.5, gamma, 1 / gamma)
    moved = means[cluster] + (rows - means[cluster]) / gamma.sqrt()
    return moved[:, : x.shape[1]], moved[:, x.shape[1] :]


def tangent_rows(x: Tensor, y: Tensor, weights: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    r"""Rows moved to the plane that blocks of them lie along: first-order manifold augmentation.

    The rows :math:`(X, Y) = U \Sigma V^\top` of a block keep their first k singular values, the fewest with nine tenths of the
    sum of squares; the others are multiplied by :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`, one for each block.

    Args:
        x, y: the rows, [n, d] and [n, d_y].
        weights: not used.
        alpha: above 0.

    References:
        Kaufman and Azencot (2024), First-Order Manifold Data Augmentation for Regression Learning.
    """
    rows = torch.cat([x, y], -1)
    moved = torch.empty_like(rows)
    for block in torch.randperm(len(rows), device=x.device).split(BLOCK):
        u, values, v = torch.linalg.svd(rows[block], full_matrices=False)
        before = torch.cat([values.new_zeros(1), values.square().cumsum(0)[:-1]])
        kept = before < EXPLAINED * values.square().sum()
        share = Beta(alpha, alpha).sample().to(values)
        moved[block] = u * torch.where(kept, values, share * values) @ v
    return moved[:, : x.shape[1]], moved[:, x.shape[1] :]


#: Name -> how a row is made of the rows, a value of ``Method.pseudo_rows``.
PSEUDO_ROWS: dict[str, PseudoRows] = {"mixed": mixed_rows, "anchored": anchored_rows, "tangent": tangent_rows}
#: Those of them that depend on alpha.
OF_ALPHA = ("mixed", "tangent")


def with_pseudo_rows(
    kind: str, x: Tensor, y: Tensor, weights: Tensor | None, *, seeds: Sequence[int], alphas: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""The rows of each replica with as many pseudo-rows behind them, drawn for it alone, and the weights of all.

    For ``"mixed"`` the weights are a draw from a Dirichlet distribution, whose parameters are the weights of the rows and, once
    more, of the pseudo-rows: a population from the posterior of a Dirichlet process whose base measure, of as much weight as
    the rows, is mixup's. So the members of an ensemble are trained on different populations. For the others they are the
    weights of the rows.

    Args:
        kind: a name in ``PSEUDO_ROWS``.
        x, y: the rows of each replica, [R, n, ...].
        weights: of the rows, [R, n]; None for equal ones.
        seeds, alphas: one for each replica.

    Returns:
        x and y, [R, 2n, ...], and weights, [R, 2n], or None for equal ones.

    Example:
        >>> import torch
        >>> from pyro_probmix.inference.pseudo_rows import with_pseudo_rows
        >>> x, y = torch.randn(3, 40, 2), torch.randn(3, 40, 1)
        >>> found = with_pseudo_rows("mixed", x, y, None, seeds=range(3), alphas=[1.0] * 3)
        >>> [tuple(part.shape) for part in found]
        [(3, 80, 2), (3, 80, 1), (3, 80)]
    """
    given = torch.ones(y.shape[:2], device=x.device) if weights is None else weights.to(x.device)
    new = []
    for replica, (seed, alpha) in enumerate(zip(seeds, alphas, strict=True)):
        with own_random_state(x.device, seed):
            new_x, new_y = PSEUDO_ROWS[kind](x[replica].flatten(1), y[replica], given[replica], alpha)
            of_both = torch.cat([given[replica], given[replica]])
            # Gamma draws over their sum are Dirichlet, and only ratios count.
            drawn = Gamma(of_both.clamp(min=torch.finfo(of_both.dtype).tiny), 1.0).sample() * (of_both > 0)
        new.append((new_x.view_as(x[replica]), new_y, drawn if kind == "mixed" else of_both))
    more_x, more_y, found = (torch.stack(part) for part in zip(*new, strict=True))
    equal = weights is None and kind != "mixed"
    return torch.cat([x, more_x], 1), torch.cat([y, more_y], 1), None if equal else found


def part_with_pseudo_rows(
    kind: str, part: Part, weights: Tensor | None, seed: int, alpha: float
) -> tuple[Part, Tensor | None]:
    """The same of a part of some rows: the rows of all replicas, which share none, and their weights, [R, 2n]."""
    x, y, _ = part.of_each()
    replicas = len(x)
    seeds = range(seed, seed + replicas)
    x, y, found = with_pseudo_rows(kind, x, y, weights, seeds=seeds, alphas=[alpha] * replicas)
    x, y = x.flatten(0, 1), y.flatten(0, 1)
    of_all = torch.ones(len(x), device=x.device) if found is None else found.flatten()
    return Part(x, y, of_all, torch.arange(len(x), device=x.device).view(replicas, -1)), found
