"""Sampling graphs: the distributions of edges and of partners, replicas, plates, memory, and what is refused."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from scipy import sparse
from sklearn.neighbors import KernelDensity
from torch import Tensor

from pyro_probmix.graphs import (
    CompleteGraph,
    Graph,
    LabelKernelGraph,
    NearestNeighborGraph,
    SameClassGraph,
    WeightedGraph,
)

N = 6  # rows of the small graphs
DRAWS = 20_000
FEATURES = torch.tensor([[0.0, 0.0], [1.0, 0.2], [0.1, 1.1], [5.0, 5.0], [5.2, 4.0], [2.0, 2.1]], dtype=torch.float64)
CLASSES = torch.tensor([2, 0, 2, 7, 0, 2])
RESPONSES = torch.tensor([[0.0, 1.0], [0.3, 0.9], [2.0, 2.0], [2.1, 1.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
UNEQUAL = torch.tensor(
    [
        [0.0, 2.0, 0.0, 1.0, 0.0, 0.5],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, 0.0, 3.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 4.0, 0.0],
        [0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ],
    dtype=torch.float64,
)
RING = torch.roll(torch.eye(N, dtype=torch.float64), 1, dims=1) + 0.5 * torch.eye(N, dtype=torch.float64)


def nearest(x: Tensor, k: int) -> Tensor:
    """The weights 1 / (nK) of the K nearest others, by brute force."""
    distance = (x[:, None] - x).square().sum(-1).fill_diagonal_(math.inf)
    return torch.zeros_like(distance).scatter(1, distance.topk(k, largest=False).indices, 1.0) / (k * len(x))


def same_class(y: Tensor) -> Tensor:
    same = (y[:, None] == y).double()
    return same / same.sum(1, keepdim=True) / len(y)


def label_kernel(y: Tensor, bandwidth: float) -> Tensor:
    kernel = torch.exp(-(y[:, None] - y).square().sum(-1) / (2 * bandwidth**2))
    return kernel / kernel.sum(1, keepdim=True) / len(y)


# Name -> (the graph, its weights w_ij by brute force).
CASES: dict[str, tuple[Callable[[], Graph], Tensor]] = {
    "complete": (lambda: CompleteGraph(N), torch.full((N, N), 1 / N**2, dtype=torch.float64)),
    "nearest": (lambda: NearestNeighborGraph(FEATURES, k=2), nearest(FEATURES, 2)),
    "class": (lambda: SameClassGraph(CLASSES), same_class(CLASSES)),
    "one class": (lambda: SameClassGraph(torch.zeros(N, dtype=torch.long)), same_class(torch.zeros(N))),
    "label kernel": (lambda: LabelKernelGraph(RESPONSES, 0.7), label_kernel(RESPONSES, 0.7)),
    "one response": (lambda: LabelKernelGraph(RESPONSES[:, 0], 0.5), label_kernel(RESPONSES[:, :1], 0.5)),
    "weighted": (lambda: WeightedGraph(UNEQUAL), UNEQUAL / UNEQUAL.sum()),
    "weighted, uniform anchors": (lambda: WeightedGraph(RING), RING / RING.sum()),
}
UNIFORM = [name for name in CASES if name not in ("complete", "weighted")]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def all_pairs(n: int = N) -> Tensor:
    return torch.cartesian_prod(torch.arange(n), torch.arange(n))


def frequencies(edges: Tensor, n: int = N) -> Tensor:
    """How often each pair came, ``[n, n]``."""
    i, j = edges.reshape(-1, 2).unbind(-1)
    return torch.bincount(i * n + j, minlength=n * n).reshape(n, n).double() / len(i)


def assert_frequencies(observed: Tensor, probs: Tensor, draws: int) -> None:
    """Within four standard errors of each probability; what has none never comes."""
    error = (probs * (1 - probs) / draws).sqrt()
    assert ((observed - probs).abs() <= 4 * error + 1e-12).all(), (observed - probs) / error


# The distribution of edges


@pytest.mark.parametrize("name", CASES)
def test_log_prob_is_the_log_weight_of_every_pair(name: str) -> None:
    build, weights = CASES[name]
    log_prob = build().edges().log_prob(all_pairs())
    torch.testing.assert_close(log_prob, weights.flatten().log(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_prob.exp().sum(), torch.tensor(1.0))


@pytest.mark.parametrize("name", CASES)
def test_edges_are_drawn_as_often_as_they_weigh(name: str) -> None:
    build, weights = CASES[name]
    edges = build().edges().sample((DRAWS,))
    assert edges.shape == (DRAWS, 2) and edges.dtype == torch.long
    assert_frequencies(frequencies(edges), weights, DRAWS)


@pytest.mark.parametrize("name", CASES)
def test_anchor_and_partner_probabilities_multiply_to_the_weight(name: str) -> None:
    build, weights = CASES[name]
    graph = build()
    i, j = all_pairs().unbind(-1)
    anchor = graph.log_anchor_prob(torch.arange(N)).exp()
    torch.testing.assert_close(anchor, weights.sum(1))
    partner = graph.log_partner_prob(i, j).exp().reshape(N, N)
    torch.testing.assert_close(anchor[:, None] * partner, weights)
    torch.testing.assert_close(partner[anchor > 0].sum(1), torch.ones(int((anchor > 0).sum())))


@pytest.mark.parametrize("name", CASES)
def test_partners_follow_their_conditional_distribution(name: str) -> None:
    build, weights = CASES[name]
    has_edges = weights.sum(1) > 0
    for anchor in torch.arange(N)[has_edges].tolist():
        anchors = torch.full((4, DRAWS // 4), anchor)
        partners = build().partners(anchors)
        assert partners.shape == anchors.shape
        observed = torch.bincount(partners.flatten(), minlength=N).double() / DRAWS
        assert_frequencies(observed, weights[anchor] / weights[anchor].sum(), DRAWS)


@pytest.mark.parametrize("name", CASES)
def test_an_edge_of_three_is_an_anchor_with_two_partners_of_its_own(name: str) -> None:
    """Independent given the anchor: p(i) p(j | i) p(k | i), for every triple, and as often as that."""
    build, weights = CASES[name]
    graph = build()
    anchor = weights.sum(1)
    conditional = weights / anchor.clamp(min=1e-300)[:, None]
    probs = anchor[:, None, None] * conditional[:, :, None] * conditional[:, None, :]
    triples = torch.cartesian_prod(*[torch.arange(N)] * 3)
    edges = graph.edges(num_fused=3)
    assert edges.event_shape == (3,)
    torch.testing.assert_close(edges.log_prob(triples), probs.flatten().log(), rtol=1e-9, atol=1e-9)
    drawn = edges.sample((DRAWS,))
    place = (drawn * torch.tensor([N * N, N, 1])).sum(-1)
    observed = torch.bincount(place, minlength=N**3).double() / DRAWS
    error = (probs.flatten() * (1 - probs.flatten()) / DRAWS).sqrt()
    assert ((observed - probs.flatten()).abs() <= 5 * error + 2 / DRAWS * (probs.flatten() > 0)).all()  # of 216 triples
    rows = torch.tensor([0, 2, 3, 5, 4, 1])
    given = graph.edges(rows, num_fused=3)
    drawn = given.sample((DRAWS // 10,))
    assert drawn.shape == (DRAWS // 10, 2, 3) and bool(given.expand((4, 2)).log_prob(drawn[0]).isfinite().all())
    if graph.minibatch == "pairs":
        assert bool((drawn == rows.reshape(3, 2).T).all())  # parts of a shuffled minibatch
        torch.testing.assert_close(given.log_prob(drawn), torch.zeros(DRAWS // 10, 2))
    elif graph.minibatch == "anchors":
        assert bool((drawn[..., 0] == rows[:2]).all())
        own = conditional[rows[:2]].log()
        expected = torch.stack([own[e, drawn[:, e, 1]] + own[e, drawn[:, e, 2]] for e in range(2)], -1)
        torch.testing.assert_close(given.log_prob(drawn), expected, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match=r"a multiple of 4 of rows, got 6"):
        graph.edges(rows, num_fused=4)


def test_the_label_kernel_is_that_of_c_mixup() -> None:
    """Yao et al. (2022) draw j by a Gaussian kernel density estimate around y_i, row i itself included."""
    graph = LabelKernelGraph(RESPONSES, 0.7)
    for i in range(N):
        density = np.exp(
            KernelDensity(kernel="gaussian", bandwidth=0.7).fit(RESPONSES[i : i + 1]).score_samples(RESPONSES)
        )
        partner = graph.log_partner_prob(torch.full((N,), i), torch.arange(N)).exp()
        np.testing.assert_allclose(partner, density / density.sum(), rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_pairs_outside_the_graph_have_no_probability(name: str) -> None:
    graph = CASES[name][0]()
    outside = torch.tensor([[0, N], [-1, 0], [N + 3, -2]])
    with pytest.raises(ValueError, match="support"):
        graph.edges().log_prob(outside)
    with pyro.validation_enabled(False):
        assert (graph.edges().log_prob(outside) == -math.inf).all()
        assert (graph.edges(torch.arange(N)).log_prob(outside) == -math.inf).all()


def test_one_seed_gives_the_same_edges_twice() -> None:
    for build, _ in CASES.values():
        torch.manual_seed(3)
        first = build().edges().sample((5,))
        torch.manual_seed(3)
        assert torch.equal(build().edges().sample((5,)), first)


# Edges given a minibatch's rows


def test_complete_graph_pairs_the_halves_of_a_minibatch() -> None:
    rows = torch.tensor([4, 0, 3, 1, 1, 5])
    edges = CompleteGraph(N).edges(rows)
    assert edges.batch_shape == (3,) and edges.event_shape == (2,)
    pairs = torch.tensor([[4, 1], [0, 1], [3, 5]])
    assert torch.equal(edges.sample(), pairs)
    assert torch.equal(edges.sample((7,)), pairs.expand(7, 3, 2))
    assert torch.equal(edges.log_prob(pairs), torch.zeros(3))
    assert torch.equal(edges.log_prob(pairs.flip(-1)), torch.full((3,), -math.inf))
    assert edges.log_prob(torch.tensor([4, 1])).tolist() == [0.0, -math.inf, -math.inf]


@pytest.mark.parametrize("name", UNIFORM)
def test_first_half_of_a_minibatch_anchors_the_edges(name: str) -> None:
    build, weights = CASES[name]
    rows = torch.tensor([4, 0, 3, 1, 1, 5])
    edges = build().edges(rows)
    assert edges.batch_shape == (3,)
    draws = edges.sample((DRAWS,))
    assert (draws[..., 0] == rows[:3]).all()
    conditional = weights / weights.sum(1, keepdim=True)
    for place, anchor in enumerate(rows[:3].tolist()):
        observed = torch.bincount(draws[:, place, 1], minlength=N).double() / DRAWS
        assert_frequencies(observed, conditional[anchor], DRAWS)
        of_anchor = torch.stack([torch.full((N,), anchor), torch.arange(N)], -1)  # [N, 2]
        log_prob = edges.log_prob(of_anchor[:, None])[:, place]
        torch.testing.assert_close(log_prob, conditional[anchor].log(), rtol=1e-9, atol=1e-9)
    other_anchor = torch.tensor([[5, 5], [5, 5], [5, 5]])
    assert (edges.log_prob(other_anchor) == -math.inf).all()


def test_minibatches_of_a_shuffled_epoch_follow_the_graphs_distribution() -> None:
    for name in ["complete", *UNIFORM]:
        build, weights = CASES[name]
        graph = build()
        epochs = DRAWS // (N // 2)
        rows = torch.rand(epochs, N).argsort(-1)
        if name != "complete":
            # Given as [epochs, B], the epochs act like replicas that share one graph.
            assert_frequencies(frequencies(graph.edges(rows).sample()), weights, epochs)
        else:
            # Halves of one shuffled batch without repeats: every pair of different rows alike.
            probs = (1 - torch.eye(N)) / (N * (N - 1))
            assert_frequencies(frequencies(graph.edges(rows).sample()), probs, epochs)


def test_unequal_anchors_take_only_the_number_of_rows() -> None:
    edges = WeightedGraph(UNEQUAL).edges(torch.tensor([1, 1, 5, 5]))
    assert edges.batch_shape == (2,)
    draws = edges.sample((DRAWS // 2,))
    assert_frequencies(frequencies(draws), UNEQUAL / UNEQUAL.sum(), DRAWS)
    expected = (UNEQUAL / UNEQUAL.sum()).flatten().log()
    log_prob = edges.log_prob(all_pairs()[:, None])  # [N * N, 2]
    torch.testing.assert_close(log_prob, expected[:, None].expand(-1, 2), rtol=1e-9, atol=1e-9)
    assert WeightedGraph(UNEQUAL).edges(torch.zeros(3, 4, dtype=torch.long)).batch_shape == (3, 2)


def test_an_anchor_without_edges_is_its_own_partner() -> None:
    graph = WeightedGraph(UNEQUAL)
    assert graph.partners(torch.tensor([1, 5])).tolist() == [1, 5]
    assert graph.log_partner_prob(torch.tensor([1]), torch.tensor([1])).item() == -math.inf


# Replicas

BATCHED: dict[str, tuple[Callable[[Tensor], Graph], Callable[[int], Tensor]]] = {
    "nearest": (lambda x: NearestNeighborGraph(x, k=2), lambda n: torch.randn(n, 3)),
    "class": (SameClassGraph, lambda n: torch.randint(3, (n,))),
    "label kernel": (lambda y: LabelKernelGraph(y, 0.8), lambda n: torch.randn(n, 2)),
}


@pytest.mark.parametrize("name", BATCHED)
def test_a_batched_graph_holds_every_replicas_own_edges(name: str) -> None:
    build, draw = BATCHED[name]
    data = [draw(N) for _ in range(3)]
    batched = build(torch.stack(data))
    assert batched.batch_shape == (3,) and batched.num_nodes == N
    edges = batched.edges()
    assert edges.batch_shape == (3, 1)
    pairs = all_pairs()
    rows = torch.stack([torch.randperm(N) for _ in range(3)])
    for shared in (rows[0], rows):
        assert batched.edges(shared).batch_shape == (3, N // 2)
    draws = edges.expand((3, DRAWS)).sample()
    for replica, own in enumerate(data):
        single = build(own)
        torch.testing.assert_close(edges.log_prob(pairs)[replica], single.edges().log_prob(pairs))
        given = batched.edges(rows).log_prob(pairs[:, None, None])[:, replica]  # [pairs, E]
        torch.testing.assert_close(given, single.edges(rows[replica]).log_prob(pairs[:, None]))
        assert_frequencies(frequencies(draws[replica]), single.edges().log_prob(pairs).exp().reshape(N, N), DRAWS)
    anchors = torch.randint(N, (3, 50))
    partners = batched.partners(anchors)
    assert partners.shape == anchors.shape
    assert (batched.log_partner_prob(anchors, partners) > -math.inf).all()
    assert batched.partners(anchors[0]).shape == (3, 50)


@pytest.mark.parametrize("name", BATCHED)
def test_replicas_of_a_batched_graph_are_those_of_the_data(name: str) -> None:
    build, data = BATCHED[name]
    values = torch.stack([data(12) for _ in range(3)])
    chosen = [2, 0, 0, 1]
    picked, built = build(values).replicas(chosen), build(values[chosen])
    assert picked.batch_shape == (4,)
    rows = torch.rand(4, 12).argsort(-1)
    torch.manual_seed(0)
    expected = built.edges(rows).sample((20,))
    torch.manual_seed(0)
    drawn = picked.edges(rows).sample((20,))
    assert torch.equal(drawn, expected)
    torch.testing.assert_close(picked.edges(rows).log_prob(drawn), built.edges(rows).log_prob(drawn))
    assert build(values).batch_shape == (3,)
    shared = CompleteGraph(12)
    assert shared.replicas(chosen) is shared


@pytest.mark.parametrize("name", BATCHED)
def test_extra_sample_dimensions_keep_the_replicas_apart(name: str) -> None:
    build, draw = BATCHED[name]
    graph = build(torch.stack([draw(N) for _ in range(3)]))
    for edges in (graph.edges().expand((3, 4)), graph.edges(torch.arange(N)).expand((2, 3, N // 2))):
        draws = edges.sample((5, 2))
        assert draws.shape == (5, 2, *edges.batch_shape, 2)
        assert (edges.log_prob(draws) > -math.inf).all()


def scored_edges(model: Callable[[], object]) -> tuple[Tensor, Tensor]:
    """The value and the log-probabilities of a model's site "edge", with Pyro's checks on."""
    with pyro.validation_enabled(True):
        trace = pyro.poutine.trace(model).get_trace()
        trace.compute_log_prob()
    site: dict[str, Any] = dict(trace.nodes["edge"])
    return site["value"], site["log_prob"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("with_rows", [False, True])
def test_edges_are_a_site_inside_plates(name: str, with_rows: bool) -> None:
    graph = CASES[name][0]()
    rows = torch.stack([torch.randperm(N)[:4] for _ in range(3)])

    def model() -> Tensor:
        with pyro.plate("replica", 3, dim=-2), pyro.plate("pairs", 2, dim=-1):
            edge: Tensor = pyro.sample("edge", graph.edges(rows if with_rows else None))
        return edge

    value, log_prob = scored_edges(model)
    assert value.shape == (3, 2, 2) and log_prob.shape == (3, 2)
    assert torch.isfinite(log_prob).all()
    if not with_rows:
        i, j = value.unbind(-1)
        torch.testing.assert_close(log_prob, CASES[name][1][i, j].log())


@pytest.mark.parametrize("with_rows", [False, True])
def test_a_batched_graphs_edges_are_a_site_inside_plates(with_rows: bool) -> None:
    graph = SameClassGraph(torch.randint(2, (3, N)))

    def model() -> None:
        with pyro.plate("replica", 3, dim=-2), pyro.plate("pairs", 2, dim=-1):
            pyro.sample("edge", graph.edges(torch.arange(4) if with_rows else None))

    value, log_prob = scored_edges(model)
    assert value.shape == (3, 2, 2) and log_prob.shape == (3, 2)
    assert torch.isfinite(log_prob).all()


def test_support_is_pairs_of_row_numbers() -> None:
    support = CompleteGraph(N).edges().support
    assert support.event_dim == 1 and support.is_discrete
    assert support.check(torch.tensor([[0, 5], [0, 6], [-1, 2]])).tolist() == [True, False, False]


# Building the graphs


def test_a_row_is_never_its_own_neighbour_even_when_repeated() -> None:
    x = torch.cat([torch.zeros(9, 2), torch.ones(2, 2)])
    graph = NearestNeighborGraph(x, k=3)
    assert (graph.neighbors != torch.arange(11)[:, None]).all()
    assert (graph.neighbors[:9] < 9).all()
    assert graph.neighbors[9, 0] == 10 and graph.neighbors[10, 0] == 9
    assert all(len(set(row)) == 3 for row in graph.neighbors.tolist())


@pytest.mark.parametrize("d", [2, 20])
def test_neighbours_are_exact_far_from_the_origin(d: int) -> None:
    x = torch.randn(200, d) + 1e7
    expected = nearest(x, 5)
    i, j = all_pairs(200).unbind(-1)
    found = NearestNeighborGraph(x.numpy(), k=5).log_partner_prob(i, j).reshape(200, 200) > -math.inf
    assert torch.equal(found, expected > 0)


def test_arrays_lists_and_float32_are_taken() -> None:
    pairs = all_pairs()
    expected = CASES["nearest"][0]().edges().log_prob(pairs)
    for x in (FEATURES.numpy(), FEATURES.tolist(), FEATURES.float()):
        torch.testing.assert_close(NearestNeighborGraph(x, k=2).edges().log_prob(pairs), expected)
    for y in (CLASSES.numpy(), CLASSES.tolist(), CLASSES.int()):
        torch.testing.assert_close(SameClassGraph(y).edges().log_prob(pairs), CASES["class"][1].flatten().log())
    assert SameClassGraph(CLASSES == 2).partners(torch.tensor([3])).item() in (1, 3, 4)
    assert LabelKernelGraph(CLASSES, 1.0).edges().log_prob(pairs).dtype == torch.float64


@pytest.mark.parametrize(
    "convert",
    [
        sparse.csr_matrix,
        sparse.csc_array,
        sparse.coo_array,
        sparse.lil_array,
        np.asarray,
        torch.from_numpy,
        lambda w: torch.from_numpy(w).float(),
        lambda w: torch.from_numpy(w).to_sparse_coo(),
        pytest.param(
            lambda w: torch.from_numpy(w).to_sparse_csr(),
            marks=pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning"),
        ),
    ],
)
def test_weights_come_in_many_forms(convert: Callable[[np.ndarray], object]) -> None:
    weights = UNEQUAL.numpy()
    expected = torch.from_numpy(weights / weights.sum()).flatten().log()
    log_prob = WeightedGraph(convert(weights)).edges().log_prob(all_pairs())
    torch.testing.assert_close(log_prob, expected, rtol=1e-6, atol=1e-6)


def test_repeated_and_explicitly_zero_entries_are_merged() -> None:
    matrix = sparse.coo_array(([1.0, 2.0, 0.0, 1.0], ([0, 0, 1, 1], [1, 1, 1, 0])), shape=(2, 2))
    graph = WeightedGraph(matrix)
    expected = torch.tensor([0.0, 0.75, 0.25, 0.0]).log()
    torch.testing.assert_close(graph.edges().log_prob(all_pairs(2)), expected)
    assert matrix.nnz == 4
    assert (graph.edges().sample((1000,))[:, 0] != graph.edges().sample((1000,))[:, 1]).any()


def test_weights_of_very_different_size_keep_their_conditional_distribution() -> None:
    weights = torch.tensor([[1e-200, 3e-200], [1e200, 1e200]])
    graph = WeightedGraph(weights)
    observed = torch.bincount(graph.partners(torch.zeros(DRAWS, dtype=torch.long)), minlength=2).double() / DRAWS
    assert_frequencies(observed, torch.tensor([0.25, 0.75]), DRAWS)


def test_a_graph_keeps_its_own_data() -> None:
    y, labels, weights = CLASSES.clone(), RESPONSES.numpy().copy(), UNEQUAL.clone()
    graphs = [SameClassGraph(y), LabelKernelGraph(labels, 1.0), WeightedGraph(weights)]
    before = [graph.edges().log_prob(all_pairs()) for graph in graphs]
    y.zero_()
    labels[:] = 0
    weights.fill_(1)
    for graph, log_prob in zip(graphs, before, strict=True):
        torch.testing.assert_close(graph.edges().log_prob(all_pairs()), log_prob, rtol=0, atol=0)


def test_moving_a_graph_leaves_the_old_one() -> None:
    graph = NearestNeighborGraph(FEATURES, k=2)
    moved = graph.to("meta")
    assert moved.device.type == "meta" and moved.neighbors.is_meta
    assert graph.device.type == "cpu" and not graph.neighbors.is_meta
    assert graph.edges().sample().shape == (2,)


# Memory and time


def test_a_complete_graph_costs_nothing() -> None:
    start = time.perf_counter()
    graph = CompleteGraph(10**12)
    edges = graph.edges().sample((100,))
    assert torch.isfinite(graph.edges().log_prob(edges)).all()
    assert time.perf_counter() - start < 1.0
    assert not any(isinstance(value, Tensor) for value in vars(graph).values())


def peak_megabytes(action: Callable[[], object]) -> float:
    """Peak memory that NumPy and Python allocate during the action."""
    tracemalloc.start()
    action()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


@pytest.mark.parametrize("d", [3, 20])
def test_the_neighbour_graph_never_needs_a_square_matrix(d: int) -> None:
    n = 20_000 if d == 3 else 6_000
    x = torch.randn(n, d)
    # One byte per pair of rows would already be n^2 bytes (381 and 34 MB).
    assert peak_megabytes(lambda: NearestNeighborGraph(x, k=5)) < n**2 / 2**20 / 3


def test_big_graphs_of_labels_and_weights_are_quick() -> None:
    n = 200_000
    rows = torch.randperm(n)[:32]
    labels = LabelKernelGraph(torch.randn(n), 0.1)
    band = sparse.eye_array(n) + sparse.eye_array(n, k=1)
    start = time.perf_counter()
    for graph in (labels, SameClassGraph(torch.randint(10, (n,))), WeightedGraph(band)):
        edges = graph.edges(rows)
        assert torch.isfinite(edges.log_prob(edges.sample())).all()
    assert time.perf_counter() - start < 10.0


# What is refused


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: CompleteGraph(0), ValueError, "num_nodes=0, expected an integer of at least 1"),
        (lambda: NearestNeighborGraph(FEATURES, k=0), ValueError, "k=0, expected an integer of at least 1"),
        (lambda: NearestNeighborGraph(FEATURES, k=6), ValueError, "6 rows hold no 6 others"),
        (lambda: NearestNeighborGraph(FEATURES[:3]), ValueError, "fewer rows than neighbours: 3 rows hold no 5"),
        (lambda: NearestNeighborGraph(FEATURES[:, 0]), ValueError, r"\[n, d\].*got \[6\]"),
        (
            lambda: NearestNeighborGraph(FEATURES.masked_fill(FEATURES > 5.1, math.nan)),
            ValueError,
            r"nan at index \[4, 0\]",
        ),
        (
            lambda: NearestNeighborGraph(torch.zeros(0, 8, 2)),
            ValueError,
            r"x has shape \[0, 8, 2\], expected data of at",
        ),
        (
            lambda: NearestNeighborGraph(torch.zeros(2, 8, 0)),
            ValueError,
            r"x has shape \[2, 8, 0\], expected data of at",
        ),
        (lambda: NearestNeighborGraph(FEATURES / 0), ValueError, "must be finite"),
        (lambda: NearestNeighborGraph([["a", "b"]] * 9), TypeError, "x must hold numbers"),
        (lambda: SameClassGraph(FEATURES[:, 0]), TypeError, "integer classes, got torch.float64"),
        (lambda: SameClassGraph(["cat", "dog"]), TypeError, "y must hold numbers"),
        (lambda: SameClassGraph(torch.zeros(2, 3, 1, dtype=torch.long)), ValueError, r"\[n\] or \[R, n\]"),
        (lambda: SameClassGraph(torch.zeros(0, dtype=torch.long)), ValueError, "at least one row"),
        (lambda: LabelKernelGraph(RESPONSES, 0.0), ValueError, "bandwidth must be a positive number, got 0.0"),
        (lambda: LabelKernelGraph(RESPONSES, -1.0), ValueError, "bandwidth"),
        (lambda: LabelKernelGraph(RESPONSES, math.nan), ValueError, "bandwidth"),
        (lambda: LabelKernelGraph(RESPONSES * math.inf, 1.0), ValueError, "y must be finite"),
        (lambda: LabelKernelGraph(torch.zeros(2, 2, 2, 2), 1.0), ValueError, r"\[R, n, d_y\]"),
        (lambda: WeightedGraph(-UNEQUAL), ValueError, "must not be negative, got -4"),
        (lambda: WeightedGraph(UNEQUAL * math.nan), ValueError, "must be finite"),
        (lambda: WeightedGraph(UNEQUAL + math.inf), ValueError, "must be finite"),
        (lambda: WeightedGraph(UNEQUAL[:3]), ValueError, r"square matrix, got shape \[3, 6\]"),
        (lambda: WeightedGraph(sparse.csr_array((4, 4))), ValueError, "All weights are zero"),
        (lambda: WeightedGraph([["a"]]), TypeError, "matrix of numbers"),
    ],
)
def test_bad_data_is_refused_in_one_sentence(build: Callable[[], Graph], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        build()
    assert "Try " in str(caught.value)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (torch.arange(5), ValueError, "even number of rows, got 5"),
        (torch.arange(0), ValueError, "even number of rows, got 0"),
        (torch.tensor(3), ValueError, "even number of rows, got a single number"),
        (torch.zeros(4, dtype=torch.float16), TypeError, "row numbers, got torch.float16"),
        ([0, 1], TypeError, "row numbers, got list"),
    ],
)
def test_bad_rows_are_refused_in_one_sentence(name: str, rows: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        CASES[name][0]().edges(rows)
    assert "Try " in str(caught.value)


@pytest.mark.parametrize("name", ["complete", *UNIFORM])
def test_rows_of_another_data_set_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"0, ..., 5 for a graph of 6 rows, got 6.*Try "):
        CASES[name][0]().edges(torch.tensor([1, 6, 1, 1]))


def test_rows_of_another_number_of_replicas_are_refused() -> None:
    graph = SameClassGraph(torch.zeros(3, N, dtype=torch.long))
    with pytest.raises(ValueError, match=r"rows of shape \[2, 4\].*3 replicas.*Try rows of shape \[B\] or \[3, B\]"):
        graph.edges(torch.zeros(2, 4, dtype=torch.long))


def test_rows_on_another_device_are_refused() -> None:
    graph = SameClassGraph(CLASSES)
    with pytest.raises(ValueError, match=r"rows are on meta, the graph on cpu.*Try graph.to"):
        graph.edges(torch.arange(4, device="meta"))


@pytest.mark.parametrize("name", CASES)
def test_drawing_and_scoring_never_read_a_value_back(name: str) -> None:
    graph = CASES[name][0]().to("meta")  # where nothing has a value to read
    with pyro.validation_enabled(False):
        for edges in (graph.edges(), graph.edges(torch.arange(N, device="meta")).expand((4, N // 2))):
            draws = edges.sample((5,))
            assert draws.shape == (5, *edges.batch_shape, 2)
            assert edges.log_prob(draws).shape == (5, *edges.batch_shape)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_on_cuda_edges_are_drawn_without_waiting_for_the_device(name: str) -> None:
    build, weights = CASES[name]
    graph = build().to("cuda")
    rows = torch.arange(N, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pyro.validation_enabled(False):
            draws = graph.edges().sample((DRAWS,))
            log_prob = graph.edges().log_prob(draws)
            given = graph.edges(rows).expand((4, N // 2))
            given_log_prob = given.log_prob(given.sample())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(log_prob).all() and torch.isfinite(given_log_prob).all()
    assert_frequencies(frequencies(draws.cpu()), weights, DRAWS)


@pytest.mark.parametrize(
    "graph", [lambda x: NearestNeighborGraph(x, k=1), lambda x: LabelKernelGraph(x, bandwidth=1.0)]
)
def test_sparse_features_are_those_of_a_dense_tensor(graph):
    x = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0], [4.0, 0.0]])
    edges = torch.tensor([[0, 1], [2, 3], [1, 2]])
    assert torch.equal(graph(x.to_sparse()).edges().log_prob(edges), graph(x).edges().log_prob(edges))
