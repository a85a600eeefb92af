"""Rows that were given again: what counts as such, when a new row is taken for a copy of one, and its density."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from pyro_probmix import ProbMixRegressor, load
from pyro_probmix.estimators.ensemble.copies import copy_scale
from pyro_probmix.estimators.ensemble.rows import Rows
from pyro_probmix.estimators.saving import programs

TINY: dict[str, Any] = {"ensemble": 5, "epochs": 10, "widths": (16, 16), "random_state": 0}
LEVELS = (0.05, 0.5, 0.95)


def noisy(n: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    return x, x[:, 0] + rng.normal(size=n)


@pytest.fixture(scope="module")
def copied() -> tuple[ProbMixRegressor, Any, Any]:
    """A model of 300 rows, 60 of which were given again with their targets, and these rows."""
    x, y = noisy(300, 0)
    more = np.concatenate([np.arange(300), np.arange(60)])
    return ProbMixRegressor(**TINY).fit(x[more], y[more]), x, y


def test_rows_given_again() -> None:
    x = np.array([[0.0, 7.0], [0.0, 7.0], [1.0, 3.0], [2.0, 5.0], [2.0, 5.0], [3.0, -2.0]])
    y = np.array([[5.0], [5.0], [5.0], [5.0], [6.0], [7.0]])

    def again(x: Any, y: Any, weights: Any = None) -> Any:
        rows = Rows.distinct(x, y, weights)
        assert rows.again is not None
        return dict(zip(zip(rows.x[:, 0], rows.y[:, 0], strict=True), rows.again, strict=True))

    wanted = {(0, 5): 1, (1, 5): 0, (2, 5): -1, (2, 6): -1, (3, 7): 0}
    assert again(x, y) == wanted
    assert again(x[1:], y[1:], np.array([2.0, 1, 1, 1, 1])) == wanted  # a row of weight 2 is a row given twice
    assert again(x[1:], y[1:], np.array([0.5, 0.25, 0.25, 0.25, 0.25])) == wanted  # only ratios matter
    assert again(np.concatenate([x, x]), np.concatenate([y, y])) == wanted
    assert again(np.concatenate([x, x[:5]]), np.concatenate([y, y[:5]])) == wanted
    assert again(x, y, np.array([3.0, 0, 1, 1, 1, 2])) == {**wanted, (3, 7): 1}
    assert again(x, y, np.array([1.0, 1, 1.3, 1, 1, 1])) == dict.fromkeys(wanted, 0)  # no numbers of rows
    one = np.random.default_rng(0).normal(size=(9, 2))
    less = again(one, one[:, :1], np.array([1.0] * 8 + [0.5]))
    assert set(less.values()) == {0}  # one row that weighs less makes no copies of all others
    some = Rows.distinct(x, y, None).take(np.array([0, 3])).again
    assert some is not None and [*some] == [1, -1]


def test_a_copy_has_the_target_of_its_row(copied: Any) -> None:
    model, x, y = copied
    pool = model.state_.pool
    assert pool.copied == pytest.approx(1 - 1 / 62)  # all of 60 agreed: the rule of succession
    plain = replace(model.state_, pool=None)
    (_, mixture), *_ = plain.mixtures(x)
    p = mixture.components.base_dist
    scale, offset = model.state_.y_scaler.step[0], model.state_.y_scaler.offset[0]
    df, loc, width = (v[..., : len(x), 0].numpy() for v in (p.df, p.loc, p.scale))
    target, at = (y - offset) / scale, (y + 0.3 - offset) / scale
    assert pool.weight == 0.0  # of neighbors that are no copies nothing is known here
    networks = stats.t.pdf(at, df, loc, width)
    kernel = stats.t.pdf(at, df, target, np.minimum(pool.copy_scale, width))
    wanted = ((1 - pool.copied) * networks + pool.copied * kernel).mean((0, 1)) / scale
    np.testing.assert_allclose(model.pdf(x, y + 0.3), wanted, rtol=1e-4)
    np.testing.assert_allclose(model.predict_quantiles(x, [0.5])[:, 0], y, atol=0.02)
    assert np.abs(model.predict(x) - y).mean() < 0.05


def test_other_rows_are_predicted_as_without_copies(copied: Any) -> None:
    model, x, _ = copied
    moved = x + np.array([0.0, 1e-5])  # not the same features
    without = ProbMixRegressor(**TINY)
    without.__dict__.update(model.__dict__)
    without.state_ = replace(model.state_, pool=None)
    np.testing.assert_allclose(
        model.predict_quantiles(moved, LEVELS), without.predict_quantiles(moved, LEVELS), rtol=1e-6
    )
    assert np.abs(model.predict(moved) - model.predict(x)).max() > 1


def test_rows_of_one_x_that_differ_are_no_copies() -> None:
    """Measured again: the noise of each is its own."""
    x, y = noisy(150, 1)
    rng = np.random.default_rng(2)
    y_again = x[:, 0] + rng.normal(size=150)
    model = ProbMixRegressor(**TINY).fit(np.concatenate([x, x]), np.concatenate([y, y_again]))
    assert model.state_.pool is None
    half = rng.random(150) < 0.4  # and of a table in which some were copied and others measured again
    mixed = ProbMixRegressor(**TINY).fit(np.concatenate([x, x]), np.concatenate([y, np.where(half, y, y_again)]))
    pool = mixed.state_.pool
    assert pool is not None and pool.copied == pytest.approx(half.mean(), abs=0.02)
    alike, differing = x[half][:1], x[~half][:1]
    (_, part), *_ = mixed.state_.mixtures(np.concatenate([alike, differing]))
    shares = part.components.base_dist.logits.exp()[0, 0, :2, 0, -1]
    assert shares[0] == pytest.approx(pool.copied) and shares[1] == 0  # where two targets are known, neither is taken


def test_levels_that_no_row_had_are_no_copies() -> None:
    """What training is told of a level leaves out the row itself, and is then what a new level is told of."""
    x, y = noisy(300, 0)
    level = np.array([f"own {k}" if k < 40 else f"of many {k % 10}" for k in range(300)])
    more = np.concatenate([np.arange(300), np.arange(60)])
    table = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "level": level})
    model = ProbMixRegressor(**TINY).fit(table.iloc[more].reset_index(drop=True), y[more])
    with pytest.warns(UserWarning, match="levels that no row of the fit had"):
        found = model.predict(table.assign(level="new"))
    assert (np.abs(found - y) < 0.05).mean() < 0.1
    few = table.assign(level=[f"of many {k % 3}" for k in range(300)])  # indicators alone: all is as with numbers
    model = ProbMixRegressor(**TINY).fit(few.iloc[more].reset_index(drop=True), y[more])
    assert (np.abs(model.predict(few) - y) < 0.05).mean() > 0.9
    other = few.assign(level=[f"of many {(k + 1) % 3}" for k in range(300)])
    assert (np.abs(model.predict(other) - y) < 0.05).mean() < 0.1


def test_targets_that_agree_by_chance_are_no_copies() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(400, 2))
    y = (rng.random(400) < 0.03) * rng.integers(1, 4, 400) - 1.0  # nearly all are -1
    more = np.concatenate([np.arange(400), np.arange(80)])
    y = np.concatenate([y, (rng.random(80) < 0.03) * rng.integers(1, 4, 80) - 1.0])
    model = ProbMixRegressor(**TINY).fit(x[more], y)
    pool = model.state_.pool
    assert pool is None or pool.copied == 0.0


def test_a_value_that_many_rows_have_agrees_by_chance() -> None:
    """A target that is zero or else continuous: the density knows of no zeros."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 2))
    more = np.concatenate([np.arange(300), np.arange(200)])
    y = np.where(rng.random(500) < 0.7, 0.0, rng.normal(size=500))
    pool = ProbMixRegressor(**TINY, likelihood="student-t").fit(x[more], y).state_.pool
    assert pool is None or pool.copied == 0.0


@pytest.mark.parametrize("levels", [20, 40, 200])
def test_features_of_few_values_are_the_same_by_chance(levels: int) -> None:
    """A bootstrapped table, or means weighed by numbers of measurements: new rows there have targets of their own."""
    rng = np.random.default_rng(5)
    x = rng.integers(0, levels, (400, 2)) / levels
    y = x[:, 0] + rng.normal(size=400)
    drawn = rng.integers(0, 400, 400)
    for table in ((x[drawn], y[drawn]), (*_first_of_each(x, y), "weights")):
        weights = None if len(table) == 2 else rng.integers(1, 4, len(table[0])).astype(float)
        rows = Rows.distinct(table[0], table[1][:, None], weights)
        assert rows.again is not None and not rows.again.any()
        squares = np.column_stack([table[0], table[0] ** 2])  # that say the same
        again = Rows.distinct(squares, table[1][:, None], weights).again
        assert again is not None and not again.any()


def _first_of_each(x: Any, y: Any) -> tuple[Any, Any]:
    _, first = np.unique(x, axis=0, return_index=True)
    return x[first], y[first]


def test_few_rows_given_again_say_nothing() -> None:
    x, y = noisy(300, 0)
    more = np.concatenate([np.arange(300), np.arange(19)])
    assert ProbMixRegressor(**TINY).fit(x[more], y[more]).state_.pool is None


def test_rows_that_are_held_out_are_not_their_own_copies(copied: Any) -> None:
    """Conformal intervals of rows that are no copies hold as many as they should."""
    model, _, _ = copied
    x, y = noisy(600, 9)
    inside = model.predict_interval(x, 0.9, conformal=True)
    assert 0.84 < np.mean((inside[:, 0] <= y) & (y <= inside[:, 1])) < 0.96


def test_a_kernel_is_no_spike() -> None:
    """It lies within the interval that a target was rounded from, and need not be narrower."""
    assert stats.norm.cdf(0.5 / copy_scale(1.0)) > 0.9999 and copy_scale(1.0) == 0.125
    assert copy_scale(0.0) == copy_scale(1e-6) == 0.01


def test_saved_and_as_a_program_of_tensors(copied: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, _ = copied
    model.save(tmp_path / "model")
    wanted = model.predict_quantiles(x, LEVELS)
    np.testing.assert_array_equal(load(tmp_path / "model").predict_quantiles(x, LEVELS), wanted)
    written: list[Any] = []
    monkeypatch.setattr(programs, "write_program", lambda program, *_, **__: written.append(program))
    model.export("model.pt2", LEVELS)
    found = written[0](torch.tensor(x))
    np.testing.assert_allclose(found["quantiles"], wanted, rtol=1e-5, atol=1e-6)
    assert math.isclose(model.nll(x, model.predict(x)), model.nll(x[::-1], model.predict(x)[::-1]), rel_tol=1e-9)
