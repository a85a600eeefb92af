"""The training of a method under a configuration: its density, its graph, all splits together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyro_probmix.experiments.config import Config
from pyro_probmix.experiments.config.grid import SINGLE, Candidate
from pyro_probmix.experiments.data.problem import Part, Problem
from pyro_probmix.inference import Checkpoint, Fit, fit
from pyro_probmix.inference.methods import build_criterion, build_graph, build_process, only_regression
from pyro_probmix.inference.pseudo_rows import with_pseudo_rows
from pyro_probmix.inference.sealed import under
from pyro_probmix.models import (
    LIKELIHOODS,
    METHODS,
    Categorical,
    ConditionalDensity,
    Gaussian,
    Method,
    ProbMix,
    build_density,
    initialise,
)
from pyro_probmix.names import shown

__all__ = [
    "CHOICES",
    "FittedMethod",
    "check_method",
    "choose_device",
    "default_methods",
    "fit_method",
    "graph_name",
    "method_density",
    "resolve",
    "seed_of",
    "select_replicas",
]


#: Choices that no option changes, for a run's record; see docs/choices.md.
CHOICES = {
    "optimizer": "Adam",
    "likelihood": "heteroscedastic Gaussian, or categorical, unless the method has its own",
    "validation share of the training rows": 0.2,
    "standardised by": "mean and standard deviation of the rows trained on",
    "embedding": "sample",
}


@dataclass(frozen=True)
class FittedMethod:
    """A method's trained density and the record of its training.

    Attributes:
        density: with the weights of the best epoch.
        fit: the record, with the weights of the last epoch where these are scored.
    """

    density: ConditionalDensity
    fit: Fit

    def at_last(self) -> FittedMethod:
        """The density with the weights of its last epoch, in a record that says so."""
        assert self.fit.last is not None
        density = copy.deepcopy(self.density)
        density.load_state_dict(under(self.fit.last, "density."))
        epochs = torch.full_like(self.fit.best_epoch, len(self.fit.train_loss))
        return FittedMethod(density, replace(self.fit, best_epoch=epochs, best_nll=self.fit.validation_nll[-1]))


def check_method(method: Method, config: Config, problem: Problem) -> None:
    """Raises ValueError if a method cannot be trained on the data: for lack of such a graph, likelihood or batch."""
    rows, name = problem.train.x.shape[1], graph_name(config, method)
    if config.batch_size is not None and config.batch_size % method.num_fused:
        raise ValueError(
            f"batch_size is {config.batch_size}, expected a multiple of the {method.num_fused} rows that a method fuses. "
            f"Try batch_size {max(1, config.batch_size // method.num_fused) * method.num_fused}."
        )
    numbers = only_regression(method, config.criterion)
    if numbers is not None and problem.classes:
        raise ValueError(
            f"{shown(numbers)} was asked for classes, expected a regression. Try a --method or --criterion without it."
        )
    if name == "nearest" and rows <= config.neighbors:
        raise ValueError(
            f"{rows} training rows are fewer rows than neighbours, {config.neighbors} beside each. "
            "Try more rows, --graph complete, or --method without the Loc ones."
        )
    if name == "same-class" and not problem.classes:
        raise ValueError(
            "the graph 'same-class' was asked for a regression, expected classes. Try --graph label-kernel."
        )
    if name == "label-kernel" and problem.classes:
        raise ValueError(
            "the graph 'label-kernel' was asked for classes, expected a regression. Try --graph same-class."
        )


def resolve(config: Config, problem: Problem) -> Config:
    """The configuration with the defaults that depend on the data: task, beta, and how labels are perturbed."""
    classes = bool(problem.classes)
    beta = config.beta if config.beta is not None else 0.01 if classes else 0.0
    # Log-linear pools of one-hot labels have no normaliser: there, the expectation of Assumption 4.2.
    tried = [beta] if config.setting in SINGLE else config.betas
    labels = config.labels or ("expected" if classes and 0 in tried else "sample")
    return replace(config, task="classification" if classes else "regression", beta=beta, labels=labels)


def graph_name(config: Config, method: Method) -> str | None:
    """The name of a method's graph under a configuration; None where nothing is fused."""
    return None if method.graph is None else config.graph or method.graph


def default_methods(config: Config) -> tuple[str, ...]:
    """All methods for the UCI sets, those without a separate variance network elsewhere, as in the paper."""
    starred = config.experiment == "uci"
    return tuple(name for name, method in METHODS.items() if starred or method.variance != "separate")


def choose_device(name: str) -> torch.device:
    """The device for "auto" (CUDA where there is one), "cpu" or "cuda".

    Raises:
        ValueError: for another name, or "cuda" where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"unknown device {shown(name)}, expected auto, cpu or cuda. Try --device auto.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but PyTorch finds no CUDA device here. Try --device cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def method_density(method: Method, config: Config, problem: Problem, replicas: int) -> ConditionalDensity:
    """A method's density, untrained."""
    scales: dict[str, Any] = {"scale": config.scale, "floor": config.scale_floor}
    default = Categorical if problem.classes else partial(Gaussian, **scales)
    return build_density(
        method,
        num_features=_one_or_all(tuple(problem.train.x.shape[2:])),
        likelihood=LIKELIHOODS[method.likelihood] if method.likelihood else default,
        num_outputs=problem.num_outputs,
        widths=config.widths,
        mixing_layer=config.mixing_layer,
        activation=config.activation,
        dropout=config.dropout,
        network=config.network,
        replicas=replicas,
        embedding=scales | {"start": config.scale_start, "layers": config.variance_layers},
        before_activation=config.before_activation,
    )


def _one_or_all(row: tuple[int, ...]) -> Any:
    """The shape of a row, [d] as a number."""
    return row[0] if len(row) == 1 else row


def select_replicas(
    density: ConditionalDensity, empty: ConditionalDensity, chosen: Sequence[int]
) -> ConditionalDensity:
    """Copies some replicas of a density into one with as many; weights without a replica axis are shared by all."""
    index, target = torch.as_tensor(chosen), empty.state_dict()
    weights = {
        name: tensor
        if tensor.shape == target[name].shape and len(chosen) != density.replicas
        else tensor[index.to(tensor.device)]
        for name, tensor in density.state_dict().items()
    }
    empty.load_state_dict(weights)
    return empty.to(next(density.parameters()).device).eval()


def fit_method(
    method: Method,
    config: Config,
    problem: Problem,
    tries: Sequence[Candidate],
    seed: int,
    on_epoch: Callable[[int, Tensor], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> FittedMethod:
    """Trains a method's density on all splits of a configuration together, with each of its tries.

    Args:
        method: what to train.
        config: how.
        problem: the data, on the device to train on.
        tries: what to train it with; replica (c * S + s) * M + m is try c on split s of S, member m of M of the ensemble.
        seed: of the training noise; initial weights follow from the configuration's seed, the split's number and the try.
        on_epoch, checkpoint: see :func:`~pyro_probmix.fit`.
    """
    splits, members, device = range(len(config.splits)), method.members, problem.train.x.device
    # The split of each replica.
    chosen = [split for _ in tries for split in splits for _ in range(members)]
    rows = problem.replicas(chosen) if len(chosen) > len(splits) else problem
    density = method_density(method, config, problem, len(chosen))
    seeds = [seed_of(config, one, split, m) for one in tries for split in config.splits for m in range(members)]
    initialise(density, seeds)
    density.to(device)
    alphas = [one.alpha for one in tries for _ in range(len(splits) * members)]
    x, y, weights = rows.train.x, rows.train.y, None
    # The graph is over the rows of a split, the same for all tries and members, unless each has pseudo-rows of its own.
    of_graph, of_each = problem.train, chosen
    if method.pseudo_rows is not None:
        x, y, weights = with_pseudo_rows(method.pseudo_rows, x, y, None, seeds=seeds, alphas=alphas)
        of_graph, of_each = Part(x, y), list(range(len(chosen)))
    process = _process(method, config, density, of_graph, of_each, alphas, tries).to(device)
    result = fit(
        process,
        x,
        y,
        weights=weights,
        epochs=config.epochs,
        validation=(rows.validation.x, rows.validation.y),
        learning_rate=config.learning_rate,
        criterion=build_criterion(method, config.criterion, config.particles),
        patience=config.patience,
        num_samples=config.validation_samples,
        seed=seed,
        names=_names(problem, tries, members),
        on_epoch=on_epoch,
        plain=False,  # the random numbers of the recorded runs
        keep_last=config.best_epoch != "validation",
        checkpoint=checkpoint,
    )
    return FittedMethod(density, result)


def _process(
    method: Method,
    config: Config,
    density: ConditionalDensity,
    of_graph: Part,
    of_each: Sequence[int],
    alphas: Sequence[float],
    tries: Sequence[Candidate],
) -> ProbMix:
    """The process that trains a density, see :func:`fit_method`.

    Args:
        of_graph: the rows that the graph is over.
        of_each: which of the graph's replicas each of the density's has.
        alphas: of each replica.
    """
    graph = build_graph(
        graph_name(config, method),
        of_graph.x.flatten(2),
        of_graph.y,
        neighbors=config.neighbors,
        bandwidth=config.bandwidth,
    )
    return build_process(
        method,
        density,
        None if graph is None else graph.replicas(of_each),
        alpha=_of_each(alphas),
        beta=_of_each([one.beta for one in tries for _ in range(len(alphas) // len(tries))]),
        labels=config.labels or "sample",  # type: ignore[arg-type] # checked by ProbMix
        batch_size=config.batch_size,
        one_weight=config.weight == "batch",
    )


def _names(problem: Problem, tries: Sequence[Candidate], members: int) -> list[str]:
    """What each replica is called: its split, and what it is trained with, where that differs."""
    return [
        name + (f", {one.label}" if len(tries) > 1 else "") + (f", member {m + 1}" if members > 1 else "")
        for one in tries for name in problem.names for m in range(members)
    ]  # fmt: skip


def seed_of(config: Config, one: Candidate, split: int, member: int) -> int:
    """The seed of a replica's initial weights; the first member of an ensemble has that of a single network."""
    return (config.seed + one.start) * 1_000_003 + split + 10_007 * member


def _of_each(values: Sequence[float]) -> float | Tensor:
    """One number if all replicas have the same, which saves work, else one for each."""
    return values[0] if len(set(values)) == 1 else torch.tensor(values)
