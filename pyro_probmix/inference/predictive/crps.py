"""The continuous ranked probability score (CRPS) of predictive mixtures of any known family, of each row."""

from __future__ import annotations

__all__ = ["crps_at", "crps_of_columns"]

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyro.distributions as dist
import torch
from scipy import special

from pyro_probmix.calibration.scores.regression import crps_gaussian_mixture
from pyro_probmix.inference.predictive.families import Family, columns_of, family_of, marginals_of
from pyro_probmix.inference.predictive.mixture import PredictiveMixture

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: What lies beyond these tails of all components counts by its square alone, less than 1e-17 of the score's scale.
TAIL = 1e-9
#: Levels of a few components' quantiles at which the first panels end.
LEVELS, CHOSEN = special.ndtr(np.linspace(-5, 5, 9)), 4
#: Panels are halved until two rules agree to this part of the row's score, and so many times at most.
AGREE, MOST_HALVINGS = 1e-7, 40
#: Nodes and weights of Gauss and of Gauss-Legendre rules, the finer of which is the answer.
COARSE, FINE = np.polynomial.legendre.leggauss(5), np.polynomial.legendre.leggauss(9)
#: Mixtures of more Gaussians take less time by quadrature than in closed form, which grows with the square.
MOST_GAUSSIANS = 1500
#: Counts of wider rows are summed over on a grid of so many.
MOST_COUNTS = 20_000
#: A narrower Gaussian counts as so wide, which to all digits has the score of a point: a scale may have underflowed to 0.
NARROWEST = 1e-100
#: The most numbers in one block of work.
LARGEST_BLOCK = 2_000_000


@torch.no_grad()
def crps_at(mixture: PredictiveMixture, y: Array, low: Array | float = -np.inf, high: Array | float = np.inf) -> Array:
    r"""The CRPS of each response, :math:`\int (F(v) - 1[y \le v])^2\, dv`, in the units of the response.

    In closed form for mixtures of Gaussians and for one Student's t, a sum for counts, else by quadrature that is refined until
    it is known to about 1e-8 of itself.

    Args:
        mixture: of n rows, batch shape [n], of a univariate family known to :func:`family_of`.
        y: observations, [n, *event].
        low, high: bounds, [*event], on which the probability of what is beyond them lies.

    Returns:
        [n, *event].

    Raises:
        TypeError: for components of another family.

    References:
        Gneiting and Raftery, 2007, "Strictly proper scoring rules, prediction, and estimation", section 4.2.

    Example:
        >>> mixture = PredictiveMixture(dist.StudentT(3.0, torch.zeros(1, 1), 1.0), 1)
        >>> crps_at(mixture, np.array([0.5])).round(4)
        array([0.3651])
    """
    shape = (*mixture.batch_shape, *mixture.event_shape)
    family = family_of(marginals_of(mixture.components))
    loc, scale = (
        np.broadcast_to(torch.as_tensor(v).double().cpu().numpy(), shape) for v in (mixture.loc, mixture.scale)
    )
    moved = (np.asarray((np.broadcast_to(v, shape) - loc) / scale).ravel() for v in (y, low, high))
    columns = columns_of(family, mixture.components, mixture.num_mixed)
    return scale * crps_of_columns(marginals_of(mixture.components), columns, *moved).reshape(shape)


def crps_of_columns(
    marginals: Any, parameters: list[Array], y: Array, low: Array | None = None, high: Array | None = None
) -> Array:
    """The CRPS of mixtures whose parameters are arrays.

    Args:
        marginals: a distribution of the family.
        parameters: of the components, each [M, N], as :func:`columns_of` gives them.
        y: observations, [N].
        low, high: bounds, [N]; None for none.

    Returns:
        [N], NaN where a parameter is.
    """
    family = family_of(marginals)
    ends = (np.full(len(y), -np.inf) if low is None else low), (np.full(len(y), np.inf) if high is None else high)
    known = np.isfinite(y) & np.all([np.isfinite(v).all(0) for v in parameters], axis=0)
    score = np.full(len(y), np.nan)
    with np.errstate(all="ignore"):
        closed = _closed(marginals, [v[:, known] for v in parameters], y[known]) if known.any() else None
    if closed is not None:
        score[known] = closed
        cut = known & (np.isfinite(ends[0]) | np.isfinite(ends[1]))
        # What a bound cuts off is seen by the quadrature alone.
        known = cut & ((_beyond(family, parameters, *ends) > TAIL) | (y < ends[0]) | (y > ends[1]))
    by_sum = _by_sum if family.discrete else _by_quadrature
    rows = np.flatnonzero(known)
    size = max(1, LARGEST_BLOCK // (len(parameters[0]) * 64))
    for start in range(0, len(rows), size):
        here = rows[start : start + size]
        score[here] = by_sum(family, [v[:, here] for v in parameters], y[here], ends[0][here], ends[1][here])
    return score


def _closed(marginals: Any, parameters: list[Array], y: Array) -> Array | None:
    if isinstance(marginals, dist.MixtureSameFamily) and isinstance(marginals.component_distribution, dist.Normal):
        weights, *gaussians = parameters
        if len(weights) <= MOST_GAUSSIANS:
            tiny = np.finfo(np.float64).tiny
            return crps_gaussian_mixture(
                y, gaussians[0], np.maximum(gaussians[1], NARROWEST), np.maximum(weights, tiny)
            )
    if isinstance(marginals, dist.Normal | dist.MultivariateNormal) and len(parameters[0]) <= MOST_GAUSSIANS:
        return crps_gaussian_mixture(y, parameters[0], np.maximum(parameters[1], NARROWEST))
    if isinstance(marginals, dist.StudentT) and len(parameters[0]) == 1:
        df, loc, scale = (v[0] for v in parameters[:3])
        return _of_student(df, loc, scale, y)
    return None


def _of_student(df: Array, loc: Array, scale: Array, y: Array) -> Array:
    """Jordan, Krüger and Lerch, 2019, "Evaluating probabilistic forecasts with scoringRules", appendix A."""
    z = (y - loc) / scale
    log_density = special.gammaln((df + 1) / 2) - special.gammaln(df / 2) - np.log(df * math.pi) / 2
    density = np.exp(log_density - (df + 1) / 2 * np.log1p(z * z / df))
    spread = np.exp(special.betaln(0.5, df - 0.5) - 2 * special.betaln(0.5, df / 2))
    score = z * (2 * special.stdtr(df, z) - 1) + 2 * (density * (df + z * z) - np.sqrt(df) * spread) / (df - 1)
    return np.where(df > 1, scale * score, np.inf)


def _beyond(family: Family, parameters: list[Array], low: Array, high: Array) -> Array:
    """The probability beyond bounds, which may be infinite, [N]."""
    with np.errstate(all="ignore"):
        below = np.where(np.isinf(low), 0.0, family.cdf(np.where(np.isinf(low), 0.0, low), *parameters).mean(0))
        above = np.where(np.isinf(high), 0.0, family.sf(np.where(np.isinf(high), 0.0, high), *parameters).mean(0))
    beyond: Array = below + above
    return beyond


def _hull(family: Family, parameters: list[Array], low: Array, high: Array) -> tuple[Array, Array]:
    with np.errstate(all="ignore"):
        ends = family.ppf(TAIL, *parameters).min(0), family.isf(TAIL, *parameters).max(0)
    return np.clip(ends[0], low, high), np.clip(ends[1], low, high)


def _squared(family: Family, points: Array, parameters: list[Array], y: Array, low: Array, high: Array) -> Array:
    """(F - 1[y <= v])^2 at points [Q, P] of rows that are the columns of the parameters; a column is on one side of y."""
    tail = np.empty(points.shape)
    above = points[0] >= y
    for function, here in ((family.sf, above), (family.cdf, ~above)):
        with np.errstate(all="ignore"):
            tail[:, here] = function(points[:, None, here], *(v[:, here] for v in parameters)).mean(1)
    tail = np.where(points < low, np.where(above, 1.0, 0.0), tail)
    return np.where(points >= high, np.where(above, 0.0, 1.0), tail) ** 2


def _by_quadrature(family: Family, parameters: list[Array], y: Array, low: Array, high: Array) -> Array:
    first, last = _hull(family, parameters, low, high)
    chosen = np.unique(np.linspace(0, len(parameters[0]) - 1, CHOSEN).round().astype(int))
    with np.errstate(all="ignore"):
        inner = family.ppf(LEVELS[:, None, None], *(v[chosen] for v in parameters)).reshape(-1, len(y))
    knots = np.concatenate([first[None], np.clip(inner, first, last), last[None], y[None], [np.clip(low, first, last)]])
    knots = np.sort(knots, axis=0)
    row = np.broadcast_to(np.arange(len(y)), knots[1:].shape).ravel()
    start, stop = knots[:-1].ravel(), knots[1:].ravel()
    wide = stop > start
    row, start, stop = row[wide], start[wide], stop[wide]
    score, scale = np.zeros(len(y)), np.zeros(len(y))
    for halving in range(MOST_HALVINGS):
        coarse, fine = (_panels(rule, family, parameters, row, start, stop, (y, low, high)) for rule in (COARSE, FINE))
        if not halving:
            np.add.at(scale, row, fine)
        done = np.abs(fine - coarse) <= AGREE * scale[row]
        if halving == MOST_HALVINGS - 1:
            done[:] = True
        np.add.at(score, row[done], fine[done])
        if done.all():
            break
        row, start, stop = row[~done], start[~done], stop[~done]
        middle = (start + stop) / 2
        row, start, stop = np.tile(row, 2), np.concatenate([start, middle]), np.concatenate([middle, stop])
    return score


def _panels(
    rule: tuple[Array, Array],
    family: Family,
    parameters: list[Array],
    row: Integers,
    start: Array,
    stop: Array,
    of_rows: tuple[Array, Array, Array],
) -> Array:
    """The integrals over panels, [P], of the rows that they are of."""
    node, weight = rule
    found = np.empty(len(row))
    size = max(1, LARGEST_BLOCK // (len(node) * len(parameters[0])))
    for begin in range(0, len(row), size):
        here = slice(begin, begin + size)
        half, middle, own = (stop[here] - start[here]) / 2, (stop[here] + start[here]) / 2, row[here]
        values = _squared(
            family,
            middle + half * node[:, None],
            [v[:, own] for v in parameters],
            *(v[own] for v in of_rows),
        )
        found[here] = half * (weight @ values)
    return found


def _by_sum(family: Family, parameters: list[Array], y: Array, low: Array, high: Array) -> Array:
    first, last = _hull(family, parameters, low, high)
    score = np.empty(len(y))
    for k in range(len(y)):
        total = 0.0
        # F is constant from each count to the next, and the indicator jumps at y.
        for begin, end in ((min(first[k], y[k]), y[k]), (y[k], max(last[k] + 1, y[k]))):
            counts = np.unique(np.linspace(begin, end, int(min(end - begin, MOST_COUNTS)) + 1).round())
            if len(counts) < 2:
                continue
            at, width = counts[:-1], np.diff(counts)
            middle = np.floor(at + (width - 1) / 2)  # of a wide cell the count in the middle stands for all
            own = [v[:, [k]] for v in parameters]
            values = _squared(family, middle[:, None], own, y[k : k + 1], low[k : k + 1], high[k : k + 1])
            total += float(width @ values[:, 0])
        score[k] = total
    return score
