"""Rows of large files drawn at random: all of them where they fit, each as likely as any other, in bounded memory."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_probmix.tables import sampling
from pyro_probmix.tables.reading import read_table
from pyro_probmix.tables.sampling import is_large, sampled_rows


def table(n: int = 6000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "row": np.arange(n),
        "code": [*map(str, range(1, n)), "007"],  # which its last row tells
        "kind": rng.choice(["x", "NA", "blue, or so"], n),
        "truth": rng.random(n) > 0.5,
        "gap": np.where(np.arange(n) > n - 5, np.nan, np.arange(n)),
    })  # fmt: skip


def write(frame: pd.DataFrame, path: Any) -> Any:
    if path.suffix == ".parquet":
        frame.to_parquet(path, row_group_size=700)
    elif path.suffix == ".feather":
        frame.to_feather(path)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet", "t.feather"])
def test_all_rows_are_the_table_read_whole(name: str, tmp_path: Any) -> None:
    whole = read_table(write(table(), tmp_path / f"whole.{'csv' if 'csv' in name else 'parquet'}"))
    told: tuple[list[float], list[float]] = [], []
    found, total = sampled_rows(write(table(), tmp_path / name), 0, told[0].append, told[1].append)
    pd.testing.assert_frame_equal(found, whole)
    assert total == len(whole) and whole["code"].iloc[-1] == "007"
    assert all(shares == sorted(shares) and shares[-1] > 0.99 for shares in told)


def test_each_row_is_as_likely_as_any_other(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MOST_ROWS", 300)
    path = write(table()[["row", "kind"]], tmp_path / "t.csv")
    times = np.zeros(6000)
    for seed in range(40):
        found, total = sampled_rows(path, seed)
        rows = found["row"].to_numpy()
        assert total == 6000 and len(rows) == 300 and (np.diff(rows) > 0).all()
        times[rows] += 1
    # Of 12,000 draws a tenth of the rows gets 1200, with a standard error of at most 32.
    assert (np.abs(times.reshape(10, -1).sum(1) - 1200) < 4 * 32).all()
    again, _ = sampled_rows(path, 39)
    assert again.equals(found)
    assert not sampled_rows(path, 38)[0].equals(found)


def test_the_bytes_of_texts_bound_the_rows(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MOST_BYTES", 1 << 20)
    path = tmp_path / "t.csv"
    pd.DataFrame({"a": [f"{k:01000d}" for k in range(9000)]}).to_csv(path, index=False)
    found, total = sampled_rows(path)
    assert total == 9000 and 300 < len(found) <= 1100
    assert found["a"].is_monotonic_increasing and found["a"].is_unique


def test_large_files_and_other_kinds_are_read_in_blocks(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write(table(), tmp_path / name) for name in ("t.csv", "t.parquet", "t.csv.gz", "t.feather")]
    assert [*map(is_large, paths)] == [False, False, True, True]
    monkeypatch.setattr(sampling, "LARGE_BYTES", 5 * 8 * 6000 - 1)  # of the values; the Parquet file itself is smaller
    assert [*map(is_large, paths)] == [paths[0].stat().st_size > 5 * 8 * 6000 - 1, True, True, True]
    with pytest.raises(ValueError, match=r"no file .*Try"):
        is_large(tmp_path / "none.csv")


def test_a_file_without_rows_has_none(tmp_path: Any) -> None:
    (tmp_path / "t.csv").write_text("a,b\n")
    found, total = sampled_rows(tmp_path / "t.csv")
    assert total == len(found) == 0 and list(found.columns) == ["a", "b"]
