"""Shapes of the mixing weights' distribution that depend on the edge: the more alike its two rows, the more they are mixed."""

from __future__ import annotations

__all__ = ["EdgeAlpha", "SimilarityKernel", "ends_of"]

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from pyro_probmix.models.replica_rows import take

#: From the inputs of the two ends of each edge, [..., E, d] each, and their responses, to alpha of each edge, [..., E].
#: Responses that are integers are classes.
EdgeAlpha = Callable[[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | None], Tensor]


class SimilarityKernel(nn.Module):
    r"""Beta weights whose shape falls with the distance of an edge's rows, :math:`\lambda \sim \mathrm{Beta}(\tau, \tau)`.

    .. math::
        \tau_{ij} = \tau_{\max} \exp\Bigl(-\frac{1}{2 \tau_{std}^2} \Bigl(\frac{d_{ij}}{\bar d} - 1\Bigr)\Bigr),
        \qquad d_{ij} = \lVert v_i - v_j \rVert^2,

    with :math:`\bar d` the mean of a step's edges, of each replica. At that distance the shape is :math:`\tau_{\max}`; far rows
    have nearly no share in each other. Where no two rows of a step differ, all are at that distance.

    Args:
        largest: :math:`\tau_{\max} > 0`; with replicas also a tensor [R].
        spread: :math:`\tau_{std} > 0`.
        of: v, the responses ``"y"`` or the inputs ``"x"``. Classes have no distance: there it is the inputs'.

    Raises:
        ValueError: for a number that is not above 0, or another ``of``.

    References:
        Bouniot, Mozharovskyi, d'Alché-Buc (2025), Tailoring Mixup to Data for Calibration.

    Example:
        >>> import torch
        >>> from pyro_probmix.models.similarity import SimilarityKernel
        >>> x = torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [3.0]])
        >>> SimilarityKernel(of="x")(x, None)  # squared distances 1 and 9, their mean 5
        tensor([4.9530, 0.2019])
    """

    #: Smaller shapes would underflow; at this one a weight is 0 or 1 but for one draw in a hundred thousand.
    LEAST = 1e-6

    largest: float | Tensor

    def __init__(self, largest: float | Tensor = 1.0, spread: float = 0.5, of: Literal["x", "y"] = "y") -> None:
        super().__init__()
        if of not in ("x", "y"):
            raise ValueError(f"SimilarityKernel got of={of!r}, expected 'x' or 'y'. Try of='x'.")
        of_each = largest.flatten().tolist() if isinstance(largest, Tensor) else [largest]
        for name, values in (("largest", of_each), ("spread", [spread])):
            for value in values:
                if not 0 < value < math.inf:
                    raise ValueError(
                        f"SimilarityKernel got {name}={value}, expected a finite number above 0. Try {name}=0.5."
                    )
        self.spread, self.of = spread, of
        if isinstance(largest, Tensor) and largest.dim():
            self.register_buffer("largest", largest.flatten().to(torch.get_default_dtype()), persistent=False)
        else:
            self.largest = float(largest)

    def extra_repr(self) -> str:
        """Its numbers, which a checkpoint tells fits apart by."""
        largest = self.largest.tolist() if isinstance(self.largest, Tensor) else self.largest
        return f"largest={largest}, spread={self.spread}, of={self.of!r}"

    def forward(self, x: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor] | None) -> Tensor:
        """Alpha of each edge, [..., E], from its ends' inputs and responses, [..., E, d]."""
        one, other = map(_real, y if self.of == "y" and y is not None and y[0].is_floating_point() else x)
        distance = (one - other).square().sum(-1)
        largest = self.largest
        if isinstance(largest, Tensor):
            if distance.shape[-2:-1] != largest.shape:
                raise ValueError(
                    f"SimilarityKernel got edges of shape {tuple(distance.shape)}, expected [R, E] with the R = "
                    f"{len(largest)} replicas of largest. Try largest=1.0."
                )
            largest = largest[:, None]
        mean = distance.mean(-1, keepdim=True)
        tiny = torch.finfo(distance.dtype).tiny
        relative = torch.where(mean < tiny, 1.0, distance / mean.clamp(min=tiny))
        alpha: Tensor = largest * torch.exp(-(relative - 1) / (2 * self.spread**2))
        return alpha.clamp(min=self.LEAST)


def ends_of(data: Tensor, edge: Tensor, of_each: bool) -> tuple[Tensor, Tensor]:
    """The values of both ends of each edge, [..., E, d] each, as an :data:`EdgeAlpha` takes them.

    Args:
        data: rows, [n, ...], or [R, n, ...] if ``of_each``. Integers with a dim of their own, such as counts, become real
            numbers, so that those that remain are classes.
        edge: [..., E, 2].
    """
    batch = edge.dim() - 1
    one, other = (take(data, edge[..., k], of_each) for k in (0, 1))
    if one.dim() == batch:
        return one[..., None], other[..., None]
    return _real(one.flatten(batch)), _real(other.flatten(batch))


def _real(values: Tensor) -> Tensor:
    return values if values.is_floating_point() else values.to(torch.get_default_dtype())
