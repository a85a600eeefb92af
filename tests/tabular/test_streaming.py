"""probmix fit and predict on files in blocks: the numbers of the whole table, mistakes at their rows, little memory."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from pyro_probmix.cli import main
from pyro_probmix.tabular.model import TableModel


def table(n, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"size": rng.normal(size=n), "kind": rng.choice(["a", "b", "c"], n)})
    frame["price"] = 3 * frame["size"] + (frame["kind"] == "a")
    return frame


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    found = TableModel.fit(table(60), ["price"], epochs=1, ensemble=2, widths=(8, 8), random_state=0)
    found.save(tmp_path_factory.mktemp("streaming") / "model")
    return found, str(tmp_path_factory.getbasetemp().glob("streaming*/model").__next__())


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("pyro_probmix.tabular.streaming.BLOCK_ROWS", 37)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_predictions_in_blocks_are_those_of_the_whole_table(model, name, tmp_path, capsys):
    frame = table(200, seed=1).drop(columns="price")
    path = tmp_path / name
    frame.to_parquet(path, row_group_size=50) if name == "t.parquet" else frame.to_csv(path, index=False)
    expected = model[0].predict(frame)
    for out in ("p.csv", "p.parquet"):
        assert main(["predict", model[1], str(path), "--out", str(tmp_path / out)]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "p.csv"), expected, rtol=1e-12)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "p.parquet"), expected, rtol=1e-12)
    assert main(["predict", model[1], str(path)]) == 0
    printed = capsys.readouterr()
    assert printed.out == (tmp_path / "p.csv").read_text() and printed.err == ""  # no bar without a terminal


def test_new_levels_of_all_blocks_are_one_note(model, tmp_path, capsys):
    frame = table(200, seed=1)
    frame.loc[[3, 90, 170], "kind"], frame.loc[5, "kind"] = "z", None
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert main(["predict", model[1], str(tmp_path / "t.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "levels" in line]
    assert len(notes) == 1 and notes[0].endswith("column 'kind' in 3 of 199 rows, such as 'z'.")


def test_a_mistake_is_said_with_its_row_and_nothing_is_written(model, tmp_path, capsys):
    frame = table(200, seed=1)
    frame.loc[150, "size"] = np.inf
    frame.to_csv(tmp_path / "t.csv", index=False)
    for more in ([], ["--out", str(tmp_path / "p.csv")]):
        assert main(["predict", model[1], str(tmp_path / "t.csv"), *more]) == 1
        printed = capsys.readouterr()
        assert "column 'size' is infinite at row 150 (rows counted from 0)" in printed.err and printed.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize("name", ["t.csv.gz", "t.feather", "t.csv"])
def test_a_fit_in_blocks_is_that_of_the_whole_table(name, tmp_path, capsys, monkeypatch):
    frame, options = table(60), ["--target", "price", "--epochs", "1", "--ensemble", "2"]
    frame.to_feather(tmp_path / name) if name == "t.feather" else frame.to_csv(tmp_path / name, index=False)
    frame.to_csv(tmp_path / "whole.csv", index=False)
    assert main(["fit", str(tmp_path / "whole.csv"), *options, "--out", str(tmp_path / "whole")]) == 0
    monkeypatch.setattr("pyro_probmix.tables.sampling.LARGE_BYTES", 0)
    assert main(["fit", str(tmp_path / name), *options, "--out", str(tmp_path / "blocks")]) == 0
    assert capsys.readouterr().err == ""
    one, other = (TableModel.load(tmp_path / folder).predict(frame[:9]) for folder in ("whole", "blocks"))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_fit_of_some_rows_says_how_many(tmp_path, capsys, monkeypatch):
    table(3000).to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.setattr("pyro_probmix.tables.sampling.LARGE_BYTES", 0)
    monkeypatch.setattr("pyro_probmix.tables.sampling.MOST_ROWS", 100)
    options = ["--target", "price", "--epochs", "1", "--ensemble", "2", "--out", str(tmp_path / "model")]
    assert main(["fit", str(tmp_path / "t.csv"), *options]) == 0
    printed = capsys.readouterr()
    assert "note: the table has 3000 rows; the model is fitted to 100 of them, drawn at random" in printed.err
    assert "; 100 rows, 2 features; regression on price" in printed.out


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the peak differs")
@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_file_of_a_gibibyte_takes_less_memory(model, name, tmp_path):
    path, part = tmp_path / name, table(200_000, seed=1)
    part["note"] = ["nothing that a model would need, but a text as it stands in tables"] * len(part)
    if name == "t.csv":
        text = part.to_csv(index=False).encode()
        head, rows = text.split(b"\n", 1)
        with path.open("wb") as file:
            file.write(head + b"\n")
            while file.tell() < 1 << 30:
                file.write(rows)
    else:
        rng, size = np.random.default_rng(0), 0
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetWriter(path, pa.Table.from_pandas(part.assign(more=0.0)).schema) as writer:
            while size < 1 << 30:
                numbers = {name: rng.normal(size=len(part)) for name in ("size", "more")}
                writer.write_table(pa.Table.from_pandas(part.assign(**numbers)))
                size = path.stat().st_size
    code = f"""
import resource, sys
from pyro_probmix.cli import main
code = main(["predict", {model[1]!r}, {str(path)!r}, "--out", {str(tmp_path / "p.parquet")!r}])
print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    returned, peak = map(int, done.stdout.split())
    assert returned == 0, done.stderr
    assert peak < 1 << 20  # in KiB
