"""The prior guide: latent sites of a process drawn from their own prior, in one run of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites, site_is_subsample
from torch import nn

__all__ = ["PriorGuide"]


class PriorGuide(GuideMessenger, nn.Module):
    r"""A guide that draws every latent site from its prior, or from another guide where that one has the site.

    With :math:`q(\lambda, z) = p(\lambda)\, p(z \mid \lambda)` the evidence lower bound is
    :math:`\mathbb{E}_{\lambda, z}[\log p(\tilde y \mid \lambda, z)]`, the expected log-likelihood. Model and guide are one
    run of the model, so that the network is evaluated once.

    Sites that the model enumerates stay with the model; ``TraceEnum_ELBO`` takes the guide :meth:`standalone`.

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

    def __init__(self, model: Callable[..., Any], guide: Callable[..., Any] | None = None) -> None:
        nn.Module.__init__(self)
        GuideMessenger.__init__(self, model)
        # A guide that is a module is a submodule: `ELBO()(model, guide)` finds its parameters.
        self.guide = guide
        self._guided = poutine.Trace()

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:  # type: ignore[override] # as in Pyro
        if self.guide is not None:
            with _OutOfSight():
                self._guided = poutine.trace(self.guide).get_trace(*args, **kwargs)
        with self:
            self.model(*args, **kwargs)
        sites: dict[str, Any] = dict(self.trace.nodes.items())
        return {name: site["value"] for name, site in sites.items() if site["type"] == "sample"}

    def __getstate__(self) -> dict[str, Any]:
        """The guide without what its last call left, tensors of a graph that cannot be copied."""
        return self.__dict__ | {"_guided": poutine.Trace(), "trace": poutine.Trace()}

    def standalone(self) -> Callable[..., None]:
        """The same guide as a plain function that runs the model for itself, for losses that enumerate.

        Raises:
            ValueError: when called, if a latent other than ``"lambda"`` and ``"edge"`` would be drawn downstream of an
                enumerated one, on whose value it may depend.
        """

        def guide(*args: Any, **kwargs: Any) -> None:
            enumerated: list[str] = []

            def stays_with_the_model(msg: Any) -> bool:
                if msg["type"] != "sample" or site_is_subsample(msg):
                    return False
                if msg["infer"].get("enumerate") is not None:
                    enumerated.append(msg["name"])
                    return True
                if enumerated and msg["infer"].get("drawn_from_prior") and msg["name"] not in ("lambda", "edge"):
                    raise ValueError(
                        f"site {msg['name']!r} would be drawn downstream of {enumerated[0]!r}, which is enumerated, expected "
                        f"it independent of that. Try a guide of your own for {msg['name']!r}."
                    )
                return bool(msg["is_observed"])

            with poutine.block(hide_fn=stays_with_the_model):
                self(*args, **kwargs)

        return guide

    def get_posterior(self, name: str, prior: Any) -> Any:
        return prior

    def _pyro_sample(self, msg: Any) -> None:
        guided: Any = self._guided.nodes.get(msg["name"])
        if site_is_subsample(msg):
            if guided is not None:
                msg["value"] = guided["value"]
        elif not msg["is_observed"]:
            if guided is not None:
                msg["infer"] = {**guided["infer"], "prior": msg["fn"]}
                msg["fn"], msg["value"], msg["done"] = guided["fn"], guided["value"], True
            elif msg["infer"].get("enumerate") is None:
                msg["infer"]["prior"] = msg["fn"]
                msg["infer"]["drawn_from_prior"] = True

    def get_traces(self) -> tuple[poutine.Trace, poutine.Trace]:
        """The traces of model and guide from the last call, as ``Trace_ELBO`` and its kin ask for them."""
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


class _OutOfSight(Messenger):
    """Hides a guide's sites from traces outside, which meet them once, when the model reaches them."""

    def _pyro_sample(self, msg: Any) -> None:
        msg["infer"] |= {
            "_do_not_trace": True,
            "was_auxiliary": msg["infer"].get("is_auxiliary", False),
            "is_auxiliary": True,
        }

    def _pyro_post_sample(self, msg: Any) -> None:
        msg["infer"]["is_auxiliary"] = msg["infer"].pop("was_auxiliary")
        del msg["infer"]["_do_not_trace"]
