"""Any module as R independent copies whose stacked weights train together."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from pyro_probmix.arguments import checked
from pyro_probmix.random_state import own_random_state

__all__ = ["Stacked"]


class Stacked(nn.Module):
    """R copies of a module, their parameters and buffers stacked along a leading dimension.

    Copies start from weights of their own where the module's parts can draw them (``reset_parameters``, as torch's layers
    have), else from those of the module given.

    Args:
        module: one copy, from [B, ...] to [B, width]; it is not changed.
        replicas: R.
        event_dim: number of rightmost dims of the input that are one row's; 1 for tables.

    Shape:
        [B, *row] (shared by the copies) or [..., R, B, *row], to [..., R, B, width].

    Raises:
        ValueError: for fewer than one replica.

    Example:
        >>> import torch
        >>> from pyro_probmix.models import Stacked
        >>> encoder = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.LayerNorm(8), torch.nn.GELU())
        >>> Stacked(encoder, replicas=5)(torch.zeros(7, 3)).shape
        torch.Size([5, 7, 8])
    """

    @checked(least={"replicas": 1, "event_dim": 0})
    def __init__(self, module: nn.Module, replicas: int, event_dim: int = 1) -> None:
        super().__init__()
        self.replicas, self.event_dim = replicas, event_dim
        # Only its code is used. A submodule would show its own weights as parameters, which are not stacked.
        object.__setattr__(self, "_code", copy.deepcopy(module))
        self._names = {
            name: name.replace(".", "__") for name, _ in (*module.named_parameters(), *module.named_buffers())
        }
        for name, parameter in module.named_parameters():
            stacked = parameter.detach().clone().expand(replicas, *parameter.shape).clone()
            self.register_parameter(self._names[name], nn.Parameter(stacked, requires_grad=parameter.requires_grad))
        for name, buffer in module.named_buffers():
            self.register_buffer(self._names[name], buffer.detach().clone().expand(replicas, *buffer.shape).clone())

    @torch.no_grad()
    def initialise(self, replica: int, generator: torch.Generator | None) -> None:
        """Draws the weights of one replica again."""
        code: Any = copy.deepcopy(self._code)
        # The layers draw from the global generator; its seed is the one number taken from ours.
        device = next((p.device for p in code.parameters()), torch.device("cpu"))
        with own_random_state(device, int(torch.randint(2**62, (), generator=generator))):
            for part in code.modules():
                if callable(getattr(part, "reset_parameters", None)):
                    part.reset_parameters()
        for name, value in (*code.named_parameters(), *code.named_buffers()):
            getattr(self, self._names[name])[replica].copy_(value)

    def copies(self) -> list[tuple[nn.Module, dict[str, Tensor]]]:
        """The code of each copy, and its weights by their names there."""
        code: Any = self._code
        code.train(self.training)
        return [
            (code, {name: getattr(self, stacked)[r] for name, stacked in self._names.items()})
            for r in range(self.replicas)
        ]

    def forward(self, x: Tensor) -> Tensor:
        own = {name: getattr(self, stacked) for name, stacked in self._names.items()}
        code: Any = self._code
        code.train(self.training)

        def one(state: dict[str, Tensor], rows: Tensor) -> Tensor:
            out: Tensor = functional_call(code, state, (rows,))
            return out

        if x.dim() <= self.event_dim + 1:
            shared: Tensor = vmap(one, in_dims=(0, None), randomness="different")(own, x)
            return shared
        if x.shape[-self.event_dim - 2] != self.replicas:
            raise ValueError(
                f"Stacked of {self.replicas} replicas got x of shape {tuple(x.shape)} with event_dim={self.event_dim}, "
                "expected [B, *row] or [..., R, B, *row]. Try another event_dim."
            )
        # Draws to the left of the replicas become rows.
        draws = x.shape[: -self.event_dim - 2]
        rows = x.movedim(-self.event_dim - 2, 0).flatten(1, -self.event_dim - 1)
        out: Tensor = vmap(one, randomness="different")(own, rows)
        spread: Tensor = out.unflatten(1, (*draws, x.shape[-self.event_dim - 1])).movedim(0, len(draws))
        return spread
