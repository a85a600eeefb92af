"""The mixing weights of fused rows: one for each edge, drawn once for all fused sites of a plate."""

from __future__ import annotations

__all__ = ["WEIGHT_SITE", "EdgeWeights", "check_weight", "same_weight"]

from collections.abc import Collection, Sequence
from contextlib import nullcontext
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.util import broadcast_shape
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.mask_messenger import MaskMessenger
from pyro.poutine.messenger import block_messengers
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.scale_messenger import ScaleMessenger
from torch import Tensor
from torch.distributions import Distribution

from pyro_probmix.fusing.groups import Group
from pyro_probmix.fusing.rows import Rows, size_at
from pyro_probmix.fusing.sites import is_reparameterised
from pyro_probmix.pooling.rows.tensors import floating_tensor
from pyro_probmix.pooling.simplex import Weight, checked_weight

#: Name of the sample site of the weights; further plates of rows have one that goes on with an underscore and their name.
WEIGHT_SITE = "lambda"


class EdgeWeights:
    """Draws the weights of the edges at a sample site, or takes them as they were given.

    An edge has one weight (eq. 12): it is drawn in the plate of the rows, and in no other plate of the fused site. Or all
    edges of a batch have one.

    Args:
        weight, num_fused: see :func:`~pyro_probmix.fuse`.
        plates: names of further plates of the fused site for whose members weights are drawn separately.
        one_weight: whether the weight is not drawn in the plate of the rows.
    """

    def __init__(
        self, weight: Weight | Sequence[Any], num_fused: int, plates: Sequence[str], *, one_weight: bool = False
    ) -> None:
        self.given = weight
        self.weight = checked_weight(weight, num_fused)
        self.num_fused = num_fused
        self.plates = frozenset(plates)
        self.one_weight = one_weight
        self.is_random = isinstance(self.weight, Distribution)
        self._drawing: tuple[Any, list[Any]] | None = None  # what a weight is being drawn from, and in which plates

    def group(self, msg: Any, rows: Rows, site: str, shared: Tensor | None) -> Group:
        """The weights of the rows of a fused site.

        Args:
            msg: the message of the fused site.
            rows: its rows.
            site: name of the weights' own site, if they are drawn.
            shared: weights of these edges that were drawn before.
        """
        drawn = self._drawn(msg, rows, site) if shared is None else shared
        weights = rows.weights(drawn)
        batch = weights.shape if self.num_fused == 2 else weights.shape[:-1]
        plates = {frame.name for frame in msg["cond_indep_stack"] if frame.vectorized and size_at(batch, frame.dim) > 1}
        return Group(msg["name"], rows, drawn, weights, batch, frozenset({rows.plate, *plates}))

    @property
    def is_drawing(self) -> bool:
        """Whether the weights are being drawn, so that the site that is met is theirs."""
        return self._drawing is not None

    def leave_plates(self, msg: Any) -> None:
        """Takes the weights' site out of the plates inside of the handler that are not theirs, and their masks and scales."""
        assert self._drawing is not None
        if is_reparameterised(msg):
            raise ValueError(
                f"the weight {msg['name']!r} is reparameterised inside of fuse, in the plates of the fused site, expected it "
                "drawn. Try poutine.reparam(fuse(model, ...), config), or a config without the weight."
            )
        (distribution, frames), self._drawing = self._drawing, None
        scale: Any = 1.0
        for frame in frames:
            if frame.full_size is not None:  # of a subsampled plate
                scale = scale * frame.full_size / frame.size
        if len(frames) < len(msg["cond_indep_stack"]):  # by which Pyro has expanded it
            msg["fn"] = distribution
        msg["cond_indep_stack"] = tuple(frames)
        msg["scale"], msg["mask"] = scale, None
        # In `pyro.markov`: the fused site, which handlers outside have not met yet, does not come before its weight.
        msg["infer"].get("_markov_scope", {}).pop(msg["infer"]["fused_site"], None)

    def _drawn(self, msg: Any, rows: Rows, site: str) -> Tensor:
        if isinstance(self.weight, Distribution):
            batch = self.weight.batch_shape
            check_weight(msg, batch)
            own = self.plates if self.one_weight else {*self.plates, rows.plate}
            frames = [
                frame
                for frame in msg["cond_indep_stack"]
                if frame.vectorized and (frame.name in own or size_at(batch, frame.dim) > 1)
            ]
            distribution = _in_plates(self.weight, frames, msg["fn"].batch_shape, rows.event_dims)
            if rows.event_dims:  # the weights lie in the event, too
                distribution = dist.Independent(distribution, rows.event_dims)
                frames = [f._replace(dim=f.dim + rows.event_dims) for f in frames if f.name != rows.plate]
            infer: Any = {"fused_weight": self.given, "fused_site": msg["name"]}
            self._drawing = distribution, frames
            others = self._not_of_weights({frame.name for frame in frames})
            try:
                # A handler outside may have sites of its own made of the weights', by `poutine.reparam`.
                with block_messengers(others.__contains__) if others else nullcontext():
                    drawn: Tensor = pyro.sample(site, distribution, infer=infer)
                is_hidden = self._drawing is not None
            finally:
                self._drawing = None
            if is_hidden:
                raise ValueError(
                    f"the weight {site!r} is hidden inside of fuse, by poutine.block, expected it seen outside, as the fused "
                    f"{msg['name']!r} is. Try poutine.block(fuse(model, ...), ...)."
                )
            return drawn
        like = floating_tensor(msg["fn"])
        if isinstance(self.weight, Tensor):
            check_weight(msg, self.weight.shape if self.num_fused == 2 else self.weight.shape[:-1])
        if isinstance(self.weight, float | int):  # filled there: a copy from the host would wait for the device
            return torch.full((), self.weight, dtype=like.dtype, device=like.device)
        return torch.as_tensor(self.weight, dtype=like.dtype, device=like.device)

    def _not_of_weights(self, plates: Collection[str]) -> list[Any]:
        """The plates inside of the handler that are not among those of the weights, and the masks and scales."""
        found: list[Any] = []
        for handler in reversed(_PYRO_STACK):
            if getattr(handler, "weights", None) is self:
                break
            is_other = isinstance(handler, IndepMessenger) and handler.name not in plates
            if is_other or isinstance(handler, MaskMessenger | ScaleMessenger):
                found.append(handler)
        return found


def _in_plates(weight: Any, frames: Sequence[Any], fused: torch.Size, dims: int) -> Any:
    """The weight's distribution, expanded over some plates of a site of that batch, to at least so many batch dims."""
    sizes = [1] * max(dims, *(-frame.dim for frame in frames), 0)
    for frame in frames:
        sizes[frame.dim] = size_at(fused, frame.dim) if frame.size == -1 else frame.size  # -1 of a plate of any size
    return weight.expand(broadcast_shape(weight.batch_shape, tuple(sizes)))


def check_weight(msg: Any, weight: torch.Size) -> None:
    """Raises ValueError unless weights of that batch shape broadcast with the batch of a fused site."""
    batch = msg["fn"].batch_shape  # in which the rows are
    # torch.broadcast_shapes takes ten times as long, at each step.
    for given, wanted in zip(reversed(weight), reversed(batch), strict=False):
        if given != wanted and 1 not in (given, wanted):
            raise ValueError(
                f"site {msg['name']!r} has the batch {tuple(batch)}, the weight of fuse {tuple(weight)}, expected "
                "shapes that broadcast. Try a number, or a weight for each replica, [R, 1]."
            )


def same_weight(one: Any, other: Any) -> bool:
    """Whether two weights are one: the same object, or equal numbers."""
    return one is other or (isinstance(one, float | int) and isinstance(other, float | int) and one == other)
