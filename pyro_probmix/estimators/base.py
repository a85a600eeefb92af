"""The base of the two estimators: parameters, checks, and fitting."""

from __future__ import annotations

import copy
import os
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor
from tqdm import tqdm

from pyro_probmix.arguments import checked
from pyro_probmix.columns.expansion import Expansion
from pyro_probmix.columns.frames import frame_of, of_texts
from pyro_probmix.columns.schema import Schema
from pyro_probmix.columns.sentinels import warn_of_codes
from pyro_probmix.estimators.doubt.conformal import HeldOutScores
from pyro_probmix.estimators.doubt.repair import repaired
from pyro_probmix.estimators.ensemble.network import LINEAR, Encoder, Likelihood, Recipe, check_targets, named_method
from pyro_probmix.estimators.ensemble.rows import Array, Rows
from pyro_probmix.estimators.ensemble.state import State
from pyro_probmix.estimators.ensemble.support import family_of
from pyro_probmix.estimators.parameters import (
    check_parameters,
    check_seed,
    check_size,
    chosen_device,
    is_integer,
    only_numbers,
    refuse_dates,
    refuse_masked,
    without_graph,
)
from pyro_probmix.estimators.saving.files import SavedModel, write
from pyro_probmix.estimators.saving.fitted import check_attributes
from pyro_probmix.estimators.training import Plan, Trained, train
from pyro_probmix.inference.data.digests import digest
from pyro_probmix.inference.methods import only_regression
from pyro_probmix.inference.predictive.mixture import PredictiveMixture
from pyro_probmix.inference.step.adam import LightAdam
from pyro_probmix.models import Method
from pyro_probmix.names import shown
from pyro_probmix.random_state import own_random_state

__all__ = ["Callback", "ProbMixEstimator"]

Callback = Callable[[int, float], bool | None]

#: The fewest passes over the rows by which a density without features is learnt.
FEWEST_BLIND = 30
#: Alpha of a method that sets none.
ALPHA = 0.1
#: Parameters that a fit that goes on cannot change. (Encoders cannot be compared.)
RECIPE_PARAMETERS = ("method", "likelihood", "members", "widths", "activation", "periodic", "num_outputs")
#: What a fit sets beside the state; each where an estimator has it.
FITTED_ATTRIBUTES = ("n_features_in_", "feature_names_in_", "columns_", "classes_", "n_outputs_", "_single")


class ProbMixEstimator(BaseEstimator):  # type: ignore[misc] # scikit-learn is not annotated
    """An ensemble of conditional densities p(y|x), trained with a mixup method; the base of the two estimators."""

    def __init__(
        self,
        method: str | Method = "M-ProbMix",
        likelihood: Likelihood = "auto",
        *,
        ensemble: int = 10,
        widths: Sequence[int] = (128, 128),
        activation: str = "silu",
        periodic: int = 8,
        encoder: Encoder | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        neighbors: int = 5,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 0.005,
        validation_fraction: float = 0.2,
        patience: int | None = None,
        num_samples: int = 16,
        warm_start: bool = False,
        callbacks: Sequence[Callback] = (),
        verbose: int = 0,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        self.method = method
        self.likelihood = likelihood
        self.ensemble = ensemble
        self.widths = widths
        self.activation = activation
        self.periodic = periodic
        self.encoder = encoder
        self.alpha = alpha
        self.beta = beta
        self.neighbors = neighbors
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.num_samples = num_samples
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.verbose = verbose
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation: tuple[Any, ...] | None = None) -> Self:
        """Fits all members.

        Args:
            X: features, [n, d]: an array of numbers, or a table of pandas, polars or Arrow with numbers, truth values, texts,
                categories, dates, times and durations as they are. NaN and None are missing values. With an encoder finite
                numbers alone, also [n, ..., d].
            y: targets, [n] or [n, d_y]; or classes, [n].
            sample_weight: [n], at least 0. A row of weight k is a row given k times; only their ratios matter.
            validation: rows (X, y) or (X, y, sample_weight) that choose the epoch and the spread. By default each member
                holds out a share of the training rows.

        Raises:
            ValueError: for data or parameters that do not fit; the sentence says which.
        """
        seed = self._seed()  # checks the parameters
        again = self.warm_start and self._has_network()
        if self.patience is not None and validation is None and self.validation_fraction == 0:
            raise ValueError(
                f"got patience={self.patience} with validation_fraction=0, expected rows to watch. "
                "Try validation_fraction=0.2, or fit(X, y, validation=(X_new, y_new))."
            )
        with self._all_or_nothing():
            rows = Rows.distinct(*self._checked(X, y, sample_weight, reset=not again))
            state = self._continued(rows, "warm_start=True") if again else self._begun(rows, seed, once=False)
            held_out = None if validation is None else self._checked_validation(validation, state.recipe)
            state.optimizer = None
            return self._train(state, rows, held_out, seed, once=False)

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:
        again = self._has_network()
        seed = self._seed()
        with self._all_or_nothing():
            rows = Rows.distinct(*self._checked(X, y, sample_weight, reset=not again, classes=classes))
            state = self._continued(rows, "partial_fit") if again else self._begun(rows, seed, once=True)
            return self._train(state, rows, None, (seed + state.calls) % 2**31, once=True)

    @checked()
    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the fitted estimator to one file, for :func:`pyro_probmix.load`: safetensors and JSON, no pickle.

        Args:
            path: of the file.

        Raises:
            ValueError: if it holds what JSON does not, such as classes that are no numbers or text.
            OSError: if it cannot be written; what was there before stays.
        """
        if "\0" in os.fspath(path):
            raise ValueError(f"save got the path {shown(path)} with a NUL character. Try another path.")
        check_parameters(self)  # which load would refuse
        write(self._to_save(), path)

    def _to_save(self) -> SavedModel:
        attributes = {name: getattr(self, name) for name in FITTED_ATTRIBUTES if hasattr(self, name)}
        return SavedModel(type(self).__name__, self.get_params(deep=False), attributes, self._fitted())

    @classmethod
    def restored(cls, parameters: dict[str, Any], attributes: dict[str, Any], state: State) -> Self:
        """A fitted estimator of what a file holds, see :class:`~pyro_probmix.estimators.saving.files.SavedModel`.

        Raises:
            ValueError: for parameters or attributes that no such estimator has.
        """
        estimator = cls(**parameters)
        check_parameters(estimator)
        targets = len(state.y_scaler.unit)
        check_attributes(attributes, state.recipe, state.expansion, targets, classes=estimator._is_classification())
        estimator.state_ = state
        for name, value in attributes.items():
            setattr(estimator, name, value)
        return estimator

    @property
    def density_(self) -> Any:
        """The trained density of standardised features and targets, in double precision, its members as replicas."""
        state = self._fitted()
        state.shown = True
        return state.density

    @property
    def n_iter_(self) -> int:
        """Number of epochs of the last fit."""
        history = self._fitted().history
        return 0 if history is None else len(history.train_loss)

    @abstractmethod
    def _checked(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, classes: Any = None
    ) -> tuple[Array, Array, Array | None]:
        """The data as numbers: features [n, *row], targets or codes of classes [n, d_y], weights [n]."""

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

    def _fitted(self) -> State:
        check_is_fitted(self, "state_")
        state: State = self.state_
        return state

    def _has_network(self) -> bool:
        """Whether a fit can go on: there was one, with rows enough for a network."""
        return hasattr(self, "state_") and self._fitted().recipe.likelihood != LINEAR

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """A fit that fails or is interrupted leaves the one before it, classes and names of features included."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _begun(self, rows: Rows, seed: int, *, once: bool) -> State:
        expansion = None
        if self.encoder is None:
            classes = self._is_classification()
            expansion = Expansion.fit(self.columns_, rows.x, rows.y, rows.weights, classes=classes, seed=seed)
        recipe = self._recipe(rows, expansion)
        recipe = replace(recipe, **self._choice(recipe.likelihood, rows, seed, once=once))
        check_targets(recipe, rows.y)
        return State.new(recipe, rows, seed, expansion)

    def _continued(self, rows: Rows, how: str) -> State:
        """A copy of the last fit's state, for a fit of these rows that goes on with it."""
        recipe, asked = self._fitted().recipe, self._recipe(rows, self._fitted().expansion)
        state = copy.deepcopy(
            self._fitted(), {id(recipe): recipe}
        )  # a likelihood or an encoder of the user's is not copied
        for field in RECIPE_PARAMETERS:
            had, wanted = getattr(recipe, field), getattr(asked, field)
            if had != wanted and (field, wanted) != ("likelihood", "auto"):
                name = {"members": "ensemble"}.get(field, field)
                raise ValueError(
                    f"{how} goes on with the model of the fit before, whose {name} is {had!r}, but got {name}={wanted!r}. "
                    f"Try {name}={had!r}, or a new fit."
                )
        check_targets(state.recipe, rows.y)
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
            periodic=int(self.periodic),
            encoder=self.encoder,
            num_smooth=None if expansion is None else expansion.num_smooth,
        )

    def _train(self, state: State, rows: Rows, held_out: Rows | None, seed: int, *, once: bool) -> Self:
        if state.recipe.likelihood == LINEAR:
            return self._in_closed_form(state, rows)
        state.density.to(chosen_device(self.device), torch.float32)
        if once and state.optimizer is None:
            state.optimizer = LightAdam(state.density.parameters(), lr=self.learning_rate)
        plan = self._plan(state, seed, once=once)
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
                return train(
                    state.density,
                    # Rows of a stream are new to what is known of the levels of categories.
                    state.standardised(rows) if once and state.calls else state.of_training(rows, classes=plan.classes),
                    replace(plan, learning_rate=rate, epochs=epochs),
                    partial(self._tensor, state.recipe),
                    None if held_out is None else state.standardised(held_out),
                    state.many_draws(self.num_samples),
                    on_epoch,
                    family_of(state.recipe.support(), classes=plan.classes),
                )

            trained = repaired(attempt, plan.learning_rate)
        state.history, state.noise = trained.history, trained.noise
        if trained.factor is not None:
            state.factor = trained.factor
        state.scores = self._scores(state, trained.scores, rows, given=held_out is not None)
        return self._done(state, rows)

    def _in_closed_form(self, state: State, rows: Rows) -> Self:
        """The density of a Bayesian linear regression, which takes no training."""
        standard = state.of_training(rows, classes=False)
        head: Any = state.density.likelihood
        head.learn(*(torch.as_tensor(part) for part in (standard.x, standard.y, standard.weights)))
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

    def _plan(self, state: State, seed: int, *, once: bool) -> Plan:
        classes, method, kept = self._is_classification(), state.recipe.method, state.optimizer
        return Plan(
            method=method,
            alpha=(method.alpha or ALPHA) if self.alpha is None else self.alpha,
            beta=(0.01 if classes else 0.0) if self.beta is None else self.beta,
            neighbors=self.neighbors,
            epochs=1 if once else self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            anneal=not once,
            fraction=0.0 if once else self.validation_fraction,
            patience=self.patience,
            classes=classes,
            deal_seed=state.seed,
            seed=seed,
            most_draws=self.num_samples,
            optimizer=LightAdam if kept is None else lambda parameters, lr: kept,
        )

    def _seed(self) -> int:
        """The seed of a fit, drawn after its parameters are checked."""
        check_parameters(self)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _mean_nll(self, state: State, X: Array, y: Array, weights: Array | None) -> float:
        """The mean negative log density of standardised targets, in nats a row."""
        if weights is not None:
            X, y, weights = (v[weights > 0] for v in (X, y, weights))
        check_targets(state.recipe, y)
        standard = state.y_scaler.transform(y)
        device = next(state.density.parameters()).device

        def log_prob(part: PredictiveMixture, rows: npt.NDArray[np.int64]) -> Array:
            found: Array = part.log_prob(self._tensor(state.recipe, standard[rows]).to(device)).cpu().numpy()
            return found

        return -float(np.average(state.of_rows(X, log_prob), weights=weights))

    def _draws(self, state: State, X: Array, num_samples: int, random_state: Any) -> Array:
        """Draws in standard units, [num_samples, n, *event]."""
        if not is_integer(num_samples) or not 1 <= num_samples < 2**31:
            raise ValueError(f"got num_samples={num_samples!r}, expected a positive integer. Try num_samples=100.")
        check_seed(random_state)
        device = next(state.density.parameters()).device
        with own_random_state(device, int(check_random_state(random_state).randint(2**31 - 1))):
            drawn = [part.sample((num_samples,)).double().cpu().numpy() for _, part in state.mixtures(X)]
        return np.concatenate(drawn, axis=1)[:, : len(X)]

    def standardised_features(self, X: Any) -> Array:
        """The features as the network gets them, [n, D]: encoded by the columns' kinds, and scaled.

        Args:
            X: features, [n, d].
        """
        state = self._fitted()
        return state.standardised_inputs(self._numbers(X, reset=False))

    def _numbers(self, X: Any, *, reset: bool) -> Array:
        """The columns as numbers, [n, d], NaN where a value is missing; with an encoder also [n, ..., d]."""
        refuse_masked(type(self).__name__, "X", X)
        frame = frame_of(X)
        if frame is None:
            numbers = self._of_array(without_graph(X), reset=reset)
        else:
            validate_data(self, frame, reset=reset, skip_check_array=True)
            check_size(frame)
            if reset:
                self.columns_ = Schema.fit(frame)
            numbers = self.columns_.numbers(frame)
            self._check_columns(numbers)
        if reset:
            warn_of_codes(self.columns_, numbers, named=frame is not None)
        elif hasattr(self, "state_"):
            self._warn_of_gaps(self.state_, numbers)
        return numbers

    def _of_array(self, X: Any, *, reset: bool) -> Array:
        refuse_dates(type(self).__name__, "X", X)
        finite = "allow-nan" if self.encoder is None else True
        options = {"reset": reset, "ensure_all_finite": finite, "allow_nd": self.encoder is not None}
        try:
            with (
                only_numbers("X"),
                np.errstate(invalid="ignore", over="ignore"),
            ):  # it finds what is not finite by a sum
                numbers: Array = validate_data(self, X, dtype=np.float64, **options)
        except (TypeError, ValueError):
            frame = of_texts(X)
            if frame is None:
                raise
            validate_data(self, frame, reset=reset, skip_check_array=True)
            if reset:
                self.columns_ = Schema.fit(frame)
            numbers = self.columns_.numbers(frame)
            self._check_columns(numbers)
            return numbers
        if reset:
            self.columns_ = Schema.of_numbers(numbers.shape[-1])
        elif not self.columns_.only_numbers:
            numbers = self.columns_.numbers(pd.DataFrame(numbers))
        return numbers

    def _check_columns(self, numbers: Array) -> None:
        """Raises ValueError for infinite values, and for columns that an encoder of the user's cannot take."""
        wrong = np.argwhere(np.isinf(numbers))
        if len(wrong):
            row, column = wrong[0]
            raise ValueError(
                f"Input X contains infinity: column {shown(self.columns_.columns[column].name)} at row {row} (rows counted "
                "from 0), expected finite numbers, or NaN where a value is missing. Try NaN in its place."
            )
        if self.encoder is not None and (not self.columns_.only_numbers or np.isnan(numbers).any()):
            raise ValueError(
                "X has columns of texts, categories or dates, or gaps, which an encoder of your own cannot take, expected "
                "numbers alone. Try encoder=None, or numbers in their place."
            )

    def _warn_of_gaps(self, state: State, numbers: Array) -> None:
        if state.expansion is None or not np.isnan(numbers).any():
            return
        names = [shown(self.columns_.columns[k].name) for k in state.expansion.new_gaps(numbers)]
        if names:
            warnings.warn(
                f"values of {', '.join(names[:10])} are missing, and none was in the rows of the fit: a typical value stands "
                "for them.",
                UserWarning,
                stacklevel=4,
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        table = self.encoder is None
        tags.input_tags.allow_nan = tags.input_tags.categorical = tags.input_tags.string = table
        return tags

    def _weights(self, sample_weight: Any, X: Array) -> Array | None:
        if sample_weight is None:
            return None
        if isinstance(sample_weight, complex | np.complexfloating):
            raise ValueError("sample_weight is complex, expected real numbers. Try sample_weight=None.")
        refuse_masked(type(self).__name__, "sample_weight", sample_weight)
        refuse_dates(type(self).__name__, "sample_weight", sample_weight)
        sample_weight = without_graph(sample_weight)
        with only_numbers("sample_weight"):
            weights: Array = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not np.isfinite(weights).all():
            raise ValueError("sample_weight is NaN or infinite in a row, expected numbers. Try sample_weight=None.")
        if not weights.any():
            raise ValueError("sample_weight is zero in every row, expected some above. Try sample_weight=None.")
        return weights

    def _checked_validation(self, validation: tuple[Any, ...], recipe: Recipe) -> Rows:
        if not isinstance(validation, tuple) or len(validation) not in (2, 3):
            raise ValueError(
                f"fit got validation of type {type(validation).__name__}, expected rows (X, y) or (X, y, sample_weight). "
                "Try validation=(X_new, y_new)."
            )
        given_x, given_y, given_weights = (*validation, None)[:3]
        X, y, weights = self._checked(given_x, given_y, given_weights, reset=False)
        if weights is not None:
            X, y, weights = (v[weights > 0] for v in (X, y, weights))
        check_targets(recipe, y, "validation y")
        return Rows(X, y, np.ones(len(X)) if weights is None else weights / weights.max())
