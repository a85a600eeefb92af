"""probmix fit, predict and check, stopped, out of memory or without a place to write: what was there stays whole."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_probmix.cli import main
from pyro_probmix.tabular.model import TableModel

# A shell lets its background jobs, such as a suite, ignore Ctrl-C, and their children with them.
HEED = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
COMMAND = [sys.executable, "-c", f"{HEED}; from pyro_probmix.cli import main; sys.exit(main())"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table, a model of it, its predictions and a page on it."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60), "k": rng.choice(["p", "q"], 60)})
    frame["y"] = frame["a"] + rng.normal(size=60)
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert main([*fit(tmp_path, 1)]) == 0
    assert main(["predict", str(tmp_path / "model"), str(tmp_path / "t.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    return tmp_path


def fit(folder: Path, seed: int, epochs: int = 3) -> list[str]:
    table, out = str(folder / "t.csv"), str(folder / "model")
    return [
        "fit",
        table,
        "--target",
        "y",
        "--epochs",
        str(epochs),
        "--ensemble",
        "2",
        "--seed",
        str(seed),
        "--out",
        out,
    ]


def predictions(folder: Path) -> Any:
    frame = pd.read_csv(folder / "t.csv")
    return TableModel.load(folder / "model").predict(frame).to_numpy(dtype=float)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("times", [2, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL])
def test_a_model_is_the_old_or_the_new_one_whenever_its_fit_is_ended(folder, ended_by, times):
    moments = random.Random(0)
    old = predictions(folder)
    shutil.copytree(folder / "model", folder / "kept")
    assert main(fit(folder, 2, epochs=40)) == 0
    new = predictions(folder)
    assert not np.array_equal(old, new)
    shutil.rmtree(folder / "model")
    shutil.copytree(folder / "kept", folder / "model")
    for _ in range(times):
        process = subprocess.Popen([*COMMAND, *fit(folder, 2, epochs=40)], stderr=subprocess.PIPE, text=True)
        try:
            process.wait(moments.uniform(0.3, 6.0))
        except subprocess.TimeoutExpired:
            process.send_signal(ended_by)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (0, 130, -ended_by)
        found = predictions(folder)
        if process.returncode == 130:  # the last line tells which of the two is there
            told = {"nothing was written.": old, f"'{folder / 'model'}' is written.": new}
            np.testing.assert_array_equal(found, told[err.strip().splitlines()[-1].removeprefix("probmix: stopped; ")])
            assert "Traceback" not in err
            assert not [path for path in (folder / "model").iterdir() if path.name.startswith(".partial")]
        assert np.array_equal(found, old) or np.array_equal(found, new)
        shutil.rmtree(folder / "model")  # the old one again
        shutil.copytree(folder / "kept", folder / "model")


@pytest.mark.parametrize("mebibytes", [64, pytest.param(1200, marks=pytest.mark.slow), 2600])
def test_without_memory_nothing_is_damaged(folder, mebibytes):
    """As under ``ulimit -v``: before Python's libraries are there, amid them, and at work."""
    before = files(folder)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mebibytes << 20, mebibytes << 20))

    for arguments in (
        fit(folder, 2),
        ["check", str(folder / "model"), str(folder / "t.csv"), "--out", str(folder / "c")],
    ):
        process = subprocess.run(
            [*COMMAND, *arguments], preexec_fn=limit, capture_output=True, text=True, timeout=100, check=False
        )
        if process.returncode != 0:
            assert files(folder) == before
    assert predictions(folder).shape == (60, 5)


def test_more_rows_than_memory_get_one_sentence(folder, capsys, monkeypatch):
    for error in (
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError(
            "aoti_torch_cpu_rand(std::array<int64_t, 1>{9L}.cbegin(), 1, &handle) API call failed at a.cpp, line 1"
        ),
    ):

        def fail(*arguments: Any, error: Exception = error, **options: Any) -> None:
            raise error

        monkeypatch.setattr("pyro_probmix.tabular.model.TableModel.fit", fail)
        assert main(fit(folder, 2)) == 1
        assert capsys.readouterr().err == (
            "probmix: the memory did not suffice, and nothing was written. Try fewer rows, fewer members or fewer --jobs.\n"
        )


@pytest.mark.skipif(os.getuid() == 0 and shutil.which("setpriv") is None, reason="root writes everywhere")
def test_a_folder_that_may_not_be_written_to(folder):
    """Root, too, is held to what the folders allow."""
    before = files(folder)
    held = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if os.getuid() == 0 else []
    commands = (
        fit(folder, 2),
        ["predict", str(folder / "model"), str(folder / "t.csv"), "--out", str(folder / "p.csv")],
        ["check", str(folder / "model"), str(folder / "t.csv")],
        ["run", "toy-regression", "--method", "ERM", "--seeds", "1", "--epochs", "1", "--out", str(folder / "run")],
    )
    for place in (folder / "model", folder):
        place.chmod(0o555)
    try:
        for arguments in commands:
            done = subprocess.run(
                [*held, *COMMAND, *arguments], capture_output=True, text=True, timeout=100, check=False
            )
            assert done.returncode == 1, done.stderr
            last = done.stderr.strip().splitlines()[-1]
            assert last.startswith("probmix: ") and "Try" in last and "Traceback" not in done.stderr, done.stderr
    finally:
        for place in (folder, folder / "model"):
            place.chmod(0o755)
    assert files(folder) == before


@pytest.mark.parametrize("name", ["t.csv", "linked.csv", "hard.csv"])
def test_predictions_do_not_replace_their_table(folder, capsys, monkeypatch, name):
    (folder / "linked.csv").symlink_to(folder / "t.csv")
    (folder / "hard.csv").hardlink_to(folder / "t.csv")
    before = files(folder)
    monkeypatch.chdir(folder)
    assert main(["predict", "model", str(folder / "t.csv"), "--out", f"model/../{name}"]) == 1
    err = capsys.readouterr().err
    assert "is the table itself, expected another file. Try --out predicted.csv." in err and files(folder) == before


def test_a_place_that_does_not_do_is_refused_before_the_work(folder, capsys, monkeypatch):
    def work(*arguments: Any, **options: Any) -> None:
        raise AssertionError("it worked")

    model, table = str(folder / "model"), str(folder / "t.csv")
    before = files(folder)
    monkeypatch.setattr("pyro_probmix.tabular.model.TableModel.fit", work)
    monkeypatch.setattr("pyro_probmix.tabular.model.TableModel.predict", work)
    monkeypatch.setattr("pyro_probmix.tabular.checking.check_table", work)
    for arguments, sentence in (
        ([*fit(folder, 2)[:-1], str(folder)], "holds other files, expected none. Try another --out."),
        ([*fit(folder, 2)[:-1], table], "is a file, expected a folder. Try another --out."),
        ([*fit(folder, 2)[:-1], f"{table}/m"], "t.csv', a file, expected a folder. Try another --out."),
        (["predict", model, table, "--out", str(folder / "p.txt")], "does not end in .csv or .parquet. Try"),
        (["predict", model, table, "--out", str(folder / "none" / "p.csv")], "there is no folder"),
        (["check", model, table, "--out", table], "is a file, expected a folder. Try another --out."),
    ):
        assert main(arguments) == 1
        err = capsys.readouterr().err
        assert sentence in err and err.count("\n") == 1 and "Errno" not in err
    assert files(folder) == before
    with pytest.raises(ValueError, match="is a file, expected a folder"):
        TableModel.load(folder / "model").save(table)


def test_a_new_model_takes_the_page_on_the_old_one_away(folder):
    """And nothing that somebody else put beside the page."""
    assert main(["check", str(folder / "model"), str(folder / "t.csv")]) == 0
    page = folder / "model" / "check"
    TableModel.load(folder / "model").save(folder / "model")
    assert (page / "check.html").exists()  # still about the model that is there
    shutil.copytree(page, folder / "kept")
    assert main(fit(folder, 2)) == 0
    assert not page.exists()
    shutil.copytree(folder / "kept", page)
    for name in ("notes.txt", "mine.png"):
        (page / name).write_text("mine")
    assert main(fit(folder, 3)) == 0
    assert files(page) == {"notes.txt": b"mine", "mine.png": b"mine"}
    page.rename(folder / "elsewhere")
    shutil.copytree(folder / "kept", folder / "other")
    page.symlink_to(folder / "other")
    assert main(fit(folder, 4)) == 0  # a page in another folder is not the model's
    assert files(folder / "other") == files(folder / "kept")


@pytest.mark.parametrize(
    "version", ["9" * 4000, "9" * 10**6, f'"{"9" * 10**6}"', "[1e9]"], ids=["4000", "million", "text", "list"]
)
def test_a_format_of_any_length_gets_one_short_sentence(folder, capsys, version):
    text = (folder / "model" / "table.json").read_text("utf-8")
    (folder / "model" / "table.json").write_text(re.sub(r'"format": \d+', f'"format": {version}', text), "utf-8")
    assert main(["predict", str(folder / "model"), str(folder / "t.csv")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("probmix: ") and err.count("\n") == 1 and len(err) < 500 and "Try" in err


@pytest.mark.parametrize("name", ["x" * 5000, "red\x1b[31m", "two\nlines", "turned\u202eround", "bell\x07"])
def test_names_are_said_in_one_short_line_without_what_a_terminal_obeys(folder, capsys, name):
    model, table, odd = str(folder / "model"), str(folder / "t.csv"), str(folder / name)
    fitted = ["fit", table, "--target"]
    frame = pd.read_csv(table)
    frame.rename(columns={"a": name}).to_csv(folder / "odd.csv", index=False)
    for arguments in (
        [*fitted, name],
        [*fitted, "y", "--out", f"{table}/{name}"],
        [*fitted, "y", "--method", name],
        ["fit", odd, "--target", "y"],
        ["fit", f"{odd}.csv", "--target", "y"],
        ["fit", str(folder / "odd.csv"), "--target", "a", "--out", odd],
        ["predict", odd, table],
        ["predict", model, odd],
        ["predict", model, f"{odd}.csv"],
        ["predict", model, str(folder / "odd.csv")],
        ["predict", model, table, "--out", odd],
        ["predict", model, table, "--out", f"{odd}/{name}.csv"],
        ["check", model, f"{odd}.csv"],
        ["run", name],
        ["run", f"{odd}.json"],
        ["run", "table", "--dataset", f"{odd}.csv"],
        ["run", "table", "--dataset", table, "--target", name],
        ["run", "toy-regression", "--device", name],
        ["report", odd],
    ):
        assert main(arguments) == 1, arguments
        err = capsys.readouterr().err
        assert err.startswith("probmix: ") and err.endswith("\n") and err[:-1].isprintable() and len(err) < 2100, err
        assert "Try" in err and "Errno" not in err, err


@pytest.mark.parametrize("command", ["fit", "predict", "check"])
def test_what_is_said_after_ctrl_c(folder, capsys, monkeypatch, command):
    def stop(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    for place in ("tables.reading.read_table", "tabular.streaming.read_table", "tabular.streaming.TableBlocks"):
        monkeypatch.setattr(f"pyro_probmix.{place}", stop)
    before = files(folder)
    given = fit(folder, 2) if command == "fit" else [command, str(folder / "model"), str(folder / "t.csv")]
    assert main(given) == 130
    assert capsys.readouterr().err == "probmix: stopped; nothing was written.\n" and files(folder) == before
