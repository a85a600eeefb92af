"""A sweep as a list of independent jobs: a data set x a method x the splits that train together."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

import torch
from torch import Tensor

from pyro_probmix.experiments.config import Config
from pyro_probmix.experiments.config.grid import Candidate, candidates
from pyro_probmix.experiments.data.problem import Problem, load_problem
from pyro_probmix.experiments.run.measures import Calibration, measure, validation_nll
from pyro_probmix.experiments.run.runner import (
    FittedMethod,
    check_method,
    fit_method,
    method_density,
    resolve,
    select_replicas,
)
from pyro_probmix.inference import Checkpoint, Fit, ForeignCheckpoint
from pyro_probmix.models import ConditionalDensity, Method, find_method
from pyro_probmix.names import shown

__all__ = ["LAST_EPOCH", "Finished", "Job", "Scored", "curves_of", "each_part", "job_density", "list_jobs", "run_job"]

#: The end of a setting's name that stands for the last epoch's weights, where both are scored.
LAST_EPOCH = ", last epoch"

#: The number of epochs of the training curves that are kept.
KEPT_EPOCHS = 100


@dataclass(frozen=True, eq=False)
class Job:
    """Training and scoring of one method on some splits of one data set, with all that a worker needs.

    Attributes:
        config: of one data set, network and method, its splits those that train together.
        method: the method itself, since names that a script has registered are not known in a worker.
        problem: the rows of these splits.
        tries: the candidates that it trains with.
    """

    config: Config
    method: Method
    problem: Problem
    tries: tuple[Candidate, ...]

    @property
    def name(self) -> str:
        """The name of the job in its run, and of its files."""
        one, splits = self.config, self.config.splits
        setting = one.setting if one.setting != "grid" else f"beta={self.tries[0].beta:g}"
        parts = (Path(one.dataset).name, one.network, one.methods[0], setting, f"{splits[0]}-{splits[-1]}")
        return "_".join(quote(part, safe="=") for part in parts)

    @property
    def seed(self) -> int:
        """The seed of the training noise, from the run's seed and the first split."""
        return self.config.seed * 1_000_003 + self.config.splits[0]

    def checkpoint(self, folder: Path) -> Checkpoint:
        """The checkpoint of its training, in a folder."""
        return Checkpoint(folder / f"{self.name}.safetensors")


@dataclass(frozen=True, eq=False)
class Scored:
    """A method's numbers under one setting.

    Attributes:
        setting: "fixed", "paper", "chosen", or the values of the grid; of the last epoch with ``LAST_EPOCH`` behind it.
        values: a list over the splits for each metric.
        curves: rows (split, epoch, training loss, validation NLL) of the training, both on the standardised target.
        calibration: for each split.
    """

    setting: str
    values: dict[str, list[float]]
    curves: list[tuple[int, int, float, float]]
    calibration: list[Calibration]


@dataclass(frozen=True, eq=False)
class Finished:
    """The outcome of a finished job, on the CPU.

    Attributes:
        name: the job's.
        scored: a record of the numbers of each setting.
        weights: the trained density's, of the first setting.
        device: where it ran.
        warnings: category and text of the warnings on the way.
    """

    name: str
    scored: tuple[Scored, ...]
    weights: dict[str, Tensor]
    device: str
    warnings: tuple[tuple[type[Warning], str], ...]


def each_part(config: Config) -> list[Config]:
    """A configuration for each data set and network of a sweep."""
    if config.experiment == "table":
        return [config]
    datasets, networks = (text.split(",") for text in (config.dataset, config.network))
    return [replace(config, dataset=one.strip(), network=two.strip()) for one in datasets for two in networks]


def list_jobs(config: Config) -> list[Job]:
    """The jobs of a configuration, by data set, method and chunk of splits, their data loaded.

    Raises:
        ValueError: for a configuration that cannot run, or data that are not there or not sound.
    """
    jobs = []
    for part in each_part(config):
        problem = load_problem(part)
        one = resolve(part, problem)
        size = one.chunk or len(one.splits)
        for name in one.methods:
            method = find_method(name)
            check_method(method, one, problem)
            tries = candidates(one, method)
            # On a grid each beta is a job, since a step leaves out work if beta = 0 for all replicas.
            groups = [tuple(g) for _, g in groupby(tries, lambda c: c.beta)] if one.setting == "grid" else [tries]
            for start in range(0, len(one.splits), size):
                chosen = list(range(len(one.splits)))[start : start + size]
                of_chunk = replace(one, methods=(name,), splits=tuple(one.splits[k] for k in chosen))
                jobs += [Job(of_chunk, method, problem.replicas(chosen), group) for group in groups]
    return jobs


def job_density(job: Job) -> ConditionalDensity:
    """The density of a job, untrained, one replica for each split and member."""
    return method_density(job.method, job.config, job.problem, len(job.config.splits) * job.method.members)


def run_job(
    job: Job,
    device: torch.device,
    on_epoch: Callable[[int, Tensor], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Finished:
    """Trains and measures on a device, from the checkpoint if there is one of this job."""
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught, _one_thread():
        warnings.simplefilter("always")
        problem = job.problem.to(device)
        arguments = (job.method, job.config, problem, job.tries, job.seed, on_epoch)
        try:
            fitted = fit_method(*arguments, checkpoint)
        except ForeignCheckpoint as error:
            assert checkpoint is not None
            aside = _put_aside(checkpoint.path)
            what = str(error).rpartition(" Try ")[0]
            warnings.warn(f"{what} It was put aside as {shown(aside.name)}, and the job begins anew.", stacklevel=2)
            fitted = fit_method(*arguments, checkpoint)
        seconds = time.perf_counter() - started
        scored, kept = [], None
        for suffix, one in _epochs_to_score(job.config, fitted):
            validation = _validation(job, one, problem)
            found = _scored(job, one, problem, validation, seconds)
            scored += [replace(each, setting=each.setting + suffix) for each in found]
            kept = kept or _density(job, one, _best(job, validation))
    assert kept is not None
    return Finished(
        job.name,
        tuple(scored),
        {name: tensor.cpu() for name, tensor in kept.state_dict().items()},
        str(device),
        tuple((warning.category, str(warning.message)) for warning in caught),
    )


def _epochs_to_score(config: Config, fitted: FittedMethod) -> list[tuple[str, FittedMethod]]:
    """The trained densities to score, each with what its setting's name ends with."""
    if config.best_epoch == "validation":
        return [("", fitted)]
    last = fitted.at_last()
    return [("", last)] if config.best_epoch == "last" else [("", fitted), (LAST_EPOCH, last)]


def _put_aside(path: Path) -> Path:
    """Renames a checkpoint that is of no use, which may be somebody's, to a name that is free; returns that."""
    places = (path.with_name(f"{path.name}.unused{count or ''}") for count in itertools.count())
    place = next(place for place in places if not place.exists())
    with suppress(FileNotFoundError):  # another run on the same folder did so
        path.rename(place)
    return place


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of PyTorch, since the order of sums, and so a job's numbers, would depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _validation(job: Job, fitted: FittedMethod, problem: Problem) -> Tensor:
    """The validation NLL of each try on each split, [tries, S]: that of the ensemble where there are several members."""
    tries, members = len(job.tries), job.method.members
    if members == 1:
        return fitted.fit.best_nll.reshape(tries, -1)
    samples = job.config.validation_samples
    each = [_density(job, fitted, index) for index in range(tries)]
    return torch.stack([validation_nll(density, problem, samples, job.seed, members) for density in each]).cpu()


def _scored(job: Job, fitted: FittedMethod, problem: Problem, validation: Tensor, seconds: float) -> list[Scored]:
    """The numbers of each try on a grid, else of the best one."""
    grid = job.config.setting == "grid"
    splits, members = len(job.config.splits), job.method.members
    scored = []
    for index in range(len(job.tries)) if grid else [_best(job, validation)]:
        one = job.tries[index]
        density = _density(job, fitted, index)
        values, calibration = measure(density, problem, job.config.num_samples, job.seed, members)
        replicas = _replicas(job, index)
        values["validation nll"] = validation[index].tolist()
        values["best epoch"] = fitted.fit.best_epoch[replicas].double().reshape(splits, members).mean(1).tolist()
        values["seconds"] = [seconds / splits / len(job.tries)] * splits
        if job.config.setting == "chosen":
            values |= {"alpha": [one.alpha] * splits, "beta": [one.beta] * splits}
            for other, nll in zip(job.tries, validation, strict=True):
                values[f"validation nll, {other.label}"] = nll.tolist()
        label = one.label if grid else job.config.setting
        scored.append(Scored(label, values, curves_of(fitted.fit, replicas, job.config.splits, members), calibration))
    return scored


def _best(job: Job, validation: Tensor) -> int:
    """The try with the lowest validation NLL, mean over the splits; the first on a grid."""
    if job.config.setting == "grid":
        return 0
    return int(torch.where(validation.isfinite().all(1), validation.mean(1), torch.inf).argmin())


def _replicas(job: Job, index: int) -> slice:
    """The replicas of one try."""
    count = len(job.config.splits) * job.method.members
    return slice(index * count, (index + 1) * count)


def _density(job: Job, fitted: FittedMethod, index: int) -> ConditionalDensity:
    """The density of one try's replicas."""
    if len(job.tries) == 1:
        return fitted.density
    replicas = _replicas(job, index)
    return select_replicas(fitted.density, job_density(job), range(replicas.start, replicas.stop))


def curves_of(fit: Fit, replicas: slice, splits: Sequence[int], members: int) -> list[tuple[int, int, float, float]]:
    """Rows (split, epoch, training loss, validation NLL), at about a hundred epochs, the last among them.

    Of an ensemble they are the means over its members.
    """
    shape = (len(fit.train_loss), len(splits), members)
    loss, nll = (curve[:, replicas].reshape(shape).mean(2) for curve in (fit.train_loss, fit.validation_nll))
    last = len(loss)
    epochs = range(last, 0, -max(1, -(-last // KEPT_EPOCHS)))[::-1]
    return [
        (split, epoch, float(loss[epoch - 1, k]), float(nll[epoch - 1, k]))
        for k, split in enumerate(splits)
        for epoch in epochs
    ]
