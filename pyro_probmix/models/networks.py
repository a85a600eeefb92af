"""Networks batched over replicas: R independent copies whose stacked weights train together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyro_probmix.arguments import checked
from pyro_probmix.models.layers.linear import Linear

__all__ = ["ACTIVATIONS", "MLP", "LayerNorm", "by_replica", "initialise"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
}


class LayerNorm(nn.Module):
    """Layer normalisation of the last dimension, with a scale and a shift for each replica.

    Args:
        width: of the features.
        replicas: number R of independent copies.

    Shape:
        [B, T, width] to the same; with replicas [R, B, T, width].

    References:
        Ba, Kiros, Hinton (2016), as ``torch.nn.LayerNorm``.
    """

    @checked(least={"width": 1, "replicas": 1})
    def __init__(self, width: int, replicas: int | None = None) -> None:
        super().__init__()
        shape = (width,) if replicas is None else (replicas, 1, 1, width)
        self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        normal = nn.functional.layer_norm(x, x.shape[-1:])
        return normal * self.weight + self.bias


def by_replica(function: Callable[[Tensor], Tensor], x: Tensor, weight: Tensor) -> Tensor:
    """Applies a function of a series, [R, B, T, d] or without replicas [B, T, d], to one with any draws to the left.

    Args:
        function: to [R, B, out...] or [B, out...].
        x: [..., B, T, d]; with replicas [B, T, d], shared by them, or [..., R, B, T, d].
        weight: one of the stacked weights, [R, in, out], or [in, out] without replicas.

    Returns:
        [..., B, out...], with replicas [..., R, B, out...].
    """
    if weight.dim() == 2:
        out = function(x.flatten(0, -3))
        return out.reshape(*x.shape[:-2], *out.shape[1:])
    if x.dim() == 3:
        x = x.expand(weight.shape[0], -1, -1, -1)
    draws, rows = x.shape[:-4], x.shape[-3]
    if not draws:
        return function(x)
    out = function(x.movedim(-4, 0).flatten(1, -3))
    return out.reshape(len(out), *draws, rows, *out.shape[2:]).movedim(0, len(draws))


class MLP(nn.Module):
    """A multilayer perceptron with dropout, batched over replicas.

    Args:
        in_features: width of the input.
        widths: widths of the layers; none makes the identity.
        activation: a name in ``ACTIVATIONS``, or something that makes a module.
        dropout: probability of dropping a unit after each activation, in [0, 1).
        replicas: number of independent copies, see :class:`Linear`.
        last_activation: whether the last layer has an activation, and dropout, too.

    Raises:
        ValueError: for an unknown activation, a width below 1, or a dropout outside [0, 1).

    Example:
        >>> import torch
        >>> from pyro_probmix.models import MLP
        >>> MLP(3, (16, 4), activation="tanh")(torch.zeros(7, 3)).shape
        torch.Size([7, 4])
    """

    @checked(least={"in_features": 1, "widths": 1, "replicas": 1})
    def __init__(
        self,
        in_features: int,
        widths: Sequence[int],
        *,
        activation: str | Callable[[], nn.Module] = "relu",
        dropout: float = 0.0,
        replicas: int | None = None,
        last_activation: bool = True,
    ) -> None:
        super().__init__()
        make = ACTIVATIONS.get(activation) if isinstance(activation, str) else activation
        if make is None or isinstance(make, nn.Module) or not isinstance(make(), nn.Module):
            raise ValueError(
                f"MLP got activation={activation!r}, expected one of {', '.join(ACTIVATIONS)}, or what makes a module. "
                "Try 'relu'."
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"MLP got dropout={dropout}, expected a probability in [0, 1). Try dropout=0.1.")
        layers: list[nn.Module] = []
        for k, width in enumerate(widths, start=1):
            layers.append(Linear(in_features, width, replicas))
            if last_activation or k < len(widths):
                layers += [make(), nn.Dropout(dropout)] if dropout else [make()]
            in_features = width
        self.out_features = in_features
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


@checked()
def initialise(module: nn.Module, seeds: Sequence[int]) -> None:
    """Draws the initial weights of each replica from a generator of its own, so that they depend on its seed alone.

    Args:
        module: a module whose submodules have a method ``initialise(replica, generator)``; others are left as they are.
        seeds: one seed for each replica.
    """
    for replica, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        for child in module.modules():
            draw: Any = getattr(child, "initialise", None)
            if draw is not None:
                try:
                    draw(replica, generator)
                except IndexError:
                    raise ValueError(
                        f"initialise got {len(seeds)} seeds for fewer replicas, expected one for each. Try seeds=range(R)."
                    ) from None
