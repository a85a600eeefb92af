"""Columns of texts: what each spelling means, what a user has to decide, other rows, and the way through JSON."""

from __future__ import annotations

import datetime
import json
import re

import numpy as np
import pandas as pd
import pytest

from pyro_probmix.cli import main
from pyro_probmix.columns.schema import Schema
from pyro_probmix.tabular.column import Column
from pyro_probmix.tabular.columns import Columns
from pyro_probmix.tabular.model import TableModel
from pyro_probmix.tabular.texts.conventions import Conventions

K = range(60)
AMBIGUOUS = ["1/2/2024", "3/4/2024"] * 30


def read(values, **said):
    frame = pd.DataFrame({"c": values, "z": range(len(values))})
    columns = Columns.fit(frame, Conventions(**said))
    return columns, columns.typed(frame).iloc[:, 0].tolist()


@pytest.mark.parametrize(
    ("values", "second"),
    [
        ([f"1\u00a0{i:03d}" for i in K], 1001.0),
        ([f"1\u202f{i:03d},50" for i in K], 1001.5),
        ([f"1\u2019{i:03d}" for i in K], 1001.0),
        ([f"1'{i:03d}'000" for i in K], 1001000.0),
        ([f"\u22120.{i}" for i in K], -0.1),
        ([f"(12.{i})" for i in K], -12.1),
        ([f"12.{i} kg" for i in K], 12.1),
        ([f"12.{i}" if i else "12 kg" for i in K], 12.1),
        ([f"CAD 12.{i}" for i in K], 12.1),
        ([f"-€{i},25" for i in K], -1.25),
        ([f"{i}.5k" for i in K], 1500.0),
        (["3M", "5k"] * 30, 5e3),
        ([f"{i} %" for i in K], 1.0),
        ([f"{i},14" for i in K], 1.14),
        (["1.234,5", "12.345,6"] * 30, 12345.6),
        (["1,234.5", "12,345.6"] * 30, 12345.6),
        (["1,234,567", "999"] * 30, 999.0),
        (["1,10,100", "2,34,567"] * 30, 234567.0),
        (["CHF 50.-", "1'100.-"] * 30, 1100.0),
        (["100,--", "2,50"] * 30, 2.5),
        (["3.00", "1,200.50-"] * 30, -1200.5),
        (["$1,200", "$3,000"] * 30, 3000.0),
        (["1st", "2nd", "3rd"] * 20, 2.0),
        (["7", "1e3"] * 30, 1000.0),
        (["2 door", "4 door"] * 30, 4.0),
    ],
)
def test_numbers_as_people_write_them(values, second):
    columns, found = read(values)
    assert columns.columns[0].kind == "number" and found[1] == pytest.approx(second)


@pytest.mark.parametrize(
    ("values", "kind", "second"),
    [
        ([f"{1 + i % 28} Mar 2024" for i in K], "date", "2024-03-02"),
        ([f"Mar {1 + i % 28}, 2024" for i in K], "date", "2024-03-02"),
        ([f"{1 + i % 28:02d}-Mar-24" for i in K], "date", "2024-03-02"),
        ([f"20{10 + i // 12}-{1 + i % 12:02d}" for i in K], "date", "2010-02-01"),
        ([f"202403{1 + i % 28:02d}T1200{i:02d}Z" for i in K], "date", "2024-03-02 12:00:01"),
        (["31/12/2024", "1/2/2024"] * 30, "date", "2024-02-01"),
        (["12/31/2024", "1/2/2024 5:30 PM"] * 30, "date", "2024-01-02 17:30"),
        (["31.12.98", "1.2.24"] * 30, "date", "2024-02-01"),
        (["2024/3/1", "2024/12/5"] * 30, "date", "2024-12-05"),
        (["2024 Q1", "2023Q4"] * 30, "date", "2023-10-01"),
        (["2024-01-01 ", "2024-01-02T03:00+02:00"] * 30, "date", "2024-01-02 01:00"),
        (["2024-01-01", "2024-01-02 03:00:00.5 +0200"] * 30, "date", "2024-01-02 01:00:00.5"),
        (["2024-01-01 03:00:00 UTC", "2024-01-02 03:00:00 UTC"] * 30, "date", "2024-01-02 03:00"),
        (["Mon, 1 Jan 2024 03:00:00 GMT", "Tue, 2 Jan 2024 03:00:00 GMT"] * 30, "date", "2024-01-02 03:00"),
        (["2024-03-01", "2 Mar 2024", "03/14/2024"], "date", "2024-03-02"),
        (["2024-W09", "2024-W10-3"], "date", "2024-03-06"),
        ([f"{1 + i % 28}. {['Januar', 'März', 'Mai', 'Okt.', 'Dez'][i % 5]} 2024" for i in K], "date", "2024-03-02"),
        (
            [f"{1 + i % 28} {['janv.', 'févr.', 'juin', 'juil.', 'août', 'déc.'][i % 6]} 2024" for i in K],
            "date",
            "2024-02-02",
        ),
        (
            [f"{1 + i % 28} de {['enero', 'abril', 'agosto', 'diciembre'][i % 4]} de 2024" for i in K],
            "date",
            "2024-04-02",
        ),
        ([f"{1 + i % 28} {['gennaio', 'maggio', 'luglio', 'ottobre'][i % 4]} 2024" for i in K], "date", "2024-05-02"),
        ([f"{['mrt', 'mei', 'okt', 'set', 'out'][i % 5]} 2024" for i in K], "date", "2024-05-01"),
    ],
)
def test_dates_as_people_write_them(values, kind, second):
    columns, found = read(values)
    assert columns.columns[0].kind == kind and found[1] == pd.Timestamp(second)


def test_times_and_durations():
    assert read([f"{i % 24:02d}:{i:02d}" for i in K])[1][1] == datetime.time(1, 1)
    assert read(["3:30 PM", "11:05 am"] * 30)[1][0] == datetime.time(15, 30)
    assert read([f"{i} days 02:03:04" for i in K])[1][1] / pd.Timedelta("1 day 02:03:04") == pytest.approx(1)
    assert read(["25:30", "3:15"] * 30)[0].columns[0].kind == "duration"


@pytest.mark.parametrize(
    ("values", "hours"),
    [
        (["P1DT2H", "PT90M", "PT1.5S"], [26, 1.5, 1.5 / 3600]),
        (["1d 2h", "90 min", "1 hour 30 minutes"], [26, 1.5, 1.5]),
        (["1 day", "2 days"], [24, 48]),
        (["1:30.0", "0:06.3"], [90 / 3600, 6.3 / 3600]),
        # As Python and pandas write them.
        ([str(datetime.timedelta(hours=h)) for h in (-1, 30, 48)], [-1, 30, 48]),
        ([str(pd.Timedelta(hours=h)) for h in (-1, 30, -49)], [-1, 30, -49]),
        (["-1 days 01:00:00", "1 days 01:00:00", "-1 days -01:00:00"], [-25, 25, -25]),
    ],
)
def test_durations_as_people_write_them(values, hours):
    columns, found = read(values * 20)
    assert columns.columns[0].kind == "duration"
    assert [span / pd.Timedelta(hours=1) for span in found[: len(values)]] == pytest.approx(hours)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["12h", "3h"], "number"),
        (["P1", "P2"], "category"),
        (["2-", "1"], "category"),
        (["12D", "3H", "7M", "2S"], "category"),
    ],
)
def test_texts_that_are_no_durations_and_no_negative_numbers(values, kind):
    assert read(values * 30)[0].columns[0].kind == kind


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (["01002", "1002", "02139"] * 20, 3),
        (["Heat", "1917", "2012", "Up", "Alien", "Big"] * 10, 6),
        (["18-24", "25-34", "65+"] * 20, 3),
        (["<5", "5-10", ">10"] * 20, 3),
        (["x ", "x", " y", "y"] * 15, 2),
        (["A1", "B2", "C3"] * 20, 3),
        (["NA", "a", "b"] * 20, 3),
        (["12 Oak St", "3 Elm Rd", "7 Ash Ln", "9 Fir Ct"] * 15, 4),
        ([3, 4] * 30, 2),
    ],
)
def test_texts_are_categories(values, levels):
    said = {"categories": ("c",)} if 3 in values else {}
    columns, found = read(values, **said)
    assert columns.columns[0].kind == "category" and len(set(found)) == levels


@pytest.mark.parametrize("mark", [".", "?", "-", "NA", "n/a", "", " "])
def test_marks_for_missing_values_among_numbers_and_dates(mark):
    columns, found = read([mark, *map(str, range(59))])
    assert np.isnan(found[0]) and found[5] == 4.0
    assert bool(columns.notes) == (mark in (".", "?", "-", "n/a"))
    assert pd.isna(read([mark, *["2024-01-01", "2024-01-02"] * 30])[1][0])
    # In other rows, too, whether or not the training rows had one.
    plain = Columns.fit(pd.DataFrame({"c": map(float, K)}))
    assert plain.typed(pd.DataFrame({"c": [mark, "2"]}))["c"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("values", "option", "said"),
    [
        (AMBIGUOUS, "--dates dmy, or --dates mdy", {"dates": "mdy"}),
        ([f"1,{100 + i}" for i in K], "--decimal ',' or --decimal '.'", {"decimal": "."}),
        ([f"<0.{i:02d}" for i in K], "--category 'c', or --leave-out 'c'", {"leave_out": ("c",)}),
        (["1 kg", "20 g"] * 30, "one unit, --category 'c'", {"categories": ("c",)}),
        (["$5", "€6"] * 30, "one unit, --category 'c'", {"categories": ("c",)}),
        (["x", *map(str, range(59))], "--missing 'x' if it stands for none, or --category 'c'", {"missing": ("x",)}),
        (["soon", *["2024-01-01", "2024-01-02"] * 30], "--missing 'soon'", {"missing": ("soon",)}),
    ],
)
def test_a_decision_names_the_option_that_settles_it(values, option, said):
    with pytest.raises(ValueError, match=r"column 'c' holds .*Try") as asked:
        read(values)
    assert option in str(asked.value)
    assert Columns.fit(pd.DataFrame({"c": values, "z": range(len(values))}), Conventions(**said)).columns


@pytest.mark.parametrize("values", [["<0.1", *map(str, range(59))], ["x", *map(str, range(59))], ["1 kg", "20 g"] * 30])
def test_what_a_target_needs_is_settled_by_options_for_targets(values):
    with pytest.raises(ValueError, match=r"column 'y' holds .*, or --task classification\.$"):
        TableModel.fit(pd.DataFrame({"a": range(60), "y": values}), ["y"])


def test_the_options_of_the_command_stand_in_the_place_of_an_estimators_arguments():
    with pytest.raises(ValueError, match=r"Try --task classification, .*or --likelihood student-t"):
        TableModel.fit(pd.DataFrame({"a": range(60), "y": [1.5, 2.5] * 30}), ["y"], epochs=1)


def test_many_columns_that_tell_nothing_are_told_in_short():
    with pytest.raises(ValueError, match=r"left out\. 17 more columns are, too"):
        Columns.fit(pd.DataFrame({f"c{k}": [1] * 20 for k in range(20)}))


def test_many_notes_are_one():
    columns = Columns.fit(pd.DataFrame({"a": range(20), **{f"c{k}": [1] * 20 for k in range(40)}}))
    assert (
        len(columns.notes) == 11 and "30 more columns tell nothing, and are left out: 'c10', 'c11'" in columns.notes[-1]
    )
    assert columns.features == ("a",)


def test_options_name_columns_with_commas_and_targets(tmp_path, capsys):
    pd.DataFrame({"a,b": [1, 2, 3] * 20, "c": range(60), "y": [1, 2, 3] * 20}).to_csv(tmp_path / "t.csv", index=False)
    fit = [
        "fit",
        str(tmp_path / "t.csv"),
        "--target",
        "y",
        "--epochs",
        "1",
        "--ensemble",
        "2",
        "--out",
        str(tmp_path / "m"),
    ]
    for given in ("a,b", '"a,b", y'):
        assert main([*fit, "--category", given]) == 0
        model = TableModel.load(tmp_path / "m")
        assert [column.kind for column in model.columns.columns] == ["category", "number"]
        assert model.task.startswith("classification" if "y" in given else "regression")
    assert main([*fit, "--leave-out", "y"]) == 1
    assert "got 'y' to leave out, which is the target" in capsys.readouterr().err


def test_what_an_option_of_the_user_rules_out_is_named():
    with pytest.raises(ValueError, match="expected a date of the calendar, the day first, between"):
        read(["3/13/2024", "3/14/2024"] * 30, dates="dmy")
    with pytest.raises(ValueError, match=r"'1,5' .* expected a number with a decimal point"):
        read(["1,5", "2,5"] * 30, decimal=".")


def test_all_decisions_are_told_at_once():
    frame = pd.DataFrame({"a": AMBIGUOUS, "b": AMBIGUOUS, "c": ["1 kg", "2 g"] * 30, "d": [b"x"] * 60, "e": range(60)})
    with pytest.raises(ValueError, match="--dates") as asked:
        Columns.fit(frame)
    told = str(asked.value)
    assert "columns 'a', 'b' need a decision" in told and "column 'c' holds numbers with the units" in told
    assert "column 'd' holds" in told and "'e'" not in told
    settled = Columns.fit(frame, Conventions(dates="dmy", categories=("c",), leave_out=("d",)))
    assert settled.features == ("a", "b", "c", "e") and settled.typed(frame)["a"][0] == pd.Timestamp("2024-02-01")


def test_columns_that_tell_nothing_are_left_out_with_a_word():
    frame = pd.DataFrame({"n": [f"n{k}" for k in K], "o": "x", "e": [None] * 60, "m": ["."] * 60, "a": K})
    columns = Columns.fit(frame)
    assert columns.features == ("a",) and len(columns.notes) == 4
    assert columns.typed(frame[["a"]]).shape == (60, 1)  # other rows need none of them
    with pytest.raises(ValueError, match="no feature column that tells something"):
        Columns.fit(frame[["n", "o"]])


def test_json_is_enough():
    days = pd.Series([pd.Timestamp("2020-01-01"), pd.NaT, pd.Timestamp("2021-05-05")] * 20)
    size = pd.Categorical(["M", "S", None] * 20, ["S", "M", "L"], ordered=True)
    frame = pd.DataFrame({"a": ["0,1", None, "3,5"] * 20, "b": ["x", None, "ä"] * 20, "c": days, "s": size})
    columns = Columns.fit(frame)
    again = Columns.from_record(json.loads(json.dumps(columns.record())))
    assert again == columns and again.columns[3] == Column("s", "ordered", levels=("S", "M", "L"))
    pd.testing.assert_frame_equal(again.typed(frame), columns.typed(frame))
    record = columns.record()
    for change in ({"kind": "odd"}, {"times": "no"}, {"levels": [1]}, {"more": ""}):
        with pytest.raises(ValueError, match="a column is none"):
            Columns.from_record({**record, "columns": [{**record["columns"][0], **change}]})


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"b": ["x"]}, "the table has no column 'a', 'd', expected the features 'a', 'b', 'd'"),
        (
            {"a": ["2020-01-01"], "b": ["x"], "d": ["1/2/2024"]},
            "column 'a' holds '2020-01-01' at row 0 .*expected a number",
        ),
        ({"a": ["3.14"], "b": ["x"], "d": ["1/2/2024"]}, "column 'a' holds '3.14' at row 0"),
        ({"a": [3.14], "b": ["x"], "d": ["1/2/2024"]}, "column 'a' holds '3.14' at row 0 .*a decimal comma"),
        (
            {"a": ["one"], "b": ["x"], "d": ["soon"]},
            "column 'a' holds 'one' .*column 'd' holds 'soon' at row 0 .*a date",
        ),
        ({"a": [1], "b": ["x"], "d": ["31/31/2024"]}, "column 'd' holds '31/31/2024' .*date of the calendar"),
        ({"a;b": ["1;x"]}, "no column 'a', 'b', .*Try a file with commas between its columns; this one has semicolons"),
    ],
)
def test_other_rows_that_do_not_fit(other, sentence):
    columns = Columns.fit(
        pd.DataFrame({"a": ["1,5", "2,5"] * 9, "b": ["x", "y"] * 9, "d": ["31/1/2024", "1/2/2024"] * 9})
    )
    with pytest.raises(ValueError, match=sentence):
        columns.typed(pd.DataFrame(other))


def test_other_rows_that_are_written_otherwise():
    columns = Columns.fit(
        pd.DataFrame(
            {"p": ["1.5%", "20%", "3%"], "n": ["0.5", "1.25", "2"], "d": ["13/3/2024", "1/2/2024", "2/2/2024"]}
        )
    )
    other = pd.DataFrame({"p": [0.5, 0.25], "n": ["1,250", "2"], "d": ["2024-03-13", "3/4/2024"]})
    with (
        pytest.warns(UserWarning, match="'p' has no '%' beside"),
        pytest.warns(UserWarning, match="'1,250' .* thousands apart"),
    ):
        typed = columns.typed(other)
    assert typed["n"].tolist() == [1250.0, 2.0] and typed["d"].dt.month.tolist() == [3, 4]
    (note,) = Columns.fit(pd.DataFrame({"p": ["1%", "0.5", "3%"]})).notes
    assert "the unit '%' is left out, 1 of 3 have no unit, as '0.5'" in note


def test_dates_that_no_calendar_has():
    for day in ("2024-02-30", "9999-12-31"):
        with pytest.raises(
            ValueError, match=f"column 'c' holds '{day}' .*expected a date of the calendar between 1678"
        ):
            read([day, *["2024-01-01", "2024-02-01"] * 30])


@pytest.mark.parametrize(
    ("fitted", "other"),
    [
        ([True, False], ["true", "FALSE"]),
        ([True, False], [1, 0]),
        ([True, False], ["1", "0"]),
        ([1.5, 2.5], ["1.5", "2.5 "]),
    ],
)
def test_values_are_the_same_however_a_file_is_parsed(fitted, other):
    columns = Columns.fit(pd.DataFrame({"c": fitted * 9}))
    found = columns.typed(pd.DataFrame({"c": other}))["c"]
    assert found.tolist() == columns.typed(pd.DataFrame({"c": fitted}))["c"].tolist()


def test_truth_values_that_are_none():
    columns = Columns.fit(pd.DataFrame({"flag": [True, False] * 9}))
    with pytest.raises(ValueError, match=r"column 'flag' holds 'unknown' at row 1 .*expected true or false"):
        columns.typed(pd.DataFrame({"flag": ["true", "unknown"]}))


def test_a_few_texts_among_numbers_of_other_rows_are_missing():
    columns = Columns.fit(pd.DataFrame({"c": [4, 6, 8] * 9}))
    with pytest.warns(UserWarning, match="column 'c' holds 'rotary' .*taken as missing"):
        found = columns.typed(pd.DataFrame({"c": ["4", "rotary", "6"]}))["c"]
    np.testing.assert_array_equal(found, [4.0, np.nan, 6.0])


def test_whole_numbers_that_floats_cannot_tell_apart_are_categories():
    """Numbers of accounts: as floats all of these are one."""
    table = pd.DataFrame({"account": [2**60, 2**60 + 1, 2**60 + 2] * 5})
    (column,) = Columns.fit(table).columns
    assert column.kind == "category" and set(column.read(table["account"])) == {str(2**60 + k) for k in range(3)}
    schema = Schema.fit(table)
    assert schema.columns[0].kind == "category" and len(np.unique(schema.numbers(table))) == 3
    assert Columns.fit(pd.DataFrame({"mass": [10**20, 10**22, 10**25]})).columns[0].kind == "number"


def test_the_decimal_sign_of_other_columns_tells_what_a_comma_is():
    table = pd.DataFrame({"people": ["1,234", "5,678", "9,123"] * 10, "share": [0.25, 0.5, 0.125] * 10, "y": range(30)})
    with pytest.warns(
        UserWarning, match="the comma of '1,234' sets thousands apart, as other columns have decimal points"
    ):
        model = TableModel.fit(table, ["y"], epochs=1, ensemble=2, random_state=0)
    assert model.columns.typed(table)["people"].tolist()[:2] == [1234.0, 5678.0]
    with pytest.raises(ValueError, match="--decimal"):
        TableModel.fit(table.assign(share=1), ["y"], epochs=1, ensemble=2, random_state=0)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("lines", "options", "first", "note"),
    [
        (["a;y", "{p}.{h};{k}"], [], 1.1, "the point of '1.100' is taken for a decimal one; --decimal , takes"),
        (["a;y", "{p}.{h};{k}"], ["--decimal", ","], 1100.0, "decimal commas"),
        (["a;y", "{p}.{h};{k}"], ["--decimal", "."], 1.1, ""),
        (["a;b;y", "{p}.{h};{k},5;{k}"], [], 1100.0, "sets thousands apart, as other columns have decimal commas"),
        (["a;b;y", "{h};{k},5;{k}", "{p}.{h};NA;{k}"], [], 100.0, "the point of '2.101' sets thousands apart"),
        (["a;b;y", "{p}.{h};{k}.5;{k}"], [], 1.1, ""),
        (["a;b;y", "0.{h};{k},5;{k}"], [], 0.1, ""),
        (["a\ty", "NA\t{k}", "{p}.{h}\t{k}"], [], None, "the point of '2.101' is taken for a decimal one"),
        (["a,b,y", '{p}.{h},"{k},5",{k}'], [], 1100.0, "sets thousands apart"),
        (["a,y", "{p}.{h},{k}"], [], 1.1, ""),
    ],
)
def test_points_that_may_set_thousands_apart_are_settled_or_said(
    lines, options, first, note, large, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("pyro_probmix.tables.sampling.LARGE_BYTES", 0 if large else 1 << 27)
    head, *forms = lines
    rows = [forms[k % len(forms)].format(p=1 + k, h=100 + k, k=k) for k in range(24)]
    (tmp_path / "t.csv").write_text("\n".join([head, *rows]))
    fit = ["fit", str(tmp_path / "t.csv"), "--target", "y", "--epochs", "1", "--ensemble", "2", *options]
    assert main([*fit, "--out", str(tmp_path / "m")]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "column 'a'" in line]
    assert (note in said[0] and len(said) == 1) if note else not said
    column = TableModel.load(tmp_path / "m").columns.columns[0]
    values = [None if row.startswith("NA") else re.split("[;\t,]", row)[0] for row in rows]
    found = column.read(pd.Series(values, dtype=object))
    assert pd.isna(found[0]) if first is None else found[0] == pytest.approx(first)
    # The file itself is read as the fit read it, in blocks as well.
    assert main(["predict", str(tmp_path / "m"), str(tmp_path / "t.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    assert "column 'a'" not in capsys.readouterr().err


def test_a_check_reads_points_as_the_fit_did(tmp_path):
    rows = "".join(f"{k},5;{1 + k}.{100 + k}\n" for k in range(24))
    (tmp_path / "t.csv").write_text("a;y\n" + rows)
    fit = ["fit", str(tmp_path / "t.csv"), "--target", "y", "--epochs", "1", "--ensemble", "2"]
    assert main([*fit, "--out", str(tmp_path / "m")]) == 0
    assert main(["check", str(tmp_path / "m"), str(tmp_path / "t.csv")]) == 0
    assert ">1100<" in (tmp_path / "m" / "check" / "check.html").read_text()


def test_a_footer_is_told():
    with pytest.raises(ValueError, match=r"'Total' at row 3 .*leaving out that row if it is a footer"):
        Columns.fit(pd.DataFrame({"a": ["1", "2", "3", "Total"]}))


def test_categories_that_differ_by_capitals_and_dates_that_are_none_are_told():
    columns = Columns.fit(
        pd.DataFrame({"k": ["Yes", "yes", "no"] * 4, "d": ["2024-01-01", "0000-00-00", "2024-03-01"] * 4})
    )
    assert "holds 'Yes' and 'yes', which are categories of their own" in columns.notes[0]
    assert columns.columns[1].kind == "date" and "'0000-00-00' where a value is missing" in columns.notes[1]


@pytest.mark.parametrize("mark", ["#DIV/0!", "#VALUE!", "n.a.", "N.A.", "nil"])
def test_what_spreadsheets_write_for_a_missing_number(mark):
    table = pd.DataFrame({"a": ["1.5", mark, "2.5"]})
    assert Columns.fit(table).typed(table)["a"].tolist()[::2] == [1.5, 2.5]


def test_intervals_are_their_middles():
    cut = pd.cut(np.arange(20.0), 4).astype(object)
    breaks = pd.DataFrame({"a": pd.arrays.IntervalArray.from_breaks(range(21)), "b": cut})
    schema = Schema.fit(breaks)
    assert [column.kind for column in schema.columns] == ["number", "number"]
    assert schema.numbers(breaks)[:2, 0].tolist() == [0.5, 1.5]
    open_ended = pd.DataFrame({"a": [pd.Interval(3.0, np.inf), None], "b": breaks["b"][:2]})
    np.testing.assert_array_equal(schema.numbers(open_ended)[:, 0], [3.0, np.nan])
