"""Rows of each replica, as positions in data that are held once."""

from __future__ import annotations

__all__ = ["Part"]

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from pyro_probmix.graphs import Graph


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of each replica.

    Attributes:
        x, y, weights: rows of which all replicas hold some, [n, *row], [n, *event] and [n].
        rows: positions of each replica's rows in them, [R, m].
        shared: whether all replicas have all of these rows, in their order.
    """

    x: Tensor
    y: Tensor
    weights: Tensor
    rows: Tensor
    shared: bool = False

    @classmethod
    def of_all(cls, values: tuple[Tensor, Tensor, Tensor], replicas: int) -> Self:
        """All rows, for each replica."""
        every = torch.arange(len(values[0]), device=values[0].device)
        return cls(*values, every.expand(replicas, -1), shared=True)

    def of_each(self, some: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
        """x, y and weights of some of the rows of each replica, [R, m, ...]."""
        if self.shared:  # without a copy for each
            parts = [v[some] for v in (self.x, self.y, self.weights)]
            x, y, weights = (part.expand(len(self.rows), *part.shape) for part in parts)
        else:
            chosen = self.rows[:, some]
            x, y, weights = self.x[chosen], self.y[chosen], self.weights[chosen]
        return x, y, weights

    def spread(self, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """x, y and weights of at most so many rows of each replica, spread evenly over all."""
        return self.of_each(slice(None, None, -(-self.rows.shape[1] // most)))

    def of_each_weight(self) -> Tensor:
        """The weights of the rows of each replica, [R, m]."""
        return self.weights.expand(len(self.rows), -1) if self.shared else self.weights[self.rows]

    def responses(self, replica: int) -> tuple[Tensor, Tensor]:
        """y and weights of the rows of one replica."""
        chosen: Any = slice(None) if self.shared else self.rows[replica]
        return self.y[chosen], self.weights[chosen]

    def to_train(self, graph: Graph | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """x, y and rows as :func:`~pyro_probmix.fit` takes them: held once, unless a graph has neighbors of each replica's."""
        if graph is None and len(self.x) != len(self.rows):  # else the shapes would not tell that they are shared
            return self.x, self.y, None if self.shared else self.rows
        x, y, _ = self.of_each()
        return x, y, None
