"""The check of a graph: ours pass, and one that is broken on purpose is named by the invariant that it breaks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_probmix import CompleteGraph, LabelKernelGraph, NearestNeighborGraph, SameClassGraph, WeightedGraph
from pyro_probmix.graphs import EdgeDistribution, Graph
from pyro_probmix.testing import check_graph
from pyro_probmix.testing.graphs import GRAPH
from tests.testing.broken import assert_breaks

GRAPHS: dict[str, Callable[[], Graph]] = {
    "complete": lambda: CompleteGraph(7),
    "complete, large": lambda: CompleteGraph(1_000_000),
    "one row": lambda: CompleteGraph(1),
    "nearest": lambda: NearestNeighborGraph(torch.randn(40, 2), 3),
    "nearest, large": lambda: NearestNeighborGraph(torch.randn(20_000, 2), 3),
    "nearest, replicas": lambda: NearestNeighborGraph(torch.randn(3, 40, 2), 3),
    "classes": lambda: SameClassGraph(torch.tensor([0, 1, 1, 0, 2, 1])),
    "classes, replicas": lambda: SameClassGraph(torch.randint(3, (2, 60))),
    "label kernel": lambda: LabelKernelGraph(torch.randn(30), 0.5),
    "label kernel, replicas": lambda: LabelKernelGraph(torch.randn(2, 30, 1), 0.5),
    "weighted": lambda: WeightedGraph(torch.rand(9, 9) * (torch.rand(9, 9) > 0.5)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_our_graphs_pass(name: str) -> None:
    check_graph(GRAPHS[name]())


class Window(Graph):
    """A sound graph, to break: edges to the rows at most ``width`` before or after, or to the row itself."""

    def __init__(self, num_nodes: int = 9, width: int = 1, **options: Any) -> None:
        super().__init__(num_nodes, **options)
        self.width = width

    def window(self, i: Tensor) -> tuple[Tensor, Tensor]:
        first = (i - self.width).clamp(min=0)
        return first, (i + self.width).clamp(max=self.num_nodes - 1) - first + 1

    def partners(self, anchors: Tensor) -> Tensor:
        first, count = self.window(anchors)
        return first + (torch.rand(anchors.shape, device=anchors.device) * count).long()

    def log_partner_prob(self, i: Tensor, j: Tensor) -> Tensor:
        first, count = self.window(i)
        inside = (j >= first) & (j < first + count)
        return torch.where(inside, -count.log(), -math.inf)


def test_a_graph_of_ones_own_passes() -> None:
    check_graph(Window())
    check_graph(Window(3000, 40))


class Floating(Window):
    def partners(self, anchors: Tensor) -> Tensor:
        return super().partners(anchors).float()


class OneForAll(Window):
    def partners(self, anchors: Tensor) -> Tensor:
        return super().partners(anchors[..., 0])


class Beyond(Window):
    def partners(self, anchors: Tensor) -> Tensor:
        return super().partners(anchors) + self.width


class Integers(Window):
    def log_partner_prob(self, i: Tensor, j: Tensor) -> Tensor:
        return super().log_partner_prob(i, j).clamp(min=-9).long()


class WholeWindow(Window):
    """Forgets that the first and last rows have fewer neighbours."""

    def log_partner_prob(self, i: Tensor, j: Tensor) -> Tensor:
        inside = super().log_partner_prob(i, j) > -math.inf
        return torch.where(inside, -math.log(2 * self.width + 1), -math.inf)


class NotANumber(Window):
    def log_partner_prob(self, i: Tensor, j: Tensor) -> Tensor:
        return super().log_partner_prob(i, j).masked_fill(i == j + 5, math.nan)


class MissingAnchor(Window):
    def log_anchor_prob(self, i: Tensor) -> Tensor:
        return super().log_anchor_prob(i) + math.log(0.9)


class SteepAnchors(Window):
    """Draws anchors in proportion to their number, which a minibatch's rows are not."""

    def __init__(self) -> None:
        weights = torch.arange(1, 10, dtype=torch.float64)
        super().__init__(anchor_probs=weights / weights.sum())


class Skewed(Window):
    def partners(self, anchors: Tensor) -> Tensor:
        first, count = self.window(anchors)
        return first + (torch.rand(anchors.shape, device=anchors.device) ** 1.3 * count).long()


class OneDraw(Window):
    """One random number for all anchors of a call."""

    def partners(self, anchors: Tensor) -> Tensor:
        first, count = self.window(anchors)
        return first + (torch.rand((), device=anchors.device) * count).long()


class NeverItself(Window):
    """Draws no row as its own partner, but says that it does."""

    def partners(self, anchors: Tensor) -> Tensor:
        j = super().partners(anchors)
        return torch.where(j == anchors, torch.where(anchors > 0, anchors - 1, anchors + 1), j)


class FirstRows(Window):
    def anchors(self, shape: Any) -> Tensor:
        return super().anchors(shape).clamp(max=self.num_nodes - 2)


class Turned(Window):
    def edges(self, rows: Tensor | None = None, num_fused: int = 2) -> EdgeDistribution:
        return super().edges(None if rows is None else rows.flip(-1), num_fused)


class TableOutside(Window):
    """Keeps what differs between its replicas where ``replicas`` does not look."""

    def __init__(self) -> None:
        super().__init__(batch_shape=(2,))
        self.shift = {"rows": torch.tensor([[1], [2]])}

    def partners(self, anchors: Tensor) -> Tensor:
        return (anchors + self.shift["rows"].to(anchors.device)) % self.num_nodes

    def log_partner_prob(self, i: Tensor, j: Tensor) -> Tensor:
        return torch.where(j == (i + self.shift["rows"].to(i.device)) % self.num_nodes, 0.0, -math.inf)


class _Same(EdgeDistribution):
    def expand(self, batch_shape: Any, _instance: Any = None) -> EdgeDistribution:
        expanded = super().expand(batch_shape)
        one = EdgeDistribution(self.graph, ())
        expanded.sample = lambda sample_shape=(): one.sample().expand(*sample_shape, *batch_shape, 2)  # type: ignore[method-assign]
        return expanded


class OneEdge(Window):
    def edges(self, rows: Tensor | None = None, num_fused: int = 2) -> EdgeDistribution:
        return super().edges(rows, num_fused) if rows is not None else _Same(self, ())


class OfNumpy(Window):
    def partners(self, anchors: Tensor) -> Tensor:
        first, count = self.window(anchors)
        share = torch.as_tensor(np.random.random_sample(tuple(anchors.shape)))
        return first + (share * count).long()


class OnTheCpu(Window):
    def partners(self, anchors: Tensor) -> Tensor:
        first, count = self.window(anchors)
        return first + (torch.rand(anchors.shape) * count).long()


class ReadingBack(Window):
    def log_partner_prob(self, i: Tensor, j: Tensor) -> Tensor:
        if int(i.max()) >= self.num_nodes:
            raise ValueError("no such row")
        return super().log_partner_prob(i, j)


BROKEN: dict[str, list[Callable[[], Graph]]] = {
    "shape": [Floating, OneForAll, Beyond, Integers],
    "normalisation": [WholeWindow, NotANumber, MissingAnchor],
    "minibatch": [SteepAnchors, lambda: Window(minibatch="pairs"), lambda: Window(minibatch="halves")],
    "draws": [Skewed, OneDraw, NeverItself, FirstRows],
    "edges": [Turned],
    "replicas": [TableOutside],
    "expansion": [OneEdge],
    "seed": [OfNumpy],
    "device": [OnTheCpu, ReadingBack],
}


def test_each_invariant_is_broken_in_turn() -> None:
    assert set(BROKEN) == set(GRAPH.all)


@pytest.mark.parametrize(("invariant", "make"), [(name, make) for name, all_ in BROKEN.items() for make in all_])
def test_a_broken_graph_is_named_by_its_invariant(invariant: str, make: Callable[[], Graph]) -> None:
    graph = make()
    assert_breaks(invariant, type(graph).__name__, lambda: check_graph(graph))


def test_a_partner_of_no_probability_in_a_large_graph_is_found() -> None:
    class Wider(Window):
        def partners(self, anchors: Tensor) -> Tensor:
            return (super().partners(anchors) + 1).clamp(max=self.num_nodes - 1)

    assert_breaks("draws", "Wider", lambda: check_graph(Wider(3000, 40)))


def test_draws_that_depend_on_one_another_are_found() -> None:
    class Cycling(Window):
        """Takes the partners in turn, each as often as it should."""

        def partners(self, anchors: Tensor) -> Tensor:
            first, count = self.window(anchors)
            return first + torch.arange(anchors.numel(), device=anchors.device).reshape(anchors.shape) % count

    class OneForTheLeft(Window):
        """The same partners for all draws to the left."""

        def partners(self, anchors: Tensor) -> Tensor:
            first, count = self.window(anchors)
            return first + (torch.rand(anchors.shape[-1:], device=anchors.device) * count).long()

    assert_breaks("draws", "Cycling", lambda: check_graph(Cycling()))
    assert_breaks("draws", "OneForTheLeft", lambda: check_graph(OneForTheLeft()))
