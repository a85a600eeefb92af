"""The step of a fit and its held-out score, as they are run: eager, compiled, captured, or by several processes."""

from __future__ import annotations

__all__ = ["make_step"]

from typing import Literal

import torch
from torch import Tensor

from pyro_probmix.inference.data.minibatches import Minibatches
from pyro_probmix.inference.predictive.validation import Validation
from pyro_probmix.inference.step.captured import CapturedStep, capture
from pyro_probmix.inference.step.compiled import Compile, LogProb, choose, repays
from pyro_probmix.inference.step.distributed import joint_gradient
from pyro_probmix.inference.step.eager import Step
from pyro_probmix.inference.step.objective import Gradient, Objective
from pyro_probmix.inference.step.plain import runs_plainly, tensor_gradient
from pyro_probmix.inference.step.recorders import recorder_for


def make_step(
    objective: Objective,
    source: Minibatches,
    optimizer: torch.optim.Optimizer,
    validation: Validation | None,
    *,
    compile: Compile,
    epochs: int,
    fused: bool,
    plain: bool | Literal["auto"],
    drawn: list[Tensor],
) -> tuple[Step | CapturedStep, LogProb | None]:
    """The step, and the log density of a block of held-out rows.

    Args:
        objective: what is minimised, in training mode.
        source: the training rows.
        optimizer: of its parameters.
        validation: the held-out rows, if there are some.
        compile: see :func:`~pyro_probmix.inference.training.fit`.
        epochs: how many there will be.
        fused: whether the optimizer is ``fused_adam``'s.
        plain: see :func:`~pyro_probmix.inference.training.fit`.
        drawn: holds weights that are drawn ahead.

    Raises:
        ValueError: if ``compile`` is True and the step cannot be compiled or captured, or runs in several processes.

    Warns:
        RuntimeWarning: says why ``compile="auto"`` could not compile or capture it.
    """
    device, ranks = objective.replicas.device, source.ranks
    stack = () if objective.model.replicas is None else (objective.model.replicas,)
    example = torch.zeros(*stack, source.batch_size, dtype=torch.long, device=device)
    num_steps = epochs * source.num_steps
    recorder = None if compile is False or ranks.joint else recorder_for(device)
    may_be_plain = (
        plain is not False and compile == "auto" and recorder is None and device.type == "cpu" and not ranks.joint
    )
    is_short = plain is True or not repays(num_steps, objective, example, plain=True)
    is_mixed = objective.model.at != "x" or source.x.is_floating_point()  # others are refused by the handlers
    if may_be_plain and is_short and is_mixed and runs_plainly(objective):
        gradient = tensor_gradient(objective, source.x, source.y, drawn)
        return Step(gradient, objective.replicas, optimizer, fused=fused), validation
    gradient, log_prob = _gradient(objective, source, example, validation, compile, num_steps)
    step = Step(gradient, objective.replicas, optimizer, fused=fused)
    if recorder is None:
        return step, log_prob
    tensors = source.x, source.y, example
    blocks = [] if validation is None else validation.distinct_blocks()
    return capture(step, log_prob, objective, tensors, blocks, recorder, num_steps=num_steps, required=compile is True)


def _gradient(
    objective: Objective,
    source: Minibatches,
    example: Tensor,
    validation: Validation | None,
    compile: Compile,
    num_steps: int,
) -> tuple[Gradient, LogProb | None]:
    if not source.ranks.joint:
        return choose(objective, source.x, source.y, example, validation, compile, num_steps)
    if compile is True:
        raise ValueError("fit got compile=True beside distributed=True, expected one. Try compile='auto'.")
    return joint_gradient(objective, source.x, source.y, source.ranks), validation
