"""The state of a fitted estimator: a density, scalings, and predictions by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_probmix.columns.expansion import Expansion
from pyro_probmix.estimators.held_out import member_densities, widened
from pyro_probmix.estimators.network import Recipe
from pyro_probmix.estimators.rows import Array, Rows, Scaler
from pyro_probmix.estimators.support import is_positive
from pyro_probmix.inference.predictive.mixture import PredictiveMixture
from pyro_probmix.inference.training import Fit
from pyro_probmix.models import ConditionalDensity, GaussianEmbedding
from pyro_probmix.random_state import own_random_state

__all__ = ["State"]

#: Standardised features are cut off here: far outside of all training data, a network's products would overflow.
FARTHEST = 1e6
#: Rows times draws times members that are predicted together.
LARGEST_BLOCK = 200_000


@dataclass(eq=False)
class State:
    """A fitted density with its scalings, noise and spread.

    Attributes:
        recipe: the settings by which the density was built.
        density: of standardised features and targets. Between fits it is in double precision and evaluation mode, so
            that a row's prediction does not depend, by rounding, on the rows beside it.
        x_scaler, y_scaler: the scalings, fixed by the rows of the first fit.
        noise: standard normal, [S, R, 1, width], of a drawn embedding, the same for all rows; else None.
        factor: widens the density, see :func:`~pyro_probmix.estimators.held_out.widened`.
        seed: of the first fit.
        history: the trainer's record of the last fit.
        optimizer: of partial fits.
        calls: number of fits so far.
        expansion: from the columns' numbers to the inputs of the network, before they are scaled; None where an encoder takes
            the columns as they are.
    """

    recipe: Recipe
    density: ConditionalDensity
    x_scaler: Scaler
    y_scaler: Scaler
    noise: Tensor | None
    factor: float
    seed: int
    history: Fit | None = None
    optimizer: torch.optim.Optimizer | None = None
    calls: int = 0
    expansion: Expansion | None = None

    @classmethod
    def new(cls, recipe: Recipe, rows: Rows, num_samples: int, seed: int, expansion: Expansion | None = None) -> State:
        """Weights drawn from seeds of their own, and the scalings of the rows."""
        with own_random_state(
            torch.device("cpu")
        ):  # modules draw weights when they are made, before they get their own
            density = recipe.build([seed * 1_000_003 + r for r in range(recipe.members)])
        unit = getattr(density.likelihood, "unit", None)
        if isinstance(unit, Tensor):  # counts stay as they are; the unit of their rates follows them
            unit.copy_(torch.as_tensor((rows.y * rows.weights[:, None]).mean(0).clip(min=1e-6)))
        noise = None
        if isinstance(density.embedding, GaussianEmbedding):
            shape = (-(-num_samples // 2), recipe.members, 1, density.embedding.scale.weight.shape[-1])
            half = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
            noise = torch.stack([half, -half], 1).flatten(0, 1)[:num_samples].clone()  # in pairs, so that its mean is 0
        x = rows.x if expansion is None else expansion.inputs(rows.x)
        x_scaler = Scaler.fit(x, rows.weights, indicators=expansion is not None)
        y_scaler = _of_targets(recipe, rows)
        return cls(recipe, density.double(), x_scaler, y_scaler, noise, 1.0, seed, expansion=expansion)

    def standardised(self, rows: Rows) -> Rows:
        """The rows in standard units."""
        return Rows(self._features(rows.x), self.y_scaler.transform(rows.y), rows.weights)

    def of_training(self, rows: Rows, *, classes: bool) -> Rows:
        """The rows to train on in standard units; what is known of a level of a category leaves out the row itself."""
        if self.expansion is None:
            return self.standardised(rows)
        x = self.expansion.of_training(rows.x, rows.y, rows.weights, classes=classes, seed=self.seed)
        return Rows(self._scaled(x), self.y_scaler.transform(rows.y), rows.weights)

    def mixtures(self, x: Array) -> Iterator[tuple[slice, PredictiveMixture]]:
        """The predictive mixture of blocks of rows [n, *row], in standard units of the targets."""
        device = next(self.density.parameters()).device
        noise = None if self.noise is None else self.noise.to(device, torch.float64)
        components = self.recipe.members * (1 if noise is None else len(noise))
        size = max(1, LARGEST_BLOCK // components)
        for start in range(0, len(x), size):
            block = slice(start, min(start + size, len(x)))
            features = torch.as_tensor(self._features(x[block]), device=device)
            components = member_densities(self.density, features, noise)
            yield block, PredictiveMixture(widened(components, self.factor) if self.factor != 1.0 else components, 2)

    def _features(self, x: Array) -> Array:
        return self._scaled(x if self.expansion is None else self.expansion.inputs(x))

    def _scaled(self, inputs: Array) -> Array:
        return np.clip(self.x_scaler.transform(inputs), -FARTHEST, FARTHEST)


def _of_targets(recipe: Recipe, rows: Rows) -> Scaler:
    """Real targets are standardised, positive ones scaled, and others, such as counts and classes, left as they are."""
    support = recipe.support()
    if support is constraints.real:
        return Scaler.fit(rows.y, rows.weights)
    if is_positive(support):
        return Scaler.fit(rows.y, rows.weights, centre=False)
    return Scaler.identity(rows.y.shape[-1])
