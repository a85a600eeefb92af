"""The trainer: all replicas of a process together, by stochastic gradients of a criterion."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import pyro
import torch
from torch import Tensor

from pyro_probmix.inference.arguments import (
    check_arguments,
    check_criterion,
    check_functions,
    checked_rates,
    made_optimizer,
    name_of,
)
from pyro_probmix.inference.checkpoint import Checkpoint
from pyro_probmix.inference.criteria import Criterion, ExpectedLogLikelihood
from pyro_probmix.inference.data.checks import check_kinds
from pyro_probmix.inference.data.digests import digest
from pyro_probmix.inference.data.minibatches import EpochMean, Minibatches, checked_validation
from pyro_probmix.inference.data.pages import kept_pages
from pyro_probmix.inference.data.ranks import Ranks
from pyro_probmix.inference.data.streaming import RowStream
from pyro_probmix.inference.predictive.validation import Validation
from pyro_probmix.inference.resume import FitState, identity_of
from pyro_probmix.inference.step.adam import fused_adam
from pyro_probmix.inference.step.captured import CapturedStep, capture
from pyro_probmix.inference.step.compiled import choose
from pyro_probmix.inference.step.distributed import joint_gradient
from pyro_probmix.inference.step.eager import Step
from pyro_probmix.inference.step.objective import Objective
from pyro_probmix.inference.step.recorders import recorder_for
from pyro_probmix.inference.step.replicas import Replicas
from pyro_probmix.models.process import ProbMix
from pyro_probmix.random_state import own_random_state

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
    validation: tuple[Tensor, Tensor] | RowStream | Callable[[], Tensor] | None = None,
    weights: Tensor | None = None,
    learning_rate: float | Tensor = 1e-3,
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
    bf16: bool = False,
    distributed: bool = False,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Trains a process by stochastic gradients, and leaves the weights of each replica's best epoch in it.

    Replicas never touch: losses are summed over them, and rate, clipping, early stop, best epoch and divergence are each
    replica's own. The parameters stay in the module; neither the global parameter store nor the global random state changes.

    Args:
        model: the process; the device of its parameters is where the training runs.
        x, y: all training rows, as the process takes them; or x a stream of them, without y, whose blocks are trained on
            one after the other, with edges within a block (see :class:`~pyro_probmix.inference.data.shuffle.BlockShuffle`).
        epochs: number of passes; each draws a new order of the rows.
        validation: rows (x, y), or a stream, for the choice of the epoch; without them the last epoch's weights stay. Or a
            function that scores the model as it stands, a loss for each replica, [R], in the place of the validation NLL.
        weights: of the training rows, at least 0, [n] or with replicas also [R, n]. A row is drawn in proportion to its
            weight, as an anchor of any graph and as a partner in the complete one.
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
        bf16: whether matrix products in a step are rounded to bfloat16, see
            :func:`~pyro_probmix.inference.step.precision.bfloat16_products`. The validation's are not.
        distributed: whether all processes of torch's default process group train this model together, each on its share
            of every batch, and end with the same weights; all call ``fit`` with the same data. The step is not compiled.
        checkpoint: where to keep the state of the fit; if the file is there, this same fit, interrupted, goes on from it and
            ends with the same weights bit for bit, on the same machine and versions.

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
    if not isinstance(model, ProbMix):
        raise ValueError(f"fit got a {name_of(model)}, expected a ProbMix. Try ProbMix(density, at=...).")
    check_kinds(x, y, validation)
    check_criterion(criterion)
    check_arguments(epochs, patience, clip_norm, num_samples, validation)
    check_functions(schedule=schedule, on_epoch=on_epoch)
    replicas = Replicas(model, model.replicas, names)
    ranks = Ranks(distributed, model.batch_size, model.num_fused)
    rates = checked_rates(learning_rate, replicas)
    device = replicas.parameters[0].device
    # A copy, since a criterion remembers how many plates deep the model is that it first met.
    criterion = ExpectedLogLikelihood() if criterion is None else copy.copy(criterion)
    steps = made_optimizer(optimizer, replicas.parameters, float(rates.max()))
    train = torch.full((epochs, replicas.count), torch.nan, device=device)
    scores = torch.full((epochs, replicas.count), torch.nan, device=device)
    stack = () if model.replicas is None else (model.replicas,)
    # A stream's memory is bounded, so what is free goes back; on other devices little is freed and taken here.
    pages = nullcontext() if isinstance(x, RowStream) or device.type != "cpu" else kept_pages()
    own_state = own_random_state(device, ranks.seed(seed))
    with own_state, pyro.validation_enabled(False), pyro.get_param_store().scope(), pages:
        source = Minibatches(model, x, y, weights, ranks, seed=seed, device=device)
        score = validation if callable(validation) else None
        evaluation = None
        if validation is not None and not callable(validation):
            held_out = checked_validation(model, validation, source)
            evaluation = Validation(model, *held_out, num_samples, source.response, seed)
        model.train()
        example = torch.zeros(*stack, source.batch_size, dtype=torch.long, device=device)
        num_steps = epochs * source.num_steps
        objective = Objective(model, criterion, replicas, source.num_rows, clip_norm, bf16)
        if not ranks.joint:
            gradient, log_prob = choose(objective, source.x, source.y, example, evaluation, compile, num_steps)
        elif compile is True:
            raise ValueError("fit got compile=True beside distributed=True, expected one. Try compile='auto'.")
        else:
            gradient, log_prob = joint_gradient(objective, source.x, source.y, ranks), evaluation
        plain = Step(gradient, replicas, steps, fused=optimizer is fused_adam)
        recorder = None if compile is False or ranks.joint else recorder_for(device)
        step: Step | CapturedStep = plain
        if recorder is not None:
            tensors = source.x, source.y, example
            blocks = [] if evaluation is None else evaluation.distinct_blocks()
            step, log_prob = capture(
                plain, log_prob, objective, tensors, blocks, recorder, num_steps=num_steps, required=compile is True
            )
        state = FitState(model, steps, replicas, train, scores)
        settings: dict[str, Any] = {
            "epochs": epochs,
            "seed": seed,
            "batch size": source.batch_size,
            "clip_norm": clip_norm,
            "patience": patience,
        }
        settings |= {"num_samples": num_samples, "compile": compile, "bf16": bf16, "learning rates": digest(rates)}
        identity = {}
        if checkpoint is not None:
            settings |= {"data": source.identity(), "validation": evaluation and evaluation.identity()}
            identity = identity_of(model, criterion, replicas, ranks, settings)
        epoch = done = state.resume(checkpoint, identity)
        for epoch in range(done + 1, epochs + 1):
            if patience is not None and not bool(replicas.active.any()):
                epoch -= 1
                break
            step.set_rate(*_epoch_rate(rates, 1.0 if schedule is None else schedule(epoch - 1), replicas, patience))
            model.train()
            losses = EpochMean()
            for rows in source.epoch(epoch - 1):
                losses.append(step(rows))
            train[epoch - 1] = losses.value()
            replicas.finite &= train[epoch - 1].isfinite()
            if evaluation is not None and log_prob is not None:
                model.eval()
                scores[epoch - 1] = ranks.mean(evaluation.nll(log_prob))
            if score is not None:
                model.eval()
                scores[epoch - 1] = ranks.mean(score())
            if validation is not None:
                replicas.keep_best(epoch, scores[epoch - 1], patience)
            if checkpoint is not None and (checkpoint.due or epoch == epochs):
                checkpoint.write(state.tensors(epoch), epoch, identity)
            if on_epoch is not None and on_epoch(epoch, replicas.best_nll):
                break
    model.eval()
    for parameter in replicas.parameters:
        parameter.grad = None  # it would hold all the memory of a captured step
    if validation is None:
        replicas.best_epoch.fill_(epoch)
    else:
        replicas.restore_best()
    return _finished(replicas, train[:epoch], scores[:epoch])


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
    rates: Tensor, factor: float | Tensor, replicas: Replicas, patience: int | None
) -> tuple[float, Tensor | None]:
    """The optimizer's rate, and the replicas' share of it, [R]; None where all have the same."""
    factor = factor.cpu() if isinstance(factor, Tensor) else float(factor)
    if isinstance(factor, float) and rates.dim() == 0:
        top, share = rates * factor, None
    else:
        own = (rates * factor).expand(replicas.count)
        top = own.max()
        share = own / top.clamp(min=torch.finfo(own.dtype).tiny)
        share = share.to(replicas.active.device, non_blocking=True)  # the device is not waited for
    if patience is not None:
        share = replicas.active.to(rates.dtype) * (1.0 if share is None else share)
    return float(top), share
