"""Users' tables: what is read, what is inferred, and what is refused in one sentence."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_probmix.experiments.data.tables import Task
from pyro_probmix.experiments.data.user_tables import load_table, random_split

SOUND = """age,height,kind,score
1,1.5,cat,10
2,2.5,dog,20
3,3.5,cat,30
4,4.5,dog,40
"""


def csv(folder: Path, text: str) -> Path:
    path = folder / "pets.csv"
    path.write_text(text, encoding="utf-8")
    return path


def parquet(folder: Path, frame: pd.DataFrame) -> Path:
    path = folder / "pets.parquet"
    frame.to_parquet(path)
    return path


@pytest.mark.parametrize(
    "name, shape, task, classes",
    [
        ("breast_cancer", (569, 30), "classification", 2),
        ("diabetes", (442, 10), "regression", 0),
        ("digits", (1797, 64), "classification", 10),
        ("iris", (150, 4), "classification", 3),
        ("linnerud", (20, 3), "regression", 0),
        ("wine", (178, 13), "classification", 3),
    ],
)
def test_the_embedded_sets(name: str, shape: tuple[int, int], task: Task, classes: int) -> None:
    table = load_table(name)
    assert table.x.shape == shape
    assert table.task == task
    assert len(table.classes) == classes
    assert table.y.shape == ((20, 3) if name == "linnerud" else shape[:1])


def test_an_embedded_set_takes_another_target() -> None:
    assert load_table("linnerud", "Pulse").target_names == ("Pulse",)
    assert load_table("linnerud", "Pulse").feature_names == ("Chins", "Situps", "Jumps", "Weight", "Waist")


def test_numbers_are_regressed_and_text_is_classified(tmp_path: Path) -> None:
    path = csv(tmp_path, SOUND)
    with pytest.raises(ValueError, match="feature column 'kind' cannot be read as numbers"):
        load_table(path, "score")
    table = load_table(path, "kind")
    assert table.task == "classification"
    assert table.classes == ("cat", "dog")
    np.testing.assert_array_equal(table.y, [0, 1, 0, 1])
    np.testing.assert_array_equal(table.x, [[1, 1.5, 10], [2, 2.5, 20], [3, 3.5, 30], [4, 4.5, 40]])
    assert table.feature_names == ("age", "height", "score")
    assert table.name == "pets.csv"


@pytest.mark.parametrize("target", ["a,b", " b , a "])
def test_several_targets(target: str, tmp_path: Path) -> None:
    table = load_table(csv(tmp_path, "a,x,b\n1,5,2\n3,6,4\n5,7,6\n7,8,8\n"), target)
    assert table.feature_names == ("x",)
    np.testing.assert_array_equal(np.sort(table.y), [[1, 2], [3, 4], [5, 6], [7, 8]])
    assert table.target_names == tuple(part.strip() for part in target.split(","))


def test_a_column_whose_name_has_a_comma(tmp_path: Path) -> None:
    assert load_table(csv(tmp_path, '"a,b",x\n1,5\n3,6\n5,7\n7,8\n'), "a,b").target_names == ("a,b",)


@pytest.mark.parametrize(
    "column, inferred",
    [
        (pd.Series([1, 2, 2, 1]), "regression"),
        (pd.Series([1, 2, 2, 1], dtype="Int64"), "regression"),
        (pd.Series([Decimal("1.5"), Decimal(2), Decimal(2), Decimal(1)]), "regression"),
        (pd.Series([True, False, False, True]), "classification"),
        (pd.Series([True, False, False, True], dtype="boolean"), "classification"),
        (pd.Series(["a", "b", "b", "a"]), "classification"),
        (pd.Series(["a", "b", "b", "a"], dtype=object), "classification"),
        (pd.Series(["b", "a", "a", "b"], dtype="category"), "classification"),
    ],
)
def test_the_kind_of_the_target_decides_the_task(column: pd.Series, inferred: Task, tmp_path: Path) -> None:
    path = parquet(tmp_path, pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": column}))
    assert load_table(path, "y").task == inferred


def test_the_task_can_be_named(tmp_path: Path) -> None:
    path = parquet(tmp_path, pd.DataFrame({"x": [1, 2, 3, 4], "few": [3, 5, 5, 3], "yes": [True, False, True, True]}))
    assert load_table(path, "few", "classification").classes == ("3", "5")
    np.testing.assert_array_equal(load_table(path, "yes", "regression").y, [1.0, 0.0, 1.0, 1.0])


def test_booleans_and_nullable_numbers_are_features(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [True, False, True, True], "b": pd.Series([1, 2, 3, 4], dtype="Int64"), "y": 1.0})
    np.testing.assert_array_equal(load_table(parquet(tmp_path, frame), "y").x, [[1, 1], [0, 2], [1, 3], [1, 4]])


def test_an_index_stored_in_the_file_is_no_feature(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [1, 2, 3, 4], "y": [1, 2, 3, 4]}, index=[7, 5, 3, 1])
    assert load_table(parquet(tmp_path, frame), "y").feature_names == ("x",)


def test_a_byte_order_mark_and_spaces_are_not_part_of_names(tmp_path: Path) -> None:
    assert load_table(csv(tmp_path, "\ufeffx, y\n1, 2\n2, 3\n3, 4\n4, 5\n"), "y").feature_names == ("x",)


@pytest.mark.parametrize(
    "text, target, message",
    [
        (
            SOUND,
            None,
            r"pets\.csv: no target column is named\. Try --target with one of 'age', 'height', 'kind', 'score'",
        ),
        (SOUND, "hieght", r"no column 'hieght'; there are 'age', .*\. Try 'height'\."),
        (SOUND, "kind,zzz", r"no column 'zzz'; there are .* Try one of these"),
        (SOUND, "kind,score", r"target column 'kind' cannot be read as numbers: 'kind' holds 'cat' at row 0"),
        (SOUND.replace("1.5", ""), "kind", r"'height' is nan at row 0 .* Try dropping"),
        (SOUND.replace("3.5", "inf"), "kind", r"'height' is inf at row 2"),
        (SOUND.replace("3.5", "?"), "kind", r"'height' cannot be read as numbers: 'height' holds '\?' at row 2 .*Try "),
        (SOUND.replace("30,", "").replace(",30", ","), "kind", r"'score' is nan at row 2"),
        (SOUND.replace("2.5,dog", "2.5,"), "kind", r"'kind' has no label at row 1"),
        (SOUND.replace("dog", "cat"), "kind", r"one class only, 'cat'"),
        (SOUND.replace("height", "age"), "kind", r"more than one column is named 'age'\. Try "),
        (SOUND.replace("height", ""), "kind", r"column 1 \(counted from 0\) has no name\. Try "),
        (SOUND.replace(",10", ",10,1").replace(",20", ",20,1"), "kind", r"a row has more fields than the 4 of"),
        ("x,y\n1,2,3\n1,2,3\n1,2,3\n1,2,3\n", "y", r"a row has more fields than the 2 of the header"),
        ("x;y\n1;2\n", "y", r"1 rows are too few"),  # a semicolon parts fields as well
        ("", "y", r"pets\.csv' is empty\. Try "),
        ("\n\n", "y", r"cannot be read as a csv table: No columns to parse"),
        ("x,y\n", "y", r"0 rows are too few"),
        ("y\n1\n2\n3\n4\n", "y", r"no feature columns\. Try "),
    ],
)
def test_a_bad_csv_is_refused_in_one_sentence(text: str, target: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_table(csv(tmp_path, text), target)
    assert "\n" not in str(caught.value)


def test_columns_of_text_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"feature columns 'a', 'c' cannot be read as numbers: 'a' holds 'u' at row 0 "
    ):
        load_table(csv(tmp_path, "a,b,c,y\nu,1,v,1\nu,1,v,1\nu,1,v,1\nu,1,v,1\n"), "y")


def test_dates_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=4), "y": [1, 2, 3, 4]})
    with pytest.raises(ValueError, match=r"'day' holds '2024-01-01 00:00:00' at row 0 .*Try encoding"):
        load_table(parquet(tmp_path, frame), "y")


def test_text_among_numbers_is_refused_as_a_target(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"target column 'y' cannot be read as numbers: 'y' holds 'many' at row 3 .* or a classification",
    ):
        load_table(csv(tmp_path, "x,y\n1,1\n2,2\n3,3\n4,many\n"), "y")


def test_several_targets_are_not_classified(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a classification has one target, got 'age', 'kind'\. Try "):
        load_table(csv(tmp_path, SOUND), "age,kind", "classification")


def test_a_csv_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "pets.csv").write_bytes(SOUND.replace("cat", "chât").encode("latin-1"))
    with pytest.raises(ValueError, match=r"pets\.csv' cannot be read as a csv table: 'utf-8' codec"):
        load_table(tmp_path / "pets.csv", "kind")


@pytest.mark.parametrize("content", [b"PAR1 not a table", b"PAR1" * 10])
def test_a_parquet_file_that_is_none_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "pets.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"pets\.parquet' cannot be read as a parquet table: .* Try ") as caught:
        load_table(tmp_path / "pets.parquet", "y")
    assert "\n" not in str(caught.value)


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    path = parquet(tmp_path, pd.DataFrame({"x": [1, 2, 3, 4], "y": [1, 2, 3, 4]}))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"pets\.parquet' cannot be read as a parquet table"):
        load_table(path, "y")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no file '.*wien', and no embedded data set of that name\. Try .*wine"):
        load_table(tmp_path / "wien")


def test_other_endings_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pets.xlsx").touch()
    (tmp_path / "pets.parquet").mkdir()
    with pytest.raises(ValueError, match=r"pets\.xlsx' does not end in \.csv or \.parquet\. Try "):
        load_table(tmp_path / "pets.xlsx", "y")
    with pytest.raises(ValueError, match=r"pets\.parquet' is a folder\. Try "):
        load_table(tmp_path / "pets.parquet", "y")


@pytest.mark.parametrize("n, sizes", [(4, (2, 1, 1)), (5, (3, 1, 1)), (100, (64, 16, 20)), (442, (283, 71, 88))])
def test_a_random_split_deals_every_row_once(n: int, sizes: tuple[int, int, int]) -> None:
    split = random_split(n, seed=0)
    assert (len(split.train), len(split.validation), len(split.test)) == sizes
    np.testing.assert_array_equal(np.sort(np.concatenate([split.train, split.validation, split.test])), np.arange(n))
    np.testing.assert_array_equal(random_split(n, seed=0).test, split.test)


def test_another_seed_is_another_split() -> None:
    assert not np.array_equal(random_split(100, seed=0).test, random_split(100, seed=1).test)


def test_too_few_rows_cannot_be_split() -> None:
    with pytest.raises(ValueError, match=r"3 rows are too few"):
        random_split(3, seed=0)
