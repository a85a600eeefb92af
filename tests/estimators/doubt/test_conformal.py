"""Conformal intervals: the ends that the definition gives, and the coverage that they promise, whatever the targets are."""

import warnings
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from pyro_probmix import ProbMixRegressor, load
from pyro_probmix.estimators.doubt.conformal import HeldOutScores
from pyro_probmix.inference.predictive.families import columns_of, family_of, marginals_of
from pyro_probmix.inference.predictive.mixture import PredictiveMixture
from pyro_probmix.inference.predictive.quantile import solve
from pyro_probmix.models.distributions.points import ZeroOneBeta, ZeroOrLogNormal

TINY: dict[str, Any] = {"ensemble": 4, "widths": (16, 8), "periodic": 2, "epochs": 30, "random_state": 0}
#: Shares of six members: two hold out each of two shares, one a third, and one has seen its own rows.
GROUPS = [[0, 3], [1, 4], [2]]


def points(probs, base):
    """Probabilities of points and of what is between or above them, with two targets at the end of the batch."""
    return base(torch.stack([torch.as_tensor(p).double().expand(2, 6, 1, 2) for p in probs], -1))


def families(rng: np.random.Generator) -> dict[str, Any]:
    """Components of two draws, six members and any number of rows, with two targets."""
    loc, scale = torch.tensor(rng.normal(size=(2, 6, 1, 2))), torch.tensor(rng.uniform(0.5, 2, (2, 6, 1, 2)))
    mixing = dist.Categorical(logits=torch.tensor(rng.normal(size=(2, 6, 1, 2, 3))))
    inner = dist.Normal(torch.tensor(rng.normal(size=(2, 6, 1, 2, 3))), 0.3)
    return {
        "normal": dist.Normal(loc, scale),
        "student": dist.StudentT(3.0, loc, scale),
        "gamma": dist.Gamma(1 + scale, scale),
        "mixture": dist.MixtureSameFamily(mixing, inner),
        "poisson": dist.Poisson(4 * scale),
        "negative binomial": dist.NegativeBinomial(3 * scale, logits=loc),
        "hurdle": points((0.3, 0.7), lambda p: ZeroOrLogNormal(p, loc, scale)),
        "shares": points((0.2, 0.1, 0.7), lambda p: ZeroOneBeta(p, scale, 2 * scale)),
    }


def of_rows(components: Any, n: int) -> Any:
    return dist.Independent(components.expand((2, 6, n, 2)), 1)


@pytest.mark.parametrize("name", families(np.random.default_rng(0)))
@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_ends_are_the_order_statistics_of_the_quantiles_of_all_rows(name, coverage):
    """Barber et al. (2021): the k-th smallest of the lower ends that the held-out rows give, and the k-th largest upper one."""
    rng, v = np.random.default_rng(1), 7
    components = of_rows(families(rng)[name], v)
    torch.manual_seed(0)
    y = components.sample()[0].double().numpy()
    y[3:5] = y[:2]  # members 3 and 4 hold out the rows of 0 and 1
    scores = HeldOutScores.of(components, y, np.ones((6, v)), GROUPS)
    assert scores is not None and scores.members.tolist() == [0, 1, 2, 0, 1, -1]
    new = of_rows(families(rng)[name], 1)
    found = scores.interval(PredictiveMixture(new, 2), coverage)[0]

    n = len(scores.scores)
    k = int((1 - coverage) * (n + 1) + 1e-9)
    family = family_of(marginals_of(new))
    columns = [p.reshape(-1, 6, 2) for p in columns_of(family, new, 1)]
    for target in range(2):
        lower, upper = [], []
        for i in range(n):
            own = [p[:, GROUPS[scores.share[i]], target].reshape(-1, 1) for p in columns]
            t = scores.scores[i, target]
            lower.append(solve(family, own, np.array([t / 2]))[0, 0])
            upper.append(solve(family, own, np.array([1 - t / 2]))[0, 0])
        expected = np.sort(lower)[k - 1], np.sort(upper)[-k]
        np.testing.assert_allclose(found[target], expected, rtol=1e-6, atol=1e-6)


def test_scores_are_the_tails_of_the_members_that_held_the_row_out():
    components = of_rows(dist.Poisson(torch.full((2, 6, 1, 2), 3.0).double()), 1)
    y = np.full((6, 1, 2), 2.0)
    scores = HeldOutScores.of(components, y, np.ones((6, 1)), [[0], [], []])
    below, above = dist.Poisson(3.0).log_prob(torch.arange(3.0)).exp().sum(), 1 - 4 * np.exp(-3)
    assert scores is not None
    np.testing.assert_allclose(scores.scores, 2 * min(float(below), above), rtol=1e-6)


@pytest.mark.parametrize("tails", [1.2, 3.0, 100.0])
def test_coverage_does_not_depend_on_the_density_being_right(tails):
    """Densities of a wrong spread and a wrong centre for heteroscedastic, heavy-tailed and skewed targets."""
    rng, v, repeats, coverage = np.random.default_rng(2), 40, 300, 0.8
    inside = []
    for _ in range(repeats):
        x = rng.uniform(size=(2, v + 1))  # two shares, whose members are off by another number each
        noise = rng.standard_t(tails, size=x.shape) ** 2 * (0.1 + x)
        y, loc = noise[..., None], torch.tensor([0.3, -0.2]).double().reshape(1, 2, 1, 1)
        held, new = (
            dist.Independent(dist.Normal(loc, 0.05 + torch.tensor(at)[None, ..., None]), 1)
            for at in (x[:, :v], np.full((2, 1), x[0, v]))
        )
        scores = HeldOutScores.of(held, y[:, :v], np.ones((2, v)), [[0], [1]])
        assert scores is not None
        low, high = scores.interval(PredictiveMixture(new, 2), coverage)[0, 0]
        inside.append(low <= noise[0, v] <= high)
    error = np.sqrt(coverage * (1 - coverage) / repeats)
    assert coverage - 3 * error < np.mean(inside) < coverage + 0.03 + 3 * error


def scores_of(model: ProbMixRegressor) -> HeldOutScores:
    scores = model.state_.scores
    assert scores is not None
    return scores


def heavy(n: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, 1))
    return x, np.sin(3 * x[:, 0]) + (0.05 + 0.5 * (x[:, 0] > 0)) * rng.standard_t(1.5, n)


@pytest.fixture(scope="module")
def model() -> ProbMixRegressor:
    return ProbMixRegressor(likelihood="gaussian", neighbors_pool=0, **TINY).fit(*heavy(400, 0))


def test_a_fit_covers_heavy_tails_that_a_gaussian_does_not_have(model):
    x, y = heavy(4000, 1)
    for coverage in (0.6, 0.9):
        low, high = model.predict_interval(x, coverage, conformal=True).T
        inside = ((low <= y) & (y <= high)).mean()
        # Of the fit, with 320 held-out rows, and of the test rows.
        error = np.sqrt(coverage * (1 - coverage) * (1 / 320 + 1 / 4000))
        assert coverage - 3 * error < inside < coverage + 3 * error + 0.03
        low, high = model.predict_interval(x, coverage).T
        plain = ((low <= y) & (y <= high)).mean()
        assert abs(plain - coverage) > 3 * error  # the Gaussian itself is far off
    low, high = model.predict_interval(x, 0.9, conformal=True).T
    assert (high - low)[x[:, 0] > 0].mean() > 1.5 * (high - low)[x[:, 0] < 0].mean()  # widths of their own


def test_few_rows_give_the_ends_of_the_support_and_a_warning(model):
    with pytest.warns(
        UserWarning, match=r"held-out rows are too few for a conformal interval of coverage 0.999.*at least 999"
    ):
        ends = model.predict_interval([[0.0]], 0.999, conformal=True)
    assert ends.tolist() == [[-np.inf, np.inf]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(model.predict_interval([[0.0]], 0.99, conformal=True)).all()


@pytest.mark.parametrize("coverage", [0, 1, -0.5, float("nan"), 2])
def test_another_coverage_is_refused(model, coverage):
    with pytest.raises(ValueError, match="expected a probability between 0 and 1"):
        model.predict_interval([[0.0]], coverage, conformal=True)


def test_counts_and_several_targets():
    rng = np.random.default_rng(3)
    x = rng.uniform(size=(300, 2))
    y = rng.poisson(np.stack([8 * x[:, 0], 1 + x[:, 1]], 1))
    model = ProbMixRegressor(likelihood="poisson", **TINY).fit(x[:200], y[:200])
    ends = model.predict_interval(x[200:], 0.8, conformal=True)
    assert ends.shape == (100, 2, 2) and (ends == np.round(ends)).all() and (ends >= 0).all()
    inside = ((ends[..., 0] <= y[200:]) & (y[200:] <= ends[..., 1])).mean(0)
    assert (inside > 0.8 - 3 * np.sqrt(0.16 * (1 / 160 + 1 / 100))).all()
    assert (ends[:, 0, 1] - ends[:, 0, 0]).std() > 0


def test_rows_of_weight_k_are_rows_given_k_times():
    x, y = heavy(80, 4)
    weights = np.repeat([1, 3], 40)
    one = ProbMixRegressor(likelihood="gaussian", **TINY).fit(x, y, weights)
    other = ProbMixRegressor(likelihood="gaussian", **TINY).fit(np.repeat(x, weights, 0), np.repeat(y, weights))
    ends = one.predict_interval(x, 0.7, conformal=True)
    np.testing.assert_array_equal(ends, other.predict_interval(x, 0.7, conformal=True))
    assert not np.array_equal(ends, one.predict_interval(x, 0.7))


def test_given_rows_are_one_share():
    x, y = heavy(120, 5)
    model = ProbMixRegressor(likelihood="gaussian", **TINY).fit(x[:60], y[:60], validation=(x[60:], y[60:]))
    scores = scores_of(model)
    assert scores.members.tolist() == [0] * 4 and len(scores.scores) == 60
    # All members have one score, so that the interval is a central one of their own density, of another level.
    low, high = model.predict_interval(x[:5], 0.8, conformal=True).T
    tail = np.sort(scores.scores[:, 0])[int(0.2 * 61) - 1]
    np.testing.assert_allclose(model.cdf(x[:5], low), tail / 2, rtol=1e-4)
    np.testing.assert_allclose(model.cdf(x[:5], high), 1 - tail / 2, rtol=1e-4)


def test_saved_and_loaded_it_is_the_same(model, tmp_path):
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    x = np.linspace(-1, 1, 9)[:, None]
    np.testing.assert_array_equal(
        again.predict_interval(x, 0.8, conformal=True), model.predict_interval(x, 0.8, conformal=True)
    )


def test_rows_that_a_fit_before_may_have_trained_on_are_not_scored():
    x, y = heavy(100, 6)
    model = ProbMixRegressor(likelihood="gaussian", **{**TINY, "epochs": 2}, warm_start=True)
    for rows, scored in ((slice(0, 50), True), (slice(0, 50), True), (slice(0, 100), False), (slice(0, 100), False)):
        model.fit(x[rows], y[rows])
        assert (model.state_.scores is not None) == scored
    with pytest.raises(ValueError, match=r"no row of the last fit is new to any member.*Try fit\(X, y, validation="):
        model.predict_interval(x, conformal=True)
    model.fit(x[:50], y[:50], validation=(x[50:], y[50:]))
    assert model.state_.scores is not None
    model.partial_fit(x, y)
    assert model.state_.scores is None


@pytest.mark.parametrize("settings, n", [({"validation_fraction": 0}, 60), ({}, 15)])
def test_without_held_out_rows_there_is_a_sentence(settings, n):
    model = ProbMixRegressor(**{**TINY, "epochs": 1, "likelihood": "gaussian"}, **settings).fit(*heavy(n, 7))
    with pytest.raises(ValueError, match="no row of the last fit is new to any member"):
        model.predict_interval([[0.0]], conformal=True)


def test_copies_of_members_that_failed_score_no_rows():
    from pyro_probmix.estimators.ensemble.healing import heal

    x, y = heavy(60, 8)

    def broken(density, held_out):
        for parameter in density.parameters():
            if parameter.shape[:1] == (4,):
                parameter.data[2] = np.nan
        held_out[2] = np.inf
        return heal(density, held_out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyro_probmix.estimators.training.heal", broken)
        model = ProbMixRegressor(likelihood="gaussian", **{**TINY, "epochs": 2}).fit(x, y)
    assert scores_of(model).members.tolist() == [0, 1, -1, 3]
    assert set(scores_of(model).share) == {0, 1, 3}
    assert np.isfinite(model.predict_interval(x, 0.8, conformal=True)).all()
