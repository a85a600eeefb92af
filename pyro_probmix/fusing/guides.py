"""The prior guide: latent sites of a fused model drawn from their own prior, in one run of the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.util import prune_subsample_sites, site_is_subsample
from torch import nn

from pyro_probmix.fusing.algorithms import called_from, is_traced, scores_nothing

__all__ = ["PriorGuide"]

_SLEEP, _ENERGY = "pyro.infer.rws", "pyro.infer.energy_distance"
#: What a guide has drawn that draws nothing.
_NOTHING = poutine.Trace()


class PriorGuide(GuideMessenger, nn.Module):
    r"""A guide that draws every latent site from its prior, or from another guide where that one has the site.

    With :math:`q(\lambda, z) = p(\lambda)\, p(z \mid \lambda)` the evidence lower bound is
    :math:`\mathbb{E}_{\lambda, z}[\log p(\tilde y \mid \lambda, z)]`, the expected log-likelihood. Model and guide are one
    run of the model, so that the network is evaluated once.

    Sites that the model enumerates stay with the model; ``TraceEnum_ELBO`` takes the guide :meth:`standalone`, and so does
    ``ReweightedWakeSleep``. In ``Predictive``, whether it predicts by the fused model or by that before it was fused, the
    inner guide alone counts: latents without a guide are drawn by the model that predicts.

    Args:
        model: the model, for example a fused one. It is what is run, whatever model a loss is given beside this guide: give
            both the same.
        guide: a guide for some of the sites, for example an ``AutoNormal`` of the weights of the model before it was
            fused; None draws every latent from its prior.

    References:
        El-Laham et al. (2025), eq. (15), (16), (19).

    Example:
        >>> import pyro, torch, pyro.distributions as dist
        >>> from pyro.infer import Trace_ELBO
        >>> from pyro_probmix import PriorGuide
        >>> def model():
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     pyro.sample("y", dist.Normal(z, 1.0), obs=torch.tensor(0.5))
        >>> _ = pyro.set_rng_seed(0)
        >>> loss = Trace_ELBO(num_particles=2000).loss(model, PriorGuide(model))
        >>> abs(loss - (0.919 + 0.5 * (1 + 0.25))) < 0.1
        True
    """

    guide: Callable[..., Any] | None
    _guided = _NOTHING
    _draws_one_weight = False

    def __init__(self, model: Callable[..., Any], guide: Callable[..., Any] | None = None) -> None:
        super().__init__(model)  # that of nn.Module, the last of the bases, too
        if guide is not None:
            self.guide = guide  # as a submodule, if it is a module: `ELBO()(model, guide)` finds its parameters
        else:
            vars(self)["guide"] = None  # past nn.Module, which looks for parameters in what is set

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:  # type: ignore[override] # as in Pyro
        algorithm = called_from(_SLEEP, _ENERGY)
        if algorithm == _SLEEP:
            raise ValueError(
                "ReweightedWakeSleep runs the guide apart from the model, expected a guide that can be. "
                "Try PriorGuide(model, guide).standalone()."
            )
        if scores_nothing() or is_traced():
            self._run_alone(*args, **kwargs)
        else:
            vars(self)["_draws_one_weight"] = algorithm == _ENERGY
            self._run_guide(*args, **kwargs)
            with self:
                self.model(*args, **kwargs)
        sites: dict[str, Any] = {**self._guided.nodes, **self.trace.nodes}
        return {name: site["value"] for name, site in sites.items() if site["type"] == "sample"}

    def _run_guide(self, *args: Any, **kwargs: Any) -> None:
        """Runs the inner guide, whose sites traces outside meet here, and not again where the model reaches them."""
        if self.guide is not None:
            self._guided = poutine.Trace()
            self._guided = poutine.trace(self.guide).get_trace(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """The guide without what its last call left, tensors of a graph that cannot be copied."""
        return self.__dict__ | {"_guided": _NOTHING, "trace": poutine.Trace()}

    def standalone(self) -> Callable[..., None]:
        """The same guide as a plain function that runs the model for itself.

        For losses that run model and guide one after the other: ``TraceEnum_ELBO``, ``ReweightedWakeSleep``.

        Raises:
            ValueError: when called, if a latent other than ``"lambda"`` and ``"edge"`` would be drawn downstream of an
                enumerated one, on whose value it may depend.
        """

        return self._run_alone

    def _run_alone(self, *args: Any, **kwargs: Any) -> None:
        """Runs as a guide whose trace is taken outside: nothing but latents is met there, each once."""
        self.trace = poutine.Trace()
        vars(self)["_draws_one_weight"] = called_from(_ENERGY) is not None
        self._run_guide(*args, **kwargs)
        if scores_nothing():
            return
        enumerated: list[str] = []
        hidden: set[str] = set()

        def is_hidden(msg: Any) -> bool:
            if stays_with_the_model(msg):
                hidden.add(msg["name"])
                return True
            for name in hidden:  # sites of `pyro.markov` that a handler of the guide does not meet
                msg["infer"].get("_markov_scope", {}).pop(name, None)
            return False

        def stays_with_the_model(msg: Any) -> bool:
            if msg["name"] in self._guided.nodes:
                return True
            if msg["type"] != "sample" or site_is_subsample(msg):
                return False
            if msg["infer"].get("enumerate") is not None:
                enumerated.append(msg["name"])
                return True
            drawn = msg["infer"].get("drawn_from_prior") and msg["name"] != "edge" and not _is_weight(msg)
            if enumerated and drawn:
                raise ValueError(
                    f"site {msg['name']!r} would be drawn downstream of {enumerated[0]!r}, which is enumerated, expected "
                    f"it independent of that. Try a guide of your own for {msg['name']!r}."
                )
            return bool(msg["is_observed"])

        with poutine.block(hide_fn=is_hidden), self:
            self.model(*args, **_accepted(self.model, kwargs))

    def get_posterior(self, name: str, prior: Any) -> Any:
        return prior

    def _pyro_sample(self, msg: Any) -> None:
        guided: Any = self._guided.nodes.get(msg["name"])
        if guided is not None and (site_is_subsample(msg) or not msg["is_observed"]):
            if not site_is_subsample(msg):
                msg["infer"] = {**guided["infer"], "prior": msg["fn"]}
                msg["fn"] = guided["fn"]
            msg["value"], msg["done"] = guided["value"], True
        elif not (site_is_subsample(msg) or msg["is_observed"] or msg["infer"].get("enumerate") is not None):
            msg["infer"]["prior"] = msg["fn"]
            msg["infer"]["drawn_from_prior"] = True
            if self._draws_one_weight and _is_weight(msg):
                # Drawn before the plate of the particles has come: all are compared with one label, of one weight.
                msg["value"] = msg["fn"]()

    def get_traces(self) -> tuple[poutine.Trace, poutine.Trace]:
        """The traces of model and guide from the last call, as ``Trace_ELBO`` and similar ask for them."""
        model_trace = prune_subsample_sites(self.trace)
        guide_trace = prune_subsample_sites(self._guided).copy()
        sites: dict[str, Any] = dict(model_trace.nodes.items())
        for name, site in sites.items():
            prior = site["infer"].get("prior") if site["type"] == "sample" else None
            if prior is None:
                continue
            if name not in guide_trace.nodes:
                guide_trace.add_node(name, **site)
            model_trace.nodes[name] = site | {"fn": prior}
        return model_trace, guide_trace


def _is_weight(msg: Any) -> bool:
    """Whether a site is that of the mixing weights, which depend on no other latent."""
    return "fused_weight" in msg["infer"]


def _accepted(model: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments without ``observations``, which ReweightedWakeSleep gives to guides, if the model takes none."""
    function = poutine.unwrap(getattr(model, "model", model))
    parameters = inspect.signature(function.forward if isinstance(function, nn.Module) else function).parameters
    if "observations" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return kwargs
    return {name: value for name, value in kwargs.items() if name != "observations"}
