"""Runs code without changing torch's global random state; one thread at a time."""

from __future__ import annotations

__all__ = ["alone", "own_random_state"]

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LOCK = threading.RLock()


def _new_lock() -> None:
    global _LOCK
    _LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)  # the thread that holds it is not in the child


@contextmanager
def alone() -> Iterator[None]:
    """Keeps other threads waiting: torch's random numbers, and Pyro's handlers and parameters, are one for all threads."""
    with _LOCK:
        yield


@contextmanager
def own_random_state(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Seeds torch's random state within a block and restores it afterwards; other threads that ask for it wait.

    Args:
        device: a CPU stands for itself alone.
        seed: where they begin; None goes on from where they are.
    """
    lent = [device] if device.type == "cuda" else []
    with alone(), torch.random.fork_rng(devices=lent):
        if seed is not None:
            torch.default_generator.manual_seed(
                int(seed)
            )  # torch.manual_seed would seed all devices, also those not lent
            for device in lent:
                index = torch.cuda.current_device() if device.index is None else device.index
                torch.cuda.default_generators[index].manual_seed(seed)
        yield
