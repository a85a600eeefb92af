"""Adam's step without the Python around its one operation."""

from __future__ import annotations

__all__ = ["FusedStep", "LightAdam", "fused_adam"]

from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from operator import is_not
from typing import Any

import torch
from torch import Tensor

#: The parameters of the last step, their moments and counts of steps, before the first.
_NOTHING: list[list[Tensor]] = [[], [], [], []]
#: The trainer's default optimizer, from (parameters, lr=...).
fused_adam = partial(torch.optim.Adam, fused=True)


class FusedStep:
    """Steps an optimizer made by :data:`fused_adam`, whose state stays in it.

    ``torch.optim.Adam.step`` collects parameters, gradients and state again, and looks for hooks and a profiler. For one
    small network this takes several times as long as the update itself.

    Args:
        optimizer: as :data:`fused_adam` made it, with one group of parameters and without hooks.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        (group,) = optimizer.param_groups
        self._parameters: list[Tensor] = group["params"]
        self._state: list[list[Tensor]] | None = None  # first and second moments, and the counts of steps

    @torch.no_grad()
    def step(self) -> None:
        """One step of all parameters, by the gradients they hold."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if self._state is None or len(gradients) < len(self._parameters):
            self.optimizer.step()  # makes the state, and passes over parameters without a gradient
            self._state = self._gather()
            return
        first, second, counts = self._state
        (group,) = self.optimizer.param_groups  # another one after load_state_dict
        beta1, beta2 = group["betas"]
        torch._foreach_add_(counts, 1)
        torch._fused_adam_(
            self._parameters,
            gradients,
            first,
            second,
            [],
            counts,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    def _gather(self) -> list[list[Tensor]] | None:
        states = [self.optimizer.state[p] for p in self._parameters if p in self.optimizer.state]
        if len(states) < len(self._parameters):
            return None
        return [[state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step")]


class LightAdam(torch.optim.Optimizer):
    """Adam, one operation a step, made without torch's own constructor, which imports the compiler: a second of a first fit.

    Args:
        parameters: floating-point tensors of one device.
        lr: the rate.

    References:
        Kingma and Ba, 2015, "Adam: A Method for Stochastic Optimization".
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.defaults: dict[str, Any] = {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-8}
        self.state = defaultdict(dict)
        self.param_groups = [{"params": [*parameters], **self.defaults}]
        self._moved = _NOTHING

    def __setstate__(self, state: dict[str, Any]) -> None:
        # torch's own wraps the step of the whole class in hooks that its constructor makes
        self.__dict__.update(state, _moved=_NOTHING)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override] # no closure is called
        """One step of the parameters that hold a gradient."""
        (group,) = self.param_groups
        parameters = [p for p in group["params"] if p.grad is not None]
        if len(parameters) != len(self._moved[0]) or any(map(is_not, parameters, self._moved[0])):
            self._moved = [parameters, *self._gathered(parameters)]
        _, first, second, counts = self._moved
        torch._foreach_add_(counts, 1)
        beta1, beta2 = group["betas"]
        torch._fused_adam_(
            parameters, [p.grad for p in parameters], first, second, [], counts,
            lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=0.0, eps=group["eps"], amsgrad=False, maximize=False,
        )  # fmt: skip

    def _gathered(self, parameters: list[Tensor]) -> list[list[Tensor]]:
        for p in parameters:
            if not self.state[p]:
                zero = torch.zeros((), dtype=torch.float32, device=p.device)
                self.state[p] = {"step": zero, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        return [[self.state[p][name] for p in parameters] for name in ("exp_avg", "exp_avg_sq", "step")]
