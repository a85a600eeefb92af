"""The linear pool of two labels: one of them, by the weight."""

from __future__ import annotations

__all__ = ["OneOfTwo"]

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pyro_probmix.pooling.linear import LinearPool, simplex_weights
from pyro_probmix.pooling.rows.batches import expand_batch


class OneOfTwo(LinearPool):
    r"""The linear pool of two points, :math:`\lambda \delta_y + (1 - \lambda) \delta_{y'}`.

    Its members and their weights are made when they are asked for: a step takes one draw, which costs a comparison.

    Args:
        y: the first point, ``[..., B, *event]``.
        other: the second one, of the same shape.
        weight: that of the first, ``[..., B]``, in [0, 1].
        event_dim: number of event dimensions of a point.
    """

    def __init__(self, y: Tensor, other: Tensor, weight: Tensor, event_dim: int) -> None:
        self._points = y, other
        self._weight = weight.to(y if y.is_floating_point() else torch.get_default_dtype())
        batch_dim = y.dim() - event_dim
        batch_shape = torch.Size(broadcast_shape(weight.shape, y.shape[:batch_dim]))
        TorchDistribution.__init__(self, batch_shape, y.shape[batch_dim:], validate_args=False)

    @cached_property
    def members(self) -> tuple[Any, ...]:  # type: ignore[override]  # a plain attribute in the base
        """The two points."""
        points = [dist.Delta(point, event_dim=self.event_dim, validate_args=False) for point in self._points]
        return tuple(expand_batch(point, self.batch_shape) for point in points)

    @cached_property
    def weights(self) -> Tensor:  # type: ignore[override]  # likewise
        """Those of the two, ``[..., B, 2]``."""
        return simplex_weights(self.members, (self._weight,)).expand((*self.batch_shape, 2))

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]  # likewise
        """Whether draws carry the gradient of all that depends on parameters."""
        return not self._weight.requires_grad

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> LinearPool:
        """The pool with its batch expanded."""
        return LinearPool(self.members, self.weights, validate_args=False).expand(batch_shape)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """One of the points for each draw, chosen by its weight."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """The same, with the gradient of the points."""
        like = self._weight
        beyond = torch.rand((*sample_shape, *self.batch_shape), dtype=like.dtype, device=like.device) >= like
        y, other = self._points
        return torch.where(beyond.reshape(beyond.shape + (1,) * self.event_dim), other, y)
