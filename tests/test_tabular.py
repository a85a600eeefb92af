"""probmix fit, predict and check: from a file to predictions, a model that is kept, and a page; mistakes in one sentence."""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import shutil

import numpy as np
import pandas as pd
import pytest

from pyro_probmix.cli import main
from pyro_probmix.tabular.files import read_table
from pyro_probmix.tabular.model import TableModel

rng = np.random.default_rng(0)
FIT = ["--epochs", "3", "--ensemble", "2", "--seed", "1"]


def frame(rows=60):
    table = pd.DataFrame({"größe": rng.normal(size=rows), "kind": rng.choice(["a", "b"], rows)})
    table["day"] = pd.date_range("2020-01-01", periods=rows).strftime("%Y-%m-%d")
    table["price"] = table["größe"] + rng.normal(size=rows) / 10
    table["big"] = np.where(table["price"] > 0, "yes", "no")
    return table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tables, a regression in ``model`` and a classification in ``classes``."""
    path = tmp_path_factory.mktemp("tables")
    table = frame()
    table.drop(columns="big").to_csv(path / "train.csv", index=False)
    table.drop(columns="price").to_parquet(path / "train.parquet", index=False)
    frame(30).to_csv(path / "new.csv", index=False)
    assert main(["fit", str(path / "train.csv"), "--target", "price", *FIT, "--out", str(path / "model")]) == 0
    assert main(["fit", str(path / "train.parquet"), "--target", "big", *FIT, "--out", str(path / "classes")]) == 0
    return path


def test_predictions_of_a_file(folder, capsys, tmp_path):
    assert main(["predict", str(folder / "model"), str(folder / "new.csv")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "price mean,price std,price 5 %,price 50 %,price 95 %" and len(printed) == 31
    for name, read in (("p.csv", pd.read_csv), ("p.parquet", pd.read_parquet)):
        assert main(["predict", str(folder / "classes"), str(folder / "new.csv"), "--out", str(tmp_path / name)]) == 0
        predicted = read(tmp_path / name)
        probabilities = predicted[["probability of no", "probability of yes"]]
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        assert (predicted["big"] == np.where(probabilities.iloc[:, 1] > probabilities.iloc[:, 0], "yes", "no")).all()


def test_a_kept_model_predicts_the_same(folder, tmp_path):
    model = TableModel.load(folder / "model")
    model.save(tmp_path / "again")
    table = frame(20)
    pd.testing.assert_frame_equal(TableModel.load(tmp_path / "again").predict(table), model.predict(table))
    assert sorted(path.suffix for path in (tmp_path / "again").iterdir()) == [".json", ".safetensors"]


def test_a_model_is_replaced_whole(folder, tmp_path):
    """Also by one that is saved onto it; a full disk leaves the old one as it was."""
    first, second = TableModel.load(folder / "model"), TableModel.load(folder / "classes")
    first.save(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ValueError, match="could not be written"):
            second.save(tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    second.save(tmp_path / "model")
    assert TableModel.load(tmp_path / "model").targets == ("big",)
    assert len(list((tmp_path / "model").iterdir())) == 2


@pytest.mark.parametrize(("model", "title"), [("model", "Check of price"), ("classes", "Check of big")])
def test_the_page_of_a_check(folder, tmp_path, capsys, model, title):
    assert main(["check", str(folder / model), str(folder / "new.csv"), "--out", str(tmp_path / "check")]) == 0
    page = (tmp_path / "check" / "check.html").read_text("utf-8")
    assert f"<h1>{title}</h1>" in page and "größe" in page and 'src="http' not in page
    for section in ("What the model says", "How well calibrated it is", "Where it fails", "What it leans on"):
        assert section in page
    assert page.index(">größe<") < page.index(">kind<", page.index("What it leans on"))  # the column that matters first
    assert (tmp_path / "check" / "predictions.nc").exists() and page.count("data:image/png") >= 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "{}/none.csv", "--target", "y"], "no file {}/none.csv. Try"),
        (["fit", "{}/train.csv", "--target", "prize"], "no column 'prize'; there are"),
        (["fit", "{}/train.csv", "--target", "price", "--method", "Mixup"], "Mixup"),
        (["fit", "{}/train.csv", "--target", "kind,price"], "target column 'kind' holds 'b' at row 0"),
        (["predict", "{}/none", "{}/new.csv"], "holds no model"),
        (["predict", "{}/model", "{}/train.parquet", "--out", "{}/x.txt"], "does not end in .csv or .parquet"),
        (["predict", "{}/model/table.json", "{}/new.csv"], "is a file, expected a model's folder. Try '{}/model'"),
        (["check", "{}/model", "{}/train.parquet"], "no target column 'price', which the model predicts; there are"),
        (["check", "{}/classes", "{}/train.csv"], "the table has no target column 'big'"),
    ],
)
def test_mistakes_get_one_sentence(folder, tmp_path, capsys, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert main([part.format(folder) for part in arguments]) == 1
    err = capsys.readouterr().err
    assert sentence.format(folder) in err and "Try" in err and err.count("\n") == 1, err
    assert not os.listdir(tmp_path)


def test_missing_values_are_refused_or_imputed(tmp_path, capsys):
    table = frame().drop(columns="big")
    table.loc[3, "größe"] = np.nan
    table.loc[5, "kind"] = None
    table.to_csv(tmp_path / "gaps.csv", index=False)
    arguments = ["fit", str(tmp_path / "gaps.csv"), "--target", "price", *FIT, "--out", str(tmp_path / "model")]
    assert main(arguments) == 1
    assert "column 'größe' is missing at row 3" in capsys.readouterr().err and not (tmp_path / "model").exists()
    assert main([*arguments, "--impute"]) == 0
    assert np.isfinite(TableModel.load(tmp_path / "model").predict(table).to_numpy()).all()


def test_damaged_newer_and_foreign_models_are_refused(folder, tmp_path):
    model = TableModel.load(folder / "model")
    for change, sentence in (
        (lambda path: (path / "table.json").write_text("{"), "is damaged"),
        (lambda path: (path / "table.json").write_text(json.dumps({"format": 99})), "has format 99, expected 2"),
        (lambda path: next(path.glob("model-*")).write_bytes(b"x" * 99), "is damaged"),
        (lambda path: next(path.glob("model-*")).unlink(), "there is no file"),
    ):
        path = tmp_path / sentence.replace(" ", "-")
        model.save(path)
        change(path)
        with pytest.raises(ValueError, match=sentence):
            TableModel.load(path)
    old = json.loads((folder / "model" / "table.json").read_text()) | {"format": 1}
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "table.json").write_text(json.dumps(old))
    with pytest.raises(ValueError, match=r"has format 1, expected 2. Try fitting it again"):
        TableModel.load(tmp_path / "old")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"")
    with pytest.raises(ValueError, match="holds other files"):
        model.save(tmp_path / "photos")


@pytest.mark.parametrize(
    "change",
    [
        lambda record, other: record["targets"].__setitem__(0, "prize"),
        lambda record, other: record["columns"][0].update(name="gross"),
        lambda record, other: record["columns"][0].update(filled=7.0),
        lambda record, other: record["columns"][1]["levels"].reverse(),
        lambda record, other: record.update(model=other),
    ],
)
def test_a_record_that_was_changed_is_refused(folder, tmp_path, change):
    TableModel.load(folder / "model").save(tmp_path / "m")
    TableModel.load(folder / "classes").save(tmp_path / "other")
    other = next((tmp_path / "other").glob("model-*"))
    shutil.copy(other, tmp_path / "m")
    record = json.loads((tmp_path / "m" / "table.json").read_text())
    change(record, other.name)
    (tmp_path / "m" / "table.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"is damaged or was changed since probmix fit wrote it. Try fitting it again"):
        TableModel.load(tmp_path / "m")


def test_another_estimator_under_the_name_is_refused(folder, tmp_path):
    TableModel.load(folder / "model").save(tmp_path / "m")
    shutil.copy(next((folder / "classes").glob("model-*")), next((tmp_path / "m").glob("model-*")))
    with pytest.raises(ValueError, match="is damaged or was changed"):
        TableModel.load(tmp_path / "m")


def fitted(tmp_path, capsys, table, *options, name="t.csv", target="price"):
    """The one line that a fit of some table ends with."""
    path = tmp_path / name
    table.to_csv(path, index=False) if name.endswith(".csv") else table.to_parquet(path)
    code = main(["fit", str(path), "--target", target, *FIT, "--out", str(tmp_path / "m"), *options])
    out, err = capsys.readouterr()
    assert (out + err).count("\n") == 1 and (code == 0) == (tmp_path / "m").exists()
    return out + err


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (lambda y: y.map("{:.2f}".format).str.replace(".", ","), "target column 'price' holds .*Decimal commas"),
        (lambda y: y.abs().map("${:.2f}".format), "target column 'price' holds .*Try the number alone"),
        (lambda y: pd.date_range("2024-01-01", periods=len(y)).strftime("%d/%m/%Y"), "Try writing dates as 2024-12-31"),
        (
            lambda y: pd.date_range("2024-01-01", periods=len(y)).strftime("%Y-%m-%d"),
            "'price' holds dates, as '2024-01-01'",
        ),
        (lambda y: [f"u{k}" for k in range(len(y))], "has 60 different texts in 60 rows, .*or --task classification"),
        (
            lambda y: y.astype(object).where(y.index != 7, "?"),
            r"holds '\?' at row 7 .*Try correcting it or dropping that",
        ),
        (lambda y: y.where(y.index != 7, np.inf), "target column 'price' is infinite at row 7"),
        (lambda y: y, r"regression on price$"),
        (lambda y: [f"u{k % 3}" for k in range(len(y))], "classification of price into 3 classes$"),
    ],
)
def test_what_a_target_asks_for(tmp_path, capsys, written, sentence):
    table = frame().drop(columns="big")
    assert re.search(sentence, fitted(tmp_path, capsys, table.assign(price=written(table["price"]))).strip())


def test_many_classes_can_be_asked_for(tmp_path, capsys):
    table = frame().assign(big=[f"u{k % 40}" for k in range(60)])
    assert "has 40 different texts in 60 rows" in fitted(tmp_path, capsys, table, target="big")
    said = fitted(tmp_path, capsys, table, "--task", "classification", target="big")
    assert "classification of big into 40 classes" in said


def test_parquet_keeps_numbers_as_text_and_names_its_index(tmp_path, capsys):
    table = frame().drop(columns="big")
    stored = table.assign(price=table["price"].astype(str)).set_index(["day", "größe"])
    assert "3 features; regression on price" in fitted(tmp_path, capsys, stored, name="t.parquet")
    pd.testing.assert_frame_equal(
        read_table(tmp_path / "t.parquet"), table[["day", "größe", "kind", "price"]], check_dtype=False
    )
    table.set_index("day", drop=False).to_parquet(tmp_path / "both.parquet")
    assert list(read_table(tmp_path / "both.parquet").columns) == list(table.columns)
    table.set_index("day").rename(columns={"kind": "day"}).to_parquet(tmp_path / "clash.parquet")
    with pytest.raises(ValueError, match="more than one column is named 'day'"):
        read_table(tmp_path / "clash.parquet")


TEXT = "a,b,y\n1,é,3\n2,f,4\n3,é,5\n4,f,6\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (TEXT.encode("utf-16"), "is written in UTF-16, expected UTF-8"),
        (TEXT.encode("latin-1"), "Try saving it as UTF-8"),
        (gzip.compress(TEXT.encode(), mtime=0), "is compressed by gzip, expected text. Try unzipping it"),
        (b"PK\x03\x04rest", "is a zip archive or a spreadsheet"),
        (b"PAR1rest", "is a Parquet file, expected text. Try naming it .parquet"),
        (TEXT.replace(",", ";").encode(), "commas between its columns; this one has semicolons"),
        (b"a;b;y\n1,5;2,5;3\n1,5;2,5;3\n", "commas between its columns; this one has semicolons"),
        (b"a,b,y\n", "the table has no rows"),
    ],
)
def test_files_that_are_no_tables_with_commas(tmp_path, capsys, content, sentence):
    (tmp_path / "t.csv").write_bytes(content)
    assert main(["fit", str(tmp_path / "t.csv"), "--target", "y", *FIT, "--out", str(tmp_path / "m")]) == 1
    err = capsys.readouterr().err
    assert sentence in err and "Try" in err and err.count("\n") == 1


def test_no_rows_and_semicolons_of_other_tables(folder, tmp_path, capsys):
    frame()[:0].to_csv(tmp_path / "none.csv", index=False)
    frame().to_csv(tmp_path / "semi.csv", sep=";", index=False)
    for arguments, sentence in (
        (["predict", "none.csv"], "the table has no rows"),
        (["predict", "semi.csv"], "this one has semicolons"),
        (["check", "semi.csv"], "this one has semicolons"),
    ):
        assert main([arguments[0], str(folder / "model"), str(tmp_path / arguments[1])]) == 1
        assert sentence in capsys.readouterr().err


def test_gaps_that_appear_after_training(folder, tmp_path, capsys):
    table, gap = frame().drop(columns="big"), frame(20)
    gap.loc[3, ["größe", "kind", "day"]] = None
    gap.to_csv(tmp_path / "gap.csv", index=False)
    fitted(tmp_path, capsys, table, "--impute")
    assert main(["predict", str(tmp_path / "m"), str(tmp_path / "gap.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    assert np.isfinite(pd.read_csv(tmp_path / "p.csv").to_numpy()).all()
    for command in ("predict", "check"):
        assert main([command, str(folder / "model"), str(tmp_path / "gap.csv")]) == 1
        assert "Try probmix fit --impute, or dropping the row." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("first", "others", "classes"),
    [
        ([0, 1], ([0.0, 1.0], ["0", "1"], [0, 1]), ("0", "1")),
        ([False, True], (["false", "true"], ["False", "TRUE"], [False, True]), ("False", "True")),
        (["no", "true"], (["no", True],), ("no", "true")),
    ],
)
def test_classes_are_the_same_however_a_file_is_parsed(first, others, classes):
    def labelled(labels):
        return frame().assign(big=pd.Series([labels[k % 2] for k in range(60)]))

    model = TableModel.fit(labelled(first), ["big"], task="classification", epochs=1, ensemble=1, random_state=0)
    assert model.classes == classes
    expected = model.observed(labelled(first))
    assert list(expected[:2]) == list(classes)
    for other in others:
        assert (model.observed(labelled(other)) == expected).all()


def test_a_check_of_classes_that_are_parsed_otherwise(tmp_path, capsys):
    table = frame().assign(big=[k % 2 for k in range(60)])
    fitted(tmp_path, capsys, table, "--task", "classification", target="big")
    table.assign(big=table["big"].astype(float)).to_csv(tmp_path / "floats.csv", index=False)
    assert main(["check", str(tmp_path / "m"), str(tmp_path / "floats.csv")]) == 0


def test_a_column_named_as_a_level_is_no_hindrance(tmp_path, capsys):
    table = frame().drop(columns="big")
    assert "4 features" in fitted(tmp_path, capsys, table.assign(**{"kind = a": table["größe"] ** 2}))
