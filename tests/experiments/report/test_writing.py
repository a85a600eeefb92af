"""The report as a reader gets it: the command, the page and its Markdown twin, and what they leave out."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pyro_probmix.cli import main
from pyro_probmix.experiments.config import PAPER
from pyro_probmix.experiments.report import write_report
from pyro_probmix.experiments.report.figures.boxplots import box_plots, robust_limits
from pyro_probmix.experiments.report.figures.calibration import coverage_curves, pit_histograms
from pyro_probmix.experiments.report.figures.curves import training_curves
from pyro_probmix.experiments.report.figures.style import png, style_of
from pyro_probmix.experiments.report.numbers.paper import METHODS
from pyro_probmix.experiments.report.numbers.reading import read_run, read_runs
from pyro_probmix.experiments.report.pages.page import Table, Text
from pyro_probmix.experiments.report.tables.records import runs_table
from pyro_probmix.experiments.report.tables.scores import chosen_table
from pyro_probmix.unfinished import private_folder
from tests.experiments.report import cases as cases

PNG = b"\x89PNG"
TWO = ("ERM", "Mix")


def report(capsys, *arguments):
    code = main(["report", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


class Page(HTMLParser):
    """Tags that are opened and closed, links, images, and the text of each table's rows."""

    VOID = ("meta", "img", "br", "link", "hr", "input")

    def __init__(self, text):
        super().__init__()
        self.stack, self.ids, self.links, self.sources, self.rows, self.wrong = [], set(), [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag not in self.VOID:
            self.stack.append(tag)
        if "id" in found:
            self.ids.add(found["id"])
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found["src"]] if "src" in found else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if {"td", "th"} & set(self.stack):
            self.rows[-1][-1] += data

    def row(self, *starts):
        """The row whose first cells are these, and in order what stands in it."""
        cells = [[" ".join(cell.split()) for cell in row] for row in self.rows]
        return next(row for row in cells if row[: len(starts)] == list(starts))


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """Runs with all that a run can leave, and their report."""
    folder = tmp_path_factory.mktemp("runs")
    methods = (*METHODS, "5x M-ProbMix", "RegMixup")
    uci = cases.uci(("yacht", "kin8nm"), methods, ("fixed", "chosen"), splits=3)
    yacht = uci[uci["dataset"].eq("yacht") & uci["setting"].eq("fixed") & uci["method"].isin(["ERM", "5x M-ProbMix"])]
    cases.write_run(folder / "uci", uci, curves=cases.curves(yacht, 20), calibration=cases.pit(yacht))
    cases.write_run(folder / "stocks", cases.stocks())
    grid = cases.ablation("regression", runs=4)
    cases.write_run(folder / "grid", grid[grid["setting"].isin(["alpha=0.1 beta=0", "alpha=1 beta=0.01"])])
    toy = cases.ablation("classification", 4, TWO, "toy-classification", ["fixed"])
    cases.write_run(folder / "toy", toy, calibration=cases.confidences(toy), figures=["regions", "scores"])
    runs = [folder / name for name in ("uci", "stocks", "grid", "toy")]
    return write_report(runs, folder / "out").parent


def test_the_page_needs_nothing_but_itself(everything):
    text = (everything / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.stack and not page.wrong
    assert page.links and all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert page.sources and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not re.search(r"@import|url\(|<script|<link|https?://", text)


def test_markdown_has_the_same_numbers_and_its_figures_beside_it(everything):
    page = Page((everything / "report.html").read_text(encoding="utf-8"))
    text = (everything / "report.md").read_text(encoding="utf-8")
    figures = re.findall(r"\]\((report-figures/[^)]+)\)", text)
    assert len(figures) == len(set(figures)) == len(page.sources)
    found = [path for path in (everything / "report-figures").rglob("*") if path.is_file()]
    assert {str(path.relative_to(everything)) for path in found} == set(figures)
    assert all((everything / name).read_bytes().startswith(PNG) for name in figures)
    tables = [line for line in text.splitlines() if line.startswith("|") and not set(line) <= set("|- ")]
    assert len(tables) == len(page.rows)
    for line, row in zip(tables, page.rows, strict=True):
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        assert len(cells) == len(row)
        numbers = [re.findall(r"\d+\.\d+", cell) for cell in cells]
        assert numbers == [re.findall(r"\d+\.\d+", cell) for cell in row]
    assert text.count("\n## ") == 16


def test_figures_carry_the_papers_numbers(everything):
    text = (everything / "report.md").read_text(encoding="utf-8")
    assert "Figure 6 of the paper: toy regression, α = 0.1, β = 0." in text
    assert "Figure 13 of the paper: toy regression, α = 1, β = 0.01." in text
    assert "Figure 14 of the paper" in text and "regions-toy.png" in text
    assert "Figures 2 and 3 of the paper: left out" in text  # no run of the toy regression left its bands


def test_both_settings_stand_below_the_papers_cells(everything):
    page = Page((everything / "report.html").read_text(encoding="utf-8"))
    rows = [[" ".join(cell.split()) for cell in row] for row in page.rows]
    start = next(k for k, row in enumerate(rows) if row[:2] == ["yacht", "paper"])
    assert rows[start][2].startswith("0.44") and rows[start][10].startswith("0.26 ★")
    assert [row[1] for row in rows[start + 1 : start + 3]] == ["ours, fixed", "ours, chosen"]
    header = next(row for row in rows if row[:2] == ["data set", "numbers"])
    assert header[2:] == [*METHODS, "5x M-ProbMix", "RegMixup"]
    assert any("α 0.1, β 0 on 2 splits" in cell for row in rows for cell in row)
    assert any("initial weights" in cell for row in rows for cell in row)


def test_one_run_is_reported_in_its_own_folder_without_what_it_lacks(capsys, tmp_path):
    run = cases.write_run(tmp_path / "run", cases.uci(("yacht",), ("ERM", "M-ProbMix")), config=False)
    code, out, err = report(capsys, run)
    assert code == 0 and out == f"report: {run / 'report.html'}\n" and not err
    text = (run / "report.md").read_text(encoding="utf-8")
    for line in (
        "No config.json: run",
        "Table 2, NLL on the stocks: left out",
        "Left out: no run has a curves.parquet.",
        "Left out: no run has a calibration.parquet.",
        "Left out: no run of ablation-regression is among these.",
    ):
        assert text.count(line) == 1, line
    assert text.count("Not among these runs: bostonHousing") == 2  # below Table 1 and below Table 3
    assert not (run / "report-figures").exists()


def test_exact_numbers_of_a_small_run(tmp_path):
    key = ("uci", "kin8nm", "mlp", "ERM", "fixed")
    other = ("uci", "kin8nm", "mlp", "Mix", "fixed")
    results = pd.concat(
        [
            cases.rows(key, {"nll": [-1.2, -1.0], "rmse": [0.07, 0.08]}),
            cases.rows(other, {"nll": [-1.3, -1.4], "rmse": [0.09, np.nan]}),
        ]
    )
    run = cases.write_run(tmp_path / "run", results)
    page = Page(write_report([run]).read_text(encoding="utf-8"))
    rows = [[" ".join(cell.split()) for cell in row] for row in page.rows]
    ours = [row for row in rows if row[:2] == ["", "ours, fixed"]]
    assert ours[0][2:4] == ["-1.10 ± 0.14", "-1.35 ★ ✓ ± 0.07"]  # the paper has -1.14 and -1.01
    assert ours[1][2:4] == ["7.50 ★ ± 0.71", "9.00 (1 of 2)"]  # RMSE x 100; the paper has 7.41 and 7.73
    paired = [row for row in rows if row[:2] == ["kin8nm", "fixed"]]
    assert paired[0][2] == "-0.250 ± 0.166"  # 0.15 for runs that share no rows, here a ninth of 2 splits more
    assert paired[1][2] == "+2.00 (1 of 2)"


def test_paired_differences_are_of_medians_for_toys_and_say_what_they_are(tmp_path):
    rng = np.random.default_rng(0)
    erm, mix = rng.normal(10, 1, (2, 40))
    erm[:3] = 1e6  # by which the mean of ERM is far above that of Mix, which is worse in all other runs
    toy = [
        cases.rows(("toy-regression", "toy-regression", "mlp", name, "fixed"), {"nll": own})
        for name, own in (("ERM", erm), ("Mix", mix + 3), ("ProbMix", np.where(erm < 1e5, erm - 3, np.nan)))
    ]
    lost = np.where(np.arange(20) < 2, np.nan, 1.0 + 0.01 * np.arange(20))
    uci = [
        cases.rows(("uci", "yacht", "mlp", name, "fixed"), {"nll": own})
        for name, own in (("ERM", np.linspace(0, 1, 20)), ("Mix", lost), ("ProbMix", np.linspace(0, 1, 20) + 1e-3))
    ]
    run = cases.write_run(tmp_path / "run", pd.concat(toy))
    splits = cases.write_run(tmp_path / "splits", pd.concat(uci))
    out = write_report([run, splits], tmp_path / "out")
    text = out.with_suffix(".md").read_text(encoding="utf-8").split("## Paired differences")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in text.split("minus its counterpart")[0].splitlines()]
    cells = {line[0]: line[2:] for line in lines}
    gap = np.median(mix) + 3 - np.median(erm)
    assert cells["toy-regression"][0].startswith(f"+{gap:.2f} \\[") and cells["toy-regression"][0].endswith("\\] ○")
    assert cells["toy-regression"][1].startswith("-") and cells["toy-regression"][1].endswith("●")
    assert cells["yacht"][0].endswith(" (18 of 20) ○") and cells["yacht"][1] == "+0.001 ± 0.000 ○"
    assert cells["data sets ahead, behind"][:2] == ["● 0  ○ 2 of 2", "● 1  ○ 1 of 2"]
    for words in ("Toys: the difference of the medians", "UCI sets: the mean over the splits", "of the 6 comparisons"):
        assert words in text.replace("\\", ""), words
    alone = write_report([splits], tmp_path / "alone").with_suffix(".md").read_text(encoding="utf-8")
    assert "Toys: " not in alone and "UCI sets: the mean" in alone and "stocks in dollars" not in alone


def test_scores_of_toys_are_medians_and_the_middle_half_of_their_runs(tmp_path):
    erm, mix = np.array([1.0, 2.0, 3.0, 4.0, 1e6]), np.array([2.0, 3.0, 4.0, 5.0, np.nan])
    toy = [
        cases.rows(("toy-regression", "toy-regression", "mlp", name, "fixed"), {"nll": own, "nll (plug-in)": own + 1})
        for name, own in (("ERM", erm), ("Mix", mix))
    ]
    mine = [cases.rows(("table", "mine", "mlp", name, "fixed"), {"nll": [1.0, 2.0, 6.0]}) for name in ("ERM", "Mix")]
    run, table = cases.write_run(tmp_path / "run", pd.concat(toy)), cases.write_run(tmp_path / "table", pd.concat(mine))
    rows = Page(write_report([run, table], tmp_path / "out").read_text(encoding="utf-8")).rows
    shown = [[" ".join(cell.split()) for cell in row] for row in rows]
    scores = {row[0]: row[2:] for row in shown if row[1:2] == ["NLL, fixed"]}
    assert scores["toy-regression"] == ["3.00 ★ [2.00, 4.00]", "4.00 [3.00, 5.00] (4 of 5)"]
    assert scores["mine"] == ["3.00 ★ ± 2.65", "3.00 ★ ± 2.65"]
    assert ["toy-regression", "fixed", "3.000 / 4.000", "4.000 / 5.000"] in shown


def test_epochs_that_patience_may_cut_short_are_told(tmp_path):
    run = cases.write_run(tmp_path / "run", cases.uci(("yacht",), ["ERM"], splits=2))
    told = json.loads((run / "config.json").read_text(encoding="utf-8")) | {"patience": 50}
    (run / "config.json").write_text(json.dumps(told), encoding="utf-8")
    page = Page(write_report([run]).read_text(encoding="utf-8"))
    assert page.row("run", "uci")[6] == "1000, or 50 without a better validation NLL"


def test_choices_that_the_setting_does_not_stand_for_are_told(tmp_path):
    runs = {
        "ours": {},
        "own": {"targets": "raw"},
        "theirs": PAPER | {"setting": "paper"},
        "older": {"setting": "paper"},
    }
    folders = [cases.write_run(tmp_path / name, cases.uci(("yacht",), ["ERM"], splits=2)) for name in runs]
    for name, folder in zip(runs, folders, strict=True):
        record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(record | runs[name]), encoding="utf-8")
    told = [block.text for block in runs_table([read_run(one) for one in folders]) if isinstance(block, Text)]
    assert told == [
        "own has, under the setting fixed, choices of its own: targets raw.",
        "older has, under the setting paper, choices of its own: "
        "targets standardised, scale softplus, scale_floor 0.001, scale_start -3.0.",
    ]


def test_what_was_chosen_is_told_of_what_the_tries_differed_in():
    """Pairs, initial weights, and alpha beside initial weights, for a method that uses no beta."""
    nll = [1.0, 2.0]
    tries = {
        "Mix": ("alpha=0.1 beta=0", "alpha=1 beta=0", "alpha=0.1 beta=0.01"),
        "ADA": ("alpha=0.1 beta=0", "alpha=0.1 beta=0 start=1"),
        "FOMA": ("alpha=0.1 beta=0", "alpha=1 beta=0", "alpha=0.1 beta=0 start=1", "alpha=1 beta=0 start=1"),
    }
    results = pd.concat(
        cases.rows(
            ("uci", "yacht", "mlp", method, "chosen"),
            {f"validation nll, {label}": nll for label in labels} | {"alpha": [0.1, 1.0], "beta": [0.0, 0.0]},
        )
        for method, labels in tries.items()
    )
    (table,) = chosen_table(results)
    assert isinstance(table, Table) and table.columns[2:] == ("Mix", "ADA", "FOMA")
    mix, ada, foma = table.rows[0].cells[2:]
    assert mix.lines == ("α 0.1, β 0 on 1 splits", "α 1, β 0 on 1 splits")
    assert ada.text == "initial weights" and foma.lines == ("α 0.1 on 1 splits", "α 1 on 1 splits")


def test_a_row_with_methods_missing_is_not_counted_as_lost(tmp_path):
    results = cases.uci(("yacht", "kin8nm"), METHODS, splits=2)
    part = results[~(results["dataset"].eq("kin8nm") & results["method"].eq("M-ProbMix"))]
    rows = "Table 1, NLL on the UCI sets: rows where our best is no worse than the paper's best"
    for numbers, measured in ((results, "2"), (part, "1")):
        run = cases.write_run(tmp_path / measured, numbers)
        page = Page(write_report([run]).read_text(encoding="utf-8"))
        assert page.row(rows)[1].endswith(f" of {measured}")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("config.json", b'{"x": 1}', "has null for experiment, expected a run's record"),
        ("config.json", b'{"experiment": "uci", "epochs": {}, "versions": {}}', "has {} for epochs"),
        ("figures/bands.png", b"garbage", "is no PNG file"),
    ],
)
def test_foreign_files_of_a_run_are_named(capsys, tmp_path, name, content, sentence):
    run = cases.write_run(tmp_path / "run", cases.uci(("yacht",), ["ERM"], splits=2))
    (run / name).write_bytes(content)
    status, _, said = report(capsys, run)
    assert status == 1 and sentence in said and "Traceback" not in said


def test_a_run_that_has_finished_no_method_is_one(capsys, tmp_path):
    (tmp_path / "run" / "cells").mkdir(parents=True)
    assert "no method of" in report(capsys, tmp_path / "run")[2]


def test_the_same_report_twice_and_old_figures_go(tmp_path):
    run = cases.write_run(
        tmp_path / "run", grid := cases.ablation("regression", 4, TWO, settings=["alpha=0.1 beta=0", "alpha=1 beta=0"])
    )
    first = write_report([run]).read_bytes()
    before = {path: path.read_bytes() for path in (run / "report-figures").glob("*/*")}
    assert write_report([run]).read_bytes() == first
    assert {path: path.read_bytes() for path in (run / "report-figures").glob("*/*")} == before
    assert len(before) == 2
    own = [run / "report-figures" / "mine.png", next(iter(before)).with_name("mine.png")]
    for path in own:
        path.write_bytes(b"mine")
    grid[grid["setting"].eq("alpha=1 beta=0")].to_parquet(run / "results.parquet", index=False)
    write_report([run])
    (drawn,) = {path for path in (run / "report-figures").rglob("*.png")} - set(own)
    assert drawn.name == "ablation-regression-alpha1-beta0.png"
    assert all(path.read_bytes() == b"mine" for path in own)  # what is not the report's stays
    assert not list(run.rglob(".partial*"))


def test_a_report_that_cannot_be_written_leaves_the_old_one(capsys, tmp_path, monkeypatch):
    run = cases.write_run(tmp_path / "run", cases.uci(("yacht",), ("ERM", "Mix")))
    before = write_report([run]).read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = report(capsys, run)
    assert code == 1 and "could not be written (No space left on device)" in err and err.count("\n") == 1
    assert (run / "report.html").read_bytes() == before and not list(run.rglob(".partial*"))
    (tmp_path / "file").write_text("")
    code, _, err = report(capsys, run, "--out", tmp_path / "file")
    assert code == 1 and "could not be written" in err and "Try another --out" in err


def damaged(tmp_path, kind):
    run = cases.write_run(tmp_path / "run", cases.uci(("yacht",), ("ERM", "Mix")), curves=None)
    file = run / "results.parquet"
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif kind == "foreign":
        file.write_text("method,nll\nERM,1\n")
    elif kind == "columns":
        pq.write_table(pa.table({"a": [1]}), file)
    elif kind == "text":
        pd.read_parquet(file).astype({"value": str}).to_parquet(file)
    elif kind == "unnamed":
        frame = pd.read_parquet(file)
        frame.loc[0, "method"] = None
        frame.to_parquet(file)
    elif kind == "twice":
        frame = pd.read_parquet(file)
        pd.concat([frame, frame[:1]]).to_parquet(file)
    elif kind == "empty":
        pd.read_parquet(file)[:0].to_parquet(file)
    elif kind == "none":
        file.unlink()
    elif kind == "config":
        (run / "config.json").write_text('{"epochs": 10')
    elif kind == "list":
        (run / "config.json").write_text("[1]")
    elif kind == "curves":
        (run / "curves.parquet").write_bytes(b"PAR1")
    elif kind == "deep":
        (run / "config.json").write_text("[" * 200_000)
    elif kind == "pipe":  # to open it would wait for somebody who writes
        (run / "config.json").unlink(missing_ok=True)
        os.mkfifo(run / "config.json")
    elif kind == "loop":
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        return tmp_path / "loop"
    elif kind == "bomb":
        text = pa.array(["x" * 1_000_000]).dictionary_encode()
        codes = pa.array(np.zeros(2000, np.int32))
        pq.write_table(pa.table({"method": pa.DictionaryArray.from_arrays(codes, text.dictionary)}), file)
    return run


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("truncated", "results.parquet' is not a whole Parquet file"),
        ("foreign", "results.parquet' is not a whole Parquet file"),
        ("columns", "results.parquet' has no column 'experiment', expected experiment, dataset"),
        ("text", "the column 'value' is string, expected a number"),
        ("unnamed", "some rows have no method, expected a name in each"),
        ("twice", "holds two values of uci, yacht, mlp, ERM, fixed, 0, nll, expected one"),
        ("empty", "results.parquet' has no rows yet"),
        ("none", "holds no results.parquet"),
        ("config", "config.json' is not whole JSON"),
        ("list", "config.json' holds a list, expected a run's record"),
        ("curves", "curves.parquet' is not a whole Parquet file"),
        ("deep", "config.json' is not whole JSON (maximum recursion"),
        ("pipe", "config.json' is not whole JSON (it is no regular file)"),
        ("loop", "is not there, expected a run's folder"),
        ("bomb", "which take more than 1024 MiB of memory"),
    ],
)
def test_a_damaged_run_is_named_in_one_sentence(capsys, tmp_path, kind, sentence):
    run = damaged(tmp_path, kind)
    code, out, err = report(capsys, run)
    assert code == 1 and not out
    assert sentence in err and "Try " in err and err.count("\n") == 1
    assert not os.path.exists(run / "report.html")


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_a_report_replaces_no_file_of_another(capsys, tmp_path, name):
    run = cases.write_run(tmp_path / "run", cases.uci(("yacht",), ("ERM",), splits=2))
    (run / name).write_text("my own")
    code, _, err = report(capsys, run)
    assert code == 1 and f"holds '{name}', which is no report and would be replaced, expected none. Try another" in err
    assert (run / name).read_text() == "my own" and not list(run.glob("report-figures"))


def test_folders_that_are_none(capsys, tmp_path):
    run = cases.write_run(tmp_path / "results" / "uci-yacht", cases.uci(("yacht",), ("ERM",)))
    assert "is not there, expected a run's folder" in report(capsys, tmp_path / "nowhere")[2]
    assert "is a file, expected a run's folder" in report(capsys, run / "config.json")[2]
    assert "holds no results.parquet. Try its folder 'uci-yacht'" in report(capsys, run.parent)[2]
    other = cases.write_run(tmp_path / "other", cases.uci(("yacht",), ("Mix",)))
    assert "a report of 2 runs needs a folder, none was given. Try --out" in report(capsys, run, other)[2]
    same = cases.write_run(tmp_path / "same", cases.uci(("yacht",), ("ERM",), seed=1))
    code, _, err = report(capsys, run, same, "--out", tmp_path / "out")
    assert code == 1 and "both hold uci, yacht, mlp, ERM, fixed, split 0. Try one of the two." in err
    assert report(capsys, run, run, "--out", tmp_path / "out")[0] == 0  # given twice, it counts once


def test_runs_of_other_splits_add_to_each_other(capsys, tmp_path):
    rows = cases.uci(("yacht",), ("ERM",), splits=3)
    one = cases.write_run(tmp_path / "one", rows)
    later = rows.assign(split=rows["split"] + 3)
    two = cases.write_run(tmp_path / "two", later)
    both = read_runs([one, two]).results
    pd.testing.assert_frame_equal(both, pd.concat([rows, later], ignore_index=True))
    assert report(capsys, one, two, "--out", tmp_path / "out")[0] == 0
    config = json.loads((two / "config.json").read_text())
    full = {"methods_in_full": {"ERM": {"site": None}}}
    (one / "config.json").write_text(json.dumps(config | full))
    for change, sentence in (
        ({"epochs": 10}, "with epochs 1000 and 10"),
        ({"patience": 50}, "with patience None and 50"),  # None is a value, too
        ({"targets": "raw"}, "with targets standardised and raw"),  # an option that the other record does not name
        ({"methods_in_full": {"ERM": {"site": "y"}}}, "by another method of this name"),
        (None, "not both a config.json"),
    ):
        (two / "config.json").unlink(missing_ok=True)
        if change is not None:
            (two / "config.json").write_text(json.dumps(config | full | change))
        code, _, err = report(capsys, one, two, "--out", tmp_path / "other")
        assert (
            code == 1
            and f"{sentence}, expected runs alike but for their splits. Try one of the two."
            in err.replace(" that tells how", "")
        )


def test_runs_of_one_name_keep_their_figures_apart(tmp_path):
    toys = {name: cases.ablation("regression", 3, TWO, "toy-regression", [name]) for name in ("fixed", "mine")}
    runs = [cases.write_run(tmp_path / name / "toy", results, figures=["bands"]) for name, results in toys.items()]
    out = write_report(runs, tmp_path / "out").parent
    assert len(list((out / "report-figures").glob("*/bands-*.png"))) == 2


@pytest.mark.parametrize(
    "name", ["a\n# heading", "a\r\n\r\n- item", "# heading", "- item", "1. item", "a\x1b[31m", "a\n===", "x" * 5000]
)
def test_no_name_begins_a_heading_or_a_list(tmp_path, name):
    """A stranger's results are shown, each name in its line."""
    frame = cases.ablation("regression", 3, TWO, "toy-regression", ["fixed"])
    usual = write_report([cases.write_run(tmp_path / "usual", frame)]).with_name("report.md").read_text("utf-8")
    odd = frame.assign(**{key: frame[key].replace("Mix", name) for key in ("method",)}, dataset=name, network=name)
    text = write_report([cases.write_run(tmp_path / "odd", odd)]).with_name("report.md").read_text("utf-8")
    begins = re.compile(r"^ {0,3}(#+ |[-+*] |\d+[.)] |=+ *$|-+ *$)")
    assert sum(bool(begins.match(line)) for line in text.splitlines()) <= sum(
        bool(begins.match(line)) for line in usual.splitlines()
    )
    assert all(line.isprintable() for line in text.split("\n")) and "y" * 300 not in text and "x" * 300 not in text


def test_names_from_users_are_shown_as_they_are(tmp_path):
    name = "<b>$x_1$ | 米*"
    results = cases.uci(("yacht",), ("ERM", "Mix")).replace({"method": {"Mix": name}})
    table = results.assign(experiment="table", dataset="my|data<i>")
    run = cases.write_run(tmp_path / "run", table, curves=cases.curves(table, 5), calibration=cases.pit(table))
    page = Page(write_report([run]).read_text(encoding="utf-8"))
    assert not page.stack and not page.wrong
    assert any(name in cell for row in page.rows for cell in row)
    assert any("my|data<i>" in cell for row in page.rows for cell in row)
    text = (run / "report.md").read_text(encoding="utf-8")
    assert r"\<b\>$x\_1$ \| 米\*" in text


def test_methods_without_any_number_are_drawn_and_named(tmp_path):
    some = ("ERM", "Mix", "M-Mix")
    results = cases.ablation("regression", 3, some, settings=["alpha=0.1 beta=0"])
    toy = cases.ablation("regression", 3, some, "toy-regression", ["fixed"])
    everything = pd.concat([results, toy])
    everything.loc[everything["method"].eq("Mix"), "value"] = np.nan
    everything.loc[everything["method"].eq("M-Mix"), "value"] = np.inf
    calibration = cases.pit(toy)
    calibration.loc[calibration["method"].eq("Mix"), "count"] = 0
    curves = cases.curves(toy, 5)
    curves.loc[curves["method"].eq("Mix"), ["train_loss", "validation_nll"]] = np.nan
    run = cases.write_run(tmp_path / "run", everything, curves=curves, calibration=calibration)
    write_report([run])
    text = (run / "report.md").read_text(encoding="utf-8")
    assert "no test row has a finite predictive under Mix." in text and "(0 of 3)" in text


def test_limits_show_the_bulk_and_count_the_rest():
    low, high = robust_limits(np.array([1.0, 2, 3, 4, 5, np.nan, np.inf]))
    assert low < 1 and 5 < high < 6
    assert robust_limits(np.full(5, 3.0))[0] < 3 < robust_limits(np.full(5, 3.0))[1]
    assert robust_limits(np.empty(0)) == (0.0, 1.0)
    frame = pd.DataFrame({"ERM": [1.0, 2, 3, 4], "LocMix": [2.0, 3, 4, 500], "Mix": [900.0, 901, 902, 903]})
    near = pd.DataFrame({f"m{k}": [1.0, 2, 3, 4] for k in range(8)})
    (ax,) = box_plots({"NLL": pd.concat([frame, near], axis=1)}).axes
    assert ax.get_xlim()[1] < 10
    notes = [text.get_text() for text in ax.texts if text.get_text()]
    assert notes == ["▸ 1, to 500.00", "▸ all, median 901.50"]
    assert [label.get_text() for label in ax.get_yticklabels()][:3] == ["ERM", "LocMix", "Mix"]


def test_no_two_methods_of_a_panel_look_alike():
    further = ["RegMixup", "C-Mixup", "beta-NLL", "LinProbMix"]
    for group in ([*METHODS, "5x ERM", "5x Mix", "5x LocMix", "5x M-ProbMix*"], ["ERM", *further]):
        looks = [(style_of(name, k).colour, style_of(name, k).line) for k, name in enumerate(group)]
        assert len(set(looks)) == len(looks)


def test_figures_show_every_method(tmp_path):
    names = [*METHODS, "5x ERM", "RegMixup", "C-Mixup"]
    rng = np.random.default_rng(0)
    counts = {name: rng.multinomial(500, np.full(100, 0.01)).astype(float) for name in names}
    assert {ax.get_title() for ax in pit_histograms(counts).axes} >= set(names)
    figure = coverage_curves(counts)
    shown = {text.get_text() for ax in figure.axes if (legend := ax.get_legend()) for text in legend.get_texts()}
    assert shown == set(names)
    results = cases.uci(("yacht",), names, splits=2)
    figure = training_curves(cases.curves(results, 10))
    assert {ax.get_title() for ax in figure.axes} >= set(names)
    assert png(figure).startswith(PNG)


def test_the_report_of_the_runs_in_the_repository(tmp_path):
    """The UCI runs that the repository holds: the counts are those of their results, computed again from the files."""
    paths = [path.parent for path in Path("results").glob("uci*/results.parquet")]
    if not paths:
        pytest.skip("the repository's results are not here")
    # Without the curves and counts, whose figures take long, and are drawn from made-up ones above.
    copies = [cases.write_run(tmp_path / path.name, pd.read_parquet(path / "results.parquet")) for path in paths]
    page = Page(write_report(copies, tmp_path / "out").read_text(encoding="utf-8"))
    results = pd.concat([pd.read_parquet(path / "results.parquet") for path in paths])
    paper = pd.read_csv("pyro_probmix/experiments/report/numbers/paper_tables.csv").query("table == 1")
    ours = (
        results.query("metric == 'nll' and setting == 'fixed'").groupby(["dataset", "method"])["value"].mean().round(2)
    )
    theirs = paper.set_index(["dataset", "method"])["mean"].reindex(ours.index).dropna()
    count = int((ours[theirs.index] <= theirs + 1e-9).sum())
    line = page.row("Table 1, NLL on the UCI sets: cells no worse than the paper's")
    assert line[1] == f"{count} of {len(theirs)}"


def test_the_command_imports_nothing_heavy_before_it_must():
    code = "import sys, pyro_probmix.cli; assert not {'jinja2', 'matplotlib', 'pandas', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.timeout(120)
def test_a_run_that_is_named_twice_and_written_to_meanwhile_is_waited_for_by_nobody(tmp_path):
    one, two = (tmp_path / name for name in ("one", "two"))
    cases.write_run(one, cases.ablation("regression", 3, ("ERM",)))
    cases.write_run(two, cases.ablation("regression", 3, ("Mix",)))
    with private_folder(one):  # of a command that is writing there
        for runs in ((one, one), (one, two), (two, one, one / ".." / "one")):
            assert write_report(runs, tmp_path / "report").is_file()
        assert any(name.startswith(".partial-") for name in os.listdir(one))
