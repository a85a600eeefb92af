"""The base class of sampling graphs, and their edges as a Pyro distribution."""

from __future__ import annotations

__all__ = ["EdgeDistribution", "Graph"]

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor


class Graph(ABC):
    r"""A weighted, directed graph over the rows of a data set, to draw edges :math:`(i, j) \sim \mathcal{G}` from.

    An edge has probability :math:`w_{ij} = p(i)\, p(j \mid i)`, and the weights sum to one: *i* is the anchor, *j* its
    partner. A graph of your own defines :meth:`partners` and :meth:`log_partner_prob`. Several replicas, each with
    rows of its own, make one batched graph: ``batch_shape`` is then ``(R,)``, and tensors of rows end in ``[R, E]``
    (``[E]`` is shared by all replicas).

    Args:
        num_nodes: the number n of rows (of each replica).
        batch_shape: ``()``, or ``(R,)`` for R replicas.
        device: where edges are drawn; the graph's tensors are there.
        minibatch: what the rows of a shuffled minibatch are to :meth:`edges`. ``"pairs"``: its halves are the edges
            (right where any two rows are an edge of equal weight); ``"anchors"``: its first half are the anchors (right
            where every row is an anchor equally often); ``"ignored"``: the rows do not matter.
        anchor_probs: p(i), shape ``[n]``, float64; ``None`` for the uniform distribution.

    Raises:
        ValueError: if there is no row.

    References:
        El-Laham et al., 2025, eq. (12) and section 5.
    """

    def __init__(
        self,
        num_nodes: int,
        *,
        batch_shape: Sequence[int] = (),
        device: torch.device | str = "cpu",
        minibatch: Literal["pairs", "anchors", "ignored"] = "anchors",
        anchor_probs: Tensor | None = None,
    ) -> None:
        if num_nodes < 1:
            raise ValueError(f"A graph needs at least one row, got {num_nodes}. Try passing data with rows.")
        self.num_nodes = num_nodes
        self.batch_shape = torch.Size(batch_shape)
        try:
            self.device = torch.device(device)
        except RuntimeError:
            raise ValueError(f"A graph got device={device!r}, expected one of torch's. Try device='cpu'.") from None
        self.minibatch = minibatch
        self._anchor_probs = anchor_probs
        self._anchor_cdf = None if anchor_probs is None else anchor_probs.cumsum(0)
        # Beside rows of shape [..., R, E], this picks each replica's own table.
        self._replica = torch.arange(self.batch_shape[0], device=device).unsqueeze(-1) if self.batch_shape else None

    @abstractmethod
    def partners(self, anchors: Tensor) -> Tensor:
        """Draws a partner j ~ p(j | i) for each anchor i, a LongTensor ``[..., E]`` (``[..., R, E]`` when batched)."""

    @abstractmethod
    def log_partner_prob(self, i: Tensor, j: Tensor) -> Tensor:
        """log p(j | i) elementwise, -inf where (i, j) is no edge."""

    def log_anchor_prob(self, i: Tensor) -> Tensor:
        """log p(i) elementwise."""
        if self._anchor_probs is None:
            return torch.full(i.shape, -math.log(self.num_nodes), device=i.device)
        return self._anchor_probs[i].log().to(torch.get_default_dtype())

    def anchors(self, shape: Sequence[int]) -> Tensor:
        """Draws independent anchors i ~ p(i)."""
        if self._anchor_cdf is None:
            return torch.randint(self.num_nodes, tuple(shape), device=self.device)
        # The first running sum above the level: a row of weight zero adds nothing to the sum and is never the first.
        level = torch.rand(tuple(shape), dtype=torch.float64, device=self.device) * self._anchor_cdf[-1]
        return torch.searchsorted(self._anchor_cdf, level, right=True)

    def edges(self, rows: Tensor | None = None, num_fused: int = 2) -> EdgeDistribution:
        """The distribution of the graph's edges, or of a shuffled minibatch's edges given its rows.

        Args:
            rows: ``None`` for independent edges: batch shape ``()``, or ``(R, 1)`` when the graph is batched. Or the
                rows of a minibatch, LongTensor ``[B]`` or ``[R, B]`` with even B (a multiple of k): batch shape ``(E,)`` or
                ``(R, E)``, E = B/k.
            num_fused: the number k of rows of an edge: an anchor and k - 1 partners.

        Raises:
            TypeError: if the rows are no integers.
            ValueError: if B is odd (no multiple of k), or the rows fit neither the graph's rows, nor its replicas, nor its
                device.
        """
        if not isinstance(num_fused, int) or num_fused < 2:
            raise ValueError(
                f"an edge has num_fused={num_fused!r} rows, expected an integer of at least 2. Try num_fused=2."
            )
        if rows is None:
            return EdgeDistribution(self, (*self.batch_shape, 1) if self.batch_shape else (), num_fused=num_fused)
        if not isinstance(rows, Tensor) or rows.dtype not in (torch.int64, torch.int32):
            kind = rows.dtype if isinstance(rows, Tensor) else type(rows).__name__
            raise TypeError(f"rows must be a tensor of row numbers, got {kind}. Try torch.arange(n) or a LongTensor.")
        if rows.dim() == 0 or rows.shape[-1] % num_fused or rows.shape[-1] == 0:
            size = rows.shape[-1] if rows.dim() else "a single number"
            expected, advice = (
                ("an even number", "one row") if num_fused == 2 else (f"a multiple of {num_fused}", "some")
            )
            raise ValueError(f"A minibatch must hold {expected} of rows, got {size}. Try dropping {advice}.")
        if self.minibatch != "pairs" and rows.device.type != self.device.type:
            raise ValueError(f"The rows are on {rows.device}, the graph on {self.device}. Try graph.to(rows.device).")
        try:
            replicas = broadcast_shape(rows.shape[:-1], self.batch_shape)
        except ValueError:
            raise ValueError(
                f"rows of shape {list(rows.shape)} do not fit a graph with {self.batch_shape[0]} replicas. "
                f"Try rows of shape [B] or [{self.batch_shape[0]}, B]."
            ) from None
        edges = _expanded(rows.long(), (*replicas, rows.shape[-1])).unflatten(-1, (num_fused, -1)).mT  # [..., E, k]
        known = {"pairs": num_fused, "anchors": 1, "ignored": 0}[self.minibatch]
        return EdgeDistribution(self, edges.shape[:-1], edges[..., :known] if known < num_fused else edges, num_fused)

    def _take(self, table: Tensor, i: Tensor) -> Tensor:
        # Rows [..., E] in one table [n, ...], or rows [..., R, E] in the replicas' tables [R, n, ...].
        return table[i] if self._replica is None else table[self._replica, i]

    def replicas(self, chosen: Sequence[int]) -> Self:
        """The graph of some of its replicas, each as often as it is named; one that all share stays as it is.

        A graph of your own holds tables of the replicas, tensors ``[R, ...]``.
        """
        if not self.batch_shape:
            return self
        picked = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor) and not name.startswith("_anchor"):
                setattr(picked, name, value[list(chosen)])
        picked.batch_shape = torch.Size([len(chosen)])
        picked._replica = torch.arange(len(chosen), device=self.device).unsqueeze(-1)
        return picked

    def to(self, device: torch.device | str) -> Self:
        """The graph with its tensors on ``device``."""
        moved = copy.copy(self)
        moved.device = torch.device(device)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved


class EdgeDistribution(TorchDistribution):
    r"""Edges (i, j) of a graph as a Pyro distribution over pairs of row numbers, event shape ``(2,)``.

    .. math:: \log p(i, j) = \log w_{ij} = \log p(i) + \log p(j \mid i),

    without the term of what is given: log p(j | i) with the anchors given, zero at the pair with both given. Pairs that
    are no edges have log-probability -inf. Made by :meth:`Graph.edges`.

    Where k > 2 rows are fused, an edge is an anchor with k - 1 partners, drawn independently of one another given the
    anchor, so that a row may come twice, event shape ``(k,)``:

    .. math:: \log p(i, j_1, \dots, j_{k-1}) = \log p(i) + \sum_m \log p(j_m \mid i).

    Args:
        graph: the graph.
        batch_shape: the shape of independent edges.
        given: the rows of an edge that are known, a LongTensor that expands to ``(*batch_shape, j)``: all k, or the anchor
            alone; ``None``, or j = 0, for none.
        num_fused: the number k of rows of an edge.
        validate_args: whether to check that rows lie in 0, ..., n-1 (which waits for the device).

    Raises:
        ValueError: if a row number lies outside the graph, also one that it draws, or its partners are not one integer for
            each anchor.

    Example:
        >>> import pyro
        >>> from pyro_probmix.graphs.graphs import WeightedGraph
        >>> graph = WeightedGraph(torch.tensor([[0.0, 3.0], [1.0, 0.0]]))
        >>> _ = torch.manual_seed(0)
        >>> with pyro.plate("pairs", 4):
        ...     edges = pyro.sample("edge", graph.edges())
        >>> tuple(edges.shape)
        (4, 2)
        >>> graph.edges().log_prob(torch.tensor([0, 1])).exp()
        tensor(0.7500)
    """

    has_rsample = False
    has_enumerate_support = False
    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (an attribute of torch's base class)

    def __init__(
        self,
        graph: Graph,
        batch_shape: Sequence[int] = (),
        given: Tensor | None = None,
        num_fused: int = 2,
        validate_args: bool | None = None,
    ) -> None:
        self.graph, self.num_fused = graph, num_fused
        self.known = 0 if given is None else given.shape[-1]
        self.given = None if given is None or not self.known else _expanded(given, (*batch_shape, self.known))
        super().__init__(torch.Size(batch_shape), torch.Size([num_fused]), validate_args=validate_args)
        if self._validate_args and given is not None:
            self._check_rows(given, "got", "a graph over the rows that are batched")

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.integer_interval(0, self.graph.num_nodes - 1), 1)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> EdgeDistribution:
        # Rows were checked when they came: no second look, and no wait for the device.
        expanded = EdgeDistribution(self.graph, batch_shape, self.given, self.num_fused, validate_args=False)
        expanded._validate_args = self._validate_args
        return expanded

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        if self.given is not None and self.known == self.num_fused:
            return _expanded(self.given, (*shape, self.num_fused))
        i = self.graph.anchors(shape) if self.given is None else _expanded(self.given[..., 0], shape)
        return torch.stack([i, *(self._drawn_partners(i) for _ in range(self.num_fused - 1))], dim=-1)

    def _drawn_partners(self, i: Tensor) -> Tensor:
        j, graph = self.graph.partners(i), self.graph
        if j.dtype not in (torch.int64, torch.int32) or j.shape != i.shape:
            raise ValueError(
                f"{type(graph).__name__}.partners gave {j.dtype} of shape {list(j.shape)}, expected a row number for each "
                f"anchor, a LongTensor of shape {list(i.shape)}. Try partners.long(), or one partner for each anchor."
            )
        if self._validate_args:
            self._check_rows(j, f"{type(graph).__name__}.partners gave", "partners that are rows of its data")
        return j

    def _check_rows(self, rows: Tensor, got: str, advice: str) -> None:
        n = self.graph.num_nodes
        outside = rows[(rows < 0) | (rows >= n)]
        if len(outside):
            raise ValueError(
                f"rows must lie in 0, ..., {n - 1} for a graph of {n} rows, {got} {outside[0]}. Try {advice}."
            )

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        shape = broadcast_shape(value.shape[:-1], self.batch_shape)
        edge = value.expand(*shape, self.num_fused)
        inside = ((edge >= 0) & (edge < self.graph.num_nodes)).all(dim=-1)
        # Rows that do not exist look up row 0 or n-1 instead, and are masked at the end.
        i, *others = edge.long().clamp(0, self.graph.num_nodes - 1).unbind(dim=-1)
        if self.known == self.num_fused:
            log_prob = torch.zeros(shape, device=value.device)
        else:
            log_prob = torch.stack([self.graph.log_partner_prob(i, j) for j in others]).sum(0)
        if self.given is None:
            log_prob = log_prob + self.graph.log_anchor_prob(i)
        else:
            same = (edge[..., : self.known] == self.given).all(-1)
            log_prob = log_prob.masked_fill(~same, -math.inf)
        return log_prob.masked_fill(~inside, -math.inf)


def _expanded(x: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor expanded to a shape, which in most steps is its own."""
    return x if x.shape == tuple(shape) else x.expand(tuple(shape))
