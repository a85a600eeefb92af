"""Sweeps: the same numbers wherever their jobs run, resumed from what is finished, and not lost with a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from pyro_probmix.cli import main
from pyro_probmix.experiments import engines
from pyro_probmix.experiments.config import EXPERIMENTS, Config
from pyro_probmix.experiments.engines import Engine, connect, own_device
from pyro_probmix.experiments.jobs import Job, list_jobs
from pyro_probmix.experiments.results import RunFolder
from pyro_probmix.experiments.sweep import WorkersLost, chunk_size, run
from pyro_probmix.graphs import CompleteGraph

SMALL = replace(EXPERIMENTS["toy-regression"], methods=("ERM", "ProbMix"), splits=(0, 1), epochs=2, num_samples=4)


def finish(folder: Path, config: Config, jobs: list[Job], engine: Engine | None = None) -> list[str]:
    """Runs what the folder does not hold, and returns the names of the jobs that were run."""
    opened = RunFolder(folder, config, "cpu")
    ran: list[str] = []
    run(opened.unfinished(jobs), opened, engine, on_job=lambda job: ran.append(job.name))
    return ran


def numbers(folder: Path) -> pd.DataFrame:
    frame = pd.read_parquet(folder / "results.parquet")
    return frame[frame["metric"] != "seconds"].reset_index(drop=True)


def deadly(job: Job, marker: Path, times: int) -> Job:
    """The job, which kills the process that runs it, as often as given."""

    class Deadly(CompleteGraph):
        # Workers need not be able to import this file: a class of a function's is sent along whole.
        def to(self, device: Any) -> CompleteGraph:
            losses = marker.read_text() if marker.exists() else ""
            if len(losses) < times:
                marker.write_text(losses + "x")
                os.kill(os.getpid(), signal.SIGKILL)
            return CompleteGraph(self.num_nodes)

    return replace(job, graph=Deadly(job.problem.train.x.shape[1]))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A small run in this process."""
    folder = tmp_path_factory.mktemp("alone")
    finish(folder, SMALL, list_jobs(SMALL))
    return folder


def test_two_processes_and_a_killed_worker_change_no_number(alone, tmp_path):
    jobs = list_jobs(SMALL)
    jobs[1] = deadly(jobs[1], tmp_path / "marker", times=1)
    with connect("local", 2) as engine:
        assert engine.workers == 2 and not engine.in_process
        ran = finish(tmp_path / "run", SMALL, jobs, engine)
    assert sorted(ran) == sorted(job.name for job in jobs)
    assert (tmp_path / "marker").read_text() == "x"
    pd.testing.assert_frame_equal(numbers(tmp_path / "run"), numbers(alone))


def cluster(backend):
    """Skips where the backend is not installed."""
    pytest.importorskip({"ray": "ray", "dask": "distributed"}[backend], reason=f"needs the extra {backend}")
    if backend == "ray":
        # Ray's processes find no other way to the package that is tested, if it is not installed.
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the engines' own: sockets and event loops of processes that were killed
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["ray", "dask"])
def test_a_cluster_and_a_killed_worker_change_no_number(alone, tmp_path, backend):
    cluster(backend)
    jobs = list_jobs(SMALL)
    jobs[1] = deadly(jobs[1], tmp_path / "marker", times=1)
    with connect(backend, 2) as engine:
        ran = finish(tmp_path / "run", SMALL, jobs, engine)
    assert sorted(ran) == sorted(job.name for job in jobs)
    assert (tmp_path / "marker").read_text() == "x"
    pd.testing.assert_frame_equal(numbers(tmp_path / "run"), numbers(alone))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["local", "ray", "dask"])
def test_a_job_that_kills_every_worker_is_given_up_and_the_others_are_kept(tmp_path, backend):
    if backend != "local":
        cluster(backend)
    jobs = list_jobs(SMALL)
    jobs[1] = deadly(jobs[1], tmp_path / "marker", times=1000)
    with connect(backend, 2) as engine, pytest.raises(WorkersLost, match="Try fewer --jobs"):
        finish(tmp_path / "run", SMALL, jobs, engine)
    assert set(numbers(tmp_path / "run")["method"]) == {"ERM"}
