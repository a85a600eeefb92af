"""An estimator's conditional density: features of the inputs and an MLP, or the user's encoder, for any method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_probmix.estimators.ensemble.encodings import Encodings
from pyro_probmix.estimators.ensemble.rows import Array
from pyro_probmix.estimators.ensemble.support import in_words, of_one, ruled_out
from pyro_probmix.estimators.targets.marks import Marks
from pyro_probmix.models import (
    BEYOND,
    LIKELIHOODS,
    METHODS,
    ConditionalDensity,
    Method,
    PeriodicFeatures,
    PointEmbedding,
    Stacked,
    build_density,
    find_method,
    initialise,
)
from pyro_probmix.models.likelihoods import BayesianLinear
from pyro_probmix.random_state import own_random_state

__all__ = ["LINEAR", "Encoder", "Likelihood", "Recipe", "check_targets", "named_likelihood", "named_method"]

#: The likelihood of a table with too few rows for a network, whose density is that of a Bayesian linear regression.
LINEAR = "bayesian-linear"
Encoder = nn.Module | Callable[[int, int], nn.Module]
Likelihood = str | Callable[[int, int, int | None], nn.Module]


def named_method(method: Any) -> Method:
    """The method of a name, or the one given.

    Raises:
        ValueError: for neither, or an ensemble of a method.
    """
    found = method if isinstance(method, Method) else None
    if isinstance(method, str):
        with suppress(ValueError):
            found = find_method(method)
    if found is None:
        raise ValueError(
            f"got method={method!r}, expected one of {', '.join((*METHODS, *BEYOND))}, or a Method. Try 'M-ProbMix'."
        )
    if found.members > 1 or (isinstance(method, str) and method not in METHODS and method not in BEYOND):
        raise ValueError(
            f"got method={method!r}, an ensemble of {found.members}, expected the method of its members, whose number is "
            f"the parameter ensemble. Try ensemble={found.members} and the method alone."
        )
    return found


def named_likelihood(likelihood: Any) -> Callable[..., nn.Module]:
    """The likelihood of a name, or the one given.

    Raises:
        ValueError: for neither.
    """
    heads = {**LIKELIHOODS, LINEAR: BayesianLinear}
    if isinstance(likelihood, str) and likelihood in heads:
        return heads[likelihood]
    if isinstance(likelihood, str | nn.Module | torch.distributions.Distribution) or not callable(likelihood):
        raise ValueError(
            f"got likelihood={likelihood!r}, expected one of auto, {', '.join(LIKELIHOODS)}, or something that makes a head "
            "from (in_features, num_outputs, replicas). Try likelihood='auto'."
        )
    made: Callable[..., nn.Module] = likelihood
    return made


@dataclass(frozen=True)
class Recipe:
    """The settings by which an estimator's density is built; all but its weights.

    Attributes:
        method: decides on the embedding.
        likelihood: the head, or its name.
        row_shape: shape of one row of inputs, [D] for a table.
        num_outputs: d_y, or the number of classes.
        members: R, which are the density's replicas.
        widths: of the hidden layers; the first one's activations are the embedding, unless an encoder makes it.
        activation: see :class:`~pyro_probmix.models.MLP`.
        periodic: number of periodic features of each input, and of piecewise linear ones of members of a regression, see
            :class:`~pyro_probmix.estimators.ensemble.encodings.Encodings`; 0 for none.
        encoder: in the place of periodic features and the first layer: a module for one member, from [B, *row] to
            [B, width], or something that makes one for all members from (features of a row, members).
        num_smooth: number of the first inputs, which have periodic features; None for all of them.
        unit: what the density observes as 1, in units of the targets: 100 of percentages whose density is one of shares.
        grid: the distance of the values that each target can take, 0 for a continuous one, [d_y].
        lower, upper: bounds to which each target's predictions keep, None where there is none, [d_y].
        marks: a value of each target that takes so few that predictions are rounded to them, None where not, see
            :class:`~pyro_probmix.estimators.targets.marks.Marks`, [d_y].
    """

    method: Method
    likelihood: Likelihood
    row_shape: tuple[int, ...]
    num_outputs: int
    members: int
    widths: tuple[int, ...]
    activation: Any
    periodic: int
    encoder: Encoder | None
    num_smooth: int | None = None
    unit: float = 1.0
    grid: tuple[float, ...] = ()
    lower: tuple[float | None, ...] = ()
    upper: tuple[float | None, ...] = ()
    marks: tuple[float | None, ...] = ()

    def build(self, seeds: Sequence[int]) -> ConditionalDensity:
        """The density, each member's weights drawn from a seed of its own."""
        if self.likelihood == LINEAR:
            head = BayesianLinear(self.row_shape[0], self.num_outputs, self.members)
            return ConditionalDensity(nn.Identity(), PointEmbedding(), nn.Identity(), head, replicas=self.members)
        density = self._table() if self.encoder is None else self._around(self.encoder)
        initialise(density, seeds)
        return density

    def bounds(self) -> tuple[Array, Array]:
        """The bounds of each target, infinite where there is none, [d_y]."""
        none = (None,) * self.num_outputs
        low = np.array([-np.inf if bound is None else bound for bound in self.lower or none])
        high = np.array([np.inf if bound is None else bound for bound in self.upper or none])
        return low, high

    def values(self) -> Marks:
        """The values that targets can take; a log-normal one is never 0."""
        return Marks.of(self.marks, self.grid, *self.bounds(), above=self.likelihood == "log-normal")

    def support(self) -> Any:
        """The support of one target, in the units that the density observes."""
        with own_random_state(torch.device("cpu")), torch.no_grad():
            try:
                head = named_likelihood(self.likelihood)(1, self.num_outputs, None)
            except TypeError as error:
                raise ValueError(
                    f"got a likelihood that cannot be made from (in_features, num_outputs, replicas): {error}. "
                    "Try likelihood='gaussian', or a subclass of pyro_probmix.models.Likelihood."
                ) from error
            if not isinstance(head, nn.Module):
                raise ValueError(
                    f"got a likelihood that makes a {type(head).__name__}, expected a module that makes a density of features. "
                    "Try likelihood='gaussian', or a subclass of pyro_probmix.models.Likelihood."
                )
            return of_one(head(torch.zeros(1, 1)).support)

    def _table(self) -> ConditionalDensity:
        (width,) = self.row_shape
        smooth = width if self.num_smooth is None else self.num_smooth
        density = self._density(width + smooth * self.periodic, self.widths)
        if self.periodic and smooth:
            density.encoder = self._with_waves(smooth, width, density.encoder)
            if self.method.variance == "separate":
                density.embedding.variance = self._with_waves(smooth, width, density.embedding.variance)
        return density

    def _with_waves(self, smooth: int, width: int, module: Any) -> nn.Module:
        waves: PeriodicFeatures
        if self.members > 1 and not self._is_of_classes():  # classes gained nothing by codes in folds of rows fitted to
            waves = Encodings(smooth, self.periodic, self.members)
        else:
            waves = PeriodicFeatures(smooth, self.periodic, replicas=self.members)
        return nn.Sequential(waves if smooth == width else _OfTheFirst(waves, smooth), module)

    def _is_of_classes(self) -> bool:
        support = self.support()
        return support is constraints.boolean or isinstance(support, type(constraints.integer_interval(0, 1)))

    def _density(self, num_features: int, widths: Sequence[int]) -> ConditionalDensity:
        return build_density(
            self.method,
            num_features=num_features,
            likelihood=named_likelihood(self.likelihood),
            num_outputs=self.num_outputs,
            widths=widths,
            activation=self.activation,
            replicas=self.members,
        )

    def _around(self, encoder: Encoder) -> ConditionalDensity:
        row, members = self.row_shape, self.members
        stacked = (
            Stacked(encoder, members, event_dim=len(row))
            if isinstance(encoder, nn.Module)
            else encoder(row[-1], members)
        )
        if not isinstance(stacked, nn.Module):
            raise ValueError(
                f"got an encoder that makes a {type(stacked).__name__}, expected a module for all members. "
                "Try a module from [B, d] to [B, width]."
            )
        try:
            with torch.no_grad():
                shape = stacked.eval()(torch.zeros(members, 2, *row)).shape
        except RuntimeError as error:
            raise ValueError(
                f"the encoder refuses two rows of shape {row}: {str(error).splitlines()[0]}. "
                "Try an encoder whose input fits the columns of X."
            ) from error
        if len(shape) != 3 or shape[:2] != (members, 2):
            raise ValueError(
                f"the encoder makes {tuple(shape)} from {members} members x 2 rows of shape {row}, expected "
                f"({members}, 2, width). Try a module that ends in one vector for each row."
            )
        if self.method.variance == "separate" and len(row) > 1:
            raise ValueError(
                f"a method with a separate variance network needs rows of one dimension, got rows of shape {row}. "
                "Try method='M-ProbMix'."
            )
        # The first layer, which is replaced, is halved by a method with a separate variance network.
        first = 2 * shape[-1] if self.method.variance == "separate" else shape[-1]
        density = self._density(row[-1], (first, *self.widths[1:]))
        density.encoder, density.event_dim = stacked.train(), len(row)
        return density


class _OfTheFirst(nn.Module):
    """Puts a module on the first numbers of a row, and the others behind what it makes of them."""

    def __init__(self, module: nn.Module, first: int) -> None:
        super().__init__()
        self.module, self.first = module, first

    def forward(self, x: Tensor) -> Tensor:
        made = self.module(x[..., : self.first])
        others = x[..., self.first :]
        return torch.cat([made, others.expand(*made.shape[:-1], -1)], -1)


def check_targets(recipe: Recipe, y: Array, name: str = "y") -> None:
    """Raises ValueError unless the likelihood can have all targets, in their own units, [n, d_y]."""
    support = recipe.support()
    wrong = y[ruled_out(support, y / recipe.unit)]
    if len(wrong):
        raise ValueError(
            f"{name} holds {wrong[0]:g}, which is outside of the support of likelihood={recipe.likelihood!r}, expected "
            f"{in_words(support, recipe.unit)}. Try another likelihood."
        )
