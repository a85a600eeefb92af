"""Which of Pyro's algorithms is running a model, and what each of them needs of perturbed labels."""

from __future__ import annotations

__all__ = ["called_from", "drawn_labels", "has_method_running", "is_traced", "scores_nothing"]

import math
import sys
import zlib
from contextlib import nullcontext
from types import FrameType
from typing import Any

import torch
from pyro.poutine.mask_messenger import MaskMessenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor

from pyro_probmix.random_state import own_random_state


def called_from(module: str) -> bool:
    """Return whether one of the calling functions is of a module, or of one below it.

    Pyro's algorithms tell a model nothing of themselves; their handlers are those that users wrap around models, too.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith(module) and name[len(module) : len(module) + 1] in ("", "."):
            return True
        frame = frame.f_back
    return False


def has_method_running(*modules: str) -> bool:
    """Return whether one of the calling functions is a method of a class of one of the modules, or of a subclass of one.

    A class that inherits how it runs a model calls it from the module of its base.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = type(frame.f_locals.get("self"))
        if any(f"{base.__module__}.".startswith(f"{module}.") for base in owner.__mro__ for module in modules):
            return True
        frame = frame.f_back
    return False


def scores_nothing() -> bool:
    """Return whether all densities are masked, as in ``Predictive``, where draws alone matter."""
    return any(isinstance(handler, MaskMessenger) and handler.mask is False for handler in _PYRO_STACK)


def is_traced() -> bool:
    """Return whether sample sites are recorded outside; ``SVI`` itself records parameters alone."""
    return any(isinstance(handler, TraceMessenger) and not handler.param_only for handler in _PYRO_STACK)


def drawn_labels(msg: Any, perturbed: Any) -> Tensor:
    """Return a draw of the perturbed labels of a response; in MCMC the same one in each evaluation of a potential energy.

    Args:
        msg: the message of the response, as Pyro's handlers get it.
        perturbed: the distribution of its labels.

    Raises:
        ValueError: if an algorithm cannot have labels that are drawn.
    """
    once = called_from("pyro.infer.mcmc")
    if once and torch._C._get_tracing_state() is not None:
        raise ValueError(
            f"the labels of site {msg['name']!r} are drawn, which a jitted potential energy would do anew in each evaluation, "
            "expected labels that are the same in all. Try labels='expected', or jit_compile=False."
        )
    seed = zlib.crc32(msg["name"].encode())  # the same in each chain too, so that all have one posterior
    with own_random_state(msg["value"].device, seed) if once else nullcontext():
        # With the gradient of a weight that is inferred, where draws carry one.
        drawn: Tensor = perturbed.rsample() if perturbed.has_rsample else perturbed.sample()
    plates = max(-frame.dim for frame in msg["cond_indep_stack"] if frame.vectorized)
    particles = drawn.shape[: max(0, drawn.dim() - msg["fn"].event_dim - plates)]
    if math.prod(particles) > 1 and called_from("pyro.infer.energy_distance"):
        raise ValueError(
            f"the labels of site {msg['name']!r} differ between the particles of EnergyDistance, as their weights do, expected "
            "one label for all. Try PriorGuide(model, guide), which draws one weight for all, or a number as weight."
        )
    return drawn
