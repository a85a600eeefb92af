"""The predictive density as a distribution of skpro."""

from __future__ import annotations

__all__ = ["PredictiveDistribution"]

import copy
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyro.distributions as dist
import torch
from skpro.distributions.base import BaseDistribution

from pyro_probmix.inference.predictive.at_values import cdf_at, log_density_at, quantile_at
from pyro_probmix.inference.predictive.energies import density_norm, mean_distance, mean_distance_to
from pyro_probmix.inference.predictive.families import marginals_of
from pyro_probmix.inference.predictive.mixture import PredictiveMixture
from pyro_probmix.pooling.rows.rebuilding import take_batch
from pyro_probmix.pooling.rows.tensors import floating_tensor
from pyro_probmix.random_state import own_random_state

Array = npt.NDArray[np.float64]


class PredictiveDistribution(BaseDistribution):  # type: ignore[misc] # skpro is not annotated
    """A predictive mixture as a distribution of skpro, a row for each row and a column for each target.

    ``pdf``, ``cdf``, ``ppf`` and the like are of each entry by itself; ``sample`` draws the targets of a row together. Means,
    variances, densities, distribution functions and quantiles are exact, and so is the energy of Gaussians; other families'
    is by quadrature, to about seven digits. A density is 0 outside of the support. Of counts, and at values with a probability
    of their own, ``pmf`` is that probability and ``pdf`` is 0, as skpro has it.

    Args:
        mixture: of n rows, batch shape [n] and event shape [d_y] or (), in the units of the response.
        targets: positions of the columns among the mixture's targets; all of them by default.
        index, columns: labels of the rows and columns. Without both it is the distribution of a number, and the mixture has
            one row.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> from pyro_probmix.inference import PredictiveMixture
        >>> from pyro_probmix.skpro import PredictiveDistribution
        >>> mixture = PredictiveMixture(dist.Normal(torch.tensor([[-1.0], [1.0]]), 1.0), 1)
        >>> p = PredictiveDistribution(mixture, index=["a"], columns=["speed"])
        >>> p.mean().loc["a", "speed"].item(), p.var().loc["a", "speed"].item(), p.cdf(0.0).loc["a", "speed"].item()
        (0.0, 2.0, 0.5)
    """

    _tags: ClassVar[dict[str, Any]] = {
        "capabilities:approx": [],
        "capabilities:exact": [
            *("mean", "var", "energy", "pdfnorm"),
            *("pdf", "log_pdf", "pmf", "log_pmf", "cdf", "ppf"),
        ],
        "distr:paramtype": "general",
        "broadcast_init": "off",
    }

    def __init__(self, mixture: PredictiveMixture, targets: Any = None, index: Any = None, columns: Any = None) -> None:
        self.mixture, self.targets = mixture, targets
        width = math.prod(mixture.event_shape)
        self._places = tuple(range(width)) if targets is None else tuple(int(place) for place in targets)
        if (index is None) != (columns is None):  # names for one of the two
            index = range(mixture.batch_shape[0]) if index is None else index
            columns = range(len(self._places)) if columns is None else columns
        shape = (mixture.batch_shape[0], len(self._places))
        if shape != ((1, 1) if index is None else (len(index), len(columns))):
            given = (
                "neither index nor columns" if index is None else f"index of {len(index)} and columns of {len(columns)}"
            )
            raise ValueError(
                f"PredictiveDistribution got {given} for {shape[0]} rows and {shape[1]} targets, expected as many labels. "
                "Try index=range(len(X))."
            )
        super().__init__(index=index, columns=columns)
        self.set_tags(**{"distr:measuretype": _kind(self._of_target(self._places[0]))})

    def _of_target(self, place: int) -> PredictiveMixture:
        """The mixture of one target, of event shape ()."""
        joint: Any = self.mixture
        if not joint.event_shape:
            return self.mixture
        of: Any = joint.components
        if isinstance(of, dist.Independent) and of.reinterpreted_batch_ndims == 1 and not of.base_dist.event_shape:
            one: Any = take_batch(of.base_dist, place)
        elif isinstance(of, dist.MultivariateNormal):
            one = dist.Normal(of.loc[..., place], of.variance[..., place].sqrt(), validate_args=False)
        else:
            raise TypeError(
                f"the targets of a {type(of).__name__} by themselves are not known, expected independent or Gaussian ones. "
                "Try one regressor for each target."
            )
        if not joint.rescaled:
            return PredictiveMixture(one, joint.num_mixed)
        shape = (*joint.batch_shape, *joint.event_shape)
        units = [
            torch.as_tensor(unit, dtype=torch.float64).expand(shape)[..., place] for unit in (joint.loc, joint.scale)
        ]
        return PredictiveMixture(one, joint.num_mixed, *units)

    def _by_column(self, function: Callable[..., Array], *values: Any) -> Any:
        """A function of a target's mixture and a column of values, for each column; of the distribution's shape."""
        grids = [np.asarray(value, dtype=np.float64).reshape(-1, len(self._places)) for value in values]
        of_each = [
            function(self._of_target(place), *[grid[:, j] for grid in grids]) for j, place in enumerate(self._places)
        ]
        return np.stack(of_each, axis=-1).reshape(self.shape)

    def _mean(self) -> Any:
        return self._by_column(lambda mixture: _numbers(mixture.mean))

    def _var(self) -> Any:
        return self._by_column(lambda mixture: _numbers(mixture.variance))

    def _log_pdf(self, x: Any) -> Any:
        return self._by_column(
            lambda mixture, column: np.where(_at_points(mixture, column), -np.inf, _log(mixture, column)), x
        )

    def _log_pmf(self, x: Any) -> Any:
        return self._by_column(
            lambda mixture, column: np.where(_at_points(mixture, column), _log(mixture, column), -np.inf), x
        )

    def _pdf(self, x: Any) -> Any:
        return np.exp(self._log_pdf(x))

    def _pmf(self, x: Any) -> Any:
        return np.exp(self._log_pmf(x))

    def _cdf(self, x: Any) -> Any:
        return self._by_column(lambda mixture, column: cdf_at(mixture, column[None])[0], x)

    def _ppf(self, p: Any) -> Any:
        return self._by_column(lambda mixture, column: quantile_at(mixture, column[None])[0], p)

    def _energy_self(self) -> Any:
        energy = self._by_column(mean_distance)
        return energy.sum(axis=1, keepdims=True) if self.ndim else energy

    def _energy_x(self, x: Any) -> Any:
        energy = self._by_column(mean_distance_to, x)
        return energy.sum(axis=1, keepdims=True) if self.ndim else energy

    def pdfnorm(self, a: float = 2) -> Any:
        """The integral of a power of each entry's density, by quadrature; 0 for a discrete one, which has no density.

        Args:
            a: the power, above 0.

        Returns:
            a frame of the distribution's shape; a number if it is the distribution of one.
        """
        if self.get_tag("distr:measuretype") == "discrete":
            norms = np.zeros(self.shape)
        else:
            norms = self._by_column(lambda mixture: density_norm(mixture, a))
        return pd.DataFrame(norms, index=self.index, columns=self.columns) if self.ndim else float(norms)

    def _sample(self, n_samples: int | None = None) -> Any:
        device = floating_tensor(self.mixture.components).device
        with own_random_state(device, int(np.random.randint(2**31 - 1))):  # skpro's draws follow NumPy's seed
            drawn = _numbers(self.mixture.sample((1 if n_samples is None else n_samples,)))
        drawn = drawn.reshape(*drawn.shape[:1], self.mixture.batch_shape[0], -1)[..., list(self._places)]
        if not self.ndim:
            return float(drawn[0, 0, 0]) if n_samples is None else pd.DataFrame(drawn[:, 0])
        frames = [pd.DataFrame(one, index=self.index, columns=self.columns) for one in drawn]
        return frames[0] if n_samples is None else pd.concat(frames, keys=range(n_samples))

    def _get_indexer_like_pandas(self, index: Any, keys: Any) -> Any:
        places = super()._get_indexer_like_pandas(index, keys)
        if np.any(np.asarray(places) == -1):  # which skpro would take for the last one
            raise KeyError(f"a label is not in {list(index[:5])}..., expected labels of the distribution. Try p.iloc.")
        return places

    def _iloc(self, rowidx: Any = None, colidx: Any = None) -> Any:
        rows = np.arange(self.shape[0]) if rowidx is None else np.atleast_1d(np.arange(self.shape[0])[_plain(rowidx)])
        places = np.asarray(self._places) if colidx is None else np.atleast_1d(np.asarray(self._places)[_plain(colidx)])
        index = self.index if rowidx is None else self.index[rows]
        columns = (
            self.columns if colidx is None else self.columns[np.atleast_1d(np.arange(self.shape[1])[_plain(colidx)])]
        )
        if np.ndim(rowidx) == np.ndim(colidx) == 0 and not isinstance(rowidx, slice | None) and colidx is not None:
            return self._iat(rowidx, colidx)
        return type(self)(self._of_rows(rows), tuple(places.tolist()), index=index, columns=columns)

    def _iat(self, rowidx: Any = None, colidx: Any = None) -> Any:
        return type(self)(self._of_rows(np.arange(self.shape[0])[[rowidx]]), (self._places[colidx],))

    def _of_rows(self, rows: npt.NDArray[np.int64]) -> PredictiveMixture:
        if np.array_equal(rows, np.arange(self.mixture.batch_shape[0])):
            return self.mixture
        of: Any = self.mixture
        places = torch.as_tensor(rows, device=floating_tensor(of.components).device)
        components: Any = take_batch(of.components, places)
        if not of.rescaled:
            return PredictiveMixture(components, of.num_mixed)
        shape = (*of.batch_shape, *of.event_shape)
        units = [torch.as_tensor(unit, device=places.device).expand(shape)[places] for unit in (of.loc, of.scale)]
        return PredictiveMixture(components, of.num_mixed, *units)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Parameters of instances that skpro's checks are run on.

        Args:
            parameter_set: is not looked at.

        Returns:
            arguments of three instances: of two targets, of counts, and of a number.
        """
        like = torch.linspace(0.5, 2.0, 12, dtype=torch.float64).reshape(2, 3, 2)
        two = PredictiveMixture(
            dist.Normal(like, like.flip(0)).to_event(1), 1, torch.tensor([1.0, 5.0]), torch.tensor(2.0)
        )
        counts = PredictiveMixture(dist.Poisson(like[..., 0]), 1)
        one = PredictiveMixture(dist.StudentT(3 + like[:, :1, 0], like[:, :1, 1], 1.0), 1)
        return [
            {"mixture": two, "index": pd.RangeIndex(3), "columns": pd.Index(["a", "b"])},
            {"mixture": counts, "index": pd.Index([3, 1, 2]), "columns": pd.Index(["count"])},
            {"mixture": copy.deepcopy(one)},
        ]


def _kind(mixture: PredictiveMixture) -> str:
    """skpro's word for the kind of a response."""
    support: Any = marginals_of(mixture.components).support
    return "discrete" if support.is_discrete else "mixed" if _points(mixture) else "continuous"


def _points(mixture: PredictiveMixture) -> tuple[float, ...]:
    """Values with a probability of their own, in the components' units."""
    return tuple(getattr(marginals_of(mixture.components).support, "points", ()))


def _at_points(mixture: PredictiveMixture, values: Array) -> npt.NDArray[np.bool_]:
    """Which values have a probability rather than a density."""
    if _kind(mixture) == "discrete":
        return np.ones(values.shape, dtype=bool)
    moved = (values - _numbers(torch.as_tensor(mixture.loc))) / _numbers(torch.as_tensor(mixture.scale))
    at: npt.NDArray[np.bool_] = np.isin(moved, _points(mixture))
    return at


def _log(mixture: PredictiveMixture, values: Array) -> Array:
    log_density: Array = log_density_at(mixture, values[None])[0]
    return log_density


def _numbers(tensor: Any) -> Array:
    return np.asarray(tensor.detach().double().cpu().numpy())


def _plain(positions: Any) -> Any:
    """Positions as NumPy takes them."""
    return positions if isinstance(positions, slice | int | np.integer) else np.asarray(positions)
