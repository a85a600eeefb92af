"""Steps and validations as CUDA graphs: recorded once, and then replayed by one call each."""

from __future__ import annotations

__all__ = ["Captured", "CapturedStep", "capture"]

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyro_probmix.inference.step.compiled import LogProb, check_repeats
from pyro_probmix.inference.step.eager import Step
from pyro_probmix.inference.step.objective import Objective
from pyro_probmix.inference.step.recorders import Recorder, no_waiting
from pyro_probmix.random_state import own_random_state

#: Steps that are run before one is recorded: they make the optimizer's state and the workspaces of the matrix products, and
#: are steps of the fit like any other.
WARM_UP = 3

#: The fewest steps of a fit for which finding out whether they can be recorded repays: it takes as long as about a hundred.
LEAST_STEPS = 200


class Captured:
    """A function of tensors that is recorded and from then on repeated, once for each shape of its arguments.

    Args:
        function: returns a tensor; reads and changes tensors in place, always the same ones. It is called as it is
            ``warm_up`` times, once more to be recorded, and never again.
        recorder: records it.
        warm_up: calls before the one that is recorded.
    """

    def __init__(self, function: Callable[..., Tensor], recorder: Recorder, warm_up: int) -> None:
        self.function, self.recorder, self.warm_up = function, recorder, warm_up
        self._by_shape: dict[Any, _Recording] = {}

    def __call__(self, *tensors: Tensor) -> Tensor:
        key = tuple((t.shape, t.dtype) for t in tensors)
        if key not in self._by_shape:
            self._by_shape[key] = _Recording(self, tensors)
        return self._by_shape[key](*tensors)

    def forget(self) -> None:
        """Makes the next calls run once more as they are, and then record again."""
        for recording in self._by_shape.values():
            recording.replay = None
            recording.calls = min(recording.calls, self.warm_up - 1)


class _Recording:
    """A function on arguments of one shape, which are copied to where the recorded work reads them."""

    def __init__(self, captured: Captured, tensors: tuple[Tensor, ...]) -> None:
        self.captured, self.calls = captured, 0
        self.inputs = [torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in tensors]
        self.replay: Callable[[], None] | None = None
        self.result: Tensor | None = None

    def __call__(self, *tensors: Tensor) -> Tensor:
        for kept, given in zip(self.inputs, tensors, strict=True):
            kept.copy_(given)
        if self.calls < self.captured.warm_up:
            self.calls += 1
            return self.captured.recorder.aside(self._run)
        if self.replay is None:
            self.replay = self._recorded()
        self.replay()
        assert self.result is not None
        return self.result.clone()  # the next replay writes over it

    def _recorded(self) -> Callable[[], None]:
        try:
            return self.captured.recorder.record(self._keep_result)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # What a model did that the checks before do not see. A device does not always go on from there.
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise ValueError(
                f"fit could not capture the step: {reason}. Try compile=False, which runs it eagerly."
            ) from error

    def _run(self) -> Tensor:
        return self.captured.function(*self.inputs)

    def _keep_result(self) -> None:
        self.result = self._run()


class CapturedStep:
    """A :class:`~pyro_probmix.inference.step.eager.Step` that is replayed; its rate is a number on the device.

    Args:
        step: the step; its optimizer must be one of those that :func:`capture` takes.
        recorder: records it.
    """

    def __init__(self, step: Step, recorder: Recorder) -> None:
        self.step = step
        self._replayed = Captured(step, recorder, WARM_UP)
        self._rate: Tensor | None = None
        for group in step.optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True  # before there is a state, which then lies on the device
                if not group.get("fused"):
                    group["foreach"] = True  # some look at the rate when they go through tensors one by one
            else:  # SGD, which looks at a rate on the device unless it is fused
                group["fused"], group["foreach"] = True, False

    def set_rate(self, rate: float | Tensor, share: Tensor | None) -> None:
        """See :meth:`Step.set_rate`; nothing here waits for the device."""
        if self._rate is None:
            parameter = self.step.replicas.parameters[0]
            self._rate = torch.empty((), dtype=torch.float32, device=parameter.device)
        self._rate.fill_(rate)
        kept = self.step.share
        if (kept is None) != (share is None):
            self._replayed.forget()  # another step
            kept = None
        if kept is not None and share is not None:
            kept.copy_(share)
        else:
            kept = None if share is None else share.clone()
        self.step.set_rate(self._rate, kept)

    def __call__(self, rows: Tensor) -> Tensor:
        with warnings.catch_warnings():
            # An optimizer that may be captured says so when it is not, which the first steps are not.
            warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")
            return self._replayed(rows)


def capture(
    step: Step,
    log_prob: LogProb | None,
    objective: Objective,
    tensors: tuple[Tensor, Tensor, Tensor],
    blocks: Sequence[tuple[Tensor, ...]],
    recorder: Recorder,
    *,
    num_steps: int,
    required: bool,
) -> tuple[Step | CapturedStep, LogProb | None]:
    """The step and the validation as they are replayed, or as they are where they cannot be.

    A step is forward and backward pass, clipping and the optimizer. It can be recorded if its operations are the same each
    time and none waits for the device, and if the optimizer is SGD or one that torch calls capturable.

    Args:
        step: the step.
        log_prob: the validation, if there is one.
        objective: what the step's gradient is of.
        tensors: all rows x and y, and an example of a minibatch's rows.
        blocks: of held-out rows, one of each shape that the validation will get.
        recorder: records them.
        num_steps: how many steps there will be; a few are not recorded unless that is ``required``.
        required: whether to refuse a step that cannot be recorded.

    Raises:
        ValueError: if ``required`` and the step cannot be recorded.

    Warns:
        RuntimeWarning: says why, if not.
    """
    if num_steps < LEAST_STEPS and not required:
        return step, log_prob
    try:
        _check_optimizer(step.optimizer)
        check_repeats(objective, *tensors)
        validations = [partial(log_prob, *block) for block in blocks] if log_prob is not None else []
        _check_waiting(partial(step.gradient, tensors[2]), validations, objective, tensors[2].device, recorder)
    except RuntimeError as error:
        if required:
            raise ValueError(
                f"fit(compile=True) could not capture the step: {error}. Try compile='auto', which then runs it eagerly."
            ) from error
        warnings.warn(
            f"fit runs the step eagerly, since it could not capture it: {error}. Try compile=False to silence this.",
            RuntimeWarning,
            stacklevel=6,  # through make_step, fit and its two decorators to the caller of fit
        )
        return step, log_prob
    return CapturedStep(step, recorder), None if log_prob is None else Captured(log_prob, recorder, 1)


def _check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    if not all("capturable" in group for group in optimizer.param_groups) and type(optimizer) is not torch.optim.SGD:
        raise RuntimeError(f"{type(optimizer).__name__} is no optimizer that torch can capture, such as Adam")
    if isinstance(optimizer, torch.optim.Rprop):
        raise RuntimeError("Rprop looks at its rate in the first step alone, expected an optimizer such as Adam")


def _check_waiting(
    gradient: Callable[[], Tensor],
    validations: Sequence[Callable[[], Tensor]],
    objective: Objective,
    device: torch.device,
    recorder: Recorder,
) -> None:
    """Raises RuntimeError if the gradient or a validation makes the host wait for the device; leaves no trace of it."""
    buffers = [(buffer, buffer.clone()) for buffer in objective.buffers()]
    training = objective.training

    def no_grad(validation: Callable[[], Tensor]) -> Tensor:
        with torch.no_grad():
            return validation()

    try:
        with own_random_state(device):
            for mode, works in ((training, [gradient]), (False, [partial(no_grad, v) for v in validations])):
                objective.train(mode)
                for work in works:
                    recorder.aside(work)  # what is made at the first time may wait
                    with no_waiting(device):
                        recorder.aside(work)
    finally:
        objective.train(training)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for parameter in objective.replicas.parameters:
            parameter.grad = None
