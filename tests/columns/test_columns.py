"""Columns as numbers: every kind of frame and dtype, levels, gaps, means of levels, skewed numbers, records, codes."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from pyro_probmix.columns.by_tensors import Inputs
from pyro_probmix.columns.expansion import Expansion
from pyro_probmix.columns.frames import frame_of
from pyro_probmix.columns.level_means import LevelMeans
from pyro_probmix.columns.quantiles import Scores, is_skewed
from pyro_probmix.columns.schema import Schema
from pyro_probmix.columns.sentinels import code_for_missing

ROWS = 40


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "number": rng.normal(size=ROWS),
            "whole": pd.array([None, *range(1, ROWS)], dtype="Int64"),
            "true": pd.array([True, None, *(rng.uniform(size=ROWS - 2) < 0.5)], dtype="boolean"),
            "kind": pd.Categorical(rng.choice(["p", "q", "r"], ROWS)),
            "size": pd.Categorical(rng.choice(["S", "M", "L"], ROWS), ["S", "M", "L"], ordered=True),
            "text": pd.array([None, *rng.choice(["x", "y"], ROWS - 1)], dtype="string"),
            "arrow": pd.array(rng.choice(["u", "v"], ROWS), dtype="string[pyarrow]"),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(ROWS), unit="D"),
        }
    )
    return frame


FORMS = {
    "pandas": lambda frame: frame,
    "Arrow-backed": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "objects": lambda frame: frame.astype({name: object for name in ("whole", "true", "text", "arrow", "day")}),
    "polars": lambda frame: pl.from_pandas(frame.astype({"size": str})).with_columns(
        pl.col("size").cast(pl.Enum(["S", "M", "L"]))
    ),
    "Arrow": lambda frame: pa.Table.from_pandas(frame),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_the_same_in_every_form(form):
    frame = table()
    expected = Schema.fit(frame)
    assert [column.kind for column in expected.columns] == [
        "number", "number", "boolean", "category", "ordered", "category", "category", "date"
    ]  # fmt: skip
    other = frame_of(FORMS[form](frame))
    assert other is not None
    np.testing.assert_array_equal(expected.numbers(other), expected.numbers(frame))
    assert Schema.fit(other) == expected


def test_the_numbers_are_those_of_the_table():
    frame = table()
    numbers = Schema.fit(frame).numbers(frame)
    np.testing.assert_array_equal(numbers[:, 0], frame["number"])
    assert np.isnan(numbers[0, 1]) and numbers[5, 1] == 5
    np.testing.assert_array_equal(numbers[:, 4], [["S", "M", "L"].index(level) for level in frame["size"]])
    assert numbers[0, 7] == 18262  # days from 1970 to 2020


@pytest.mark.parametrize(
    ("values", "kind", "first"),
    [
        ([pd.Timedelta(hours=12)] * 3, "duration", 0.5),
        ([pd.Timestamp("1970-01-02 12:00", tz="Asia/Tokyo").to_pydatetime()] * 3, "date", 1.125),
        ([pd.Timestamp("2020-01-01 18:00").time()] * 3, "time", 0.75),
        ([pd.Timestamp("1970-01-03").date()] * 3, "date", 2.0),
        (["1.5", "2", "3"], "number", 1.5),
        (["01002", "1002", "01002"], "category", 0.0),
        (["x ", "x", " y"], "category", 0.0),
        ([True, False, None], "boolean", 1.0),
        ([10**30, 2, 3], "number", 1e30),
    ],
)
def test_kinds(values, kind, first):
    frame = pd.DataFrame({"a": pd.Series(values, dtype=object)})
    schema = Schema.fit(frame)
    assert schema.columns[0].kind == kind and schema.numbers(frame)[0, 0] == pytest.approx(first)
    if kind == "category":
        assert len(schema.columns[0].levels) == 2


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([f"name {k}" for k in range(32)], "names rows, with 32 different texts in 32"),
        ([None] * 32, "no value in any row"),
        ([3.0] * 32, "the value '3.0' in every row"),
        (pd.Categorical([f"k{k}" for k in range(32)]), "names rows"),
    ],
)
def test_what_is_left_out_with_a_word(values, word):
    frame = pd.DataFrame({"odd one": values})
    with pytest.warns(UserWarning, match=f"column 'odd one' .*{word}.*left out"):
        assert Schema.fit(frame).columns[0].kind == "none"


@pytest.mark.parametrize("values", [[1.0, 2.0, "x"], [b"a", b"b", b"a"], [1 + 2j, 3.0, 1.0]])
def test_what_is_refused_names_all_columns_at_once(values):
    with pytest.raises(ValueError, match=r"column 'a' of X.*Try.*column 'b' of X.*Try"):
        Schema.fit(pd.DataFrame({"a": values, "fine": [1, 2, 3], "b": values}))


def test_other_rows_whose_values_are_of_another_kind():
    schema = Schema.fit(pd.DataFrame({"a": [1.0, 2.0], "b": [True, False], "c": pd.to_datetime(["2020", "2021"])}))
    frame = pd.DataFrame({"a": [1.0, "rotary", 3.0], "b": [True] * 3, "c": pd.to_datetime(["2020"] * 3)})
    with pytest.warns(UserWarning, match="column 'a' holds 'rotary' .*in 1 rows: they are taken as missing"):
        np.testing.assert_array_equal(schema.numbers(frame)[:, 0], [1.0, np.nan, 3.0])
    with pytest.raises(ValueError, match=r"'a'.*'x' at row 1 .*number.*'b' .*true or false.*'c'.*dates"):
        schema.numbers(pd.DataFrame({"a": [1.0, "x"], "b": ["yes", True], "c": ["soon", "later"]}))


def expansion_of(frame: pd.DataFrame, y: np.ndarray, classes: bool = False) -> tuple[Schema, Expansion]:
    schema = Schema.fit(frame)
    fitted = Expansion.fit(schema, schema.numbers(frame), y[:, None], np.ones(len(y)), classes=classes, seed=0)
    return schema, fitted


def test_plain_numbers_stay_bit_for_bit():
    numbers = np.random.default_rng(0).normal(size=(50, 3))
    _, expansion = expansion_of(pd.DataFrame(numbers), numbers[:, 0])
    assert expansion.is_plain and expansion.num_smooth == expansion.num_inputs == 3
    np.testing.assert_array_equal(expansion.inputs(numbers), numbers)
    gap = numbers.copy()
    gap[0, 1] = np.nan
    assert expansion.inputs(gap)[0, 1] == pytest.approx(numbers[:, 1].mean()) and expansion.new_gaps(gap) == [1]


def test_categories_have_indicators_and_a_level_of_no_row_is_other():
    frame = pd.DataFrame({"k": ["a"] * 20 + ["b"] * 10 + ["rare", "seldom"]})
    y = np.arange(32.0)
    schema, expansion = expansion_of(frame, y)
    rows = schema.numbers(pd.DataFrame({"k": ["a", "b", "rare", "unseen", None]}))
    flat = expansion.inputs(rows)[:, 2:]  # the mean of the target and the count come first
    np.testing.assert_array_equal(flat, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
    schema, expansion = expansion_of(
        frame[:30], y[:30]
    )  # without rare levels a strange one is an average of the others
    np.testing.assert_allclose(expansion.inputs(rows[3:]), np.array(2 * [[2 / 3, 1 / 3]]))


def test_a_gap_has_an_indicator():
    frame = pd.DataFrame({"a": [1.0, np.nan, 4.0] * 10, "k": ["x", "y", None] * 10})
    schema, expansion = expansion_of(frame, np.arange(30.0))
    expected = [[1, 0, 1, 0, 0], [2.5, 1, 0, 1, 0], [4, 0, 0, 0, 1]]
    np.testing.assert_allclose(expansion.inputs(schema.numbers(frame[:3])), np.array(expected))


def test_a_value_of_many_rows_has_an_indicator_beside_categories():
    spent = np.where(np.arange(40) % 3 == 0, 0.0, np.arange(40) / 7)
    frame = pd.DataFrame({"spent": spent, "some": np.arange(40) % 7.0, "k": ["x", "y"] * 20})
    schema, expansion = expansion_of(frame, np.arange(40.0))
    rows = np.array([[0.0, 0.0, 0.0], [1.5, 1.0, 1.0], [np.nan, np.nan, 1.0]])
    assert [part.often for part in expansion.parts] == [0.0, None, None]
    np.testing.assert_array_equal(expansion.inputs(rows)[:, 2:], [[1, 1, 0], [0, 0, 1], [0, 0, 1]])
    tensors = Inputs(expansion)(torch.tensor(rows))
    np.testing.assert_allclose(tensors.numpy(), expansion.inputs(rows))
    assert expansion_of(frame[["spent", "some"]], np.arange(40.0))[1].is_plain
    again = Expansion.from_record(json.loads(json.dumps(expansion.record())), schema)
    assert again == expansion
    for odd in ("x", np.inf, True):
        with pytest.raises(ValueError, match="column"):
            Expansion.from_record([{**expansion.record()[0], "often": odd}, *expansion.record()[1:]], schema)


def test_means_of_levels_are_those_of_other_rows():
    """A row's own target moves its own number by nothing, and a level's mean is drawn to the mean of all."""
    rng = np.random.default_rng(0)
    level, weights = rng.integers(0, 30, 300).astype(float), np.ones(300)
    y = rng.normal(size=(300, 1))
    means, own = LevelMeans.fit(level, y, weights, 30, seed=0)
    changed = y.copy()
    changed[7] += 3.0
    assert LevelMeans.fit(level, changed, weights, 30, seed=0)[1][7, 0] == pytest.approx(own[7, 0], rel=0.3)
    # Of pure noise nothing is left: the numbers of the rows do not correlate with their own targets.
    assert abs(np.corrcoef(own[:, 0], y[:, 0])[0, 1]) < 3 / np.sqrt(300)
    assert np.abs(means.means).max() < 0.3
    signal = rng.normal(size=30)[level.astype(int)][:, None]
    found = LevelMeans.fit(level, signal + 0.1 * y, weights, 30, seed=0)[0]
    assert np.corrcoef(found(level)[:, 0], signal[:, 0])[0, 1] > 0.99


def test_a_row_alone_in_its_level_has_the_numbers_of_a_level_that_no_row_has():
    """Else a network never sees in training what it gets of a new level."""
    level = np.array([*np.repeat(np.arange(3.0), 20), 3.0, np.nan])
    means, own = LevelMeans.fit(level, np.random.default_rng(0).normal(size=(62, 1)), np.ones(62), 5, seed=0)
    for new in (-1.0, 4.0):
        np.testing.assert_array_equal(own[60], means(np.array([new]))[0])
    np.testing.assert_array_equal(own[61], means(level)[61])
    np.testing.assert_array_equal(own[:, 1], means(level)[:, 1])


def test_a_row_of_weight_two_is_two_rows():
    frame = pd.DataFrame({"k": ["a", "b", "c"] * 20, "v": np.exp(3 * np.random.default_rng(0).normal(size=60))})
    y, weights = np.arange(60.0)[:, None], np.where(np.arange(60) < 20, 2.0, 1.0)
    schema = Schema.fit(frame)
    rows = schema.numbers(frame)
    weighted = Expansion.fit(schema, rows, y, weights, classes=False, seed=0)
    twice = np.repeat(np.arange(60), weights.astype(int))
    repeated = Expansion.fit(schema, rows[twice], y[twice], np.ones(80), classes=False, seed=0)
    np.testing.assert_allclose(weighted.inputs(rows), repeated.inputs(rows), rtol=1e-9)


def test_scores_of_skewed_numbers():
    z = np.sort(np.random.default_rng(0).normal(size=1000))
    scores = Scores.fit(np.exp(3 * z), np.ones(1000))
    assert np.corrcoef(scores(np.exp(3 * z)), z)[0, 1] > 0.995
    far = scores(np.array([-1e9, 0.0, 1e300, 1e308]))
    assert (np.diff(far) > 0).all() and np.isfinite(far).all()
    assert is_skewed(np.append(z, 1e6), np.ones(1001)) and not is_skewed(np.sin(3 * z), np.ones(1000))


@pytest.mark.parametrize("classes", [False, True])
def test_json_is_enough_and_each_field_is_checked(classes):
    frame = table()
    frame["text"] = [f"t{k % 12}" for k in range(ROWS)]
    frame["skewed"] = np.exp(3 * frame["number"])
    y = np.arange(ROWS) % 3.0
    schema, expansion = expansion_of(frame, y, classes=classes)
    record = json.loads(json.dumps(expansion.record()))
    again = Schema.from_record(json.loads(json.dumps(schema.record())))
    assert again == schema and Expansion.from_record(record, again) == expansion
    rows = schema.numbers(frame)
    np.testing.assert_array_equal(Expansion.from_record(record, again).inputs(rows), expansion.inputs(rows))
    bad: list[dict[str, object]] = [
        {"kind": "date"}, {"middle": "x"}, {"middle": np.inf}, {"gaps": 1}, {"levels": [0]}, {"levels": [-1], "shares": [1.0]},
        {"scores": {"knots": [1.0, 1.0], "scores": [0.0, 1.0]}}, {"scores": [1]}, {"other": True}, {"more": 1},
        {"means": {"means": [[0.0]], "counts": [1.0]}},
    ]  # fmt: skip
    for change in bad:
        with pytest.raises((ValueError, TypeError)):
            Expansion.from_record([{**record[0], **change}, *record[1:]], schema)
    wrong: list[dict[str, object]] = [{"kind": "odd"}, {"levels": ["x"]}, {"name": 3}, {"levels": [3]}]
    for change in wrong:
        with pytest.raises(ValueError, match="column"):
            Schema.from_record([{**schema.record()[0], **change}])


def test_codes_for_missing_values():
    values = np.random.default_rng(0).normal(50, 10, 200)
    for code in (999999, -999, 1e6, 9999, -99999):
        assert code_for_missing(np.append(values, [code])) == (code, 1)
    assert code_for_missing(np.tile([1e308, -1e308], 20)) is None
    for value in (99, 120.0, 12345678.0):
        assert code_for_missing(np.append(values, [value])) is None
    assert code_for_missing(np.exp(3 * np.random.default_rng(1).normal(size=500))) is None


def test_tables_that_are_no_frames_or_not_yet():
    assert frame_of(np.ones((2, 2))) is None and frame_of([[1, 2]]) is None
    with pytest.raises(TypeError, match=r"yet to be computed.*Try X.collect"):
        frame_of(pl.DataFrame({"a": [1]}).lazy())
    for dicts in ({"a": [1, 2]}, [{"a": 1}, {"a": 2}]):
        with pytest.raises(TypeError, match=r"dict.*, expected an array, or a table. Try pandas.DataFrame"):
            frame_of(dicts)
    with pytest.raises(ValueError, match="two columns of X are named 'a'"):
        frame_of(pa.table([[1], [2]], names=["a", "a"]))


@pytest.mark.parametrize(
    ("values", "kind", "numbers"),
    [
        (pd.Series([Fraction(1, 2), None, Fraction(1, 4)]), "number", [0.5, np.nan, 0.25]),
        (pd.Series([Decimal("0.5"), Decimal("NaN"), 2], dtype=object), "number", [0.5, np.nan, 2]),
        (pd.Series([10**30, None, 3], dtype=object), "number", [1e30, np.nan, 3]),
        (pd.Series([None, True, False], dtype=object), "boolean", [np.nan, 1, 0]),
        (pd.Series(pd.PeriodIndex(["1970-02", None, "1970-01"], freq="M")), "date", [31, np.nan, 0]),
        (pd.Series([datetime.datetime(9999, 12, 31), None, pd.Timestamp("1970-01-02")]), "date", [2932896, np.nan, 1]),
        (
            pd.Series([pd.Timestamp("1970-01-02", tz="Etc/GMT-12"), datetime.date(1, 1, 1), pd.NaT]),
            "date",
            [0.5, -719162, np.nan],
        ),
        (pd.Series([datetime.timedelta(hours=12), None, pd.Timedelta(2, "D")]), "duration", [0.5, np.nan, 2]),
    ],
)
def test_odd_values_are_what_they_mean(values, kind, numbers):
    schema = Schema.fit(values.to_frame("a"))
    assert [column.kind for column in schema.columns] == [kind]
    np.testing.assert_array_equal(schema.numbers(values.to_frame("a"))[:, 0], numbers)


def test_columns_of_arrow_types_in_a_frame_of_pandas():
    plain = pa.table(
        {
            "level": pa.array(["p", None, "q"]).dictionary_encode(),
            "length": pa.array([datetime.timedelta(1), None, datetime.timedelta(2)]),
            "price": pa.array([Decimal("1.5"), None, Decimal(2)]),
            "number": [1.0, 2.0, 3.0],
        }
    )
    frame = plain.to_pandas(types_mapper=pd.ArrowDtype).set_axis([5, 5, 7])
    taken, expected = frame_of(frame), frame_of(plain)
    assert taken is not None and expected is not None
    schema = Schema.fit(taken)
    assert schema == Schema.fit(expected)
    assert [column.kind for column in schema.columns] == ["category", "duration", "number", "number"]
    np.testing.assert_array_equal(schema.numbers(taken), schema.numbers(expected))


@pytest.mark.parametrize(
    "as_frame", [pa.table, pl.DataFrame, lambda data: pa.table(data).to_pandas(types_mapper=pd.ArrowDtype)]
)
def test_names_that_floats_cannot_tell_apart_beside_a_gap_are_categories(as_frame):
    frame = frame_of(as_frame({"id": [2**60, None, 2**60 + 1] * 5, "few": [1, None, 3] * 5}))
    assert frame is not None
    schema = Schema.fit(frame)
    assert [column.kind for column in schema.columns] == ["category", "number"]
    np.testing.assert_array_equal(schema.numbers(frame)[:3], [[0, 1], [np.nan, np.nan], [1, 3]])


@pytest.mark.parametrize(
    ("values", "other", "sentence"),
    [
        # Without a unit it would be a number of nanoseconds.
        (pd.to_timedelta([1, 2], unit="D"), [1.5, 2.5], "'1.5', expected durations.*Try pandas.to_timedelta"),
        (pd.to_timedelta([1, 2], unit="D"), pd.to_datetime(["2020-01-01", "2020-02-01"]), ".*, expected durations"),
        (
            pd.to_datetime(["2020-01-01", "2020-02-01"]),
            pd.Series([pd.Timestamp(0), "soon"]),
            "'soon', expected dates.*Try",
        ),
        (pd.to_datetime(["2020-01-01", "2020-02-01"]), [1.0, 2.0], "'1.0', expected dates.*Try pandas.to_datetime"),
        (["x", "y"], [b"x", b"y"], "b'x', expected texts.*Try"),
        ([1.0, 2.0], pd.Series([10**400, 1], dtype=object), "an integer above 1.8e.308.*Try other units"),
    ],
)
def test_values_of_another_kind_than_in_the_fit_are_one_sentence(values, other, sentence):
    schema = Schema.fit(pd.DataFrame({"a": values}))
    with pytest.raises(ValueError, match=f"column 'a' of X holds {sentence}"):
        schema.numbers(pd.DataFrame({"a": other}))


def test_what_no_column_can_be():
    for values in ([1j, 1.0, 2.0], np.array([1j, 2.0, 1.0])):
        with pytest.raises(ValueError, match=r"column 'a' of X is complex, expected real numbers.*Try"):
            Schema.fit(pd.DataFrame({"a": pd.Series(values)}))
    with pytest.raises(TypeError, match=r"structured array, expected .*Try pandas.DataFrame\(X\)"):
        frame_of(np.zeros(3, dtype=[("a", "f8"), ("b", "i4")]))
