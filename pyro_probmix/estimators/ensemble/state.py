"""The state of a fitted estimator: a density, scalings, and predictions by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_probmix.columns.expansion import Expansion
from pyro_probmix.estimators.doubt.conformal import HeldOutScores
from pyro_probmix.estimators.ensemble.encodings import Encodings, bins
from pyro_probmix.estimators.ensemble.held_out import (
    MANY_DRAWS,
    antithetic_noise,
    member_densities,
    widened,
    with_tails,
)
from pyro_probmix.estimators.ensemble.network import Recipe
from pyro_probmix.estimators.ensemble.rows import Array, Rows, Scaler
from pyro_probmix.estimators.ensemble.support import is_positive
from pyro_probmix.estimators.neighbors.pool import NeighborPool
from pyro_probmix.inference.predictive.families import marginals_of
from pyro_probmix.inference.predictive.mixture import PredictiveMixture
from pyro_probmix.inference.predictive.plain import GRAIN, by_rows, has_single, is_plain
from pyro_probmix.inference.training import Fit
from pyro_probmix.models import ConditionalDensity, GaussianEmbedding
from pyro_probmix.random_state import own_random_state

__all__ = ["State"]

#: Standardised features are cut off here: far outside of all training data, a network's products would overflow.
FARTHEST = 1e6
#: An end so far away, in standard units of a target, is none.
OPEN = 1e9
#: Numbers of a hidden layer, of all members and draws, that are computed together: about what a core's cache holds.
LARGEST_BLOCK = 2**18
#: What single precision may change a prediction by, in standard units of the targets, and how many rows it is tried on.
SINGLE_TOLERANCE, TRIED_ROWS = 1e-5, 256


@dataclass(eq=False)
class State:
    """A fitted density with its scalings, noise and spread.

    Attributes:
        recipe: the settings by which the density was built.
        density: of standardised features and targets. Between fits it is in double precision and evaluation mode, so
            that a row's prediction does not depend, by rounding, on the rows beside it.
        x_scaler, y_scaler: the scalings, fixed by the rows of the first fit.
        noise: standard normal, [S, R, 1, width], of a drawn embedding, the same for all rows; else None, and its mean is passed
            on.
        factor: widens the density, see :func:`~pyro_probmix.estimators.ensemble.held_out.widened`.
        pool: with the nearest training rows; None for none.
        tails: times the degrees of freedom, see :func:`~pyro_probmix.estimators.targets.tails.with_tails`.
        seed: of the first fit.
        history: the trainer's record of the last fit.
        optimizer: of partial fits.
        calls: number of fits so far.
        expansion: from the columns' numbers to the inputs of the network, before they are scaled; None where an encoder takes
            the columns as they are.
        single: whether predictions run hidden layers in single precision.
        scores: of held-out rows, for conformal intervals; None without such rows.
        shown: whether somebody has the density, whose weights may then change at any time.
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
    single: bool = False
    scores: HeldOutScores | None = None
    shown: bool = False
    tails: float = 1.0
    pool: NeighborPool | None = None

    @classmethod
    def new(cls, recipe: Recipe, rows: Rows, seed: int, expansion: Expansion | None = None) -> State:
        """Weights drawn from seeds of their own, and the scalings of the rows."""
        with own_random_state(
            torch.device("cpu")
        ):  # modules draw weights when they are made, before they get their own
            density = recipe.build([seed * 1_000_003 + r for r in range(recipe.members)])
        unit = getattr(density.likelihood, "unit", None)
        if isinstance(unit, Tensor):  # counts stay as they are; the unit of their rates follows them
            unit.copy_(torch.as_tensor((rows.y * rows.weights[:, None]).mean(0).clip(min=1e-6)))
        x = rows.x if expansion is None else expansion.inputs(rows.x)
        x_scaler = Scaler.fit(x, rows.weights, indicators=expansion is not None)
        y_scaler = _of_targets(recipe, rows)
        _learn_bins(density, x, rows.weights, x_scaler)
        return cls(recipe, density.double(), x_scaler, y_scaler, None, 1.0, seed, expansion=expansion)

    def many_draws(self, num_samples: int) -> Tensor | None:
        """Noise of at least so many draws of a drawn embedding, from the seed; None for another embedding."""
        embedding = self.density.embedding
        if not isinstance(embedding, GaussianEmbedding):
            return None
        width = embedding.scale.weight.shape[-1]
        return antithetic_noise(max(num_samples, MANY_DRAWS), self.recipe.members, width, self.seed)

    def settle(self, rows: Rows) -> None:
        """Brings the density to double precision and evaluation mode, and lets predictions run in single where it is enough.

        It is, where means, standard deviations and probabilities at these rows, those farthest out among them, differ by at
        most :data:`SINGLE_TOLERANCE` in standard units of the targets.
        """
        self.density.double().eval()
        self.__dict__.pop("_networks", None)
        self.single = False
        order = np.argsort(-np.abs(self._features(rows.x)).reshape(len(rows), -1).max(1), kind="stable")
        chosen = rows.x[np.concatenate([order[:TRIED_ROWS], order[:: -(-len(order) // TRIED_ROWS)]])]
        if not has_single(self.density):
            return
        try:
            double = self.of_rows(chosen, _summary)
            self.single = True
            self.single = bool((np.abs(self.of_rows(chosen, _summary) - double) <= SINGLE_TOLERANCE).all())
        except (NotImplementedError, ValueError):  # no moments, or weights that are too large for single precision
            self.single = False

    def standardised(self, rows: Rows) -> Rows:
        """The rows in standard units."""
        return self._in_units(self._features(rows.x), rows)

    def of_training(self, rows: Rows, *, classes: bool) -> Rows:
        """The rows to train on in standard units; what is known of a level of a category leaves out the row itself."""
        if self.expansion is None:
            return self.standardised(rows)
        x = self.expansion.of_training(rows.x, rows.y, rows.weights, classes=classes, seed=self.seed)
        standard = self._in_units(self._scaled(x), rows)
        # Where a row's inputs are others than those of a new row with its features, a copy would not be found; others would.
        return standard if self.expansion.same_in_training else replace(standard, again=None)

    def _in_units(self, features: Array, rows: Rows) -> Rows:
        y, ends = self.y_scaler.transform(rows.y), self.standard_ends(rows.ends)
        return Rows(features, y, rows.weights, ends, again=rows.again)

    def standard_ends(self, ends: Array | None) -> Array | None:
        """What is known of targets in standard units, its open ends far beyond all targets, [n, 2 d_y]."""
        if ends is None:
            return None
        each = [self.y_scaler.transform(half) for half in np.split(ends, 2, axis=1)]
        return np.clip(np.concatenate(each, axis=1), -OPEN, OPEN)

    def of_rows(self, x: Array, function: Callable[[PredictiveMixture, npt.NDArray[np.int64]], Array]) -> Array:
        """A function of the predictive of each block of rows, in standard units of the targets, joined along the rows.

        Args:
            x: rows [n, *row].
            function: from the predictive of some rows and their positions in x, to an array [rows, ...].
        """
        found, start = None, 0
        for rows, mixture in self.mixtures(x):
            part = function(mixture, rows)
            if found is None:  # in one piece: many small ones would part the memory that is free between blocks
                found = np.empty((len(x), *part.shape[1:]), part.dtype)
            found[start : start + len(rows)] = part[: len(x) - start]
            start += len(rows)
        assert found is not None  # there are rows
        return found

    def mixtures(self, x: Array) -> Iterator[tuple[npt.NDArray[np.int64], PredictiveMixture]]:
        """The predictive mixture of blocks of rows [n, *row], in standard units of the targets, and the rows' positions.

        The last row stands in the last block as often as it takes to fill it up, see
        :func:`~pyro_probmix.inference.predictive.plain.by_rows`.
        """
        density = self.for_rows()
        device = next(density.parameters()).device
        noise = None if self.noise is None else self.noise.to(device, torch.float32 if self.single else torch.float64)
        size = self._block(density, 1 if noise is None else len(noise))
        filled = -(-len(x) // GRAIN) * GRAIN
        for start in range(0, filled, size):
            rows = np.arange(start, min(start + size, filled)).clip(max=len(x) - 1)
            features = self._features(x[rows])
            components = member_densities(density, torch.as_tensor(features, device=device), noise)
            components = self.adapted(components)
            if self.pool is not None:
                components = self.pool(components, features)
            yield rows, PredictiveMixture(components, 2)

    def adapted(self, components: Any) -> Any:
        """The members' densities with the tails and the spread that held-out rows asked for."""
        tailed = components if self.tails == 1.0 else with_tails(components, self.tails)
        return tailed if self.factor == 1.0 else widened(tailed, self.factor)

    def _block(self, density: ConditionalDensity, draws: int) -> int:
        width = max(p.shape[-1] for p in density.parameters())
        return max(1, LARGEST_BLOCK // (self.recipe.members * draws * width * GRAIN)) * GRAIN

    def for_rows(self) -> ConditionalDensity:
        """The density that predictions run, by the weights as they stand."""
        if not is_plain(self.density):
            return self.density
        if self.shown:
            return by_rows(self.density, single=self.single)
        kept: dict[bool, ConditionalDensity] = self.__dict__.setdefault("_networks", {})
        if self.single not in kept:
            kept[self.single] = by_rows(self.density, single=self.single)
        return kept[self.single]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_networks"}

    def _features(self, x: Array) -> Array:
        return self._scaled(x if self.expansion is None else self.expansion.inputs(x))

    def standardised_inputs(self, x: Array) -> Array:
        """The inputs of the network for rows of the columns' numbers, [n, *row] to [n, D]."""
        return self._features(x)

    def _scaled(self, inputs: Array) -> Array:
        return np.clip(self.x_scaler.transform(inputs), -FARTHEST, FARTHEST)


def _summary(mixture: PredictiveMixture, _: object) -> Array:
    """Means and standard deviations, or probabilities of classes."""
    marginals = marginals_of(mixture.components)
    is_classes = isinstance(marginals, torch.distributions.Categorical)
    found = mixture.probs if is_classes else torch.cat([mixture.mean, mixture.variance.sqrt()], -1)
    summary: Array = found.cpu().numpy()
    return summary


def _learn_bins(density: ConditionalDensity, x: Array, weights: Array, scaler: Scaler) -> None:
    """The bins of piecewise linear codes, by the inputs of the rows before they are scaled."""
    for module in density.modules():
        if isinstance(module, Encodings):
            smooth, count = module.slope.shape[1:]
            edges = np.zeros((2, count, x.shape[1]))
            edges[..., :smooth] = bins(x[:, :smooth], weights, count)
            module.learn(np.clip(scaler.transform(edges), -FARTHEST, FARTHEST)[..., :smooth])


def _of_targets(recipe: Recipe, rows: Rows) -> Scaler:
    """Real targets are standardised, positive ones scaled, and others, such as counts and classes, left as they are."""
    support = recipe.support()
    if support is constraints.real:
        return Scaler.fit(rows.y, rows.weights)
    if is_positive(support):
        return Scaler.fit(rows.y, rows.weights, centre=False)
    scaler = Scaler.identity(rows.y.shape[-1])
    return replace(scaler, unit=recipe.unit * scaler.unit)
