"""Features and weights as numbers: arrays and tables, checked against the columns of the fit."""

from __future__ import annotations

__all__ = ["TableInputs"]

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from pyro_probmix.columns.frames import frame_of, of_texts
from pyro_probmix.columns.new_levels import new_levels, warn_of_new_levels
from pyro_probmix.columns.schema import Schema
from pyro_probmix.columns.sentinels import warn_of_codes
from pyro_probmix.estimators.ensemble.rows import Array
from pyro_probmix.estimators.ensemble.state import State
from pyro_probmix.estimators.parameters import (
    check_size,
    only_numbers,
    refuse_dates,
    refuse_masked,
    without_graph,
)
from pyro_probmix.names import shown


class TableInputs(BaseEstimator):  # type: ignore[misc] # scikit-learn is not annotated
    """Takes arrays and tables of pandas, polars and Arrow as features, and reads them as the fit read its rows."""

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
        named = frame is not None
        if frame is None:
            numbers, frame = self._of_array(without_graph(X), reset=reset)
        else:
            numbers = self._of_frame(frame, reset=reset)
        if reset:
            warn_of_codes(self.columns_, numbers, named=named)
        elif hasattr(self, "state_"):
            self._warn_of_gaps(self.state_, numbers)
            if frame is not None:
                warn_of_new_levels(new_levels(self.columns_, numbers, frame), stacklevel=4)
        return numbers

    def _of_frame(self, frame: pd.DataFrame, *, reset: bool) -> Array:
        validate_data(self, frame, reset=reset, skip_check_array=True)
        check_size(frame)
        if reset:
            self.columns_ = Schema.fit(frame)
        numbers = self.columns_.numbers(frame)
        self._check_columns(numbers)
        return numbers

    def _of_array(self, X: Any, *, reset: bool) -> tuple[Array, pd.DataFrame | None]:
        """The numbers, and the values of the columns where some are no numbers."""
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
            with only_numbers("X"):  # pandas before 3 asks whether each value is a floating-point number
                frame = of_texts(X)
            if frame is None:
                raise
            return self._of_frame(frame, reset=reset), frame
        if reset:
            self.columns_ = Schema.of_numbers(numbers.shape[-1])
        elif not self.columns_.only_numbers:
            frame = pd.DataFrame(numbers)
            return self.columns_.numbers(frame), frame
        return numbers, None

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

    def _fitted(self) -> State:
        check_is_fitted(self, "state_")
        state: State = self.state_
        return state
