"""Random orders of the rows for training steps: each row once, or in proportion to its weight."""

from __future__ import annotations

__all__ = ["shuffled_rows", "weighted_rows"]

import torch
from torch import Tensor


def shuffled_rows(num_rows: int, batch_size: int, replicas: int | None, device: torch.device) -> Tensor:
    """The first rows of a random order of all, for each replica; from the start again where more are asked for.

    Args:
        num_rows: n.
        batch_size: number of indices to return.
        replicas: R, or None.
        device: where to draw them.

    Returns:
        indices [batch_size], with replicas [R, batch_size].
    """
    keys = torch.rand(*(() if replicas is None else (replicas,)), num_rows, device=device)
    order = keys.argsort(-1)
    repeats = -(-batch_size // num_rows)
    return torch.cat([order] * repeats, -1)[..., :batch_size]


def weighted_rows(weights: Tensor, batch_size: int, replicas: int | None) -> Tensor:
    """Rows in a random order, each as often as its share of the weights, for each replica.

    Systematic resampling: of N draws a row of share w gets N w, rounded up or down at random, and none at weight 0. Where
    all weights are equal, every row comes once before any comes twice, as by :func:`shuffled_rows`.

    Args:
        weights: at least 0, [n] or [R, n].
        batch_size: number N of indices to return.
        replicas: R, or None.

    Returns:
        indices [batch_size], with replicas [R, batch_size].

    References:
        Kitagawa, 1996, "Monte Carlo filter and smoother for non-Gaussian nonlinear state space models" (the resampling).
    """
    if replicas is not None and weights.dim() == 1:
        weights = weights.expand(replicas, -1)
    order = torch.rand(weights.shape, device=weights.device).argsort(-1)
    levels = weights.double().gather(-1, order).cumsum(-1)
    levels = levels / levels[..., -1:]  # exactly 1 from the last row of positive weight on
    start = torch.rand((*weights.shape[:-1], 1), dtype=torch.float64, device=weights.device)
    places = (torch.arange(batch_size, device=weights.device) + start) / batch_size
    # The first level above the place: a row of weight zero adds nothing to the level and is never the first.
    drawn = order.gather(-1, torch.searchsorted(levels, places.clamp(max=1 - 2**-53), right=True))
    return drawn.gather(-1, torch.rand(drawn.shape, device=drawn.device).argsort(-1))
