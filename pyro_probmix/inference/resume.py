"""What an interrupted fit needs to go on: the state that it changes, and the settings and data that decide it."""

from __future__ import annotations

__all__ = ["FitState", "Kept", "identity_of"]

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pyro_probmix.inference.checkpoint import Checkpoint
from pyro_probmix.inference.data.digests import digest
from pyro_probmix.inference.data.minibatches import Minibatches
from pyro_probmix.inference.predictive.validation import Validation
from pyro_probmix.inference.sealed import under
from pyro_probmix.inference.step.objective import Objective
from pyro_probmix.inference.step.replicas import Replicas
from pyro_probmix.models.process import ProbMix


def identity_of(
    objective: Objective, source: Minibatches, held_out: Validation | None, settings: dict[str, Any]
) -> dict[str, Any]:
    """The settings and data that decide a fit, except functions: schedule, optimizer, the code of the modules."""
    model, criterion = objective.model, objective.criterion
    edge_alpha = model._alpha_of
    # Its nesting is read off the model.
    options = {
        k: v for k, v in vars(criterion).items() if k != "max_plate_nesting" and isinstance(v, float | int | str)
    }
    return settings | {
        "batch size": source.batch_size,
        "data": source.identity(),
        "validation": held_out and held_out.identity(),
        "criterion": [type(criterion).__name__, options],
        "weights": [[name, list(tensor.shape)] for name, tensor in model.state_dict().items()],
        "process": [model.at, type(model.graph).__name__, str(model._fusion), digest(model.alpha, model.beta)],
        "alpha of edges": str(edge_alpha) if isinstance(edge_alpha, nn.Module) else None,
        "replicas": list(objective.replicas.names),
        "ranks": [source.ranks.index, source.ranks.count],
    }


@dataclass(frozen=True)
class FitState:
    """All that a fit changes.

    Attributes:
        model: its weights.
        optimizer: its moments.
        replicas: their best weights and epochs.
        train, scores: mean loss and held-out loss of each epoch, [epochs, R].
        drawn: mixing weights that are drawn already for steps to come, the next one last, [R, B] each.
    """

    model: ProbMix
    optimizer: torch.optim.Optimizer
    replicas: Replicas
    train: Tensor
    scores: Tensor
    drawn: list[Tensor] = field(default_factory=list)

    @classmethod
    def before(cls, model: ProbMix, optimizer: torch.optim.Optimizer, replicas: Replicas, epochs: int) -> FitState:
        """The state before the first of so many epochs."""
        train, scores = torch.full((2, epochs, replicas.count), torch.nan, device=replicas.device)
        return cls(model, optimizer, replicas, train, scores)

    def tensors(self, epoch: int) -> dict[str, Tensor]:
        """The state after an epoch, by name."""
        device = self.replicas.device
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"replicas.{name}": tensor for name, tensor in self.replicas.state().items()}
        tensors |= {"train": self.train[:epoch], "scores": self.scores[:epoch], "random": torch.get_rng_state()}
        if self.drawn:
            tensors["drawn"] = torch.stack(self.drawn)
        if device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(device)
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        return tensors

    def load(self, tensors: dict[str, Tensor], epoch: int) -> None:
        """Takes over the state after an epoch.

        Raises:
            ValueError: if the tensors are not those of such a state; then nothing has changed.
        """
        self._check(tensors, epoch)
        self.model.load_state_dict(under(tensors, "model."))
        self.replicas.load(under(tensors, "replicas."))
        self.train[:epoch], self.scores[:epoch] = tensors["train"], tensors["scores"]
        state: dict[int, dict[str, Tensor]] = {}
        for index, name, tensor in _moments(tensors):
            state.setdefault(index, {})[name] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.drawn[:] = tensors["drawn"].to(self.replicas.device).unbind(0) if "drawn" in tensors else ()
        torch.set_rng_state(tensors["random"])
        if "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.replicas.device)

    def _check(self, tensors: dict[str, Tensor], epoch: int) -> None:
        if not 1 <= epoch <= len(self.train):
            raise ValueError(f"its epoch {epoch} is none of 1 to {len(self.train)}")
        expected = {k: v for k, v in self.tensors(epoch).items() if not k.startswith("optimizer.")}
        found = {k: v for k, v in tensors.items() if not k.startswith("optimizer.")}
        drawn = found.pop("drawn", None)
        expected.pop("drawn", None)
        if expected.keys() != found.keys():
            raise ValueError(f"it has other tensors, such as {min(expected.keys() ^ found.keys())[:80]!r}")
        # A state that has been stepped tells what the optimizer keeps; before the first step it keeps nothing.
        trial = _stepped(self.optimizer)
        kept: dict[int, set[str]] = {}
        for index, name, _ in _moments(tensors):
            kept.setdefault(index, set()).add(name)
        for index, names in kept.items():
            wanted = trial.get(index, {})
            if names != wanted.keys():
                raise ValueError(
                    f"its optimizer has {min(names ^ wanted.keys())[:80]!r} of parameter {index} too many or too few"
                )
            expected |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in wanted.items()}
        for name, tensor in expected.items():
            given = tensors[name]
            if given.shape != tensor.shape or given.dtype != tensor.dtype:
                raise ValueError(
                    f"its tensor {name!r} is {tuple(given.shape)} of {given.dtype}, not {tuple(tensor.shape)} of {tensor.dtype}"
                )
        if drawn is not None and (
            drawn.dim() != 3 or drawn.shape[1] != self.replicas.count or drawn.dtype != self.model.alpha.dtype
        ):
            raise ValueError(
                f"its weights drawn ahead are {tuple(drawn.shape)} of {drawn.dtype}, not those of each replica"
            )
        if drawn is not None and not bool(((drawn >= 0) & (drawn <= 1)).all()):
            raise ValueError("its weights drawn ahead are not between 0 and 1")
        try:
            torch.Generator().set_state(tensors["random"])
        except RuntimeError as error:
            raise ValueError(f"its random state is none: {error}") from error


@dataclass(frozen=True)
class Kept:
    """The place where a fit's state is kept.

    Attributes:
        checkpoint: the file.
        identity: what decides the fit, see :func:`identity_of`.
    """

    checkpoint: Checkpoint
    identity: dict[str, Any]

    def resume(self, state: FitState) -> int:
        """Takes the state over from the file, and returns the epochs that it has; 0 if there is none."""
        found = self.checkpoint.read(self.identity)
        if found is None:
            return 0
        try:
            state.load(*found)
        except ValueError as error:
            raise self.checkpoint.damaged(f"since {error}") from error
        return found[1]

    def write(self, state: FitState, epoch: int, *, whenever: bool) -> None:
        """Writes the state after an epoch when it is due, or ``whenever``."""
        if whenever or self.checkpoint.due:
            self.checkpoint.write(state.tensors(epoch), epoch, self.identity)


def _moments(tensors: dict[str, Tensor]) -> Iterator[tuple[int, str, Tensor]]:
    """What an optimizer keeps of each parameter: the parameter's number, the name, and the tensor."""
    for name, tensor in under(tensors, "optimizer.").items():
        index, _, key = name.partition(".")
        if not (index.isascii() and index.isdigit() and len(index) < 10):
            raise ValueError(f"its optimizer has a parameter {index[:80]!r}")
        yield int(index), key, tensor


def _stepped(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """What a copy of an optimizer keeps of each parameter after a step by gradients of zero."""
    trial = copy.deepcopy(optimizer)
    for group in trial.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    trial.step()
    state: dict[int, dict[str, Any]] = trial.state_dict()["state"]
    return state
