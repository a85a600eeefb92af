"""The trainer: all replicas of a process together, by stochastic gradients of a criterion."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import pyro
import torch
from torch import Tensor

from pyro_probmix.inference.arguments import (
    check_arguments,
    check_criterion,
    check_functions,
    check_options,
    checked_rates,
    made_optimizer,
)
from pyro_probmix.inference.checkpoint import Checkpoint, as_checkpoint
from pyro_probmix.inference.criteria import Criterion, ExpectedLogLikelihood
from pyro_probmix.inference.data.arrays import TensorLike, as_tensor
from pyro_probmix.inference.data.checks import as_rows, check_kinds
from pyro_probmix.inference.data.digests import digest
from pyro_probmix.inference.data.minibatches import Minibatches
from pyro_probmix.inference.data.pages import kept_pages
from pyro_probmix.inference.data.ranks import Ranks
from pyro_probmix.inference.data.streaming import RowStream
from pyro_probmix.inference.epochs import Epochs, Rates
from pyro_probmix.inference.predictive.validation import held_out_rows
from pyro_probmix.inference.resume import FitState, Kept, identity_of
from pyro_probmix.inference.step.adam import fused_adam
from pyro_probmix.inference.step.making import make_step
from pyro_probmix.inference.step.objective import Objective
from pyro_probmix.inference.step.replicas import Replicas
from pyro_probmix.models.process import ProbMix
from pyro_probmix.random_state import own_random_state

__all__ = ["Fit", "fit"]


@dataclass(frozen=True)
class Fit:
    """The record of a fit; the weights of the best epoch are in the model.

    Attributes:
        train_loss: mean loss of each epoch, in nats a row, [epochs, R]; R = 1 without replicas.
        validation_nll: NLL of the validation rows after each epoch, in nats a row, [epochs, R]; NaN without such rows.
        best_epoch: the epoch, from 1, whose weights were kept, [R]; the last without validation rows, 0 where no epoch
            had a finite NLL.
        best_nll: its validation NLL, [R].
        diverged: names of the replicas that reached a loss that is not finite.
        last: the state of the model after the last epoch, as its ``load_state_dict`` takes it, on the CPU; None unless it was
            asked for.
    """

    train_loss: Tensor
    validation_nll: Tensor
    best_epoch: Tensor
    best_nll: Tensor
    diverged: tuple[str, ...]
    last: dict[str, Tensor] | None = None


@torch.inference_mode(False)
@torch.enable_grad()
def fit(
    model: ProbMix,
    x: TensorLike | RowStream,
    y: TensorLike | None = None,
    *,
    epochs: int,
    validation: tuple[TensorLike, TensorLike] | RowStream | Callable[[], Tensor] | None = None,
    weights: TensorLike | None = None,
    rows: TensorLike | None = None,
    learning_rate: float | TensorLike = 1e-3,
    optimizer: Callable[..., torch.optim.Optimizer] = fused_adam,
    criterion: Criterion | None = None,
    clip_norm: float | None = None,
    schedule: Callable[[int], float | Tensor] | None = None,
    patience: int | None = None,
    num_samples: int = 8,
    seed: int = 0,
    names: Sequence[str] | None = None,
    on_epoch: Callable[[int, Tensor], bool | None] | None = None,
    compile: bool | Literal["auto"] = "auto",
    plain: bool | Literal["auto"] = "auto",
    bf16: bool = False,
    distributed: bool = False,
    keep_last: bool = False,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
) -> Fit:
    """Trains a process by stochastic gradients, and leaves the weights of each replica's best epoch in it.

    Replicas never touch: losses are summed over them, and rate, clipping, early stop, best epoch and divergence are each
    replica's own. The parameters stay in the module; neither the global parameter store nor the global random state changes.

    Args:
        model: the process; the device of its parameters is where the training runs.
        x, y: all training rows, as the process takes them: tensors, arrays or data frames, which are brought to the precision
            of the weights; or x a stream of them, without y, whose blocks are trained on
            one after the other, with edges within a block (see :class:`~pyro_probmix.inference.data.shuffle.BlockShuffle`).
        epochs: number of passes; each draws a new order of the rows.
        validation: rows (x, y), or a stream, for the choice of the epoch; without them the last epoch's weights stay. Or a
            function that scores the model as it stands, a loss for each replica, [R], in the place of the validation NLL.
        weights: of the training rows, at least 0, [n] or with replicas also [R, n]. A row is drawn in proportion to its
            weight, as an anchor of any graph and as a partner in the complete one.
        rows: positions of each replica's rows in the x and y that all share, integers [R, n], so that x and y are held once;
            by default all of them. With ``weights`` of these n rows, and without a graph.
        learning_rate: of the optimizer; with replicas also a tensor [R].
        optimizer: makes a ``torch.optim`` optimizer whose step is linear in its rate, from (parameters, lr=...); by default
            Adam, fused to one operation.
        criterion: what to maximise; by default the :class:`ExpectedLogLikelihood`.
        clip_norm: largest norm of a replica's gradient, of the loss in nats a row.
        schedule: from the epoch, counted from 0, to a factor of the rate in [0, 1]; a number or [R].
        patience: epochs without a better validation NLL after which a replica stops.
        num_samples: draws of an embedding in the validation NLL.
        seed: of all random numbers of this fit.
        names: one for each replica, for reports; by default "replica 0" and so on.
        on_epoch: called after each epoch with its number, from 1, and the best validation NLL so far, [R]; the fit stops
            if it returns True.
        compile: whether to compile the step, see :func:`~pyro_probmix.inference.step.compiled.compiled_gradient`; ``"auto"``
            does so on a CPU where the number of steps repays it. The random numbers are those of the eager step, the
            losses and gradients the same up to rounding. On CUDA the step, optimizer included, and the validation are
            captured and replayed, see :func:`~pyro_probmix.inference.step.captured.capture`; False runs them one by one.
        plain: whether ``compile="auto"`` runs a step on a CPU by tensors alone, without compiling or Pyro's handlers, where the
            model allows it (see :func:`~pyro_probmix.inference.step.plain.runs_plainly`). ``"auto"`` does so where the number
            of steps does not repay compiling. The process is the same, but mixing weights are drawn for many steps at a
            time, so that the random numbers are others than those of a step by handlers, which False gives.
        bf16: whether matrix products in a step are rounded to bfloat16, see
            :func:`~pyro_probmix.inference.step.precision.bfloat16_products`. The validation's are not.
        distributed: whether all processes of torch's default process group train this model together, each on its share
            of every batch, and end with the same weights; all call ``fit`` with the same data. The step is not compiled.
        keep_last: whether the record holds the weights of the last epoch, too, beside those of the best one in the model.
        checkpoint: where to keep the state of the fit, or the path of its file; if the file is there, this same fit,
            interrupted, goes on from it and ends with the same weights bit for bit, on the same machine and versions.

    Raises:
        ValueError: for a model that is no :class:`ProbMix`, arguments that do not fit, no rows, responses outside the
            support of the likelihood, ``compile=True`` for a model that cannot be compiled or captured, a step whose
            capture the device refuses although all that is known to be refused was looked for, or a checkpoint that is
            damaged or of another fit.

    Warns:
        RuntimeWarning: names the replicas that diverged; says why ``compile="auto"`` could not compile or capture the
            model.

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
    check_kinds(model, x, y, validation)
    check_criterion(criterion)
    check_arguments(epochs, patience, clip_norm, num_samples, validation)
    check_functions(schedule=schedule, on_epoch=on_epoch)
    check_options(
        seed=seed, names=names, compile=compile, plain=plain, bf16=bf16, distributed=distributed, keep_last=keep_last
    )
    epochs, num_samples = int(epochs), int(num_samples)
    x, y = as_rows(model, x, y)
    if isinstance(validation, Sequence):
        validation = as_rows(model, *validation, "validation ")
    weights = None if weights is None else as_tensor("fit", "weights", weights)
    rows = None if rows is None else as_tensor("fit", "rows", rows)
    checkpoint = as_checkpoint(checkpoint)
    replicas = Replicas(model, model.replicas, names)
    ranks = Ranks(distributed, model.batch_size, model.num_fused)
    rates = Rates(checked_rates(learning_rate, replicas), schedule, replicas, patience)
    made = made_optimizer(optimizer, replicas.parameters, rates.largest)
    state = FitState.before(model, made, replicas, epochs)
    settings: dict[str, Any] = {
        "epochs": epochs, "seed": seed, "clip_norm": clip_norm, "patience": patience, "num_samples": num_samples,
        "compile": compile, "plain": plain, "bf16": bf16, "learning rates": digest(rates.rates),
    }  # fmt: skip
    with _by_itself(x, replicas.device, ranks.seed(seed)):
        source = Minibatches(model, x, y, weights, ranks, rows, seed=seed, device=replicas.device)
        held_out = held_out_rows(model, validation, source, num_samples, seed)
        model.train()
        # A copy, since a criterion remembers how many plates deep the model is that it first met.
        criterion = ExpectedLogLikelihood() if criterion is None else copy.copy(criterion)
        objective = Objective(model, criterion, replicas, source.num_rows, clip_norm, bf16)
        step, log_prob = make_step(
            objective,
            source,
            made,
            held_out,
            compile=compile,
            epochs=epochs,
            fused=optimizer is fused_adam,
            plain=plain,
            drawn=state.drawn,
        )
        score = held_out.scored_by(log_prob) if held_out is not None and log_prob is not None else validation
        kept = None if checkpoint is None else Kept(checkpoint, identity_of(objective, source, held_out, settings))
        loop = Epochs(state, source, step, rates, score if callable(score) else None, kept, on_epoch)
        last = loop.run(epochs)
    return _finished(state, last, validated=validation is not None, keep_last=keep_last)


@contextmanager
def _by_itself(x: Tensor | RowStream, device: torch.device, seed: int) -> Iterator[None]:
    """A fit with random numbers of its own, without Pyro's checks of arguments and its global parameters."""
    # A stream's memory is bounded, so what is free goes back; on other devices little is freed and taken here.
    pages = nullcontext() if isinstance(x, RowStream) or device.type != "cpu" else kept_pages()
    with own_random_state(device, seed), pyro.validation_enabled(False), pyro.get_param_store().scope(), pages:
        yield


def _finished(state: FitState, last: int, *, validated: bool, keep_last: bool) -> Fit:
    """The record of a fit whose last epoch was ``last``; leaves the kept weights in the model, and says who diverged."""
    replicas, train, scores = state.replicas, state.train[:last], state.scores[:last]
    state.model.eval()
    # As the loop or a checkpoint of its end left them.
    kept_last = {k: v.detach().to("cpu", copy=True) for k, v in state.model.state_dict().items()} if keep_last else None
    for parameter in replicas.parameters:
        parameter.grad = None  # it would hold all the memory of a captured step
    if validated:
        replicas.restore_best()
    else:
        replicas.best_epoch.fill_(last)
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
            stacklevel=5,  # through fit and its two decorators to its caller
        )
    return Fit(train.cpu(), scores.cpu(), replicas.best_epoch.cpu(), replicas.best_nll.cpu(), diverged, kept_last)
