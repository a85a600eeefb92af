"""probmix fit, predict and check: from a file to predictions, a model that is kept, and a page; mistakes in one sentence."""

from __future__ import annotations

import json
import os
import resource

import numpy as np
import pandas as pd
import pytest

from pyro_probmix.cli import main
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
        (["fit", "{}/train.csv", "--target", "kind,price"], "target column 'kind' holds string, expected numbers"),
        (["predict", "{}/none", "{}/new.csv"], "holds no model"),
        (["predict", "{}/model", "{}/train.parquet", "--out", "{}/x.txt"], "does not end in .csv or .parquet"),
        (["check", "{}/model", "{}/train.parquet"], "the table has no target column 'price'"),
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
        (lambda path: (path / "table.json").write_text(json.dumps({"format": 99})), "has format 99, expected 1"),
        (lambda path: next(path.glob("model-*")).write_bytes(b"x" * 99), "is damaged"),
        (lambda path: next(path.glob("model-*")).unlink(), "there is no file"),
    ):
        path = tmp_path / sentence.replace(" ", "-")
        model.save(path)
        change(path)
        with pytest.raises(ValueError, match=sentence):
            TableModel.load(path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"")
    with pytest.raises(ValueError, match="holds other files"):
        model.save(tmp_path / "photos")
