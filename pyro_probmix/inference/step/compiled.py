"""The gradient of a minibatch's loss, and the validation, compiled, and whether to."""

from __future__ import annotations

__all__ = ["check_repeats", "choose", "compiled_forward", "compiled_gradient", "repays"]

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyro_probmix.inference.predictive.validation import Validation
from pyro_probmix.inference.step.objective import Gradient, Objective, eager_gradient, hold
from pyro_probmix.inference.step.programs import Program, compiled_program, quiet, traced

#: From a block of rows x and y to the sum of their log predictive densities, [] or [R].
LogProb = Callable[[Tensor, Tensor], Tensor]
Compile = bool | Literal["auto"]

#: What a compiled step costs once and saves each time, in seconds; see :func:`repays`. Measured on one core, MLP 8-128-32
#: (``benchmarks/compiling.py``, ``bench.py``): step and validation compile in 19 (ERM) to 21 (M-ProbMix) of processor time, in
#: 3 with the cache on disk, in 0.2 to 0.4 once more in a process; saved a step 3.2 ms by one model of 32 rows, 2.2 to 4.9 by
#: 20 of them, 11 by 20 of 222 rows. A step by tensors alone is faster by itself (``benchmarks/likelihoods.py``).
COMPILE_SECONDS, SAVED_PER_STEP, SAVED_PER_PLAIN_STEP, SAVED_PER_ROW = 25.0, 2e-3, 4e-4, 1e-6


def compiled_gradient(objective: Objective, x: Tensor, y: Tensor, rows: Tensor) -> Gradient:
    """The gradient by a compiled graph: the model is run twice, now, and its tensor operations are what is repeated.

    Whatever is no tensor (a number, a flag, a branch taken) stays as it was in that run. Parameters, buffers, data, and
    tensors that the model takes from elsewhere, such as a graph's neighbours, are read again at each step. Random numbers
    are drawn by the same calls in the same order as by :func:`eager_gradient`.

    Args:
        objective: in the mode (training or not) that is to be compiled.
        x, y: all rows.
        rows: an example of the rows of a minibatch.

    Raises:
        RuntimeError: says why the model cannot be compiled.
    """
    losses_and_gradients, trained = _step_program(objective)
    run = compiled_program(objective, losses_and_gradients, [x, y], [rows])
    parameters = dict(objective.named_parameters())
    found_parameters = [parameters[name] for name in trained]

    def gradient(rows: Tensor) -> Tensor:
        losses, *gradients = run(rows)
        for parameter, found in zip(found_parameters, gradients, strict=True):
            hold(parameter, found)
        return losses

    return gradient


def check_repeats(objective: Objective, x: Tensor, y: Tensor, rows: Tensor) -> None:
    """Raises RuntimeError unless the step is the same tensor operations each time, whatever the values; runs nothing.

    Args:
        objective, x, y, rows: see :func:`compiled_gradient`.
    """
    with quiet(rows.device):
        traced(objective, _step_program(objective)[0], [x, y], [rows.contiguous()])


def _step_program(objective: Objective) -> tuple[Program, list[str]]:
    """The losses and gradients as a program, and the names of the parameters that have a gradient once it has run."""
    wanted = [name for name, p in objective.named_parameters() if p.requires_grad]
    trained: list[str] = []

    def losses_and_gradients(state: Mapping[str, Tensor], *tensors: Tensor) -> list[Tensor]:
        losses: Tensor = functional_call(objective, dict(state), tensors)
        gradients = objective.gradients(losses, {name: state[name] for name in wanted})
        trained[:] = gradients
        return [losses.detach(), *gradients.values()]

    return losses_and_gradients, trained


def compiled_forward(module: nn.Module, *example: Tensor) -> Callable[..., Tensor]:
    """The module's forward pass by a compiled graph, without gradients; see :func:`compiled_gradient`.

    Args:
        module: returns a tensor; it is compiled in the mode that it is in.
        example: the arguments; those of each call are shaped likewise.

    Raises:
        RuntimeError: says why the module cannot be compiled.
    """

    def forward(state: Mapping[str, Tensor], *tensors: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return [functional_call(module, dict(state), tensors)]

    run = compiled_program(module, forward, [], example)
    return lambda *tensors: run(*tensors)[0]


def choose(
    objective: Objective,
    x: Tensor,
    y: Tensor,
    rows: Tensor,
    validation: Validation | None,
    compile: Compile,
    num_steps: int,
) -> tuple[Gradient, LogProb | None]:
    """The gradient and the validation, both compiled where it is wanted and can be had, else both eager.

    Args:
        objective, x, y, rows: see :func:`compiled_gradient`.
        validation: the validation, if there is one.
        compile: True compiles; ``"auto"`` does so on a CPU where it :func:`repays`; False does not.
        num_steps: how often the gradient will be asked for.

    Raises:
        ValueError: if ``compile`` is True and the model cannot be compiled, or is none of the three.

    Warns:
        RuntimeWarning: says why, if ``compile`` is ``"auto"`` and the model cannot be compiled.
    """
    if compile not in (True, False, "auto"):
        raise ValueError(f"fit got compile={compile!r}, expected True, False or 'auto'. Try compile='auto'.")
    criterion: Any = objective.criterion
    if criterion.num_particles * criterion.num_embeddings > 1 and criterion.max_plate_nesting == math.inf:
        model = objective.model  # run once now, where the eager and the compiled step draw the same random numbers
        criterion._guess_max_plate_nesting(model, model.guide, (x, y, rows), {})
    eager = eager_gradient(objective, x, y), validation
    if compile is False or (compile == "auto" and (x.is_cuda or not repays(num_steps, objective, rows))):
        return eager
    try:
        return compiled_gradient(objective, x, y, rows), validation and _compiled_validation(validation)
    except RuntimeError as error:
        if compile is True:
            raise ValueError(
                f"fit(compile=True) could not compile the step: {error}. Try compile='auto', which then runs it eagerly."
            ) from error
        warnings.warn(
            f"fit runs the step eagerly, since it could not compile it: {error}. Try compile=False to silence this.",
            RuntimeWarning,
            stacklevel=7,  # through make_step, fit and its two decorators to the caller of fit
        )
        return eager


def _compiled_validation(validation: Validation) -> LogProb:
    """One graph for each shape that a block has: all but the last have the same."""
    training = validation.training
    validation.eval()
    compiled = {block[0].shape: compiled_forward(validation, *block) for block in validation.distinct_blocks()}
    validation.train(training)
    return lambda x, y: compiled[x.shape](x, y)


def repays(num_steps: int, objective: Objective, rows: Tensor, *, plain: bool = False) -> bool:
    """Whether so many compiled steps save more time than compiling takes when nothing is in the cache.

    A rule, not a timing, so that a fit is compiled in each run of it or in none.

    Args:
        num_steps: of the fit.
        objective, rows: see :func:`compiled_gradient`.
        plain: whether a step that is not compiled runs by tensors alone, and not by handlers.
    """
    draws = objective.criterion.num_particles * objective.criterion.num_embeddings
    saved = (SAVED_PER_PLAIN_STEP if plain else SAVED_PER_STEP) + SAVED_PER_ROW * rows.numel() * draws
    return bool(num_steps * saved > COMPILE_SECONDS)
