"""The estimators: scikit-learn's own checks, and what their documentation promises."""

import functools
import os
import pickle
import subprocess
import sys
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyro
import pyro.distributions as dist
import pytest
import sklearn
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import load_iris, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.distributions import constraints

from pyro_probmix import (
    METHODS,
    BetaNLL,
    ExpectedLogLikelihood,
    LabelKernelGraph,
    LogExpectedLikelihood,
    Method,
    NearestNeighborGraph,
    ProbMixClassifier,
    ProbMixRegressor,
    find_method,
)
from pyro_probmix.estimators.ensemble.held_out import HeldOut, widened
from pyro_probmix.estimators.ensemble.rows import Rows, Scaler, deal
from pyro_probmix.estimators.ensemble.support import ruled_out
from pyro_probmix.estimators.training import train
from pyro_probmix.models import BEYOND, LIKELIHOODS, LSTM, Gaussian, build_density
from tests.models.test_beyond import KINDS

TINY: dict[str, Any] = {
    "ensemble": 2,
    "widths": (16, 8),
    "periodic": 2,
    "epochs": 12,
    "num_samples": 4,
    "learning_rate": 0.03,
}


#: Before scikit-learn 1.9 two checks regress targets of two values alone, which a likelihood by name takes for amounts.
AMOUNTS = {"likelihood": "student-t"} if [int(part) for part in sklearn.__version__.split(".")[:2]] < [1, 9] else {}


# Some check with a dozen rows, and the warning says what is fitted to so few.
@pytest.mark.filterwarnings("ignore:fit got .* distinct rows:UserWarning")
@parametrize_with_checks([ProbMixRegressor(**TINY), ProbMixClassifier(**{**TINY, "epochs": 24})])
def test_scikit_learn_checks(estimator, check):
    if check.func.__name__ == "check_dtype_object" and isinstance(estimator, ProbMixRegressor):
        estimator.set_params(**AMOUNTS)
    check(estimator)


def test_scikit_learn_checks_that_need_array_api():
    """Two of the checks are skipped unless SciPy was imported with this variable."""
    code = (
        "from sklearn.utils.estimator_checks import check_array_api_input as check\n"
        "from pyro_probmix import ProbMixClassifier as C, ProbMixRegressor as R\n"
        f"for estimator in (R(**{TINY | AMOUNTS!r}), C(**{TINY!r})): check(type(estimator).__name__, estimator, 'numpy')\n"
        "print('checked')"
    )
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "checked"


def wave(n=80, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, (n, 2))
    return X, 50 + 10 * np.sin(X[:, 0]) + noise * rng.standard_normal(n)


def regressor(**options):
    return ProbMixRegressor(**{**TINY, "random_state": 0, **options})


@pytest.fixture(scope="module")
def fitted():
    return regressor(epochs=60).fit(*wave(200))


# Predictions


def test_predictions_are_one_density(fitted):
    """Mean, standard deviation, quantiles, intervals, samples and NLL are those of `predict_dist`."""
    X, y = wave(30, seed=1)
    density = fitted.predict_dist(X)
    assert density.batch_shape == (30,) and density.event_shape == ()
    mean, std = fitted.predict(X, return_std=True)
    np.testing.assert_allclose(mean, density.mean, rtol=1e-10)
    np.testing.assert_allclose(std, density.variance.sqrt(), rtol=1e-10)
    assert np.array_equal(fitted.predict(X), mean)
    levels = [1e-9, 0.05, 0.5, 0.95]
    found = fitted.predict_quantiles(X, levels)
    assert found.shape == (30, 4)
    reached = np.stack([density.cdf(torch.as_tensor(found[:, k])) for k in range(4)], 1)
    ends = density.cdf(torch.zeros(30)).numpy()[:, None]  # no target is below 0: what is beyond lies there
    wanted = np.maximum(levels, ends)
    np.testing.assert_allclose(reached, wanted, rtol=1e-6)
    np.testing.assert_array_equal(
        fitted.predict_interval(X, 0.9), fitted.predict_quantiles(X, ((1 - 0.9) / 2, (1 + 0.9) / 2))
    )
    assert fitted.nll(X, y) == pytest.approx(-float(density.log_prob(torch.as_tensor(y)).mean()), rel=1e-10)
    draws = fitted.sample(X, 4000, random_state=0)
    assert draws.shape == (4000, 30)
    assert (np.abs(draws.mean(0) - mean) < 4.5 * std / np.sqrt(4000)).all()
    np.testing.assert_array_equal(draws, fitted.sample(X, 4000, random_state=0))


def test_it_learns_a_wave(fitted):
    X, y = wave(500, seed=2)
    assert fitted.score(X, y) > 0.9
    lower, upper = fitted.predict_interval(X, 0.9).T
    assert 0.75 < np.mean((y > lower) & (y < upper)) <= 1.0


def test_upper_quantiles_are_exact_in_the_tail(fitted):
    """The level 1 - 1e-15 has no digits to lose: it is solved for by the survival function of every component."""
    X, _ = wave(3)
    level = 1 - 1e-15
    top = fitted.predict_quantiles(X, [level])[:, 0]
    parts = fitted.predict_dist(X)
    p = parts.components
    df, loc, scale = (
        getattr(p, name).reshape(-1, 3, (p.logits.shape[-1] if hasattr(p, "logits") else 1)).numpy()
        for name in ("df", "loc", "scale")
    )
    weights = p.mixture_distribution.probs.reshape(df.shape).numpy() if hasattr(p, "logits") else np.ones_like(df)
    z = ((top - parts.loc.numpy()) / parts.scale.numpy())[:, None]
    np.testing.assert_allclose((weights * stats.t.sf(z, df, loc, scale)).sum(-1).mean(0), 1 - level, rtol=1e-9)


def test_a_rows_prediction_does_not_depend_on_the_others(fitted):
    X, _ = wave(50, seed=3)
    alone = np.concatenate([fitted.predict(X[k : k + 1]) for k in range(50)])
    np.testing.assert_allclose(alone, fitted.predict(X), rtol=1e-12)


def test_features_far_from_all_training_rows(fitted):
    far = [[1e300, -1e300], [np.finfo(float).max, 0.0]]
    assert np.isfinite(fitted.predict(far)).all() and np.isfinite(fitted.predict_interval(far)).all()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m, X: m.predict_quantiles(X, [1.5]), r"levels \[1.5\], expected .*Try"),
        (lambda m, X: m.predict_interval(X, 90), "coverage=90, expected a probability.*Try coverage=0.9"),
        (lambda m, X: m.sample(X, 0), "num_samples=0, expected a positive integer.*Try"),
        (lambda m, X: m.nll(X, np.zeros((len(X), 2))), "y has 2 targets, expected the 1 of the fit.*Try"),
    ],
)
def test_mistakes_in_a_prediction(fitted, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(fitted, wave(5)[0])


def test_several_targets():
    X, y = wave(100)
    Y = np.stack([y, -1e6 * y, X[:, 0]], 1)
    model = regressor().fit(X, Y)
    assert model.n_outputs_ == 3
    assert model.predict(X).shape == (100, 3) and model.score(X, Y) > 0.5
    assert model.predict_quantiles(X[:4], [0.1, 0.9]).shape == (4, 3, 2)
    assert model.predict_interval(X[:4]).shape == (4, 3, 2)
    assert model.sample(X[:4], 5).shape == (5, 4, 3)
    density = model.predict_dist(X)
    assert density.event_shape == (3,)
    assert model.nll(X, Y) == pytest.approx(-float(density.log_prob(torch.as_tensor(Y)).mean()))
    column = regressor().fit(X, y[:, None])
    assert column.predict(X).shape == (100, 1)
    np.testing.assert_array_equal(column.predict(X)[:, 0], regressor().fit(X, y).predict(X))


def responses(likelihood, n=60):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (n, 1))
    y: Any = {
        "poisson": rng.poisson(20 * np.exp(x[:, 0])),
        "gamma": rng.gamma(5.0, 1e-4 * np.exp(x[:, 0])),
        "bernoulli": (x[:, 0] > 0).astype(float),
    }.get(likelihood, 1e-5 * (x[:, 0] + 0.1 * rng.standard_t(4, n)))
    return x, y


@pytest.mark.parametrize("likelihood", ["gaussian", "homoscedastic", "student-t", "poisson", "gamma", "bernoulli"])
@pytest.mark.parametrize("method", ["ERM", "M-ProbMix"])
def test_every_likelihood_in_its_own_units(likelihood, method):
    X, y = responses(likelihood)
    model = regressor(likelihood=likelihood, method=method, epochs=40).fit(X, y)
    assert model.score(X, y) > 0.3
    density = model.predict_dist(X)
    assert model.nll(X, y) == pytest.approx(-float(density.log_prob(torch.as_tensor(y, dtype=torch.double)).mean()))
    low, middle, high = model.predict_quantiles(X, [0.01, 0.5, 0.99]).T
    assert (low <= middle).all() and (middle <= high).all() and np.mean((low <= y) & (y <= high)) > 0.8
    draws = model.sample(X, 50, random_state=1)
    assert bool(density.support.check(torch.as_tensor(draws)).all())
    if likelihood in ("poisson", "gamma"):
        assert (low >= 0).all() and np.isclose(model.predict(X).mean(), y.mean(), rtol=0.3)


@pytest.mark.parametrize(
    ("likelihood", "ends"),
    [
        ("gaussian", (-np.inf, np.inf)),
        ("student-t", (-np.inf, np.inf)),
        ("gamma", (0, np.inf)),
        ("poisson", (0, np.inf)),
    ],
)
def test_quantiles_of_level_0_and_1_are_the_ends_of_the_support(likelihood, ends):
    X, y = responses(likelihood)
    model = regressor(likelihood=likelihood, epochs=2).fit(X, y)
    np.testing.assert_array_equal(model.predict_quantiles(X, [0.0, 1.0]), np.broadcast_to(ends, (60, 2)))


def test_counts_of_any_size():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (60, 1))
    y = rng.poisson(1e6 * np.exp(X[:, 0]))
    assert regressor(likelihood="poisson", epochs=40).fit(X, y).score(X, y) > 0.9


def for_classes(name):
    method = find_method(name)
    numbers = (
        method.graph == "label-kernel"
        or method.criterion == "beta-nll"
        or method.pseudo_rows in ("anchored", "tangent")
    )
    return not numbers and method.likelihood is None


@pytest.mark.parametrize(
    "name", [*METHODS, *(name if name in KINDS else pytest.param(name, marks=pytest.mark.slow) for name in BEYOND)]
)
def test_every_method(name):
    X, y = wave(60)
    X_class, y_class = make_blobs(60, centers=3, random_state=0)
    predicted = regressor(method=name, epochs=3).fit(X, y).predict(X)
    assert predicted.shape == (60,) and np.isfinite(predicted).all()
    if not for_classes(name):
        with pytest.raises(
            ValueError, match=r"method='.*', whose '.*' is for numbers, expected a method for classes|graph"
        ):
            ProbMixClassifier(method=name).fit(X_class, y_class)
        return
    model = ProbMixClassifier(**{**TINY, "epochs": 3}, method=name, random_state=0).fit(X_class, y_class)
    assert model.predict_proba(X_class).shape == (60, 3)


class Reached(Exception):
    """What the trainer was given, its arguments."""


@pytest.mark.parametrize("name", [*METHODS, *BEYOND])
@pytest.mark.parametrize("make", [ProbMixRegressor, ProbMixClassifier])
def test_all_that_a_method_says_reaches_the_trainer(name, make, monkeypatch):
    """As in the experiments: site, graph, pool, num_fused, add_unfused_rows, alpha, likelihood, criterion and draws."""
    method = find_method(name)
    if make is ProbMixClassifier and not for_classes(name):
        return
    X, y = wave(60)

    def fit(process, *arguments, criterion, **options):
        raise Reached(process, criterion)

    monkeypatch.setattr("pyro_probmix.estimators.training.fit", fit)
    model = make(**{**TINY, "random_state": 0}, method=name)
    with pytest.raises(Reached) as reached:
        model.fit(X, y > 50 if make is ProbMixClassifier else y)
    process, criterion = reached.value.args
    assert (process.at, process.num_fused, process.add_unfused_rows) == (
        method.site,
        method.num_fused,
        method.add_unfused_rows,
    )
    assert process._fusion["pool"] == method.pool and float(process.alpha) == pytest.approx(method.alpha or 0.1)
    # A process without a graph has the complete one, of any rows.
    graphs = {
        "nearest": NearestNeighborGraph,
        "label-kernel": LabelKernelGraph,
        "complete": type(None),
        None: type(None),
    }
    assert type(process.graph) is graphs[method.graph]
    criteria = {None: ExpectedLogLikelihood, "log-expected": LogExpectedLikelihood, "beta-nll": BetaNLL}
    assert type(criterion).__name__ == criteria[method.criterion].__name__
    assert (criterion.num_particles, criterion.num_embeddings) == (method.draws or (1, 1))
    expected = "categorical" if make is ProbMixClassifier else method.likelihood or "student-t"
    assert type(process.density.likelihood) is LIKELIHOODS[expected]


def test_more_fused_rows_and_unfused_rows_change_the_fit():
    """A method that differs from another in num_fused or add_unfused_rows alone is not that other one."""
    X, y = wave(60)
    plain = regressor(method=Method("y", "complete", alpha=0.5)).fit(X, y).predict(X)
    for other in (
        Method("y", "complete", alpha=0.5, num_fused=3),
        Method("y", "complete", alpha=0.5, add_unfused_rows=True),
    ):
        assert np.abs(regressor(method=other).fit(X, y).predict(X) - plain).max() > 1e-3
    for n in (1, 2, 3, 5):  # fewer rows than are fused
        few = regressor(likelihood="gaussian", method="Loc4M-ProbMix", epochs=2).fit(X[:n], y[:n])
        assert np.isfinite(few.predict(X)).all()


def test_alpha_of_the_method_unless_given():
    X, y = wave(40)
    own, same, other = (regressor(method="RegProbMix", alpha=a).fit(X, y).predict(X) for a in (None, 10.0, 0.1))
    assert np.array_equal(own, same) and not np.array_equal(own, other)


def test_series_with_rows_that_all_members_hold_out():
    """Neighbours of series are found among rows, not among time steps, also where no shares are dealt."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 5, 3))
    model = regressor(
        encoder=lambda d, members: LSTM(d, 5, out_features=8, replicas=members), epochs=2, method="LocMix"
    )
    model.fit(X, X.sum((1, 2)), validation=(X[:9], X[:9].sum((1, 2))))
    assert model.predict(X).shape == (30,)


def test_methods_of_the_user():
    X, y = wave(60)
    X_class, y_class = make_blobs(60, centers=3, random_state=0)
    linear, same, label = Method("y", "nearest", pool="linear"), Method("x", "same-class"), Method("x", "label-kernel")
    assert np.isfinite(regressor(method=linear, epochs=2).fit(X, y).predict(X)).all()
    assert np.isfinite(regressor(method=label, epochs=2).fit(X, y).predict(X)).all()
    classifier = ProbMixClassifier(**{**TINY, "epochs": 2}, random_state=0)
    assert classifier.set_params(method=same).fit(X_class, y_class).score(X_class, y_class) > 0
    with pytest.raises(ValueError, match=r"graph 'same-class' is not one for a regression.*Try another method"):
        regressor(method=same).fit(X, y)


# Classes


def test_labels_of_any_type():
    X, y = load_iris(return_X_y=True, as_frame=True)
    for labels in (np.array(["ä", "b", "名"])[y], y.to_numpy() * 10 - 5, (y > 0).to_numpy()):
        model = ProbMixClassifier(**TINY, random_state=0).fit(X, labels)
        assert list(model.classes_) == sorted(set(labels.tolist()))
        assert model.score(X, labels) > 0.8
        proba = model.predict_proba(X)
        codes = np.searchsorted(model.classes_, labels)
        assert model.nll(X, labels) == pytest.approx(-np.log(proba[np.arange(150), codes]).mean())
        np.testing.assert_allclose(model.predict_dist(X).probs, proba)
        draws = model.sample(X, 2000, random_state=0)
        frequency = (draws == model.classes_[0]).mean(0)
        assert (np.abs(frequency - proba[:, 0]) < 5 * np.sqrt(0.25 / 2000)).all()


def test_two_classes_by_a_bernoulli():
    X, y = make_blobs(80, centers=2, random_state=0)
    labels = np.array(["no", "yes"])[y]
    model = ProbMixClassifier(**TINY, likelihood="bernoulli", random_state=0).fit(X, labels)
    assert model.predict_proba(X).shape == (80, 2) and model.score(X, labels) > 0.8
    assert set(model.sample(X, 3).ravel()) <= {"no", "yes"}
    with pytest.raises(ValueError, match=r"'bernoulli' for 3 classes, expected two.*Try"):
        clone(model).fit(*make_blobs(60, centers=3, random_state=0))


def test_one_class():
    X = np.random.default_rng(0).normal(size=(30, 2))
    model = ProbMixClassifier(**TINY, random_state=0).fit(X, ["only"] * 30)
    assert (model.predict(X) == "only").all() and (model.predict_proba(X) == 1).all()
    with pytest.raises(ValueError, match="y holds the class 'other', expected one of"):
        model.nll(X[:1], ["other"])


# Beside scikit-learn and pandas


def test_in_pipelines_and_searches():
    X, y = wave(60)
    frame = pd.DataFrame(X, columns=["größe", "x 2"])
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), regressor(epochs=3))
    search = GridSearchCV(pipeline, {"probmixregressor__alpha": [0.1, 1.0]}, cv=2).fit(frame, y)
    best = search.best_estimator_[-1]
    assert list(best.feature_names_in_) == ["größe", "x 2"] and best.n_features_in_ == 2
    assert cross_val_predict(regressor(epochs=3), frame, y, cv=2).shape == (60,)
    with pytest.raises(ValueError, match="feature names should match"):
        best.predict(frame.rename(columns={"x 2": "x2"}))
    assert clone(best).get_params() == best.get_params()


@pytest.mark.parametrize("copy", [lambda m: pickle.loads(pickle.dumps(m)), "joblib"])
def test_pickle_and_joblib(fitted, tmp_path, copy):
    X, _ = wave(20)
    if copy == "joblib":
        joblib.dump(fitted, tmp_path / "model.joblib")
        again = joblib.load(tmp_path / "model.joblib")
    else:
        again = copy(fitted)
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))


def test_not_fitted():
    with pytest.raises(NotFittedError):
        ProbMixRegressor().predict([[1.0]])
    with pytest.raises(NotFittedError):
        ProbMixRegressor().save("nowhere")


# Weights, held-out rows, early stopping


@pytest.mark.parametrize("method", ["M-ProbMix", "LocProbMix"])
def test_weights_are_repetitions_in_any_order(method):
    """Also with batches, held-out shares, and an unfinished epoch."""
    X, y = wave(50)
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 4, 50)
    X_many, y_many = X.repeat(weights, 0), y.repeat(weights)
    order = rng.permutation(len(X_many))
    model = regressor(method=method, epochs=4)
    weighted = clone(model).fit(X, y, sample_weight=weights)
    repeated = clone(model).fit(X_many[order], y_many[order])
    np.testing.assert_array_equal(weighted.predict(X), repeated.predict(X))
    scaled = clone(model).fit(X, y, sample_weight=weights * 2.0**40)
    np.testing.assert_array_equal(weighted.predict(X), scaled.predict(X))


def test_weights_matter():
    """Two populations at the same features: the mean follows the weights."""
    X = np.repeat(np.linspace(-1, 1, 40), 2)[:, None]
    y = np.tile([0.0, 1.0], 40)
    for share in (0.1, 0.9):
        weights = np.where(y == 1, share, 1 - share)
        model = regressor(epochs=60, likelihood="gaussian").fit(X, y, sample_weight=weights)
        assert model.predict(X).mean() == pytest.approx(share, abs=0.12)


def test_shares_are_equal_and_spread_over_classes():
    x = np.arange(103.0)[:, None]
    y = (x % 10 == 0).astype(float)  # 11 of them
    rows = Rows.distinct(x, y, None)
    dealt = deal(rows, 0.2, 7, True, np.random.default_rng(0))
    assert dealt is not None
    kept, held, shares = dealt
    assert kept.shape == (7, 83) and held.shape == (7, 20) and shares == 5
    for own, rest in zip(held, kept, strict=True):
        assert sorted([*own, *rest]) == list(range(103))
    assert len(set(held[:5].ravel())) == 100 and (held[5] == held[0]).all()
    assert set(rows.y[held[:5], 0].sum(1)) <= {2.0, 3.0}
    assert deal(rows.take(np.arange(19)), 0.2, 7, True, np.random.default_rng(0)) is None


def test_no_copy_of_a_row_is_on_both_sides():
    x = np.repeat(np.arange(30.0), 5)[:, None]
    rows = Rows.distinct(x, x, None)
    assert len(rows) == 30 and rows.equal


def held_out_of(members, shares):
    density = build_density(METHODS["ERM"], num_features=1, likelihood=Gaussian, widths=(4,), replicas=members)
    return density, torch.randn(shares, 10, 1)[torch.arange(members) % shares]


def test_held_out_nll_is_that_of_the_members_to_whom_a_row_is_new():
    """Against a loop over rows, at the best factor on a fine grid; carried on from one member and m to all five."""
    density, x = held_out_of(members=5, shares=2)
    y = torch.randn(2, 10, 1)[torch.arange(5) % 2] * 3
    weights = torch.rand(2, 10)[torch.arange(5) % 2]
    value = HeldOut(density, x, y, weights, 2, None)()
    with torch.no_grad():
        parts = density.likelihood(density.decoder(density.encoder(x)))

    def nll(factor, groups, counting):
        total = norm = 0.0
        each = widened(parts, factor).log_prob(y)
        for members, counts in zip(groups, counting, strict=True):
            for row in range(10):
                weight = float(weights[members[0], row]) * counts
                total -= weight * float(each[members, row].exp().mean().log())
                norm += weight
        return total / norm

    def best(groups, counting):
        return min(nll(factor, groups, counting) for factor in np.geomspace(0.5, 20, 400))

    one = best([[0], [1], [2], [3], [4]], [1 / 3, 1 / 2, 1 / 3, 1 / 2, 1 / 3])  # a share counts as with all its members
    some = best([[0, 2, 4], [1, 3]], [1, 1])
    m = 2 / (1 / 3 + 1 / 2)
    expected = some - (one - some) * (1 / m - 1 / 5) / (1 - 1 / m)
    assert torch.isfinite(value).all() and len(set(value.tolist())) == 1
    assert float(value[0]) == pytest.approx(expected, abs=5e-4) and expected < some


def test_held_out_nll_is_averaged_over_the_last_epochs():
    density, x = held_out_of(members=2, shares=1)
    y = torch.randn(1, 10, 1).expand(2, -1, -1)
    score = HeldOut(density, x, y, torch.ones(2, 10), 1, None, smoothing=10)
    single, seen = [], []
    for _ in range(13):
        with torch.no_grad():
            density.likelihood.linear.bias += 0.1 * torch.randn_like(density.likelihood.linear.bias)
        single.append(float(HeldOut(density, x, y, torch.ones(2, 10), 1, None)()[0]))
        seen.append(float(score()[0]))
    expected = [np.mean(single[max(0, t - 9) : t + 1]) for t in range(13)]
    np.testing.assert_allclose(seen, expected, rtol=1e-5)


def test_spread_and_nll_of_all_members_follow_from_those_of_a_few():
    """Members that err independently about a wave: two hold each row out, and the spread is that for all twenty."""
    members, rows = 20, 2000
    torch.manual_seed(0)

    class Erring(torch.nn.Module):
        def __init__(self, own):
            super().__init__()
            self.own = own

        def forward(self, x, y=None):
            with pyro.plate("replica", members, dim=-2), pyro.plate("data", x.shape[-2], dim=-1):
                # A smooth error of each member's own, of standard deviation 0.25, and a scale that is too small.
                error = (0.25 * 2**0.5) * torch.cos(self.own[:, 0] * x[..., 0] + self.own[:, 1])
                return pyro.sample("y", dist.Normal(error[..., None], 0.1).to_event(1), obs=y)

    own = torch.stack([torch.linspace(3, 9, members), 6.28 * torch.rand(members)], 1)[..., None]
    x = torch.rand(10, rows, 1)[torch.arange(members) % 10] * 6
    y = 0.3 * torch.randn(10, rows, 1)[torch.arange(members) % 10]
    found = HeldOut(Erring(own), x, y, torch.ones(members, rows), 10, None).factor()
    fresh, truth = (
        torch.rand(1, rows, 1).expand(members, -1, -1) * 6,
        0.3 * torch.randn(1, rows, 1).expand(members, -1, -1),
    )
    of_all = HeldOut(Erring(own), fresh, truth, torch.ones(members, rows), 1, None)
    _, ideal = of_all._best(*of_all.finite())
    few = HeldOut(Erring(own), x, y, torch.ones(members, rows), 10, None)
    nll_of_two, of_two = few._best(*few.finite())
    assert ideal < found < of_two - 0.35 * (of_two - ideal)  # nearer, and on the safe side
    of_twenty = float(of_all()[0])
    assert of_twenty < float(few()[0]) < nll_of_two - 0.35 * (nll_of_two - of_twenty)


def test_the_score_of_members_that_are_far_off_is_bounded():
    """One of two members per row has an error of a thousand: the step from one member to all gives at most a nat for it."""

    class Far(torch.nn.Module):
        def forward(self, x, y=None):
            far = torch.arange(10.0)[:, None, None] < 5
            with pyro.plate("replica", 10, dim=-2), pyro.plate("data", x.shape[-2], dim=-1):
                loc = torch.where(far, 1e3, 0.0).expand(10, x.shape[-2], 1)
                return pyro.sample("y", dist.Normal(loc, 1.0).to_event(1), obs=y)

    x = torch.zeros(10, 50, 1)
    score = HeldOut(Far(), x, torch.randn(10, 50, 1), torch.ones(10, 50), 5, None)
    together, _ = score._best(*score.finite())
    alone = float(score.of_each().mean())
    assert alone > together + 1.0
    assert together - 1.0 <= float(score()[0]) <= together


@pytest.mark.parametrize(("members", "shares", "lost"), [(6, 5, ()), (11, 10, ()), (10, 5, (3,)), (10, 5, (0, 1, 2))])
def test_members_that_are_all_alike_have_the_loss_of_one(members, shares, lost):
    """Nothing is gained by more of them, however unequal the shares' numbers of members."""
    density, x = held_out_of(members=members, shares=shares)
    with torch.no_grad():
        for parameter in density.parameters():
            parameter[:] = parameter[:1].clone()
        density.likelihood.linear.bias[list(lost)] = torch.nan
    y = torch.randn(shares, 10, 1)[torch.arange(members) % shares]
    y[torch.arange(members) % shares == 0] *= 3  # a share that is harder, and has more members than others
    score = HeldOut(density, x, y, torch.ones(members, 10), shares, None)
    together, _ = score._best(*score.finite())
    value = score()
    assert value.isnan().sum() == len(lost)
    assert float(value[value.isfinite()][0]) == pytest.approx(together, abs=1e-3)


def test_a_member_that_is_not_finite_is_left_out():
    density, x = held_out_of(members=3, shares=1)
    with torch.no_grad():
        density.likelihood.linear.bias[1] = torch.nan
    value = HeldOut(density, x, torch.randn(1, 10, 1).expand(3, -1, -1), torch.ones(3, 10), 1, None)()
    assert value.isfinite().tolist() == [True, False, True]


def test_a_given_validation_set_chooses_the_epoch():
    X, y = wave(60)
    other = wave(40, seed=5)
    model = regressor(epochs=30).fit(X, y, validation=other)
    history = model.state_.history
    assert (history.best_epoch == history.validation_nll.argmin(0) + 1).all()
    best = float(history.best_nll[0]) + np.log(model.state_.y_scaler.step[0])
    assert model.nll(*other) < best + 0.3  # all members and draws of the embedding, and neighbors, where they pay
    with pytest.raises(ValueError, match="validation of type DataFrame, expected rows"):
        regressor().fit(X, y, validation=pd.DataFrame(X))


def test_sparse_tensors_are_refused():
    X, y = wave(60)
    labels = torch.as_tensor(y > 0, dtype=torch.long)
    for arguments in ((X, labels.to_sparse()), (torch.as_tensor(X).to_sparse(), labels)):
        with pytest.raises(ValueError, match=r"sparse.*expected a dense one. Try .*to_dense\(\)"):
            ProbMixClassifier(**TINY).fit(*arguments)


def test_a_validation_row_of_no_weight_is_none():
    X, y = np.abs(wave(60)[0]), np.abs(wave(60)[1])
    other, bad = wave(30, seed=5)[0], np.where(np.arange(30) < 29, 50.0, -1.0)
    weights = (np.arange(30) < 29).astype(float)
    model = regressor(likelihood="gamma", epochs=5).fit(X, y, validation=(other, bad, weights))
    alone = regressor(likelihood="gamma", epochs=5).fit(X, y, validation=(other[:29], bad[:29]))
    np.testing.assert_allclose(model.predict(X), alone.predict(X), rtol=1e-10)
    assert model.state_.factor == alone.state_.factor != 1.0


def test_a_validation_row_without_a_finite_density_is_refused():
    X, y = wave(60)
    other, far = wave(30, seed=5)
    far = np.where(np.arange(30) == 3, 1e30, far)
    with pytest.raises(ValueError, match=r"no member ever had a finite density at all of the validation rows.*Try"):
        regressor(epochs=3).fit(X, y, validation=(other, far))


def test_validation_weights_choose_rows():
    X, y = wave(60)
    Xv, yv = wave(40, seed=5)
    bad = np.where(np.arange(40) < 20, yv, 1e6)
    only_good = (np.arange(40) < 20).astype(float)
    weighted = regressor(epochs=5).fit(X, y, validation=(Xv, bad, only_good))
    alone = regressor(epochs=5).fit(X, y, validation=(Xv[:20], yv[:20]))
    np.testing.assert_allclose(weighted.predict(X), alone.predict(X), rtol=1e-10)


def test_patience_stops():
    X, y = wave(60, noise=30.0)
    model = regressor(epochs=400, patience=5).fit(X, y)
    assert model.n_iter_ == int(model.state_.history.best_epoch[0]) + 5 < 400


@pytest.mark.parametrize("given", [False, True])
def test_stopped_before_its_first_score_a_fit_goes_on_to_it(given):
    """Long fits score the held-out rows in every so many epochs; without a score the weights of the start would be kept."""
    heard: list[float] = []

    def stop(epoch, best):
        heard.append(best)
        return epoch == 2

    X, y = wave(60)
    model = regressor(epochs=10_000, callbacks=[stop])
    model.fit(X, y, validation=wave(30) if given else None)
    assert np.isinf(heard[:2]).all() and np.isfinite(heard[2]) and len(heard) == 3
    assert (model.state_.history.best_epoch == 3).all()


def test_callbacks_hear_every_epoch_and_stop():
    seen: list[tuple[int, float]] = []

    def stop(epoch, best):
        seen.append((epoch, best))
        return epoch == 4

    other: list[int] = []
    model = regressor(callbacks=[stop, lambda epoch, best: other.append(epoch)]).fit(*wave(60))
    assert [epoch for epoch, _ in seen] == other == [1, 2, 3, 4] and model.n_iter_ == 4
    assert all(np.isfinite(best) for _, best in seen)


def test_an_interrupted_fit_leaves_the_one_before():
    X, y = wave(60)

    def interrupt(epoch, best):
        raise KeyboardInterrupt

    model = regressor(epochs=2, warm_start=True).fit(X, y)
    before = model.predict(X)
    for call in (model.fit, model.partial_fit):
        with pytest.raises(KeyboardInterrupt):
            model.set_params(callbacks=[interrupt])
            call(X, y + 100)
        np.testing.assert_array_equal(model.predict(X), before)


# Going on


def test_a_refit_that_fails_leaves_classes_and_shapes():
    X, y = wave(60)
    labels = np.where(y > 50, "a", "b")
    model = ProbMixClassifier(**TINY, random_state=0).fit(X, labels)
    before = model.predict(X)
    other = np.where(y > 50, "x", "y")
    with pytest.raises(ValueError, match="holds the class 'zzz'"):
        model.fit(np.hstack([X, X]), other, validation=(np.hstack([X, X])[:3], ["zzz"] * 3))

    def stop(epoch, best):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.set_params(callbacks=[stop]).fit(np.hstack([X, X]), other)
    assert model.classes_.tolist() == ["a", "b"] and model.n_features_in_ == X.shape[1]
    assert (model.predict(X) == before).all()

    numbers = regressor(epochs=2).fit(X, y)
    with pytest.raises(KeyboardInterrupt):
        numbers.set_params(callbacks=[stop]).fit(X, np.stack([y, y], 1))
    assert numbers.predict(X).shape == (60,) and numbers.n_outputs_ == 1


def test_the_spread_stays_where_no_rows_are_held_out():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 6))
    y = X[:, 0] + rng.normal(size=150)
    model = regressor(epochs=60).fit(X, y)
    factor = model.state_.factor
    assert factor != 1.0
    model.partial_fit(X[:2], y[:2])
    assert model.state_.factor == factor
    model.set_params(warm_start=True, validation_fraction=0.0, epochs=1).fit(X, y)
    assert model.state_.factor == factor
    model.set_params(validation_fraction=0.2).fit(X, y)
    assert model.state_.factor != factor


@pytest.mark.parametrize(
    "change",
    [{"likelihood": "gaussian"}, {"ensemble": 9}, {"widths": (8, 8)}, {"activation": "relu"}, {"method": "ERM"}],
)
def test_a_fit_that_goes_on_cannot_change_the_model(change):
    X, y = wave(60)
    model = regressor(epochs=2, warm_start=True).fit(X, y).set_params(**change)
    (name,) = change
    with pytest.raises(
        ValueError, match=f"warm_start=True goes on with the model of the fit before, whose {name} is .*Try"
    ):
        model.fit(X, y)
    with pytest.raises(ValueError, match=f"partial_fit goes on .* whose {name} is .*Try"):
        model.partial_fit(X, y)
    model.set_params(warm_start=False).fit(X, y)


def test_heads_that_have_no_equality_go_on():
    X, y = wave(60)
    head = functools.partial(LIKELIHOODS["gaussian"])
    model = regressor(epochs=1, likelihood=head).partial_fit(X, y)
    model.partial_fit(X, y).set_params(warm_start=True).fit(X, y).fit(X, y)
    assert model.state_.recipe.likelihood is head


def test_supports_of_vectors_and_of_bounds_that_are_tensors():
    y = np.array([[0.5, 0.5], [0.9, 0.9], [1.0, 0.0]])
    assert ruled_out(constraints.simplex, y).tolist() == [[False, False], [True, True], [False, False]]
    bounds = constraints.interval(torch.zeros(2), torch.ones(2))
    assert ruled_out(bounds, y - 0.2).tolist() == [[False, False], [False, False], [False, True]]


def test_parameters_changed_after_a_fit_do_not_change_its_nll():
    X, y = wave(60)
    for first, then in (("auto", "bernoulli"), ("bernoulli", "auto")):
        model = ProbMixClassifier(likelihood=first, **TINY, random_state=0).fit(X, y > 50)
        before = model.nll(X, y > 50)
        assert model.set_params(likelihood=then).nll(X, y > 50) == before


@pytest.mark.parametrize(
    ("likelihood", "bad"), [("poisson", -1.0), ("poisson", 1.5), ("bernoulli", 7.0), ("gamma", -1.0), ("gamma", 0.0)]
)
def test_targets_outside_of_the_support_are_refused_everywhere(likelihood, bad):
    X, _ = wave(60)
    y = np.arange(60) % 2 if likelihood == "bernoulli" else 1.0 + np.arange(60) % 5
    wrong = np.where(np.arange(60) == 7, bad, y)
    model = regressor(epochs=1, likelihood=likelihood)
    sentence = f"holds {bad:g}, which is outside of the support of likelihood='{likelihood}', expected .*Try"
    with pytest.raises(ValueError, match="^y " + sentence):
        model.fit(X, wrong)
    with pytest.raises(ValueError, match="^validation y " + sentence):
        model.fit(X, y, validation=(X, wrong))
    model.fit(X, y)
    with pytest.raises(ValueError, match="^y " + sentence):
        model.nll(X, wrong)
    assert model.nll(X, wrong, (np.arange(60) != 7).astype(float)) == pytest.approx(
        model.nll(np.delete(X, 7, 0), np.delete(y, 7))
    )
    with pytest.raises(ValueError, match="^y " + sentence):
        model.partial_fit(X, wrong)


def test_warm_start_goes_on():
    X, y = wave(100)
    model = regressor(epochs=15, warm_start=True, learning_rate=0.01).fit(X, y)
    first = model.score(X, y)
    dealt = model.state_.seed
    model.fit(X, y)
    assert model.score(X, y) > first and model.state_.seed == dealt
    cold = regressor(epochs=15, warm_start=False).fit(X, y)
    again = cold.predict(X)
    np.testing.assert_array_equal(cold.fit(X, y).predict(X), again)
    with pytest.raises(ValueError, match="features"):
        model.fit(X[:, :1], y)


def test_partial_fit_learns_from_a_stream():
    X, y = wave(400)
    model = regressor(learning_rate=0.01)
    for _ in range(8):
        for start in range(0, 400, 50):
            model.partial_fit(X[start : start + 50], y[start : start + 50])
    assert model.score(X, y) > 0.8
    again = pickle.loads(pickle.dumps(model))
    for each in (model, again):  # moments of the optimizer and all
        each.partial_fit(X[:50], y[:50])
    np.testing.assert_array_equal(model.predict(X), again.predict(X))


def test_partial_fit_of_classes():
    X, y = make_blobs(120, centers=3, random_state=0)
    order = np.argsort(y, kind="stable")
    model = ProbMixClassifier(**TINY, random_state=0)
    model.partial_fit(X[order[:40]], y[order[:40]], classes=[0, 1, 2])
    for _ in range(10):
        model.partial_fit(X, y)
    assert model.score(X, y) > 0.8
    with pytest.raises(ValueError, match=r"y holds the class .*7.*, expected one of \[0, 1, 2\]"):
        model.partial_fit(X, np.full(120, 7))


def test_random_state():
    X, y = wave(60)
    a, b, c = (regressor(random_state=s, epochs=3).fit(X, y).predict(X) for s in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    state = torch.get_rng_state()
    regressor(random_state=None, epochs=1).fit(X, y)
    assert torch.equal(state, torch.get_rng_state())


# Encoders


def test_an_encoder_module_for_each_member():
    X, y = wave(100)
    encoder = torch.nn.Sequential(torch.nn.Linear(2, 12), torch.nn.LayerNorm(12), torch.nn.SiLU())
    before = [p.detach().clone() for p in encoder.parameters()]
    model = regressor(encoder=encoder, epochs=60).fit(X, y)
    assert model.score(X, y) > 0.8
    own = model.density_.encoder.get_parameter("0__weight")
    assert own.shape == (2, 12, 2) and not torch.equal(own[0], own[1])
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.parameters(), strict=True))
    starred = regressor(encoder=encoder, method="M-ProbMix*", epochs=2).fit(X, y)
    assert np.isfinite(starred.predict(X)).all()
    with pytest.raises(ValueError, match=r"the encoder refuses two rows of shape \(1,\).*Try"):
        regressor(encoder=encoder).fit(X[:, :1], y)
    with pytest.raises(ValueError, match=r"expected \(2, 2, width\)"):
        regressor(encoder=torch.nn.Unflatten(-1, (2, 1))).fit(X, y)


def test_series_through_an_encoder_for_all_members():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5, 3))
    y = X.sum((1, 2))
    model = regressor(
        encoder=lambda d, members: LSTM(d, 5, out_features=8, replicas=members), epochs=3, method="LocMix"
    )
    assert model.fit(X, y).predict(X).shape == (60,)


# Data and parameters that are out of the ordinary


@pytest.mark.parametrize("scale", [1e-140, 1e-30, 1e30, 1e140])
def test_scales_of_any_size(scale):
    X, y = wave(60)
    plain = regressor(epochs=5).fit(X, y)
    scaled = regressor(epochs=5).fit(X * scale, y * scale)
    np.testing.assert_allclose(scaled.predict(X * scale) / scale, plain.predict(X), rtol=1e-4)
    np.testing.assert_allclose(scaled.nll(X * scale, y * scale) - np.log(scale), plain.nll(X, y), rtol=1e-3)


def test_odd_tables():
    X, y = wave(40)
    assert np.isfinite(regressor(likelihood="gaussian", epochs=2).fit(X[:1], y[:1]).predict(X)).all()
    assert np.isfinite(
        regressor(likelihood="gaussian", epochs=2, method="LocProbMix").fit(X[:1], y[:1]).predict(X)
    ).all()
    assert np.isfinite(regressor(likelihood="gaussian", epochs=2, method="LocMix").fit(X[:3], y[:3]).predict(X)).all()
    with pytest.warns(UserWarning, match="1 distinct rows, expected at least 20 .*Try more rows"):
        constant = regressor(epochs=40).fit(np.ones((40, 3)), np.full(40, 7.0))
    assert constant.predict(np.ones((1, 3))) == pytest.approx(7.0, abs=0.2)
    with pytest.raises(ValueError, match=r"two columns of X are named 'a', expected different names.*Try"):
        regressor().fit(pd.DataFrame(X, columns=["a", "a"]), y)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "Mixup"}, r"method='Mixup', expected one of ERM, .*Try 'M-ProbMix'"),
        ({"method": "5xM-ProbMix"}, "method='5xM-ProbMix', an ensemble of 5, .*Try ensemble=5 and the method alone"),
        ({"method": Method(members=3)}, "an ensemble of 3, .*Try ensemble=3"),
        ({"method": ["ERM"]}, r"method=\['ERM'\], expected one of"),
        (
            {"method": "ERM-t", "likelihood": "poisson"},
            "likelihood='poisson' and method='ERM-t', .*Try likelihood='auto'",
        ),
        ({"method": Method("y", "ring")}, "unknown graph 'ring', expected one of complete.*Try"),
        ({"method": Method(criterion="best")}, "unknown criterion 'best', expected one of expected.*Try"),
        ({"method": Method("y", "complete", num_fused=1)}, "num_fused=1, expected an integer of at least 2"),
        ({"method": "4-ProbMix", "batch_size": 6}, "batch_size=6, expected a multiple of 4 rows"),
        ({"likelihood": "normal"}, r"likelihood='normal', expected one of auto, gaussian, .*Try"),
        ({"likelihood": "categorical"}, "for classes.*Try ProbMixClassifier"),
        (
            {"likelihood": "poisson"},
            "outside of the support of likelihood='poisson', expected a whole number of at least 0.*Try",
        ),
        ({"ensemble": 0}, "ensemble=0, expected an integer of at least 1.*Try"),
        ({"epochs": 2.5}, "epochs=2.5, expected a positive integer or None.*Try epochs=None"),
        ({"batch_size": 7}, "batch_size=7, expected an even number.*Try 32"),
        ({"widths": ()}, r"widths=\(\), expected the widths of the layers.*Try"),
        ({"activation": None}, "activation=None, expected one of relu.*Try"),
        ({"alpha": "a"}, "alpha='a', expected a number.*Try"),
        ({"learning_rate": True}, "learning_rate=True, expected a number.*Try"),
        ({"encoder": torch.nn.Linear}, "encoder=<class .*Linear'>, expected a module.*an instance"),
        ({"encoder": "cnn"}, "encoder='cnn', expected a module"),
        ({"likelihood": lambda *sizes: 3}, "a likelihood that makes a int, expected a module.*Try"),
        (
            {"patience": 3, "validation_fraction": 0},
            "patience=3 with validation_fraction=0, expected rows to watch.*Try",
        ),
        ({"activation": "step"}, "activation='step', expected one of relu.*Try"),
        ({"alpha": -1.0}, r"alpha=-1.0, expected a number above 0.*Try"),
        ({"learning_rate": 0.0}, "learning_rate=0.0, expected a number above 0.*Try"),
        ({"validation_fraction": 0.9}, "validation_fraction=0.9, expected a share from 0 to 0.5.*Try"),
        ({"callbacks": "print"}, "callbacks='print', expected a list of functions.*Try"),
        ({"device": "tpu"}, "device='tpu', expected 'auto', 'cpu' or 'cuda'.*Try"),
    ],
)
def test_parameters_that_do_not_fit(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        regressor(**options).fit(*wave(30))


def test_data_that_do_not_fit():
    X, y = wave(30)
    cases: list[tuple[Any, Any, Any, str]] = [
        (X, np.where(y > 55, np.nan, y), None, "Input y contains NaN"),
        (X, np.full(30, "a", dtype=object), None, "y holds what is no number .*Try encoding it"),
        (X, np.array(["a"] * 30), None, "y holds what is no number .*'a'.*, expected numbers. Try encoding it"),
        (X, y * 1e200, None, "y has values up to .*, expected at most 1e\\+150.*Try other units"),
        (X, y, np.zeros(30), "sample_weight is zero in every row|weights.*zero"),
        (X, y, np.full(30, -1.0), "[Nn]egative"),
        (X[:, :0], y, None, "0 feature"),
    ]
    for features, targets, weights, sentence in cases:
        with pytest.raises(ValueError, match=sentence):
            regressor().fit(features, targets, sample_weight=weights)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_member_whose_training_failed_is_replaced(weighted):
    """One member is set far off; the mixture's NLL hardly sees it, its mean would."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = X[:, 0] - X[:, 1] + 0.1 * rng.normal(size=200)
    weights = rng.uniform(0.5, 1.5, 200) if weighted else None
    model = ProbMixRegressor("ERM", ensemble=5, epochs=60, random_state=0, warm_start=True).fit(X, y, weights)
    before = model.score(X, y)
    for parameter in model.density_.parameters():
        parameter.data[2] *= 3.0
    assert model.score(X, y) < before - 0.5
    model.set_params(epochs=1, learning_rate=1e-6).fit(X, y, weights)
    assert model.score(X, y) > before - 0.05
    members = next(model.density_.parameters()).flatten(1)
    assert len({tuple(member.tolist()) for member in members}) == 4  # a copy of another; the others are their own


@pytest.mark.filterwarnings("ignore:the loss was not finite:RuntimeWarning")
def test_training_that_diverges_says_so():
    with pytest.raises(ValueError, match=r"training reached weights that are not finite in every member.*Try"):
        regressor(learning_rate=1e30, validation_fraction=0.0).fit(*wave(30))


def test_the_scaling_of_columns():
    values = np.array([[1e300, 5.0, 1e-300], [3e300, 5.0, 3e-300]])
    scaler = Scaler.fit(values, np.ones(2))
    np.testing.assert_allclose(scaler.transform(values), [[-1, 0, -1], [1, 0, 1]])
    weighted = Scaler.fit(np.array([[0.0], [3.0]]), np.array([2.0, 1.0]))
    assert weighted.offset[0] == pytest.approx(1.0) and weighted.step[0] == pytest.approx(np.sqrt(2.0))


def test_the_trainer_is_the_packages_own():
    """No loop of the estimators' own: what trains them is `fit`."""
    assert train.__globals__["fit"].__module__ == "pyro_probmix.inference.training"


@pytest.mark.parametrize(
    "odd", [object(), {"a": 1}, {1, 2}, "text", torch.device("cpu"), ["a"] * 40, 1j, torch.nn.Identity()]
)
def test_what_holds_no_numbers_is_refused_in_a_sentence(odd):
    x = np.random.default_rng(0).normal(size=(40, 2))
    model = ProbMixRegressor(ensemble=2, widths=(4,), epochs=1, random_state=0).fit(x, x[:, 0])
    calls = [
        lambda: model.fit(odd, x[:, 0]),
        lambda: model.predict(odd),
        lambda: model.sample(odd),
        lambda: model.score(odd, x[:, 0]),
        lambda: model.score(x, odd),
        lambda: model.fit(x, odd),
        lambda: model.fit(x, x[:, 0], odd),
    ]
    for call in calls:
        with pytest.raises((ValueError, TypeError)) as caught:
            call()
        text = str(caught.value)
        assert len(text) > 20 and not text.startswith(
            ("could not convert", "float() argument", "object of type", "len()")
        )


def test_what_numpy_would_take_for_other_numbers_is_refused_and_tensors_of_any_kind_are_taken():
    """Masked values, dates and durations; and tensors with a graph, or of a type that NumPy lacks."""
    x = np.random.default_rng(0).normal(size=(40, 2))
    y, masked = x[:, 0], np.ma.masked_array(x, mask=x > 1)
    days = np.datetime64("2024-01-01") + np.arange(40).astype("m8[D]")
    frame = pd.DataFrame({"a": y, "due": days})
    model = ProbMixRegressor(ensemble=2, widths=(4,), epochs=1, random_state=0).fit(x, y)
    classifier = ProbMixClassifier(ensemble=2, widths=(4,), epochs=1, random_state=0).fit(x, y > 0)
    calls = [
        (lambda: model.fit(masked, y), "got X with masked values"),
        (lambda: model.fit(x, y, validation=(masked, y)), "got X with masked values"),
        (lambda: classifier.predict_proba(masked), "got X with masked values"),
        (lambda: model.fit(x, y, masked[:, 0]), "got sample_weight with masked values"),
        (lambda: model.fit(x, days), "got y of dates"),
        (lambda: model.fit(x, list(days - days[0])), "got y of durations"),
        (lambda: model.fit(x, pl.Series((days - days[0]).astype("m8[us]"))), "got y of durations"),
        (lambda: model.fit(x, pa.array(days)), "got y of dates"),
        (lambda: model.fit(x, frame), "got column 'due' of y of dates"),
        (lambda: model.fit(x, pl.DataFrame({"a": y, "due": days.astype("M8[us]")})), "got column 'due' of y of dates"),
        (lambda: model.score(x, days), "got y of dates"),
        (lambda: model.fit(days[:, None], y), "got X of dates"),
        (lambda: model.predict([[days[0], days[1]]]), "got X of dates"),
        (lambda: model.predict([[10**400, 0]]), "X holds an integer above"),
        (lambda: model.fit(x, [10**400] * 40), "y holds an integer above"),
        (lambda: model.save("a\0b"), "with a NUL character"),
    ]
    for call, sentence in calls:
        with pytest.raises(ValueError, match=f"{sentence}.*Try"):
            call()
    graph = torch.tensor(x, requires_grad=True)
    expected = model.predict(x)
    for taken in (graph, list(graph), np.ma.masked_array(x)):
        np.testing.assert_array_equal(model.predict(taken), expected)
        np.testing.assert_array_equal(clone(model).fit(taken, graph[:, 0], graph[:, 1] ** 2).predict(x).shape, (40,))
    coarse = graph.bfloat16()
    np.testing.assert_array_equal(model.predict(coarse), model.predict(coarse.detach().double().numpy()))
    classifier.fit(graph, graph[:, 0] > 0)


@pytest.mark.parametrize(("rows", "rate"), [(1500, 0.005), (6000, 0.0025), (20_000, 0.002)])
def test_more_rows_of_numbers_start_at_a_lower_rate(rows, rate):
    """By default 0.005, beyond 1500 rows less by the root of their number, at least 0.002; classes keep the first one."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, 1))
    options: dict[str, Any] = {"ensemble": 1, "widths": (4, 4), "epochs": 2, "random_state": 0}
    y = X[:, 0] + rng.normal(size=rows)
    one, other = (ProbMixRegressor(learning_rate=given, **options).fit(X, y).predict(X) for given in (None, rate))
    np.testing.assert_array_equal(one, other)
    classifiers = (ProbMixClassifier(learning_rate=given, **options).fit(X, y > 0) for given in (None, 0.005))
    one, other = (model.predict_proba(X) for model in classifiers)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "odd",
    [
        {"alpha": float("nan")},
        {"alpha": 0.0},
        {"beta": -1.0},
        {"learning_rate": 0.0},
        {"learning_rate": float("inf")},
        {"warm_start": "yes"},
        {"verbose": None},
        {"activation": ["relu"]},
        {"activation": "none such"},
        {"random_state": -1},
        {"random_state": 0.5},
    ],
)
def test_parameters_out_of_range_are_refused_before_a_fit(odd):
    x = np.random.default_rng(0).normal(size=(40, 2))
    (name,) = odd
    for act in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=rf"got {name}=.*expected .*Try"):
            getattr(ProbMixRegressor(**odd), act)(x, x[:, 0])
