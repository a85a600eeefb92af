"""Lines of a CSV file that are no rows of its table, and rows that are too short: read as meant, with a word, or refused."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_probmix.cli import main
from pyro_probmix.tables.blocks import TableBlocks
from pyro_probmix.tables.footers import without_footer
from pyro_probmix.tables.reading import read_table
from pyro_probmix.tabular.streaming import table_to_fit

TABLE = pd.DataFrame({"a": [1.5, 2.5, 3.5, 4.5], "k": ["x", "y", "x", "z"], "y": [4, 5, 6, 7]})
ROWS = ("1.5,x,4\n", "2.5,y,5\n", "3.5,x,6\n", "4.5,z,7\n")


def read_twice(path: Path, columns: list[str]) -> tuple[list[pd.DataFrame], list[list[str]]]:
    """The table of a file read whole and in blocks of two rows, and what is said of each."""
    tables, notes = [], []
    for whole in (True, False):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if whole:
                tables.append(read_table(path))
            else:
                blocks = TableBlocks(path, columns, 2)
                tables.append(pd.concat([frame for frame, _ in blocks], ignore_index=True))
        notes.append([str(one.message) for one in caught])
    return tables, notes


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("a,k,y\nkg,,m\n" + "".join(ROWS), "line 2 has texts, as 'kg'"),
        ("a,k,y\nmass,kind,height\n(kg),,(m)\n" + "".join(ROWS), "line 2 has texts, as 'mass'"),
        ("a,k,y\n" + ROWS[0] + ROWS[1] + "a,k,y\n" + ROWS[2] + "\ufeffa,k,y\r\n" + ROWS[3] + "a,k,y", "left out: 3, .* line 4"),
        ("# one\na,k,y\n" + ROWS[0] + ROWS[1] + "# one\na,k,y\n" + ROWS[2] + ROWS[3], "left out: 2, .* line 5"),
        ("Sales of 2024\n\na,k,y\n" + "".join(ROWS), "header is line 3: .* 'Sales of 2024'"),
        ("Sales of 2024,,\nby me,,\n,,\na,k,y\n" + "".join(ROWS), "header is line 4"),
        ("% by me\r\na,k,y\r\n" + "".join(ROWS).replace("\n", "\r\n"), "header is line 2"),
        ("# by me, 2024, here\na,k,y\n" + "".join(ROWS), None),
        ("a,k,y\n" + "".join(ROWS).replace("\n", ",\n"), None),
        ("a;k;y\n" + "".join(ROWS).replace(",", ";").replace("\n", ";\n"), None),
        ("a,k,y,\n" + "".join(ROWS), None),
        ('"a" "k" "y"\n"1" 1.5 "x" 4\n"2" 2.5 "y" 5\n"5" 3.5 "x" 6\n"9" 4.5 "z" 7\n', "a name fewer than"),
        ("a\tk\ty\nRX4 wag\t1.5\tx\t4\nRX4\t2.5\ty\t5\nX1\t3.5\tx\t6\nX2\t4.5\tz\t7\n", "a name fewer than"),
        ("a;k;y\n1.5;x;4\n2.5;y;5\n3.5;x;6\n4.5;z;7\n", None),
        ("a,k,y\n1,1.5,x,4\n2,2.5,y,5\n3,3.5,x,6\n7,4.5,z,7\n", "a name fewer than"),
    ],
)  # fmt: skip
def test_lines_that_are_no_rows_are_left_out_with_a_word(text: str, note: str | None, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    tables, notes = read_twice(tmp_path / "t.csv", ["a", "k", "y"])
    for table, said in zip(tables, notes, strict=True):
        pd.testing.assert_frame_equal(table, TABLE, check_dtype=False)
        assert len(said) == (note is not None)
        if note is not None:
            with pytest.warns(UserWarning, match=note):
                warnings.warn(said[0], UserWarning, stacklevel=1)


@pytest.mark.parametrize(
    "text",
    [
        "a,k,y\nNA,x,4\n2.5,y,5\n3.5,x,6\n4.5,z,7\n",  # a gap is no unit
        "a,k,y\nunknown,x,4\n2.5,y,5\n3.5,x,6\n4.5,z,7\n",
        "2022,2023,2024\n1,2,3\n4,5,6\n7,8,9\n",  # years may be names
        "a,b\n1,0\n1,0\n0,1\n",
        "1,0\n1,0\n0,1\n1,0\n",  # a header of numbers recurs by chance
        "k\nfoo\nfoo\nk2\n",
    ],
)
def test_rows_that_look_like_such_lines_stay(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    tables, notes = read_twice(tmp_path / "t.csv", text.split("\n")[0].split(","))
    assert all(len(table) == text.count("\n") - 1 for table in tables) and notes == [[], []]


def test_many_short_rows_do_not_hide_the_separator(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;k;y;b\n" + "".join(f"{k},5;x;{k}{';7' * (k % 3 > 0)}\n" for k in range(30)))
    with pytest.warns(UserWarning, match="10 of 30 rows have fewer fields than the 4"):
        assert list(read_table(tmp_path / "t.csv").columns) == ["a", "k", "y", "b"]
    (tmp_path / "t.csv").write_text('"a" "k"\n"7" 0.5 "x"\n')  # one row, as R writes it
    with pytest.warns(UserWarning, match="a name fewer"):
        assert read_table(tmp_path / "t.csv").to_dict("list") == {"a": [0.5], "k": ["x"]}


@pytest.mark.parametrize("quoted", [False, True])
def test_short_rows_are_told_with_their_number(quoted: bool, tmp_path: Path) -> None:
    first = '"p,\nq",1,2\n' if quoted else "p,1,2\n"
    for name, pack in (("t.csv", bytes), ("t.csv.gz", gzip.compress)):
        path = tmp_path / name
        path.write_bytes(pack(("# top\nk,b,c\n" + first + "q,3\n" + "r,4,\n" + "s,5,6\nt\n").encode()))
        line = 4 + quoted
        said = f"2 of 5 rows have fewer fields than the 3 of the header, the first in line {line}: .*'b', 'c'"
        with pytest.warns(UserWarning, match=said):
            TableBlocks(path, ["k"])
    with pytest.warns(UserWarning, match=said):
        assert read_table(tmp_path / "t.csv")["c"].isna().sum() == 3
    with pytest.raises(ValueError, match=r"header has 4 names, and each row 3 fields.*Try"):
        path.write_bytes(gzip.compress(b"id,a,b,c\n1,2,3\n4,5,6\n"))
        TableBlocks(path, ["a"])


def test_a_header_of_numbers_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("-0.5,x\n1,y\n2,x\n")
    with pytest.warns(UserWarning, match="numbers for names, as '-0.5'.*missing"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("last", "left"),
    [
        (["Total", 10.0, 16.0], 4), (["Summe:", 10.0, 1.0], 4), (["mean", 2.5, 4.0], 4), ([None, 10.0, 16.0], 4),
        (["Source: us", None, None], 4), ([None, None, None], 4), (["average", 7.0, 9.0], 5),
        ([None, None, 16.0], 4), ([None, 10.0, 17.0], 5), (["a", 10.0, 16.0], 5), (["b", None, 4.0], 5),
    ],
)  # fmt: skip
def test_sums_at_the_end_are_left_out(last: list[object], left: int) -> None:
    frame = pd.DataFrame(
        [["a", 1.0, 3.0], ["b", 2.0, 4.0], ["a", 3.0, 4.0], ["c", 4.0, 5.0], last], columns=["k", "n", "y"]
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(without_footer(frame)) == left and len(caught) == (left == 4)


def test_sums_without_a_name_end_a_table_of_numbers() -> None:
    frame = pd.DataFrame({"a": [1.5, 2.5, 3.0, 7.0], "b": [1, 2, 3, 6]})
    with pytest.warns(UserWarning, match="left out: 'sums', 1 of 4"):
        assert len(without_footer(frame)) == 3
    assert len(without_footer(frame[["b"]])) == len(without_footer(frame.assign(b=[1, 2, 3, 7]))) == 4


def test_sums_of_groups_are_told() -> None:
    frame = pd.DataFrame(
        {"k": ["a", "a Total", "b", "Subtotal b", "Total"], "n": [1, 1, 2, 2, 3], "y": [5, 5, 7, 7, 9]}
    )
    with (
        pytest.warns(UserWarning, match="holds 'Subtotal b' or the like in 2 of 4 rows"),
        pytest.warns(match="left out: 'Total'"),
    ):
        assert len(without_footer(frame)) == 4


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize(("opened", "closed"), [(1, 2), (1, 4)])
def test_a_quote_that_is_closed_in_another_row_is_refused(
    suffix: str, opened: int, closed: int, tmp_path: Path
) -> None:
    rows = [f"{k},{chr(34) * (k == opened)}x{chr(34) * (k == closed)},{k}\n" for k in range(6)]
    (tmp_path / "t.csv").write_text("a,k,y\n" + "".join(rows))
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    with pytest.raises(ValueError, match=r"at row 1 .* column 'k' goes on over . lines.*Try closing"):
        read_table(tmp_path / "t.csv") if suffix == ".csv" else TableBlocks(tmp_path / "t.csv.gz", ["a"])
    lines = "a,k,y\n" + '1,"Dear all,\nhow are you,\nwell?",2\n' * 3  # a text of several lines
    (tmp_path / "t.csv").write_text(lines)
    assert len(read_table(tmp_path / "t.csv")) == 3


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_spoiled_file_through_the_command(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    v = np.random.default_rng(0).normal(size=(40, 2)).round(3)
    rows = [f'{k},"{a}",{b}\n' if k % 10 else f"{k}\n" for k, (a, b) in enumerate(v)]
    text = 'year,"a",y\n,kg,m\n' + "".join(rows[:20]) + 'year,"a",y\n' + "".join(rows[20:]) + "Total,7,8\n"
    path, model = tmp_path / f"t{suffix}", str(tmp_path / "m")
    path.write_bytes(text.encode() if suffix == ".csv" else gzip.compress(text.encode()))
    fit = [
        "fit",
        str(path),
        "--target",
        "y",
        "--drop-missing-target",
        "--epochs",
        "1",
        "--ensemble",
        "2",
        "--out",
        model,
    ]
    assert main(fit) == 0
    out, err = capsys.readouterr()
    assert "40 rows" in out
    for said in (
        "line 2 has texts",
        "repeat the header",
        "4 of 41 rows have fewer fields",
        "left out: 'Total', 1 of 41 rows",
    ):
        assert said in err, said
    assert main(["predict", model, str(path), "--out", str(tmp_path / "p.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "p.csv")) == 41 and "'Total'" in capsys.readouterr().err
    assert main(["check", model, str(path)]) == 0
    err = capsys.readouterr().err
    assert "4 of 40 rows have no target, and are left out" in err and "left out: 'Total', 1 of 41 rows" in err


@pytest.mark.parametrize(
    ("name", "said", "left"),
    [
        ("Unnamed: 0", "names of rows, and left out", 1),
        ("...1", "names of rows, and left out", 1),
        ("id", "--leave-out", 2),
    ],
)
def test_numbers_of_rows_are_told(name: str, said: str, left: int, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"{name},y\n" + "".join(f"{k},{k % 7}\n" for k in range(30)))
    with pytest.warns(UserWarning, match=said):
        assert table_to_fit(tmp_path / "t.csv").shape == (30, left)


def test_decimal_points_beside_decimal_commas_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f'{k}.5,"{k},25",{1 + k}.{100 + k},{k}\n' for k in range(24))
    (tmp_path / "t.csv").write_text("a,b,c,y\n" + rows)
    fit = ["fit", str(tmp_path / "t.csv"), "--target", "y", "--decimal", ",", "--epochs", "1", "--ensemble", "2"]
    assert main([*fit, "--out", str(tmp_path / "m")]) == 0
    err = capsys.readouterr().err
    assert (
        "column 'a' has numbers with decimal points" in err and "column 'c' is read as numbers: decimal commas" in err
    )
