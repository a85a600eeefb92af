"""Which of Pyro's algorithms is running a model, and what each of them needs of perturbed labels."""

from __future__ import annotations

__all__ = [
    "LabelScores",
    "called_from",
    "drawn_labels",
    "has_method_running",
    "is_traced",
    "refuse_step_without_gradients",
    "scores_nothing",
]

import math
import sys
import zlib
from collections.abc import Iterable
from types import FrameType
from typing import Any

import pyro.distributions as dist
import torch
from pyro.infer.util import MultiFrameTensor
from pyro.poutine.mask_messenger import MaskMessenger
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor

from pyro_probmix.fusing.kernels.directional import Angles, Directions
from pyro_probmix.pooling.rows.tensors import requires_grad
from pyro_probmix.random_state import own_random_state

#: Objectives that are not linear in the log densities of the sites, in which a score is not a factor of each.
_NOT_LINEAR = (
    "pyro.infer.energy_distance",
    "pyro.infer.renyi_elbo",
    "pyro.infer.rws",
    "pyro.infer.trace_tail_adaptive_elbo",
    "pyro.infer.tracetmc_elbo",
    "pyro_probmix.inference.criteria",
)


def called_from(*modules: str) -> str | None:
    """The first of the modules, if there is one, of which one of the calling functions is, or of one below it.

    Pyro's algorithms tell a model nothing of themselves; their handlers are those that users wrap around models, too.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:  # some thirty frames in each step
        name = frame.f_globals.get("__name__", "")
        if name.startswith(modules):
            return next(module for module in modules if name.startswith(module))
        frame = frame.f_back
    return None


def has_method_running(*modules: str) -> bool:
    """Whether one of the calling functions is a method of a class of one of the modules, or of a subclass of one.

    A class that inherits how it runs a model calls it from the module of its base.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = type(frame.f_locals.get("self"))
        if any(f"{base.__module__}.".startswith(f"{module}.") for base in owner.__mro__ for module in modules):
            return True
        frame = frame.f_back
    return False


def refuse_step_without_gradients() -> None:
    """Raises RuntimeError within a step of ``SVI`` under ``torch.no_grad``, which would leave all parameters as they are."""
    if torch.is_grad_enabled():
        return
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module == "pyro.infer.inspect":  # by which some guides look at a model in the first step
            return
        if module == "pyro.infer.svi" and frame.f_code.co_name == "step":
            raise RuntimeError(
                "SVI.step runs the fused model under torch.no_grad or torch.inference_mode, where it would train nothing, "
                "expected gradients. Try the step outside of it, or SVI.evaluate_loss for the loss alone."
            )
        frame = frame.f_back


def scores_nothing() -> bool:
    """Whether all densities are masked, as in ``Predictive``, where draws alone matter."""
    return any(isinstance(handler, MaskMessenger) and handler.mask is False for handler in _PYRO_STACK)


def is_traced() -> bool:
    """Whether sample sites are recorded outside; ``SVI`` itself records parameters alone."""
    return any(isinstance(handler, TraceMessenger) and not handler.param_only for handler in _PYRO_STACK)


def drawn_labels(msg: Any, perturbed: Any) -> Tensor:
    """A draw of the perturbed labels of a response; in MCMC the same one in each evaluation of a potential energy.

    Args:
        msg: the message of the response, as Pyro's handlers get it.
        perturbed: the distribution of its labels.

    Raises:
        ValueError: if an algorithm cannot have labels that are drawn.
    """
    # Points are the same in each evaluation; the walk through the calling functions is what a step would notice.
    once = not isinstance(perturbed, dist.Delta) and called_from("pyro.infer.mcmc")
    if once and torch._C._get_tracing_state() is not None:
        raise ValueError(
            f"the labels of site {msg['name']!r} are drawn, which a jitted potential energy would do anew in each evaluation, "
            "expected labels that are the same in all. Try labels='expected', or jit_compile=False."
        )
    # With the gradient of a weight that is inferred, where draws carry one.
    draw = perturbed.rsample if perturbed.has_rsample else perturbed.sample
    if once:
        seed = zlib.crc32(msg["name"].encode())  # the same in each chain too, so that all have one posterior
        with own_random_state(msg["value"].device, seed):
            drawn: Tensor = draw()
    else:
        drawn = draw()
    plates = max(-frame.dim for frame in msg["cond_indep_stack"] if frame.vectorized)
    particles = drawn.shape[: max(0, drawn.dim() - msg["fn"].event_dim - plates)]
    if math.prod(particles) > 1 and called_from("pyro.infer.energy_distance"):
        raise ValueError(
            f"the labels of site {msg['name']!r} differ between the particles of EnergyDistance, as their weights do, expected "
            "one label for all. Try PriorGuide(model, guide), which draws one weight for all, or a number as weight."
        )
    return drawn


class LabelScores:
    r"""The scores of the labels that one run of a model has drawn.

    With labels :math:`\tilde y \sim g_\lambda` and a weight :math:`\lambda` that is learned, or drawn by a guide whose
    parameters are,

    .. math::
        \nabla_\lambda \mathbb{E}[\log p_\lambda(\tilde y)] = \mathbb{E}[\nabla_\lambda \log p_\lambda(\tilde y)
        + \log p_\lambda(\tilde y)\, \nabla_\lambda \log g_\lambda(\tilde y)].

    The second term comes from a factor :math:`\exp(s - \lfloor s \rfloor)` of the log density, where :math:`s` is the log of
    :math:`g` and :math:`\lfloor \cdot \rfloor` passes no gradient: its value is 1.

    References:
        Foerster et al. (2018), DiCE: The Infinitely Differentiable Monte Carlo Estimator, eq. (5).
    """

    def __init__(self) -> None:
        self._scores: MultiFrameTensor | None = None

    def add(self, msg: Any, perturbed: Any, drawn: Tensor) -> None:
        """Notes the score of the labels of a site, where a gradient goes through it.

        Args:
            msg: the message of the response.
            perturbed: the distribution of its labels.
            drawn: the labels.

        Raises:
            ValueError: if the gradient cannot be had: under an objective that is not linear in the log densities, or of
                labels that are points in one row and spread in another.
        """
        if perturbed.has_rsample or not torch.is_grad_enabled() or called_from("pyro.infer.mcmc"):
            return  # in MCMC labels are drawn once
        if not requires_grad(perturbed):
            return
        if has_method_running(*_NOT_LINEAR):
            raise _refusal(msg, "this loss", "Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO or TraceEnum_ELBO")
        if any((part.concentration == torch.inf).any() for part in _directional(perturbed)):
            raise _refusal(msg, "a tensor of betas with zeros", "positive betas, or beta=0")
        score = perturbed.log_prob(drawn.detach())
        plates = max(-frame.dim for frame in msg["cond_indep_stack"] if frame.vectorized)
        score = score.reshape((1,) * (plates - score.dim()) + score.shape)
        if self._scores is None:
            self._scores = MultiFrameTensor()
        self._scores.add((msg["cond_indep_stack"], score))

    def weigh(self, msg: Any, enumerated: Iterable[Any]) -> None:
        """Lets the log density of a site, that of the labels or one after it, have their score as a factor.

        Args:
            msg: the message of the site.
            enumerated: messages of enumerated sites before it.

        Raises:
            ValueError: if the gradient cannot be had: where a latent that the model enumerates is summed out, or of a
                latent after the labels in ``TraceMeanField_ELBO``.
        """
        if self._scores is None:
            return
        by_model = (latent for latent in enumerated if not _is_replayed(latent["name"]))
        shape, own = msg["fn"].batch_shape, msg["infer"].get("enumerate") and not msg["done"]
        if own or any(_varies(shape, latent["infer"].get("_enumerate_dim")) for latent in by_model):
            raise _refusal(msg, "a sum over an enumerated latent", "latents that the guide draws or enumerates")
        if not msg["is_observed"] and called_from("pyro.infer.trace_mean_field_elbo"):
            raise _refusal(msg, "the divergence of a latent after them", "Trace_ELBO")
        score = self._scores.sum_to(msg["cond_indep_stack"])
        msg["scale"] = msg["scale"] * (score - score.detach()).exp()


def _refusal(msg: Any, what: str, wanted: str) -> ValueError:
    return ValueError(
        f"site {msg['name']!r} has drawn labels, or comes after them, by a weight that is learned or has a guide; {what} has "
        f"no gradient through them, expected {wanted}. Try labels='expected', or PriorGuide(model, guide), which leaves the "
        "weight to its prior."
    )


def _directional(p: Any) -> Iterable[Any]:
    while not isinstance(p, Angles | Directions):
        if not hasattr(p, "base_dist"):
            return ()
        p = p.base_dist
    return (p,)


def _varies(shape: torch.Size, dim: int | None) -> bool:
    return dim is not None and -dim <= len(shape) and shape[dim] > 1


def _is_replayed(name: str) -> bool:
    """Whether a guide has given the value of a site."""
    handlers = (handler for handler in _PYRO_STACK if isinstance(handler, ReplayMessenger))
    return any(handler.trace is not None and name in handler.trace for handler in handlers)
