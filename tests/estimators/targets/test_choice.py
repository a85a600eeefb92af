"""The choice of a likelihood: kinds of targets, grids, what held-out rows decide, and predictions that keep to bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pyro_probmix import ProbMixRegressor, load
from pyro_probmix.estimators.targets.choice import CANDIDATES, DOUBT, MARGIN, STEPS, choose
from pyro_probmix.estimators.targets.kinds import grid_of, kind_of
from pyro_probmix.models import LIKELIHOODS

TINY: dict[str, Any] = {"ensemble": 2, "epochs": 4, "widths": (16, 16), "num_samples": 4, "random_state": 0}
RNG = np.random.default_rng(5)
X = RNG.normal(size=(240, 2))
SIGNAL = 0.7 * X[:, 0] + 1
TARGETS: dict[str, Any] = {
    "real": SIGNAL + 0.3 * RNG.normal(size=240),
    "count": RNG.poisson(np.exp(SIGNAL)).astype(float),
    "positive": np.exp(1.2 * X[:, 0] + 0.5 * RNG.normal(size=240)).round(3),
    "amount": np.maximum(SIGNAL + RNG.normal(size=240) - 0.5, 0),
    "share": np.append((1 / (1 + np.exp(-SIGNAL[:-2] - RNG.normal(size=238)))).round(2), [0.0, 1.0]),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_kinds_are_known_in_any_unit_that_keeps_them(kind: str) -> None:
    y = TARGETS[kind]
    assert kind_of(y).name == kind
    if kind != "real":
        assert kind_of(y).lower == 0
    if kind in ("positive", "amount", "real"):
        assert kind_of(7.3 * y).name == kind
    if kind == "share":
        assert (kind_of(100 * y).name, kind_of(100 * y).unit, kind_of(100 * y).upper) == (kind, 100.0, 100.0)
    assert kind_of(y - 1.5).name == "real" and kind_of(y - 1.5).lower is None


def test_whole_numbers_far_from_zero_and_large_ones_are_no_counts() -> None:
    assert kind_of(RNG.integers(3, 9, 200).astype(float)).name == "real"  # marks, say
    assert kind_of(RNG.integers(1000, 900_000, 200).astype(float)).name != "count"
    assert kind_of(np.append(RNG.poisson(0.4, 200), [2, 3]).astype(float)).name == "count"


@pytest.mark.parametrize("grid", [0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0, 2500.0])
@pytest.mark.parametrize("start", [0.0, -40.0, 4.0])
def test_a_grid_is_found_whatever_it_is(grid: float, start: float) -> None:
    y = (start + np.append(RNG.integers(-300, 300, 50), [0, 1])) * grid
    assert grid_of(np.array([float(f"{v:.6g}") for v in y])) == pytest.approx(grid)


def test_no_grid_is_seen_in_continuous_targets() -> None:
    assert grid_of(RNG.normal(size=50)) == grid_of(1e5 * RNG.random(50)) == grid_of(np.ones(9)) == 0


def test_a_target_of_two_values_is_asked_about() -> None:
    y = (SIGNAL > 1).astype(float)
    with pytest.raises(ValueError, match=r"two values alone, 0 and 1, .*Try ProbMixClassifier"):
        ProbMixRegressor(**TINY).fit(X, y)
    with pytest.raises(ValueError, match="target 1 of y has two values"):
        ProbMixRegressor(**TINY).fit(X, np.stack([SIGNAL, y], 1))
    assert ProbMixRegressor(**TINY, likelihood="bernoulli").fit(X, y).likelihood_ == "bernoulli"


@pytest.mark.parametrize("kind", [kind for kind in TARGETS if kind != "real"])
def test_the_head_that_fits_by_nature_is_left_for_one_that_is_better_by_the_margin(kind: str) -> None:
    y = TARGETS[kind][:, None]
    first, other = [name for name in CANDIDATES[kind] if name in LIKELIHOODS]
    tried = []

    def score(name: str, of_other: float) -> float:
        tried.append(name)
        return of_other if name == other else 1.0

    assert choose(y, lambda name, _: score(name, 1 - MARGIN / 2)).likelihood == first
    assert choose(y, lambda name, _: score(name, 1 - 2 * MARGIN)).likelihood == other
    assert {first, other} <= set(tried)
    assert choose(np.concatenate([y, TARGETS["real"][:, None]], 1), lambda name, _: 1 / 0).likelihood == "student-t"


def test_a_head_that_is_close_behind_after_few_steps_has_twice_as_many() -> None:
    y, asked = TARGETS["positive"][:, None], []

    def choice(first: tuple[float, float], second: tuple[float, float]) -> str:
        def score(name: str, steps: int) -> float:
            asked.append((name, steps))
            return {STEPS: first, 2 * STEPS: second}[steps][name == "student-t"]

        asked.clear()
        return str(choose(y, score).likelihood)

    assert choice((0.4, 0.5), (0.1, -0.1)) == "student-t"  # the slower learner was behind
    assert set(asked) == {(name, steps) for steps in (STEPS, 2 * STEPS) for name in ("log-normal", "student-t")}
    assert choice((0.4, 0.5), (-0.2, -0.1)) == "log-normal"  # the faster one stays ahead
    assert choice((0.5, 0.4), (0.0, 0.0)) == "log-normal"
    assert choice((0.4, 0.5), (0.9, 0.45)) == "log-normal"
    assert ("log-normal", 2 * STEPS) not in asked and len(asked) == 3  # nothing came past it
    assert choice((1.0 + DOUBT, 0.9), (0.0, 0.1)) == "student-t"  # too far behind to be asked again
    assert len(asked) == 2
    assert choice((np.inf, 1.0), (0.0, 0.1)) == "student-t"
    assert choice((np.inf, np.inf), (np.inf, np.inf)) == "log-normal"


def test_a_given_number_of_epochs_bounds_trials_which_are_then_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = []

    def trial(self: ProbMixRegressor, rows: object, seed: int, likelihood: str, passes: int) -> float:
        epochs.append(passes)
        return -0.001 * passes + (likelihood == "student-t") * 0.01

    monkeypatch.setattr(ProbMixRegressor, "_trial", trial)
    ProbMixRegressor(**{**TINY, "epochs": 2}).fit(X, TARGETS["positive"])
    assert epochs == [2, 2]
    epochs.clear()
    quick = {**TINY, "epochs": None, "callbacks": [lambda epoch, best: True]}
    ProbMixRegressor(**quick).fit(X, TARGETS["positive"])
    assert epochs[2:] == pytest.approx([2 * passes for passes in epochs[:2]], abs=1)  # whole passes


@pytest.mark.parametrize("kind", TARGETS)
def test_predictions_of_the_default_keep_to_where_a_target_can_be(kind: str, tmp_path: Path) -> None:
    y = TARGETS[kind]
    model = ProbMixRegressor(**TINY).fit(X, y)
    assert model.likelihood_ in (*CANDIDATES[kind], "zero-inflated-negative-binomial")
    far = 3 * X
    low, high = model.predict_interval(far, 0.98).T
    if kind != "real":
        drawn = model.sample(far, 20, random_state=0)
        assert min(low.min(), model.predict(far).min(), drawn.min(), model.ppf(far, 1e-6).min()) >= 0
        assert (model.cdf(far, -1e-9) == 0).all()
        upper = 1.0 if kind == "share" else np.inf
        assert max(high.max(), drawn.max()) <= upper and (model.cdf(far, upper) == 1).all()
    np.testing.assert_allclose(-model.logpdf(X, y).mean(), model.nll(X, y), rtol=1e-9)
    model.save(tmp_path / "model")
    again: Any = load(tmp_path / "model")
    assert (again.likelihood_, again.grid_) == (model.likelihood_, model.grid_)
    assert again.interval_nll(X, y) == model.interval_nll(X, y)
    np.testing.assert_array_equal(again.predict_interval(far, 0.98), np.stack([low, high], 1))


def test_percentages_are_shares_in_their_own_units() -> None:
    y = 100 * TARGETS["share"]
    model, shares = (ProbMixRegressor(**TINY, likelihood="zero-one-beta").fit(X, values) for values in (y, y / 100))
    np.testing.assert_allclose(model.predict(X), 100 * shares.predict(X))
    inner = (y > 0) & (y < 100)
    expected = shares.logpdf(X, y / 100) - np.log(100) * inner
    np.testing.assert_allclose(model.logpdf(X, y), expected)
    with pytest.raises(ValueError, match=r"holds 101, .*expected a number from 0 to 100"):
        model.nll(X, np.full(len(X), 101.0))


def test_the_interval_nll_is_that_of_the_grid_and_no_spike_pays() -> None:
    y = TARGETS["real"].round(1)
    model = ProbMixRegressor(**TINY, likelihood="gaussian", neighbors_pool=0).fit(X, y)
    p = model.predict_dist(X)
    assert model.grid_ == [pytest.approx(0.1)]
    mean, std = (np.asarray(v) for v in (p.loc + p.scale * p.components.loc, p.scale * p.components.scale))
    between = stats.norm.cdf(y + 0.05, mean, std) - stats.norm.cdf(y - 0.05, mean, std)
    mass = np.asarray(between).mean((0, 1))
    assert model.interval_nll(X, y) == pytest.approx(-np.log(mass / 0.1).mean(), rel=1e-9)
    weights = np.arange(240.0)
    assert model.interval_nll(X, y, weights) == pytest.approx(np.average(-np.log(mass / 0.1), weights=weights))
    narrow = ProbMixRegressor(**TINY, likelihood="gaussian", neighbors_pool=0).fit(X, y)
    narrow.state_.factor = 1e-9
    assert narrow.interval_nll(X, y) >= np.log(0.1)


def test_the_next_rows_of_partial_fits_may_be_of_any_kind() -> None:
    model = ProbMixRegressor(**TINY).partial_fit(X, TARGETS["count"])
    assert model.likelihood_ == "student-t"
    assert np.isfinite(model.partial_fit(X, TARGETS["real"] - 3).predict(X)).all()


def test_a_warm_start_goes_on_with_the_likelihood_that_was_chosen() -> None:
    model = ProbMixRegressor(**TINY, warm_start=True).fit(X, TARGETS["count"])
    chosen = model.likelihood_
    assert model.fit(X, TARGETS["count"]).likelihood_ == chosen
