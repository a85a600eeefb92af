"""Runs the jobs of a sweep on an engine: writes each as it finishes, and repeats those whose worker was lost."""

from __future__ import annotations

import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pyro_probmix.experiments.config import Config
from pyro_probmix.experiments.run.engines import Engine, worker_device
from pyro_probmix.experiments.run.jobs import Finished, Job, each_part, run_job
from pyro_probmix.experiments.run.results import RunFolder
from pyro_probmix.experiments.run.runner import choose_device
from pyro_probmix.names import printable

__all__ = ["WorkersLost", "chunk_size", "run"]

#: After so many losses of a worker in a row, the last with one job alone, that job is given up.
LARGEST_LOSSES = 3


class WorkersLost(RuntimeError):
    """Workers were lost again and again, for example for lack of memory."""


#: Pyro's handlers and PyTorch's random state are shared by a process: a worker with several threads runs one job at a time.
_ONE_JOB = threading.Lock()


def run(
    jobs: Sequence[Job],
    folder: RunFolder,
    engine: Engine | None = None,
    on_epoch: Callable[[Job, int, Tensor], None] | None = None,
    on_job: Callable[[Job], None] | None = None,
) -> None:
    """Runs jobs, and writes each one's numbers as soon as it is finished.

    Args:
        jobs: those that the folder does not hold yet, see :meth:`RunFolder.unfinished`.
        folder: where to write.
        engine: the workers, see :func:`~pyro_probmix.experiments.run.engines.connect`; by default this process.
        on_epoch: in this process, called with the job, the epoch and the best validation NLL so far, [r], on the
            standardised target.
        on_job: called with each job that is finished.

    Raises:
        WorkersLost: if workers are lost again and again.
    """
    engine = engine or Engine()
    # The small data sets first, so that the tables fill soon.
    waiting = {job.name: job for job in sorted(jobs, key=lambda job: job.problem.train.x.shape[1])}
    with closing(_outcomes(waiting, folder, engine, on_epoch)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, _Failed):
                outcome.error.add_note(f"in the job {outcome.name!r}, in a worker:\n{outcome.traceback}")
                raise outcome.error
            job = waiting.pop(outcome.name)
            for category, message in outcome.warnings:
                warnings.warn(
                    f"{printable(job.config.dataset)}, {job.config.methods[0]}: {message}", category, stacklevel=2
                )
            folder.add(job, outcome)
            if on_job is not None:
                on_job(job)


def chunk_size(config: Config, workers: int) -> int | None:
    """The number of splits to a job with which each worker has a job; None if it is all splits."""
    pairs = len(each_part(config)) * len(config.methods)
    parts = min(-(-workers // pairs), len(config.splits))
    return None if parts == 1 else -(-len(config.splits) // parts)


@dataclass(frozen=True)
class _Failed:
    """An error that a job raised, in contrast to the loss of its worker."""

    name: str
    error: Exception
    traceback: str


def _outcomes(
    waiting: dict[str, Job], folder: RunFolder, engine: Engine, on_epoch: Callable[[Job, int, Tensor], None] | None
) -> Generator[Finished | _Failed, None, None]:
    """The outcome of each waiting job, as it comes."""
    if engine.in_process:
        for job in list(waiting.values()):
            device = choose_device(job.config.device)
            report = None if on_epoch is None else _Report(job, on_epoch)
            yield run_job(job, device, report, job.checkpoint(folder.checkpoints))
        return
    losses, given_up, reason = 0, [], ""
    worker = _Worker(folder.checkpoints if engine.local else None)
    while waiting:
        # The loss of a worker can end the jobs of others. So after two losses in a row, one job runs alone: it then has all
        # the memory, or it is the one that kills its worker and is given up, so that the others finish.
        alone = losses == LARGEST_LOSSES - 1
        chosen = list(waiting.values())[: 1 if alone else None]
        try:
            with closing(engine.map(worker, chosen)) as values:
                for value in values:
                    losses = 0
                    yield value
        except Exception as error:  # engines differ in the exception for a worker that was lost
            losses += 1
            if losses == LARGEST_LOSSES:
                given_up.append(waiting.pop(chosen[0].name).name)
                losses, reason = 0, f"{type(error).__name__}: {error}"
    if given_up:
        raise WorkersLost(
            f"workers were lost again and again at {', '.join(given_up)}, last with {reason} What was finished is in the "
            "run's folder. Try fewer --jobs, if memory ran out."
        )


@dataclass(frozen=True)
class _Report:
    job: Job
    on_epoch: Callable[[Job, int, Tensor], None]

    def __call__(self, epoch: int, best: Tensor) -> None:
        self.on_epoch(self.job, epoch, best)


@dataclass(frozen=True)
class _Worker:
    """Runs a job in a worker's process, on the device of that worker."""

    checkpoints: Path | None  # where the worker sees the run's folder

    def __call__(self, job: Job) -> Finished | _Failed:
        with _ONE_JOB:
            try:
                checkpoint = None if self.checkpoints is None else job.checkpoint(self.checkpoints)
                return run_job(job, worker_device(choose_device(job.config.device)), checkpoint=checkpoint)
            except Exception as error:
                return _Failed(job.name, error, traceback.format_exc())
