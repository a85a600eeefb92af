"""Tables with texts, categories, dates and gaps straight into the estimators, from every kind of frame."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.utils import get_tags

from pyro_probmix import ProbMixClassifier, ProbMixRegressor, load
from pyro_probmix.estimators.ensemble.rows import Scaler

TINY: dict[str, Any] = {"ensemble": 2, "widths": (16, 8), "epochs": 40, "learning_rate": 0.02, "num_samples": 4}


def teams(n: int = 300) -> tuple[pd.DataFrame, np.ndarray]:
    """A target that is decided by a column of many texts, an ordered one and a skewed number, in which there are gaps."""
    rng = np.random.default_rng(0)
    effect, team = rng.normal(size=60), rng.integers(0, 60, n)
    size, skewed = rng.integers(0, 3, n), rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "team": [f"team {k}" for k in team],
            "size": pd.Categorical(np.array(["S", "M", "L"])[size], ["S", "M", "L"], ordered=True),
            "income": np.exp(3 * skewed),
            "flag": pd.array([[True, False, None][k] for k in rng.integers(0, 3, n)], dtype="boolean"),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 99, n), unit="D"),
        }
    )
    frame.loc[rng.uniform(size=n) < 0.1, "income"] = np.nan
    return frame, effect[team] + size + np.where(frame["income"].isna(), 3.0, skewed) + 0.1 * rng.normal(size=n)


@pytest.fixture(scope="module")
def fitted():
    frame, y = teams()
    return ProbMixRegressor(random_state=0, **TINY).fit(frame[:240], y[:240])


def test_it_learns_from_texts_order_skewed_numbers_and_gaps(fitted):
    frame, y = teams()
    assert fitted.score(frame[240:], y[240:]) > 0.6  # by the numbers alone less than 0.45 can be reached
    assert {column.name: column.kind for column in fitted.columns_.columns} == {
        "team": "category", "size": "ordered", "income": "number", "flag": "boolean", "day": "date"
    }  # fmt: skip


def test_few_rows_of_a_table_with_categories_have_no_periodic_features_unless_asked_for(fitted):
    frame, y = teams(700)
    assert fitted.state_.recipe.periodic == 0
    quick = {**TINY, "epochs": 1, "random_state": 0}
    numbers = ProbMixRegressor(**quick).fit(frame[["income", "flag", "day"]][:60], y[:60])
    asked = ProbMixRegressor(periodic=3, **quick).fit(frame[:60], y[:60])
    many = ProbMixRegressor(warm_start=True, **quick).fit(frame, y)
    again = many.fit(frame[:300], y[:300])  # goes on with the network of the first fit
    assert [model.state_.recipe.periodic for model in (numbers, asked, many, again)] == [8, 3, 8, 8]


@pytest.mark.parametrize("form", ["polars", "Arrow", "Arrow-backed", "loaded"])
def test_predictions_are_the_same_from_every_form(fitted, form, tmp_path):
    frame, _ = teams()
    made = {
        "polars": lambda: pl.from_pandas(frame.astype({"size": str})),
        "Arrow": lambda: pa.Table.from_pandas(frame),
        "Arrow-backed": lambda: frame.convert_dtypes(dtype_backend="pyarrow"),
        "loaded": lambda: frame,
    }[form]()
    model = fitted
    if form == "loaded":
        fitted.save(tmp_path / "model")
        model = load(tmp_path / "model")
    np.testing.assert_array_equal(model.predict(made), fitted.predict(frame))


def test_levels_and_gaps_that_no_row_had(fitted):
    frame, _ = teams()
    odd = frame[:3].assign(team=["team 3 ", "a new one", "another"], size="XL")
    with pytest.warns(UserWarning) as told:
        found = fitted.predict(odd)
    assert [str(one.message) for one in told] == [
        "levels that no row of the fit had are read as other ones: column 'team' in 2 of 3 rows, such as 'a new one'; column "
        "'size' in 3 of 3 rows, such as 'XL', so that it may be another column than that of the fit."
    ]
    assert np.isfinite(found).all()
    with pytest.warns(UserWarning, match="column 'size' in 3 of 3 rows, such as 'XL'"):
        known = fitted.predict(odd.assign(team="team 3"))
    np.testing.assert_array_equal(found[0], known[0])
    with pytest.warns(UserWarning, match="values of 'day' are missing, and none was in the rows of the fit"):
        assert np.isfinite(fitted.predict(pd.DataFrame({**frame[:3], "day": pd.NaT}))).all()


def test_classes_of_an_array_of_objects_and_of_lists():
    frame, y = teams()
    rows, labels = frame.drop(columns=["day", "flag"]).to_numpy(dtype=object), np.where(y > 1, "high", "low")
    model = ProbMixClassifier(random_state=0, **TINY).fit(rows[:240], labels[:240])
    assert model.score(rows[240:], labels[240:]) > 0.75
    np.testing.assert_array_equal(model.predict(rows[:5].tolist()), model.predict(rows[:5]))


def test_nan_in_an_array():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = X[:, 0] + 2 * (X[:, 1] > 1)
    X[X[:, 1] > 1, 1] = np.nan  # the gap itself tells
    model = ProbMixRegressor(random_state=0, **TINY).fit(X, y)
    assert model.score(X, y) > 0.9
    with pytest.raises(ValueError, match="infinity"):
        model.predict(np.full((1, 3), np.inf))


def test_streams_and_fits_that_go_on():
    frame, y = teams()
    model = ProbMixRegressor(random_state=0, **TINY)
    for start in (0, 100, 200):
        model.partial_fit(frame[start : start + 100], y[start : start + 100])
    # The first rows decide which levels there are.
    with pytest.warns(UserWarning, match="column 'team' in 34 of 300 rows"):
        assert np.isfinite(model.nll(frame, y))
    model = ProbMixRegressor(random_state=0, warm_start=True, **TINY).fit(frame[:200], y[:200])
    other = frame[200:].assign(team=frame["team"][:100].to_numpy())
    before = model.nll(other, y[200:])
    assert model.fit(frame[:200], y[:200]).nll(other, y[200:]) < before + 0.3


def test_a_table_that_tells_nothing():
    frame = pd.DataFrame({"a": [None] * 30, "b": ["x"] * 30, "name": [f"n{k}" for k in range(30)]})
    y = np.random.default_rng(0).normal(size=30)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = ProbMixRegressor(random_state=0, **TINY).fit(frame, y)
    assert len(caught) == 3 and np.ptp(model.predict(frame)) < 1e-6


def test_rare_indicators_are_not_divided_by_their_deviation():
    rare = np.zeros((600, 2))
    rare[:2, 0], rare[:, 1] = 1, np.arange(600) % 2
    scaled = Scaler.fit(rare, np.ones(600), indicators=True).transform(rare)
    assert np.ptp(scaled[:, 0]) == np.ptp(scaled[:, 1]) == 2 and abs(scaled.mean()) < 1e-12


def test_codes_for_missing_values_are_named():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.uniform(20, 60, 100), "b": rng.normal(size=100)})
    frame.loc[:3, "age"] = 999
    with pytest.warns(
        UserWarning, match="column 'age' holds 999 in 4 of 100 rows.*a code for a missing value.*Try NaN"
    ):
        ProbMixRegressor(random_state=0, **{**TINY, "epochs": 1}).fit(frame, frame["b"])


def test_an_encoder_of_ones_own_takes_numbers_alone():
    frame, y = teams()
    model = ProbMixRegressor(encoder=torch.nn.Linear(5, 8), **TINY)
    with pytest.raises(ValueError, match=r"an encoder of your own cannot take.*Try encoder=None"):
        model.fit(frame, y)
    assert not get_tags(model).input_tags.categorical and get_tags(ProbMixRegressor()).input_tags.allow_nan


@pytest.mark.parametrize(
    "labels",
    [
        ["a", None, "b"] * 10,
        [True, None, False] * 10,
        ["a", float("nan"), "b"] * 10,  # NumPy makes a text of it
        pd.Series(["a", pd.NA, "b"] * 10, dtype="string"),
        pd.Series(pd.Categorical(["a", None, "b"] * 10)),
        pl.Series(["a", None, "b"] * 10),
        pa.array(["a", None, "b"] * 10),
    ],
)
def test_classes_that_are_missing_are_named(labels):
    x = np.random.default_rng(0).normal(size=(30, 2))
    model = ProbMixClassifier(random_state=0, **TINY)
    with pytest.raises(
        ValueError, match=r"y contains NaN: it is missing in 10 of 30 rows, the first of them row 1 .*Try"
    ):
        model.fit(x, labels)


def test_a_frame_of_odd_columns_and_one_that_is_not_as_in_the_fit():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "month": pd.period_range("2020-01", periods=40, freq="M"),
            "until": pd.Series([pd.Timestamp("9999-12-31"), None] * 20),
            "wait": pd.to_timedelta(rng.integers(0, 99, 40), unit="h"),
            "level": pd.Categorical(rng.choice(["p", "q"], 40), ["z", "q", "p"]),
            "code": pd.Categorical(rng.choice([5, 10, 20], 40)),
        }
    )
    y = rng.normal(size=40)
    for model, targets in (
        (ProbMixRegressor(random_state=0, **{**TINY, "epochs": 2}, likelihood="gaussian"), y),
        (ProbMixClassifier(random_state=0, **{**TINY, "epochs": 2}), y > 0),
    ):
        model.fit(frame, targets)
        assert {c.name: c.kind for c in model.columns_.columns} == {
            "month": "date", "until": "date", "wait": "duration", "level": "category", "code": "category"
        }  # fmt: skip
        expected = model.predict(frame)
        alike = frame.assign(
            level=frame["level"].astype(str), code=frame["code"].astype(float), month=frame["month"].dt.to_timestamp()
        )
        np.testing.assert_array_equal(model.predict(alike), expected)
        with pytest.raises(ValueError, match=r"column 'wait' of X holds '3', expected durations.*Try"):
            model.predict(frame.assign(wait=3))
        for other in (frame[frame.columns[::-1]], frame.drop(columns="code"), frame.assign(extra=1)):
            with pytest.raises(ValueError, match="feature names should match those that were passed during fit"):
                model.predict(other)
        with pytest.raises(ValueError, match=r"0 sample\(s\).*Try"):
            model.predict(frame[:0])
        with pytest.warns(UserWarning, match="values of 'level' are missing, and none was in the rows of the fit"):
            gone = model.predict(frame.assign(level=None))
        assert len(gone) == 40 and not pd.isna(gone).any()


@pytest.mark.parametrize(("dtype", "labels"), [("boolean", [True, False]), ("Int64", [3, 7]), ("Float64", [1.0, 2.0])])
def test_classes_of_pandas_own_types_stay_what_they_are(dtype, labels):
    y = pd.Series(labels * 10, dtype=dtype)
    model = ProbMixClassifier(random_state=0, **TINY).fit(np.arange(20.0)[:, None], y)
    assert model.classes_.tolist() == sorted(labels) and type(model.classes_.tolist()[0]) is type(labels[0])
