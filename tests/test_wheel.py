"""The package as it is installed: from its wheel, in an environment of its own, far from the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
#: What the command's help must not wait for.
HEAVY = ("torch", "pyro", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "pyarrow", "arviz")


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["run", "--help"]])
def test_help_waits_for_no_library(arguments):
    code = (
        "import sys\nfrom pyro_probmix.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit as end: assert end.code == 0\n"
        f"assert not {set(HEAVY)!r} & set(sys.modules), sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("usage: probmix"), done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing of an earlier build gets in, without asking the network for setuptools."""
    folder = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(".*", "build", "results", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder / "source", symlinks=True, ignore=left_out)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run(command, cwd=folder / "source", check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An empty environment with the wheel; the libraries it needs are seen where they lie, the repository is not."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True, capture_output=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A folder that is named in such a file comes last, and its own such files, as of an editable installation, are not read.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    return folder


def run(installed, folder, *command):
    """In a folder of its own, where Python finds nothing by chance."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [installed / "bin" / command[0], *command[1:]],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_what_is_in_the_wheel(wheel):
    names = ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"pyro_probmix"}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "pyro_probmix").rglob("*") if path.is_file()}
    kept = {name for name in sources if "__pycache__" not in name}
    assert kept == {name for name in names if name.startswith("pyro_probmix/")}  # data files and templates, too


@pytest.mark.slow
def test_the_command_from_the_wheel(installed, tmp_path):
    where = run(installed, tmp_path, "python", "-c", "import pyro_probmix; print(pyro_probmix.__file__)").stdout
    assert Path(where.strip()).is_relative_to(installed)
    seconds = []  # of the processor's time: other programs may run beside
    for _ in range(3):
        before = os.times()
        helped = run(installed, tmp_path, "probmix", "--help")
        after = os.times()
        seconds.append(sum(after[2:4]) - sum(before[2:4]))
        assert helped.returncode == 0 and helped.stdout.startswith("usage: probmix")
    assert min(seconds) < 2.0, seconds
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=60), "kind": rng.choice(["p", "q"], 60)})
    table["y"] = table["a"] + rng.normal(size=60)
    table.to_csv(tmp_path / "data.csv", index=False)
    fitted = run(installed, tmp_path, "probmix", "fit", "data.csv", "--target", "y", "--epochs", "2", "--ensemble", "2")
    assert fitted.returncode == 0 and fitted.stdout.startswith("model: model; 60 rows"), fitted.stderr
    predicted = run(installed, tmp_path, "probmix", "predict", "model", "data.csv")
    assert predicted.returncode == 0 and predicted.stdout.count("\n") == 61, predicted.stderr
    checked = run(installed, tmp_path, "probmix", "check", "model", "data.csv")
    assert checked.returncode == 0 and (tmp_path / "model" / "check" / "check.html").exists(), checked.stderr
    trained = run(
        installed, tmp_path, "probmix", "run", "toy-regression", "--method", "ERM", "--seeds", "1", "--epochs", "1",
        "--out", "run",
    )  # fmt: skip
    assert trained.returncode == 0 and (tmp_path / "run" / "results.parquet").exists(), trained.stderr
    reported = run(installed, tmp_path, "probmix", "report", "run")
    assert reported.returncode == 0 and (tmp_path / "run" / "report.html").exists(), reported.stderr
