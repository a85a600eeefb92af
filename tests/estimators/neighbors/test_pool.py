"""The pool with neighbors: its formula, whose rows it takes, when it is chosen, and every prediction by it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, stats

from pyro_probmix import ProbMixClassifier, ProbMixRegressor, load
from pyro_probmix.estimators.ensemble import neighbor_scales
from pyro_probmix.estimators.neighbors.kernels import Kernels, can_pool, with_kernels
from pyro_probmix.estimators.neighbors.pool import NEAREST, NeighborPool
from pyro_probmix.estimators.saving import files, programs
from pyro_probmix.inference.sealed import read_sealed, write_sealed
from pyro_probmix.models.distributions.student import StudentT

TINY: dict[str, Any] = {"ensemble": 5, "epochs": 10, "widths": (16, 16), "random_state": 0}
LEVELS = (0.001, 0.05, 0.5, 0.95, 0.999)


def groups(n: int, seed: int) -> tuple[Any, Any]:
    """Rows in 80 groups, each with a level of its own that a small network does not learn; the last feature knows nothing."""
    rng = np.random.default_rng(0)
    centres, level = rng.normal(size=(80, 2)), rng.normal(size=80)
    rng = np.random.default_rng(seed)
    k = rng.integers(0, 80, n)
    x = np.column_stack([centres[k] + 0.01 * rng.normal(size=(n, 2)), rng.normal(size=n)])
    return x, x[:, 0] + level[k] + 0.05 * rng.normal(size=n)


@pytest.fixture(scope="module")
def fitted() -> tuple[ProbMixRegressor, ProbMixRegressor, Any, Any]:
    """A model with a pool, the same without, and rows that are new to them."""
    x, y = groups(400, 1)
    pooled, plain = (ProbMixRegressor(**TINY, neighbors_pool=k).fit(x, y) for k in (3, 0))
    return pooled, plain, *groups(200, 2)


def brute_force(model: ProbMixRegressor, x: Any, y: Any) -> Any:
    """The density by its formula, row by row and member by member, of a model without a pool and the pool of ``model``."""
    state, pool = model.state_, model.state_.pool
    assert pool is not None
    plain = replace(state, pool=None)
    features = state.standardised_inputs(x)
    (_, mixture), *_ = plain.mixtures(x)
    p = mixture.components.base_dist
    df, loc, scale = (v[..., 0].double().numpy() for v in (p.df, p.loc, p.scale * pool.spread))  # [S, R, N]
    z = (y / state.y_scaler.unit[0] - state.y_scaler.mean[0]) / state.y_scaler.scale[0]
    found = np.zeros(len(x))
    for i in range(len(x)):
        square = (((pool.x.double().numpy() - features[i]) * pool.scales.double().numpy()) ** 2).sum(1)
        for s, r in np.ndindex(*loc.shape[:2]):
            own = np.flatnonzero(pool.own[r].numpy())
            near = own[np.argsort(square[own], kind="stable")[: pool.neighbors]]
            share = 1 / (square[near] + NEAREST)
            share /= share.sum()
            errors = pool.errors[r, near, 0].double().numpy()
            errors = pool.scatter * errors + (1 - pool.scatter) * (share * errors).sum()
            density = (1 - pool.weight) * stats.t.pdf(z[i], df[s, r, i], loc[s, r, i], scale[s, r, i])
            for j, a, error in zip(near, share, errors, strict=True):
                width = np.sqrt((pool.width * scale[s, r, i]) ** 2 + pool.growth**2 * square[j])
                density += pool.weight * a * stats.t.pdf(z[i], df[s, r, i], loc[s, r, i] + error, width)
            found[i] += density / (loc.shape[0] * loc.shape[1])
    return found / state.y_scaler.step[0]


def drawn_together(model: ProbMixRegressor, scatter: float) -> ProbMixRegressor:
    """A copy of a model, its pool's kernels nearer to their mean."""
    found = copy.deepcopy(model)
    assert found.state_.pool is not None
    found.state_.pool = replace(found.state_.pool, scatter=scatter)
    return found


@pytest.mark.parametrize("scatter", [1.0, 0.3, 0.0])
def test_the_density_is_that_of_the_formula(fitted: Any, scatter: float) -> None:
    pooled, _, x, y = fitted
    pooled = drawn_together(pooled, scatter)
    np.testing.assert_allclose(pooled.pdf(x[:20], y[:20]), brute_force(pooled, x[:20], y[:20]), rtol=1e-6)


def test_it_is_chosen_where_rows_near_each_other_are_off_alike(fitted: Any) -> None:
    pooled, plain, x, y = fitted
    gain = pooled.logpdf(x, y) - plain.logpdf(x, y)
    assert gain.mean() > 4 * gain.std() / len(y) ** 0.5 > 0
    error, without = (np.mean((m.predict(x) - y) ** 2) for m in (pooled, plain))
    assert error < without / 2
    assert plain.state_.pool is None


def test_features_that_say_nothing_of_nearness_count_little(fitted: Any) -> None:
    pooled, _, x, _ = fitted
    pool = pooled.state_.pool
    assert pool.scales[2] < 0.2 * pool.scales[:2].min()
    square, positions = pool.nearest(pooled.state_.standardised_inputs(x))
    same = (pool.x[positions[:, 0], :2] - torch.as_tensor(pooled.state_.standardised_inputs(x))[:, :2]).norm(
        dim=-1
    ) < 0.1
    assert same.double().mean() > 0.95  # the nearest row is of the same group
    features = torch.as_tensor(pooled.state_.standardised_inputs(x))
    by_hand = (pool.x[positions].double() - features[:, None]) * pool.scales
    torch.testing.assert_close(square, by_hand.square().sum(-1))


@pytest.mark.parametrize(("most", "counts"), [(20_000_000, True), (40 * 300, True), (199 * 300, False)])
def test_the_distances_that_the_search_keeps_are_bounded(
    monkeypatch: pytest.MonkeyPatch, most: int, counts: bool
) -> None:
    """Their memory is a fit's, also with more features than are tried; where too few rows could be asked it does not search."""
    if counts:
        monkeypatch.setattr(neighbor_scales, "FEWEST_ASKED", 20)
    monkeypatch.setattr(neighbor_scales, "MOST_DISTANCES", most)
    x, y = groups(300, 0)
    x = np.column_stack([x, np.random.default_rng(1).normal(size=(300, 27))])
    kept = []
    cdist = torch.cdist

    def seen(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        kept.append(len(a) * len(b))
        return cdist(a, b)

    monkeypatch.setattr(torch, "cdist", seen)
    ProbMixRegressor(ensemble=5, epochs=20, random_state=0, likelihood="gaussian", neighbors_pool=1).fit(x, y)
    assert bool(kept) == counts and sum(kept) <= most


def test_the_spread_beside_it_is_that_of_what_it_leaves_over(fitted: Any) -> None:
    """The networks' own spread reaches the groups' levels, which the kernels know."""
    pooled, _, x, y = fitted
    assert pooled.state_.pool.spread < 0.9
    wide = copy.deepcopy(pooled)
    wide.state_.pool = replace(pooled.state_.pool, spread=1.0)
    gain = pooled.logpdf(x, y) - wide.logpdf(x, y)
    assert gain.mean() > 2 * gain.std() / len(y) ** 0.5


def test_kernels_are_drawn_together_where_errors_are_smooth() -> None:
    """Between rows of a surface without noise their mean error is nearer than any; apart, intervals hold 97.7 % of new rows."""

    def surface(n: int, seed: int) -> tuple[Any, Any]:
        x = np.random.default_rng(seed).uniform(size=(n, 2))
        return x, np.sin(20 * x[:, 0]) * np.cos(15 * x[:, 1]) + x[:, 0]

    x, y = surface(1000, 2)
    model = ProbMixRegressor(**TINY).fit(*surface(800, 1))
    low, high = model.predict_interval(x, 0.9).T
    assert np.mean((low <= y) & (y <= high)) == pytest.approx(0.9, abs=0.03)  # three standard errors
    gain = model.logpdf(x, y) - drawn_together(model, 1.0).logpdf(x, y)
    assert gain.mean() > 4 * gain.std() / len(y) ** 0.5


def test_kernels_are_not_drawn_together_where_neighbors_are_alternatives() -> None:
    """Each target is one of two levels by chance, and none lies between them."""

    def levels(n: int, seed: int) -> tuple[Any, Any]:
        rng = np.random.default_rng(seed)
        x = rng.uniform(size=(n, 2))
        return x, np.sin(20 * x[:, 0]) + rng.choice([-1.0, 1.0], n)

    model = ProbMixRegressor(**TINY).fit(*levels(600, 1))
    assert model.state_.pool is not None and model.state_.pool.scatter == 1.0


@pytest.mark.parametrize("signal", [0.0, 2.0])
def test_it_is_not_chosen_where_errors_are_noise(signal: float) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 2))
    model = ProbMixRegressor(**TINY).fit(x, signal * x[:, 0] + rng.normal(size=300))
    assert model.state_.pool is None


def test_all_predictions_are_of_one_distribution(fitted: Any) -> None:
    pooled, _, x, y = fitted
    quantiles = pooled.predict_quantiles(x[:30], LEVELS)
    np.testing.assert_allclose(pooled.cdf(x[:30], quantiles), np.broadcast_to(LEVELS, (30, 5)), atol=1e-9)
    np.testing.assert_array_equal(pooled.ppf(x[:30], np.array([LEVELS])), quantiles)
    mean, std = pooled.predict(x[:3], return_std=True)
    for i in range(3):
        far = mean[i] + np.linspace(-40, 40, 4001) * std[i]
        density = pooled.pdf(x[i : i + 1], far[None])[0]
        assert integrate.simpson(density, x=far) == pytest.approx(1, abs=1e-3)
        assert integrate.simpson(far * density, x=far) == pytest.approx(mean[i], abs=1e-3 * std[i] + 1e-3)
        sides = [np.linspace(y[i], y[i] + sign * 40 * std[i], 8001) for sign in (-1, 1)]
        low, high = (pooled.cdf(x[i : i + 1], side[None])[0] for side in sides)
        score = integrate.simpson((1 - high) ** 2, x=sides[1]) - integrate.simpson(low**2, x=sides[0])
        assert pooled.crps(x[i : i + 1], y[i : i + 1]) == pytest.approx(score, abs=1e-4)
    inside = pooled.predict_interval(x, 0.9, conformal=True)
    assert np.mean((inside[:, 0] <= y) & (y <= inside[:, 1])) > 0.84  # 200 rows: three standard errors of 0.02
    parts = pooled.predict_variance(x)
    np.testing.assert_allclose(parts.between + parts.within, pooled.predict(x, return_std=True)[1] ** 2)


def test_a_row_is_predicted_by_itself(fitted: Any) -> None:
    pooled, _, x, _ = fitted
    together = pooled.predict_quantiles(x)
    for row in (0, 77, 199):
        np.testing.assert_array_equal(pooled.predict_quantiles(x[row : row + 1])[0], together[row])


def test_a_member_takes_rows_that_it_trained_on_alone(fitted: Any) -> None:
    """A row that a member holds out has no part in the member's density there: there is no way for its target to leak."""
    pooled, _, _, _ = fitted
    pool = pooled.state_.pool
    assert bool((pool.own.sum(0) == 4).all())  # each row is held out by one of five
    rows = pool.x[:50].double()
    nearest = pool.nearest(rows.numpy())
    assert bool((nearest[1][:, 0] == torch.arange(50)).all())  # itself
    like = torch.zeros(1, 5, 50, 1, dtype=torch.float64)
    own = pool.kernels(like, *nearest)
    wrong = replace(pool, errors=torch.where(pool.own[..., None], pool.errors, 1e6))
    other = wrong.kernels(like, *nearest)
    torch.testing.assert_close(own.errors * own.shares, other.errors * other.shares, rtol=0, atol=0)
    torch.testing.assert_close(own.shares.sum(-1), torch.ones(5, 50, 1, dtype=torch.float64))


def test_where_a_member_has_no_row_near_its_density_stands() -> None:
    own = torch.zeros(1, 12, dtype=torch.bool)
    pool = NeighborPool(
        torch.randn(12, 2), torch.ones(2), torch.randn(1, 12, 1), own, torch.ones(12), 3, 0.5, 0.2, 0.0, 1.0
    )
    p = dist.Normal(torch.randn(1, 1, 4, 1), 1.0).to_event(1)
    y = torch.randn(4, 1)
    torch.testing.assert_close(pool(p, np.zeros((4, 2))).log_prob(y), p.log_prob(y))


def test_kernels_of_other_families_are_refused() -> None:
    kernels = Kernels(torch.zeros(1), torch.zeros(1), torch.ones(1), 0.5, 0.0)
    with pytest.raises(TypeError, match="kernels of a Poisson are not known"):
        with_kernels(dist.Poisson(torch.tensor(2.0)), kernels, 0.5)
    assert not can_pool(dist.Poisson(torch.tensor(2.0)))
    assert can_pool(StudentT(*torch.ones(3, 1)).to_event(1))


def test_saved(fitted: Any, tmp_path: Path) -> None:
    pooled, _, x, _ = fitted
    pooled = drawn_together(pooled, 0.5)
    pooled.save(tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_quantiles(x, LEVELS), pooled.predict_quantiles(x, LEVELS))


def test_as_a_program_of_tensors(fitted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pooled, _, x, _ = fitted
    pooled = drawn_together(pooled, 0.5)
    written: list[Any] = []
    monkeypatch.setattr(programs, "write_program", lambda program, *_, **__: written.append(program))
    pooled.export("model.pt2", LEVELS)
    found = written[0](torch.tensor(x))
    np.testing.assert_allclose(found["quantiles"], pooled.predict_quantiles(x, LEVELS), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found["mean"], pooled.predict(x), rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_exported(fitted: Any, tmp_path: Path) -> None:
    pooled, _, x, _ = fitted
    pooled.export(tmp_path / "model.pt2", LEVELS)
    found = torch.export.load(tmp_path / "model.pt2").module()(torch.tensor(x))
    np.testing.assert_allclose(found["quantiles"], pooled.predict_quantiles(x, LEVELS), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("x", lambda t: t[:, :1], "its pool.x"),
        ("x", lambda t: t * torch.nan, "its pool.x"),
        ("errors", lambda t: t[:2], "its pool.errors"),
        ("errors", lambda t: t.double(), "its pool.errors"),
        ("own", lambda t: t.float(), "its pool.own"),
        ("weights", lambda t: -t, "its pool.weights"),
        ("scales", lambda t: -t, "its pool.scales"),
        ("scales", lambda t: t[:1], "its pool.scales"),
        ("weights", lambda t: t[:-1], "its pool.weights"),
        ("neighbors", 0, "its pool's neighbors is 0"),
        ("weight", 1.0, "its pool's weight is 1.0"),
        ("width", 0.0, "its pool's width is 0.0"),
        ("growth", -1.0, "its pool's growth is -1.0"),
        ("growth", float("nan"), "its pool's growth is nan"),
        ("spread", 0.0, "its pool's spread is 0.0"),
        ("spread", True, "its pool's spread is True"),
        ("copied", 1.0, "its pool's copied is 1.0"),
        ("copied", -0.1, "its pool's copied is -0.1"),
        ("copy_scale", 0.0, "its pool's copy_scale is 0.0"),
        ("scatter", 1.1, "its pool's scatter is 1.1"),
        ("scatter", -0.1, "its pool's scatter is -0.1"),
        ("scatter", float("nan"), "its pool's scatter is nan"),
        ("tails", -1.0, "its tails is -1.0"),
    ],
)
def test_a_strangers_pool_is_refused(fitted: Any, tmp_path: Path, part: str, value: Any, said: str) -> None:
    fitted[0].save(tmp_path / "model")
    record, tensors = read_sealed(tmp_path / "model", files.ENTRY)
    if callable(value):
        tensors[f"pool.{part}"] = value(tensors[f"pool.{part}"])
    else:
        (record if part == "tails" else record["pool"])[part] = value
    write_sealed(tmp_path / "changed", files.ENTRY, record, tensors, advice="")
    with pytest.raises(ValueError, match=f"cannot be put together: .*{said}"):
        load(tmp_path / "changed")


def test_fits_that_have_none() -> None:
    x, y = groups(200, 1)
    quick = {**TINY, "epochs": 2}
    assert ProbMixRegressor(**quick, validation_fraction=0).fit(x, y).state_.pool is None
    assert ProbMixRegressor(**quick).fit(x, np.stack([y, y], 1)).state_.pool is None
    assert ProbMixClassifier(**quick).fit(x, y > 0).state_.pool is None
    wrong: Any
    for wrong in (-1, 1.5, True, "auto"):
        with pytest.raises(ValueError, match=r"got neighbors_pool=.*expected an integer of at least 0"):
            ProbMixRegressor(**quick, neighbors_pool=wrong).fit(x, y)


def test_later_rows_leave_it_behind() -> None:
    x, y = groups(400, 1)
    model = ProbMixRegressor(**TINY).fit(x, y)
    assert model.state_.pool is not None
    model.partial_fit(*groups(60, 2))  # the members' errors at earlier rows are others now
    assert model.state_.pool is None


def test_a_row_of_weight_two_is_a_row_given_twice() -> None:
    x, y = groups(300, 1)
    weight = np.where(np.arange(300) % 3, 1.0, 2.0)
    twice = np.concatenate([np.arange(300), np.arange(0, 300, 3)])
    once, again = ProbMixRegressor(**TINY).fit(x, y, weight), ProbMixRegressor(**TINY).fit(x[twice], y[twice])
    assert once.state_.pool is not None
    np.testing.assert_allclose(once.predict(x), again.predict(x), rtol=1e-6)
