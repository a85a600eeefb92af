"""The linear pool of the members' densities with kernels around the corrected targets of the nearest training rows."""

from __future__ import annotations

__all__ = ["NeighborPool"]

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyro.distributions as dist
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from pyro_probmix.estimators.neighbors.kernels import Copies, Kernels, with_kernels
from pyro_probmix.estimators.targets.spread import widened

Array = npt.NDArray[np.float64]

#: Rows that are looked for beside the K of a pool, because a member has not trained on all of them.
MORE = 7
#: A squared distance, of standardised features, within which rows count as equal.
NEAREST = 1e-6


@dataclass(frozen=True, eq=False)
class NeighborPool:
    r"""What training rows add to the densities of new ones near them.

    Member r's density of a row x is pooled with kernels around the targets of the K nearest rows that r trained on, each
    corrected by the difference of r's means, :math:`y_j + m_r(x) - m_r(x_j)`. The kernels are narrower copies of the density
    that widen with the distance, and weigh as :math:`1 / d_j^2`; see
    :func:`~pyro_probmix.estimators.neighbors.kernels.with_kernels`. Where errors change smoothly, a new row's lies between
    those of its neighbors: there the kernels are drawn together, towards their weighted mean.

    A row with the very features of a training row may be a copy of it, see
    :func:`~pyro_probmix.estimators.ensemble.copies.copied_share`: with that probability it has its target.

    Attributes:
        x: standardised features of the n training rows, [n, D].
        scales: of the features in distances, [D].
        errors: of each member at them, :math:`y_j - m_r(x_j)`, in standard units, [R, n, 1].
        own: which of them each member trained on, [R, n].
        weights: of the rows, [n].
        neighbors: K.
        weight, width, growth: w, s and l of the kernels.
        spread: a factor of the density's spread in the pool, see
            :func:`~pyro_probmix.estimators.targets.spread.widened`; it has less to reach than alone.
        copied: the probability that a row with the features of a training row, of one alone, has its target; 0 for a table
            that does not show it.
        copy_scale: of the kernel around that target.
        scatter: a factor of the kernels' distances from their weighted mean, in [0, 1]: 1 leaves them where they are.
    """

    x: Tensor
    scales: Tensor
    errors: Tensor
    own: Tensor
    weights: Tensor
    neighbors: int
    weight: float
    width: float
    growth: float
    spread: float
    copied: float = 0.0
    copy_scale: float = 1.0
    scatter: float = 1.0

    @property
    def num_found(self) -> int:
        """The number M of rows that are looked for, of which each member takes the nearest K of its own."""
        return min(len(self.x), self.neighbors + MORE)

    def __call__(self, components: Any, features: Array) -> Any:
        """The pool of members' densities [S, R, N] of new rows, with standardised features [N, D]."""
        square, positions = self.nearest(features)
        return self.pooled(components, square, positions, self.same(torch.as_tensor(features), positions))

    def nearest(self, features: Array) -> tuple[Tensor, Tensor]:
        """Squared distances to the nearest training rows of rows [N, D], and their positions, [N, M]."""
        distances, positions = self.search.kneighbors(features * self.scales.double().numpy())
        return torch.as_tensor(distances).square(), torch.as_tensor(positions)

    def same(self, features: Tensor, positions: Tensor) -> Tensor | None:
        """Which training rows have the very features of rows [N, D], [N, M]; None where no copies are looked for.

        They are compared in single precision, in which those of the training rows are kept.
        """
        if not self.copied:
            return None
        return (features.float()[:, None] == self.x.to(features.device)[positions.to(features.device)]).all(-1)

    def nearest_of_each(self, features: Tensor, shares: int) -> tuple[Tensor, Tensor]:
        """The same of rows [R, N, D] of each member, the first so many of which have all that there are, [R, N, M]."""
        found = [self.nearest(features[share].double().cpu().numpy()) for share in range(shares)]
        square, positions = (
            torch.stack([part[r % shares] for r in range(len(features))]) for part in zip(*found, strict=True)
        )
        return square, positions

    @cached_property
    def search(self) -> NearestNeighbors:
        """The search for the nearest rows, of each row by itself."""
        # Of pairs of rows; faster ways with many features multiply matrices, whose rounding depends on the rows beside.
        made = NearestNeighbors(n_neighbors=self.num_found, algorithm="kd_tree")
        return made.fit((self.x.double() * self.scales.double()).numpy())

    def pooled(self, components: Any, square: Tensor, positions: Tensor, same: Tensor | None = None) -> Any:
        """The pool of members' densities [S, R, N], by squared distances to rows and their positions, [N, M] or [R, N, M].

        ``same`` is that of new rows, see :meth:`same`; training rows that a member holds out are no copies of themselves.
        """
        if isinstance(components, dist.Independent):
            made = self.pooled(components.base_dist, square, positions, same)
            return made.to_event(components.reinterpreted_batch_ndims)
        components = widened(components, self.spread)
        kernels = self.kernels(components.mean, square, positions)
        if same is not None:
            kernels = replace(kernels, copies=self.copies(components.mean, positions, same))
        return with_kernels(components, kernels, self.weight)

    def copies(self, mean: Tensor, positions: Tensor, same: Tensor) -> Copies:
        """The kernels of rows with the features of a training row, by positions and which have them, [N, M]."""
        same, positions = same.to(mean.device), positions.to(mean.device)
        alone = same.sum(-1) == 1  # several rows of one x differ in their targets
        row = positions.gather(-1, same.to(positions).argmax(-1, keepdim=True))[..., 0]
        errors = self.errors.to(mean)[:, row]  # [R, N, 1], of the mean over the draws
        shares = (self.copied * alone.to(mean)).unsqueeze(-1)
        return Copies(errors + mean.mean(0) - mean, shares, self.copy_scale)

    def kernels(self, like: Tensor, square: Tensor, positions: Tensor) -> Kernels:
        """The kernels of each member, row and response, [R, N, 1, K], with the type and on the device of a tensor."""
        members = torch.arange(len(self.own), device=like.device)[:, None, None]
        positions, square = positions.to(like.device), square.to(like)
        own = self.own.to(like.device)[members, positions]  # [R, N, M]
        count = min(self.neighbors, own.shape[-1]) if self.weight else 0  # copies alone
        # The nearest of a member's own rows come first; the sort is stable.
        first = torch.sort(own.int(), dim=-1, descending=True, stable=True).indices[..., :count]
        found = own.gather(-1, first)
        square = square.expand(own.shape).gather(-1, first)
        rows = positions.expand(own.shape).gather(-1, first)
        errors = self.errors.to(like)[members, rows].movedim(-1, -2)  # [R, N, 1, K]
        shares = found * self.weights.to(like)[rows] / (square + NEAREST)
        shares = (shares / shares.sum(-1, keepdim=True).clamp(min=torch.finfo(like.dtype).tiny)).unsqueeze(-2)
        if self.scatter != 1.0:
            mean = (shares * errors).sum(-1, keepdim=True)
            errors = mean + self.scatter * (errors - mean)
        return Kernels(errors, square.unsqueeze(-2), shares, self.width, self.growth)
