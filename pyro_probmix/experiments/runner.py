"""A method of a configuration: its density, its graph, its training on all of the splits together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_probmix.experiments.config import Config
from pyro_probmix.experiments.problem import Problem
from pyro_probmix.graphs import CompleteGraph, Graph, LabelKernelGraph, NearestNeighborGraph, SameClassGraph
from pyro_probmix.inference import (
    Criterion,
    ExpectedLogLikelihood,
    Fit,
    LogExpectedLikelihood,
    fit,
)
from pyro_probmix.models import (
    METHODS,
    Categorical,
    ConditionalDensity,
    Gaussian,
    Method,
    ProbMix,
    build_density,
    initialise,
)

__all__ = [
    "CRITERIA",
    "GRAPHS",
    "FittedMethod",
    "build_graphs",
    "check_config",
    "choose_device",
    "fit_method",
    "graph_name",
    "method_density",
]


def _same_class(problem: Problem, config: Config) -> Graph:
    if not problem.classes:
        raise ValueError(
            "the graph 'same-class' was asked for a regression, expected classes. Try --graph label-kernel."
        )
    return SameClassGraph(problem.train.y)


def _label_kernel(problem: Problem, config: Config) -> Graph:
    if problem.classes:
        raise ValueError(
            "the graph 'label-kernel' was asked for classes, expected a regression. Try --graph same-class."
        )
    return LabelKernelGraph(problem.train.y, config.bandwidth)


#: Name -> the graph over the training rows of a problem.
GRAPHS: dict[str, Callable[[Problem, Config], Graph]] = {
    "complete": lambda problem, config: CompleteGraph(problem.train.x.shape[1]),
    "nearest": lambda problem, config: NearestNeighborGraph(problem.train.x, config.neighbors),
    "same-class": _same_class,
    "label-kernel": _label_kernel,
}
#: Name -> the criterion with so many particles.
CRITERIA: dict[str, Callable[[int], Criterion]] = {
    "expected": ExpectedLogLikelihood,
    "log-expected": LogExpectedLikelihood,
}


@dataclass(frozen=True)
class FittedMethod:
    """A method's trained density and how its training went."""

    density: ConditionalDensity
    fit: Fit


def build_graphs(config: Config, problem: Problem) -> dict[str, Graph]:
    """The graphs that a configuration's methods need, each built once; by name.

    Raises:
        ValueError: if the data have no such graph, for example fewer rows than neighbours.
    """
    check_config(config)
    names = {graph_name(config, method) for method in config.methods} - {None}
    return {name: GRAPHS[name](problem, config) for name in names if name is not None}


def graph_name(config: Config, method: str) -> str | None:
    """The name of a method's graph under a configuration; None where nothing is fused."""
    own = METHODS[method].graph
    return None if own is None else config.graph or own


def check_config(config: Config) -> None:
    """Raises ValueError for a name that is not there or a number out of range."""
    for option, names, known in (
        ("method", config.methods, METHODS),
        ("graph", (config.graph,) if config.graph else (), GRAPHS),
        ("criterion", (config.criterion,), CRITERIA),
    ):
        for name in names:
            if name not in known:
                raise ValueError(
                    f"unknown {option} {name!r}, expected one of {', '.join(known)}. Try --{option} {next(iter(known))}."
                )
    if not config.alpha > 0:
        raise ValueError(f"alpha is {config.alpha}, expected a value above 0. Try --alpha 0.1.")
    if not config.beta >= 0:
        raise ValueError(f"beta is {config.beta}, expected a value of at least 0. Try --beta 0.")
    for option, count in (
        ("epochs", config.epochs),
        ("particles", config.particles),
        ("neighbors", config.neighbors),
        ("chunk", config.chunk),
    ):
        if count is not None and count < 1:
            raise ValueError(
                f"{option} is {count}, expected at least 1. Try --{option} {5 if option == 'neighbors' else 1}."
            )


def choose_device(name: str) -> torch.device:
    """The device for "auto" (CUDA where there is one), "cpu" or "cuda".

    Raises:
        ValueError: for another name, or "cuda" where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"unknown device {name!r}, expected auto, cpu or cuda. Try --device auto.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but PyTorch finds no CUDA device here. Try --device cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def method_density(method: Method, config: Config, problem: Problem) -> ConditionalDensity:
    """A method's density, untrained, its replicas one for each split."""
    return build_density(
        method,
        num_features=problem.train.x.shape[-1],
        likelihood=Categorical if problem.classes else Gaussian,
        num_outputs=problem.num_outputs,
        widths=config.widths,
        mixing_layer=config.mixing_layer,
        activation=config.activation,
        dropout=config.dropout,
        replicas=len(config.splits),
    )


def fit_method(
    method: Method,
    config: Config,
    problem: Problem,
    graph: Graph | None,
    seed: int,
    on_epoch: Callable[[int, Tensor], None] | None = None,
) -> FittedMethod:
    """Trains a method's density on all splits of a configuration together.

    Args:
        method: what to train.
        config: how.
        problem, graph: the data and the method's graph, on the device to train on.
        seed: of the training noise; a split's initial weights follow from the configuration's seed and its number.
        on_epoch: see :func:`~pyro_probmix.fit`.
    """
    density = method_density(method, config, problem)
    initialise(density, [config.seed * 1_000_003 + split for split in config.splits])
    density.to(problem.train.x.device)
    degenerate = bool(problem.classes) and config.beta == 0
    process = ProbMix(
        density,
        at=method.site,
        graph=graph,
        alpha=config.alpha,
        beta=config.beta,
        pool=method.pool,
        labels=config.labels or ("expected" if degenerate else "sample"),  # type: ignore[arg-type] # checked by ProbMix
        batch_size=config.batch_size,
    ).to(problem.train.x.device)
    result = fit(
        process,
        problem.train.x,
        problem.train.y,
        epochs=config.epochs,
        validation=(problem.validation.x, problem.validation.y),
        learning_rate=config.learning_rate,
        criterion=CRITERIA[config.criterion](config.particles),
        num_samples=config.validation_samples,
        seed=seed,
        names=problem.names,
        on_epoch=on_epoch,
    )
    return FittedMethod(density, result)
