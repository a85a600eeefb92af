"""The trainer: all replicas of a process together, by stochastic gradients of a criterion."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor

from pyro_probmix.inference.criteria import Criterion, ExpectedLogLikelihood
from pyro_probmix.inference.minibatches import check_rows, checked_source, minibatches
from pyro_probmix.inference.prediction import negative_log_likelihood
from pyro_probmix.inference.replicas import Replicas
from pyro_probmix.inference.streaming import RowStream
from pyro_probmix.models.process import ProbMix

__all__ = ["Fit", "fit"]


@dataclass(frozen=True)
class Fit:
    """What a fit left, besides the weights of the best epoch in the model.

    Attributes:
        train_loss: mean loss of each epoch, in nats a row, [epochs, R]; R = 1 without replicas.
        validation_nll: NLL of the validation rows after each epoch, in nats a row, [epochs, R]; NaN without such rows.
        best_epoch: the epoch, from 1, whose weights were kept, [R]; the last without validation rows, 0 where no epoch
            had a finite NLL.
        best_nll: its validation NLL, [R].
        diverged: names of the replicas that reached a loss that is not finite.
    """

    train_loss: Tensor
    validation_nll: Tensor
    best_epoch: Tensor
    best_nll: Tensor
    diverged: tuple[str, ...]


def fit(
    model: ProbMix,
    x: Tensor | RowStream,
    y: Tensor | None = None,
    *,
    epochs: int,
    validation: tuple[Tensor, Tensor] | None = None,
    learning_rate: float | Tensor = 1e-3,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    criterion: Criterion | None = None,
    clip_norm: float | None = None,
    schedule: Callable[[int], float | Tensor] | None = None,
    patience: int | None = None,
    num_samples: int = 8,
    seed: int = 0,
    names: Sequence[str] | None = None,
    on_epoch: Callable[[int, Tensor], None] | None = None,
) -> Fit:
    """Trains a process by stochastic gradients, and leaves the weights of each replica's best epoch in it.

    Replicas never touch: losses are summed over them, and rate, clipping, early stop, best epoch and divergence are each
    replica's own. The parameters stay in the module; neither the global parameter store nor the global random state changes.

    Args:
        model: the process; the device of its parameters is where the training runs.
        x, y: all training rows, as the process takes them; or x a stream of them, whose blocks are trained on one by one,
            with edges within a block (see :class:`RowStream`), and no y.
        epochs: number of passes; each draws a new order of the rows.
        validation: rows (x, y) for the choice of the epoch; without them the last epoch's weights stay.
        learning_rate: of the optimizer; with replicas also a tensor [R].
        optimizer: makes a ``torch.optim`` optimizer whose step is linear in its rate, from (parameters, lr=...).
        criterion: what to maximise; by default the :class:`ExpectedLogLikelihood`.
        clip_norm: largest norm of a replica's gradient, of the loss in nats a row.
        schedule: from the epoch, counted from 0, to a factor of the rate in [0, 1]; a number or [R].
        patience: epochs without a better validation NLL after which a replica stops.
        num_samples: draws of an embedding in the validation NLL.
        seed: of all random numbers of this fit.
        names: one for each replica, for reports; by default "replica 0" and so on.
        on_epoch: called after each epoch with its number, from 1, and the best validation NLL so far, [R].

    Raises:
        ValueError: for arguments that do not fit, or responses outside the support of the likelihood.

    Warns:
        RuntimeWarning: names the replicas that diverged.

    Example:
        >>> import torch
        >>> from pyro_probmix import ProbMix, fit
        >>> from pyro_probmix.models import METHODS, Gaussian, build_density
        >>> density = build_density(METHODS["ProbMix"], num_features=1, likelihood=Gaussian, widths=(16, 8), replicas=3)
        >>> x = torch.linspace(-1, 1, 60)[:, None]
        >>> result = fit(ProbMix(density, at="y", batch_size=20), x, x**3, epochs=20, learning_rate=0.01)
        >>> result.train_loss.shape
        torch.Size([20, 3])
    """
    replicas = Replicas(model, model.replicas, names)
    _check_arguments(epochs, patience, clip_norm, validation)
    rates = _checked_rates(learning_rate, replicas)
    device = replicas.parameters[0].device
    source = checked_source(model, x, y, device)
    held_out = None if validation is None else (validation[0].to(device), validation[1].to(device))
    # A copy, since a criterion remembers how many plates deep the model is that it first met.
    criterion = ExpectedLogLikelihood() if criterion is None else copy.copy(criterion)
    steps = optimizer(replicas.parameters, lr=float(rates.max()))
    train = torch.full((epochs, replicas.count), torch.nan, device=device)
    scores = torch.full((epochs, replicas.count), torch.nan, device=device)
    with _own_random_state(seed, device), pyro.validation_enabled(False):
        if not isinstance(source, RowStream):
            check_rows(model, *source)
        for epoch in range(epochs):
            rate = _epoch_rate(steps, rates, 1.0 if schedule is None else schedule(epoch), replicas, patience)
            model.train()
            losses = _Mean()
            for x, y, rows, n in minibatches(model, source, seed, epoch, device):
                steps.zero_grad()
                terms = criterion.terms(model, model.guide, x, y, rows)
                torch.stack([-term.sum() / n for term in terms]).sum().backward()  # in nats a row, eq. (15)
                if clip_norm is not None:
                    replicas.clip(clip_norm)
                replicas.step(steps, rate)
                losses.append(torch.stack([-replicas.sum_of_each(term.detach()) / n for term in terms]).sum(0))
            train[epoch] = losses.value()
            replicas.finite &= train[epoch].isfinite()
            if held_out is not None:
                model.eval()
                scores[epoch] = negative_log_likelihood(model.density, *held_out, num_samples=num_samples)
                replicas.keep_best(epoch + 1, scores[epoch], patience)
            if on_epoch is not None:
                on_epoch(epoch + 1, replicas.best_nll)
            if patience is not None and not bool(replicas.active.any()):
                break
    model.eval()
    if held_out is None:
        replicas.best_epoch.fill_(epoch + 1)
    else:
        replicas.restore_best()
    return _finished(replicas, train[: epoch + 1], scores[: epoch + 1])


class _Mean:
    """The mean of many tensors, of which few are kept."""

    def __init__(self) -> None:
        self._values: list[Tensor] = []
        self._means: list[Tensor] = []
        self._counts: list[int] = []

    def append(self, value: Tensor) -> None:
        self._values.append(value)
        if len(self._values) == 16_384:
            self._fold()

    def _fold(self) -> None:
        self._means.append(torch.stack(self._values).mean(0))
        self._counts.append(len(self._values))
        self._values.clear()

    def value(self) -> Tensor:
        """Shaped as one of them."""
        if self._values:
            self._fold()
        total = sum(self._counts)
        return torch.stack([mean * (count / total) for mean, count in zip(self._means, self._counts, strict=True)]).sum(
            0
        )


def _finished(replicas: Replicas, train: Tensor, scores: Tensor) -> Fit:
    finite = replicas.finite.tolist()
    diverged = tuple(name for name, ok in zip(replicas.names, finite, strict=True) if not ok)
    if diverged:
        first = (~train.isfinite()).float().argmax(0)
        kept = ", ".join(
            f"{name} in epoch {int(first[r]) + 1} (kept the weights of epoch {int(replicas.best_epoch[r])})"
            for r, name in enumerate(replicas.names)
            if not finite[r]
        )
        warnings.warn(
            f"the loss was not finite for {kept}; the other replicas are untouched. Try a smaller learning rate or clip_norm.",
            RuntimeWarning,
            stacklevel=3,
        )
    return Fit(train.cpu(), scores.cpu(), replicas.best_epoch.cpu(), replicas.best_nll.cpu(), diverged)


def _epoch_rate(
    steps: torch.optim.Optimizer, rates: Tensor, factor: float | Tensor, replicas: Replicas, patience: int | None
) -> Tensor | None:
    """Sets the optimizer's rate, and returns the replicas' share of it, [R]; None where all have the same."""
    if isinstance(factor, float) and rates.dim() == 0:
        top, share = rates * factor, None
    else:
        own = (rates * factor).expand(replicas.count)
        top = own.max()
        share = (own / top.clamp(min=torch.finfo(own.dtype).tiny)).to(replicas.active.device)
    for group in steps.param_groups:
        group["lr"] = float(top)
    if patience is None:
        return share
    return replicas.active.to(rates.dtype) * (1.0 if share is None else share)


def _checked_rates(learning_rate: float | Tensor, replicas: Replicas) -> Tensor:
    rates = torch.as_tensor(learning_rate, dtype=torch.get_default_dtype()).cpu()
    if rates.dim() and rates.shape != (replicas.count,):
        raise ValueError(
            f"fit got learning rates of shape {tuple(rates.shape)}, expected a number or one for each replica, "
            f"({replicas.count},). Try learning_rate=0.005."
        )
    if not bool(((rates > 0) & rates.isfinite()).all()):
        raise ValueError(f"fit got learning_rate={learning_rate}, expected values above 0. Try learning_rate=0.005.")
    return rates


def _check_arguments(epochs: int, patience: int | None, clip_norm: float | None, validation: object) -> None:
    for name, value in (("epochs", epochs), ("patience", patience), ("clip_norm", clip_norm)):
        if value is not None and not value > 0:
            raise ValueError(f"fit got {name}={value}, expected a value above 0. Try {name}=10.")
    if patience is not None and validation is None:
        raise ValueError("fit got patience but no validation rows, expected rows to watch. Try validation=(x, y).")


@contextmanager
def _own_random_state(seed: int, device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
