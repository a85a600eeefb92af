"""The graph, process and criterion of a named method, for experiments and estimators alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pyro_probmix.fusing.perturbation import Labels
from pyro_probmix.graphs import CompleteGraph, Graph, LabelKernelGraph, NearestNeighborGraph, SameClassGraph
from pyro_probmix.inference.criteria import Criterion, ExpectedLogLikelihood, LogExpectedLikelihood
from pyro_probmix.inference.criteria.beta_nll import BetaNLL
from pyro_probmix.inference.criteria.crps import CRPS
from pyro_probmix.models import ConditionalDensity, Method, ProbMix
from pyro_probmix.models.similarity import SimilarityKernel

__all__ = ["CRITERIA", "GRAPHS", "build_criterion", "build_graph", "build_process", "only_regression"]

#: Name -> the graph over rows, from x [n, d] or [R, n, d], y, a number of neighbours and a bandwidth.
GRAPHS: dict[str, Callable[[Tensor, Tensor, int, float], Graph]] = {
    "complete": lambda x, y, neighbors, bandwidth: CompleteGraph(x.shape[-2]),
    "nearest": lambda x, y, neighbors, bandwidth: NearestNeighborGraph(x, neighbors),
    "same-class": lambda x, y, neighbors, bandwidth: SameClassGraph(y),
    "label-kernel": lambda x, y, neighbors, bandwidth: LabelKernelGraph(y, bandwidth),
}
#: Name -> the criterion with so many particles and draws of the embedding.
CRITERIA: dict[str, Callable[..., Criterion]] = {
    "expected": ExpectedLogLikelihood,
    "log-expected": LogExpectedLikelihood,
    "beta-nll": BetaNLL,
    "crps": CRPS,
}


def build_graph(name: str | None, x: Tensor, y: Tensor, *, neighbors: int = 5, bandwidth: float = 1.0) -> Graph | None:
    """The graph of a name over rows; None for no name.

    Args:
        name: in ``GRAPHS``, as ``Method.graph``.
        x: [n, d], or [R, n, d] for the rows of each replica.
        y: their responses, [n, d_y] or [n] for classes, with replicas also [R, ...].
        neighbors: K of the neighbour graph.
        bandwidth: of the label-kernel graph, in units of y.

    Raises:
        ValueError: if there is no graph of that name, or it does not fit the rows.

    Example:
        >>> import torch
        >>> from pyro_probmix.inference.methods import build_graph
        >>> type(build_graph("nearest", torch.randn(9, 2), torch.randn(9, 1), neighbors=3)).__name__
        'NearestNeighborGraph'
    """
    if name is None:
        return None
    if name not in GRAPHS:
        raise ValueError(f"unknown graph {name!r}, expected one of {', '.join(GRAPHS)}. Try 'complete'.")
    return GRAPHS[name](x, y, neighbors, bandwidth).to(x.device)


def build_process(
    method: Method,
    density: ConditionalDensity,
    graph: Graph | None,
    *,
    alpha: float | Tensor,
    beta: float | Tensor,
    labels: Labels,
    batch_size: int | None,
    one_weight: bool = False,
) -> ProbMix:
    """The process by which a method trains a density.

    Args:
        method: decides on all that is not given here.
        density: as :func:`~pyro_probmix.build_density` makes it for that method.
        graph: see :func:`build_graph`.
        alpha, beta, labels, batch_size, one_weight: see :class:`~pyro_probmix.ProbMix`.

    Example:
        >>> from pyro_probmix import build_density, find_method
        >>> from pyro_probmix.inference.methods import build_process
        >>> from pyro_probmix.models import Gaussian
        >>> method = find_method("4-ProbMix")
        >>> density = build_density(method, num_features=2, likelihood=Gaussian)
        >>> build_process(method, density, None, alpha=0.1, beta=0.0, labels="sample", batch_size=32).num_fused
        4
    """
    shape: Any = alpha
    if method.similarity is not None:
        shape = SimilarityKernel(largest=alpha, of=method.similarity)
    return ProbMix(
        density,
        at=method.site,
        graph=graph,
        alpha=shape,
        beta=beta,
        pool=method.pool,
        labels=labels,
        batch_size=batch_size,
        num_fused=method.num_fused,
        add_unfused_rows=method.add_unfused_rows,
        one_weight=one_weight,
    )


def build_criterion(method: Method, default: str = "expected", particles: int = 1) -> Criterion:
    """The criterion that a method trains by, for a density with replicas.

    Args:
        method: may have a criterion and draws of its own.
        default: the name in ``CRITERIA`` for a method that has none.
        particles: K for a method that has no draws of its own.

    Raises:
        ValueError: if there is no criterion of that name.

    Example:
        >>> from pyro_probmix import find_method
        >>> from pyro_probmix.inference.methods import build_criterion
        >>> build_criterion(find_method("M-ProbMix-log")).num_particles
        8
    """
    name = method.criterion or default
    if name not in CRITERIA:
        raise ValueError(f"unknown criterion {name!r}, expected one of {', '.join(CRITERIA)}. Try 'expected'.")
    return CRITERIA[name](*(method.draws or (particles, 1)), max_plate_nesting=2)  # replicas and rows


def only_regression(method: Method, default: str | None = None) -> str | None:
    """What of a method is for numbers and not for classes: its likelihood, criterion or pseudo-rows; None for nothing."""
    wanted = (method.criterion, default, method.pseudo_rows)
    for_numbers = (name for name in ("beta-nll", "crps", "anchored", "tangent") if name in wanted)
    return method.likelihood or next(for_numbers, None)
