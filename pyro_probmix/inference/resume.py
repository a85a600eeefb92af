"""What a fit interrupted and taken up again needs: all that it changes, and what makes it this fit and no other."""

from __future__ import annotations

__all__ = ["FitState", "identity_of"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_probmix.inference.checkpoint import Checkpoint
from pyro_probmix.inference.criteria import Criterion
from pyro_probmix.inference.data.digests import digest
from pyro_probmix.inference.data.ranks import Ranks
from pyro_probmix.inference.step.replicas import Replicas
from pyro_probmix.models.process import ProbMix


def identity_of(
    model: ProbMix,
    criterion: Criterion,
    replicas: Replicas,
    ranks: Ranks,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """What decides a fit, except functions: schedule, optimizer, the modules' own code."""
    # Its nesting is read off the model.
    options = {
        k: v for k, v in vars(criterion).items() if k != "max_plate_nesting" and isinstance(v, float | int | str)
    }
    return settings | {
        "criterion": [type(criterion).__name__, options],
        "weights": [[name, list(tensor.shape)] for name, tensor in model.state_dict().items()],
        "process": [model.at, type(model.graph).__name__, str(model._fusion), digest(model.alpha, model.beta)],
        "replicas": list(replicas.names),
        "ranks": [ranks.index, ranks.count],
    }


@dataclass(frozen=True)
class FitState:
    """All that a fit changes."""

    model: ProbMix
    optimizer: torch.optim.Optimizer
    replicas: Replicas
    train: Tensor
    scores: Tensor

    def tensors(self, epoch: int) -> dict[str, Tensor]:
        """The state after an epoch, by name."""
        device = self.replicas.parameters[0].device
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"replicas.{name}": tensor for name, tensor in self.replicas.state().items()}
        tensors |= {"train": self.train[:epoch], "scores": self.scores[:epoch], "random": torch.get_rng_state()}
        if device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(device)
        for index, own in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in own.items()}
        return tensors

    def resume(self, checkpoint: Checkpoint | None, identity: dict[str, Any]) -> int:
        """Takes the state over from a checkpoint, and returns the epochs that it has; 0 if there is none."""
        found = None if checkpoint is None else checkpoint.read(identity)
        if found is None:
            return 0
        tensors, epoch = found
        self.model.load_state_dict(_under(tensors, "model."))
        self.replicas.load(_under(tensors, "replicas."))
        self.train[:epoch], self.scores[:epoch] = tensors["train"], tensors["scores"]
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under(tensors, "optimizer.").items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        torch.set_rng_state(tensors["random"])
        if "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.replicas.parameters[0].device)
        return epoch


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
