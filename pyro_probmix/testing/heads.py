"""A likelihood as its check looks at it: built with replicas, given features, its gradients, a density around it."""

from __future__ import annotations

__all__ = [
    "REPLICAS",
    "ROWS",
    "WIDTH",
    "Head",
    "MakeHead",
    "data_for",
    "density_with",
    "features_of",
    "first_not_finite",
    "gradients_of",
]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pyro_probmix.models import METHODS, build_density, initialise
from pyro_probmix.testing.invariants import demand, refuse

#: From (in_features, num_outputs, replicas) to a head: a class, or a function.
MakeHead = Callable[[int, int, int | None], nn.Module]
WIDTH, ROWS, REPLICAS = 4, 6, 3


@dataclass(frozen=True)
class Head:
    """A likelihood and the number of its outputs.

    Attributes:
        make: from (in_features, num_outputs, replicas) to a module.
        num_outputs: d_y, or the number of classes.
    """

    make: MakeHead
    num_outputs: int

    def build(self, replicas: int | None = REPLICAS, seed: int = 0) -> nn.Module:
        """A head in float64, its weights drawn from seeds."""
        torch.default_generator.manual_seed(seed)
        head = self.make(WIDTH, self.num_outputs, replicas)
        initialise(head, range(seed, seed + (replicas or 1)))
        return head.double()

    def draw(self, p: Any) -> Tensor:
        """Responses that the density may have."""
        try:
            return torch.as_tensor(p.sample()).detach()
        except NotImplementedError:
            refuse(f"a {type(p).__name__} without draws", "sample, which predictions need")


def features_of(*batch: int) -> Tensor:
    return torch.randn((*batch, WIDTH), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def first_not_finite(x: Tensor) -> str:
    wrong = x[~x.isfinite()]
    return f"{wrong[0]:g}" if len(wrong) else "none"


def gradients_of(head: nn.Module, total: Tensor) -> dict[str, Tensor]:
    named = {name: p for name, p in head.named_parameters() if p.requires_grad}
    if not total.requires_grad:
        refuse("log densities that depend on no parameter", "a gradient in each")
    found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    for name, gradient in zip(named, found, strict=True):
        demand(gradient is not None, f"no gradient in the parameter {name}", "one in each parameter")
    return dict(zip(named, found, strict=True))


def density_with(s: Head) -> Any:
    density = build_density(
        METHODS["ProbMix"], num_features=2, likelihood=s.make, num_outputs=s.num_outputs, widths=(8, 4), replicas=2
    )
    initialise(density, [0, 1])
    return density


def data_for(s: Head, density: Any) -> tuple[Tensor, Tensor]:
    x = torch.randn(20, 2)
    with torch.no_grad():
        y = torch.as_tensor(density(x))
    return x.expand(2, -1, -1), y
