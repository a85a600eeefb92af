"""The way of a fit: a state for its rows, or a copy of the last one, and its training."""

from __future__ import annotations

__all__ = ["FITTED_ATTRIBUTES", "FittedByTraining"]

import copy
from abc import abstractmethod
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pyro_probmix.columns.expansion import Expansion
from pyro_probmix.estimators.doubt.conformal import HeldOutScores
from pyro_probmix.estimators.doubt.repair import repaired
from pyro_probmix.estimators.ensemble.censoring import check_ends, scoring_ends
from pyro_probmix.estimators.ensemble.network import LINEAR, Likelihood, Recipe, named_method
from pyro_probmix.estimators.ensemble.plan import FIRST_RATE, Plan, first_rate
from pyro_probmix.estimators.ensemble.rows import Array, Rows
from pyro_probmix.estimators.ensemble.state import State
from pyro_probmix.estimators.ensemble.support import family_of
from pyro_probmix.estimators.inputs import TableInputs
from pyro_probmix.estimators.parameters import (
    chosen_device,
)
from pyro_probmix.estimators.targets.cells import Cells
from pyro_probmix.estimators.training import Trained, train
from pyro_probmix.inference.data.digests import digest
from pyro_probmix.inference.methods import only_regression
from pyro_probmix.inference.step.adam import LightAdam

#: The fewest passes over the rows by which a density without features is learnt.
FEWEST_BLIND = 30
#: Alpha of a method that sets none.
ALPHA = 0.1
#: The number of periodic features of each input; and the rows below which a table with categories has none. (Without them the
#: NLL of rows that the fit had not seen was lower on 9 of 12 such tables of 130 to 440 rows, by 0.06 in the mean, and the
#: RMSE by 9 %; of 660 rows and more it was higher on all three.)
NUM_WAVES, FEW_ROWS = 8, 600
#: Parameters that a fit that goes on cannot change. (Encoders cannot be compared.)
RECIPE_PARAMETERS = ("method", "likelihood", "members", "widths", "activation", "periodic", "num_outputs")
#: What a fit sets beside the state; each where an estimator has it.
FITTED_ATTRIBUTES = ("n_features_in_", "feature_names_in_", "columns_", "classes_", "n_outputs_", "_single")


class FittedByTraining(TableInputs):
    """Begins the state of a fit or goes on with the last one, trains it, and keeps what training found."""

    def _begun(self, rows: Rows, seed: int, *, once: bool) -> State:
        expansion = None
        if self.encoder is None:
            classes = self._is_classification()
            expansion = Expansion.fit(self.columns_, rows.x, rows.y, rows.weights, classes=classes, seed=seed)
        recipe = self._recipe(rows, expansion)
        recipe = replace(recipe, **self._choice(recipe.likelihood, rows, seed, once=once))
        check_ends(recipe, rows)
        return State.new(recipe, rows, seed, expansion)

    def _continued(self, rows: Rows, how: str) -> State:
        """A copy of the last fit's state, for a fit of these rows that goes on with it."""
        recipe, asked = self._fitted().recipe, self._recipe(rows, self._fitted().expansion)
        state = copy.deepcopy(
            self._fitted(), {id(recipe): recipe}
        )  # a likelihood or an encoder of the user's is not copied
        free = self.periodic is None  # then it follows from the rows of the first fit
        for field in RECIPE_PARAMETERS:
            had, wanted = getattr(recipe, field), getattr(asked, field)
            if had != wanted and (field, wanted) != ("likelihood", "auto") and not (field == "periodic" and free):
                name = {"members": "ensemble"}.get(field, field)
                raise ValueError(
                    f"{how} goes on with the model of the fit before, whose {name} is {had!r}, but got {name}={wanted!r}. "
                    f"Try {name}={had!r}, or a new fit."
                )
        check_ends(state.recipe, rows)
        state.recipe = _not_refuted(recipe, rows)
        return state

    def _alike(self, settings: dict[str, Any], rows: Rows, seed: int) -> Self:
        """An estimator with other settings, fitted to some of the rows of this fit, as they are after the checks."""
        other = type(self)(**{**self.get_params(deep=False), **settings})
        for name in FITTED_ATTRIBUTES:
            if hasattr(self, name):
                setattr(other, name, getattr(self, name))
        return other._train(other._begun(rows, seed, once=False), rows, None, seed, once=False)

    def _recipe(self, rows: Rows, expansion: Expansion | None) -> Recipe:
        method = named_method(self.method)
        numbers = only_regression(method)
        if numbers is not None and self._is_classification():
            raise ValueError(
                f"got method={self.method!r}, whose {numbers!r} is for numbers, expected a method for classes. "
                "Try method='M-ProbMix', or ProbMixRegressor."
            )
        return Recipe(
            method=method,
            likelihood=self._checked_likelihood(method.likelihood),
            row_shape=rows.x.shape[1:] if expansion is None else (expansion.num_inputs,),
            num_outputs=self._num_outputs(rows),
            members=int(self.ensemble),
            widths=tuple(int(width) for width in self.widths),
            activation=self.activation,
            periodic=self._num_waves(rows, expansion),
            encoder=self.encoder,
            num_smooth=None if expansion is None else expansion.num_smooth,
        )

    def _num_waves(self, rows: Rows, expansion: Expansion | None) -> int:
        """The number of periodic features of each input."""
        if self.periodic is not None:
            return int(self.periodic)
        few = len(rows.x) < FEW_ROWS and expansion is not None and expansion.has_categories
        return 0 if few else NUM_WAVES

    def _train(self, state: State, rows: Rows, held_out: Rows | None, seed: int, *, once: bool) -> Self:
        if state.recipe.likelihood == LINEAR:
            return self._in_closed_form(state, rows)
        state.density.to(chosen_device(self.device), torch.float32)
        if once and state.optimizer is None:
            state.optimizer = LightAdam(state.density.parameters(), lr=self.learning_rate or FIRST_RATE)
        plan = self._plan(state, seed, len(rows), once=once)
        trained = self._trained(state, rows, held_out, plan, once=once)
        state.history, state.noise, state.pool = trained.history, trained.noise, trained.pool
        if trained.factor is not None:
            state.factor, state.tails = trained.factor, trained.tails
        state.scores = self._scores(state, trained.scores, rows, given=held_out is not None)
        return self._done(state, rows)

    def _trained(self, state: State, rows: Rows, held_out: Rows | None, plan: Plan, *, once: bool) -> Trained:
        """What training finds, again at a smaller rate or without features where a constant density is better."""
        before = copy.deepcopy(state.density.state_dict())
        with tqdm(disable=not self.verbose or once, desc=type(self).__name__, unit="epoch") as bar:

            def on_epoch(epoch: int, epochs: int, best: float) -> bool:
                bar.total = epochs
                bar.update()
                bar.set_postfix_str(f"held-out NLL {best:.3f}", refresh=False)
                return any([callback(epoch, best) for callback in self.callbacks])  # each hears of every epoch

            def attempt(rate: float, blind: bool) -> Trained:
                state.density.load_state_dict(before)
                epochs = plan.epochs
                if blind:
                    state.x_scaler, epochs = state.x_scaler.blind(), epochs and max(epochs, FEWEST_BLIND)
                with scoring_ends(state.density) if rows.ends is not None else nullcontext():
                    return train(
                        state.density,
                        # Rows of a stream are new to what is known of the levels of categories.
                        state.standardised(rows)
                        if once and state.calls
                        else state.of_training(rows, classes=plan.classes),
                        replace(plan, learning_rate=rate, epochs=epochs),
                        partial(self._tensor, state.recipe),
                        None if held_out is None else state.standardised(held_out),
                        state.many_draws(self.num_samples),
                        on_epoch,
                        family_of(state.recipe.support(), classes=plan.classes),
                    )

            return repaired(attempt, plan.learning_rate)

    def _in_closed_form(self, state: State, rows: Rows) -> Self:
        """The density of a Bayesian linear regression, which takes no training."""
        standard = state.of_training(rows, classes=False)
        head: Any = state.density.likelihood
        often = standard.weights * (rows.count / len(rows))
        head.learn(*(torch.as_tensor(part) for part in (standard.x, standard.y, often)))
        state.density.to(chosen_device(self.device))
        return self._done(state, rows)

    def _done(self, state: State, rows: Rows) -> Self:
        state.settle(rows)
        state.calls += 1
        self.state_ = state
        return self

    def _scores(self, state: State, found: HeldOutScores | None, rows: Rows, *, given: bool) -> HeldOutScores | None:
        """The scores of rows that were held out; None if a fit before this one may have trained on them."""
        if found is None or given:
            return found
        dealt = digest(*(torch.as_tensor(values) for values in (rows.x, rows.y, rows.weights)))
        new = not state.calls or (state.scores is not None and state.scores.rows == dealt)
        return replace(found, rows=dealt) if new else None

    def _plan(self, state: State, seed: int, n: int, *, once: bool) -> Plan:
        classes, method, kept = self._is_classification(), state.recipe.method, state.optimizer
        return Plan(
            method=method,
            alpha=(method.alpha or ALPHA) if self.alpha is None else self.alpha,
            beta=(0.01 if classes else 0.0) if self.beta is None else self.beta,
            neighbors=self.neighbors,
            epochs=1 if once else self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate or (FIRST_RATE if classes or once else first_rate(n)),
            anneal=not once,
            fraction=0.0 if once else self.validation_fraction,
            patience=self.patience,
            classes=classes,
            deal_seed=state.seed,
            seed=seed,
            most_draws=self.num_samples,
            pooled_neighbors=0 if classes else self.neighbors_pool,
            grid=0.0
            if classes or len(state.recipe.grid) != 1
            else state.recipe.grid[0] / float(state.y_scaler.step[0]),
            cells=None if classes or not state.recipe.marks else _cells(state),
            optimizer=LightAdam if kept is None else lambda parameters, lr: kept,
        )

    @abstractmethod
    def _checked_likelihood(self, of_method: str | None) -> Likelihood:
        """The likelihood that the parameters ask for; ``of_method`` is the method's, if it has one."""

    def _choice(self, likelihood: Likelihood, rows: Rows, seed: int, *, once: bool) -> dict[str, Any]:
        """The likelihood, and fields of the recipe that say what the targets are; ``once`` for one pass over some rows."""
        return {"likelihood": likelihood}

    @abstractmethod
    def _num_outputs(self, rows: Rows) -> int:
        """The number of targets, or of classes."""

    @abstractmethod
    def _tensor(self, recipe: Recipe, y: Array) -> Tensor:
        """Standardised targets [..., d_y] as the tensor that a density of that recipe observes."""

    @abstractmethod
    def _is_classification(self) -> bool:
        """Whether the targets are classes."""


def _cells(state: State) -> Cells | None:
    return Cells.of(state.recipe.values(), state.y_scaler.offset, state.y_scaler.step)


def _not_refuted(recipe: Recipe, rows: Rows) -> Recipe:
    """A recipe without the bounds that targets of later rows are beyond, and without the marks that they lie between."""
    low, high = (rows.y, rows.y) if rows.ends is None else np.split(rows.ends, 2, axis=1)
    least, most = recipe.bounds()
    # Where there are no bounds at all, both are empty tuples.
    lower = tuple(None if (y < end).any() else had for had, end, y in zip(recipe.lower, least, high.T, strict=False))
    upper = tuple(None if (y > end).any() else had for had, end, y in zip(recipe.upper, most, low.T, strict=False))
    marks = recipe.marks and recipe.values().kept(rows.y)
    return replace(recipe, lower=lower, upper=upper, marks=marks if rows.ends is None else ())
