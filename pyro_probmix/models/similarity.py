"""Shapes of the mixing weights' distribution that depend on the edge: the more alike its two rows, the more they are mixed."""

from __future__ import annotations

__all__ = ["EdgeAlpha", "SimilarityKernel"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

#: From the inputs of the two ends of each edge, [..., E, d] each, and their responses, to alpha of each edge, [..., E].
EdgeAlpha = Callable[[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | None], Tensor]


@dataclass(frozen=True)
class SimilarityKernel:
    r"""Beta weights whose shape falls with the distance of an edge's rows, :math:`\lambda \sim \mathrm{Beta}(\tau, \tau)`.

    .. math::
        \tau_{ij} = \tau_{\max} \exp\Bigl(-\frac{1}{2 \tau_{std}^2} \Bigl(\frac{d_{ij}}{\bar d} - 1\Bigr)\Bigr),
        \qquad d_{ij} = \lVert v_i - v_j \rVert^2,

    with :math:`\bar d` the mean of a step's edges, of each replica. At that distance the shape is :math:`\tau_{\max}`; far rows
    have nearly no share in each other.

    Args:
        largest: :math:`\tau_{\max} > 0`.
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

    largest: float = 1.0
    spread: float = 0.5
    of: Literal["x", "y"] = "y"

    #: Smaller shapes would underflow; at this one a weight is 0 or 1 but for one draw in a hundred thousand.
    LEAST = 1e-6

    def __post_init__(self) -> None:
        if self.of not in ("x", "y"):
            raise ValueError(f"SimilarityKernel got of={self.of!r}, expected 'x' or 'y'. Try of='x'.")
        for name, value in (("largest", self.largest), ("spread", self.spread)):
            if not 0 < value < math.inf:
                raise ValueError(
                    f"SimilarityKernel got {name}={value}, expected a finite number above 0. Try {name}=0.5."
                )

    def __call__(self, x: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor] | None) -> Tensor:
        """Alpha of each edge, [..., E], from its ends' inputs and responses, [..., E, d]."""
        one, other = y if self.of == "y" and y is not None and y[0].is_floating_point() else x
        distance = (one - other).square().sum(-1)
        mean = distance.mean(-1, keepdim=True)
        relative = distance / mean.clamp(min=torch.finfo(distance.dtype).tiny)
        alpha: Tensor = self.largest * torch.exp(-(relative - 1) / (2 * self.spread**2))
        return alpha.clamp(min=self.LEAST)
