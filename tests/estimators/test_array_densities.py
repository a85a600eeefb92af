"""Densities, distribution functions and quantiles as NumPy arrays: quadrature and sums, shapes, what is refused."""

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from scipy import stats
from torch.distributions import constraints

from pyro_probmix import ProbMixClassifier, ProbMixRegressor
from pyro_probmix.estimators.ensemble.support import is_positive
from pyro_probmix.inference.predictive import at_values
from pyro_probmix.inference.predictive.mixture import PredictiveMixture
from pyro_probmix.models import LIKELIHOODS, Likelihood

TINY: dict[str, Any] = {
    "ensemble": 2,
    "widths": (8, 4),
    "periodic": 0,
    "epochs": 4,
    "num_samples": 3,
    "random_state": 0,
}
N = 40
X = np.random.default_rng(0).uniform(-1, 1, (N, 2))


def targets(support):
    """Observations that a likelihood can have."""
    rng = np.random.default_rng(1)
    if support is constraints.boolean:
        return (rng.random(N) < 0.5).astype(float)
    if support.is_discrete:
        return rng.poisson(3.0, N).astype(float)
    if hasattr(support, "upper_bound"):
        return rng.uniform(support.lower_bound + 0.1, support.upper_bound - 0.1, N)
    return 20 + 5 * rng.standard_normal(N) if not is_positive(support) else rng.gamma(2.0, 1.0, N)


@pytest.fixture(scope="module", params=[name for name in LIKELIHOODS if name != "categorical"])
def model(request):
    asked = ProbMixRegressor(likelihood=request.param, **TINY)
    support = LIKELIHOODS[request.param](1, 1, None)(torch.zeros(1, 1)).support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return asked.fit(X, targets(support)), support


def test_the_distribution_function_is_the_integral_of_the_density(model):
    """For each likelihood that ships, to 1e-8: by quadrature, or by the sum over all counts."""
    fitted, support = model
    some = X[:3]
    points = fitted.ppf(some, [[0.02, 0.3, 0.5, 0.9, 0.999]])
    found = fitted.cdf(some, points)
    torchs = fitted.predict_dist(some)
    for k in range(points.shape[1]):
        np.testing.assert_allclose(torchs.cdf(torch.as_tensor(points[:, k])), found[:, k], atol=1e-8)
    if support.is_discrete:
        counts = np.arange(points.max() + 1)
        sums = fitted.pdf(some, counts[None]).cumsum(1)
        np.testing.assert_allclose(np.take_along_axis(sums, points.astype(int), 1), found, atol=1e-8)
        np.testing.assert_allclose(fitted.cdf(some, points + 0.5), found, atol=1e-12)
        assert (found >= [0.02, 0.3, 0.5, 0.9, 0.999]).all()
        assert (fitted.pdf(some, points + 0.5) == 0).all() and (fitted.cdf(some, -1.0) == 0).all()
        assert (found - fitted.pdf(some, points) < [0.02, 0.3, 0.5, 0.9, 0.999]).all()
        return
    points_of = getattr(support, "points", ())  # values with a probability of their own, over which levels jump
    smooth = ~np.isin(points, points_of)
    levels = np.broadcast_to([0.02, 0.3, 0.5, 0.9, 0.999], found.shape)
    np.testing.assert_allclose(found[smooth], levels[smooth], rtol=1e-8)
    assert (found >= levels - 1e-8).all()
    node, weight = np.polynomial.legendre.leggauss(4)
    for low, high in itertools.pairwise(points.T):
        ends = np.linspace(low, high, 4001)  # so many since a spline's density has kinks
        half = np.diff(ends, axis=0)[..., None] / 2
        nodes = (ends[1:] + ends[:-1])[..., None] / 2 + half * node  # [panels, 3, 4]
        density = fitted.pdf(some, nodes.swapaxes(0, 1).reshape(3, -1)).reshape(3, -1, 4).swapaxes(0, 1)
        mass = (density * weight * half).sum((0, 2))
        for point in points_of:
            mass += fitted.pdf(some, point) * ((low < point) & (point <= high))
        np.testing.assert_allclose(mass, fitted.cdf(some, high) - fitted.cdf(some, low), atol=1e-8)
    assert (fitted.cdf(some, [[-np.inf, np.inf]]) == [0, 1]).all()
    assert (fitted.logpdf(some, [[-np.inf, np.inf]]) == -np.inf).all()


def test_it_is_the_density_that_the_model_scores_by(model):
    fitted, support = model
    y = targets(support)
    assert -fitted.logpdf(X, y).mean() == pytest.approx(fitted.nll(X, y), rel=1e-12)
    np.testing.assert_allclose(np.log(fitted.pdf(X, y)), fitted.logpdf(X, y), rtol=1e-12)
    np.testing.assert_array_equal(fitted.ppf(X, [[0.05, 0.5]]), fitted.predict_quantiles(X, [0.05, 0.5]))


def test_scipys_own_mixture():
    fitted = ProbMixRegressor(likelihood="student-t", **TINY).fit(X, targets(constraints.real))
    predictive: Any = fitted.predict_dist(X)
    p = predictive.components
    df, loc, scale = (v.reshape(-1, N).numpy() for v in (p.df, p.loc, p.scale))
    scipy: Any = stats.t(df, predictive.loc.numpy() + predictive.scale.numpy() * loc, predictive.scale.numpy() * scale)
    for y in (0.0, 19.0, 30.0):
        np.testing.assert_allclose(fitted.cdf(X, y), scipy.cdf(y).mean(0), rtol=1e-10)
        np.testing.assert_allclose(fitted.pdf(X, y), scipy.pdf(y).mean(0), rtol=1e-10)


# Shapes


@pytest.fixture(scope="module")
def single():
    return ProbMixRegressor(**TINY).fit(X, 20 + 5 * X[:, 0])


@pytest.fixture(scope="module")
def double():
    return ProbMixRegressor(**TINY).fit(X, np.stack([20 + 5 * X[:, 0], -X[:, 1]], 1))


def test_rows_come_first(single):
    some, grid = X[:6], np.linspace(14, 26, 4)
    at = single.cdf(some, grid[None])
    assert at.shape == (6, 4)
    for k, y in enumerate(grid):
        np.testing.assert_allclose(single.cdf(some, y), at[:, k], rtol=1e-12)
        np.testing.assert_allclose(single.cdf(some, np.full(6, y)), at[:, k], rtol=1e-12)
    np.testing.assert_allclose(single.cdf(some, np.tile(grid, (6, 1))), at, rtol=1e-12)
    frame = pd.DataFrame(np.tile(grid, (6, 1)))
    np.testing.assert_allclose(single.cdf(some, frame), at, rtol=1e-12)
    np.testing.assert_allclose(single.ppf(some, at), np.tile(grid, (6, 1)), rtol=1e-6)
    assert single.pdf(some[:1], grid[None]).shape == (1, 4)
    assert single.pdf(some, [[21]]).shape == (6, 1)


def test_many_values_are_worked_on_in_blocks(single, monkeypatch):
    grid = np.linspace(10, 30, 50)[None]
    whole = [single.logpdf(X, grid), single.cdf(X, grid), single.ppf(X, np.linspace(0, 1, 50)[None])]
    monkeypatch.setattr(at_values, "LARGEST_BLOCK", 500)
    blocks = [single.logpdf(X, grid), single.cdf(X, grid), single.ppf(X, np.linspace(0, 1, 50)[None])]
    for one, other in zip(whole, blocks, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_several_targets(double):
    some = X[:5]
    y = double.predict(some)
    assert double.pdf(some, y).shape == (5,) and double.cdf(some, y).shape == (5, 2)
    predictive = double.predict_dist(some)
    np.testing.assert_allclose(double.logpdf(some, y), predictive.log_prob(torch.as_tensor(y)), rtol=1e-10)
    np.testing.assert_allclose(double.cdf(some, y), predictive.cdf(torch.as_tensor(y)), rtol=1e-10)
    grid = np.stack([np.linspace(10, 30, 3), np.linspace(-1, 1, 3)], 1)[None]
    assert double.cdf(some, grid).shape == (5, 3, 2) and double.pdf(some, grid).shape == (5, 3)
    np.testing.assert_allclose(double.ppf(some, double.cdf(some, grid)), np.tile(grid, (5, 1, 1)), rtol=1e-6, atol=1e-9)
    assert double.ppf(some, 0.5).shape == (5, 2)
    column = ProbMixRegressor(**TINY).fit(X, X[:, :1])
    assert column.cdf(some, y[:, 0]).shape == column.cdf(some, y[:, :1]).shape == (5, 1)
    assert column.pdf(some, y[:, 0]).shape == (5,)


@pytest.mark.parametrize("y", [np.zeros(4), np.zeros((4, 6)), np.zeros((3, 1)), np.zeros((6, 2, 2))])
def test_shapes_that_do_not_fit(single, y):
    with pytest.raises(ValueError, match=r"^pdf got y of shape .* for 6 rows, expected a number, \(6,\), .*Try "):
        single.pdf(X[:6], y)


@pytest.mark.parametrize("y", [np.zeros(2), np.zeros(6), np.zeros((6, 3)), np.zeros((2, 6))])
def test_shapes_that_do_not_fit_several_targets(double, y):
    with pytest.raises(ValueError, match=r"^cdf got y of shape .* for 6 rows, expected a number, \(6, 2\), .*Try "):
        double.cdf(X[:6], y)


def test_what_is_no_number(single):
    with pytest.raises(ValueError, match=r"pdf got y with NaN.*Try"):
        single.pdf(X[:2], np.nan)
    with pytest.raises(ValueError, match=r"cdf got y of type str.*Try"):
        single.cdf(X[:2], "high")
    with pytest.raises(ValueError, match=r"ppf got a level of 1.1, expected levels from 0 to 1.*Try"):
        single.ppf(X[:2], [0.5, 1.1])


# Figures


def test_figures_of_rows(single, double):
    fan: Any
    intervals, fan = single.plot(X, 20 + 5 * X[:, 0])
    (axes,) = intervals.axes
    inside = float(axes.get_title().split(": ")[1].split(" %")[0])
    low, high = single.predict_interval(X, 0.9).T
    assert inside == round(100 * ((low <= 20 + 5 * X[:, 0]) & (20 + 5 * X[:, 0] <= high)).mean())
    assert fan.axes[0].get_xlabel() == "feature 0"  # the one that the target depends on
    frame = pd.DataFrame(X, columns=["a", "b$"])
    named: Any = ProbMixRegressor(**TINY).fit(frame, np.stack([X[:, 0], X[:, 1]], 1))
    both = pd.DataFrame({"first": X[:, 0], "second": X[:, 1]})
    drawn = named.plot(frame, both, feature="b$", target=1)[1].axes[0]
    assert (drawn.get_xlabel(), drawn.get_ylabel()) == (r"b\$", "second")
    median: Any = drawn.lines[-1]
    at = pd.DataFrame({"a": frame["a"].iloc[[np.argsort(named.ppf(frame, 0.5)[:, 1])[N // 2]] * 2].to_numpy()})
    at["b$"] = median.get_xdata()[[0, -1]]
    np.testing.assert_allclose(median.get_ydata()[[0, -1]], named.ppf(at, 0.5)[:, 1], rtol=1e-9)


def test_pictures_can_be_read_in_a_dark_style(single):
    from matplotlib import style
    from matplotlib.colors import to_rgb

    def light(colour: Any) -> float:
        return float(np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722)))

    for name, background in (("default", 1), ("dark_background", 0)):
        with style.context(name):
            for figure in single.plot(X, 20 + 5 * X[:, 0]):
                (axes,) = figure.axes
                assert light(figure.get_facecolor()[:3]) == light(axes.get_facecolor()[:3]) == background
                points = next(line for line in axes.lines if line.get_marker() == "o")
                assert light(points.get_color()) == light(axes.title.get_color()) == 1 - background


def test_a_fan_along_categories():
    frame = pd.DataFrame({"a": X[:, 0], "kind": np.where(X[:, 1] > 0, "high", "low")})
    fan = ProbMixRegressor(**TINY).fit(frame, X[:, 0]).plot(frame, X[:, 0], feature="kind")[1]
    assert {tick.get_text() for tick in fan.axes[0].get_xticklabels()} == {"high", "low"}


def test_what_cannot_be_drawn(single, double):
    with pytest.raises(ValueError, match=r"plot got feature='c', expected one of .*Try feature=None"):
        single.plot(X, X[:, 0], feature="c")
    with pytest.raises(ValueError, match=r"plot got target=2, expected one of 2.*Try target=0"):
        double.plot(X, X, target=2)
    with pytest.raises(ValueError, match=r"plot got y of shape \(3,\), expected \(40,\)\. Try"):
        single.plot(X, X[:3, 0])


def test_matplotlib_waits_until_something_is_drawn():
    code = (
        "import sys, pyro_probmix.estimators.regressor; assert not {'matplotlib', 'skpro', 'arviz'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# A head of one's own


class _Triangle(TorchDistribution):
    """A density on [0, 1] that rises as y, with a distribution function of its own and no family that is registered."""

    support = constraints.unit_interval
    arg_constraints = {}  # noqa: RUF012

    def __init__(self, like):
        super().__init__(like.shape, validate_args=False)
        self.like = like

    def expand(self, shape, _instance=None):
        return _Triangle(self.like.expand(shape))

    def log_prob(self, y):
        return (2 * y).log() + 0 * self.like

    def cdf(self, y):
        return y.clamp(0, 1) ** 2 + 0 * self.like

    def sample(self, shape=()):
        return torch.rand((*shape, *self.like.shape), dtype=self.like.dtype).sqrt()

    mean = property(lambda self: torch.full_like(self.like, 2 / 3))
    variance = property(lambda self: torch.full_like(self.like, 1 / 18))


class Triangle(Likelihood):
    def density(self, raw):
        return _Triangle(raw).to_event(1)


def test_a_distribution_that_brings_its_own_function():
    fitted = ProbMixRegressor(likelihood=Triangle, **TINY).fit(X, np.random.default_rng(0).uniform(0.1, 0.9, N))
    levels = np.array([[0.0, 0.01, 0.25, 0.81, 1.0]])
    np.testing.assert_allclose(fitted.ppf(X[:2], levels), np.tile(levels**0.5, (2, 1)), atol=1e-8)
    np.testing.assert_allclose(fitted.cdf(X[:2], [[-1.0, 0.5, 2.0]]), np.tile([0, 0.25, 1], (2, 1)), atol=1e-12)
    np.testing.assert_allclose(fitted.pdf(X[:2], [[-1.0, 0.5, 2.0]]), np.tile([0, 1, 0], (2, 1)), atol=1e-12)


# Classes


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli"])
def test_log_probabilities_of_classes(likelihood):
    fitted = ProbMixClassifier(likelihood=likelihood, **TINY).fit(X, X[:, 0] > 0)
    log_probabilities = fitted.predict_log_proba(X)
    np.testing.assert_allclose(np.exp(log_probabilities), fitted.predict_proba(X), rtol=1e-10)
    assert -log_probabilities[np.arange(N), (X[:, 0] > 0).astype(int)].mean() == pytest.approx(
        fitted.nll(X, X[:, 0] > 0)
    )


def test_a_log_probability_that_no_probability_can_hold():
    fitted = ProbMixClassifier(**{**TINY, "ensemble": 1, "epochs": 40, "learning_rate": 0.05}).fit(X, X[:, 0] > 0)
    with torch.no_grad():
        for parameter in fitted.density_.likelihood.parameters():
            parameter *= 1e6
    assert (fitted.predict_proba(X).min(1) == 0).any()
    assert np.isfinite(fitted.predict_log_proba(X)).all()


def test_a_support_with_bounds_of_its_own():
    components = dist.Uniform(torch.full((2, 3), 5.0), torch.full((2, 3), 7.0))
    found = at_values.log_density_at(PredictiveMixture(components, 1), np.array([[4.0] * 3, [6.0] * 3]))
    np.testing.assert_allclose(np.exp(found), np.repeat([[0.0], [0.5]], 3, axis=1), rtol=1e-6)
