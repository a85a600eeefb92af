"""The sampling graphs: complete, of nearest neighbours, of equal classes, of similar labels."""

from __future__ import annotations

__all__ = [
    "CompleteGraph",
    "EdgeDistribution",
    "Graph",
    "LabelKernelGraph",
    "NearestNeighborGraph",
    "SameClassGraph",
    "WeightedGraph",
]

import math
from typing import Any

import numpy as np
import torch
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pyro_probmix.arguments import checked
from pyro_probmix.graphs.edges import EdgeDistribution, Graph
from pyro_probmix.graphs.neighbors import Search, nearest_others
from pyro_probmix.graphs.weighted import WeightedGraph


class CompleteGraph(Graph):
    r"""The complete graph: every ordered pair of rows equally often, also a row with itself: :math:`w_{ij} = 1 / n^2`.

    It costs the same memory whatever n is. The halves of a shuffled minibatch are its edges.

    Args:
        num_nodes: the number n of rows.
        device: where edges are drawn.

    Raises:
        ValueError: if there is no row.

    References:
        El-Laham et al., 2025, section 5.

    Example:
        >>> graph = CompleteGraph(1_000_000)
        >>> graph.edges(torch.tensor([7, 2, 5, 9])).sample().tolist()
        [[7, 5], [2, 9]]
        >>> _ = torch.manual_seed(0)
        >>> tuple(graph.edges().sample((3,)).shape)
        (3, 2)
    """

    @checked(least={"num_nodes": 1})
    def __init__(self, num_nodes: int, *, device: torch.device | str = "cpu") -> None:
        super().__init__(num_nodes, device=device, minibatch="pairs")

    def partners(self, anchors: Tensor) -> Tensor:
        return torch.randint(self.num_nodes, anchors.shape, device=anchors.device)

    def log_partner_prob(self, i: Tensor, j: Tensor) -> Tensor:
        return torch.full(broadcast_shape(i.shape, j.shape), -math.log(self.num_nodes), device=i.device)


class NearestNeighborGraph(Graph):
    r"""The graph of nearest neighbours: an edge from each row to each of its K nearest others.

    :math:`w_{ij} = 1 / (nK)` for :math:`x_j \in C_K(x_i)`. Nearest in Euclidean distance; a row is not its own neighbour,
    also where rows are repeated. Found exactly in tables of at most 50,000 rows or 5 features, and in larger ones through
    an index that finds nearly all of them (``benchmarks/neighbors.py`` measures how many); the same data give the same
    graph. Takes memory in proportion to n (K + d).

    Args:
        x: the rows' features, ``[n, d]`` or ``[R, n, d]``, standardised by the caller where units differ.
        k: the number K of neighbours.
        search: ``"auto"``, or ``"exact"`` or ``"approximate"`` at any size.

    Raises:
        TypeError: if the features are no numbers.
        ValueError: if they are not finite or of another shape, if K < 1, if there are not more than K rows, or if there
            is no such search.

    References:
        El-Laham et al., 2025, section 5 and eq. (29); Malkov and Yashunin, 2020, "Efficient and Robust Approximate Nearest
        Neighbor Search Using Hierarchical Navigable Small World Graphs".

    Example:
        >>> graph = NearestNeighborGraph(torch.tensor([[0.0], [1.0], [3.0]]), k=1)
        >>> graph.partners(torch.tensor([0, 1, 2])).tolist()
        [1, 0, 1]
    """

    @checked(least={"k": 1})
    def __init__(self, x: Any, k: int = 5, search: Search = "auto") -> None:
        x = _finite(_copy(x, "x"), "x")
        if x.dim() not in (2, 3):
            raise ValueError(f"x must have shape [n, d] or [R, n, d], got {list(x.shape)}. Try x.reshape(len(x), -1).")
        n = x.shape[-2]
        if x.dim() == 3 and 0 in x.shape:
            raise ValueError(
                f"x has shape {list(x.shape)}, expected data of at least one replica, row and column. Try x of shape [n, d]."
            )
        if n <= k:
            raise ValueError(
                f"There are fewer rows than neighbours: {n} rows hold no {k} others beside each row. "
                f"Try k of at most {n - 1}."
            )
        super().__init__(n, batch_shape=x.shape[:-2], device=x.device)
        replicas = x.reshape(-1, *x.shape[-2:])
        found = [nearest_others(rows.double().cpu().numpy(), k, search) for rows in replicas]
        self.neighbors = torch.from_numpy(np.stack(found)).reshape(*self.batch_shape, n, k).to(x.device)

    def partners(self, anchors: Tensor) -> Tensor:
        neighbors = self._take(self.neighbors, anchors)  # [..., E, K]
        choice = torch.randint(neighbors.shape[-1], (*neighbors.shape[:-1], 1), device=anchors.device)
        return neighbors.gather(-1, choice).squeeze(-1)

    def log_partner_prob(self, i: Tensor, j: Tensor) -> Tensor:
        neighbors = self._take(self.neighbors, i)  # [..., E, K]
        adjacent = (neighbors == j.unsqueeze(-1)).any(dim=-1)
        log_prob = torch.full(adjacent.shape, -math.log(neighbors.shape[-1]), device=i.device)
        return log_prob.masked_fill(~adjacent, -math.inf)


class SameClassGraph(Graph):
    r"""The graph of classes: an edge from each row to each row of its class, itself included.

    :math:`w_{ij} = 1[y_i = y_j] / (n\, n_{y_i})`: the anchor is uniform, and its partner is uniform among the
    :math:`n_{y_i}` rows of its class. Takes memory in proportion to n.

    Args:
        y: the rows' classes, integers ``[n]`` or ``[R, n]``.

    Raises:
        TypeError: if the classes are no integers.
        ValueError: if they have another shape.

    Example:
        >>> graph = SameClassGraph(torch.tensor([0, 1, 0]))
        >>> graph.log_partner_prob(torch.tensor([0, 0, 1]), torch.tensor([2, 1, 1])).exp().tolist()
        [0.5, 0.0, 1.0]
    """

    def __init__(self, y: Any) -> None:
        y = _copy(y, "y")
        if y.is_floating_point():
            raise TypeError(f"y must hold integer classes, got {y.dtype}. Try y.long(), or LabelKernelGraph.")
        if y.dim() not in (1, 2):
            raise ValueError(f"y must have shape [n] or [R, n], got {list(y.shape)}. Try y.squeeze(-1).")
        super().__init__(y.shape[-1], batch_shape=y.shape[:-1], device=y.device)
        ranked, self._order = y.long().sort(dim=-1)
        # A row's class lies at places first, ..., first + count - 1 of the order; the first place also names the class.
        self._first = torch.searchsorted(ranked, y.long())
        self._count = torch.searchsorted(ranked, y.long(), right=True) - self._first

    def partners(self, anchors: Tensor) -> Tensor:
        count = self._take(self._count, anchors)
        place = (torch.rand(count.shape, dtype=torch.float64, device=count.device) * count).long()
        return self._take(self._order, self._take(self._first, anchors) + place)

    def log_partner_prob(self, i: Tensor, j: Tensor) -> Tensor:
        log_prob = -self._take(self._count, i).to(torch.get_default_dtype()).log()
        return log_prob.masked_fill(self._take(self._first, i) != self._take(self._first, j), -math.inf)


class LabelKernelGraph(Graph):
    r"""The graph of similar responses: i uniform, :math:`p(j \mid i) \propto \exp(-\|y_i - y_j\|^2 / (2 h^2))`.

    Only the anchors' rows of the kernel are computed: E anchors take memory in proportion to E n, for drawing and for
    the density, and nothing of size n by n is built.

    Args:
        y: the rows' responses, ``[n]`` or ``[n, d_y]``; of several replicas ``[R, n, d_y]``, also for one response.
        bandwidth: the kernel's standard deviation h > 0, in the units of y.

    Raises:
        TypeError: if the responses are no numbers.
        ValueError: if they are not finite or of another shape, or if the bandwidth is not positive and finite.

    References:
        Yao et al., 2022, "C-Mixup: Improving Generalization in Regression".

    Example:
        >>> graph = LabelKernelGraph(torch.tensor([1.0, 1.0, 9.0]), bandwidth=0.5)
        >>> graph.log_partner_prob(torch.tensor([0, 0]), torch.tensor([1, 2])).exp().tolist()
        [0.5, 0.0]
    """

    @checked()
    def __init__(self, y: Any, bandwidth: float) -> None:
        y = _finite(_copy(y, "y"), "y")
        if y.dim() not in (1, 2, 3):
            raise ValueError(f"y must have shape [n], [n, d_y] or [R, n, d_y], got {list(y.shape)}. Try y.flatten(2).")
        if not 0 < bandwidth < math.inf:
            raise ValueError(f"bandwidth must be a positive number, got {bandwidth}. Try the standard deviation of y.")
        y = y.unsqueeze(-1) if y.dim() == 1 else y
        super().__init__(y.shape[-2], batch_shape=y.shape[:-2], device=y.device)
        self.labels = y if y.is_floating_point() else y.to(torch.get_default_dtype())
        self.bandwidth = bandwidth

    def partners(self, anchors: Tensor) -> Tensor:
        # Row by row the largest kernel value is one, so the running sums never vanish.
        cdf = self._log_kernel(anchors).exp().double().cumsum(dim=-1)
        level = torch.rand((*cdf.shape[:-1], 1), dtype=torch.float64, device=cdf.device) * cdf[..., -1:]
        return torch.searchsorted(cdf, level, right=True).squeeze(-1)

    def log_partner_prob(self, i: Tensor, j: Tensor) -> Tensor:
        log_kernel = self._log_kernel(i).log_softmax(dim=-1)
        return log_kernel.gather(-1, j.expand(log_kernel.shape[:-1]).unsqueeze(-1)).squeeze(-1)

    def _log_kernel(self, i: Tensor) -> Tensor:
        own = self._take(self.labels, i)
        rows = own.reshape(-1, own.shape[-1]) if own.dim() < 2 else own
        # [..., E, n]; by differences, since the matrix product's short cut loses the digits of small distances.
        distance = torch.cdist(rows, self.labels, compute_mode="donot_use_mm_for_euclid_dist")
        return (-0.5 * (distance / self.bandwidth) ** 2).reshape(*own.shape[:-1], self.num_nodes)


def _copy(values: Any, name: str) -> Tensor:
    # A copy: the graph must not change when the caller's array does.
    if isinstance(values, Tensor):
        return values.detach().to_dense().clone()  # also a sparse one
    try:
        array = np.array(values)
    except ValueError:
        raise ValueError(f"{name} has rows of different lengths, expected an array. Try rows of one length.") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, got entries of type {array.dtype}. Try encoding them as numbers.")
    return torch.from_numpy(array)


def _finite(values: Tensor, name: str) -> Tensor:
    bad = (~torch.isfinite(values)).nonzero()
    if len(bad):
        place = bad[0].tolist()
        raise ValueError(
            f"{name} must be finite, got {values[tuple(place)].item()} at index {place}. Try dropping that row."
        )
    return values
