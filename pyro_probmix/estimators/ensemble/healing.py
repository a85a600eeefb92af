"""Members whose training failed, replaced by copies of others."""

from __future__ import annotations

__all__ = ["heal"]

import torch
from torch import Tensor

from pyro_probmix.estimators.ensemble.encodings import Encodings
from pyro_probmix.models import ConditionalDensity

#: A member that is so many nats a row worse than the median one has failed.
FAR_OFF = 1.0


@torch.no_grad()
def heal(density: ConditionalDensity, held_out: Tensor | None) -> Tensor:
    """Puts a copy of another member in the place of one whose weights are not finite, or whose training failed.

    In a mixture a member that is far off is hardly seen by the NLL, but moves the mean.

    Args:
        density: whose members are looked at.
        held_out: each member's own NLL of the rows that it holds out, [R], NaN where that is not known; None without such
            rows.

    Returns:
        which members are as they were, [R].

    Raises:
        ValueError: if none has finite weights.
    """
    parameters = [p for p in density.parameters() if p.shape[:1] == (density.replicas,)]
    sound = torch.stack([p.isfinite().flatten(1).all(1) for p in parameters]).all(0)
    if not bool(sound.any()):
        raise ValueError(
            "training reached weights that are not finite in every member, expected one without. Try a smaller "
            "learning_rate, or X and y without extreme values."
        )
    donor = int(sound.float().argmax())
    if held_out is not None and bool(held_out.isfinite().any()):
        sound &= ~(held_out > held_out.nanmedian() + FAR_OFF)
        donor = int(held_out.nan_to_num(torch.inf).argmin())
    if not bool(sound.all()):
        kinds = [module.coded for module in density.modules() if isinstance(module, Encodings)]
        for tensor in (*parameters, *kinds):
            tensor[~sound] = tensor[donor].clone()
    return sound
