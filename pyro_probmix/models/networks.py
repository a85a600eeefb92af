"""Networks batched over replicas: R independent copies whose stacked weights train together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyro_probmix.arguments import checked

__all__ = ["ACTIVATIONS", "MLP", "LayerNorm", "Linear", "by_replica", "initialise"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
}


class Linear(nn.Module):
    r"""A linear layer, batched over replicas: :math:`x W_r + b_r` in replica :math:`r`.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        replicas: number R of independent copies, stacked as ``weight`` [R, in, out] and ``bias`` [R, 1, out]; None makes a
            single one, [in, out] and [out].
        bound: largest magnitude of an initial weight; by default 1/sqrt(in_features).
        zero_bias: whether the bias starts at zero.

    Shape:
        [..., B, in] to [..., B, out]; with replicas [..., R, B, in], or [B, in] shared by them, to [..., R, B, out].

    Example:
        >>> import torch
        >>> from pyro_probmix.models import Linear
        >>> Linear(3, 2, replicas=5)(torch.zeros(7, 3)).shape
        torch.Size([5, 7, 2])
    """

    @checked(least={"in_features": 1, "out_features": 1, "replicas": 1, "bound": 0})
    def __init__(
        self,
        in_features: int,
        out_features: int,
        replicas: int | None = None,
        *,
        bound: float | None = None,
        zero_bias: bool = False,
    ) -> None:
        super().__init__()
        stack = () if replicas is None else (replicas,)
        self.bound, self.zero_bias = 1 / math.sqrt(in_features) if bound is None else bound, zero_bias
        self.weight = nn.Parameter(torch.empty(*stack, in_features, out_features))
        self.bias = nn.Parameter(torch.empty(*stack, *(() if replicas is None else (1,)), out_features))
        for replica in range(replicas or 1):
            self.initialise(replica, None)

    @torch.no_grad()
    def initialise(self, replica: int, generator: torch.Generator | None) -> None:
        """Draws the weights of one replica, uniform within the bound; by default as in ``torch.nn.Linear``."""
        for parameter in (self.weight, self.bias):
            drawn = torch.rand(parameter.shape[1:] if self.weight.dim() == 3 else parameter.shape, generator=generator)
            target = parameter[replica] if self.weight.dim() == 3 else parameter
            target.copy_((2 * drawn - 1) * (0.0 if self.zero_bias and parameter is self.bias else self.bound))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1:] != self.weight.shape[-2:-1]:
            raise ValueError(
                f"a layer of {self.weight.shape[-2]} inputs got {'numbers' if not x.dim() else x.shape[-1]} to a row, of shape "
                f"{tuple(x.shape)}, expected as many as it has inputs. Try num_features={x.shape[-1] if x.dim() else 1}, or "
                "layers whose widths follow each other."
            )
        if self.weight.dim() == 2:
            return nn.functional.linear(x, self.weight.T, self.bias)
        if x.dim() == 2:
            x = x.expand(self.weight.shape[0], -1, -1)
        if x.dim() == 3:
            return torch.baddbmm(self.bias, x, self.weight)
        # Draws to the left of the replicas become rows: one product per replica, no copies of the weights.
        draws = x.shape[:-3]
        rows = x.movedim(-3, 0).flatten(1, -2)
        out: Tensor = torch.baddbmm(self.bias, rows, self.weight).unflatten(1, (*draws, x.shape[-2])).movedim(0, -3)
        return out


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
        for width in widths:
            layers += [Linear(in_features, width, replicas), make()]
            if dropout:
                layers.append(nn.Dropout(dropout))
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
