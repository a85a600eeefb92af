"""Fused sites whose rows lie in one plate, and the responses and masks that follow from them."""

from __future__ import annotations

__all__ = ["Group", "check_dim", "group_of_response"]

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pyro_probmix.fusing.rows import Rows
from pyro_probmix.fusing.sites import Sites


@dataclass(frozen=True)
class Group:
    """Fused sites whose rows lie in one plate: they have the same edges, and the same weights.

    Attributes:
        site: name of the first of them.
        rows: the rows.
        drawn: the weights of the edges, as they were drawn or given.
        weights: the same as each row sees them, see :meth:`Rows.weights`.
        batch: the batch shape of these.
        plates: names of the plates over which the weights vary, that of the rows among them.
    """

    site: str
    rows: Rows
    drawn: Tensor
    weights: Tensor
    batch: torch.Size
    plates: frozenset[str]

    def mask_partners(self, msg: Any, num_fused: int) -> None:
        """Masks each row of a site that is masked itself, or has a partner of any weight that is."""
        if isinstance(msg["mask"], Tensor):
            mask = msg["mask"].expand(broadcast_shape(msg["mask"].shape, msg["fn"].batch_shape))
            no_weight = [self.weights == 1] if num_fused == 2 else (self.weights == 0).unbind(-1)[1:]
            for partner, absent in zip(self.rows.partners(mask), no_weight, strict=True):
                mask = mask & (partner | absent)
            msg["mask"] = mask


def group_of_response(msg: Any, groups: Mapping[str, Group], embedded: Collection[str], fused: Sites) -> Group:
    """The group whose edges perturb the labels of a response that is not fused: that of the fused latents before it.

    Args:
        msg: the message of the response.
        groups: by the plate of their rows.
        embedded: the plates in which a latent is fused.
        fused: the fused sites, for messages.

    Raises:
        ValueError: unless the response is in exactly one plate in which a latent is fused.
    """
    plates = {frame.name: frame.dim for frame in msg["cond_indep_stack"] if frame.vectorized}
    found = [groups[plate] for plate in plates if plate in embedded]
    if not found:
        raise ValueError(
            f"site {msg['name']!r} is observed after the fused {fused} and outside of the plate {min(embedded)!r} of its "
            f"rows, where its labels would stay as they are, expected it within. Try `with pyro.plate({min(embedded)!r}, "
            f"...):` around it, or keep_labels=[{msg['name']!r}], if it does not depend on {fused}."
        )
    if len(found) > 1:
        raise ValueError(
            f"site {msg['name']!r} is in the plates {', '.join(repr(g.rows.plate) for g in found)}, in each of which a "
            "latent is fused, expected one of them, since a label is mixed by one weight. Try fusing one of the latents."
        )
    group = found[0]
    check_dim(msg["name"], group, plates[group.rows.plate])
    return group


def check_dim(site: str, group: Group, dim: int) -> None:
    """Raises ValueError unless a site has the rows of a group at the dim that they have."""
    if dim != group.rows.dim:
        raise ValueError(
            f"site {site!r} has the plate {group.rows.plate!r} at dim={dim}, the fused {group.site!r} at "
            f"dim={group.rows.dim}, expected one dim for both. Try dim={min(dim, group.rows.dim)} for each plate of that name."
        )
