"""The rows whose densities are fused: where they lie, which row is fused with which, and their weights."""

from __future__ import annotations

__all__ = ["Rows"]

from dataclasses import dataclass

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

    def _trailing(self, values: Tensor, event_dim: int = 0) -> Tensor:
        """Values [B, *event] shaped to broadcast with a batch whose dim -1 may lie to the right of the rows'."""
        return values.reshape((self.size,) + (1,) * (-1 - self.dim) + values.shape[1 : 1 + event_dim])
