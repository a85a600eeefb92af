"""The rows whose densities are fused: the plate they lie in, who is fused with whom, and what may not vary over it."""

from __future__ import annotations

__all__ = ["Rows", "find_rows", "refuse_enumerated_rows"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """The rows of a batch, k equal parts: row b is fused with the rows b + B/k, b + 2 B/k and so on (mod B).

    Attributes:
        plate: name of their plate.
        dim: its dim, negative.
        size: number B of rows.
        num_fused: number k of parts.
        add_unfused_rows: whether the second half of each part is not fused.
    """

    plate: str
    dim: int
    size: int
    num_fused: int
    add_unfused_rows: bool = False

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
        the edge from its own place, so the weights are rotated by p, and every part's edges follow the same law.

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

    def _trailing(self, values: Tensor, event_dim: int = 0) -> Tensor:
        """Values [B, *event] shaped to broadcast with a batch whose dim -1 may lie to the right of the rows'."""
        return values.reshape((self.size,) + (1,) * (-1 - self.dim) + values.shape[1 : 1 + event_dim])


def find_rows(msg: Any, at: str, plate: str | None, num_fused: int, add_unfused_rows: bool) -> Rows:
    """The rows at site ``at``: those of the named plate, by default of the one at dim=-1.

    Raises:
        ValueError: if the site is in no such plate, or the rows are no k equal parts.
    """
    frames = [frame for frame in msg["cond_indep_stack"] if frame.vectorized]
    wanted = [frame for frame in frames if (frame.dim == -1 if plate is None else frame.name == plate)]
    names = ", ".join(repr(frame.name) for frame in frames) or "none"
    if not wanted:
        expected = "a plate of rows at dim=-1" if plate is None else f"the plate {plate!r}"
        raise ValueError(
            f"site {at!r} is in the plates {names}, expected {expected}. "
            "Try `with pyro.plate('data', batch_size):` around it, or name its plate in fuse(..., plate=...)."
        )
    frame = wanted[0]
    if frame.size % num_fused and num_fused == 2:
        raise ValueError(
            f"site {at!r} has an odd batch of {frame.size} rows, expected two halves that are each "
            "other's partners. Try an even batch size."
        )
    if frame.size % num_fused:
        raise ValueError(
            f"site {at!r} has a batch of {frame.size} rows, expected {num_fused} equal parts that are each other's partners. "
            f"Try a batch of {-(-frame.size // num_fused) * num_fused} rows."
        )
    return Rows(frame.name, frame.dim, frame.size, num_fused, add_unfused_rows)


def refuse_enumerated_rows(msg: Any, at: str, rows: Rows, enumerated: Sequence[dict[str, Any]]) -> None:
    """Raise ValueError if one of the enumerated sites upstream varies from row to row."""
    for site in enumerated:
        if all(frame.name != rows.plate for frame in site["cond_indep_stack"]):
            continue
        dim, shape = site["infer"].get("_enumerate_dim"), msg["fn"].batch_shape
        if dim is None or (-dim <= len(shape) and shape[dim] > 1):
            raise ValueError(
                f"site {at!r} cannot be fused: site {site['name']!r} upstream is enumerated in each row, and one "
                "enumeration dimension would tie the values of the two rows, expected it sampled or global. Try "
                f"infer={{'enumerate': None}} for {site['name']!r}, or marginalise it in closed form."
            )
