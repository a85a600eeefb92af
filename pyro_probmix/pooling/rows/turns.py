"""The period of densities on the circle, however it is shifted and scaled."""

from __future__ import annotations

__all__ = ["one_turn"]

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributions as td
from torch import Tensor

from pyro_probmix.pooling.rows.rolls import roll_tensor
from pyro_probmix.pooling.rows.tensors import can_be_read


def one_turn(members: Sequence[Any]) -> float | Tensor | None:
    """The period of densities whose mass is that of one turn, None where one has its mass on the whole line.

    Raises:
        TypeError: if their periods differ, or one is mapped by another transform than an affine one.
    """
    turns: list[Any] = [_turn(p) for p in members]
    if any(turn is None for turn in turns):
        return None
    for turn in turns[1:]:
        if not _equal(turn, turns[0]):
            raise TypeError(
                "Angles whose turns differ have no log-linear pool: their densities repeat themselves with other periods, "
                "expected one scale. Try an AffineTransform whose scale is one number, or the linear pool."
            )
    period: float | Tensor = turns[0]
    return period


def _turn(p: Any) -> Any:
    """The period of a von Mises density, shifted and scaled, or of a mixture of them; else None."""
    if isinstance(p, (td.VonMises, dist.SineSkewed)):
        return 2 * math.pi
    if isinstance(p, td.TransformedDistribution):
        turn = _turn(p.base_dist)
        return turn if turn is None else _scaled(turn, p.transforms)
    if hasattr(p, "shift") and hasattr(p, "base_dist"):  # exchanged rows
        turn = _turn(p.base_dist)
        return roll_tensor(turn, p.shift, p.dim) if isinstance(turn, Tensor) else turn
    held = [*vars(p).values(), *getattr(p, "members", ())]
    parts = [x for x in held if isinstance(x, td.Distribution) and not isinstance(x, td.Categorical)]
    turn = one_turn(parts) if parts else None
    if isinstance(p, td.MixtureSameFamily) and isinstance(turn, Tensor) and turn.dim():
        first = turn[..., :1]
        if not _equal(turn, first):
            raise TypeError(
                "A mixture of angles whose turns differ has no log-linear pool, expected one scale for all components. "
                "Try the linear pool."
            )
        return first.squeeze(-1)
    return turn


def _scaled(turn: Any, transforms: Sequence[Any]) -> Any:
    for t in transforms:
        inverse = isinstance(t, td.transforms._InverseTransform)
        affine = t.inv if inverse else t
        if isinstance(affine, td.ComposeTransform) and not inverse:
            turn = _scaled(turn, affine.parts)
        elif isinstance(affine, td.AffineTransform):
            scale = abs(affine.scale)
            turn = turn / scale if inverse else turn * scale
        else:
            raise TypeError(
                f"An angle behind a {type(t).__name__} has no log-linear pool: its density repeats itself, in turns of no one "
                "length, expected affine transforms. Try transforms that are the same for all rows, or the linear pool."
            )
    return turn


def _equal(a: Any, b: Any) -> bool:
    """Whether two periods are known to be equal."""
    if a is b:
        return True
    if not (isinstance(a, Tensor) or isinstance(b, Tensor)):
        return bool(a == b)
    tensors = [x for x in (a, b) if isinstance(x, Tensor)]
    return all(map(can_be_read, tensors)) and bool(torch.as_tensor(a == b).all())
