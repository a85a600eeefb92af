"""The rows whose densities are fused: the plate that holds them, which row is fused with which, and their weights."""

from __future__ import annotations

__all__ = ["Batch", "Rows", "find_rows", "plates_of_rows", "refuse_enumerated_rows", "size_at", "size_in"]

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.util import ignore_jit_warnings
from torch import Tensor

from pyro_probmix.fusing.algorithms import scores_nothing
from pyro_probmix.pooling.rows.batches import expand_batch


@dataclass(frozen=True)
class Rows:
    """The rows of a batch, k equal parts: row b is fused with the rows b + B/k, b + 2 B/k and so on (mod B).

    Attributes:
        plate: name of their plate.
        dim: its dim, negative.
        size: number B of rows.
        num_fused: number k of parts.
        add_unfused_rows: whether the second half of each part is not fused.
        event_dims: how many dims that hold the rows are the event's, for rows in no plate.
    """

    plate: str
    dim: int
    size: int
    num_fused: int
    add_unfused_rows: bool = False
    event_dims: int = 0

    @property
    def shift(self) -> int:
        """By how much a tensor of the rows is rolled to bring each row's next partner to its place."""
        return -(self.size // self.num_fused)

    def partners(self, values: Tensor, event_dim: int = 0) -> list[Tensor]:
        """Each partner's values, in the order of the weights."""
        return [values.roll(m * self.shift, self.dim - event_dim) for m in range(1, self.num_fused)]

    def is_unfused(self, device: torch.device) -> Tensor:
        """Whether a row is not fused, shaped to broadcast with a batch."""
        part = self.size // self.num_fused
        return self._trailing(torch.arange(self.size, device=device) % part >= part // 2)

    def weights(self, drawn: Tensor) -> Tensor:
        r"""The weights as each row sees them.

        A draw belongs to the edge: its first weight is that of the row in the first part, and so on. A row of part p sees
        the edge from its own place, so the weights are rotated by p, and the edges of every part have the same distribution.

        Args:
            drawn: :math:`\lambda` [..., B], the weight of the first of two; of more, all weights [..., B, k].

        Returns:
            the weight of the row itself, [..., B]; of more than two the weights of the row and its partners, [..., B, k].
        """
        row = torch.arange(self.size, device=drawn.device)
        if self.num_fused == 2:
            own = torch.where(self._trailing(row < self.size // 2), drawn, 1 - drawn)
            return own.masked_fill(self.is_unfused(drawn.device), 1.0) if self.add_unfused_rows else own
        members = torch.arange(self.num_fused, device=drawn.device)
        turned = self._trailing((row[:, None] // (self.size // self.num_fused) + members) % self.num_fused, 1)
        shape = torch.broadcast_shapes(drawn.shape, turned.shape)
        weights = drawn.expand(shape).gather(-1, turned.expand(shape))
        if not self.add_unfused_rows:
            return weights
        return torch.where(self.is_unfused(drawn.device).unsqueeze(-1), (members == 0).to(weights.dtype), weights)

    def batched(self, msg: Any) -> Any:
        """The distribution of a site with a batch of the rows, which Pyro gives it in a plate that has a size."""
        fn = msg["fn"]
        if len(fn.batch_shape) >= -self.dim and fn.batch_shape[self.dim] != 1:
            return fn
        shape = [1] * (-self.dim - len(fn.batch_shape)) + [*fn.batch_shape]
        if msg["is_observed"]:  # a latent of all rows is drawn once
            shape[self.dim] = self.size
        return expand_batch(fn, shape)

    def _trailing(self, values: Tensor, event_dim: int = 0) -> Tensor:
        """Values [B, *event] shaped to broadcast with a batch whose dim -1 may lie to the right of the rows'."""
        if self.dim == -1:
            return values
        return values.reshape((self.size,) + (1,) * (-1 - self.dim) + values.shape[1 : 1 + event_dim])


@dataclass(frozen=True)
class Batch:
    """Name, size and dimension of the rows' plate.

    Attributes:
        plates: names of plates, one of which holds the rows of a site; none if they are not named.
        size: number of rows, None if it is not known.
        replicas: name of a plate that is none of rows, whatever its size; None if there is none.
    """

    plates: tuple[str, ...] = ()
    size: int | None = None
    replicas: str | None = None


def plates_of_rows(msg: Any, batch: Batch) -> list[Any]:
    """The plates of a site that may be the rows', outermost first, as frames of Pyro's conditional-independence stack."""
    found = [frame for frame in msg["cond_indep_stack"] if frame.vectorized and frame.name != batch.replicas]
    if batch.plates:
        return [frame for frame in found if frame.name in batch.plates]
    if batch.size is None:
        return found
    return [
        frame for frame in found if frame.size == batch.size or (frame.size == -1 and size_in(msg, frame) == batch.size)
    ]


def size_in(msg: Any, frame: Any) -> Any:
    """The members of a site in a plate; in one without a size, ``pyro.plate(name, dim=-1)``, as many as its shapes tell."""
    if frame.size != -1:
        return frame.size
    found = size_at(getattr(msg["fn"], "batch_shape", ()), frame.dim)  # a subsample of a plate within has none
    if found == 1 and isinstance(msg["value"], Tensor):
        return size_at(msg["value"].shape, frame.dim - msg["fn"].event_dim)
    return found


def size_at(shape: Sequence[int], dim: int) -> Any:
    """The size of a dimension, counted from the right: 1 where the shape has none."""
    return shape[dim] if -dim <= len(shape) else 1


def find_rows(msg: Any, batch: Batch, num_fused: int, add_unfused_rows: bool) -> Rows:
    """The rows of a site that is to be fused.

    Raises:
        ValueError: if no plate of the site may be that of the rows, or several may be, or the rows are no k equal parts.
    """
    site, frames = msg["name"], msg["cond_indep_stack"]
    found = plates_of_rows(msg, batch)
    if not found:
        wanted = "a plate of rows" if batch.size is None else f"one of the batch's {batch.size} rows"
        if batch.plates:
            wanted = "the plate " + " or ".join(map(repr, batch.plates))
        in_event = ", or rows_in_event=0 if it has them in its event, by to_event." if msg["fn"].event_shape else ""
        raise ValueError(
            f"site {site!r} is in the plates {_names(frames)}, expected {wanted}. "
            f"Try `with pyro.plate('data', batch_size):` around it, inside of fuse, or name its plate, plate=...{in_event}"
        )
    if len(found) > 1:
        # Nor is it the outermost: outputs may lie outside of the rows, and be as many.
        raise ValueError(
            f"site {site!r} is in the plates {_names(found)}, each of which may be that of the rows, expected one that is "
            f"named. Try plate={found[0].name!r}."
        )
    (frame,) = found
    size = size_in(msg, frame)
    if frame.size == -1 and size == 1:
        raise ValueError(
            f"site {site!r} is in the plate {frame.name!r} without a size, and of batch shape {tuple(msg['fn'].batch_shape)}, "
            f"which tells no number of rows, expected one. Try pyro.plate({frame.name!r}, batch_size)."
        )
    if isinstance(size, Tensor):  # as under torch.jit.trace, which holds sizes fixed anyway
        with ignore_jit_warnings():
            size = int(size)
    check_parts(site, size, num_fused)
    return Rows(frame.name, frame.dim, size, num_fused, add_unfused_rows, msg.get("event_dims_of_rows", 0))


def check_parts(site: str, size: int, num_fused: int) -> None:
    """Raises ValueError unless the rows are k equal parts."""
    if size % num_fused and num_fused == 2:
        advice = "an even batch size, or the model before it was fused" if scores_nothing() else "an even batch size"
        raise ValueError(
            f"site {site!r} has an odd batch of {size} rows, expected two halves that are each "
            f"other's partners. Try {advice}."
        )
    if size % num_fused:
        raise ValueError(
            f"site {site!r} has a batch of {size} rows, expected {num_fused} equal parts that are each other's partners. "
            f"Try a batch of {-(-size // num_fused) * num_fused} rows."
        )


def refuse_enumerated_rows(msg: Any, rows: Rows, enumerated: Sequence[dict[str, Any]]) -> None:
    """Raises ValueError if the site that is to be fused depends on an enumerated one upstream that varies from row to row.

    A second enumeration dimension, for the partner's value, would sum over two independent copies of each row's latent,
    and not over the one that row and partner share: another density than that of the same model with the latent sampled.
    Exact sums of the two differ (by 0.02 and 0.3 nats for four rows of three components, pooled log-linearly and linearly).
    """
    for latent in enumerated:
        if all(frame.name != rows.plate for frame in latent["cond_indep_stack"]):
            continue
        dim, shape = latent["infer"].get("_enumerate_dim"), msg["fn"].batch_shape
        if dim is None or (-dim <= len(shape) and shape[dim] > 1):
            raise ValueError(
                f"site {msg['name']!r} cannot be fused: site {latent['name']!r} upstream is enumerated in each row, and one "
                "enumeration dimension would tie the values of the two rows, expected it sampled or global. Try "
                f"infer={{'enumerate': None}} for {latent['name']!r}, or dist.MixtureSameFamily or dist.DiscreteHMM, "
                "which are sums over it."
            )


def _names(frames: Iterable[Any]) -> str:
    return ", ".join(repr(frame.name) for frame in frames if frame.vectorized) or "none"
