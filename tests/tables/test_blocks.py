"""Tables in blocks are the tables read whole: the kinds of all columns, the order, the mistakes; in bounded memory."""

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from pyro_probmix.tables.blocks import TableBlocks
from pyro_probmix.tables.reading import read_table


def table(n=3000):
    """Columns whose first rows look like another kind than the whole has."""
    rng = np.random.default_rng(0)
    late = np.arange(n) >= n - 2
    return pd.DataFrame({
        "number": rng.normal(size=n),
        "gap": np.where(late, np.nan, np.arange(n)),
        "code": [*["007", "7", "1.50"] * (n // 3 - 1), "1", "2", "x"],
        "truth": np.where(late, "maybe", "True"),
        "also": rng.choice(["True", "False"], n),
        "text": rng.choice(["red", "blue, or so", 'a "quote"', "two\nlines", "ünï"], n),
        "day": pd.Series(["2024-12-31"] * (n - 2) + [None] * 2, dtype=object),
        "counts": np.arange(n) * 10**15,
    })  # fmt: skip


def write(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False, row_group_size=700)
    elif path.suffix in (".arrow", ".feather"):
        pa.feather.write_feather(pa.Table.from_pandas(frame, preserve_index=False), str(path), chunksize=900)
    else:
        frame.to_csv(path, index=False)
    return path


def in_blocks(path, columns, rows=500):
    parts = [frame for frame, _ in TableBlocks(path, columns, rows)]
    assert max(map(len, parts)) <= rows
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet", "t.arrow", "t.feather"])
def test_blocks_are_the_table_read_whole(name, tmp_path, monkeypatch):
    monkeypatch.setattr("pyro_probmix.tables.csv_rows.FIRST_ROWS", 100)
    frame = table()
    path = write(frame, tmp_path / name)
    whole = read_table(write(frame, tmp_path / f"whole.{'csv' if 'csv' in name else 'parquet'}"))
    columns = [c for c in frame.columns if c != "also"]
    found = in_blocks(path, ["not there", *columns])
    assert list(found.columns) == columns
    for column in columns:
        a, b = found[column], whole[column]
        assert (a.isna() == b.isna()).all(), column
        assert [x if isinstance(x, str) else float(x) for x in a.dropna()] == [
            x if isinstance(x, str) else float(x) for x in b.dropna()
        ], column


def test_numbers_as_text_are_numbers_where_all_of_them_are(tmp_path):
    frame = pd.DataFrame({"a": ["1", "2.5"] * 600, "b": ["1", "2.5"] * 599 + ["1", "x"]})
    found = in_blocks(write(frame, tmp_path / "t.parquet"), ["a", "b"])
    assert found["a"].to_list() == [1.0, 2.5] * 600 and found["b"].to_list() == frame["b"].to_list()


def test_the_share_that_is_done_rises_to_one(tmp_path):
    for name in ("t.csv", "t.csv.gz", "t.parquet", "t.arrow"):
        told: list[float] = []
        found = TableBlocks(write(table(), tmp_path / name), ["number", "text"], 500, told.append)
        shares = [share for _, share in found]
        assert told == sorted(told) and shares == sorted(shares) and shares[-1] > 0.99


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a,b\n" + "1,2\n" * 2000 + "1,2,3\n", "Expected 2 fields in line 2002"),
     ("a,b\n" + "1,2,3\n" * 20, "more fields than the 2 of the header"),
     ("a,a\n1,2\n", "more than one column is named 'a'"),
     ("", "is empty"),
     ("a,b\n" + "1,2\n" * 1500 + "1,x\0y\n", r"NUL character in row 1500"),
     ("a,b\n1,\xff\n", "cannot be read")],
)  # fmt: skip
def test_mistakes_are_those_of_the_table_read_whole(text, reason, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode("latin-1"))
    for read in (read_table, lambda path: in_blocks(path, ["a", "b"])):
        with pytest.raises(ValueError, match=reason) as caught:
            read(path)
        assert "Try " in str(caught.value) and "\n" not in str(caught.value)


def test_a_small_compressed_file_with_a_line_that_does_not_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pyro_probmix.tables.csv_text.MOST_BLOCK_BYTES", 1 << 22)
    monkeypatch.setattr("pyro_probmix.tables.csv_text.BLOCK_BYTES", 1 << 16)
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n" + b"1" * (1 << 23)))
    with pytest.raises(ValueError, match="MiB of text together"):
        in_blocks(path, ["a"])
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 99)[:-20])
    with pytest.raises(ValueError, match="cannot be read"):
        in_blocks(path, ["a"])


def test_columns_of_other_values_are_refused(tmp_path):
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.table({"a": [[1, 2]], "b": [b"12"]}), path)
    for name in ("a", "b"):
        with pytest.raises(ValueError, match=f"column '{name}' holds values of type"):
            in_blocks(path, [name])


def test_a_text_that_recurs_takes_no_room(tmp_path):
    """Rows in a file of some MiB, of 4 KiB of text in each, which is there once in each block."""
    path, part = tmp_path / "t.parquet", pa.table({"a": ["x" * 4096] * 1000})
    with pa.parquet.ParquetWriter(path, part.schema) as writer:
        for _ in range(150):
            writer.write_table(part)
    assert path.stat().st_size < 1 << 22 < 150_000 * 4096 >> 7
    rows = 0
    for frame, _ in TableBlocks(path, ["a"]):
        assert len({id(text) for text in frame["a"]}) == 1
        rows += len(frame)
    assert rows == 150_000
