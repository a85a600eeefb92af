"""The score-function term in the gradient of a mixing weight, through drawn labels that are not reparameterised."""

from __future__ import annotations

__all__ = ["LabelScores"]

from collections.abc import Iterable
from typing import Any

import torch
from pyro.infer.util import MultiFrameTensor
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor

from pyro_probmix.fusing.algorithms import called_from, has_method_running
from pyro_probmix.fusing.directional import Angles, Directions
from pyro_probmix.pooling.batches import requires_grad

#: Objectives that are not linear in the log densities of the sites, in which a score is not a factor of each.
_NOT_LINEAR = (
    "pyro.infer.energy_distance",
    "pyro.infer.renyi_elbo",
    "pyro.infer.rws",
    "pyro.infer.trace_tail_adaptive_elbo",
    "pyro.infer.tracetmc_elbo",
    "pyro_probmix.inference.criteria",
)


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
        self._scores = MultiFrameTensor()

    def add(self, msg: Any, perturbed: Any, drawn: Tensor) -> None:
        """Note the score of the labels of a site, where a gradient goes through it.

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
        self._scores.add((msg["cond_indep_stack"], score))

    def weigh(self, msg: Any, enumerated: Iterable[Any]) -> None:
        """Let the log density of a site, that of the labels or one after it, have their score as a factor.

        Args:
            msg: the message of the site.
            enumerated: messages of enumerated sites before it.

        Raises:
            ValueError: if the gradient cannot be had: where a latent that the model enumerates is summed out, or of a
                latent after the labels in ``TraceMeanField_ELBO``.
        """
        if not self._scores:
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
