"""A linear layer batched over replicas."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pyro_probmix.arguments import checked

__all__ = ["Linear"]


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
