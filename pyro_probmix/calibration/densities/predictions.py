"""Predictions of rows whose responses were observed: the input of the checks and of ArviZ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyro_probmix.calibration.densities.density import Density
from pyro_probmix.calibration.scores.arrays import Floats, finite, generator
from pyro_probmix.calibration.scores.classes import class_probabilities
from pyro_probmix.calibration.scores.pit import pit_of_draws

__all__ = ["Kind", "Predictions"]

Kind = Literal["continuous", "count", "class"]

#: Squares of numbers beyond this overflow.
LARGEST_NUMBER = 1e150


@dataclass(frozen=True)
class Predictions:
    """The predictive distributions of N rows and T responses, in NumPy arrays, beside the observations.

    Args:
        y: observations, [N] or [N, T]; classes are integers from 0.
        draws: of the predictive, in the units of the response, [C, S, N] or [C, S, N, T]: S draws from each of the C
            members of an ensemble (or chains of a sampler), C = 1 for a single model.
        kind: ``"continuous"``, ``"count"`` or ``"class"``, of all responses.
        log_likelihood: log p(y_i | parameters), in nats, for D draws of the parameters in each member, [C, D, N]. A member
            that is a point fit has D = 1.
        densities: the density of each response, if known: the checks then need no draws.
        probabilities: of the K classes, [N, K] or [N, T, K], for ``kind="class"``.
        x: features, [N, F].
        rows, targets, members, features, classes: names; default: numbers, for targets y0, y1, ...

    Raises:
        TypeError: if something is not made of numbers.
        ValueError: if the shapes or names do not fit together, a number is not finite, or an observation or a draw is beyond
            1e150, where squares overflow.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> predictions = Predictions(y=rng.normal(size=50), draws=rng.normal(size=(5, 40, 50)), targets=["speed"])
        >>> predictions.draws.shape, predictions.targets, predictions.pit(0).shape
        ((5, 40, 50, 1), ('speed',), (50,))
    """

    y: NDArray[Any]
    draws: NDArray[Any]
    kind: Kind
    log_likelihood: Floats | None
    densities: tuple[Density, ...] | None
    probabilities: Floats | None
    x: Floats | None
    rows: tuple[Any, ...]
    targets: tuple[str, ...]
    members: tuple[str, ...]
    features: tuple[str, ...]
    classes: tuple[str, ...]

    def __init__(
        self,
        y: ArrayLike,
        draws: ArrayLike,
        *,
        kind: Kind = "continuous",
        log_likelihood: ArrayLike | None = None,
        densities: Sequence[Density] | None = None,
        probabilities: ArrayLike | None = None,
        x: ArrayLike | None = None,
        rows: Sequence[Any] | None = None,
        targets: Sequence[str] | None = None,
        members: Sequence[str] | None = None,
        features: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        observed: NDArray[Any] = _with_squares("y", y)
        drawn: NDArray[Any] = _with_squares("draws", draws)
        observed = observed[:, None] if observed.ndim == 1 else observed
        drawn = drawn[..., None] if drawn.ndim == 3 else drawn
        if observed.ndim != 2 or drawn.ndim != 4 or drawn.shape[2:] != observed.shape:
            raise ValueError(
                f"y has the shape {np.shape(y)} and draws {np.shape(draws)}, expected [N] and [C, S, N], or [N, T] and "
                "[C, S, N, T]. Try draws[None] for a single model."
            )
        if not isinstance(kind, str) or kind not in ("continuous", "count", "class"):
            raise ValueError(f"kind is {kind!r}, expected 'continuous', 'count' or 'class'. Try kind='continuous'.")
        if kind != "continuous":
            observed, drawn = _integers("y", observed), _integers("draws", drawn)
        num_members, (num_rows, num_targets) = drawn.shape[0], observed.shape
        table = None
        if kind == "class":
            table = _of_classes(probabilities, observed)
        self._set(y=observed, draws=drawn, kind=kind, probabilities=table)
        self._set(log_likelihood=_shaped("log_likelihood", log_likelihood, (num_members, None, num_rows), "[C, D, N]"))
        self._set(x=_shaped("x", x, (num_rows, None), "[N, F]"))
        self._set(densities=None if densities is None else _named("densities", densities, num_targets))
        self._set(rows=tuple(range(num_rows)) if rows is None else _named("rows", rows, num_rows))
        num_features = 0 if self.x is None else self.x.shape[1]
        num_classes = 0 if table is None else table.shape[-1]
        self._set(targets=_named("targets", targets, num_targets, "y"), members=_named("members", members, num_members))
        self._set(
            features=_named("features", features, num_features, "x"), classes=_named("classes", classes, num_classes)
        )

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def pit(self, target: int, *, seed: int | np.random.Generator = 0) -> Floats:
        """The probability integral transforms of a response, [N]: exact if its density is known, else from draws.

        Raises:
            ValueError: for classes, which have no order.
        """
        if self.kind == "class":
            raise ValueError("Classes have no order, expected numbers for the transform. Try reliability.")
        if self.densities is not None:
            return self.densities[target].cdf(self.y[:, target])
        return pit_of_draws(self.pooled(target), self.y[:, target], seed=generator(seed))

    def only(self, target: int) -> Predictions:
        """The same rows with one of the responses, without the log-likelihood, which is of all responses."""
        return Predictions(
            y=self.y[:, target],
            draws=self.draws[..., target],
            kind=self.kind,
            densities=None if self.densities is None else self.densities[target : target + 1],
            probabilities=None if self.probabilities is None else self.probabilities[:, target],
            x=self.x,
            rows=self.rows,
            targets=self.targets[target : target + 1],
            members=self.members,
            features=self.features,
            classes=self.classes or None,
        )

    def pooled(self, target: int) -> NDArray[Any]:
        """The draws of a response from all members, [C * S, N]."""
        return self.draws[..., target].reshape(-1, len(self.y))

    def log_score(self) -> Floats | None:
        """The log density of all responses together under the mixture of the parameters' draws, in nats, [N]."""
        if self.log_likelihood is None:
            return None
        flat = self.log_likelihood.reshape(-1, len(self.y))
        return np.asarray(np.logaddexp.reduce(flat, axis=0) - np.log(len(flat)), dtype=np.float64)


def _with_squares(name: str, values: ArrayLike) -> Floats:
    array = finite(name, values)
    if np.abs(array).max() > LARGEST_NUMBER:
        raise ValueError(
            f"{name} has values up to {np.abs(array).max():.3g}, expected at most {LARGEST_NUMBER:g} in magnitude. "
            "Try other units."
        )
    return array


def _integers(name: str, values: Floats) -> NDArray[np.int64]:
    integers = values.astype(np.int64)
    if np.any(integers != values) or np.any(integers < 0):
        wrong = values[(integers != values) | (integers < 0)][0]
        raise ValueError(f"{name} has the value {wrong}, expected counts or classes 0, 1, ... Try kind='continuous'.")
    return integers


def _of_classes(probabilities: ArrayLike | None, y: NDArray[Any]) -> Floats:
    if probabilities is None:
        raise ValueError(
            "Classes came without probabilities, expected [N, K] or [N, T, K]. Try the predictive's `probs`."
        )
    table = finite("probabilities", probabilities)
    table = table[:, None] if table.ndim == 2 else table
    if table.ndim != 3 or table.shape[:2] != y.shape:
        raise ValueError(
            f"probabilities has the shape {np.shape(probabilities)} for y of {y.shape}, expected [N, K] or [N, T, K]. "
            "Try numpy.stack([1 - p, p], -1) for the probability p of one event."
        )
    return np.stack([class_probabilities(table[:, t], y[:, t])[0] for t in range(y.shape[1])], 1)


def _shaped(name: str, values: ArrayLike | None, shape: tuple[int | None, ...], words: str) -> Floats | None:
    if values is None:
        return None
    array = finite(name, values)
    if array.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape, strict=True)):
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} has the shape {array.shape}, expected {words} = [{sizes}]. Try numpy.reshape.")
    return array


def _named(name: str, values: Any, count: int, prefix: str = "") -> tuple[Any, ...]:
    """As many different names as there are things; by default a prefix and a number."""
    if values is None:
        return tuple(f"{prefix}{i}" for i in range(count))
    if not hasattr(type(values), "__len__") or not getattr(values, "shape", True):
        raise TypeError(
            f"{name} is of type {type(values).__name__}, expected a sequence of {count} entries. Try leaving {name} out."
        )
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} entries, expected {count}. Try leaving {name} out.")
    try:
        different = len({id(value) if name == "densities" else value for value in values})
    except TypeError:
        raise TypeError(
            f"{name} has entries that are sequences, expected texts or numbers. Try numbering them."
        ) from None
    if name != "rows" and different < count:
        raise ValueError(f"{name} has an entry twice, expected different ones. Try numbering them.")
    return tuple(values)
