"""The predictive distribution handed over to the calibration checks and to ArviZ, as NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import torch
import torch.distributions as td
from scipy import stats
from torch import Tensor

from pyro_probmix.arguments import checked
from pyro_probmix.calibration import GaussianMixture, Predictions, ScipyMixture
from pyro_probmix.calibration.densities.density import Density
from pyro_probmix.calibration.densities.predictions import Kind
from pyro_probmix.inference.data.arrays import TensorLike, as_array, as_tensor
from pyro_probmix.inference.predictive.families import marginals_of
from pyro_probmix.inference.predictive.mixture import PredictiveMixture, check_responses, fits
from pyro_probmix.models.distributions.spline import LinearSpline
from pyro_probmix.pooling.rows.tensors import floating_tensor

__all__ = ["rescale", "to_predictions"]


@torch.no_grad()
@checked(least={"num_draws": 1})
def to_predictions(
    predictive: PredictiveMixture,
    y: TensorLike,
    *,
    num_draws: int = 1000,
    x: TensorLike | None = None,
    rows: Sequence[Any] | None = None,
    targets: Sequence[str] | None = None,
    members: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
) -> Predictions:
    """A predictive distribution and the observations to check it by, as NumPy arrays.

    The members of an ensemble become chains, each with its own draws and log-likelihood: a member's weights are one draw of
    the parameters, and its embeddings are integrated out. Gaussian, Student's t, Gamma and log-normal responses get their
    exact densities, other ones are checked by their draws. The exact CRPS of Gaussians takes a time that grows with the
    square of draws of the embedding times members, 6 s for 1000 rows and 500 of them: ``predict(..., num_samples=20)`` is
    quicker.

    Args:
        predictive: from :func:`predict`, with batch shape [N]: of one model, or of an ensemble.
        y: observations in its units, [N, T], or [N] for classes and scalar densities.
        num_draws: of all members together.
        x: features, [N, F], to keep beside the rows.
        rows, targets, members, features, classes: names, see :class:`Predictions`.

    Returns:
        the input of :func:`pyro_probmix.calibration.check`, ``to_arviz`` and the other checks.

    Raises:
        ValueError: if the predictive has replicas that are no ensemble, or the observations are not of its shape
            or outside of its support.

    Example:
        >>> import torch
        >>> from pyro_probmix import predict
        >>> from pyro_probmix.models import METHODS, Gaussian, build_density
        >>> density = build_density(METHODS["M-ProbMix"], num_features=3, likelihood=Gaussian, replicas=5)
        >>> x, y = torch.randn(40, 3), torch.randn(40, 1)
        >>> predictions = to_predictions(predict(density, x, ensemble=True), y, targets=["speed"])
        >>> predictions.draws.shape, predictions.log_likelihood.shape
        ((5, 200, 40, 1), (5, 1, 40))
    """
    if len(predictive.batch_shape) != 1:
        raise ValueError(
            f"to_predictions got a predictive of batch shape {tuple(predictive.batch_shape)}, expected rows, [N]. "
            "Try predict(..., ensemble=True), or one replica at a time."
        )
    shape = (*predictive.batch_shape, *predictive.event_shape)
    y = as_tensor("to_predictions", "y", y).to(floating_tensor(predictive.components).device)
    check_responses("to_predictions", y, shape, exactly=True)
    if not predictive.support.check(y).all():
        raise ValueError(
            f"to_predictions got y with values that the predictive's support, {predictive.support}, does not have. "
            "Try dropping rows without a value, or a likelihood for such responses."
        )
    marginals = marginals_of(predictive.components)
    of_each = PredictiveMixture(predictive.components, 1, predictive.loc, predictive.scale)  # batch shape [(C,) N]
    num_members = of_each.batch_shape[0] if predictive.num_mixed > 1 else 1
    log_likelihood = of_each.log_prob(y).reshape(num_members, 1, len(y))
    draws = _draws(predictive, num_members, -(-num_draws // num_members))
    kind = _kind(marginals)
    return Predictions(
        y=_numpy(y),
        draws=_numpy(draws),
        kind=kind,
        log_likelihood=_numpy(log_likelihood),
        densities=_densities(predictive, marginals) if kind == "continuous" else None,
        probabilities=_probabilities(predictive, marginals) if kind == "class" else None,
        x=None if x is None else as_array("to_predictions", "x", x).astype(np.float64),
        rows=rows,
        targets=targets,
        members=members,
        features=features,
        classes=classes,
    )


@checked()
def rescale(predictive: PredictiveMixture, factor: TensorLike | float) -> PredictiveMixture:
    r"""The predictive stretched about its mean, :math:`m + c\,(y - m)`: still a mixture of the same family.

    Args:
        predictive: of continuous responses.
        factor: c, a positive number or a tensor, as :func:`pyro_probmix.calibration.fit_scale` finds it on validation rows;
            broadcasts with [*batch, *event].

    Example:
        >>> import pyro.distributions as dist, torch
        >>> narrow = PredictiveMixture(dist.Normal(torch.zeros(1, 3), 1.0), 1)
        >>> rescale(narrow, 2.0).variance
        tensor([4., 4., 4.])
    """
    mean = predictive.mean
    if not isinstance(factor, Tensor | float | int):
        factor = as_tensor("rescale", "factor", factor).to(mean.device, mean.dtype)
    if isinstance(factor, Tensor):
        factor = as_tensor("rescale", "factor", factor)
        if not fits(factor.shape, mean.shape):
            raise ValueError(
                f"rescale got a factor of shape {tuple(factor.shape)}, expected a number or a tensor that broadcasts with "
                f"{tuple(mean.shape)}. Try factor=1.0."
            )
    loc, scale = mean + factor * (predictive.loc - mean), torch.as_tensor(factor) * predictive.scale
    return PredictiveMixture(predictive.components, predictive.num_mixed, loc, scale)


def _draws(predictive: PredictiveMixture, num_members: int, each: int) -> Tensor:
    """Draws of each member, [C, S, N, *event]: about as many from every drawn embedding."""
    mixed = predictive.components.batch_shape[: predictive.num_mixed]
    sets = -(-each // mixed[0])
    draws = predictive.components.sample(torch.Size((sets,))).flatten(0, 1)  # [sets * S, (C,) N, *event]
    draws = draws[torch.randperm(len(draws))]  # so that a thinned chain has draws of all embeddings
    draws = (draws.transpose(0, 1) if predictive.num_mixed > 1 else draws[None])[:, :each]
    return predictive.loc + predictive.scale * draws if predictive.rescaled else draws


def _kind(marginals: Any) -> Kind:
    if isinstance(marginals, td.Categorical | td.Bernoulli):
        return "class"
    return "count" if marginals.support.is_discrete else "continuous"


def _probabilities(predictive: PredictiveMixture, marginals: Any) -> np.ndarray:
    """[N, K] for classes, [N, T, 2] for binary responses."""
    probabilities = _numpy(marginals.probs.mean(tuple(range(predictive.num_mixed))))
    return probabilities if isinstance(marginals, td.Categorical) else np.stack([1 - probabilities, probabilities], -1)


def _densities(predictive: PredictiveMixture, marginals: Any) -> list[Density] | None:
    """The marginal density of each response, or None for a family that has none here."""
    loc, scale = (torch.as_tensor(value).double() for value in (predictive.loc, predictive.scale))
    found = _parameters(marginals, loc, scale)
    if found is None:
        return None
    make, parameters = found
    full = (*marginals.batch_shape, *marginals.event_shape)
    num_rows, num_targets = predictive.batch_shape[0], math.prod(predictive.event_shape)
    components = (
        [] if not isinstance(marginals, td.MixtureSameFamily) else [marginals.mixture_distribution.probs.shape[-1]]
    )

    def array(value: Tensor) -> np.ndarray:
        """[*mixed, N, *event] becomes [M, N, T], where a component's own components, of a last dim, are in M."""
        each = value.expand(*full, *components)
        return _numpy(each.movedim(-1, 0) if components else each).reshape(-1, num_rows, num_targets)

    arrays = {name: array(value) for name, value in parameters.items()}
    return [make(**{name: array[..., t] for name, array in arrays.items()}) for t in range(num_targets)]


Parameters = tuple[Callable[..., Density], dict[str, Tensor]]


@singledispatch
def _parameters(marginals: Any, loc: Tensor, scale: Tensor) -> Parameters | None:
    """A maker of the density of one response, and its parameters in the response's units, [*mixed, N, *event]."""
    return None


@_parameters.register
def _(marginals: td.Normal, loc: Tensor, scale: Tensor) -> Parameters:
    return GaussianMixture, {"means": loc + scale * marginals.loc, "stds": scale * marginals.scale}


@_parameters.register
def _(marginals: td.MultivariateNormal, loc: Tensor, scale: Tensor) -> Parameters:
    return GaussianMixture, {"means": loc + scale * marginals.loc, "stds": scale * marginals.variance.sqrt()}


@_parameters.register
def _(marginals: td.StudentT, loc: Tensor, scale: Tensor) -> Parameters:
    moved = {"df": marginals.df, "loc": loc + scale * marginals.loc, "scale": scale * marginals.scale}
    return lambda weights=None, **parameters: ScipyMixture(stats.t(**parameters), weights), moved


@_parameters.register
def _(marginals: td.Gamma, loc: Tensor, scale: Tensor) -> Parameters:
    moved = {"a": marginals.concentration, "loc": loc, "scale": scale / marginals.rate}
    return lambda **parameters: ScipyMixture(stats.gamma(**parameters)), moved


@_parameters.register
def _(marginals: td.LogNormal, loc: Tensor, scale: Tensor) -> Parameters:
    moved = {"s": marginals.scale, "loc": loc, "scale": scale * marginals.loc.exp()}
    return lambda weights=None, **parameters: ScipyMixture(stats.lognorm(**parameters), weights), moved


@_parameters.register
def _(marginals: td.MixtureSameFamily, loc: Tensor, scale: Tensor) -> Parameters | None:
    of_each = _parameters(marginals.component_distribution, *(v.unsqueeze(-1) if v.dim() else v for v in (loc, scale)))
    if of_each is None:
        return None
    make, parameters = of_each
    # Weights have to be positive, and some are 0 by rounding.
    return make, {"weights": marginals.mixture_distribution.probs.clamp(min=1e-300), **parameters}


@_parameters.register
def _(marginals: LinearSpline, loc: Tensor, scale: Tensor) -> Parameters:
    loc, scale = (v.unsqueeze(-1) if v.dim() else v for v in (loc, scale))
    parts = {"knots": loc + scale * marginals.knots, "heights": marginals.heights, "tails": scale * marginals.tails}
    columns = {f"{name} {k}": v for name, values in parts.items() for k, v in enumerate(values.unbind(-1))}

    def make(**arrays: np.ndarray) -> Density:
        stacked = {
            part: torch.stack([torch.as_tensor(v) for name, v in arrays.items() if name.startswith(part)], -1)
            for part in parts
        }
        return ScipyMixture(_AsScipy(LinearSpline(**stacked, validate_args=False)))

    return make, columns


class _AsScipy:
    """A distribution of torch with the methods of a frozen one of SciPy."""

    def __init__(self, p: Any) -> None:
        self.p = p

    def mean(self) -> np.ndarray:
        return _numpy(self.p.mean)

    def std(self) -> np.ndarray:
        return _numpy(self.p.variance.sqrt())

    def cdf(self, y: Any) -> np.ndarray:
        return _numpy(self.p.cdf(torch.tensor(y)))

    def ppf(self, level: Any) -> np.ndarray:
        return _numpy(self.p.icdf(torch.tensor(level)))

    def logpdf(self, y: Any) -> np.ndarray:
        return _numpy(self.p.log_prob(torch.tensor(y)))


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()
