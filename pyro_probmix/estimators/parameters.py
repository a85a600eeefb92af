"""Checks of an estimator's parameters, except those that other modules check."""

from __future__ import annotations

__all__ = [
    "check_entries",
    "check_parameters",
    "check_seed",
    "check_size",
    "chosen_device",
    "is_integer",
    "only_numbers",
    "refuse_dates",
    "refuse_masked",
    "refuse_missing",
    "without_graph",
]

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch

from pyro_probmix.estimators.ensemble.network import named_likelihood
from pyro_probmix.models.networks import ACTIVATIONS
from pyro_probmix.names import shown

#: Sizes above are a slip: memory would run out before anything is said.
LARGEST = 2**24
#: What NumPy says of what it cannot make numbers of.
_NO_NUMBER = (
    "could not convert",
    "must be a string or a real number",
    "must be real number",
    "setting an array element",
    "inhomogeneous",
    "Sparse layout",
)


def check_parameters(estimator: Any) -> None:
    """Raises ValueError for a parameter of another kind, or out of its range; the sentence says which."""
    for name, least in (("ensemble", 1), ("num_samples", 1), ("neighbors", 1), ("periodic", 0), ("neighbors_pool", 0)):
        value = getattr(estimator, name)
        if name == "periodic" and value is None:
            continue
        if not is_integer(value) or not least <= value <= LARGEST:
            raise ValueError(
                f"got {name}={value!r}, expected an integer of at least {least} and at most {LARGEST}. Try {name}=8."
            )
    for name in ("epochs", "batch_size", "patience"):
        value = getattr(estimator, name)
        if value is not None and not (is_integer(value) and 0 < value < 2**31):
            raise ValueError(f"got {name}={value!r}, expected a positive integer or None. Try {name}=None.")
    for name in ("alpha", "beta", "learning_rate"):
        value = getattr(estimator, name)
        if value is None:
            continue
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not number or not (0 < value < math.inf or (name == "beta" and value == 0)):
            bound = "of at least 0" if name == "beta" else "above 0"
            raise ValueError(f"got {name}={value!r}, expected a number {bound}. Try leaving it out.")
    for name in ("warm_start", "verbose"):
        value = getattr(estimator, name)
        if not isinstance(value, bool | int | np.bool_ | np.integer):
            raise ValueError(f"got {name}={value!r}, expected True or False. Try {name}=False.")
    activation = estimator.activation
    if not callable(activation) and not (isinstance(activation, str) and activation in ACTIVATIONS):
        raise ValueError(
            f"got activation={activation!r}, expected one of {', '.join(ACTIVATIONS)}. Try activation='silu'."
        )
    check_seed(estimator.random_state)
    if estimator.encoder is not None and (
        isinstance(estimator.encoder, type | torch.distributions.Distribution) or not callable(estimator.encoder)
    ):
        raise ValueError(
            f"got encoder={estimator.encoder!r}, expected a module from [B, d] to [B, width], or something that makes one for "
            "all members. Try encoder=torch.nn.Linear(d, 64), an instance."
        )
    if not (isinstance(estimator.likelihood, str) and estimator.likelihood == "auto"):
        named_likelihood(estimator.likelihood)
    widths = estimator.widths
    if (
        not isinstance(widths, list | tuple)
        or not widths
        or not all(is_integer(w) and 0 < w <= LARGEST for w in widths)
    ):
        raise ValueError(f"got widths={widths!r}, expected the widths of the layers. Try widths=(128, 128).")
    fraction = estimator.validation_fraction
    if not isinstance(fraction, int | float | np.floating) or not 0 <= fraction <= 0.5:
        raise ValueError(
            f"got validation_fraction={fraction!r}, expected a share from 0 to 0.5. Try validation_fraction=0.2."
        )
    if not isinstance(estimator.callbacks, list | tuple) or not all(
        callable(callback) for callback in estimator.callbacks
    ):
        raise ValueError(
            f"got callbacks={estimator.callbacks!r}, expected a list of functions of the epoch and the best held-out NLL. "
            "Try callbacks=()."
        )


def check_seed(state: object) -> None:
    """Raises ValueError unless random numbers can be seeded by it."""
    generator = state is None or state is np.random or isinstance(state, np.random.RandomState)
    if not generator and not (isinstance(state, int | np.integer) and is_integer(state) and 0 <= state < 2**32):
        raise ValueError(
            f"got random_state={state!r}, expected a seed from 0 to {2**32 - 1} or a numpy.random.RandomState. "
            "Try random_state=0."
        )


@contextmanager
def only_numbers(name: str) -> Iterator[None]:
    """Says which argument held what is no number, where NumPy says that something did."""
    try:
        yield
    except OverflowError:
        raise ValueError(
            f"{name} holds an integer above {np.finfo(np.float64).max:.3g}, expected finite numbers. Try other units."
        ) from None
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        if any(words in str(error) for words in _NO_NUMBER):  # scikit-learn's other sentences are its own
            raise kind(
                f"{name} holds what is no number ({error}), expected numbers. Try encoding it as numbers."
            ) from None
        raise


def check_size(frame: Any) -> None:
    """Raises ValueError for a table without rows or columns, in scikit-learn's words."""
    for what, count in (("sample", len(frame)), ("feature", frame.shape[1])):
        if not count:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={frame.shape}) while a minimum of 1 is required. Try a table with some."
            )


def check_entries(who: str, **given: Any) -> None:
    """Raises ValueError for what has no entries, such as a distribution, or masked ones."""
    for name, value in given.items():
        refuse_masked(who, name, value)
        if not hasattr(value, "__len__") and not hasattr(value, "__array__"):
            raise ValueError(
                f"{who} got {name} of type {type(value).__name__}, expected an entry for each row. Try an array of them."
            )


def refuse_masked(who: str, name: str, value: object) -> None:
    """Raises ValueError for an array with masked values, which NumPy would take without the mask."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{who} got {name} with masked values, expected one for each row. Try leaving out those rows.")


def refuse_missing(name: str, labels: Any) -> None:
    """Raises ValueError for labels some of which are missing, of which NumPy would make a class named nan."""
    values = np.array(labels, dtype=object) if isinstance(labels, list | tuple) else np.asarray(labels)
    if values.dtype.kind != "O" or values.ndim != 1:  # scikit-learn looks at numbers
        return
    missing = np.flatnonzero(pd.isna(values))
    if len(missing):
        raise ValueError(
            f"Input {name} contains NaN: it is missing in {len(missing)} of {len(values)} rows, the first of them row "
            f"{missing[0]} (rows counted from 0), expected a class in each. Try leaving out those rows."
        )


def _dtype_of(values: Any) -> Any:
    """The type of an array or a series of any kind, dates and durations as NumPy has them; None for what is none."""
    dtype = getattr(values, "dtype", None)
    # By name: polars 1.0 crashes where it turns durations into an array.
    kinds = {"Date": "M8", "Datetime": "M8", "Duration": "m8"}
    if kind := kinds.get(str(dtype).partition("(")[0]):
        return np.dtype(kind)
    foreign = not hasattr(dtype, "kind") and hasattr(values, "__array__") and not hasattr(values, "detach")
    return np.asarray(values[:1]).dtype if foreign and hasattr(values, "__len__") else dtype


def refuse_dates(who: str, name: str, value: Any) -> None:
    """Raises ValueError for dates and durations, which NumPy would take as integers of any unit; columns are named."""
    if hasattr(value, "columns") and hasattr(value, "dtypes"):
        of_parts = {
            f"column {shown(str(column))} of {name}": of if hasattr(of, "kind") else _dtype_of(value[column])
            for column, of in zip(value.columns, value.dtypes, strict=True)
        }
    else:
        first = value
        while isinstance(first, list | tuple) and len(first):
            first = first[0]
        of_parts = {name: _dtype_of(first)}
    for part, dtype in of_parts.items():
        if getattr(dtype, "kind", "") in ("M", "m"):
            raise ValueError(
                f"{who} got {part} of {'dates' if dtype.kind == 'M' else 'durations'}, expected numbers. "
                "Try the days since a date, as (values - values.min()) / numpy.timedelta64(1, 'D')."
            )


def without_graph(value: Any) -> Any:
    """A tensor as NumPy can take it: without its graph, on the CPU, floating numbers in double precision; else the same.

    Raises:
        ValueError: for a sparse tensor.
    """
    if isinstance(value, list | tuple) and any(isinstance(row, torch.Tensor) for row in value):
        return [without_graph(row) for row in value]
    if not isinstance(value, torch.Tensor):
        return value
    if value.layout is not torch.strided:
        raise ValueError(f"got a sparse tensor of shape {tuple(value.shape)}, expected a dense one. Try .to_dense().")
    plain = value.detach().cpu()
    return plain.double() if plain.is_floating_point() else plain


def is_integer(value: object) -> bool:
    """Whether a value is an integer of Python or NumPy, and no bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def chosen_device(name: Any) -> torch.device:
    """The device of a name; raises ValueError for one that is not there."""
    if not isinstance(name, str) or name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"got device={name!r}, expected 'auto', 'cpu' or 'cuda'. Try device='auto'.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("got device='cuda', but PyTorch finds no CUDA device here. Try device='cpu'.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
