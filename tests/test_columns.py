"""Columns of a table as numbers: each kind, what is refused and in which words, and JSON as their memory."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from pyro_probmix.tabular.columns import Columns


def test_numbers_categories_and_dates():
    frame = pd.DataFrame(
        {
            "n": [1, 2, 3],
            "flag": [True, False, True],
            "colour": ["red", "blue", "red"],
            "day": ["1970-01-01", "1970-01-08", "1971-01-01 06:00"],
        }
    )
    columns = Columns.fit(frame)
    numbers = columns.numbers(frame)
    assert columns.names[:4] == ("n", "flag", "colour = blue", "colour = red")
    np.testing.assert_array_equal(numbers[:, :5], [[1, 1, 0, 1, 0], [2, 0, 1, 0, 7], [3, 1, 0, 1, 365.25]])
    named = dict(zip(columns.names, numbers.T, strict=True))
    np.testing.assert_allclose(named["day sin of year"], [0, np.sin(2 * np.pi * 7 / 365.25), 0], atol=1e-9)
    np.testing.assert_allclose(named["day cos of week"][:2], [1, 1])


def test_json_is_enough():
    days = pd.Series([pd.Timestamp("2020-01-01"), pd.NaT, pd.Timestamp("2021-05-05")])
    frame = pd.DataFrame({"a": [0.1, None, 3.0], "b": ["x", None, "ä"], "c": days})
    columns = Columns.fit(frame, impute=True)
    again = Columns.from_record(json.loads(json.dumps(columns.record())))
    assert again == columns
    np.testing.assert_array_equal(again.numbers(frame), columns.numbers(frame))
    assert columns.numbers(frame)[1, 0] == 1.55 and np.isfinite(columns.numbers(frame)).all()


def test_other_rows_have_the_training_rows_columns():
    columns = Columns.fit(pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}))
    other = pd.DataFrame({"extra": ["?"], "b": ["y"], "a": [5]})
    np.testing.assert_array_equal(columns.numbers(other), [[5, 0, 1]])


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        ({"a": [1.0, None]}, r"column 'a' is missing at row 1 .*Try to impute missing values \(--impute\)"),
        ({"a": [1.0, np.inf]}, "column 'a' is infinite at row 1 .*Try to drop the row"),
        ({"a": ["x", None]}, "column 'a' is missing at row 1 .*expected a category"),
        ({"a": [str(k) + "x" for k in range(200)]}, "column 'a' has 200 different texts, expected at most 100"),
        ({"a": ["1", "2", "three"]}, "column 'a' holds 'three' at row 2 .*found text among numbers"),
        ({"a": [b"x", b"y"]}, "column 'a' holds .* found bytes"),
        ({}, "no feature columns"),
    ],
)
def test_what_is_refused(frame, sentence):
    with pytest.raises(ValueError, match=sentence):
        Columns.fit(pd.DataFrame(frame))


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"b": ["x"]}, "the table has no column 'a', expected the features 'a', 'b'"),
        ({"a": [1.0], "b": ["z"]}, "column 'b' holds 'z' at row 0 .*expected one of 'x', 'y'"),
        ({"a": ["2020-01-01"], "b": ["x"]}, "column 'a' holds '2020-01-01' at row 0 .*expected a number"),
        ({"a": ["one"], "b": ["x"]}, "column 'a' holds 'one' at row 0 .*expected a number"),
        ({"a": [None], "b": ["x"]}, "column 'a' is missing at row 0"),
    ],
)
def test_other_rows_that_do_not_fit(other, sentence):
    columns = Columns.fit(pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}))
    with pytest.raises(ValueError, match=sentence):
        columns.numbers(pd.DataFrame(other))


def test_what_no_training_row_lacked_is_refused_even_if_imputed():
    columns = Columns.fit(pd.DataFrame({"a": [1.0, 2.0]}), impute=True)
    with pytest.raises(ValueError, match="column 'a' is missing at row 0"):
        columns.numbers(pd.DataFrame({"a": [np.nan]}))
