"""The probability integral transform (PIT) of held-out rows; coverage, and calibration error of quantiles, from it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from pyro_probmix.arguments import checked
from pyro_probmix.calibration.scores.arrays import (
    Floats,
    draws_of_rows,
    generator,
    of_unit_interval,
    over_rows,
    same_shape,
)
from pyro_probmix.calibration.scores.band import CalibrationCurve, uniform_curve
from pyro_probmix.calibration.scores.estimate import NUM_RESAMPLES, Estimate

__all__ = ["coverage_curve", "pit_curve", "pit_of_draws", "randomised_pit", "regression_calibration_error"]


@checked()
def randomised_pit(cdf: ArrayLike, cdf_below: ArrayLike, *, seed: int | np.random.Generator = 0) -> Floats:
    r"""The randomised PIT of a response with atoms, :math:`u_i = F_i(y_i^-) + v_i\,[F_i(y_i) - F_i(y_i^-)]`, v uniform.

    It is uniform if and only if the forecasts are calibrated, for counts as for continuous responses, whose two values of
    F agree.

    Args:
        cdf: :math:`F_i(y_i) = P(Y_i \le y_i)`, of any shape.
        cdf_below: :math:`F_i(y_i^-) = P(Y_i < y_i)`; for counts F(y - 1).
        seed: of v.

    Raises:
        ValueError: if a value is outside of [0, 1], or ``cdf`` is below ``cdf_below``.

    Reference:
        Czado, Gneiting, Held (2009). *Predictive model assessment for count data*. Biometrics 65, section 2.

    Example:
        >>> from scipy.stats import poisson
        >>> y = np.array([0, 3, 1])
        >>> u = randomised_pit(poisson.cdf(y, 2.0), poisson.cdf(y - 1, 2.0))
        >>> bool(((poisson.cdf(y - 1, 2.0) <= u) & (u <= poisson.cdf(y, 2.0))).all())
        True
    """
    above, below = of_unit_interval("cdf", cdf), of_unit_interval("cdf_below", cdf_below)
    same_shape(cdf=above, cdf_below=below)
    if np.any(above < below):
        raise ValueError(
            "cdf is below cdf_below in some rows, expected P(Y <= y) and P(Y < y). Try them the other way round."
        )
    return below + generator(seed).uniform(size=np.broadcast_shapes(above.shape, below.shape)) * (above - below)


@checked()
def pit_of_draws(draws: ArrayLike, y: ArrayLike, *, seed: int | np.random.Generator = 0) -> Floats:
    r"""The PIT from draws of the predictive, :math:`u = (\#\{y^{(s)} < y\} + v\,[1 + \#\{y^{(s)} = y\}]) / (S + 1)`.

    v is uniform, and u is exactly so for any S and any response, counts too, if the observation and the S draws are
    exchangeable.

    Args:
        draws: S of the predictive of each row, [S, ...].
        y: observations, [...].
        seed: of v.

    Raises:
        ValueError: if they are not finite, or their rows do not agree.

    Reference:
        Säilynoja, Bürkner, Vehtari (2022). *Graphical test for discrete uniformity and its applications*. Statistics and
        Computing 32, section 1, with the ranks spread evenly over their cells.

    Example:
        >>> rng = np.random.default_rng(1)
        >>> u = pit_of_draws(rng.poisson(2.0, (20, 5000)), rng.poisson(2.0, 5000))
        >>> bool(abs(u.mean() - 0.5) < 3 * (1 / 12 / 5000) ** 0.5)
        True
    """
    sample, y = draws_of_rows(draws, y)
    below, tied = (sample < y).sum(0), (sample == y).sum(0)
    pit: Floats = (below + generator(seed).uniform(size=y.shape) * (1 + tied)) / (len(sample) + 1)
    return pit


def pit_curve(pit: ArrayLike, *, level: float = 0.95) -> CalibrationCurve:
    """The distribution function of the PIT, which is uniform under calibration, with its simultaneous band.

    Args:
        pit: in [0, 1], [N].
        level: joint probability of the band.

    Returns:
        ``observed``: the share of rows below their predicted quantile of each ``nominal`` level. Above the diagonal on the
        left and below it on the right: forecasts too narrow. Above everywhere: too high.

    Raises:
        ValueError: as :func:`uniform_curve`, which names the sources.

    Example:
        >>> z = np.random.default_rng(0).normal(size=500)
        >>> from scipy.stats import norm
        >>> pit_curve(norm.cdf(z)).inside, pit_curve(norm.cdf(z / 2)).inside
        (True, False)
    """
    return uniform_curve(pit, level=level)


def coverage_curve(pit: ArrayLike, *, level: float = 0.95) -> CalibrationCurve:
    r"""The coverage of central intervals at each nominal level, with a simultaneous band.

    A row is inside of its central interval of probability p if and only if :math:`|2u - 1| \le p`, so that one transform
    gives the coverage at all levels.

    Args:
        pit: u, in [0, 1], [N].
        level: joint probability of the band.

    Raises:
        ValueError: as :func:`uniform_curve`.

    Reference:
        Gneiting, Balabdaoui, Raftery (2007). *Probabilistic forecasts, calibration and sharpness*. J. R. Stat. Soc. B 69,
        section 3.1. The band is that of :func:`uniform_curve`.

    Example:
        >>> z = np.random.default_rng(0).normal(size=500)
        >>> from scipy.stats import norm
        >>> curve = coverage_curve(norm.cdf(z / 2))  # the true scale is half of the forecast's
        >>> bool(curve.observed[curve.nominal == 0.5] > 0.8)
        True
    """
    pit = of_unit_interval("pit", pit)
    return uniform_curve(np.abs(2 * pit - 1), level=level)


@checked()
def regression_calibration_error(
    pit: ArrayLike, *, levels: ArrayLike | None = None, seed: int | np.random.Generator = 0
) -> Estimate:
    r"""The root mean squared distance between nominal and observed levels of the quantiles.

    .. math::
        \sqrt{\tfrac1J \textstyle\sum_j (p_j - \hat p_j)^2}, \qquad \hat p_j = \tfrac1N \#\{i : u_i \le p_j\}

    the square root of the source's calibration error with equal weights. It is never zero: the square of a calibrated
    forecast's has the mean :math:`\sum_j p_j (1 - p_j) / (JN)`, about 1/(6N). For the central intervals give :math:`|2u - 1|`.

    Args:
        pit: u, in [0, 1], [N].
        levels: p_j, in [0, 1], [J]; default 0.01 to 0.99.
        seed: of the bootstrap over rows, for the standard error.

    Raises:
        ValueError: if a value or level is outside of [0, 1].

    Reference:
        Kuleshov, Fenner, Ermon (2018). *Accurate uncertainties for deep learning using calibrated regression*,
        section 3.5.

    Example:
        >>> print(regression_calibration_error(np.linspace(0, 1, 200) ** 2))
        0.183 ± 0.024
    """
    pit = over_rows("pit", of_unit_interval("pit", pit))
    nominal = np.linspace(0.01, 0.99, 99) if levels is None else over_rows("levels", of_unit_interval("levels", levels))
    nominal = np.sort(nominal)
    # The error depends only on the counts between the levels, so a bootstrap sample of the rows is a multinomial draw of these.
    counts = np.bincount(np.searchsorted(nominal, pit, side="left"), minlength=len(nominal) + 1)
    again = generator(seed).multinomial(len(pit), counts / len(pit), size=NUM_RESAMPLES)
    errors = _distance(nominal, np.vstack([counts, again]) / len(pit))
    return Estimate(float(errors[0]), float(errors[1:].std(ddof=1)) if len(pit) > 1 else math.nan)


def _distance(nominal: Floats, shares: Floats) -> Floats:
    """The root mean squared distance for each set of shares between the levels, [..., J + 1]."""
    distance: Floats = np.sqrt(np.mean((shares.cumsum(-1)[..., :-1] - nominal) ** 2, axis=-1))
    return distance
