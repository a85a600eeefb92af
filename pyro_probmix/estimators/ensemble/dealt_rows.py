"""The rows that each member trains on and those that it holds out, on the density's device."""

from __future__ import annotations

__all__ = ["DealtRows"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from pyro_probmix.estimators.ensemble.held_out import DRAWS_ROWS, HeldOut
from pyro_probmix.estimators.ensemble.plan import Plan
from pyro_probmix.estimators.ensemble.rows import Rows, deal
from pyro_probmix.estimators.targets.constant import constant_nll
from pyro_probmix.inference.data.parts import Part
from pyro_probmix.models import ConditionalDensity


@dataclass(frozen=True, eq=False)
class DealtRows:
    """The rows that the members train on and those that they hold out, as tensors where the density is.

    Attributes:
        kept: the training rows.
        held_out: the rows that each member holds out; None for none.
        shares: number of different shares that are held out.
    """

    kept: Part
    held_out: Part | None
    shares: int

    @classmethod
    def dealt(
        cls,
        density: ConditionalDensity,
        rows: Rows,
        plan: Plan,
        targets: Callable[[Any], Tensor],
        validation: Rows | None,
    ) -> Self:
        """Deals each member a share to hold out, unless all of them hold out the given validation rows, or none."""
        members, device = density.replicas or 1, next(density.parameters()).device

        def tensors(part: Rows) -> tuple[Tensor, Tensor, Tensor]:
            x, y = torch.as_tensor(part.x, dtype=torch.float32), targets(part.observed)
            found = x, y.float() if y.is_floating_point() else y, torch.as_tensor(part.weights)
            return tuple(v.to(device) for v in found)  # type: ignore[return-value] # three

        dealt = None
        if validation is None and plan.fraction > 0:
            dealt = deal(rows, plan.fraction, members, plan.classes, np.random.default_rng(plan.deal_seed))
        together = tensors(rows)
        if dealt is None:
            held_out = None if validation is None else Part.of_all(tensors(validation), members)
            return cls(Part.of_all(together, members), held_out, 1)
        kept, left_out = (torch.as_tensor(positions, device=device) for positions in dealt[:2])
        return cls(Part(*together, kept), Part(*together, left_out), dealt[2])

    def kept_weights(self, rows: Rows) -> Tensor | None:
        """The weights of the training rows, [R, m]; None for equal ones."""
        return None if rows.equal else self.kept.of_each_weight().float()

    def score(self, density: ConditionalDensity, noise: Tensor | None, rows: int, **options: Any) -> HeldOut | None:
        """The loss of at most so many rows that each member holds out, by draws of the embedding with this noise."""
        if self.held_out is None:
            return None
        here = None if noise is None else noise.float().to(self.kept.x.device)
        return HeldOut(density, *self.held_out.spread(rows), self.shares, here, **options)

    def fewest_draws(self, density: ConditionalDensity, many: Tensor | None, most: int) -> Tensor | None:
        """The noise of as few draws as predictions need, chosen on held-out rows, or on training rows where there are none."""
        if many is None:
            return None
        if self.held_out is None:
            x, y, weights = self.kept.spread(DRAWS_ROWS)
            weights = torch.ones_like(weights)
        else:
            x, y, weights = self.held_out.of_each(slice(DRAWS_ROWS))
        score = HeldOut(density, x, y, weights, self.shares, None)
        draws = score.fewest_draws(many.float().to(x.device), most)
        return many[:draws] if draws else None

    def constant(self, family: str, *, weighted: bool, ends: bool) -> float | None:
        """The NLL of the held-out rows under a density without features of some family, in nats a row.

        With ``ends`` the responses are the ends between which targets are known to be.
        """
        if self.held_out is None:
            return None
        found = []
        for r in range(self.shares):  # member r holds out share r
            (y, weights), (held, held_weights) = self.kept.responses(r), self.held_out.responses(r)
            weights = weights.float() if weighted else torch.ones(len(y))
            parts = (part.double().cpu().numpy() for part in (y, weights, held, held_weights))
            found.append(constant_nll(family, *parts, ends=ends))
        known = [nll for nll in found if nll is not None]
        return sum(known) / len(known) if len(known) == len(found) else None
