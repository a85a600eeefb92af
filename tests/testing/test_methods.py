"""The check of a method: ours pass, and one that is broken on purpose is named by the invariant that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_probmix import CompleteGraph, ExpectedLogLikelihood
from pyro_probmix.graphs import Graph
from pyro_probmix.inference.methods import CRITERIA, GRAPHS
from pyro_probmix.models import BEYOND, LIKELIHOODS, METHODS, Gaussian, Method
from pyro_probmix.testing import check_method
from pyro_probmix.testing.methods import METHOD
from tests.testing.broken import assert_breaks

#: One of each kind; the others differ in a graph or a site.
KINDS = (
    "ERM",
    "LocMix",
    "LocM-ProbMix*",
    "C-ProbMix",
    "RegProbMix",
    "4M-ProbMix",
    "LinProbMix-t",
    "M-ProbMix-log",
    "3xERM",
)
CASES = [pytest.param(name, marks=[] if name in KINDS else [pytest.mark.slow]) for name in [*METHODS, *BEYOND, "3xERM"]]


@pytest.mark.parametrize("name", CASES)
def test_our_methods_pass(name: str) -> None:
    check_method(name)


def test_a_method_over_classes_passes() -> None:
    check_method(Method("y", "same-class"))


class NoNumber(ExpectedLogLikelihood):
    def average(self, log_prob: Tensor) -> Tensor:
        return super().average(log_prob) * torch.nan


class Coupled(ExpectedLogLikelihood):
    """Puts the mean over the replicas in each one's place."""

    def average(self, log_prob: Tensor) -> Tensor:
        own = super().average(log_prob)
        return own.mean(0, keepdim=True).expand_as(own)


class OfNumpy(CompleteGraph):
    """Partners of a random order that no seed of torch decides."""

    def __init__(self, num_nodes: int) -> None:
        Graph.__init__(self, num_nodes)

    def partners(self, anchors: Tensor) -> Tensor:
        return torch.as_tensor(np.random.randint(self.num_nodes, size=tuple(anchors.shape)))


class Counting(Gaussian):
    """Has a state that is no buffer, and so is in no file."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.calls = 0

    def density(self, raw: Tensor) -> Any:
        self.calls += self.training
        return super().density(raw * (1 + 0.01 * self.calls))


class Broken(Gaussian):
    """Fails where it is asked for a prediction."""

    def density(self, raw: Tensor) -> Any:
        if not self.training and raw.shape[-2] == 7:
            raise RuntimeError("no prediction")
        return super().density(raw)


class Hidden(Gaussian):
    """A shift of predictions that is in no file."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.shift = float(np.random.standard_normal())

    def density(self, raw: Tensor) -> Any:
        return super().density(raw if self.training else raw + self.shift)


def of_numbers(x: Tensor, y: Tensor, neighbors: int, bandwidth: float) -> Graph:
    if not y.is_floating_point():
        raise TypeError("expected numbers")
    return CompleteGraph(x.shape[-2])


BROKEN: dict[str, list[Method]] = {
    "parts": [
        Method("y", "nowhere"),
        Method("y", None),
        Method(None, "complete"),
        Method("h", "complete"),  # type: ignore[arg-type]
        Method("y", "complete", pool="geometric"),  # type: ignore[arg-type]
        Method("y", "complete", num_fused=1),
        Method(add_unfused_rows=True),
        Method(likelihood="normal"),
        Method(criterion="best"),
        Method("y", "complete", alpha=0.0),
        Method(draws=(0, 1)),
        Method(members=0),
        Method("z", "complete", variance="none"),  # type: ignore[arg-type]
    ],
    "training": [Method("y", "complete", criterion="no number")],
    "replicas": [Method("y", "complete", criterion="coupled")],
    "seed": [Method("y", "of numpy")],
    "checkpoint": [Method("y", "complete", likelihood="counting")],
    "prediction": [Method("y", "complete", likelihood="broken")],
    "saving": [Method("y", "complete", likelihood="hidden")],
    "classes": [Method("y", "of numbers")],
}


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CRITERIA, "no number", NoNumber)
    monkeypatch.setitem(CRITERIA, "coupled", Coupled)
    monkeypatch.setitem(GRAPHS, "of numpy", lambda x, y, neighbors, bandwidth: OfNumpy(x.shape[-2]))
    monkeypatch.setitem(GRAPHS, "of numbers", of_numbers)
    for name, head in (("counting", Counting), ("broken", Broken), ("hidden", Hidden)):
        monkeypatch.setitem(LIKELIHOODS, name, head)


def test_each_invariant_is_broken_in_turn() -> None:
    assert set(BROKEN) == set(METHOD.all)


@pytest.mark.filterwarnings("ignore:the loss was not finite:RuntimeWarning")
@pytest.mark.parametrize(("invariant", "method"), [(name, method) for name, all_ in BROKEN.items() for method in all_])
def test_a_broken_method_is_named_by_its_invariant(parts: None, invariant: str, method: Method) -> None:
    assert_breaks(invariant, "the method", lambda: check_method(method))


def test_a_method_of_a_name_is_named_by_it(parts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "Own", Method("y", "of numpy"))
    check: Callable[[], None] = lambda: check_method("Own")  # noqa: E731
    assert_breaks("seed", "Own", check)
