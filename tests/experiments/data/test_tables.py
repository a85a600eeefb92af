"""Tables, splits, scaling and the toy data sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyro_probmix.experiments.data.tables import Standardizer, Table, train_validation_split
from pyro_probmix.experiments.data.toy import toy_classification, toy_regression

X = np.arange(10.0).reshape(5, 2)
Y = np.arange(5.0)


def test_a_table_names_its_columns() -> None:
    table = Table("t", X, Y[:, None])
    assert table.feature_names == ("x0", "x1")
    assert table.target_names == ("y",)
    assert table.x.dtype == table.y.dtype == np.float64
    assert table.y.shape == (5,)


def test_several_targets_keep_their_columns() -> None:
    table = Table("t", X, X[:, ::-1])
    assert table.target_names == ("y0", "y1")
    assert table.y.shape == (5, 2)


@pytest.mark.parametrize(
    "labels, classes, codes",
    [
        (["b", "a", "b", "b", "a"], ("a", "b"), [1, 0, 1, 1, 0]),
        ([3, 1, 3, 3, 1], ("1", "3"), [1, 0, 1, 1, 0]),
        ([True, False, True, True, False], ("False", "True"), [1, 0, 1, 1, 0]),
        (np.array([3, "a", 3, 3, "a"], dtype=object), ("3", "a"), [0, 1, 0, 0, 1]),
    ],
)
def test_labels_become_positions_in_the_classes(labels: Any, classes: tuple[str, ...], codes: list[int]) -> None:
    table = Table("t", X, labels, task="classification")
    assert table.classes == classes
    assert table.y.dtype == np.int64
    np.testing.assert_array_equal(table.y, codes)


def test_positions_in_given_classes_are_kept() -> None:
    table = Table("t", X, np.array([2, 0, 0, 2, 2]), task="classification", classes=("a", "b", "c"))
    np.testing.assert_array_equal(table.y, [2, 0, 0, 2, 2])


def with_cell(value: object) -> np.ndarray:
    x = X.astype(object)
    x[3, 1] = value
    return x


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(x=with_cell(np.nan)), r"t: feature column 'x1' is nan at row 3 .*expected finite.* Try "),
        (dict(x=with_cell(-np.inf)), r"t: feature column 'x1' is -inf at row 3 "),
        (dict(x=with_cell("red")), r"t: feature column 'x1' holds 'red' at row 3 .*expected numbers\. Try "),
        (dict(x=X.astype("datetime64[D]")), r"t: feature column 'x0' holds '1970-01-01' at row 0 "),
        (dict(x=X + 1j), r"t: feature column 'x0' holds '1j|\(0\+1j\)' at row 0 "),
        (dict(x=X[:, 0]), r"shape \[5\], expected \[rows, columns\]\. Try "),
        (dict(x=X[:, :0]), r"no feature columns\. Try "),
        (dict(y=np.where(Y == 2, np.nan, Y)), r"t: target column 'y' is nan at row 2 "),
        (dict(y=np.where(X == 3, np.inf, X)), r"t: target column 'y1' is inf at row 1 "),
        (dict(y=["a", "b", "c", "d", "e"]), r"t: target column 'y' holds 'a' at row 0 "),
        (dict(y=Y[:4]), r"5 rows of features but 4 targets\. Try "),
        (dict(y=Y[:, None, None]), r"shape \[5, 1, 1\], expected \[rows\] or \[rows, targets\]"),
        (dict(x=X[:3], y=Y[:3]), r"3 rows are too few .*Try a table with 4"),
        (dict(x=X[:0], y=Y[:0]), r"0 rows are too few"),
        (dict(y=X, task="classification"), r"shape \[5, 2\], expected \[rows\]"),
        (dict(y=["a"] * 5, task="classification"), r"'y' holds one class only, 'a'; .*Try "),
        (dict(y=list("abcde"), task="classification"), r"'y' holds 5 classes in 5 rows, no two alike\. Try "),
        (dict(y=np.array(["a", "b", None, "a", "b"]), task="classification"), r"'y' has no label at row 2 .*Try "),
        (dict(y=[0.0, 1.0, 0.0, np.nan, np.nan], task="classification"), r"no label at row 3 .*2 such rows.*Try "),
        (
            dict(y=[0, 1, 2, 1, 0], task="classification", classes=("a", "b")),
            r"labels from 0 to 2 for 2 classes\. Try ",
        ),
        (dict(feature_names=("a",)), r"1 feature_names for 2 columns\. Try "),
        (dict(task="ranking"), r"unknown task 'ranking'\. Try "),
    ],
)
def test_a_bad_table_is_refused_in_one_sentence(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Table("t", **{"x": X, "y": Y, **fields})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n, validating", [(2, 1), (3, 1), (100, 20), (277, 55)])
def test_validation_rows_are_a_fifth_and_every_row_is_dealt_once(n: int, validating: int) -> None:
    train, validation = train_validation_split(n, seed=3)
    assert len(validation) == validating
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(n))


def test_the_seed_decides_the_split() -> None:
    a, b, c = (train_validation_split(50, seed=seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("n, fraction, message", [(1, 0.2, "1 rows cannot be dealt"), (9, 1.0, "fraction=1.0")])
def test_an_impossible_split_is_refused(n: int, fraction: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_validation_split(n, fraction, seed=0)


@pytest.mark.parametrize("shape", [(7,), (7, 3), (4, 7, 3)])
def test_standardised_columns_have_mean_0_and_deviation_1(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(5.0, 3.0, shape)
    scaler = Standardizer.fit(values)
    axis = 0 if len(shape) < 3 else 1
    np.testing.assert_allclose(scaler.transform(values).mean(axis), 0.0, atol=1e-14)
    np.testing.assert_allclose(scaler.transform(values).std(axis), 1.0, rtol=1e-14)
    np.testing.assert_allclose(scaler.inverse(scaler.transform(values)), values, rtol=1e-14)


def test_each_stacked_table_is_scaled_by_its_own_rows() -> None:
    stack = np.random.default_rng(0).normal(5.0, 3.0, (4, 7, 3))
    scaler = Standardizer.fit(stack)
    shared = scaler.transform(stack[2])
    assert shared.shape == (4, 7, 3)
    np.testing.assert_array_equal(shared[2], Standardizer.fit(stack[2]).transform(stack[2]))
    np.testing.assert_array_equal(scaler.transform(stack)[3], Standardizer.fit(stack[3]).transform(stack[3]))


@pytest.mark.parametrize("value", [0.0, 0.1, -1e9])
def test_a_constant_column_has_scale_1(value: float) -> None:
    # The computed deviation of seven times 0.1 is 1e-17, not 0.
    scaler = Standardizer.fit(np.full((7, 1), value))
    assert scaler.scale == 1.0
    np.testing.assert_allclose(scaler.inverse(scaler.transform(np.full((2, 1), value))), value)


def test_toy_regression_has_its_distribution() -> None:
    n = 20_000
    train, test = toy_regression(seed=0, n=n, n_test=n)
    assert train.x.min() >= -4 and train.x.max() <= 4 <= test.x.min() and test.x.max() <= 6
    for table in (train, test):
        noise = table.y - table.x[:, 0] ** 3
        # Standard errors: of the mean 3 / sqrt(n), of the variance 9 sqrt(2 / n).
        assert abs(noise.mean()) < 4 * 3 / n**0.5
        assert abs(noise.var() - 9) < 4 * 9 * (2 / n) ** 0.5


def test_toy_classification_has_its_distribution() -> None:
    n = 30_000
    train, test = toy_classification(seed=0, n=99, n_test=n)
    np.testing.assert_array_equal(np.bincount(train.y), [33, 33, 33])
    for k, radius in enumerate((0.5, 1.5, 2.5)):
        ring = test.x[test.y == k]
        # E|x|^2 = r^2 + 2 * 0.09, with variance 4 * 0.09 (r^2 + 0.09).
        error = (4 * 0.09 * (radius**2 + 0.09) / len(ring)) ** 0.5
        assert abs((ring**2).sum(-1).mean() - radius**2 - 0.18) < 4 * error
        assert np.abs(ring.mean(0)).max() < 4 * ((radius**2 / 2 + 0.09) / len(ring)) ** 0.5


@pytest.mark.parametrize("toy", [toy_regression, toy_classification])
def test_a_toy_table_is_its_seeds(toy: Any) -> None:
    np.testing.assert_array_equal(toy(seed=4)[0].x, toy(seed=4)[0].x)
    assert not np.array_equal(toy(seed=4)[0].x, toy(seed=5)[0].x)
    assert len(toy(seed=4)[0].x) == 100 and len(toy(seed=4)[1].x) == 1000
