"""A sweep as a list of independent jobs: a data set x a method x the splits that train together."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from urllib.parse import quote

import torch
from torch import Tensor

from pyro_probmix.experiments.config import Config
from pyro_probmix.experiments.measures import measure
from pyro_probmix.experiments.problem import Problem, load_problem
from pyro_probmix.experiments.runner import FittedMethod, build_graphs, fit_method, graph_name, method_density
from pyro_probmix.graphs import Graph
from pyro_probmix.inference import Fit
from pyro_probmix.models import METHODS, Method

__all__ = ["Finished", "Job", "each_dataset", "joined", "list_jobs", "run_job"]


@dataclass(frozen=True, eq=False)
class Job:
    """Training and measuring one method on some splits of one data set; holds all that a worker needs.

    Attributes:
        config: of one data set and one method, its splits those that train together.
        method: the method itself, since a worker need not know the names that a script has registered.
        problem: the rows of these splits.
        graph: the method's graph over them; None where nothing is fused.
    """

    config: Config
    method: Method
    problem: Problem
    graph: Graph | None

    @property
    def name(self) -> str:
        """Names the job in its run, and its files."""
        dataset, splits = Path(self.config.dataset).name, self.config.splits
        parts = (dataset, self.config.methods[0], self.config.setting, f"{splits[0]}-{splits[-1]}")
        return "_".join(quote(part, safe="") for part in parts)

    @property
    def seed(self) -> int:
        """Of the training noise: the run's own, and another one for each chunk of splits."""
        return self.config.seed * 1_000_003 + self.config.splits[0]


@dataclass(frozen=True, eq=False)
class Finished:
    """What a job leaves, on the CPU.

    Attributes:
        name: the job's.
        values: a list over the splits for each metric.
        weights: the trained density's.
        fit: how the training went.
        device: where it ran.
        warnings: category and text of the warnings on the way.
    """

    name: str
    values: dict[str, list[float]]
    weights: dict[str, Tensor]
    fit: Fit
    device: str
    warnings: tuple[tuple[type[Warning], str], ...]


def each_dataset(config: Config) -> list[Config]:
    """A configuration for each data set of a sweep."""
    if config.experiment != "uci":
        return [config]
    return [replace(config, dataset=name.strip()) for name in config.dataset.split(",")]


def list_jobs(config: Config) -> list[Job]:
    """The jobs of a configuration, by data set, method and chunk of splits, their data loaded and their graphs built.

    Raises:
        ValueError: for a configuration that cannot run, or data that are not there or not sound.
    """
    jobs = []
    for one in each_dataset(config):
        problem = load_problem(one)
        size = one.chunk or len(one.splits)
        parts = []
        for start in range(0, len(one.splits), size):
            chosen = slice(start, start + size)
            part = replace(one, splits=one.splits[chosen])
            rows = problem.replicas(chosen)
            parts.append((part, rows, build_graphs(part, rows)))
        for method in one.methods:
            name = graph_name(one, method)
            for part, rows, graphs in parts:
                graph = None if name is None else graphs[name]
                jobs.append(Job(replace(part, methods=(method,)), METHODS[method], rows, graph))
    return jobs


def run_job(job: Job, device: torch.device, on_epoch: Callable[[int, Tensor], None] | None = None) -> Finished:
    """Trains and measures on a device."""
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        problem, graph = job.problem.to(device), None if job.graph is None else job.graph.to(device)
        fitted = fit_method(job.method, job.config, problem, graph, job.seed, on_epoch)
        values = measure(fitted.density, problem, job.config.num_samples, job.seed)
    count = len(job.config.splits)
    values["validation nll"] = fitted.fit.best_nll.tolist()
    values["best epoch"] = [float(epoch) for epoch in fitted.fit.best_epoch.tolist()]
    values["seconds"] = [(time.perf_counter() - started) / count] * count
    return Finished(
        job.name,
        values,
        {name: tensor.cpu() for name, tensor in fitted.density.state_dict().items()},
        fitted.fit,
        str(device),
        tuple((warning.category, str(warning.message)) for warning in caught),
    )


def joined(config: Config, problem: Problem, chunks: list[tuple[dict[str, Tensor], Fit]]) -> FittedMethod:
    """A method's density and training over all splits of a data set, from those of its chunks in their order."""
    density = method_density(METHODS[config.methods[0]], config, problem)
    whole, first = density.state_dict(), chunks[0][0]
    # Stacked tensors have a replica for each split; what has the same shape in a chunk as in the whole is shared.
    weights = {
        name: first[name] if first[name].shape == tensor.shape else torch.cat([part[name] for part, _ in chunks])
        for name, tensor in whole.items()
    }
    density.load_state_dict(weights)
    curves = {
        field.name: torch.cat([getattr(fit, field.name) for _, fit in chunks], -1)
        for field in fields(Fit)
        if isinstance(getattr(chunks[0][1], field.name), Tensor)
    }
    diverged = tuple(name for _, fit in chunks for name in fit.diverged)
    return FittedMethod(density.eval(), replace(chunks[0][1], **curves, diverged=diverged))
