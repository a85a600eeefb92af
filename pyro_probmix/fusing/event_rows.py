"""Rows that a model keeps in the event of a site: the site as one whose rows lie in a plate, and back again."""

from __future__ import annotations

__all__ = ["EVENT_PLATE", "EventRows", "checked_event_rows"]

import math
from typing import Any

import pyro.distributions as dist
import torch.distributions as td
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from pyro.poutine.indep_messenger import CondIndepStackFrame
from torch import Tensor

#: Stands for the plate of the rows, which the model does not have.
EVENT_PLATE = "rows_in_event"


class EventRows:
    """The rows of sites in a dimension of their events, as ``to_event`` puts them there.

    A site is looked at as if that dimension, and those to its left, were no event but a batch, the rows at dim=-1.

    Args:
        event_dim: the dimension of the event that holds the rows, from the left, or negative and from the right.
    """

    def __init__(self, event_dim: int) -> None:
        self.event_dim = event_dim

    def in_plate(self, msg: Any) -> Any:
        """The message of a site with its rows in a plate.

        Raises:
            ValueError: if the site has no such event dimension, or its rows depend on each other.
        """
        event_shape = msg["fn"].event_shape
        event_dim = self.event_dim + len(event_shape) if self.event_dim < 0 else self.event_dim
        if not 0 <= event_dim < len(event_shape):
            raise ValueError(
                f"site {msg['name']!r} has the event shape {tuple(event_shape)}, expected its rows in dimension "
                f"{self.event_dim} of that. Try dist.to_event(1) there, or fuse without rows_in_event, if they are in a plate."
            )
        moved = event_dim + 1
        split = _split(msg["fn"], moved)
        if split is None:
            raise ValueError(
                f"site {msg['name']!r} has its rows in the event of a {type(_innermost(msg['fn'])).__name__}, where they may "
                "depend on each other, expected rows that are put there by to_event. Try a distribution for each row, and "
                ".to_event(1)."
            )
        frames = [f._replace(dim=f.dim - moved) if f.vectorized else f for f in msg["cond_indep_stack"]]
        rows = CondIndepStackFrame(EVENT_PLATE, -1, event_shape[event_dim], len(frames))
        mask = msg["mask"][(..., *(None,) * moved)] if isinstance(msg["mask"], Tensor) else msg["mask"]
        return msg | {"fn": split, "mask": mask, "cond_indep_stack": (*frames, rows), "event_dims_of_rows": moved}

    def put_back(self, changed: Any, msg: Any) -> None:
        """Gives a message the density and the value that were made with its rows in a plate; its mask is for all rows."""
        moved = msg["fn"].event_dim - changed["fn"].event_dim
        msg["fn"], msg["value"] = changed["fn"].to_event(moved), changed["value"]
        msg["infer"]["rows_in_event"] = True  # for criteria that take a density for each row


def _split(fn: Any, moved: int) -> Any:
    """A distribution whose leftmost event dimensions are a batch; None if what lies in them may depend on each other."""
    if isinstance(fn, td.Independent):
        kept = fn.reinterpreted_batch_ndims - moved
        if kept < 0:
            return _split(fn.base_dist, -kept)
        return dist.Independent(fn.base_dist, kept) if kept else fn.base_dist
    if isinstance(fn, dist.Delta):
        shape = fn.event_shape[:moved]
        share = fn.log_density / math.prod(shape)  # of each row, in equal parts
        share = share[(..., *(None,) * moved)].expand(fn.batch_shape + shape)
        return dist.Delta(fn.v, share, event_dim=fn.event_dim - moved)
    if not isinstance(fn, ExpandedDistribution | MaskedDistribution | td.TransformedDistribution):
        return None
    split = _split(fn.base_dist, moved) if len(fn.base_dist.event_shape) >= moved else None
    if split is None:
        return None
    if isinstance(fn, ExpandedDistribution):
        return split.expand(fn.batch_shape + fn.event_shape[:moved])
    if isinstance(fn, MaskedDistribution):
        mask: Any = fn._mask
        return split.mask(mask[(..., *(None,) * moved)] if isinstance(mask, Tensor) else mask)
    kept = len(fn.event_shape) - moved
    mixed = any(max(t.domain.event_dim, t.codomain.event_dim) > kept for t in fn.transforms)
    return None if mixed else dist.TransformedDistribution(split, fn.transforms)


def _innermost(fn: Any) -> Any:
    while isinstance(fn, td.Independent | ExpandedDistribution | MaskedDistribution):
        fn = fn.base_dist
    return fn


def checked_event_rows(event_dim: int | None, plate: object) -> EventRows | None:
    """The rows in the event, if some are.

    Raises:
        ValueError: for a plate beside it.
    """
    if event_dim is None:
        return None
    if plate:
        raise ValueError(
            f"fuse got plate={plate!r} and rows_in_event={event_dim}, expected rows in a plate or in the event. "
            "Try fuse(...) without one of the two."
        )
    return EventRows(event_dim)
