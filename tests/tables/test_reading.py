"""Tables from files and to files: what takes too much memory is refused, and no text is handed on as a formula."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from pyro_probmix.cli import main
from pyro_probmix.tables.blocks import TableBlocks
from pyro_probmix.tables.reading import MOST_BYTES, read_table

ROWS = 2_000_000


def bomb(path: Path, kind: str) -> None:
    """Millions of rows in a file of some KiB."""
    if kind == "texts":  # 2 GB of them, in which 1 KB recurs
        column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS, np.int32)), pa.array(["x" * 1000]))
        table = pa.table({"a": column.cast(pa.dictionary(pa.int32(), pa.string()))})
    elif kind == "fixed":  # texts of one length, which recur too
        column = pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(ROWS, np.int32)), pa.array([b"x" * 1000], pa.binary(1000))
        )
        table = pa.table({"a": column})
    elif kind == "columns":
        table = pa.table({f"a{k}": pa.array(np.zeros(ROWS)) for k in range(80)})
    else:  # lists of values, in fewer rows
        values = pa.array(np.zeros(10 * ROWS), pa.float32())
        table = pa.table(
            {f"a{k}": pa.FixedSizeListArray.from_arrays(values, 10_000).cast(pa.list_(pa.float32())) for k in range(8)}
        )
    pq.write_table(table, path, compression="zstd", row_group_size=ROWS)
    assert path.stat().st_size < 1 << 20


@pytest.mark.parametrize("kind", ["texts", "fixed", "columns", "lists"])
def test_a_small_file_of_a_large_table_is_refused_in_little_memory(kind: str, tmp_path: Path) -> None:
    bomb(tmp_path / "t.parquet", kind)
    code = (
        "import sys; from pathlib import Path; from pyro_probmix.tables.reading import read_table\n"
        "try: read_table(Path(sys.argv[1]))\n"
        "except ValueError as error: print(error)\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"  # the peak, in KiB
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "t.parquet")], capture_output=True, text=True, check=True
    )
    said, peak = done.stdout.splitlines()
    assert "t.parquet' holds" in said and "which take more than 1024 MiB of memory, expected less. Try" in said
    assert int(peak) < 500 << 10


def test_two_million_rows_that_fit_are_read(tmp_path: Path) -> None:
    table = pa.table({"a": np.zeros(ROWS), "k": pa.array(["p"] * ROWS)})
    pq.write_table(table, tmp_path / "t.parquet", compression="zstd")
    assert (tmp_path / "t.parquet").stat().st_size < 66 << 10
    frame = read_table(tmp_path / "t.parquet")
    assert len(frame) == ROWS and frame["k"].eq("p").all() and 17 * ROWS < MOST_BYTES


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_formulas_are_quoted_on_request(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "plain", "text"]
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60), "=y": rng.permutation(names * 10)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    model, table, out = (str(tmp_path / name) for name in ("model", "t.csv", f"p.{suffix}"))
    assert (
        main(
            [
                "fit",
                table,
                "--target",
                "=y",
                "--task",
                "classification",
                "--epochs",
                "1",
                "--ensemble",
                "1",
                "--out",
                model,
            ]
        )
        == 0
    )
    read = pd.read_csv if suffix == "csv" else pd.read_parquet
    assert main(["predict", model, table, "--out", out]) == 0
    plain = read(out)
    assert main(["predict", model, table, "--out", out, "--quote-formulas"]) == 0
    quoted = read(out)
    assert (
        plain.columns[0] == "=y" and quoted.columns[0] == "'=y" and list(quoted.columns[1:]) == list(plain.columns[1:])
    )
    assert any(str(name).startswith(("=", "+", "@")) for name in plain["=y"])
    for was, now in zip(plain["=y"].astype(str), quoted["'=y"].astype(str), strict=True):
        assert now == (was if was in ("plain", "text") else f"'{was}")
    pd.testing.assert_frame_equal(plain.iloc[:, 1:], quoted.iloc[:, 1:])


AS_IT_IS = pd.DataFrame({"a": [1, 2, 3], "k": ["x", "y", "x"], "y": [0.5, 1.5, 2.5]})


@pytest.mark.parametrize(
    "text",
    [
        "a;k;y\n1;x;0.5\n2;y;1.5\n3;x;2.5\n",
        "a\tk\ty\n1\tx\t0.5\n2\ty\t1.5\n3\tx\t2.5\n",
        "a|k|y\n1|x|0.5\n2|y|1.5\n3|x|2.5\n",
        " a    k   y\n 1    x   0.5\n 2    y   1.5\n 3    x   2.5\n",
        "sep=;\na;k;y\n1;x;0.5\n2;y;1.5\n3;x;2.5\n",
        "# by hand, in 2024\n#\na,k,y\n1,x,0.5\n2,y,1.5\n3,x,2.5\n",
        ",a,k,y\n0,1,x,0.5\n1,2,y,1.5\n2,3,x,2.5\n",
        ";a;k;y;\n7;1;x;0.5;\n8;2;y;1.5;\n9;3;x;2.5;\n",
        "a,k,y,,\n1,x,0.5,,\n2,y,1.5,,\n3,x,2.5,,\n",
        "\ufeffa; k; y\r\n1; x; 0.5\r\n2; y; 1.5\r\n3; x; 2.5\r\n",
    ],
)
def test_files_as_people_write_them_are_read_whole_and_in_blocks(text: str, tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "t.csv").write_bytes(text.encode(encoding))
        pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), AS_IT_IS)
        blocks = TableBlocks(tmp_path / "t.csv", AS_IT_IS.columns, 2)
        pd.testing.assert_frame_equal(
            pd.concat([frame for frame, _ in blocks], ignore_index=True), AS_IT_IS, check_dtype=False
        )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("#id,a\n7,8\n9,8\n", ["#id", "a"]),  # a header, for all its sign
        ("a,tags\n1,x;y;z\n2,x;y;z\n", ["a", "tags"]),
        ("a,b\n1,2\n3,4|5\n", ["a", "b"]),
        ('a,"b;c;d"\n1,2\n', ["a", "b;c;d"]),
        ("full name, age\nJane Doe, 3\nJohn Smith, 4\n", ["full name", "age"]),
    ],
)
def test_commas_stay_where_they_part_the_columns(text: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert list(read_table(tmp_path / "t.csv").columns) == names


def test_a_column_without_a_name_that_tells_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",a\n3,1\n9,2\n3,3\n")
    with pytest.raises(ValueError, match=r"column 0 .counted from 0. has no name"):
        read_table(tmp_path / "t.csv")


def test_whole_numbers_keep_their_last_digits_beside_a_gap(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"id,y\n{2**60},1\n,2\n{2**60 + 1},3\n")
    table = pa.table({"id": [2**60, None, 2**60 + 1], "y": [1, None, 3]})
    pq.write_table(table, tmp_path / "t.parquet")
    feather.write_feather(table, str(tmp_path / "t.arrow"), chunksize=2)
    for name in ("t.csv", "t.parquet"):
        assert [value for value in read_table(tmp_path / name)["id"] if not pd.isna(value)] == [2**60, 2**60 + 1]
    for name in ("t.parquet", "t.arrow"):
        whole = pd.concat([frame for frame, _ in TableBlocks(tmp_path / name, None, 1)])
        assert [value for value in whole["id"] if not pd.isna(value)] == [2**60, 2**60 + 1]


def test_parquet_of_half_precision_and_of_two_columns_of_one_name(tmp_path: Path) -> None:
    half = np.array([0.5, np.nan, 65504.0], np.float16)
    pq.write_table(pa.table({"a": half}), tmp_path / "half.parquet")
    np.testing.assert_array_equal(read_table(tmp_path / "half.parquet")["a"], half)
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "twice.parquet")
    with pytest.raises(ValueError, match=r"more than one column is named 'a'.*Try"):
        read_table(tmp_path / "twice.parquet")
