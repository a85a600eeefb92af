"""probmix fit, predict and check: from a file to predictions, a saved model, and a page; mistakes in one sentence."""

from __future__ import annotations

import gzip
import html
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from pyro_probmix import ProbMixRegressor
from pyro_probmix.calibration import GaussianMixture, Predictions, check_density, mean_over_rows
from pyro_probmix.cli import main
from pyro_probmix.moves import inodes_of
from pyro_probmix.tables.reading import read_table
from pyro_probmix.tabular import checking, importance, sections, verdict
from pyro_probmix.tabular.checking import check_table
from pyro_probmix.tabular.columns import Columns
from pyro_probmix.tabular.model import TableModel
from pyro_probmix.tabular.parts import parts_of
from pyro_probmix.tabular.row_scores import row_scores

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


def test_conformal_intervals_of_a_file(folder, capsys):
    assert main(["predict", str(folder / "model"), str(folder / "new.csv"), "--conformal"]) == 0
    printed = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(printed)[-2:] == ["price conformal low", "price conformal high"]
    model = TableModel.load(folder / "model")
    ends = model.estimator.predict_interval(model.features(pd.read_csv(folder / "new.csv")), 0.9, conformal=True)
    np.testing.assert_allclose(printed.iloc[:, -2:], ends, rtol=1e-12)
    assert main(["predict", str(folder / "classes"), str(folder / "new.csv"), "--conformal"]) == 1
    assert "--conformal is for numbers, but the model is of classes. Try" in capsys.readouterr().err


def test_a_saved_model_predicts_the_same(folder, tmp_path):
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
    for section in (
        "First predictions",
        "How well calibrated it is",
        "Where it does worst",
        "Importance of the columns",
    ):
        assert section in page
    assert page.index(">größe<") < page.index(
        ">kind<", page.index("Importance of the columns")
    )  # the important one first
    assert (tmp_path / "check" / "predictions.nc").exists() and page.count("data:image/png") >= 2


def page_of(model, table, folder, **options):
    return html.unescape(check_table(model, table, folder, **options).read_text("utf-8"))


def test_the_page_says_when_its_numbers_are_meaningful(folder, tmp_path):
    """It may be of the training rows: the page names the file and says when the numbers mean something."""
    table = frame(40)
    model = TableModel.load(folder / "model")
    page = page_of(model, table, tmp_path, source="new.csv")
    assert "40 rows of new.csv" in page and "rows that it was not fitted to" not in page
    assert "meaningful only on rows that the model was not fitted to" in page and "cannot know" in page
    for name in (
        "coverage of the 90 % interval",
        "width of the 90 % interval",
        "NLL (negative log-likelihood)",
        "CRPS",
    ):
        assert f"<td>{name}</td>" in page
    assert "all targets" not in page and "<th>meaning" in page
    predicted = model.predict(table)["price mean"]
    error = table["price"] - predicted
    told = f"off by {np.sqrt((error**2).mean()):.4g} (RMSE, root mean squared error) or {error.abs().mean():.4g} (MAE"
    assert (
        told in page
        and f"R² is {1 - (error**2).sum() / ((table['price'] - table['price'].mean()) ** 2).sum():.3g}" in page
    )
    scores = [
        -model.estimator.predict_dist(model.features(table)).log_prob(torch.tensor(table["price"])).detach().numpy()
    ]
    assert f"NLL {mean_over_rows(scores[0])} nats a row" in page


def test_the_page_of_two_targets_has_a_verdict_of_each(tmp_path):
    table = frame(80).drop(columns="big")
    table["weight"] = 3.0
    model = TableModel.fit(
        table[["größe", "price", "weight"]], ["price", "weight"], epochs=2, ensemble=2, random_state=0
    )
    page = page_of(model, table, tmp_path)
    for target in ("price", "weight"):
        assert f"<li>{target}: The intervals are" in page and f"<figcaption>{target}: PIT" in page
    assert page.index("<th>price 95 %") < page.index("<th>weight observed")
    assert "all targets" in page and "of all targets together" in page


def test_the_page_of_two_classes_names_the_class(folder, tmp_path):
    page = page_of(TableModel.load(folder / "classes"), frame(40), tmp_path)
    assert "the share of the group that is “yes”" in page and not re.search(r"<figcaption>\d", page)
    assert "The most probable class is right in" in page and "<th>big predicted</th>" in page


def test_a_second_check_leaves_no_figures_of_the_first_and_all_files_of_others(folder, tmp_path):
    (tmp_path / "mine.png").write_bytes(b"mine")
    (tmp_path / "photos").mkdir()
    for name, own, gone in (("classes", "reliability-1.png", "pit.png"), ("model", "pit.png", "reliability-1.png")):
        check_table(TableModel.load(folder / name), frame(30), tmp_path)
        assert (tmp_path / own).exists() and not (tmp_path / gone).exists()
        assert (tmp_path / "mine.png").read_bytes() == b"mine" and (tmp_path / "photos").is_dir()
    assert not list(tmp_path.glob(".partial*"))


def test_a_page_that_lists_files_of_others_removes_none_of_them(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "check.html").write_text(
        '<meta name="probmix-files" content="../notes.txt notes.txt /etc/x.png">'
    )
    check_table(TableModel.load(folder / "model"), frame(30), tmp_path / "out")
    assert (tmp_path / "notes.txt").exists() and (tmp_path / "out" / "notes.txt").exists()


def test_a_check_into_the_folder_where_one_is(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", str(folder / "model"), str(folder / "new.csv"), "--out", "."]) == 0, capsys.readouterr().err
    assert (tmp_path / "check.html").exists()


@pytest.mark.parametrize("name", ["check.html", "predictions.nc", "pit.png"])
def test_a_check_replaces_no_file_of_another(folder, tmp_path, capsys, name):
    (tmp_path / name).write_text("mine")
    assert main(["check", str(folder / "model"), str(folder / "new.csv"), "--out", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert f"holds '{name}', which no page of a check lists" in err and "Try another --out." in err
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("record", ['{"my": "own"}', "no JSON", '{"format": 2}', "[]"])
def test_a_fit_replaces_no_table_json_of_another(folder, tmp_path, capsys, record):
    (tmp_path / "table.json").write_text(record)
    assert main(["fit", str(folder / "train.csv"), "--target", "price", *FIT, "--out", str(tmp_path)]) == 1
    assert "holds other files, expected none. Try another --out." in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["table.json"] and (tmp_path / "table.json").read_text() == record


def test_a_fit_replaces_a_damaged_record_and_leaves_a_page_of_another(folder, tmp_path):
    model = TableModel.load(folder / "model")
    model.save(tmp_path / "m")
    (tmp_path / "m" / "table.json").write_text("{")
    (tmp_path / "m" / "check").mkdir()
    (tmp_path / "m" / "check" / "check.html").write_text("mine")
    partial = tmp_path / "m" / "check" / f".partial-{'0' * 32}"
    for _ in range(2):  # the second time it is the model that is there
        partial.mkdir()  # of a check that was killed
        model.save(tmp_path / "m")
        assert TableModel.load(tmp_path / "m").targets == ("price",)
        assert not partial.exists() and (tmp_path / "m" / "check" / "check.html").read_text() == "mine"


@pytest.mark.parametrize("stuck", ["check.html", "of another kind"])
def test_a_page_that_a_killed_check_could_not_put_in_its_place_is_named_before_the_work(
    folder, tmp_path, capsys, monkeypatch, stuck
):
    page = tmp_path / "page"
    committed = page / f".commit-{'0' * 32}"
    (committed / "files").mkdir(parents=True)
    (committed / "files" / stuck).write_text("new")
    (committed / "manifest.json").write_text(
        json.dumps({"files": [stuck], "stale": [], "inodes": inodes_of(committed)})
    )
    (page / stuck).mkdir()  # in its place
    monkeypatch.setattr("pyro_probmix.tabular.checking.check", lambda *_, **__: pytest.fail("too late"))
    command = ["check", str(folder / "model"), str(folder / "new.csv"), "--out", str(page)]
    if stuck == "check.html":
        assert main(command) == 1
        assert "check.html' is written, in '.commit-" in capsys.readouterr().err
    else:  # does not stand in the way
        with pytest.raises(pytest.fail.Exception, match="too late"):
            main(command)


def test_a_linked_folder_is_no_place_for_the_page_of_a_model(folder, tmp_path, capsys):
    TableModel.load(folder / "model").save(tmp_path / "m")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "m" / "check").symlink_to(tmp_path / "elsewhere")
    assert main(["check", str(tmp_path / "m"), str(folder / "new.csv")]) == 1
    assert "is a link, expected a folder of the model's own. Try --out" in capsys.readouterr().err
    assert not os.listdir(tmp_path / "elsewhere")


def test_a_model_that_the_system_does_not_let_be_read(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, reason in (("x" * 300, "File name too long"), ("loop", "Too many levels"), ("a\0b", "NUL character")):
        with pytest.raises(ValueError, match=f"{reason}.*Try another path"):
            TableModel.load(tmp_path / name)


def test_names_that_are_not_utf_8(folder, tmp_path, capsys):
    odd = os.fsdecode(b"o\xff")
    for ending in ("parquet", "csv"):
        out = str(tmp_path / f"{odd}.{ending}")
        assert main(["predict", str(folder / "model"), str(folder / "new.csv"), "--out", out]) == 0
        if ending == "parquet":
            assert main(["fit", out, "--target", "price mean", *FIT, "--out", str(tmp_path / odd)]) == 0
    assert main(["check", str(tmp_path / odd), out]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["run", "table", "--dataset", out, "--out", str(tmp_path / "run")]) == 1
    assert "is not written in UTF-8" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_no_two_predicted_columns_have_one_name(tmp_path):
    table = frame(40).rename(columns={"big": "probability of no"})[["größe", "probability of no"]]
    model = TableModel.fit(table, ["probability of no"], epochs=1, ensemble=2, random_state=0)
    predicted = model.predict(table)
    assert list(predicted) == ["probability of no", "probability of no'", "probability of yes"]
    np.testing.assert_allclose(predicted.iloc[:, 1] + predicted.iloc[:, 2], 1)
    assert check_table(model, table, tmp_path).exists()


@pytest.mark.parametrize("place", ["/dev/full", None])
def test_what_is_said_where_nothing_can_be_printed(folder, tmp_path, place):
    """A full disk, and a terminal without the characters of a target."""
    command = [sys.executable, "-c", "import sys; from pyro_probmix.cli import main; sys.exit(main())"]
    pd.read_csv(folder / "train.csv").rename(columns={"price": "€"}).to_csv(tmp_path / "t.csv", index=False)
    model, codes = str(tmp_path / "m"), {}
    for arguments in (["fit", str(tmp_path / "t.csv"), "--target", "€", *FIT, "--out", model],
                      ["predict", model, str(tmp_path / "t.csv")]):  # fmt: skip
        with open(place or tmp_path / "out", "w") as out:
            done = subprocess.run(
                [*command, *arguments], env=os.environ | {"PYTHONIOENCODING": "utf-8" if place else "latin-1"}, stdout=out,
                stderr=subprocess.PIPE, text=True, check=False
            )  # fmt: skip
        codes[arguments[0]] = (done.returncode, done.stderr)
    assert TableModel.load(model).targets == ("€",)
    if place:
        assert codes["fit"][0] == 1 and codes["fit"][1].startswith("probmix: the model is saved in ")
        assert all("No space left" in err and err.count("\n") == 1 for _, err in codes.values())
    else:
        assert codes["fit"] == (0, "")
        assert codes["predict"][0] == 1 and "which has no '\\u20ac'. Try --out" in codes["predict"][1]


@pytest.mark.parametrize("fault", [ValueError("no. Try."), KeyboardInterrupt()])
def test_a_check_that_fails_or_is_stopped_leaves_no_folder(folder, tmp_path, monkeypatch, fault):
    def fail(*_arguments, **_named):
        raise fault

    monkeypatch.setattr(checking, "check", fail)
    with pytest.raises(type(fault)):
        check_table(TableModel.load(folder / "model"), frame(30), tmp_path / "a" / "b")
    assert not os.listdir(tmp_path)


def test_a_target_that_the_likelihood_rules_out_is_named(folder, tmp_path):
    table = frame(60).drop(columns="big")
    table["price"] = rng.poisson(3, 60)
    model = TableModel.fit(table, ["price"], likelihood="poisson", epochs=2, ensemble=2, random_state=0)
    table.loc[7, "price"] = -1
    with pytest.raises(
        ValueError, match=r"'price' is -1.0 at row 7 .*expected a whole number of at least 0.*Try dropping"
    ):
        check_table(model, table, tmp_path / "check")
    assert not os.listdir(tmp_path)
    table["price"] = rng.gamma(3.0, size=60)
    positive = TableModel.fit(table, ["price"], likelihood="gamma", epochs=2, ensemble=2, random_state=0)
    table.loc[7, "price"] = 0.0
    with pytest.raises(ValueError, match=r"'price' is 0.0 at row 7 .*expected a number above 0.*Try dropping"):
        check_table(positive, table, tmp_path / "check")
    table["price"] = table["price"].astype(float).where(table.index != 7, np.inf)
    with pytest.raises(ValueError, match=r"'price' is infinite at row 7 .*Try"):
        check_table(TableModel.load(folder / "model"), table, tmp_path / "check")


def test_a_page_is_of_some_rows_of_a_long_table_by_their_numbers(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "MOST_OF_PAGE", 25)
    monkeypatch.setattr(checking, "LEAST_OF_PAGE", 1)
    monkeypatch.setattr(importance, "MOST_MEASURED", 2)
    table = frame(200)
    last = int(np.random.default_rng(5).permutation(200)[:25].max())
    table.loc[last, "price"] = 1e3  # the worst of those that are drawn
    folder_of = check_table(TableModel.load(folder / "model"), table, tmp_path / "page", seed=5)
    page = html.unescape(folder_of.read_text())
    assert "25 of the 200 rows of the table, drawn at random, predicted" in page
    assert "Measured for the first 2 of 3 columns" in page
    assert re.search(rf"least likely.*?<td>{last}</td>", page, re.DOTALL)


def test_a_wide_table_is_shuffled_no_more_than_a_bound_and_shows_how_far_it_is(folder, tmp_path, monkeypatch):
    """15 columns: fewer shuffles of fewer rows, said on the page; a bar on a terminal alone."""
    table = pd.DataFrame(rng.normal(size=(300, 15)), columns=[f"x{k}" for k in range(15)])
    table["y"] = table["x0"] + rng.normal(size=300)
    model = TableModel.fit(table, ["y"], epochs=1, ensemble=2, random_state=0)
    rows, predicted = [], ProbMixRegressor.predict_dist

    def counted(self, own):
        rows.append(len(own))
        return predicted(self, own)

    monkeypatch.setattr(ProbMixRegressor, "predict_dist", counted)
    monkeypatch.setattr(importance, "MOST_SHUFFLED", 7500)
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    page = page_of(model, table, tmp_path / "wide")
    # Shuffled ones, those that are not, all of them for the scores, and again for the densities.
    assert "shuffled among 250 rows (2 times" in page and sum(rows) == 7500 + 250 + 300 + 300
    assert "checking" in terminal.getvalue() and "/34" in terminal.getvalue()
    quiet = io.StringIO()
    monkeypatch.setattr(sys, "stderr", quiet)
    page_of(TableModel.load(folder / "classes"), frame(20), tmp_path / "small")
    assert quiet.getvalue() == ""


def test_parts_are_those_that_are_worse_and_are_of_dates_and_of_missing_values_too():
    """Of 200 rows those of the last quarter of the year, of kind c, and without a size are worse by far more than chance."""
    table = pd.DataFrame({"day": pd.date_range("2021-01-01", periods=200).strftime("%Y-%m-%d")})
    table["kind"], table["size"] = rng.choice(["a", "b", "c"], 200), rng.normal(size=200)
    table.loc[rng.permutation(200)[:40], "size"] = np.nan
    columns = Columns.fit(table)
    late, empty = np.arange(200) >= 150, table["size"].isna().to_numpy()
    for rows, label in (
        (late, "day from 2021-05-31 to 2021-07-19"),
        (table["kind"] == "c", "kind = c"),
        (empty, "size is missing"),
    ):
        parts = parts_of(columns, table, np.where(rows, 3.0, 1.0) + rng.normal(size=200) / 5)
        assert parts[0].label == label and parts[0].count == np.sum(rows) and parts[0].excess > 20
        assert not parts[-1].stands_out and parts[-1].excess < 0
        assert sum(part.count for part in parts if part.label.startswith(("size from", "size is"))) == 200
    often = [part.stands_out for _ in range(100) for part in parts_of(columns, table, rng.normal(size=200))]
    assert 0.005 < np.mean(often) < 0.05  # one in forty, by chance


def test_parts_of_categories_however_they_are_written_and_of_columns_without_values():
    fitted = pd.DataFrame({"kind": ["a", "b"] * 20, "flag": [True, False] * 20, "size": range(40)})
    fitted["day"] = pd.date_range("2024-01-01", periods=40)
    columns = Columns.fit(fitted)
    other = fitted.assign(kind=pd.Categorical(["a", "b"] * 20), flag=(["TRUE", "false"] * 10 + ["true", "False"] * 10))
    labels = [part.label for part in parts_of(columns, other, np.arange(40.0))]
    assert {"kind = a", "kind = b", "flag = true", "flag = false"} <= set(labels) and len(labels) == 2 + 2 + 4 + 4
    for name in ("kind", "flag", "size", "day"):
        gone = fitted.assign(**{name: pd.Series([None] * 40, dtype=object)})
        labels = [part.label for part in parts_of(columns, gone, np.arange(40.0))]
        assert not any(label.startswith(name) for label in labels)  # all rows, so no part


def test_where_nothing_stands_out_no_part_is_listed(tmp_path):
    text = sections.failures(pd.DataFrame({"y": [0.0] * 30}), pd.DataFrame(index=range(30)), np.arange(30.0), [], 1)
    assert len(text.tables) == 1 and "No part stands out" in text.text


@pytest.mark.parametrize(
    ("scale", "shift", "judged", "density"),
    [
        (1.0, 0.0, "about right", "are compatible"),
        (0.5, 0.0, "too narrow", "do not fit"),
        (2.0, 0.0, "too wide", "do not fit"),
        (1.0, 0.25, "about right", "do not fit"),
    ],
)
def test_the_verdict_of_densities(scale, shift, judged, density):
    """500 equally spaced quantiles of a normal distribution, predicted by one of another width or mean."""
    y = norm.ppf((np.arange(500) + 0.5) / 500)
    predicted = GaussianMixture(np.full((1, 500), shift), scale)
    predictions = Predictions(y=y, draws=np.zeros((1, 2, 500)), densities=[predicted])
    told = verdict.verdict(predictions, 0, check_density(predicted, y), y, np.full(500, shift))
    assert judged in told[0] and density in told[1]
    assert f"{100 * np.mean(np.abs(y - shift) < 1.6448536 * scale):.1f} % of 500 rows" in told[0]
    assert "would do as well or better" in told[2]


@pytest.mark.parametrize(("sure", "judged"), [(0.7, "about right"), (0.95, "too sure"), (0.5, "not sure enough")])
def test_the_verdict_of_classes(sure, judged):
    """The first class in 70 % of 400 rows, predicted with another probability."""
    y = (np.arange(400) % 10 >= 7).astype(int)
    predictions = Predictions(
        y=y, draws=np.zeros((1, 2, 400)), kind="class", probabilities=np.tile([sure, 1 - sure], (400, 1))
    )
    told = verdict.verdict(predictions, 0, {}, y.astype(float), None)
    assert "right in 70.0 % ± 2.3 % of 400 rows" in told[0] and judged in told[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "{}/none.csv", "--target", "y"], "no file '{}/none.csv'. Try"),
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


def test_missing_values_are_taken_and_rows_without_a_target_left_out_on_request(tmp_path, capsys):
    table = frame().drop(columns="big")
    table.loc[3, "größe"] = np.nan
    table.loc[5, "kind"] = None
    table.loc[[7, 9], "price"] = np.nan
    table["odd"] = ["1/2/2024"] * 30 + ["3/4/2024"] * 30
    table.to_csv(tmp_path / "gaps.csv", index=False)
    arguments = ["fit", str(tmp_path / "gaps.csv"), "--target", "price", *FIT, "--out", str(tmp_path / "model")]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "'price' is missing in 2 of 60 rows, first at row 7" in said and "Try --drop-missing-target." in said
    assert "column 'odd' holds '1/2/2024'" in said and "--dates dmy" in said  # all at once
    assert main([*arguments, "--drop-missing-target", "--dates", "dmy"]) == 0
    said = capsys.readouterr()
    assert "note: 2 of 60 rows have no target, and are left out." in said.err and said.out.startswith("model: ")
    assert np.isfinite(TableModel.load(tmp_path / "model").predict(table).to_numpy()).all()


def test_a_class_named_na_or_none_is_one_from_every_file(tmp_path):
    table = pd.DataFrame({"x": np.arange(60.0), "y": ["NA", "None", "yes"] * 20})
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), read_table(tmp_path / "t.parquet"), check_dtype=False)
    with pytest.warns(UserWarning, match="holds 'NA' among texts, a category of its own; --missing NA makes it a gap"):
        model = TableModel.fit(read_table(tmp_path / "t.csv"), ["y"], epochs=1, ensemble=2, random_state=0)
    assert model.classes == ("NA", "None", "yes")


def test_codes_with_zeros_in_front_stay_texts(tmp_path):
    (tmp_path / "t.csv").write_text('zip,n,m\n01002,1,0\n1002,2,NA\n"00501",3,2.50\n')
    table = read_table(tmp_path / "t.csv")
    assert table["zip"].tolist() == ["01002", "1002", "00501"] and table["n"].tolist() == [1, 2, 3]
    assert table["m"].isna().tolist() == [False, True, False] and table["m"][2] == 2.5


def test_damaged_newer_and_foreign_models_are_refused(folder, tmp_path):
    model = TableModel.load(folder / "model")
    for change, sentence in (
        (lambda path: (path / "table.json").write_text("{"), "is damaged"),
        (lambda path: (path / "table.json").write_text(json.dumps({"format": 99})), "has format 99, expected 4"),
        (lambda path: next(path.glob("model-*")).write_bytes(b"x" * 99), "is damaged"),
        (lambda path: next(path.glob("model-*")).unlink(), "is damaged or was changed"),
    ):
        path = tmp_path / sentence.replace(" ", "-")
        model.save(path)
        change(path)
        with pytest.raises(ValueError, match=sentence):
            TableModel.load(path)
    old = json.loads((folder / "model" / "table.json").read_text()) | {"format": 1}
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "table.json").write_text(json.dumps(old))
    with pytest.raises(ValueError, match=r"has format 1, expected 4. Try fitting it again"):
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
        lambda record, other: record["columns"][0].update(decimal=","),
        lambda record, other: record["columns"][1].update(kind="number"),
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
    last = (err + out).rstrip("\n").rpartition("\n")
    assert all(line.startswith("note: ") for line in last[0].splitlines())
    assert (code == 0) == (tmp_path / "m").exists()
    return last[2]


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (lambda y: y.map("{:.2f}".format).str.replace(".", ","), "regression on price$"),
        (lambda y: y.abs().map("${:.2f}".format), "regression on price$"),
        (
            lambda y: pd.date_range("2024-01-01", periods=len(y)).strftime("%d/%m/%Y"),
            "'price' holds dates, as '01/01/2024'",
        ),
        (
            lambda y: pd.date_range("2024-01-01", periods=len(y)).strftime("%Y-%m-%d"),
            "'price' holds dates, as '2024-01-01'",
        ),
        (lambda y: [f"u{k}" for k in range(len(y))], "has 60 different texts in 60 rows, .*or --task classification"),
        (
            lambda y: y.astype(object).where(y.index != 7, "?"),
            r"is missing in 1 of 60 rows, first at row 7 .*Try --drop-missing-target",
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
        (TEXT.encode("utf-16")[:-1], "cannot be read"),
        (TEXT.encode("latin-1"), "Try saving it as UTF-8"),
        (gzip.compress(TEXT.encode(), mtime=0), "is compressed by gzip, expected text. Try unzipping it"),
        (b"PK\x03\x04rest", "is a zip archive or a spreadsheet"),
        (b"PAR1rest", "is a Parquet file, expected text. Try naming it .parquet"),
        (b"a;b;y\n1,5\n2,5\n1,5\n", "commas between its columns; this one has semicolons"),
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
    assert main(["predict", str(folder / "model"), str(tmp_path / "none.csv")]) == 1
    assert "the table has no rows" in capsys.readouterr().err
    table = frame(20)
    table.to_csv(tmp_path / "comma.csv", index=False)
    table.to_csv(tmp_path / "semi.csv", sep=";")  # and numbers of rows
    printed = []
    for name in ("comma.csv", "semi.csv"):
        assert main(["predict", str(folder / "model"), str(tmp_path / name)]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] and printed[0].count("\n") == 21


def test_gaps_and_levels_that_appear_after_training(folder, tmp_path, capsys):
    """They are taken, and notes say of gaps and of levels; with --impute nothing is said of gaps."""
    gap = frame(20)
    gap.loc[3, ["größe", "kind", "day"]] = None
    gap.loc[5, "kind"] = "unheard of"
    gap.to_csv(tmp_path / "gap.csv", index=False)
    fitted(tmp_path, capsys, frame().drop(columns="big"), "--impute")
    for model, said in (
        (folder / "model", ["values of 'größe', 'kind', 'day' are missing, and none was", "levels that no row"]),
        (tmp_path / "m", ["column 'kind' in 1 of 19 rows, such as 'unheard of'"]),
    ):
        assert main(["predict", str(model), str(tmp_path / "gap.csv"), "--out", str(tmp_path / "p.csv")]) == 0
        err = capsys.readouterr().err.splitlines()
        assert len(err) == len(said) and all(map(str.__contains__, err, said))
        assert np.isfinite(pd.read_csv(tmp_path / "p.csv").to_numpy()).all()


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


@pytest.mark.parametrize("option", ["--event", "--upper"])
def test_a_target_that_is_known_up_to_an_interval(option, tmp_path, capsys):
    age = rng.uniform(20, 80, 120)
    life, end = np.exp(5 - age / 40 + rng.normal(size=120) / 2).round(1), rng.uniform(5, 120, 120).round(1)
    table = pd.DataFrame({"age": age.round(), "days": np.minimum(life, end)})
    if option == "--event":
        table["told"] = (life <= end).astype(int)
    else:
        table["told"] = table["days"].where(life <= end)
        table.loc[::7, ["days", "told"]] = np.stack([np.full(18, np.nan), life[::7]], 1)
    table.to_csv(tmp_path / "t.csv", index=False)
    fit = ["fit", str(tmp_path / "t.csv"), "--target", "days", *FIT, "--out", str(tmp_path / "m")]
    assert main([*fit, option, "told"]) == 0
    model = TableModel.load(tmp_path / "m")
    assert model.columns.features == ("age",) and model.ends is not None and model.ends.name == "told"
    low, high = model.observed(table).T
    scores = row_scores(model, table, np.stack([low, high], 1))
    assert isinstance(model.estimator, ProbMixRegressor)
    assert scores.mean() == pytest.approx(model.estimator.nll(model.features(table), low, y_upper=high), abs=1e-6)
    assert main(["check", str(tmp_path / "m"), str(tmp_path / "t.csv")]) == 0
    page = html.unescape((tmp_path / "m" / "check" / "check.html").read_text())
    assert (
        f"In {int((low < high).sum())} of the rows the target is known up to an interval alone, by the column told"
        in page
    )
    assert "days at least" in page and "root mean squared" not in page and ">CRPS<" not in page
    assert main(["predict", str(tmp_path / "m"), str(tmp_path / "t.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    for more, said in (
        ([option, "nix"], "no column 'nix' beside its target"),
        (["--event", "age", "--upper", "told"], "expected one of the two"),
        (
            ["--event", "age"],
            r"expected true or false\. .* whether the target was observed \(1\) or is known to be",
        ),
        ([option, "told", "--task", "classification"], "for classes, expected a target of numbers"),
    ):
        capsys.readouterr()
        assert main([*fit, *more]) == 1
        assert re.search(said, capsys.readouterr().err)


def test_a_page_of_many_targets_says_whose_calibration_it_leaves_out(tmp_path, monkeypatch):
    monkeypatch.setattr("pyro_probmix.tabular.checking.MOST_DRAWN", 2)
    table = pd.DataFrame(rng.normal(size=(40, 4)), columns=["x", "a", "b", "c"])
    model = TableModel.fit(table, ["a", "b", "c"], epochs=1, ensemble=2, widths=(8, 8), random_state=0)
    page = check_table(model, table, tmp_path / "page").read_text()
    assert "of the first 2 of the 3 targets; those of the others, from c on, are left out" in page
    assert "a mean" in page and "c mean" in page
    assert {path.name for path in (tmp_path / "page").glob("fan*")} == {"fan-0-a.png", "fan-1-b.png"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "columns", "targets"), [(100_000, 20, 1), (2000, 300, 1), (5000, 20, 8), (500, 10, 30), (5000, 10, 80)]
)
def test_a_page_takes_at_most_half_a_minute_of_a_core(rows, columns, targets, tmp_path):
    """Of networks that are hardly trained, whose predictions mix the most draws of the embedding."""
    table = pd.DataFrame(rng.normal(size=(rows, columns)), columns=[f"x{k}" for k in range(columns)])
    table["kind"] = rng.choice(list("abcdefghij"), rows)
    names = [f"y{t}" for t in range(targets)]
    table[names] = table[["x0"]].to_numpy() * np.arange(targets) + rng.standard_t(3, size=(rows, targets))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = TableModel.fit(table[:500], names, epochs=1, random_state=0)
        start = time.process_time()
        check_table(model, table, tmp_path / "page")
        assert time.process_time() - start < 30
    finally:
        torch.set_num_threads(threads)
