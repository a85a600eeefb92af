"""Tensors and transforms whose rows are exchanged, and which transforms all rows share."""

from __future__ import annotations

__all__ = ["roll_tensor", "roll_transforms", "varies"]

import copy
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pyro.distributions.torch_transform import ComposeTransformModule
from torch import Tensor, nn
from torch.distributions import transforms
from torch.distributions.transforms import AffineTransform, ComposeTransform, IndependentTransform, Transform

from pyro_probmix.pooling.supports import interior_point


def varies(shape: Sequence[int], dim: int) -> bool:
    """Return whether there is such a dimension, negative, and of another size than 1."""
    return -dim <= len(shape) and shape[dim] != 1


def roll_tensor(x: Tensor, shift: int, dim: int, event_dim: int = 0) -> Tensor:
    """Roll a tensor along batch dimension ``dim``, its last ``event_dim`` dimensions being no batch dimensions."""
    return x.roll(shift, dim - event_dim) if varies(x.shape, dim - event_dim) else x


def roll_transforms(
    chain: Sequence[Transform], shape: torch.Size, shift: int, place: int, like: Tensor
) -> list[Transform]:
    """Return the transforms of the rolled rows: the same objects where all rows share them.

    An affine transform is rolled. Any other must be shared by all rows, and counts as shared if it maps a batch of B + 1
    rows as it does one of B. What a transform holds for each of B rows does not fit B + 1, wherever it is held and in
    whatever shape; what it holds in common does, though a width or a number of event dimensions be B. Shapes alone are
    looked at, never values, so that a step can be traced and captured.

    A transform that tells rows apart by their numbers alone, such as one that slices a table of more than B rows, is the
    exception: it maps B + 1 rows too.

    Args:
        chain: transforms, the first of which is applied first.
        shape: of the batch that the first one maps, B at ``place``.
        shift: number of rows to roll by.
        place: the batch dimension, counted from the left, where it stays as the number of event dimensions changes.
        like: a tensor of the dtype and on the device of what is mapped.

    Raises:
        TypeError: if a transform that is not affine does not map B + 1 rows.
    """
    rolled = []
    for t in chain:
        rolled.append(_rolled(t, shape, shift, place, like))
        shape = t.forward_shape(shape)
    return rolled


def _rolled(t: Any, shape: torch.Size, *how: Any) -> Any:
    """One transform, or what it is made of, each by its forward map: not every flow has another."""
    shift, place, _ = how
    if type(t) is AffineTransform:
        dim = place - len(shape)
        loc, scale = (roll_tensor(x, shift, dim) if isinstance(x, Tensor) else x for x in (t.loc, t.scale))
        return t if loc is t.loc and scale is t.scale else AffineTransform(loc, scale, event_dim=t.event_dim)
    if type(t) in (ComposeTransform, ComposeTransformModule):
        parts = roll_transforms(t.parts, shape, *how)
        return t if all(map(operator.is_, parts, t.parts)) else ComposeTransform(parts)
    if type(t) is IndependentTransform:
        base = _rolled(t.base_transform, shape, *how)
        return t if base is t.base_transform else IndependentTransform(base, t.reinterpreted_batch_ndims)
    if type(t) is transforms._InverseTransform:
        inner = _rolled(t.inv, t.forward_shape(shape), *how)
        return t if inner is t.inv else inner.inv
    _check_shared(t, shape, *how[1:])
    return t


def _check_shared(t: Transform, shape: torch.Size, place: int, like: Tensor) -> None:
    rows = shape[place]
    more = torch.Size((*shape[:place], rows + 1, *shape[place + 1 :]))
    cause: Exception | None = None
    try:
        with torch.no_grad(), _evaluating(t):
            mapped = copy.copy(t)(like.new_zeros(more) + interior_point(t.domain))  # a copy, which caches for itself
            fits = mapped.shape == t.forward_shape(more)
    except Exception as error:  # of any kind: the transform may be the user's own
        cause, fits = error, False
    if not fits:
        raise TypeError(
            f"its {type(t).__name__} does not map a batch of {rows + 1} rows, as it would if all {rows} shared it"
        ) from cause


@contextmanager
def _evaluating(t: Transform) -> Iterator[None]:
    """Let the transform's modules keep running statistics as they are, and drop no units."""
    modules = [m for thing in (t, *vars(t).values()) if isinstance(thing, nn.Module) for m in thing.modules()]
    training = [m for m in modules if m.training]
    try:
        for m in training:
            m.training = False
        yield
    finally:
        for m in training:
            m.training = True
