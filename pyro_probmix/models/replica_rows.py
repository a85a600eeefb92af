"""Rows of a data set that all replicas share or that each has of its own, told by their shapes."""

from __future__ import annotations

__all__ = ["ReplicaRows", "take"]

import torch
from torch import Tensor, nn

from pyro_probmix.graphs import Graph


class ReplicaRows(nn.Module):
    """A module that looks at the rows that it is given, [n, ...] for all replicas or [R, n, ...] for each."""

    density: nn.Module
    graph: Graph | None
    replicas: int | None

    def of_each_replica(self, x: Tensor, y: Tensor | None = None) -> tuple[bool, bool]:
        """Whether x, and whether y, are [R, n, ...], the rows of each replica, not [n, ...], shared by them.

        Raises:
            ValueError: if their shapes do not tell.
        """
        if self.replicas is None:
            return False, False
        of_x = (True, False) if _may_be_of_each(x, self.replicas) else (False,)
        of_y = (True, False) if y is not None and _may_be_of_each(y, self.replicas) else (False,)
        found = [(one, other) for one in of_x for other in of_y if self._fits(x, y, (one, other))]
        if (True, True) in found or (y is None and (True, False) in found):
            # Rows of each replica come with labels of each, and a row of more than one dim is rarer than they are.
            unclear = self._event_dim(x) is None and len(x.shape) == 2
            found = [each for each in found if each == found[0] or (unclear and not each[0])]
        if not found:  # the check of the rows says what does not fit
            return False, False
        if len(found) > 1:
            shapes = f"x of shape {tuple(x.shape)}" + ("" if y is None else f" and y of {tuple(y.shape)}")
            raise ValueError(
                f"ProbMix got {shapes}, which may be rows that its {self.replicas} replicas share or those of each, expected "
                "shapes that tell. Try x.expand(replicas, *x.shape), and y likewise, for rows that they share, or an "
                "attribute `event_dim` of the density, the number of dims of a row of x."
            )
        return found[0]

    def _fits(self, x: Tensor, y: Tensor | None, of_each: tuple[bool, bool]) -> bool:
        """Whether x and y, read as rows of each replica or shared ones, have as many rows as each other and the graph."""
        event_dim, at = self._event_dim(x), int(of_each[1])
        if event_dim is not None and of_each[0] != (len(x.shape) == event_dim + 2):
            return False
        n = x.shape[int(of_each[0])]
        return (self.graph is None or n == self.graph.num_nodes) and (y is None or y.shape[at : at + 1] == (n,))

    def _event_dim(self, x: Tensor) -> int | None:
        """The number of dims of a row of x, if the density tells and x has as many; None otherwise."""
        event_dim: int | None = getattr(self.density, "event_dim", None)
        return event_dim if event_dim is not None and len(x.shape) - event_dim in (1, 2) else None

    def num_rows(self, x: Tensor, y: Tensor | None = None) -> int:
        """n, after a check that x, y and the graph agree on it."""
        for name, value in (("x", x), ("y", x if y is None else y)):
            if not (hasattr(value, "shape") and hasattr(value, "to")):  # as a tensor or a tensordict has them
                raise ValueError(
                    f"ProbMix got {name} of type {type(value).__name__}, expected a tensor, a row for each row of the data. "
                    f"Try torch.as_tensor({name}), or one tensor whose columns the density takes apart."
                )
        x_of_each, y_of_each = self.of_each_replica(x, y)
        n = x.shape[int(x_of_each)]
        if self.graph is not None and n != self.graph.num_nodes:
            raise ValueError(
                f"ProbMix got x with {n} rows, expected the {self.graph.num_nodes} of its graph. "
                "Try a graph over the rows of x."
            )
        if y is not None and y.shape[int(y_of_each)] != n:
            raise ValueError(
                f"ProbMix got x of shape {tuple(x.shape)} and y of {tuple(y.shape)}, expected as many rows."
            )
        return n


def take(data: Tensor, rows: Tensor, of_each: bool) -> Tensor:
    """Rows of data [n, ...], [..., B], or rows of each replica, [R, B], of data [R, n, ...]."""
    if not of_each:
        return data[rows]
    return data[torch.arange(data.shape[0], device=data.device)[:, None], rows]


def _may_be_of_each(data: Tensor, replicas: int) -> bool:
    return len(data.shape) > 1 and data.shape[0] == replicas
