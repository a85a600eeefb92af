"""Workers for the jobs of a sweep: in this process, in others on this machine, or on a Ray or Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import joblib
import torch
from joblib.externals.loky import get_reusable_executor

__all__ = ["BACKENDS", "Engine", "check_backend", "connect", "worker_device"]

_RAY_HINT = "Try ray start --head --port 6379, and --address HOST:6379."

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Engine:
    """Workers that are there.

    Attributes:
        workers: how many.
        in_process: whether the only worker is this process.
        local: whether the workers see this process's files.
    """

    workers: int = 1
    in_process: bool = True
    local: bool = True

    def map(self, function: Callable[[A], B], arguments: Iterable[A]) -> Generator[B, None, None]:
        """The values of a function, each as soon as it is there; its calls are spread over the workers."""
        # A job takes minutes: each worker gets one at a time, so that none waits in the queue of a worker that may be lost.
        parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=self.workers)
        values: Generator[B, None, None] = parallel(joblib.delayed(function)(argument) for argument in arguments)
        return values


def check_backend(backend: str, jobs: int | None) -> None:
    """Raises ValueError for a backend that is not known or not installed, or fewer jobs than one."""
    if backend not in BACKENDS:
        raise ValueError(
            f"unknown backend {backend!r}, expected one of {', '.join(BACKENDS)}. Try --backend {next(iter(BACKENDS))}."
        )
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs is {jobs}, expected at least 1. Try --jobs {joblib.cpu_count()}.")
    try:
        if backend == "ray":
            import ray.util.joblib  # noqa: F401
        if backend == "dask":
            import distributed  # noqa: F401
    except ImportError:
        raise ValueError(
            f"the backend {backend!r} is not installed here. Try pip install 'pyro_probmix[{backend}]'."
        ) from None


@contextmanager
def connect(backend: str = "local", jobs: int | None = None, address: str | None = None) -> Iterator[Engine]:
    """Connects to the workers, and disconnects afterwards.

    Args:
        backend: a name in ``BACKENDS``.
        jobs: how many jobs at a time; by default one in this process, or as many as the cluster has workers.
        address: of the cluster; by default that of the backend's settings, or else a cluster that is started here.

    Raises:
        ValueError: for a backend or cluster that is not there; the message says which.
    """
    check_backend(backend, jobs)
    with BACKENDS[backend](jobs, address) as engine:
        yield engine


def worker_device(device: torch.device) -> torch.device:
    """The device of this worker: where there are several CUDA devices, worker k has number k modulo their count."""
    if device.type != "cuda" or torch.cuda.device_count() < 2:
        return device
    return torch.device("cuda", _worker_number() % torch.cuda.device_count())


def _worker_number() -> int:
    """0 in a process that is not a worker; workers on one machine have consecutive numbers."""
    name: Any = multiprocessing.current_process().name  # LokyProcess-1 and so on
    if "distributed" in sys.modules:
        from distributed import get_worker

        with suppress(ValueError):  # this is no Dask worker
            name = get_worker().name
    number = re.search(r"\d+$", str(name))
    return int(number.group()) if number else 0


@contextmanager
def _local(jobs: int | None, address: str | None) -> Iterator[Engine]:
    if address is not None:
        raise ValueError(f"the address {address!r} was given without a cluster. Try --backend ray or --backend dask.")
    if jobs in (None, 1):
        yield Engine()
        return
    assert jobs is not None
    with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1, initializer=_obey_parent):
        try:
            yield Engine(jobs, in_process=False)
        finally:
            get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


def _obey_parent() -> None:
    """Ignores Ctrl-C, which a terminal sends to all its processes, and ends this process when its parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # the parent was killed, and nothing waits for this job any more

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _ray(jobs: int | None, address: str | None) -> Iterator[Engine]:
    import ray
    from ray.util.joblib import ray_backend

    class Backend(ray_backend.RayBackend):  # type: ignore[misc] # Ray is not typed
        # Ray's pool calls back for each result, so they need not wait for the last.
        supports_return_generator = True

    if address and ":" in address:
        # Ray retries for minutes where no cluster answers.
        host, port = address.rsplit("/", 1)[-1].rsplit(":", 1)
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, ValueError):
            raise ValueError(f"there is no Ray cluster at {address!r}. {_RAY_HINT}") from None
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(address or "auto", logging_level="ERROR", log_to_driver=False)
        except ConnectionError:
            if address is not None:
                raise ValueError(f"there is no Ray cluster at {address!r}. {_RAY_HINT}") from None
            ray.init(num_cpus=jobs, logging_level="ERROR", log_to_driver=False, include_dashboard=False)
    try:
        there = ray.cluster_resources()
        workers = jobs or max(1, int(there.get("CPU", 1)))
        if workers > there.get("CPU", 0):
            raise ValueError(
                f"{workers} jobs at a time were asked of a Ray cluster of {there.get('CPU', 0):.0f} CPUs. "
                f"Try --jobs {there.get('CPU', 1):.0f}."
            )
        # Two actors for one worker, since for one joblib would compute in this process.
        actors = max(2, workers)
        arguments = {"num_cpus": workers / actors, "num_gpus": min(1.0, there.get("GPU", 0) / actors)}
        joblib.register_parallel_backend("pyro_probmix-ray", Backend)
        with joblib.parallel_config("pyro_probmix-ray", n_jobs=actors, ray_remote_args=arguments):
            yield Engine(workers, in_process=False, local=False)
    finally:
        if started:
            ray.shutdown()


@contextmanager
def _dask(jobs: int | None, address: str | None) -> Iterator[Engine]:
    import dask
    from distributed import Client, LocalCluster
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc] # joblib is not typed
        # joblib is told only of tasks that succeed, and would wait for ever for one that Dask has given up.
        def submit(self, func: Any, callback: Any = None) -> Any:
            future = super().submit(func, callback)
            future.add_done_callback(lambda done: callback(done.exception()) if done.exception() else None)
            return future

        def retrieve_result_callback(self, out: Any) -> Any:
            if isinstance(out, BaseException):
                raise out
            return super().retrieve_result_callback(out)

        # For one worker joblib would compute in this process.
        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, int(super().effective_n_jobs(n_jobs)))

    address = address or dask.config.get("scheduler-address", None)
    cluster = None if address else LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
    try:
        client = Client(cluster or address, timeout="10s")
    except (OSError, TimeoutError, ValueError):
        raise ValueError(
            f"there is no Dask scheduler at {address!r}. Try dask scheduler, and --address tcp://HOST:8786."
        ) from None
    try:
        client.wait_for_workers(1, timeout=60)
        workers = jobs or len(client.ncores())
        joblib.register_parallel_backend("pyro_probmix-dask", Backend)
        with joblib.parallel_config("pyro_probmix-dask", client=client, n_jobs=workers, pure=False):
            yield Engine(workers, in_process=False, local=False)
    finally:
        client.close()
        if cluster is not None:
            cluster.close()


#: Name -> the function that connects to its workers.
BACKENDS: dict[str, Callable[[int | None, str | None], Any]] = {"local": _local, "ray": _ray, "dask": _dask}
