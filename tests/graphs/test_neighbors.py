"""Nearest neighbours of large tables: how many are found, repeated rows, memory, and when search is exact."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from pyro_probmix.graphs import NearestNeighborGraph, neighbors

K = 5


def table(data: str, n: int, d: int) -> Tensor:
    """Tables of which neighbours are hard to find in different ways."""
    if data == "uniform":
        return torch.rand(n, d)
    x = torch.randn(n, d)
    if data == "clusters, sorted":
        x += (20 * torch.randn(50, d)).repeat_interleave(n // 50, dim=0)
    if data == "repeated":
        x = x[torch.randint(n // 10, (n,))]
    if data == "one row half of the time":
        x[torch.randperm(n)[: n // 2]] = 0.0
    if data == "few values":
        x = torch.randint(2, (n, d)).double()
    if data == "offset":
        x = x.double() + 1e6
    return x


def recall(x: Tensor, found: Tensor, sample: int = 1000) -> float:
    """The share of a sample's found neighbours that are no farther than its K-th nearest by brute force."""
    rows = torch.randperm(len(x))[:sample]
    x = x.double() - x.double().mean(0)
    k = found.shape[-1]
    exact = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(x.numpy()).kneighbors(x[rows].numpy())[0][:, -1]
    distance = (x[found[rows]] - x[rows, None]).norm(dim=-1)
    return float((distance <= torch.from_numpy(exact)[:, None] + 1e-5).double().mean())


def assert_others(found: Tensor) -> None:
    """No row is its own neighbour, and each row's neighbours differ."""
    assert (found != torch.arange(len(found))[:, None]).all()
    assert found.sort(-1).values.diff(dim=-1).gt(0).all()
    assert found.min() >= 0 and found.max() < len(found)


@pytest.fixture
def exact_up_to_a_thousand_rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(neighbors, "EXACT_ROWS", 1000)
    yield


# Recall 0.95 is well under what is measured (0.98 and more), and far over what a broken index gives.
@pytest.mark.usefixtures("exact_up_to_a_thousand_rows")
@pytest.mark.parametrize(
    "data", ["uniform", "gaussian", "clusters, sorted", "repeated", "one row half of the time", "few values", "offset"]
)
def test_the_index_finds_nearly_all_neighbours(data: str) -> None:
    x = table(data, 6000, 12)
    graph = NearestNeighborGraph(x, K, search="approximate")
    assert graph.neighbors.shape == (6000, K) and graph.neighbors.dtype == torch.long
    assert_others(graph.neighbors)
    assert recall(x, graph.neighbors) > 0.95


def test_a_table_of_twenty_thousand_rows_is_found_by_either_search() -> None:
    x = table("gaussian", 20_000, 20)
    found = NearestNeighborGraph(x, K, "approximate").neighbors
    assert_others(found)
    assert recall(x, found) > 0.95
    assert recall(x, NearestNeighborGraph(x, K, "exact").neighbors) == 1.0


@pytest.mark.usefixtures("exact_up_to_a_thousand_rows")
def test_one_table_gives_one_graph_with_any_number_of_threads() -> None:
    x = table("gaussian", 3000, 8)
    first = NearestNeighborGraph(x, K, "approximate").neighbors
    before = torch.get_num_threads()
    try:
        torch.manual_seed(7)  # nothing is drawn from the caller's generator
        torch.set_num_threads(4)
        assert torch.equal(NearestNeighborGraph(x, K, "approximate").neighbors, first)
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("exact_up_to_a_thousand_rows")
def test_search_is_exact_for_few_rows_or_few_features() -> None:
    def brute_force(x: Tensor) -> Tensor:
        return torch.cdist(x, x).fill_diagonal_(torch.inf).topk(K, largest=False).indices.sort(-1).values

    for n, d in ((1000, 8), (2500, 5)):
        x = table("gaussian", n, d).double()
        assert torch.equal(NearestNeighborGraph(x, K).neighbors.sort(-1).values, brute_force(x))
    x = table("gaussian", 2500, 40).double()  # so many features that the index misses some
    auto = NearestNeighborGraph(x, K).neighbors
    assert torch.equal(auto, NearestNeighborGraph(x, K, "approximate").neighbors)
    exact = NearestNeighborGraph(x, K, "exact").neighbors
    assert torch.equal(exact.sort(-1).values, brute_force(x))
    assert not torch.equal(auto, exact)


@pytest.mark.usefixtures("exact_up_to_a_thousand_rows")
def test_every_replica_has_its_own_index() -> None:
    x = torch.stack([table("gaussian", 1500, 7), table("clusters, sorted", 1500, 7)])
    graph = NearestNeighborGraph(x, K, "approximate")
    assert graph.neighbors.shape == (2, 1500, K)
    for rows, found in zip(x, graph.neighbors, strict=True):
        assert torch.equal(found, NearestNeighborGraph(rows, K, "approximate").neighbors)
        assert recall(rows, found) > 0.95


@pytest.mark.parametrize("exact_rows", [0, 1000])
@pytest.mark.parametrize("distinct", [1, 2, 3, 40])
def test_repeated_rows_are_each_others_nearest(distinct: int, exact_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "EXACT_ROWS", exact_rows)
    which = torch.cat([torch.arange(distinct), torch.randint(distinct, (200,)), torch.tensor([distinct])])
    x = torch.randn(distinct + 1, 6)[which]  # the last row is there once
    found = NearestNeighborGraph(x, 4, "approximate").neighbors
    assert_others(found)
    assert recall(x, found) == 1.0
    # Equal rows share the incoming edges: none is everyone's neighbour.
    if distinct == 1:
        assert torch.bincount(found[:-1].flatten(), minlength=len(x))[:-1].max() <= 5


def test_all_other_rows_can_be_neighbours() -> None:
    x = torch.cat([torch.zeros(3, 6), torch.randn(4, 6)])
    found = NearestNeighborGraph(x, 6, "approximate").neighbors
    assert_others(found)
    assert (found.sort(-1).values == torch.tensor([[j for j in range(7) if j != i] for i in range(7)])).all()


@pytest.mark.usefixtures("exact_up_to_a_thousand_rows")
def test_more_neighbours_than_the_index_keeps_in_view_by_default() -> None:
    x = table("gaussian", 2000, 8)
    found = NearestNeighborGraph(x, 150, "approximate").neighbors
    assert_others(found)
    assert recall(x, found, sample=200) > 0.95


def test_an_unknown_search_is_refused() -> None:
    unknown: Any = "fast"
    with pytest.raises(ValueError, match=r"search='fast', expected 'auto' or .*Try search='auto'"):
        NearestNeighborGraph(torch.randn(9, 2), 3, unknown)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel does not tell the peak of memory")
@pytest.mark.parametrize("n", [10_000, 40_000])
def test_memory_grows_with_the_rows_and_not_with_their_square(n: int) -> None:
    d = 6
    x = table("gaussian", n, d)
    NearestNeighborGraph(x[:100], K, "approximate")  # what is loaded at first use does not count
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = resident_bytes("VmRSS")
    NearestNeighborGraph(x, K, "approximate")
    # 1.2 kB a row for the links, the copies of the features and the lists; every pair would take 4 n bytes a row.
    assert resident_bytes("VmHWM") - before < 8 * 2**20 + 1200 * n


def resident_bytes(field: str) -> int:
    match = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_million_rows_take_memory_in_proportion() -> None:
    n, d = 1_000_000, 20
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((n, d), dtype=np.float32))
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_bytes("VmRSS")
    found = NearestNeighborGraph(x, K).neighbors
    assert resident_bytes("VmHWM") - before < 1.5e9
    assert_others(found)
    assert recall(x, found, sample=500) > 0.95
