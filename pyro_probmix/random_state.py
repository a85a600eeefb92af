"""Torch's global random numbers, lent for a while and given back as they were."""

from __future__ import annotations

__all__ = ["own_random_state"]

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_random_state(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Random numbers of the CPU and of a device, of whose use no trace is left.

    Args:
        device: a CPU stands for itself alone.
        seed: where they begin; None goes on from where they are.
    """
    lent = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=lent):
        if seed is not None:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed all devices, also those not lent
            for device in lent:
                index = torch.cuda.current_device() if device.index is None else device.index
                torch.cuda.default_generators[index].manual_seed(seed)
        yield
