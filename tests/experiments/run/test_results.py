"""A run's folder goes on with the run that began in it, and with no other."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pyro_probmix import METHODS
from pyro_probmix.cli import main
from pyro_probmix.experiments.config import EXPERIMENTS
from pyro_probmix.experiments.run import results
from pyro_probmix.experiments.run.record import recorded_config
from pyro_probmix.experiments.run.results import TABLES, RunFolder
from pyro_probmix.models import Method


def run(capsys, table, out):
    """Trains two methods on a file, and returns the exit status and what was said."""
    options = ["--dataset", table, "--target", "y", "--method", "ERM,Mix", "--seeds", 2, "--epochs", 2, "--out", out]
    status = main(["run", "table", *map(str, options)])
    return status, capsys.readouterr().err


@pytest.fixture
def finished(capsys, tmp_path):
    """A table, and a finished run on it."""
    table, out = tmp_path / "table.csv", tmp_path / "run"
    table.write_text("x,y\n" + "".join(f"{i},{i % 7}\n" for i in range(60)), "utf-8")
    assert run(capsys, table, out)[0] == 0
    return table, out


def tables(out):
    return {name: pd.read_parquet(out / f"{name}.parquet") for name in TABLES}


def test_a_finished_run_whose_cells_were_cleared_away_keeps_its_numbers(capsys, finished):
    table, out = finished
    before = tables(out)
    for name in ("cells", "models", "checkpoints"):
        shutil.rmtree(out / name)
    assert run(capsys, table, out)[0] == 0
    assert not list((out / "cells").iterdir())  # nothing was trained
    for name, kept in tables(out).items():
        pd.testing.assert_frame_equal(kept, before[name])


def test_tables_without_cells_are_not_lost_to_what_is_missing(capsys, finished):
    table, out = finished
    shutil.rmtree(out / "cells")
    half = pd.read_parquet(out / "results.parquet").query("method == 'ERM'")
    half.to_parquet(out / "results.parquet", index=False)
    status, said = run(capsys, table, out)
    assert status == 1 and "holds the tables of a run without its cells" in said
    assert len(pd.read_parquet(out / "results.parquet")) == len(half)


def test_damaged_tables_without_cells_get_one_sentence(capsys, finished):
    table, out = finished
    shutil.rmtree(out / "cells")
    (out / "results.parquet").write_bytes(b"PAR1")
    status, said = run(capsys, table, out)
    assert status == 1 and "the tables in" in said and "Traceback" not in said


def test_a_table_that_has_changed_since_is_another_run(capsys, finished):
    table, out = finished
    before = tables(out)
    next((out / "cells").glob("*Mix*")).unlink()  # as if it had been stopped before
    table.write_text(table.read_text("utf-8") + "60,100\n", "utf-8")
    status, said = run(capsys, table, out)
    assert status == 1 and "as it was before it changed" in said
    pd.testing.assert_frame_equal(tables(out)["results"], before["results"])


def test_a_name_that_means_another_method_is_another_run(monkeypatch, tmp_path):
    config = replace(EXPERIMENTS["toy-regression"], methods=("Mine",), splits=(0,), epochs=1)
    monkeypatch.setitem(METHODS, "Mine", Method("x"))
    RunFolder(tmp_path, config, "cpu")
    RunFolder(tmp_path, config, "cpu")
    monkeypatch.setitem(METHODS, "Mine", Method("z"))
    with pytest.raises(ValueError, match="holds a run of another method Mine"):
        RunFolder(tmp_path, config, "cpu")


def test_of_two_runs_that_begin_at_once_one_is_refused(monkeypatch, tmp_path):
    """The second looks before the first has written its configuration, and writes after it."""
    config = replace(EXPERIMENTS["toy-regression"], methods=("ERM",), splits=(0,), epochs=1)
    RunFolder(tmp_path, config, "cpu")
    really, seen = recorded_config, []

    def late(path: Path) -> dict[str, object] | None:
        seen.append(path)
        return None if len(seen) == 1 else really(path)

    monkeypatch.setattr(results, "recorded_config", late)
    with pytest.raises(ValueError, match="holds another run, with epochs 1, not 2"):
        RunFolder(tmp_path, replace(config, epochs=2), "cpu")
    assert json.loads((tmp_path / "config.json").read_text("utf-8"))["epochs"] == 1
    assert not list(tmp_path.glob(".partial*"))


def test_a_first_seed_that_diverged_costs_its_own_panel_alone(capsys, tmp_path):
    config = tmp_path / "config.json"
    record = {"experiment": "toy-regression", "methods": ["ERM"], "splits": [0], "epochs": 2}
    config.write_text(json.dumps(record | {"learning_rate": 1e9}), "utf-8")
    with pytest.warns(RuntimeWarning, match="not finite"):
        assert main(["run", str(config), "--out", str(tmp_path / "wild")]) == 0
    assert not (tmp_path / "wild" / "figures" / "bands.png").exists()
    config.write_text(json.dumps(record), "utf-8")
    assert main(["run", str(config), "--out", str(tmp_path / "tame")]) == 0
    assert (tmp_path / "tame" / "figures" / "bands.png").exists()


def test_folders_of_a_run_may_be_elsewhere_by_links(capsys, finished, tmp_path):
    table, out = finished
    linked = tmp_path / "linked"
    for name in ("cells", "figures", "models"):
        (tmp_path / "big" / name).mkdir(parents=True)
        linked.mkdir(exist_ok=True)
        (linked / name).symlink_to(tmp_path / "big" / name)
    assert run(capsys, table, linked)[0] == 0
    for name in ("cells", "figures", "models"):
        assert (linked / name).is_symlink()
        assert sorted(p.name for p in (tmp_path / "big" / name).iterdir()) == sorted(
            p.name for p in (out / name).iterdir()
        )
    shutil.rmtree(tmp_path / "big" / "cells")
    status, said = run(capsys, table, linked)  # before any training
    assert status == 1 and "cells' is a link to no folder, expected one that is there. Try making" in said
