"""The densities of the heads against SciPy and quadrature: values, moments, quantiles, pools, parts of a batch."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from pyro_probmix.estimators.targets.spread import widened
from pyro_probmix.inference import PredictiveMixture, quantiles, to_predictions
from pyro_probmix.inference.predictive.families import family_of
from pyro_probmix.models import LIKELIHOODS
from pyro_probmix.models.distributions.mixtures import GaussianMixture, LogNormalMixture, StudentTMixture
from pyro_probmix.models.distributions.points import ZeroOneBeta, ZeroOrLogNormal
from pyro_probmix.models.distributions.spline import LinearSpline
from pyro_probmix.models.distributions.zeros import ZeroInflatedNegativeBinomial, ZeroInflatedPoisson
from pyro_probmix.models.likelihoods.positive import LARGEST_LOG, _log_median
from pyro_probmix.pooling import log_linear_pool
from pyro_probmix.pooling.rows.rebuilding import join_batches, take_batch


def t(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


ROWS = 4


def rows(shape: int, seed: int, low: float, high: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(ROWS, shape, generator=generator, dtype=torch.float64)


def logits(k: int) -> Tensor:
    return rows(k, 1, -1, 1)


def scales(k: int) -> Tensor:
    return rows(k, 3, 0.2, 0.9)


MADE: dict[str, Any] = {
    "Gaussians": lambda: GaussianMixture(logits(3), rows(3, 2, -2, 2), scales(3)),
    "Student's t": lambda: StudentTMixture(logits(2), rows(2, 4, 4.5, 9), rows(2, 2, -2, 2), scales(2)),
    "log-normals": lambda: LogNormalMixture(logits(3), rows(3, 2, -1, 1), scales(3)),
    "spline": lambda: LinearSpline(rows(6, 2, 0.1, 1).cumsum(-1) - 2, rows(6, 5, 0.1, 2), rows(2, 6, 0.2, 1)),
    "share": lambda: ZeroOneBeta(logits(3), rows(1, 2, 1, 5)[:, 0], rows(1, 3, 1, 5)[:, 0]),
    "hurdle": lambda: ZeroOrLogNormal(logits(2), rows(1, 2, -1, 1)[:, 0], scales(1)[:, 0]),
}
COUNTS: dict[str, Any] = {
    "negative binomial": lambda: dist.NegativeBinomial(scales(1)[:, 0], logits=logits(1)[:, 0]),
    "zero-inflated": lambda: ZeroInflatedNegativeBinomial(
        5 * scales(1)[:, 0], logits(1)[:, 0], rows(1, 8, -1, 1)[:, 0]
    ),
    "zero-inflated Poisson": lambda: ZeroInflatedPoisson(5 * scales(1)[:, 0], logits(1)[:, 0]),
}
BOUNDS: dict[str, tuple[float, float]] = {"log-normals": (0, np.inf), "share": (0, 1), "hurdle": (0, np.inf)}


def integral(name: str, p: Any, row: int, of: Any) -> float:
    """The integral of a function under the density of one row, and its points."""

    def density(y: float) -> float:
        found: float = of(y) * float(p.log_prob(torch.full((ROWS,), y, dtype=torch.float64)).exp()[row])
        return found

    low, high = BOUNDS.get(name, (-np.inf, np.inf))
    points = getattr(p, "points", ())
    knots = (
        p.knots[row].tolist()
        if hasattr(p, "knots")
        else [0.5]
        if high == 1
        else [0.1, 1.0, 3.0]
        if low == 0
        else [-2.0, 0.0, 2.0]
    )
    edges = [low, *knots, high]
    parts = [integrate.quad(density, a, b, limit=200, epsabs=1e-10)[0] for a, b in itertools.pairwise(edges)]
    return sum(parts) + sum(density(point) for point in points)


@pytest.mark.parametrize("name", MADE)
def test_mass_and_moments_are_those_of_quadrature(name: str) -> None:
    p = MADE[name]()
    for row in range(2):
        mean = float(p.mean[row])
        assert integral(name, p, row, lambda y: 1.0) == pytest.approx(1, abs=1e-7)
        assert integral(name, p, row, lambda y: y) == pytest.approx(mean, abs=1e-6)
        assert integral(name, p, row, lambda y, mean=mean: (y - mean) ** 2) == pytest.approx(
            float(p.variance[row]), rel=1e-5
        )


@pytest.mark.parametrize("name", MADE)
def test_quantiles_invert_the_distribution_function_of_an_ensemble(name: str) -> None:
    p = MADE[name]()
    mixture = PredictiveMixture(p, 1)  # the rows are its members
    levels = np.array([1e-9, 1e-3, 0.05, 0.3, 0.5, 0.9, 0.999, 1 - 1e-9])
    found = quantiles(mixture, levels.tolist())
    assert (np.diff(found) >= 0).all()
    at, below = (mixture.cdf(torch.as_tensor(y)).numpy() for y in (found, np.nextafter(found, -np.inf)))
    # The smallest number at which F reaches the level, up to rounding.
    assert (at >= levels * (1 - 1e-7) - 1e-15).all() and (below <= levels + 1e-12).all()
    for point in getattr(p, "points", ()):
        inside = (float(mixture.cdf(t(np.nextafter(point, -1)))), float(mixture.cdf(t(point))))
        assert quantiles(mixture, [float(np.mean(inside))]) == point
    draws = mixture.sample((4000,)).numpy()
    share = (draws <= quantiles(mixture, [0.3])).mean()
    jump = float(mixture.cdf(torch.as_tensor(quantiles(mixture, [0.3]))))
    assert share == pytest.approx(jump, abs=4 * np.sqrt(0.25 / 4000))


@pytest.mark.parametrize("name", ["share", "hurdle"])
def test_a_closed_pool_is_the_normalised_geometric_mean(name: str) -> None:
    p = MADE[name]()
    q = p.expand((ROWS,))
    q = type(p)(p.logits.flip(0), *(getattr(p, part).flip(0) for part in list(p.arg_constraints)[1:]))
    pooled = log_linear_pool(p, q, 0.3)
    assert isinstance(pooled, type(p))
    at = t(*p.points, 0.2, 0.7)[:, None]
    wanted = 0.3 * p.log_prob(at) + 0.7 * q.log_prob(at)
    difference = pooled.log_prob(at) - wanted
    torch.testing.assert_close(difference, difference[:1].expand_as(difference), rtol=0, atol=1e-9)
    assert integral(name, pooled, 0, lambda y: 1.0) == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("name", ["Gaussians", "Student's t", "log-normals", "spline"])
def test_a_numerical_pool_integrates_to_one(name: str) -> None:
    p = MADE[name]()
    parts = [getattr(p, part).flip(0) for part in p.arg_constraints]
    pooled = log_linear_pool(p, type(p)(*parts), 0.4)
    line = torch.linspace(-14, 14, 200_001, dtype=torch.float64)[:, None]
    at = line.exp() if name == "log-normals" else 3 * line
    mass = torch.trapezoid(pooled.log_prob(at).exp(), at, dim=0)
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [*MADE, *COUNTS])
def test_parts_of_a_batch_are_joined_and_taken(name: str) -> None:
    p = (MADE | COUNTS)[name]()
    y = p.sample()
    both = join_batches([p, p])
    torch.testing.assert_close(both.log_prob(torch.cat([y, y])), p.log_prob(y).repeat(2))
    torch.testing.assert_close(take_batch(p, 2).log_prob(y[2]), p.log_prob(y)[2])
    torch.testing.assert_close(p.expand((3, ROWS)).log_prob(y), p.log_prob(y).expand(3, ROWS))


@pytest.mark.parametrize("name", [*MADE, "negative binomial", "zero-inflated"])
def test_a_widened_density_has_the_mean_that_it_had(name: str) -> None:
    p = (MADE | COUNTS)[name]()
    wide, narrow = widened(p, 1.3), widened(p, 0.8)
    assert (wide.variance > p.variance).all() and (narrow.variance < p.variance).all()
    torch.testing.assert_close(wide.mean, p.mean)
    if name in ("Gaussians", "Student's t", "spline"):
        torch.testing.assert_close(wide.variance, 1.3**2 * p.variance)


@pytest.mark.parametrize("name", ["Gaussians", "Student's t", "log-normals", "spline"])
def test_the_calibration_checks_get_the_exact_density(name: str) -> None:
    p = MADE[name]()
    members = p.expand((3, ROWS))
    loc, scale = (t(0.0), t(2.0)) if name == "log-normals" else (t(1.0), t(2.0))
    predictive = PredictiveMixture(members, 1, loc, scale)
    y = loc + scale * p.sample()
    found = to_predictions(predictive, y, num_draws=30).densities
    assert found is not None
    np.testing.assert_allclose(found[0].log_prob(y.numpy()), predictive.log_prob(y), rtol=1e-7)
    np.testing.assert_allclose(found[0].cdf(y.numpy()), predictive.cdf(y), rtol=1e-7)
    np.testing.assert_allclose(found[0].mean, predictive.mean, rtol=1e-7)


def test_counts_have_the_distribution_functions_of_sums() -> None:
    counts = np.arange(200.0)
    for p in (
        dist.NegativeBinomial(t(2.5), logits=t(0.4)),
        dist.ZeroInflatedPoisson(t(3.0), gate=t(0.3)),
        ZeroInflatedPoisson(t(3.0), t(0.3)),
        ZeroInflatedNegativeBinomial(t(2.5), t(0.4), t(0.3)),
    ):
        family = family_of(p)
        values = [v.numpy() for v in family.parameters]
        below = p.log_prob(torch.as_tensor(counts)).exp().cumsum(0).numpy()
        np.testing.assert_allclose(family.cdf(counts, *values), below, rtol=1e-9)
        np.testing.assert_allclose(family.sf(counts[:12], *values), 1 - below[:12], rtol=1e-6)
        levels = np.array([0.01, 0.29, 0.31, 0.5, 0.95, 0.9999])
        smallest = np.searchsorted(below, levels)
        found = quantiles(PredictiveMixture(p.expand((2, 1)), 1), levels.tolist())
        np.testing.assert_array_equal(found[0], smallest)


def test_a_head_of_each_kind_is_its_distribution() -> None:
    raw = torch.randn(5, 2 * LIKELIHOODS["gaussian-mixture"].parameters_per_output, dtype=torch.float64)
    p = LIKELIHOODS["gaussian-mixture"](3, 2).density(raw).base_dist
    y = p.sample()
    wanted = sum(
        p.logits.softmax(-1)[..., k].numpy() * stats.norm.pdf(y, p.loc[..., k], p.scale[..., k]) for k in range(3)
    )
    np.testing.assert_allclose(p.log_prob(y).exp(), wanted, rtol=1e-9)


def test_a_probability_of_a_point_has_no_unit() -> None:
    members = ZeroOrLogNormal(t([0.0, 0.0], [0.0, 0.0]), t(0.0, 0.0), t(1.0, 1.0))
    predictive = PredictiveMixture(members, 1, torch.tensor(0.0), torch.tensor(10.0, dtype=torch.float64))
    found = predictive.log_prob(t(0.0, 5.0)).exp()
    assert found[0] == pytest.approx(0.5)
    assert found[1] == pytest.approx(0.5 * stats.lognorm.pdf(5.0, 1.0, scale=10.0))


@pytest.mark.parametrize("name", ["log-normal", "log-normal-mixture", "hurdle"])
def test_no_mean_of_positive_numbers_runs_away(name: str) -> None:
    head = LIKELIHOODS[name](3)
    raw = (
        torch.linspace(-60, 60, 601)[:, None]
        * torch.tensor([[-1.0, 1.0]])[:, torch.randint(2, (head.linear.bias.numel(),))]
    )
    p = head.density(raw)
    assert float(p.mean.max()) < 60 * np.exp(2 + LARGEST_LOG + 0.1)
    near = torch.linspace(-3, LARGEST_LOG, 30)
    torch.testing.assert_close(_log_median(near), near)
    step = torch.tensor([LARGEST_LOG - 1e-3, LARGEST_LOG, LARGEST_LOG + 1e-3], dtype=torch.float64)
    np.testing.assert_allclose(_log_median(step).diff() / step.diff(), 1, atol=1e-3)
