"""The command: results, files, and messages about mistakes."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_probmix.cli import main
from pyro_probmix.cli.command import parser
from pyro_probmix.experiments.command import config_of
from pyro_probmix.models import BEYOND, METHODS, Method

COLUMNS = ["experiment", "dataset", "network", "method", "setting", "split", "metric", "value"]


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_list_names_everything(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0
    for name in [
        *METHODS,
        *BEYOND,
        "5xNAME",
        "toy-regression",
        "uci",
        "table",
        "yacht",
        "diabetes",
        "nearest",
        "log-expected",
    ]:
        assert name in out


@pytest.mark.parametrize(
    ("arguments", "figures", "metrics"),
    [
        (["toy-regression"], {"bands.png", "scores.png", "training.png"}, {"nll", "rmse"}),
        (["toy-classification", "--beta", "0"], {"regions.png", "scores.png", "training.png"}, {"nll", "accuracy"}),
        (
            ["table", "--dataset", "diabetes", "--graph", "label-kernel"],
            {"scores.png", "training.png"},
            {"nll", "rmse"},
        ),
        (["table", "--dataset", "iris", "--graph", "same-class"], {"scores.png", "training.png"}, {"nll", "accuracy"}),
        (["table", "--dataset", "linnerud", "--criterion", "log-expected", "--particles", "2"], set(), {"nll", "rmse"}),
    ],
)
def test_run_leaves_tidy_results(capsys, tmp_path, arguments, figures, metrics):
    out = tmp_path / "run"
    methods = "ERM,LocMix,ProbMix,M-ProbMix"
    code, printed, err = run(capsys, "run", *arguments, "--method", methods, "--seeds", 2, "--epochs", 2, "--out", out)
    assert code == 0, err
    assert all(name in printed for name in methods.split(","))
    results = pd.read_parquet(out / "results.parquet")
    assert list(results.columns) == COLUMNS
    assert set(results["method"]) == set(methods.split(","))
    assert metrics <= set(results["metric"]) and {"nll (plug-in)", "best epoch", "validation nll"} <= set(
        results["metric"]
    )
    scores = results[results["metric"].isin(metrics)]
    assert len(scores) == 4 * 2 * len(metrics) and scores["value"].map(pd.notna).all()
    config = json.loads((out / "config.json").read_text())
    assert config["alpha"] == 0.1 and config["epochs"] == 2 and config["splits"] == [0, 1]
    assert config["labels"] in ("sample", "expected") and config["beta"] is not None and config["task"]
    assert config["methods_in_full"]["ProbMix"]["site"] == "y"
    assert config["versions"]["torch"] == torch.__version__ and config["seed"] == 0
    assert figures <= {path.name for path in (out / "figures").iterdir()}


def test_same_run_twice_gives_the_same_numbers(capsys, tmp_path):
    frames = []
    for name in ("a", "b"):
        out = tmp_path / name
        run(capsys, "run", "toy-regression", "--method", "M-ProbMix", "--seeds", 2, "--epochs", 3, "--out", out)
        frame = pd.read_parquet(out / "results.parquet")
        frames.append(frame[frame["metric"] != "seconds"])
    pd.testing.assert_frame_equal(frames[0], frames[1])


def test_a_users_method_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "LinProbMix", Method("y", "nearest", pool="linear"))
    code, out, err = run(
        capsys,
        "run",
        "toy-regression",
        "--method",
        "LinProbMix",
        "--seeds",
        2,
        "--epochs",
        2,
        "--out",
        tmp_path / "run",
    )
    assert code == 0 and "LinProbMix" in out, err


def test_methods_beyond_the_paper_and_ensembles_by_name(capsys, tmp_path):
    names = ["2xM-ProbMix", "RegMixup", "Loc4-ProbMix"]
    arguments = ["--method", ",".join(names), "--seeds", 2, "--epochs", 2, "--out", tmp_path / "run"]
    code, out, err = run(capsys, "run", "toy-regression", *arguments)
    assert code == 0 and all(name in out for name in names), err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["methods_in_full"]["2xM-ProbMix"]["members"] == 2
    assert config["methods_in_full"]["RegMixup"]["alpha"] == 10.0
    assert config["methods_in_full"]["Loc4-ProbMix"]["num_fused"] == 4
    results = pd.read_parquet(tmp_path / "run" / "results.parquet")
    nll = results[results["metric"] == "nll"]
    assert len(nll) == 3 * 2 and nll["value"].map(pd.notna).all()
    code, _, err = run(capsys, "run", "toy-regression", *arguments)  # nothing is left to do
    assert code == 0, err


def test_csv_with_a_target(capsys, tmp_path):
    table = pd.DataFrame({"a": range(40), "b": [k % 5 for k in range(40)], "constant": 1.0})
    table["outcome"] = table["a"] * 0.5 + table["b"]
    path = tmp_path / "data.csv"
    table.to_csv(path, index=False)
    arguments = ["--target", "outcome", "--method", "ProbMix", "--seeds", 2, "--epochs", 2]
    code, out, err = run(capsys, "run", "table", "--dataset", path, *arguments, "--out", tmp_path / "run")
    assert code == 0 and "ProbMix" in out, err


def test_large_targets_keep_their_digits(capsys, tmp_path):
    rng = np.random.default_rng(0)
    a = rng.normal(size=60)
    pd.DataFrame({"a": a, "y": 1e8 + rng.normal(size=60)}).to_csv(tmp_path / "big.csv", index=False)
    arguments = ["--target", "y", "--method", "ERM", "--seeds", 2, "--epochs", 2, "--out", tmp_path / "run"]
    code, _, err = run(capsys, "run", "table", "--dataset", tmp_path / "big.csv", *arguments)
    assert code == 0, err
    results = pd.read_parquet(tmp_path / "run" / "results.parquet")
    rmse = results[results["metric"] == "rmse"]["value"]
    assert rmse.between(0.3, 3.0).all()


def test_features_that_overflow(capsys, tmp_path):
    pd.DataFrame({"a": [k * 1e200 for k in range(40)], "y": range(40)}).to_csv(tmp_path / "huge.csv", index=False)
    arguments = ["--target", "y", "--epochs", 1, "--out", tmp_path / "run"]
    code, _, err = run(capsys, "run", "table", "--dataset", tmp_path / "huge.csv", *arguments)
    assert code == 1 and "overflow" in err and "Try" in err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (0, 1, 2)), ("0,3,7", (0, 3, 7)), ("7,", (7,)), ("320-322", (320, 321, 322)), ("0,5-6", (0, 5, 6))],
)
def test_seeds_are_how_many_or_which(text, seeds):
    given = parser().parse_args(["run", "toy-regression", "--seeds", text])
    assert config_of(given).splits == seeds


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["poker"], "unknown experiment 'poker'"),
        (["toy-regression", "--method", "SuperMix"], "unknown method 'SuperMix'"),
        (["toy-regression", "--graph", "ring"], "unknown graph 'ring'"),
        (["toy-regression", "--criterion", "best"], "unknown criterion 'best'"),
        (["toy-regression", "--alpha", "0"], "alpha is 0.0, expected a finite value above 0"),
        (["toy-regression", "--beta", "-1"], "beta is -1.0, expected a finite value of at least 0"),
        (["toy-regression", "--epochs", "0"], "epochs is 0, expected at least 1"),
        (["toy-regression", "--particles", "0"], "particles is 0, expected at least 1"),
        (["toy-regression", "--device", "tpu"], "unknown device 'tpu'"),
        (["toy-regression", "--seeds", "none"], "--seeds or --splits got 'none'"),
        (["toy-regression", "--seeds", "3-1"], "--seeds or --splits got '3-1'"),
        (["toy-regression", "--seeds", "1-3,2"], "--seeds or --splits got '1-3,2'"),
        (["toy-regression", "--dataset", "yacht"], "--dataset has no meaning for toy-regression"),
        (["toy-classification", "--target", "y"], "--target has no meaning for toy-classification"),
        (["table", "--data-dir", "x"], "--data-dir has no meaning for table"),
        (["toy-regression", "--method", "ERM,ERM"], "ERM is asked for twice"),
        (["toy-regression", "--alpha", "inf"], "alpha is inf, expected a finite value above 0"),
        (["uci"], "uci needs a data set"),
        (["table", "--dataset", "nowhere.csv"], "nowhere.csv"),
        (["table", "--dataset", "poker"], "poker"),
        (["uci", "--dataset", "poker"], "poker"),
        (["table", "--graph", "same-class"], "'same-class' was asked for a regression"),
        (["table", "--dataset", "iris", "--graph", "label-kernel"], "'label-kernel' was asked for classes"),
    ],
)
def test_mistakes_get_one_sentence_and_nothing_is_written(capsys, tmp_path, arguments, sentence):
    out = tmp_path / "run"
    code, _, err = run(capsys, "run", *arguments, "--out", out)
    assert code == 1
    assert sentence in err and "Traceback" not in err and err.count("\n") == 1
    assert "Try" in err
    assert not out.exists()


def test_fewer_rows_than_neighbours(capsys, tmp_path):
    pd.DataFrame({"a": range(6), "y": range(6)}).to_csv(tmp_path / "small.csv", index=False)
    arguments = ["run", "table", "--dataset", tmp_path / "small.csv", "--target", "y", "--out", tmp_path / "run"]
    code, _, err = run(capsys, *arguments)
    assert code == 1 and "fewer rows than neighbours" in err and not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_that_is_not_there(capsys, tmp_path):
    code, _, err = run(capsys, "run", "toy-regression", "--device", "cuda", "--out", tmp_path / "run")
    assert code == 1 and "no CUDA device" in err and not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, "run", "toy-regression", "--out", tmp_path / "file" / "run")
    assert code == 1 and "cannot be written to" in err and "Try another --out" in err


def test_a_folder_that_holds_another_run_is_left_as_it_is(capsys, tmp_path):
    arguments = ["run", "toy-regression", "--method", "ERM", "--seeds", "1", "--out", tmp_path / "run", "--epochs"]
    assert run(capsys, *arguments, "1")[0] == 0
    before = (tmp_path / "run" / "results.parquet").read_bytes()
    code, _, err = run(capsys, *arguments, "2")
    assert code == 1 and "holds another run, with epochs 1, not 2. Try another --out" in err
    assert (tmp_path / "run" / "results.parquet").read_bytes() == before


def test_ctrl_c_leaves_what_was_finished(tmp_path):
    """Interrupted in its second method, a run leaves the first one's results whole."""
    out = tmp_path / "run"
    # A process started in the background inherits a deaf ear to Ctrl-C; a terminal's has none.
    listen = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{listen}; from pyro_probmix.cli import main; sys.exit(main())"]
    arguments = [
        "run",
        "toy-regression",
        "--method",
        "ERM,ProbMix",
        "--seeds",
        "2",
        "--epochs",
        "400",
        "--out",
        str(out),
    ]
    process = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 90
    while not (out / "results.parquet").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; what was finished is in the run's folder" in err and "Traceback" not in err
    results = pd.read_parquet(out / "results.parquet")
    assert set(results["method"]) == {"ERM"}
    assert not [path for path in out.rglob(".partial*")]
