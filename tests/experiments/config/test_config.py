"""A configuration in a file: a copy of a run's config.json, edited, and mistakes in it."""

import json

import pandas as pd
import pytest

from pyro_probmix.cli import main
from pyro_probmix.experiments.config import EXPERIMENTS, PAPER, read_config
from pyro_probmix.experiments.config.checks import check_config

SMALL = {"experiment": "table", "dataset": "diabetes", "methods": ["ERM", "M-ProbMix"], "splits": [0, 1], "epochs": 2}


def run(capsys, *arguments):
    code = main(["run", *map(str, arguments)])
    return code, capsys.readouterr().err


def written(path, **changes):
    path.write_text(json.dumps(SMALL | changes))
    return path


def test_a_runs_own_configuration_runs_again_with_the_same_numbers(capsys, tmp_path):
    assert run(capsys, written(tmp_path / "own.json", widths=[16, 8]), "--out", tmp_path / "one")[0] == 0
    assert run(capsys, tmp_path / "one" / "config.json", "--out", tmp_path / "two")[0] == 0
    one, two = (pd.read_parquet(tmp_path / name / "results.parquet") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one[one["metric"] != "seconds"], two[two["metric"] != "seconds"])
    records = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("one", "two")]
    assert records[0] == records[1] and records[0]["widths"] == [16, 8]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_what_a_file_leaves_out_has_the_default_of_the_experiment(tmp_path, experiment):
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"experiment": experiment}))
    assert read_config(path) == EXPERIMENTS[experiment]


def test_options_change_what_a_file_says(capsys, tmp_path):
    path = written(tmp_path / "own.json", epochs=50)
    assert run(capsys, path, "--epochs", 1, "--method", "Mix", "--out", tmp_path / "run")[0] == 0
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["epochs"] == 1 and record["methods"] == ["Mix"] and record["splits"] == [0, 1]


def test_patience_ends_a_job_and_keeps_the_best_epoch(capsys, tmp_path):
    path = written(tmp_path / "own.json", methods=["ERM"], epochs=300, learning_rate=0.02)
    for name, more in (("short", ["--patience", 3]), ("long", [])):
        code, told = run(capsys, path, *more, "--out", tmp_path / name)
        assert code == 0 and "300/300" in told  # the bar ends full
    best = {}
    for name in ("short", "long"):
        results = pd.read_parquet(tmp_path / name / "results.parquet")
        best[name] = results[results["metric"] == "best epoch"]["value"].to_numpy()
    last = pd.read_parquet(tmp_path / "short" / "curves.parquet")["epoch"].max()
    assert best["short"].max() + 3 <= last < 300
    assert (best["short"] <= best["long"]).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"experiment": "nothing"}, "names the experiment 'nothing', expected one of toy-regression"),
        ({"experiment": 3}, "names the experiment 3, expected one of"),
        ({"epoch": 3}, "holds 'epoch', expected only experiment, dataset"),
        ({"epochs": "many"}, 'has "many" for epochs, expected int. Try 1000.'),
        ({"epochs": 2.5}, "has 2.5 for epochs, expected int"),
        ({"epochs": True}, "has true for epochs, expected int"),
        ({"methods": "ERM"}, 'has "ERM" for methods, expected list'),
        ({"widths": [128, "wide"]}, 'has [128, "wide"] for widths, expected list[int, ...]'),
        ({"batch_size": [32]}, "has [32] for batch_size, expected int | null. Try 32."),
        ({"epochs": 0}, "epochs is 0, expected at least 1"),
        ({"patience": 0}, "patience is 0, expected at least 1"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0, expected a finite value above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan, expected a finite value above 0"),
        ({"bandwidth": 0}, "bandwidth is 0.0, expected a finite value above 0"),
        ({"batch_size": 1}, "batch_size is 1, expected at least 2"),
        ({"num_samples": 0}, "num_samples is 0, expected at least 1"),
        ({"validation_samples": 0}, "validation_samples is 0, expected at least 1"),
        ({"widths": []}, "widths is [], expected at least one width, each at least 1"),
        ({"widths": [16, 0]}, "widths is [16, 0], expected at least one width, each at least 1"),
        ({"mixing_layer": 3}, "mixing_layer is 3, expected one of the 2 hidden layers"),
        ({"activation": "step"}, "unknown activation 'step', expected one of"),
        ({"dropout": 1.0}, "dropout is 1.0, expected at least 0 and less than 1"),
        ({"splits": []}, "splits is [], expected different seeds of at least 0"),
        ({"splits": [0, 0]}, "splits is [0, 0], expected different seeds of at least 0"),
        ({"splits": [-1]}, "splits is [-1], expected different seeds of at least 0"),
        ({"alphas": [], "setting": "chosen"}, "alphas is [], expected finite values above 0"),
        ({"betas": [-1], "setting": "chosen"}, "betas is [-1.0], expected finite values of at least 0"),
        (
            {"alphas": [0.1, 0.1000000001], "setting": "grid"},
            "alphas is [0.1, 0.1000000001], expected values that differ",
        ),
        ({"betas": [0.01, 0.01], "setting": "grid"}, "betas is [0.01, 0.01], expected values that differ"),
        ({"alpha": 1e-300}, "alpha is 1e-300, expected a value that a float of 32 bits can hold"),
        ({"seed": 10**20}, "seed is 100000000000000000000, expected at least 0 and less than 1000000000000"),
        ({"splits": [10**20]}, "splits is [100000000000000000000], expected seeds less than"),
        ({"task": "clustering"}, "unknown task 'clustering', expected one of regression, classification"),
        (
            {"experiment": "toy-regression", "dataset": "toy-regression", "task": "classification"},
            "task is 'classification'",
        ),
        ({"methods": "ERM"}, 'has "ERM" for methods, expected list[str, ...]. Try ["ERM", "ProbMix"].'),
        ({"splits": 2}, "has 2 for splits, expected list[int, ...]. Try [0, 1, 2]."),
        ({"network": "lstm"}, "unknown network 'lstm', expected one of mlp. Try leaving it out."),
        (
            {"dataset": "iris", "label_noise": 0.5},
            "label_noise is 0.5 for the classes of iris, expected the targets of a",
        ),
        ({"noise_df": 3}, "noise_df is 3.0 without label_noise, expected a label_noise above 0"),
        ({"labels": "soft"}, "unknown labels 'soft', expected one of sample, expected"),
        ({"seed": -1}, "seed is -1, expected at least 0"),
        ({"experiment": "toy-regression"}, "dataset is 'diabetes' for toy-regression, expected 'toy-regression'"),
    ],
)
def test_what_is_wrong_in_a_file_gets_one_sentence_and_nothing_is_written(capsys, tmp_path, changes, sentence):
    code, err = run(capsys, written(tmp_path / "own.json", **changes), "--out", tmp_path / "run")
    assert code == 1 and err.startswith("probmix: ") and err.count("\n") == 1 and ". Try " in err
    assert sentence in err
    assert not (tmp_path / "run").exists()


def recorded(capsys, folder, *arguments):
    """The configuration of a run, and the settings of its results."""
    code, told = run(capsys, *arguments, "--out", folder)
    assert code == 0, told
    return read_config(folder / "config.json"), set(pd.read_parquet(folder / "results.parquet")["setting"])


def test_a_setting_is_what_its_name_stands_for_in_a_copy_too(capsys, tmp_path):
    """From a run under "fixed" to one under "paper" and back, with a choice that neither name stands for."""
    path = written(tmp_path / "own.json", methods=["ERM"], epochs=1, before_activation=True)
    fixed, _ = recorded(capsys, tmp_path / "fixed", path)
    paper, labels = recorded(capsys, tmp_path / "paper", tmp_path / "fixed" / "config.json", "--setting", "paper")
    assert labels == {"paper"} and {name: getattr(paper, name) for name in PAPER} == PAPER and paper.before_activation
    back, labels = recorded(capsys, tmp_path / "back", tmp_path / "paper" / "config.json", "--setting", "fixed")
    assert labels == {"fixed"} and back == fixed
    short = written(tmp_path / "short.json", methods=["ERM"], epochs=1, before_activation=True, setting="paper")
    assert recorded(capsys, tmp_path / "short", short) == (paper, {"paper"})


@pytest.mark.parametrize(("name", "value"), [("targets", "standardised"), ("scale_floor", 0.001)])
def test_a_file_that_says_paper_and_something_else_is_refused(capsys, tmp_path, name, value):
    path = written(tmp_path / "own.json", setting="paper", methods=["ERM"], epochs=1, **{name: value})
    code, told = run(capsys, path, "--out", tmp_path / "run")
    assert code == 1 and told.count("\n") == 1 and not (tmp_path / "run").exists()
    assert (
        f"{name} is {value} under the setting paper, which stands for {name} {PAPER[name]}. Try --setting paper" in told
    )
    assert recorded(capsys, tmp_path / "run", path, "--setting", "paper")[0].targets == "raw"


def test_choices_of_ones_own_are_fixed_whatever_they_are(tmp_path):
    config = read_config(written(tmp_path / "own.json", setting="fixed", **PAPER))
    check_config(config)
    assert config.setting == "fixed" and {name: getattr(config, name) for name in PAPER} == PAPER


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "\x00"])
def test_a_file_that_is_no_configuration(capsys, tmp_path, text):
    path = tmp_path / "own.json"
    path.write_text(text)
    code, err = run(capsys, path, "--out", tmp_path / "run")
    assert code == 1 and "own.json" in err and err.count("\n") == 1 and ". Try " in err
    code, err = run(capsys, tmp_path / "missing.json", "--out", tmp_path / "run")
    assert code == 1 and "No such file" in err and err.count("\n") == 1
