"""Runs an experiment: each method trains all splits together, is measured on the test rows and written down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from pyro_probmix.experiments.config import Config
from pyro_probmix.experiments.measures import measure
from pyro_probmix.experiments.problem import Problem
from pyro_probmix.experiments.results import RunFolder
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
    GaussianEmbedding,
    ProbMix,
    build_density,
    initialise,
)
from pyro_probmix.models.likelihoods import FLOOR

__all__ = [
    "CRITERIA",
    "GRAPHS",
    "FittedMethod",
    "build_graphs",
    "check_config",
    "choose_device",
    "default_methods",
    "fit_method",
    "resolve",
    "run",
]


def _nearest(problem: Problem, config: Config) -> Graph:
    rows = problem.train.x.shape[1]
    if rows <= config.neighbors:
        raise ValueError(
            f"{rows} training rows are fewer rows than neighbours, {config.neighbors} beside each. "
            "Try more rows, --graph complete, or --method without the Loc ones."
        )
    return NearestNeighborGraph(problem.train.x, config.neighbors)


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
    "nearest": _nearest,
    "same-class": _same_class,
    "label-kernel": _label_kernel,
}
#: Name -> the criterion with so many particles.
CRITERIA: dict[str, Callable[[int], Criterion]] = {
    "expected": ExpectedLogLikelihood,
    "log-expected": LogExpectedLikelihood,
}


#: What no option changes, for the record; see docs/choices.md.
CHOICES = {
    "optimizer": "Adam",
    "likelihood": "heteroscedastic Gaussian, or categorical",
    "floor of scales": FLOOR,
    "floor of the embedding's scale": GaussianEmbedding.FLOOR,
    "start of the embedding's scale, before its softplus": GaussianEmbedding.INITIAL_BIAS,
    "validation share of the training rows": 0.2,
    "standardised by": "mean and standard deviation of the rows trained on",
    "best epoch by": "validation NLL",
    "embedding": "sample",
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
    names = {_graph_name(config, method) for method in config.methods} - {None}
    return {name: GRAPHS[name](problem, config) for name in names if name is not None}


def run(
    config: Config,
    problem: Problem,
    graphs: dict[str, Graph],
    folder: RunFolder,
    on_epoch: Callable[[str, int, Tensor], None] | None = None,
) -> dict[str, FittedMethod]:
    """Trains and measures the methods of a configuration one after the other, and writes each one's numbers at once.

    Args:
        config: what to run.
        problem: its data, see :func:`load_problem`.
        graphs: its graphs, see :func:`build_graphs`.
        folder: where to write.
        on_epoch: called with the method, the epoch and the best validation NLL so far, [R], on the standardised target.

    Returns:
        the trained densities by method.
    """
    device = choose_device(config.device)
    methods = {name: {**asdict(METHODS[name]), "graph": _graph_name(config, name)} for name in config.methods}
    folder.write_config(config, {"ran_on": str(device), "choices": CHOICES, "methods_in_full": methods})
    problem = problem.to(device)
    graphs = {name: graph.to(device) for name, graph in graphs.items()}
    fitted = {}
    for name in config.methods:
        started = time.perf_counter()
        graph_name = _graph_name(config, name)
        fitted[name] = fit_method(name, config, problem, None if graph_name is None else graphs[graph_name], on_epoch)
        values = measure(fitted[name].density, problem, config.num_samples, config.seed)
        values["validation nll"] = fitted[name].fit.best_nll.tolist()
        values["best epoch"] = [float(epoch) for epoch in fitted[name].fit.best_epoch.tolist()]
        values["seconds"] = [(time.perf_counter() - started) / len(config.splits)] * len(config.splits)
        folder.add(config, name, values)
    return fitted


def resolve(config: Config, problem: Problem) -> Config:
    """The configuration with what the data decide filled in: task, beta, and how labels are perturbed."""
    classes = bool(problem.classes)
    beta = config.beta if config.beta is not None else 0.01 if classes else 0.0
    # Log-linear pools of one-hot labels have no normaliser: there, the expectation of Assumption 4.2.
    labels = config.labels or ("expected" if classes and beta == 0 else "sample")
    return replace(config, task="classification" if classes else "regression", beta=beta, labels=labels)


def _graph_name(config: Config, method: str) -> str | None:
    own = METHODS[method].graph
    return None if own is None else config.graph or own


def default_methods(config: Config) -> tuple[str, ...]:
    """All methods for the UCI sets, those without a separate variance network elsewhere, as in the paper."""
    starred = config.experiment == "uci"
    return tuple(name for name, method in METHODS.items() if starred or method.variance != "separate")


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
    repeated = [name for name in config.methods if config.methods.count(name) > 1]
    if repeated:
        raise ValueError(
            f"the method {repeated[0]} is asked for twice, expected each once. Try --method {repeated[0]}."
        )
    if not 0 < config.alpha < math.inf:
        raise ValueError(f"alpha is {config.alpha}, expected a finite value above 0. Try --alpha 0.1.")
    if config.beta is not None and not 0 <= config.beta < math.inf:
        raise ValueError(f"beta is {config.beta}, expected a finite value of at least 0. Try --beta 0.")
    for option, count in (("epochs", config.epochs), ("particles", config.particles), ("neighbors", config.neighbors)):
        if count < 1:
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


def fit_method(
    name: str,
    config: Config,
    problem: Problem,
    graph: Graph | None,
    on_epoch: Callable[[str, int, Tensor], None] | None = None,
) -> FittedMethod:
    """Builds the named method's density, its replicas one for each split, and trains it."""
    method = METHODS[name]
    classes = bool(problem.classes)
    density = build_density(
        method,
        num_features=problem.train.x.shape[-1],
        likelihood=Categorical if classes else Gaussian,
        num_outputs=problem.num_outputs,
        widths=config.widths,
        mixing_layer=config.mixing_layer,
        activation=config.activation,
        dropout=config.dropout,
        replicas=len(config.splits),
    )
    initialise(density, [config.seed * 1_000_003 + split for split in config.splits])
    density.to(problem.train.x.device)
    process = ProbMix(
        density,
        at=method.site,
        graph=graph,
        alpha=config.alpha,
        beta=config.beta or 0.0,
        pool=method.pool,
        labels=config.labels or "sample",  # type: ignore[arg-type] # checked by ProbMix
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
        seed=config.seed,
        names=problem.names,
        on_epoch=None if on_epoch is None else lambda epoch, best: on_epoch(name, epoch, best),
    )
    return FittedMethod(density, result)
