"""Replicas that train together, each with its gradient norm, rate, best weights, early stop and divergence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pyro_probmix.inference.step.adam import FusedStep

__all__ = ["Replicas"]


class Replicas:
    """The R replicas stacked in a module's parameters, [R, ...] each; or its single one, without that dim.

    Args:
        module: the module that holds the stacked parameters.
        count: R, or None for a module that is not stacked.
        names: one for each replica.

    Raises:
        ValueError: for a parameter that is not stacked, or a wrong number of names.
    """

    def __init__(self, module: nn.Module, count: int | None, names: Sequence[str] | None = None) -> None:
        self.count, self.stacked = count or 1, count is not None
        self.names = tuple(names) if names is not None else tuple(f"replica {r}" for r in range(self.count))
        if len(self.names) != self.count:
            raise ValueError(f"fit got {len(self.names)} names, expected one for each of the {self.count} replicas.")
        if not any(p.requires_grad for p in module.parameters()):
            raise ValueError("fit got a model without trainable parameters, expected some. Try a density with weights.")
        for name, parameter in module.named_parameters():
            if self.stacked and parameter.shape[:1] != (count,):
                raise ValueError(
                    f"parameter {name!r} has the shape {tuple(parameter.shape)}, expected a leading dimension of {count}, "
                    "one for each replica. Try replicas=None, or stack the parameter."
                )
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        # Running statistics belong to the best epoch too; those that are not stacked are shared and stay as they are.
        stacked = [b for b in module.buffers() if not self.stacked or b.shape[:1] == (count,)]
        self._kept = [*self.parameters, *stacked]
        self._best = [tensor.detach().clone() for tensor in self._kept]
        self.device = device = self.parameters[0].device
        self.best_nll = torch.full((self.count,), torch.inf, device=device)
        self.best_epoch = torch.zeros(self.count, dtype=torch.long, device=device)
        self.active = torch.ones(self.count, dtype=torch.bool, device=device)
        self.finite = torch.ones(self.count, dtype=torch.bool, device=device)

    def along(self, values: Tensor, tensor: Tensor) -> Tensor:
        """Values [R] shaped to broadcast with a stacked tensor."""
        return values.reshape(-1, *(1,) * (tensor.dim() - 1)) if self.stacked else values.reshape(())

    def sum_of_each(self, term: Tensor) -> Tensor:
        """The sum of a term [..., R, B] in each replica, [R]."""
        return term.movedim(-2, 0).flatten(1).sum(1) if self.stacked else term.sum().reshape(1)

    def clipped(self, gradients: Sequence[Tensor], largest: float) -> list[Tensor]:
        """The gradients, each replica's scaled so that its norm over all of its parameters is at most ``largest``."""
        squares = [g.flatten(1 if self.stacked else 0).square().sum(-1).reshape(-1) for g in gradients]
        norm = torch.stack(squares).sum(0).sqrt()
        factor = (largest / (norm + 1e-12)).clamp(max=1.0)
        return [gradient * self.along(factor, gradient) for gradient in gradients]

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer | FusedStep, rate: Tensor | None) -> None:
        """A step of the optimizer, each replica's scaled by its relative rate [R] in [0, 1]; None is one for all.

        The steps of SGD, Adam and similar are linear in the rate, so scaling the step scales the rate; at 0 a replica rests.
        """
        before = None if rate is None else [p.detach().clone() for p in self.parameters]
        optimizer.step()
        if before is not None and rate is not None:
            for parameter, old in zip(self.parameters, before, strict=True):
                rest = self.along(1 - rate, parameter).to(parameter.dtype)
                parameter.lerp_(old, rest.expand_as(parameter))

    @torch.no_grad()
    def keep_best(self, epoch: int, nll: Tensor, patience: int | None) -> None:
        """Keeps the weights of the replicas whose validation NLL [R] is their lowest; NaN never is."""
        better = (nll < self.best_nll) & self.active
        self.best_nll = torch.where(better, nll, self.best_nll)
        self.best_epoch = torch.where(better, epoch, self.best_epoch)
        for best, tensor in zip(self._best, self._kept, strict=True):
            best.copy_(torch.where(self.along(better, tensor), tensor, best))
        if patience is not None:
            self.active &= epoch - self.best_epoch < patience

    @torch.no_grad()
    def restore_best(self) -> None:
        """Puts the best weights back; a replica that never had a finite NLL keeps its last ones."""
        found = self.best_epoch > 0
        for best, tensor in zip(self._best, self._kept, strict=True):
            tensor.copy_(torch.where(self.along(found, tensor), best, tensor))

    def state(self) -> dict[str, Tensor]:
        """All that is remembered of the replicas from epoch to epoch, by name."""
        state = {"best_nll": self.best_nll, "best_epoch": self.best_epoch, "active": self.active, "finite": self.finite}
        return state | {f"best.{k}": tensor for k, tensor in enumerate(self._best)}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what :meth:`state` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
