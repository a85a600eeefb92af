"""The base of the two estimators: parameters, checks, and fitting."""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state

from pyro_probmix.arguments import checked
from pyro_probmix.columns.new_levels import NewLevels
from pyro_probmix.estimators.ensemble.censoring import check_ends
from pyro_probmix.estimators.ensemble.network import LINEAR, Encoder, Likelihood, Recipe
from pyro_probmix.estimators.ensemble.rows import Array, Rows
from pyro_probmix.estimators.ensemble.state import State
from pyro_probmix.estimators.fitting import FITTED_ATTRIBUTES, FittedByTraining
from pyro_probmix.estimators.parameters import (
    check_parameters,
    check_seed,
    is_integer,
)
from pyro_probmix.estimators.saving.files import SavedModel, write
from pyro_probmix.estimators.saving.fitted import check_attributes
from pyro_probmix.inference.predictive.mixture import PredictiveMixture
from pyro_probmix.models import Method
from pyro_probmix.models.distributions.censored import Known
from pyro_probmix.names import shown
from pyro_probmix.random_state import own_random_state

__all__ = ["Callback", "ProbMixEstimator"]

Callback = Callable[[int, float], bool | None]
#: Features, targets, weights, and the ends between which targets are known to be.
Checked = tuple[Array, Array, Array | None, Array | None]


class ProbMixEstimator(FittedByTraining):
    """An ensemble of conditional densities p(y|x), trained with a mixup method; the base of the two estimators."""

    def __init__(
        self,
        method: str | Method = "M-ProbMix",
        likelihood: Likelihood = "auto",
        *,
        ensemble: int = 10,
        widths: Sequence[int] = (128, 128),
        activation: str = "silu",
        periodic: int | None = None,
        encoder: Encoder | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        neighbors: int = 5,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        validation_fraction: float = 0.2,
        patience: int | None = None,
        num_samples: int = 16,
        neighbors_pool: int = 6,
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
        self.neighbors_pool = neighbors_pool
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
            sample_weight: [n], at least 0. A row of weight k is a row given k times; only their ratios matter, but below 20
                distinct rows, where whole weights are numbers of rows.
            validation: rows (X, y) or (X, y, sample_weight) that choose the epoch and the spread. By default each member
                holds out a share of the training rows.

        Raises:
            ValueError: for data or parameters that do not fit; the sentence says which.
        """
        return self._fit(X, y, sample_weight, validation)

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation: tuple[Any, ...] | None, **known: Any) -> Self:
        """Fits all members; ``known`` is what else is known of the targets, see :meth:`_checked`."""
        seed = self._seed()  # checks the parameters
        again = self.warm_start and self._has_network()
        if self.patience is not None and validation is None and self.validation_fraction == 0:
            raise ValueError(
                f"got patience={self.patience} with validation_fraction=0, expected rows to watch. "
                "Try validation_fraction=0.2, or fit(X, y, validation=(X_new, y_new))."
            )
        with self._all_or_nothing():
            rows = Rows.distinct(*self._of_fit(X, y, sample_weight, reset=not again, **known))
            state = self._continued(rows, "warm_start=True") if again else self._begun(rows, seed, once=False)
            held_out = None if validation is None else self._checked_validation(validation, state.recipe)
            if held_out is not None and (rows.ends is None) != (held_out.ends is None):
                rows, held_out = rows.by_ends(), held_out.by_ends()
            state.optimizer = None
            return self._train(state, rows, held_out, seed, once=False)

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:
        again = self._has_network()
        seed = self._seed()
        with self._all_or_nothing():
            rows = Rows.distinct(*self._of_fit(X, y, sample_weight, reset=not again, classes=classes))
            state = self._continued(rows, "partial_fit") if again else self._begun(rows, seed, once=True)
            return self._train(state, rows, None, (seed + state.calls) % 2**31, once=True)

    def _of_fit(self, X: Any, y: Any, sample_weight: Any, **options: Any) -> Checked:
        """The data of a fit; levels that are new to one that goes on are read as others without a warning."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NewLevels)
            return self._checked(X, y, sample_weight, **options)

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
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, classes: Any = None, y_upper: Any = None
    ) -> Checked:
        """The data as numbers: features [n, *row], targets or codes of classes [n, d_y], weights [n], ends [n, 2 d_y].

        With the upper ends ``y_upper`` of the targets, ``y`` are the lower ones.
        """

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

    def _seed(self) -> int:
        """The seed of a fit, drawn after its parameters are checked."""
        check_parameters(self)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _mean_nll(self, state: State, X: Array, y: Array, weights: Array | None, ends: Array | None = None) -> float:
        """The mean negative log density of standardised targets, or log probability of their ends, in nats a row."""
        if weights is not None:
            some = weights > 0
            X, y, weights, ends = X[some], y[some], weights[some], None if ends is None else ends[some]
        check_ends(state.recipe, Rows(X, y, np.ones(len(X)), ends))
        standard = state.y_scaler.transform(y) if ends is None else state.standard_ends(ends)
        assert standard is not None
        device = next(state.density.parameters()).device

        def log_prob(part: PredictiveMixture, rows: npt.NDArray[np.int64]) -> Array:
            known = part if ends is None else PredictiveMixture(Known(part.components), part.num_mixed)
            found: Array = known.log_prob(self._tensor(state.recipe, standard[rows]).to(device)).cpu().numpy()
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

    def _checked_validation(self, validation: tuple[Any, ...], recipe: Recipe) -> Rows:
        if not isinstance(validation, tuple) or len(validation) not in (2, 3, 4):
            raise ValueError(
                f"fit got validation of type {type(validation).__name__}, expected rows (X, y), (X, y, sample_weight) or, of "
                "numbers, (X, y, sample_weight, y_upper). Try validation=(X_new, y_new)."
            )
        given_x, given_y, given_weights, upper = (*validation, None, None)[:4]
        X, y, weights, ends = self._of_fit(given_x, given_y, given_weights, reset=False, y_upper=upper)
        if weights is not None:
            some = weights > 0
            X, y, weights, ends = X[some], y[some], weights[some], None if ends is None else ends[some]
        rows = Rows(X, y, np.ones(len(X)) if weights is None else weights / weights.max(), ends)
        check_ends(recipe, rows, "validation y")
        return rows
