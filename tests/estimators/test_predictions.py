"""Predictions of estimators: each row by itself to the last bit, in single precision where that is enough, by few draws."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from pyro_probmix import ProbMixClassifier, ProbMixRegressor
from pyro_probmix.estimators.ensemble.held_out import HeldOut, antithetic_noise
from pyro_probmix.estimators.ensemble.rows import Rows
from pyro_probmix.inference.annealing import LITTLE_NOISE, Annealing
from pyro_probmix.inference.predictive.plain import GRAIN, has_single, plain_density
from pyro_probmix.models import Gaussian

TINY: dict[str, Any] = {"ensemble": 3, "widths": (9, 7), "epochs": 3, "periodic": 2, "random_state": 0}
X = np.random.default_rng(0).normal(size=(700, 3))
Y = np.sin(2 * X[:, 0]) + 0.3 * X[:, 1] * X[:, 2]


@cache
def drawing(single: bool = True) -> ProbMixRegressor:
    """A model that predicts by four draws of the embedding."""
    model = ProbMixRegressor(**TINY).fit(X[:200], Y[:200])
    noise = model.state_.many_draws(4)
    assert noise is not None
    model.state_.noise, model.state_.single = noise[:4], single
    return model


@cache
def classes() -> ProbMixClassifier:
    return ProbMixClassifier(**TINY).fit(X[:200], (Y[:200] > 0).astype(int) + (Y[:200] > 0.5))


@pytest.mark.parametrize("single", [True, False])
def test_a_row_is_predicted_to_the_last_bit_whatever_rows_are_beside_it(single: bool) -> None:
    model = drawing(single)
    mean, std = model.predict(X, return_std=True)
    ends, probabilities = model.predict_interval(X), classes().predict_proba(X)
    rng = np.random.default_rng(1)
    sizes = [1, 2, 3, GRAIN - 1, GRAIN, GRAIN + 1, 100, 333, 699, *rng.integers(1, 700, 5)]
    for rows in [rng.permutation(700)[:size] for size in sizes]:
        few, deviation = model.predict(X[rows], return_std=True)
        np.testing.assert_array_equal(few, mean[rows])
        np.testing.assert_array_equal(deviation, std[rows])
        np.testing.assert_array_equal(model.predict_interval(X[rows]), ends[rows])
        np.testing.assert_array_equal(classes().predict_proba(X[rows]), probabilities[rows])
        assert model.predict_dist(X[rows]).batch_shape == (len(rows),)
        assert model.sample(X[rows], 2).shape == (2, len(rows))


def test_rows_come_in_blocks_of_whole_grains(monkeypatch: pytest.MonkeyPatch) -> None:
    model = drawing()
    mean, quantiles, nll = model.predict(X), model.predict_quantiles(X), model.nll(X, Y)
    monkeypatch.setattr("pyro_probmix.estimators.ensemble.state.LARGEST_BLOCK", 1)
    sizes = [(rows[0], len(rows)) for rows, _ in model.state_.mixtures(X)]
    assert sizes == [(start, GRAIN) for start in range(0, 700, GRAIN)]
    np.testing.assert_array_equal(model.predict(X), mean)
    np.testing.assert_array_equal(model.predict_quantiles(X), quantiles)
    assert model.nll(X, Y) == pytest.approx(nll, rel=1e-14)


@pytest.mark.parametrize("method", ["ERM", "M-ProbMix", "M-ProbMix*"])
@pytest.mark.parametrize("likelihood", ["gaussian", "student-t", "homoscedastic"])
def test_single_precision_gives_the_numbers_of_double(method: str, likelihood: str) -> None:
    """To 1e-5 standard deviations of the target, which is what the docs say, also at rows that are far out."""
    model = ProbMixRegressor(method, likelihood, **TINY).fit(X[:200], Y[:200])
    assert model.state_.single
    far = np.concatenate([X, 30 * X])
    found = model.predict(far, return_std=True)
    quantiles, nll = model.predict_quantiles(X), model.nll(X, Y)
    model.state_.single = False
    scale = Y[:200].std()
    for one, other in zip(found, model.predict(far, return_std=True), strict=True):
        assert 0 < np.abs(one - other).max() < 1e-5 * scale
    np.testing.assert_allclose(quantiles, model.predict_quantiles(X), rtol=0, atol=1e-5 * scale)
    assert nll == pytest.approx(model.nll(X, Y), abs=1e-5)


def test_weights_that_single_precision_cannot_tell_apart_stay_double(monkeypatch: pytest.MonkeyPatch) -> None:
    model = drawing()
    state = model.state_
    with monkeypatch.context() as patch:
        patch.setattr("pyro_probmix.estimators.ensemble.state.SINGLE_TOLERANCE", 0.0)
        state.settle(_rows())
        assert not state.single
    state.settle(_rows())
    kept = model.density_.decoder.layers[0]
    before = model.predict(X)
    kept.weight.data.mul_(2)  # weights that are changed from outside count at once
    assert not np.array_equal(model.predict(X), before)
    kept.weight.data.div_(2)
    np.testing.assert_array_equal(model.predict(X), before)


def _rows() -> Rows:
    return Rows(X[:200], Y[:200, None], np.ones(200))


def test_a_head_of_ones_own_is_predicted_in_double_precision() -> None:
    class Own(torch.nn.Module):
        def __init__(self, in_features: int, num_outputs: int, replicas: int | None) -> None:
            super().__init__()
            self.inner = Gaussian(in_features, num_outputs, replicas)

        def forward(self, features: torch.Tensor) -> Any:
            return self.inner(features)

    model = ProbMixRegressor(likelihood=Own, **TINY).fit(X[:200], Y[:200])
    assert not model.state_.single and not has_single(model.density_)
    assert np.isfinite(model.predict(X)).all()


def test_noise_comes_in_antithetic_pairs() -> None:
    noise = antithetic_noise(5, 2, 4, seed=1)
    assert noise.shape == (5, 2, 1, 4)
    assert torch.equal(noise[0], -noise[1]) and torch.equal(noise[2], -noise[3]) and not torch.equal(noise[0], noise[2])
    assert torch.equal(antithetic_noise(5, 2, 4, seed=1), noise)


@pytest.mark.parametrize("deviation", [0.05, 3.0])
def test_as_many_draws_as_the_loss_asks_for(deviation: float) -> None:
    """None where the embedding hardly varies; where it does, so many that the loss is that of 64 draws, by brute force."""
    state = drawing.__wrapped__().state_
    density: Any = state.density.double()
    with torch.no_grad():
        density.embedding.scale.weight.zero_()
        density.embedding.scale.bias.fill_(np.log(np.expm1(deviation)) + 3.0)
        density.likelihood.linear.weight.mul_(5)  # so that the draws are seen
    x = torch.as_tensor(state.standardised(_rows()).x).expand(3, -1, -1)
    noise = antithetic_noise(64, 3, 9, seed=0).double()
    y = plain_density(density, x, noise).sample()[5]
    score = HeldOut(density, x, y, torch.ones(3, 200, dtype=torch.float64), 1, None)
    draws = score.fewest_draws(noise, 64)

    def loss(draws: int) -> float:
        score.noise = noise[:draws] if draws else None
        components, groups = score.finite()
        return score._best(components, groups)[0]

    tried = [0, 2, 4, 8, 16, 32, 64]
    assert draws == next(k for k in tried if loss(k) <= loss(64) + 1e-3)
    assert (draws == 0) == (deviation < 1)
    assert score.fewest_draws(noise, 3) == min(draws, 3)


def test_a_fit_keeps_the_draws_that_it_chose_and_goes_on_from_them() -> None:
    model = ProbMixRegressor(**TINY, warm_start=True).fit(X[:200], Y[:200])
    noise = model.state_.noise
    assert noise is None or len(noise) < 16
    model.fit(X[:200], Y[:200])
    assert model.state_.noise is None or len(model.state_.noise) <= 16
    for _ in range(3):  # which copies the optimizer
        model.partial_fit(X[:100], Y[:100])
    assert np.isfinite(model.predict(X)).all()
    ProbMixRegressor(**TINY).fit(X[:100], Y[:100])


def test_the_rate_falls_over_a_short_training_or_a_long_one() -> None:
    noisy, clear = Annealing(20, 50), Annealing(20, 50)
    rates = {noisy: [], clear: []}  # type: dict[Annealing, list[float]]
    for annealing, best in ((noisy, 0.3), (clear, LITTLE_NOISE - 0.1)):
        epoch = 0
        while epoch < annealing.end:
            rates[annealing].append(annealing(epoch))
            epoch += 1
            annealing.look(epoch, best)
    assert [len(found) for found in rates.values()] == [20, 50]
    np.testing.assert_allclose(rates[noisy], 0.5 * (1 + np.cos(np.pi * np.arange(20) / 20)))
    np.testing.assert_array_equal(rates[clear][:11], rates[noisy][:11])  # the same up to the middle
    assert (np.diff(rates[clear]) < 0).all() and rates[clear][-1] < 0.01


def test_little_noise_trains_longer() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 1))
    epochs = []
    for noise in (1.0, 0.01):
        options: dict[str, Any] = {"ensemble": 2, "widths": (16, 16), "periodic": 2, "random_state": 0}
        model = ProbMixRegressor(likelihood="gaussian", **options).fit(x, x[:, 0] + noise * rng.normal(size=200))
        history: Any = model.state_.history
        assert bool(history.validation_nll[-1].isfinite().all())  # the last epoch is scored
        epochs.append(model.n_iter_)
    assert epochs == [230, 500]


def test_some_25_epochs_are_scored_and_the_last() -> None:
    histories: list[Any] = [
        ProbMixRegressor(**{**TINY, "epochs": 130}, patience=patience).fit(X[:60], Y[:60]).state_.history
        for patience in (None, 130)
    ]
    scored, watched = (history.validation_nll[:, 0].isfinite() for history in histories)
    assert scored[-1] and 25 <= scored.sum() <= 38
    assert watched.all()
