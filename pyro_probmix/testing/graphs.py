"""The check of a sampling graph: its edges are a distribution, drawn as often as it says."""

from __future__ import annotations

__all__ = ["check_graph"]

from collections.abc import Collection
from functools import partial

import pyro
import torch
from torch import Tensor

from pyro_probmix.graphs import Graph
from pyro_probmix.names import name_of
from pyro_probmix.testing.devices import each_device
from pyro_probmix.testing.frequencies import demand_frequencies
from pyro_probmix.testing.invariants import Invariants, demand, demand_close, refuse

GRAPH: Invariants[Graph] = Invariants("graph")
_DRAWS = 20_000
_PAIRS = 1_000_000  # of anchors and rows, at most, that are scored
_OUTCOMES = 50  # rows are counted in so many groups
_FEW = 7  # and pairs of rows in the square of so many
_MOST_ROWS = 10_000_000  # all of which are looked at


def check_graph(graph: Graph, *, skip: Collection[str] = ()) -> None:
    """Checks a graph over the rows of a data set.

    It looks at: ``"shape"``, ``"normalisation"``, ``"minibatch"`` (the graph says rightly what rows of a minibatch are),
    ``"draws"`` (partners and anchors come as often as their probabilities say), ``"edges"`` (they are a distribution with
    these probabilities), ``"replicas"``, ``"expansion"``, ``"seed"`` and ``"device"``.

    Args:
        graph: of some rows; every pair is looked at of up to 1000 rows, and some anchors with all rows of more.
        skip: names of invariants that are left out.

    Raises:
        BrokenInvariant: an ``AssertionError`` that names the invariant, what was found and what was expected.
        TypeError: if it is no graph.
        ValueError: if it has more than ten million rows.

    Example:
        >>> import torch
        >>> from pyro_probmix import NearestNeighborGraph
        >>> from pyro_probmix.testing import check_graph
        >>> check_graph(NearestNeighborGraph(torch.randn(50, 2), k=3))
    """
    if not isinstance(graph, Graph):
        raise TypeError(f"check_graph got {graph!r}, expected a Graph. Try check_graph(MyGraph(...)), of some rows.")
    if graph.num_nodes > _MOST_ROWS:
        raise ValueError(
            f"check_graph got a graph of {graph.num_nodes} rows, expected at most {_MOST_ROWS}. Try one of fewer rows."
        )
    GRAPH.hold(name_of(graph), graph, skip)


def _anchors(graph: Graph) -> Tensor:
    """Some rows that are anchors, ``[E]``; all of them where there are few rows."""
    n = graph.num_nodes
    rows = torch.arange(n, device=graph.device)
    possible = rows[graph.log_anchor_prob(rows) > -torch.inf]
    return possible[:: max(1, len(possible) * n // _PAIRS)]


def _conditional(graph: Graph, anchors: Tensor) -> Tensor:
    """p(j | i), ``[n, E]``, with replicas ``[n, R, E]``."""
    rows = torch.arange(graph.num_nodes, device=graph.device)
    j = rows.reshape(-1, *(1,) * (len(graph.batch_shape) + 1))
    i = anchors.expand(*graph.batch_shape, -1)
    return graph.log_partner_prob(*torch.broadcast_tensors(i, j)).exp()


@GRAPH.add("shape", "partners gives a row number for each anchor, log_partner_prob a number for each pair")
def _shape(graph: Graph) -> None:
    anchors = _anchors(graph)
    some = torch.cat([anchors[:4], anchors[-4:]]).repeat(20)  # at both ends, where a window may go too far
    for lead in ((), (4,), (3, 2)):
        given = some.expand(*lead, *graph.batch_shape, -1)
        j = graph.partners(given)
        demand(isinstance(j, Tensor), f"partners of type {type(j).__name__}", "a LongTensor")
        demand(j.dtype == torch.int64, f"partners of {j.dtype}", "torch.int64")
        demand(
            j.shape == given.shape,
            f"partners of shape {list(j.shape)}",
            f"those of the anchors, {list(given.shape)}",
        )
        demand(
            ((j >= 0) & (j < graph.num_nodes)).all(), f"a partner {j.min()} to {j.max()}", f"0 to {graph.num_nodes - 1}"
        )
        score = graph.log_partner_prob(given, j)
        demand(score.is_floating_point(), f"log probabilities of {score.dtype}", "floating-point numbers")
        demand(
            score.shape == j.shape,
            f"log probabilities of shape {list(score.shape)}",
            f"those of the pairs, {list(j.shape)}",
        )


@GRAPH.add("normalisation", "the probabilities of the anchors, and those of each anchor's partners, sum to one")
def _normalisation(graph: Graph) -> None:
    anchors = _anchors(graph)
    probs = _conditional(graph, anchors)
    demand(
        not probs.isnan().any(),
        "a probability of NaN",
        "numbers, with a log probability of -inf where there is no edge",
    )
    total = probs.double().sum(0).reshape(-1, len(anchors))
    wrong = ((total - 1).abs() > 1e-4).any(0).nonzero()
    if len(wrong):
        k = int(wrong[0])
        worst = total[:, k][(total[:, k] - 1).abs().argmax()]
        refuse(f"probabilities that sum to {worst:.6g} over the partners of row {int(anchors[k])}", "a sum of 1")
    rows = torch.arange(graph.num_nodes, device=graph.device)
    whole = float(graph.log_anchor_prob(rows).exp().double().sum())
    demand(abs(whole - 1) <= 1e-4, f"probabilities that sum to {whole:.6g} over the anchors", "a sum of 1")


@GRAPH.add("minibatch", "rows are anchors only where all are so equally often, and pairs only where all edges are")
def _minibatch(graph: Graph) -> None:
    kinds = ("pairs", "anchors", "ignored")
    demand(graph.minibatch in kinds, f"minibatch={graph.minibatch!r}", f"one of {', '.join(kinds)}")
    if graph.minibatch == "ignored":
        return
    rows, n = torch.arange(graph.num_nodes, device=graph.device), graph.num_nodes
    probs = graph.log_anchor_prob(rows).exp()
    demand(
        ((probs * n - 1).abs() <= 1e-3).all(),
        f"anchor probabilities of {probs.min():.3g} to {probs.max():.3g} with minibatch={graph.minibatch!r}",
        "equal ones, or minibatch='ignored'",
    )
    if graph.minibatch == "pairs":
        partner = _conditional(graph, _anchors(graph)) * n
        demand(
            ((partner - 1).abs() <= 1e-3).all(),
            f"partner probabilities of {partner.min() / n:.3g} to {partner.max() / n:.3g} with minibatch='pairs'",
            "equal ones, or minibatch='anchors'",
        )


@GRAPH.add("draws", "anchors and partners are drawn as often as their probabilities say, each independently")
def _draws(graph: Graph) -> None:
    n, some = graph.num_nodes, _anchors(graph)
    replicas = tuple(graph.batch_shape)
    rows = torch.arange(n, device=graph.device)
    probs = graph.log_anchor_prob(rows).exp()
    drawn = graph.anchors((_DRAWS,))
    demand_frequencies(_grouped(drawn, n), _groups(probs), partial(_outcome, n, " as anchor"))
    for anchor in some[:: -(-len(some) // 6)].tolist():
        anchors = torch.full((2, *replicas, _DRAWS // 2), anchor, device=graph.device)
        partners = graph.partners(anchors).reshape(2, -1, _DRAWS // 2)
        given = _conditional(graph, anchors[0, ..., :1]).reshape(n, -1)
        for replica in range(partners.shape[1]):
            own, probs = partners[:, replica], given[:, replica]
            of = f"{f' (of replica {replica})' if replicas else ''} as partner of row {anchor}"
            none = own[probs[own] == 0]
            if len(none):
                refuse(f"row {int(none[0])}{of} drawn", "none, since its probability is 0")
            demand_frequencies(_grouped(own.flatten(), n), _groups(probs), partial(_outcome, n, of))
            # Two draws of one call, side by side or of two draws to the left, have nothing to do with each other.
            few = _groups(probs, _FEW)
            for one, other in ((own[:, ::2], own[:, 1::2]), (own[0], own[1])):
                pairs = (one % len(few) * len(few) + other % len(few)).flatten()
                counts = torch.bincount(pairs, minlength=len(few) ** 2).double().cpu()
                demand_frequencies(counts, torch.outer(few, few).flatten(), partial(_pair, len(few), of))


def _grouped(rows: Tensor, n: int) -> Tensor:
    """Counts of rows, in groups of those whose numbers are equal modulo the number of groups."""
    return torch.bincount(rows % min(n, _OUTCOMES), minlength=min(n, _OUTCOMES)).double().cpu()


def _groups(probs: Tensor, most: int = _OUTCOMES) -> Tensor:
    """Probabilities of these groups."""
    n = len(probs)
    group = torch.arange(n) % min(n, most)
    return torch.zeros(min(n, most), dtype=torch.float64).index_add(0, group, probs.double().cpu())


def _pair(few: int, of: str, k: int) -> str:
    return f"rows that are {k // few} and {k % few} modulo {few}, one after the other{of},"


def _outcome(n: int, what: str, k: int) -> str:
    return (f"row {k}" if n <= _OUTCOMES else f"rows {k}, {k + _OUTCOMES}, ...") + what


@GRAPH.add("edges", "edges() draws and scores edges by these probabilities, and edges(rows) given rows of a minibatch")
def _edges(graph: Graph) -> None:
    replicas = tuple(graph.batch_shape)
    edges = graph.edges()
    draws = edges.sample((40,))
    i, j = draws.unbind(-1)
    expected = graph.log_anchor_prob(i) + graph.log_partner_prob(i, j)
    demand_close(edges.log_prob(draws), expected, "a log probability", "that of the anchor and its partner", 1e-4, 1e-4)
    anchors = _anchors(graph)
    rows = anchors[torch.arange(8, device=graph.device) % len(anchors)]
    given = graph.edges(rows)
    draws = given.sample((5,))
    wanted = (5, *replicas, 4, 2)
    demand(tuple(draws.shape) == wanted, f"edges of shape {tuple(draws.shape)}", f"{wanted}")
    score = given.log_prob(draws)
    demand(score.isfinite().all(), "an edge of probability 0 drawn", "edges of positive probability")
    if graph.minibatch != "ignored":
        demand((draws[..., 0] == rows[:4]).all(), "anchors other than the first half of the minibatch", "that half")


@GRAPH.add("replicas", "a batched graph keeps its replicas apart, and replicas(chosen) picks from them")
def _replicas(graph: Graph) -> None:
    if not graph.batch_shape:
        return
    r, anchors = graph.batch_shape[0], _anchors(graph)[:20]
    chosen = [*range(r - 1, -1, -1), 0]
    picked = graph.replicas(chosen)
    demand(tuple(picked.batch_shape) == (r + 1,), f"batch shape {tuple(picked.batch_shape)}", f"({r + 1},)")
    demand_close(
        _conditional(picked, anchors),
        _conditional(graph, anchors)[:, chosen],
        "a probability",
        "that of the replica picked",
    )


@GRAPH.add("expansion", "edges that are expanded to plates have the same probabilities, and independent draws")
def _expansion(graph: Graph) -> None:
    replicas = tuple(graph.batch_shape)
    edges = graph.edges()
    wide = edges.expand((3, *(replicas or (2,)), 200))
    draws = wide.sample()
    demand(draws.shape == (*wide.batch_shape, 2), f"draws of shape {tuple(draws.shape)}", f"{(*wide.batch_shape, 2)}")
    demand_close(wide.log_prob(draws), edges.log_prob(draws), "a log probability", "that before", 1e-5, 1e-5)
    if len(_anchors(graph)) > 1:
        same = (draws == draws[..., :1, :]).all()
        demand(not same, "the same draw everywhere", "draws that differ")


@GRAPH.add("seed", "draws follow from torch's random numbers alone")
def _seed(graph: Graph) -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(3) if graph.device.type == "cuda" else torch.default_generator.manual_seed(3)
        drawn.append(graph.edges().expand((*graph.batch_shape, 200)).sample())
    demand(torch.equal(*drawn), "other edges from the same seed", "the same ones")


@GRAPH.add("device", "to(device) takes all tensors along, draws are made there, and no value is read back")
def _device(graph: Graph) -> None:
    for device in each_device():
        with device as like, pyro.validation_enabled(False):
            moved = graph.to(like.device)
            for edges in (moved.edges(), moved.edges(torch.arange(8, device=like.device) % graph.num_nodes)):
                draws = edges.sample((3,))
                demand(draws.device.type == like.device.type, f"edges on {draws.device}", f"{like.device}")
                demand(
                    edges.log_prob(draws).device.type == like.device.type,
                    "log probabilities elsewhere",
                    f"{like.device}",
                )
