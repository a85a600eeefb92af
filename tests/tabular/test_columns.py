"""Columns of a table as numbers: each kind, refusals and their messages, and the way through JSON."""

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
        ({"a": [1.0, None]}, r"column 'a' is missing at row 1 .*Try probmix fit --impute, or dropping the row\."),
        ({"a": [1.0, np.inf]}, r"column 'a' is infinite at row 1 .*Try dropping the row\."),
        ({"a": ["x", None]}, "column 'a' is missing at row 1 .*expected a category"),
        ({"a": [str(k) + "x" for k in range(200)]}, "column 'a' has 200 different texts, expected at most 100"),
        ({"a": ["1", "2", "three"]}, "column 'a' holds 'three' at row 2 .*found text among numbers"),
        ({"a": ["1", "2", "3,5"]}, "column 'a' holds '3,5' at row 2 .*Decimal commas"),
        ({"a": [b"x", b"y"]}, "column 'a' holds .* found bytes"),
        ({"a": ["3,14", "2,5", "-1,0"]}, "column 'a' holds '3,14' at row 0 .*Decimal commas.* Try points"),
        ({"a": ["1,234.5", "12,345.6", "1"]}, "column 'a' holds '1,234.5' at row 0 .*nothing between thousands"),
        ({"a": ["free", "$12.5", "-€3", "4 %"]}, r"column 'a' holds '\$12.5' at row 1 .*Try the number alone"),
        ({"a": [None, "31/12/2024", "1.2.24"]}, "column 'a' holds '31/12/2024' at row 1 .*Try writing dates as 2024"),
        ({"a": ["2024-01-01 ", "2024-01-02 "]}, "column 'a' holds '2024-01-01 ' at row 0 .*Try writing dates as 2024"),
        ({"a": ["2024-01-01", "2024-01-02", "?"]}, "column 'a' holds '\\?' at row 2 .*no date, unlike most rows"),
        (
            {"a": ["2024-01-01", "2024-02-30"]},
            "column 'a' holds '2024-02-30' at row 1 .*, expected a date of the calendar",
        ),
        ({"a": ["2024-01-01", "9999-12-31"]}, "column 'a' holds '9999-12-31' at row 1 .* between 1678 and 2261"),
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
        ({"a": ["3,14"], "b": ["x"]}, "column 'a' holds '3,14' at row 0 .*Decimal commas"),
        ({"a;b": ["1;x"]}, "no column 'a', 'b', .*Try a file with commas between its columns; this one has semicolons"),
    ],
)
def test_other_rows_that_do_not_fit(other, sentence):
    columns = Columns.fit(pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}))
    with pytest.raises(ValueError, match=sentence):
        columns.numbers(pd.DataFrame(other))


def test_gaps_that_no_training_row_had():
    """The median stands for them, or the most frequent category, if imputing was asked for; else they are refused."""
    days = ["2024-01-01", "2024-01-03", "2024-01-08"]
    frame = pd.DataFrame({"a": [1.0, 2.0, 9.0], "flag": [True, True, False], "k": ["y", "x", "y"], "day": days})
    gap = pd.DataFrame({"a": [None], "flag": [None], "k": [None], "day": [None]})
    columns = Columns.fit(frame, impute=True)
    again = Columns.from_record(json.loads(json.dumps(columns.record())))
    usual = pd.DataFrame({"a": [2.0], "flag": [True], "k": ["y"], "day": ["2024-01-03"]})
    np.testing.assert_array_equal(again.numbers(gap), again.numbers(usual))
    assert again.names == Columns.fit(frame).names  # no number for what never varied in training
    for name in frame:
        with pytest.raises(
            ValueError, match=f"column '{name}' is missing at row 0 .*Try probmix fit --impute, or dropping"
        ):
            Columns.fit(frame).numbers(frame.assign(**{str(name): None}))


def test_a_date_column_whose_other_rows_are_no_dates():
    columns = Columns.fit(pd.DataFrame({"day": ["2024-01-01", "2024-01-02"]}))
    with pytest.raises(ValueError, match=r"column 'day' holds '31/12/2024' at row 1 .*expected a date as in training"):
        columns.numbers(pd.DataFrame({"day": ["2024-12-31", "31/12/2024"]}))


@pytest.mark.parametrize(
    ("fitted", "other"),
    [
        (["true", "false", "unknown"], [True, False]),
        (["True", "False", "unknown"], ["TRUE", "false"]),
        (pd.Categorical(["1", "2", "3"]), [1.0, 2.0]),
        (pd.Categorical([1, 2, 3]), ["1", "2.0"]),
        (pd.Categorical([1.0, 2.0, 3.0]), [1, 2]),
        (pd.Categorical(["01", "02", "x"]), [1, 2]),
        (["1", "2", "3"], [1.0, 2.0]),
    ],
)
def test_a_category_is_the_same_however_a_file_is_parsed(fitted, other):
    columns = Columns.fit(pd.DataFrame({"k": fitted}))
    expected = columns.numbers(pd.DataFrame({"k": fitted}))[:2]
    np.testing.assert_array_equal(columns.numbers(pd.DataFrame({"k": other})), expected)


def test_truth_values_however_a_file_is_parsed():
    columns = Columns.fit(pd.DataFrame({"flag": [True, False]}))
    for other in (["true", "FALSE"], [1, 0], [1.0, 0.0], ["1", "0"]):
        np.testing.assert_array_equal(columns.numbers(pd.DataFrame({"flag": other})), [[1], [0]])
    with pytest.raises(ValueError, match=r"column 'flag' holds 'unknown' at row 1 .*expected true or false"):
        columns.numbers(pd.DataFrame({"flag": ["true", "unknown"]}))


def test_spellings_that_differ_in_training_stay_apart():
    frame = pd.DataFrame({"k": ["true", "True", "x"]})
    np.testing.assert_array_equal(Columns.fit(frame).numbers(frame), [[0, 1, 0], [1, 0, 0], [0, 0, 1]])


def test_no_two_numbers_share_a_name():
    frame = pd.DataFrame({"k": ["x", "y"], "k = x": [5.0, 6.0], "k = x'": [7.0, 8.0]})
    columns = Columns.fit(frame)
    assert columns.names == ("k = x", "k = y", "k = x'", "k = x''")
    np.testing.assert_array_equal(columns.numbers(frame), [[1, 0, 5, 7], [0, 1, 6, 8]])
