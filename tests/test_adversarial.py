"""Odd inputs of fit, predict, load and the command: a finite result or one clear sentence, and no half-written file.

A few dozen examples of each by default; ``pytest -m slow tests/test_adversarial.py`` tries ten thousand in all.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pyro_probmix import ProbMixClassifier, ProbMixRegressor
from pyro_probmix.cli import main

pytestmark = pytest.mark.filterwarnings(
    # What training on such numbers may say, and scikit-learn on targets that look like another task's.
    "ignore:the loss was not finite:RuntimeWarning",
    "ignore:The number of unique classes is greater than 50%:UserWarning",
    "ignore:X (has|does not have valid) feature names:UserWarning",
)
TINY: dict[str, Any] = {"ensemble": 2, "widths": (4,), "epochs": 2, "periodic": 2, "num_samples": 4, "random_state": 0}


def examples(number: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # what fails is small enough as it is
        suppress_health_check=checks,
    )


def attempt(call: Any) -> Any:
    """What a call returns, or None after a mistake of the user's that is said in words."""
    try:
        return call()
    except (ValueError, TypeError) as error:
        assert len(str(error)) > 20, repr(error)
        return None


SCALES = st.sampled_from([1.0, 1.0, 1.0, 1e-300, 1e-30, 1e-8, 1e8, 1e20, 1e39, 1e300, 1.7e308])
ODD = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e308, -1e308, 5e-324, 2.0**63, 1e39])
DTYPES = st.sampled_from(
    ["float64", "float64", "float32", "float16", "int64", "int8", "uint8", "bool", "object", "complex128", "U", "M8[D]"]
)
NAMES = st.lists(st.text(max_size=4) | st.integers() | st.none() | st.sampled_from("aab"), min_size=4, max_size=4)


@st.composite
def matrices(draw: Any, columns: int | None = None) -> Any:
    """Features, from plain ones to what nobody should pass."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.sampled_from([0, 1, 2, 3, 4, 5, 12, 40]))
    d = draw(st.sampled_from([0, 1, 1, 2, 2, 3, 3, 4])) if columns is None else columns
    with np.errstate(over="ignore"):
        x = rng.normal(size=(n, d)) * draw(SCALES)
    for _ in range(draw(st.integers(0, 2)) if x.size else 0):
        row, column = rng.integers(n), rng.integers(d)
        match draw(st.sampled_from(["constant", "duplicates", "odd", "nearly constant", "offset"])):
            case "constant":
                x[:, column] = draw(ODD)
            case "duplicates":
                x[:] = x[row]
            case "odd":
                x[row, column] = draw(ODD)
            case "nearly constant":
                x[:, column] = 0.998 + 1e-16 * rng.integers(2, size=n)
            case "offset":
                x[:, column] += 1e15
    x = converted(x, draw(DTYPES))
    match draw(
        st.sampled_from(["array", "array", "array", "frame", "list", "sparse", "1d", "3d", "fortran", "masked"])
    ):
        case "frame":
            return pd.DataFrame(x, columns=draw(NAMES)[:d]).convert_dtypes() if d <= 4 else x
        case "list":
            return x.tolist()
        case "sparse":
            return scipy.sparse.csr_array(x) if x.dtype.kind in "fiub" and x.dtype != np.float16 else x
        case "1d":
            return x.ravel()
        case "3d":
            return x[..., None]
        case "fortran":
            return np.asfortranarray(x)[::-1]
        case "masked":
            return np.ma.masked_greater(x, 0) if x.dtype.kind == "f" else x
        case _:
            return x


def converted(x: Any, dtype: str) -> Any:
    with np.errstate(all="ignore"):
        if dtype == "object":
            return np.array([str(v) if k % 7 == 3 else v for k, v in enumerate(x.ravel())], dtype=object).reshape(
                x.shape
            )
        if np.dtype(dtype).kind in "iuM":
            return np.nan_to_num(x, nan=0.0, posinf=9, neginf=-9).clip(-100, 100).astype("int64").astype(dtype)
        return x.astype(dtype)


@st.composite
def targets(draw: Any, n: int, classes: bool) -> Any:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = n if draw(st.integers(0, 9)) else n + 1
    match draw(st.sampled_from(["plain", "plain", "plain", "odd", "one", "strings", "two", "none", "many"])):
        case "odd":
            y = rng.normal(size=n) * draw(SCALES.filter(lambda s: s < 1e305))
            y[: 1 if n else 0] = draw(ODD)
            return y
        case "one":
            return np.full(n, draw(st.sampled_from([0, 1, 7.5, "a", True, 1e300])))
        case "strings":
            return rng.choice(["", "ä", "a b", "\n", "0"], n).astype(object)
        case "two":
            return rng.normal(size=(n, 2))
        case "none":
            return None
        case "many":
            return np.arange(n)
        case _:
            return rng.integers(3, size=n) if classes else rng.normal(size=n) * draw(SCALES.filter(lambda s: s < 1e305))


@st.composite
def problems(draw: Any) -> tuple[bool, Any, Any, Any, Any]:
    classes = draw(st.booleans())
    x = draw(matrices())
    y = draw(targets(rows_of(x), classes))
    weights = None
    if draw(st.integers(0, 3)) == 0:
        weights = np.random.default_rng(0).uniform(size=rows_of(x))
        if len(weights):
            weights[0] = draw(st.sampled_from([0.0, -1.0, np.nan, np.inf, 1e300, 1e-300, 1.0]))
    width = x.shape[1] if getattr(x, "ndim", 0) == 2 else None
    new = x if draw(st.booleans()) else draw(matrices(columns=width if draw(st.integers(0, 3)) else None))
    return classes, x, y, weights, new


def rows_of(x: Any) -> int:
    return int(x.shape[0]) if hasattr(x, "shape") else len(x)


def fit_and_predict(problem: tuple[bool, Any, Any, Any, Any], method: str) -> bool:
    classes, x, y, weights, new = problem
    model: Any = (ProbMixClassifier if classes else ProbMixRegressor)(method=method, **TINY)
    if attempt(lambda: model.fit(x, y, weights)) is None:
        assert not hasattr(model, "state_")
        return False
    calls = [model.predict_proba] if classes else [model.predict, lambda x: model.predict(x, return_std=True)[1]]
    for call in calls:
        predicted = attempt(lambda call=call: call(new))
        if predicted is not None:
            assert len(predicted) == rows_of(new) and np.isfinite(predicted).all()
    if classes:
        predicted = attempt(lambda: model.predict(new))
        assert predicted is None or set(predicted.ravel().tolist()) <= set(model.classes_.tolist())
    else:
        interval = attempt(lambda: model.predict_interval(new, 0.9))
        assert interval is None or not np.isnan(interval).any()
    return True


few_rows = pytest.mark.filterwarnings(r"ignore:fit got \d+ distinct rows:UserWarning")
METHOD = st.sampled_from(["M-ProbMix", "ERM", "LocProbMix", "Mix", "ProbMix", "LocM-ProbMix"])


@few_rows
@examples(60)
@given(problem=problems(), method=METHOD)
def test_fit_and_predict(problem: Any, method: str) -> None:
    fit_and_predict(problem, method)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@few_rows
@examples(8000)
@given(problem=problems(), method=METHOD)
def test_fit_and_predict_at_length(problem: Any, method: str) -> None:
    fit_and_predict(problem, method)


@few_rows
def test_what_is_drawn_is_fitted_and_refused() -> None:
    """Neither everything nor nothing of it is refused, or the tests above would say little."""
    fitted = []

    @examples(60)
    @given(problem=problems())
    def count(problem: Any) -> None:
        fitted.append(fit_and_predict(problem, "ERM"))

    count()
    assert 0.05 < np.mean(fitted) < 0.9


CELLS = st.sampled_from(
    [
        "1",
        "2.5",
        "-3",
        "1e400",
        "nan",
        "inf",
        "",
        " ",
        "NA",
        "ä",
        '"a,b"',
        '"',
        "2020-01-01",
        "True",
        "0x1",
        "1_000",
        "\x00",
        "'",
    ]
)
HEADERS = st.sampled_from(["a", "b", "größe", "a", "", "y", " y", "1", '"c,d"', "\u202e", "y" * 300])


@st.composite
def tables(draw: Any) -> bytes:
    """A CSV file, more or less; the target ``y`` is mostly there."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    header = [*draw(st.lists(HEADERS, max_size=3)), *(["y"] if draw(st.integers(0, 5)) else [])]
    n = draw(st.sampled_from([0, 1, 2, 5, 12, 25]))
    kinds = [draw(st.sampled_from(["number", "number", "category", "date"])) for _ in header]
    values = {
        "number": lambda: f"{rng.normal():.3f}",
        "category": lambda: str(rng.choice(["p", "q", "r"])),
        "date": lambda: f"2020-0{rng.integers(1, 10)}-1{rng.integers(10)}",
    }
    lines = [[values[kind]() for kind in kinds] for _ in range(n)]
    for _ in range(draw(st.integers(0, 2)) if n and header else 0):
        lines[rng.integers(n)][rng.integers(len(header))] = draw(CELLS)
    if n and draw(st.integers(0, 7)) == 0:  # ragged
        lines[rng.integers(n)].append("1")
    separator, end = (
        draw(st.sampled_from([",", ",", ",", ";", "\t"])),
        draw(st.sampled_from(["\n", "\n", "\r\n", "\r"])),
    )
    text = end.join(separator.join(line) for line in [header, *lines]) + draw(st.sampled_from([end, ""]))
    encoding = draw(st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "latin-1"]))
    content: bytes = text.encode(encoding, "replace")
    if draw(st.integers(0, 9)) == 0:
        content = content[: rng.integers(len(content) + 1)]
    return content


def run(capsys: Any, *arguments: str) -> int:
    code = main(list(arguments))
    err = capsys.readouterr().err
    assert code in (0, 1)
    if code:
        assert err.startswith("probmix: ") and len(err.strip()) > 30 and "Traceback" not in err, err
    return code


def command(content: bytes, other: bytes, parquet: bool, options: list[str], folder: Path, capsys: Any) -> None:
    """Fits one file; then predicts and checks that one and another. Neither leaves anything but what it is asked for."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    paths = [folder / f"{name}.{'parquet' if parquet else 'csv'}" for name in ("train", "other")]
    for path, written in zip(paths, (content, other), strict=True):
        if parquet:
            try:
                pd.read_csv(io.BytesIO(written)).to_parquet(path)
            except (ValueError, OSError, ArithmeticError):
                path.write_bytes(written)
        else:
            path.write_bytes(written)
    model = folder / "model"
    fit = ["fit", str(paths[0]), "--target", "y", "--epochs", "1", "--ensemble", "1", "--out", str(model), *options]
    fitted = run(capsys, *fit) == 0
    assert {path.name for path in folder.iterdir()} == {path.name for path in paths} | ({"model"} if fitted else set())
    if not fitted:
        return
    for path in paths:
        out = folder / "predicted.csv"
        if run(capsys, "predict", str(model), str(path), "--out", str(out)) == 0:
            numbers = pd.read_csv(out).drop(columns="y", errors="ignore")  # without the classes themselves
            assert np.isfinite(numbers.to_numpy(dtype=float)).all()
        else:
            assert not out.exists()
        out.unlink(missing_ok=True)
    page = folder / "page"
    checked = run(capsys, "check", str(model), str(paths[0]), "--out", str(page)) == 0
    assert checked == page.exists()
    assert not [path for path in folder.rglob("*") if "partial" in path.name or "unfinished" in path.name]


OPTIONS = st.sampled_from(
    [[], [], ["--impute"], ["--task", "regression"], ["--task", "classification"], ["--method", "LocM-ProbMix"]]
)


@examples(15)
@given(content=tables(), other=tables(), parquet=st.booleans(), options=OPTIONS)
def test_command(content: bytes, other: bytes, parquet: bool, options: list[str], tmp_path: Path, capsys: Any) -> None:
    command(content, other, parquet, options, tmp_path / "files", capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@examples(1500)
@given(content=tables(), other=tables(), parquet=st.booleans(), options=OPTIONS)
def test_command_at_length(
    content: bytes, other: bytes, parquet: bool, options: list[str], tmp_path: Path, capsys: Any
) -> None:
    command(content, other, parquet, options, tmp_path / "files", capsys)


@st.composite
def damages(draw: Any) -> tuple[str, str, float, bytes]:
    """Which file of a model's folder is changed, how, where, and with what."""
    name = draw(st.sampled_from(["first", "second"]))
    kind = draw(st.sampled_from(["cut", "write", "insert", "remove", "empty"]))
    return name, kind, draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=8))


def damaged(damage: tuple[str, str, float, bytes], model: Path, table: Path, capsys: Any) -> None:
    """A model's folder with one file changed predicts as before, or is refused."""
    files = sorted(path for path in model.rglob("*") if path.is_file())
    which, kind, where, put = damage
    path = files[0] if which == "first" else files[-1]
    whole = path.read_bytes()
    place = int(where * len(whole))
    changed = {
        "cut": whole[:place],
        "write": whole[:place] + put + whole[place + len(put) :],
        "insert": whole[:place] + put + whole[place:],
        "remove": None,
        "empty": b"",
    }[kind]
    try:
        path.unlink() if changed is None else path.write_bytes(changed)
        code = main(["predict", str(model), str(table)])
        out, err = capsys.readouterr()
        if code:
            assert err.startswith("probmix: ") and "Traceback" not in err
        else:
            assert out.count("\n") == 31
    finally:
        path.write_bytes(whole)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: Any) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("kept")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=30), "k": rng.choice(["p", "q"], 30), "y": rng.normal(size=30)})
    frame.to_csv(folder / "t.csv", index=False)
    fit = [
        "fit",
        str(folder / "t.csv"),
        "--target",
        "y",
        "--epochs",
        "1",
        "--ensemble",
        "1",
        "--out",
        str(folder / "m"),
    ]
    assert main(fit) == 0
    return folder / "m", folder / "t.csv"


@examples(40)
@given(damage=damages())
def test_damaged_models(damage: Any, kept: tuple[Path, Path], capsys: Any) -> None:
    damaged(damage, *kept, capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@examples(500)
@given(damage=damages())
def test_damaged_models_at_length(damage: Any, kept: tuple[Path, Path], capsys: Any) -> None:
    damaged(damage, *kept, capsys)
