"""``probmix run audit`` and ``regimes``: what they take, run, keep, replace and refuse."""

from dataclasses import replace

import pandas as pd
import pytest

from pyro_probmix.cli import main
from pyro_probmix.experiments.audit import design as designs
from pyro_probmix.experiments.audit import regimes, running
from pyro_probmix.experiments.audit.design import PARTS
from pyro_probmix.experiments.audit.effects import gather
from tests.experiments.audit.made import made

MEANINGLESS = (
    "--epochs",
    "--alpha",
    "--beta",
    "--network",
    "--target",
    "--jobs",
    "--patience",
    "--particles",
    "--chunk",
)


@pytest.fixture
def lead(monkeypatch):
    """The first part with short trainings."""
    small = replace(PARTS["lead"].config, epochs=2, widths=(6, 4), num_samples=2, splits=(0, 1))
    monkeypatch.setitem(designs.PARTS, "lead", replace(PARTS["lead"], config=small))


@pytest.fixture
def without_runs(monkeypatch):
    """No training, and the folders that would have been run."""
    seen = []
    for module in (regimes, running):
        monkeypatch.setattr(module, "run_plan" if module is regimes else "run", lambda found, *_: seen.extend(found))
    return seen


def test_the_command_runs_resumes_and_writes(lead, tmp_path):
    command = ["run", "audit", "--dataset", "lead", "--method", "ERM,ProbMix", "--out", str(tmp_path / "audit")]
    assert main(command) == 0
    first = pd.read_parquet(tmp_path / "audit" / "audit.parquet")
    assert set(first["folder"]) == {"ours", "targets", "scale", "targets+scale"} and set(first["epoch"]) == {
        "validation",
        "last",
    }
    assert (tmp_path / "audit" / "lead.png").stat().st_size > 1000
    assert (
        "| in their units, exp(r / 2), no floor, start r, the last |" in (tmp_path / "audit" / "audit.md").read_text()
    )
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "audit").rglob("cells/*.json")}
    assert len(before) == 8 and main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing is run again
    pd.testing.assert_frame_equal(gather(tmp_path / "audit"), first)


def test_methods_are_added_to_an_audit_that_has_run(lead, tmp_path):
    """Any method that there is, also beyond the paper's; what has run is not run again, and other seeds are refused."""
    out = tmp_path / "audit"
    command = ["run", "audit", "--dataset", "lead", "--out", str(out), "--method"]
    assert main([*command, "ERM"]) == 0
    first = {path: path.stat().st_mtime_ns for path in out.rglob("cells/*.json")}
    assert main([*command, "ERM,SK-ProbMix"]) == 0
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert len(list(out.rglob("cells/*.json"))) == 2 * len(first)
    gathered = pd.read_parquet(out / "audit.parquet")
    assert set(gathered["folder"]) == {"ours", "targets", "scale", "targets+scale"}
    assert set(gathered["method"]) == {"ERM", "SK-ProbMix"} and not gathered.duplicated().any()
    assert "| targets, scales, epoch | ERM | SK-ProbMix |" in (out / "audit.md").read_text()
    assert main([*command, "SK-ProbMix", "--seeds", "3"]) != 0


def test_all_combinations_go_on_from_the_fraction(tmp_path, monkeypatch):
    """The folders of some settings hold fewer methods in the fraction."""
    part = PARTS["toy-regression"]
    factors = tuple(factor for factor in part.factors if factor.name in ("targets", "scale", "embedding", "alpha"))
    small = replace(part.config, epochs=1, widths=(4, 4), num_samples=2, splits=(0, 1), batch_size=None)
    few = replace(part, config=small, factors=factors, generators={"alpha": ("targets", "scale", "embedding")})
    monkeypatch.setitem(designs.PARTS, "toy-regression", few)
    command = ["run", "audit", "--dataset", "toy-regression", "--method", "Mix,M-Mix", "--out", str(tmp_path)]
    assert main(command) == 0
    assert main([*command, "--setting", "full"]) == 0
    assert "2 runs of each method at 32 settings" in (tmp_path / "audit.md").read_text()
    assert "All combinations have run." in (tmp_path / "audit.md").read_text()


def test_numbers_of_runs_that_are_not_there_are_kept(lead, tmp_path):
    """As in a copy without the folders of runs; those of a method that runs are replaced."""
    former = pd.concat([made(lambda *_: 3.0, name, runs=2, methods=("ERM", "Mix")) for name in ("lead", "yacht")])
    former.to_parquet(tmp_path / "audit.parquet", index=False)
    assert main(["run", "audit", "--dataset", "lead", "--method", "ERM", "--out", str(tmp_path)]) == 0
    found = pd.read_parquet(tmp_path / "audit.parquet")
    keys = ["part", "method"]
    assert set(map(tuple, found[keys].to_numpy())) == set(map(tuple, former[keys].to_numpy()))
    one, same = (
        frame.set_index([*keys, "folder", "epoch", "split", "metric"])["value"].sort_index()
        for frame in (found, former)
    )
    for key in (("lead", "Mix"), ("yacht", "ERM"), ("yacht", "Mix")):
        pd.testing.assert_series_equal(one[key], same[key])
    assert (one["lead", "ERM"] != 3.0).all() and len(one["lead", "ERM"]) == 4 * 2 * 2 * 3
    assert "### yacht" in (tmp_path / "audit.md").read_text()


def test_numbers_of_regimes_that_are_not_there_are_kept(without_runs, tmp_path):
    columns = ["dataset", "regime", "epoch", "method", "split", "value"]
    rows = [("yacht", name, "last", method, 0, 1.0) for name in ("25 rows", "50 rows") for method in ("ERM", "Mix")]
    pd.DataFrame(rows, columns=columns).to_parquet(tmp_path / "regimes.parquet", index=False)
    folder = tmp_path / "yacht" / "25-rows"
    folder.mkdir(parents=True)
    now = {
        "dataset": "yacht",
        "method": ["Mix"],
        "setting": "fixed, last epoch",
        "split": 0,
        "metric": "nll",
        "value": 2.0,
    }
    pd.DataFrame(now).to_parquet(folder / "results.parquet")
    assert main(["run", "regimes", "--dataset", "yacht", "--out", str(tmp_path)]) == 0
    found = pd.read_parquet(tmp_path / "regimes.parquet").set_index(["regime", "method"])["value"]
    assert found.to_dict() == {(regime, method): 2.0 if (regime, method) == ("25 rows", "Mix") else 1.0
                               for _, regime, _, method, _, _ in rows}  # fmt: skip


def test_the_reference_runs_whatever_is_asked_for(without_runs, capsys, tmp_path):
    main(["run", "regimes", "--dataset", "yacht", "--method", "SK-ProbMix", "--out", str(tmp_path)])
    assert without_runs and all(one.config.methods == ("ERM", "SK-ProbMix") for one in without_runs)
    assert "ERM runs too" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("experiment", "option", "told"),
    [
        ("audit", ["--alpha", "0.5"], "--alpha has no meaning"),
        ("audit", ["--dataset", "moon"], "no data set 'moon'"),
        ("audit", ["--dataset", ""], "no data set ''"),
        ("audit", ["--setting", "chosen"], "--setting is 'chosen'"),
        ("audit", ["--method", "Mox"], "unknown method 'Mox'"),
        ("regimes", ["--dataset", "moon"], "no data set 'moon'"),
        ("regimes", ["--setting", "full"], "--setting has no meaning for regimes"),
        ("regimes", ["--method", "Mox"], "unknown method 'Mox'"),
        *(("regimes", [option, "2"], f"{option} has no meaning for regimes") for option in MEANINGLESS),
    ],
)
def test_what_they_do_not_take_is_refused_before_anything_runs(
    without_runs, capsys, tmp_path, experiment, option, told
):
    assert main(["run", experiment, *option, "--out", str(tmp_path / "out")]) != 0
    error = capsys.readouterr().err
    assert told in error and "Try" in error
    assert not (tmp_path / "out").exists() and not without_runs


def test_what_a_later_data_set_cannot_train_is_refused_before_the_first_runs(without_runs, capsys, tmp_path):
    command = [
        "run",
        "audit",
        "--dataset",
        "lead,toy-classification",
        "--method",
        "ERM-t",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(command) != 0
    assert "expected a regression" in capsys.readouterr().err and not (tmp_path / "out").exists() and not without_runs


@pytest.mark.parametrize("name", ["audit.md", "lead.png", "claims-toy-regression.png"])
def test_files_of_another_kind_are_not_replaced(without_runs, capsys, tmp_path, name):
    (tmp_path / name).write_text("mine")
    assert main(["run", "audit", "--dataset", "lead", "--out", str(tmp_path)]) != 0
    error = capsys.readouterr().err
    assert f"holds '{name}', which would be replaced, and no audit.parquet beside it" in error and "Try" in error
    assert [path.name for path in tmp_path.iterdir()] == [name] and not without_runs


@pytest.mark.parametrize("experiment", ["audit", "regimes"])
def test_another_table_and_a_file_in_the_place_of_the_folder_are_refused(without_runs, capsys, tmp_path, experiment):
    table = tmp_path / f"{experiment}.parquet"
    for write in (lambda: table.write_text("mine"), lambda: pd.DataFrame({"mine": [1]}).to_parquet(table)):
        write()
        before = table.read_bytes()
        assert main(["run", experiment, "--out", str(tmp_path)]) != 0
        assert "is another table, expected the columns" in capsys.readouterr().err and table.read_bytes() == before
    for place in (table, table / "below"):
        assert main(["run", experiment, "--out", str(place)]) != 0
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "Try another --out." in error and table.read_bytes() == before
    assert main(["run", experiment, "--out", ""]) != 0 and "--out is empty" in capsys.readouterr().err
    assert not without_runs
