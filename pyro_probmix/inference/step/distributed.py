"""The gradient of one fit by several processes, each with a share of every batch."""

from __future__ import annotations

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from pyro_probmix.inference.data.ranks import Ranks
from pyro_probmix.inference.step.objective import Gradient, Objective

__all__ = ["joint_gradient"]


def joint_gradient(objective: Objective, x: Tensor, y: Tensor, ranks: Ranks) -> Gradient:
    """The gradient of the ranks' mean loss, the same on all of them; each gives the whole batch and evaluates its share.

    Args:
        objective: the same on each rank; the first rank's weights are taken over by the others.
        x, y: all rows.
        ranks: this process and the others.
    """
    together = DistributedDataParallel(objective, find_unused_parameters=True)

    def gradient(rows: Tensor) -> Tensor:
        together.zero_grad()
        losses: Tensor = together(x, y, ranks.share_of(rows))
        losses.sum().backward()
        objective.clip()
        return ranks.mean(losses.detach())

    return gradient
