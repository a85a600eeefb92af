"""The documentation: its examples run, its commands are ones that there are, its tables are those of the results."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
import tokenize
import tomllib
from dataclasses import replace
from functools import reduce
from pathlib import Path
from tokenize import COMMENT, NAME, STRING
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread
from torch import distributed

import pyro_probmix
from benchmarks import uci
from benchmarks.published_splits import read
from pyro_probmix import METHODS, ExpectedLogLikelihood, ProbMix, build_density, calibration, inference, models
from pyro_probmix.cli import main
from pyro_probmix.cli.command import parser
from pyro_probmix.experiments.audit.design import PARTS
from pyro_probmix.experiments.audit.regimes import DATASETS
from pyro_probmix.experiments.command import OF_MANY_RUNS, config_of
from pyro_probmix.experiments.config import EXPERIMENTS
from pyro_probmix.models import Gaussian

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "findings/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs").glob("tutorials/*.md")),
]
#: What the fences of a page hold, after the word that says what it is.
FENCE = re.compile(r"^ *```(\S*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, kind: str) -> list[str]:
    return [text for word, text in FENCE.findall(page.read_text("utf-8")) if word == kind]


def scripts(page: Path) -> list[str]:
    """The Python that is no doctest, and so is run by a test of this file or another."""
    return [text for text in blocks(page, "python") if ">>>" not in text]


def lines_of(page: Path, program: str) -> list[str]:
    text = "\n".join(blocks(page, "")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.startswith(f"{program} ")]


def load(name: str) -> ModuleType:
    """A script of docs/, which is not installed."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def named_in_the_api() -> list[str]:
    """The full names that docs/api.md lists."""
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    parts = re.split(r"^\.\. currentmodule:: (.+)$", text, flags=re.MULTILINE)[1:]
    listed = zip(parts[::2], parts[1::2], strict=True)
    return [
        f"{module}.{name}" for module, names in listed for name in re.findall(r"^   ([\w.]+)$", names, re.MULTILINE)
    ]


def imports(source: str) -> list[str]:
    """The full names that Python code takes from this package."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.startswith("pyro_probmix")]


def look_up(name: str) -> Any:
    """A module, or what stands in one."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        module = ".".join(parts[:k])
        try:
            return reduce(getattr, parts[k:], importlib.import_module(module))
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):  # a library that is missing is another matter
                raise
    raise ModuleNotFoundError(name)


def test_all_that_pages_and_benchmarks_import_is_there():
    code = {
        path: path.read_text("utf-8") for folder in ("docs", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    }
    for page in PAGES:
        text = page.read_text("utf-8")
        # One statement a line; those of several lines are in the scripts, which run.
        code[page] = "\n".join(
            re.findall(r"^(?:>>> )?((?:from|import) [\w.]+(?: import [\w., ]+)?)$", text, re.MULTILINE)
        )
    names = {name for source in code.values() for name in imports(source)}
    if importlib.util.find_spec("skpro") is None:  # make test-skpro runs the pages that have it
        names = {name for name in names if not name.startswith("pyro_probmix.skpro")}
    assert len(names) > 50
    for name in sorted(names):
        look_up(name)


def test_all_python_is_a_doctest_but_for_scripts_that_other_tests_run():
    found = {str(page.relative_to(ROOT)): len(scripts(page)) for page in PAGES if scripts(page)}
    assert found == {
        "docs/scaling.md": 3,
        "docs/serving.md": 1,
    }  # train.py by test_distributed, serve.py by test_export


def test_the_sweep_of_scaling_runs(tmp_path, monkeypatch):
    script = scripts(ROOT / "docs" / "scaling.md")[0]
    (tmp_path / "sweep.py").write_text(script.replace("jobs=2", "jobs=1"))
    short = replace(EXPERIMENTS["toy-regression"], methods=("ERM", "ProbMix"), splits=(0,), epochs=1)
    monkeypatch.setitem(EXPERIMENTS, "toy-regression", short)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("sweep.py", run_name="__main__")
    assert set(pd.read_parquet("runs/toy/results.parquet")["method"]) == {"ERM", "ProbMix"}


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="PyTorch has no gloo here")
def test_the_loop_of_scaling_trains(tmp_path):
    script = scripts(ROOT / "docs" / "scaling.md")[2]
    x = torch.linspace(-1, 1, 60)[:, None]
    density = build_density(METHODS["ProbMix"], num_features=1, likelihood=Gaussian, widths=(8,))
    before = [parameter.detach().clone() for parameter in density.parameters()]
    names: dict[str, Any] = {
        "torch": torch,
        "distributed": distributed,
        "DistributedDataParallel": torch.nn.parallel.DistributedDataParallel,
        "ExpectedLogLikelihood": ExpectedLogLikelihood,
        "process": ProbMix(density, at="y"),
        "optimizer": torch.optim.Adam(density.parameters()),
        "x": x,
        "y": x**2,
    }
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    try:
        exec(script, names)
    finally:
        distributed.destroy_process_group()
    assert not any(torch.equal(a, b) for a, b in zip(before, density.parameters(), strict=True))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_ones_that_probmix_takes(page, tmp_path, monkeypatch):
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.chdir(tmp_path)
    for name, text in re.findall(r"`([\w.]+\.json)`:\n\n```json\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        (tmp_path / name).write_text(text)
    for line in lines_of(page, "probmix"):
        arguments = parser().parse_args(shlex.split(line, comments=True)[1:])
        if getattr(arguments, "experiment", None) in OF_MANY_RUNS:
            known = {*PARTS, *DATASETS}
            assert not arguments.dataset or {*arguments.dataset.split(",")} <= known, line
        elif hasattr(arguments, "experiment"):
            config_of(arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_pages_name_is_there(page):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for line in lines_of(page, "make"):
        assert f"\n{shlex.split(line, comments=True)[1]}:" in makefile, line
    for line in lines_of(page, "python"):
        assert (ROOT / shlex.split(line, comments=True)[1]).exists(), line
    prose = FENCE.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)", prose):
        generated = re.fullmatch(r"(?:\.\./)?generated/([\w.]+)\.rst", target)
        if generated:
            assert generated[1] in named_in_the_api(), f"{page.name} links to {target}, which docs/api.md does not list"
        elif not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.slow
def test_the_commands_of_the_table_tutorial_run_as_they_stand(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"rooms": rng.integers(1, 9, 120), "town": rng.choice(["A", "B"], 120)})
    rows["price"] = 20.0 * rows["rooms"] + 30 * (rows["town"] == "A") + rng.normal(size=120)
    rows[:80].to_csv("train.csv", index=False)
    rows[80:100].drop(columns="price").to_csv("new.csv", index=False)
    rows[100:].to_csv("test.csv", index=False)
    commands = lines_of(ROOT / "docs" / "tutorials" / "table.md", "probmix")
    assert [main(shlex.split(line, comments=True)[1:]) for line in commands] == [0] * len(commands)
    assert len(pd.read_csv("predicted.csv")) == 20
    assert "page: " in capsys.readouterr().out


def test_the_tables_of_which_method_are_those_of_the_results():
    script = load("which_method")
    text = script.PAGE.read_text("utf-8")
    assert script.page(text) == text, "results/ has changed since: run python docs/which_method.py"


def test_the_tables_of_the_audit_are_those_of_the_results():
    script = load("audit")
    text = script.PAGE.read_text("utf-8")
    assert script.page(text, script.read()) == text, "results/ has changed since: run python docs/audit.py"
    for name in re.findall(r"\((audit-\S+\.png)\)", text):
        assert (script.PAGE.parent / name).stat().st_size > 10_000


def test_the_tables_of_the_digits_are_those_of_the_results():
    script = load("digits")
    for file, name in script.PAGES.items():
        text = (ROOT / "docs" / "tutorials" / file).read_text("utf-8")
        assert script.page(text, name) == text, "results/ has changed since: run python docs/digits.py"


@pytest.mark.parametrize("name", ["Mix", "LocM-ProbMix"])
def test_digits_are_scored_as_they_are_and_spoilt(name):
    script = load("digits")
    found = script.classifier(name, seed=0, epochs=8)
    assert set(found) == {"clean", "noise", "moved", "covered"}
    accuracy, nll, error = found["clean"]
    assert accuracy > 0.5 > error > 0 and 0 < nll < np.log(10)
    assert all(other[0] < accuracy and other[1] > nll for kind, other in found.items() if kind != "clean")


def test_training_raises_the_bound_of_both_autoencoders():
    script = load("digits")
    for name in ("plain", "fused"):
        early, late = (script.autoencoder(name, seed=0, steps=steps)["bound"] for steps in (5, 60))
        assert late > early + 5


def test_the_naive_forecasts_of_the_stocks_are_those_that_are_kept():
    script = load("naive")
    text = script.PAGE.read_text("utf-8")
    assert script.page(text) == text, "results/ has changed since: run python docs/naive.py"


def test_the_tables_of_what_can_be_fused_are_those_of_the_walk_over_all_distributions():
    script = load("what_can_be_fused")
    text = script.PAGE.read_text("utf-8")
    assert script.page(text) == text, "tests/pooling/placed.py has changed since: run python docs/what_can_be_fused.py"


def test_what_the_readme_says_is_measured_is_what_the_results_say():
    script = load("measured")
    text = script.PAGE.read_text("utf-8")
    assert script.page(text) == text, "results/ or benchmarks/ have changed since: run python docs/measured.py"


def test_what_patience_leaves_out_is_what_the_page_says():
    """docs/results.md: of the jobs that ran to their end, all scores are those of the jobs that patience ended."""
    whole, ended = (ROOT / "results" / name / "results.parquet" for name in ("stocks-to-the-end", "stocks"))
    if not (whole.exists() and ended.exists()):
        pytest.skip("the repository's results are not here")
    keys = ["dataset", "network", "method", "setting", "split", "metric"]
    both = pd.read_parquet(whole).merge(pd.read_parquet(ended), on=keys, suffixes=("", " ended"))
    both = both[both["metric"] != "seconds"]
    assert len(both) == 2 * 10 * both["metric"].nunique()
    assert (both["value"] == both["value ended"]).all()
    best = both.loc[both["metric"] == "best epoch", "value"]
    assert (best.min(), best.max()) == (14, 26)
    curves = pd.read_parquet(whole.with_name("curves.parquet"))
    last = curves.loc[curves["epoch"] == 1500, "validation_nll"].round()
    assert (last.min(), last.max()) == (63, 2647)


def test_the_picture_is_what_its_script_draws(tmp_path):
    load("picture").draw(tmp_path / "picture.png")
    drawn, kept = imread(tmp_path / "picture.png"), imread(ROOT / "docs" / "picture.png")
    assert drawn.shape == kept.shape == (840, 1800, 4)
    # In patches of 60 pixels: Matplotlib's versions set text a pixel or two apart.
    patches = (drawn - kept).reshape(14, 60, 30, 60, 4).mean((1, 3))
    assert abs(patches).max() < 0.045


def test_the_table_of_the_tutorial_is_what_the_benchmark_prints():
    printed = uci.report(read(uci.RESULTS))
    assert f"```text\n{printed}\n```" in (ROOT / "docs" / "tutorials" / "table.md").read_text("utf-8")


def test_pages_take_data_from_where_a_reader_has_it():
    for page in PAGES:
        assert "../shared" not in page.read_text("utf-8"), page.name
    for config in ROOT.glob("results/*/config.json"):
        assert '"data_dir": null' in config.read_text("utf-8"), config


def test_words_are_distributions_where_no_law_is_meant():
    """Of pages, comments, strings and names; a law is one of large numbers, of total expectation or the like."""
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]  # it has the old names
    words = {str(page.relative_to(ROOT)): page.read_text("utf-8") for page in pages}
    for path in (ROOT / "pyro_probmix").rglob("*.py"):
        with path.open("rb") as file:
            said = [token.string for token in tokenize.tokenize(file.readline) if token.type in (COMMENT, STRING, NAME)]
        words[str(path.relative_to(ROOT))] = "\n".join(said)
    pattern = re.compile(r"\blaws?\b(?! of (?:large|total|iterated))", re.IGNORECASE)
    assert {name: found for name, text in words.items() if (found := pattern.findall(text))} == {}


def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (cited,) = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert pyro_probmix.__version__ == project["version"] == cited
    assert f"## {cited} " in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_findings_have_their_form():
    """They are run by hand: each installs packages."""
    listed = re.findall(
        r"^\| `(\w+\.sh)` \|.*\| `([\w/.]+)` \|$", (ROOT / "findings/README.md").read_text("utf-8"), re.MULTILINE
    )
    scripts = {path.name: path.read_text("utf-8") for path in (ROOT / "findings").glob("*.sh")}
    assert sorted(scripts) == sorted(name for name, _ in listed)
    assert all((ROOT / where).exists() for _, where in listed)
    for name, text in scripts.items():
        assert "pyro_probmix" not in text
        assert all(f"# {part}" in text for part in ("Versions: ", "Behaviour: ", "Expected: ", "Output seen:")), name
        (packages,) = re.findall(r"pip install --quiet (.+)$", text, re.MULTILINE)
        assert all("==" in package for package in packages.split()), name


def test_all_public_names_are_in_the_api():
    assert [look_up(name) for name in named_in_the_api()]
    listed = {name.rsplit(".", 1)[-1] for name in named_in_the_api()}
    public = {*pyro_probmix.__all__, *models.__all__, *inference.__all__, *calibration.__all__} - {"__version__"}
    assert public <= listed, f"not in docs/api.md: {', '.join(sorted(public - listed))}"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="needs Sphinx, which the extra [docs] installs")
def test_the_pages_build_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tutorials" / "pyro_model.html").exists()
