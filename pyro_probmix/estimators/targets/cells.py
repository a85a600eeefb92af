"""Intervals from which targets of few values are rounded, by whose probability held-out rows are scored."""

from __future__ import annotations

__all__ = ["Cells"]

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_probmix.estimators.targets.marks import Array, Marks
from pyro_probmix.inference.predictive.prediction import log_density
from pyro_probmix.models.distributions.censored import log_probability


@dataclass(frozen=True, eq=False)
class Cells:
    r"""The score :math:`\log [F(y + h/2) - F(y - h/2)] / h` of recorded targets, in standard units.

    By the log density at the marks a choice among densities would take the one with the narrowest spikes there, which tells
    nothing more of a new row.

    Attributes:
        half: h / 2 of each target, 0 for one without marks, whose score is the log density, [d_y].
        low, high: the lowest and the highest mark, which is rounded from all beyond, [d_y].
    """

    half: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, marks: Marks, offset: Array, step: Array) -> Self | None:
        """The cells of targets whose standard zero and unit are these, [d_y]; None where no target has few values."""
        if not marks.own.any():
            return None
        low, high = ((end - offset) / step for end in (marks.low, marks.high))
        return cls(np.where(marks.own, marks.grid / 2 / step, 0.0), low, high)

    def log_density(self, components: Any, y: Tensor) -> Tensor:
        """The score of each row by each member, the log of the mean over draws, [R, N].

        Args:
            components: densities of independent targets, batch shape [S, R, N] and event shape (d_y,).
            y: targets, [R, N, d_y].
        """
        if not isinstance(components, dist.Independent):  # of targets some of which are known up to intervals
            return log_density(components, y)
        half, low, high = (torch.as_tensor(v, dtype=y.dtype, device=y.device) for v in (self.half, self.low, self.high))
        marked = half > 0
        width = torch.where(marked, half, 1.0)  # another target has no cell
        start = torch.where(y - width / 2 <= low, -math.inf, y - width)
        stop = torch.where(y + width / 2 >= high, math.inf, y + width)
        each = log_probability(components.base_dist, start, stop) - (2 * width).log()
        if not bool(marked.all()):
            each = torch.where(marked, each, components.base_dist.log_prob(y))
        return each.sum(-1).logsumexp(0) - math.log(len(each))
