"""The map from a network's output to a scale above 0."""

from __future__ import annotations

__all__ = ["FLOOR", "SCALES", "scale_map"]

import sys
from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import softplus

from pyro_probmix.names import shown

#: Floor of scales, rates and concentrations, in units of the (standardised) response.
FLOOR = 1e-3


def _of_log_variance(raw: Tensor) -> Tensor:
    return (raw / 2).exp()


#: Name -> the map from a network's output to a scale above 0: a softplus, or the output as the log of the variance.
SCALES: dict[str, Callable[[Tensor], Tensor]] = {"softplus": softplus, "exp": _of_log_variance}


def scale_map(who: str, name: str, floor: float) -> Callable[[Tensor], Tensor]:
    """The map from a network's output to a scale, in ``SCALES``, to which the floor is added.

    Args:
        who: asks, for the message.
        name: in ``SCALES``.
        floor: at least 0.

    Raises:
        ValueError: for another name, or a floor that is negative or not finite.
    """
    if not isinstance(name, str) or name not in SCALES:
        raise ValueError(f"{who} got scale={shown(name)}, expected one of {', '.join(SCALES)}. Try 'softplus'.")
    if not isinstance(floor, int | float) or not 0 <= floor <= sys.float_info.max:
        raise ValueError(f"{who} got floor={shown(floor)}, expected a finite number of at least 0. Try floor={FLOOR}.")
    return SCALES[name]
