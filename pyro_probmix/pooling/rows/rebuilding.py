"""Distributions made again from the arguments of others: their batches joined, or a part of one."""

from __future__ import annotations

__all__ = ["all_settled", "join_batches", "settled", "take_batch"]

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributions as td
from pyro.distributions.torch_distribution import MaskedDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_probmix.pooling.rows.batches import RolledRows
from pyro_probmix.pooling.rows.rolls import roll_tensor
from pyro_probmix.pooling.rows.scoring import scores_as
from pyro_probmix.pooling.rows.tensors import can_be_read

# Constructor arguments of which exactly one may be given. The first is preferred where a distribution holds several.
_ALTERNATIVES = (("logits", "probs"), ("scale_tril", "covariance_matrix", "precision_matrix"))


def join_batches(parts: Sequence[td.Distribution], dim: int = -1) -> td.Distribution:
    """The distribution whose batch holds that of several of one class, one after the other.

    Args:
        parts: distributions that differ in batch dimension ``dim`` alone, which each has.
        dim: negative, counted from the right of the batch shape.

    Raises:
        TypeError: if they cannot be rebuilt from the arguments that their class declares.
    """

    def join(tensors: list[Tensor], constraint: Any) -> Tensor:
        event_dim = constraint.event_dim
        # A parameter may be shared by rows, or by dims to the left.
        full = [
            t.expand(torch.broadcast_shapes(t.shape, (*p.batch_shape[dim:], *t.shape[t.dim() - event_dim :])))
            for t, p in zip(tensors, bases, strict=True)
        ]
        return torch.cat(full, dim - event_dim)

    if len(parts) == 1:
        return parts[0]
    if all(scores_as(p, td.Independent) for p in parts):
        wrapped: list[Any] = list(parts)
        n = wrapped[0].reinterpreted_batch_ndims
        joined: td.Distribution = dist.Independent(join_batches([p.base_dist for p in wrapped], dim - n), n)
        return joined
    bases = list(parts)
    return _rebuilt(bases, join)


def take_batch(p: td.Distribution, index: int | slice | Tensor, dim: int = -1) -> td.Distribution:
    """The distribution of one place along a batch dimension, which is dropped, or of several places.

    Args:
        p: a distribution.
        index: the place; or a slice, or a tensor of integers, [K], of those that stay, in their order.
        dim: negative, counted from the right of the batch shape.

    Raises:
        TypeError: if it cannot be rebuilt from the arguments that its class declares.

    Example:
        >>> p = dist.Normal(torch.tensor([0.0, 1.0, 2.0]), 1.0).expand([4, 3]).to_event(1)
        >>> take_batch(p, torch.tensor([3, 1])).batch_shape
        torch.Size([2])
    """

    def take(tensors: list[Tensor], constraint: Any) -> Tensor:
        (t,), event_dim = tensors, constraint.event_dim
        if not -dim <= t.dim() - event_dim:
            return t
        if isinstance(index, Tensor):
            return t.index_select(dim - event_dim, index if t.shape[dim - event_dim] > 1 else torch.zeros_like(index))
        if isinstance(index, slice):
            places: tuple[Any, ...] = (..., index if t.shape[dim - event_dim] > 1 else slice(None))
            return t[places + (slice(None),) * (event_dim - dim - 1)]
        return t.select(dim - event_dim, index if t.shape[dim - event_dim] > 1 else 0)

    if not isinstance(index, int) and scores_as(p, td.Independent):
        wrapped: Any = p
        n = wrapped.reinterpreted_batch_ndims
        taken: td.Distribution = dist.Independent(take_batch(wrapped.base_dist, index, dim - n), n)
        return taken
    return _rebuilt([p], take)


def settled(p: Any, absent: Tensor) -> Any:
    """Returns ``p`` with standard parameters, which have no gradient, in the rows that are not read.

    A density of NaN or infinite parameters has a gradient of NaN even where it is not read. What cannot be rebuilt from the
    arguments that its class declares stays as it is.

    Args:
        p: a distribution.
        absent: which rows are not read, a tensor that broadcasts with the batch shape.
    """

    def settle(tensors: list[Any], constraint: Any) -> Any:
        (t,) = tensors
        if not (isinstance(t, Tensor) and t.is_floating_point()):
            return t
        try:
            with torch.no_grad():
                standard = td.transform_to(constraint)(torch.zeros_like(t))
        except NotImplementedError:  # of counts
            return t
        return torch.where(absent.reshape(absent.shape + (1,) * constraint.event_dim), standard, t)

    if scores_as(p, td.Independent):
        n = p.reinterpreted_batch_ndims
        return dist.Independent(settled(p.base_dist, absent.reshape(absent.shape + (1,) * n)), n)
    if scores_as(p, MaskedDistribution):
        return MaskedDistribution(settled(p.base_dist, absent), p._mask)
    if isinstance(p, RolledRows):
        there = roll_tensor(absent, -p.shift, p.dim)
        return RolledRows(settled(p.base_dist, there), p.shift, p.dim)
    taken = set(inspect.signature(type(p).__init__).parameters) - {"self", "validate_args", *p.arg_constraints}
    if not all(hasattr(p, name) for name in taken):  # what is not kept under its name would be lost
        return p
    try:
        return _rebuilt([p], settle, validate_args=False, **{name: getattr(p, name) for name in taken})
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return p


def all_settled(members: Sequence[Any], absent: Sequence[Tensor], scores: Sequence[Tensor]) -> tuple[Any, ...]:
    """Returns members, settled where they are not read and their scores are not finite, as far as values can be read.

    Args:
        members: distributions.
        absent: for each, in which rows it is not read.
        scores: for each, its log density somewhere.
    """
    return tuple(
        settled(p, none) if can_be_read(score) and bool((none & ~score.isfinite()).any()) else p
        for p, none, score in zip(members, absent, scores, strict=True)
    )


def _rebuilt(parts: list[Any], change: Callable[[list[Tensor], Any], Tensor], **others: Any) -> td.Distribution:
    """A distribution of the same class, its parameters made from those of the parts and their constraint.

    Args:
        parts: distributions of one class.
        change: makes a parameter.
        others: further arguments of the class.
    """
    p = parts[0]
    made: dict[str, Any] = {"validate_args": p.__dict__.get("_validate_args"), **others}
    for name in _arguments(p):
        made[name] = change([getattr(part, name) for part in parts], p.arg_constraints[name])
    rebuilt: td.Distribution = type(p)(**made)
    return rebuilt


def _arguments(p: Any) -> list[str]:
    """The parameters that make a distribution again, whose class declares how many event dims each has."""
    taken = inspect.signature(type(p).__init__).parameters
    names = []
    for name, parameter in list(taken.items())[1:]:  # the first one is self
        group = [other for names in _ALTERNATIVES if name in names for other in names if other in taken] or [name]
        made_from = [other for other in group if getattr(p, other, None) is getattr(p, "_param", group)]
        constraint = p.arg_constraints.get(name)
        if constraint is not None and not constraints.is_dependent(constraint):
            if name == (made_from or group)[0]:  # the others are derived lazily
                names.append(name)
        elif parameter.default is parameter.empty:
            raise TypeError(
                f"A {type(p).__name__} cannot be rebuilt: its class does not declare its argument {name!r}, "
                "expected arg_constraints for each. Try arg_constraints = {...} of your class."
            )
    return names
