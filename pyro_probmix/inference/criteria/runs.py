"""One run of a model and its guide for a criterion, with all its draws at once."""

from __future__ import annotations

__all__ = ["Draws", "one_run", "scaled_log_prob"]

from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer.util import is_validation_enabled
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites, site_is_subsample
from pyro.util import check_model_guide_match
from torch import Tensor


class Draws(Messenger):
    """Draws each latent K times, and each fused embedding S times for each of these, in dims left of all plates.

    A plate around the model would do the same to the edges, and so evaluate the network K times.
    """

    def __init__(self, num_particles: int, num_embeddings: int, max_plate_nesting: int) -> None:
        super().__init__()
        self.num_particles, self.num_embeddings, self.nesting = num_particles, num_embeddings, max_plate_nesting

    def _pyro_sample(self, msg: Any) -> None:
        if (
            msg["is_observed"]
            or msg["value"] is not None
            or site_is_subsample(msg)
            or msg["infer"].get("shared", False)
        ):
            return
        shape = msg["fn"].batch_shape[-self.nesting :] if self.nesting else torch.Size()
        draws = (self.num_embeddings,) if msg["infer"].get("embedding", False) else ()
        msg["fn"] = msg["fn"].expand((*draws, self.num_particles, *(1,) * (self.nesting - len(shape)), *shape))


def one_run(model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[poutine.Trace, poutine.Trace]:
    """The traces of model and guide, which a :class:`~pyro_probmix.PriorGuide` takes from a single run.

    Raises:
        ValueError: if that guide is one of another model.
    """
    unwrapped = poutine.unwrap(guide)
    if isinstance(unwrapped, GuideMessenger):
        if unwrapped.model != model:  # a bound method is another object each time
            raise ValueError(
                "the criterion got a guide of another model than the one beside it, which would not be run, expected the same. "
                "Try PriorGuide(model, guide) of that very model, as fuse gave it."
            )
        guide(*args, **kwargs)
        model_trace, guide_trace = unwrapped.get_traces()
        if is_validation_enabled():
            check_model_guide_match(model_trace, guide_trace)
        return model_trace, guide_trace
    guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
    if is_validation_enabled():
        check_model_guide_match(model_trace, guide_trace)
    return prune_subsample_sites(model_trace), prune_subsample_sites(guide_trace)


def scaled_log_prob(site: dict[str, Any]) -> Tensor:
    """The log density at a site, with its scale, and zero where it is masked."""
    log_prob: Tensor = scale_and_mask(site["fn"].log_prob(site["value"]), site["scale"], site["mask"])
    return log_prob
