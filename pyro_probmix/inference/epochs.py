"""The loop over epochs: train, score the held-out rows, keep the best weights, write a checkpoint, tell the caller."""

from __future__ import annotations

__all__ = ["Epochs", "Rates"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_probmix.inference.data.minibatches import EpochMean, Minibatches
from pyro_probmix.inference.resume import FitState, Kept
from pyro_probmix.inference.step.captured import CapturedStep
from pyro_probmix.inference.step.eager import Step
from pyro_probmix.inference.step.replicas import Replicas


@dataclass(frozen=True)
class Rates:
    """The learning rates of each epoch.

    Attributes:
        rates: at first, [] for all replicas or [R].
        schedule: from the epoch, counted from 0, to a factor in [0, 1], a number or [R]; None is 1 throughout.
        replicas: whose rates they are.
        patience: of the fit; with one, replicas that have stopped have a rate of 0.
    """

    rates: Tensor
    schedule: Callable[[int], float | Tensor] | None
    replicas: Replicas
    patience: int | None

    @property
    def largest(self) -> float:
        """The largest rate at first."""
        return float(self.rates.max())

    def of_epoch(self, epoch: int) -> tuple[float, Tensor | None]:
        """The optimizer's rate in an epoch, from 0, and each replica's share of it, [R]; None where all have the same."""
        factor = 1.0 if self.schedule is None else self.schedule(epoch)
        if not isinstance(factor, Tensor | float | int):
            raise ValueError(
                f"fit got a schedule that gives a {type(factor).__name__}, expected a factor of the rate. Try schedule=None."
            )
        factor = factor.cpu() if isinstance(factor, Tensor) else float(factor)
        if isinstance(factor, float) and self.rates.dim() == 0:
            top, share = self.rates * factor, None
        else:
            each = (self.rates * factor).expand(self.replicas.count)
            top = each.max()
            share = each / top.clamp(min=torch.finfo(each.dtype).tiny)
            share = share.to(self.replicas.device, non_blocking=True)  # the device is not waited for
        if self.patience is not None:
            share = self.replicas.active.to(self.rates.dtype) * (1.0 if share is None else share)
        return float(top), share


@dataclass(frozen=True)
class Epochs:
    """The epochs of a fit.

    Attributes:
        state: all that they change.
        source: the training rows.
        step: a step by a minibatch of them.
        rates: the learning rates, and the patience.
        score: each replica's loss on held-out rows, [R], by the weights as they stand; None keeps the last epoch's.
        kept: where the state is written to, if anywhere.
        on_epoch: see :func:`~pyro_probmix.inference.training.fit`.
    """

    state: FitState
    source: Minibatches
    step: Step | CapturedStep
    rates: Rates
    score: Callable[[], Tensor] | None
    kept: Kept | None
    on_epoch: Callable[[int, Tensor], bool | None] | None

    def run(self, epochs: int) -> int:
        """Runs them from where a checkpoint left off; returns the last one's number."""
        replicas, last = self.state.replicas, 0
        if self.kept is not None:
            last = self.kept.resume(self.state)
        for epoch in range(last + 1, epochs + 1):
            if self.rates.patience is not None and not bool(replicas.active.any()):
                break
            last = epoch
            self._train(epoch)
            if self.score is not None:
                self._choose(epoch, self.score)
            if self.kept is not None:
                self.kept.write(self.state, epoch, whenever=epoch == epochs)
            if self.on_epoch is not None and self.on_epoch(epoch, replicas.best_nll):
                break
        return last

    def _train(self, epoch: int) -> None:
        self.step.set_rate(*self.rates.of_epoch(epoch - 1))
        self.state.model.train()
        losses = EpochMean()
        for rows in self.source.epoch(epoch - 1):
            losses.append(self.step(rows))
        self.state.train[epoch - 1] = losses.value()
        self.state.replicas.finite &= self.state.train[epoch - 1].isfinite()

    def _choose(self, epoch: int, score: Callable[[], Tensor]) -> None:
        """Keeps the weights of the replicas whose held-out loss is their lowest."""
        self.state.model.eval()
        found = score()
        if not isinstance(found, Tensor):
            raise ValueError(
                f"fit got a validation function that gives a {type(found).__name__}, expected a tensor, a loss for each "
                "replica. Try validation=(x, y)."
            )
        self.state.scores[epoch - 1] = self.source.ranks.mean(found)
        self.state.replicas.keep_best(epoch, self.state.scores[epoch - 1], self.rates.patience)
