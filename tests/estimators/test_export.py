"""Exported programs: the estimator's numbers where there is PyTorch alone, behind a server too; what is refused."""

import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_probmix import ProbMixClassifier, ProbMixRegressor
from pyro_probmix.columns.new_levels import NewLevels
from pyro_probmix.estimators.saving.programs import Recorded
from pyro_probmix.estimators.targets.marks import Marks
from pyro_probmix.models import Categorical, Likelihood

ROOT = Path(__file__).parents[2]
LEVELS = (0.001, 0.5, 0.95)
#: Runs a program where neither we nor our libraries can be imported, and prints what it finds.
ALONE = """
import json, sys
from importlib.machinery import ModuleSpec

class Blocked:  # torch asks whether pandas is there, and takes no error for an answer
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pyro", "sklearn", "scipy", "pandas", "pyro_probmix"):
            return ModuleSpec(name, self)

    def create_module(self, spec):
        raise ImportError(spec.name)

    def exec_module(self, module):
        raise ImportError(module)

sys.meta_path.insert(0, Blocked())
import torch

files = {"metadata.json": ""}
program = torch.export.load(sys.argv[1], extra_files=files).module()
rows = torch.tensor(json.loads(sys.argv[2]), dtype=torch.float64)
found = program(rows)
one = program(rows[:1])
print(json.dumps({"metadata": json.loads(files["metadata.json"]), "found": {k: v.tolist() for k, v in found.items()},
                  "one": {k: v.tolist() for k, v in one.items()}}))
"""


def table(n=150):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=n), "b": rng.normal(1e4, 100, n), "c": rng.normal(size=n) * 1e-5})
    return X, X["a"].to_numpy()


def regressor(**more):
    return ProbMixRegressor(
        **{"epochs": 3, "ensemble": 3, "random_state": 0, "widths": (16, 8), "likelihood": "gaussian", **more}
    )


def classifier(**more):
    return ProbMixClassifier(**{"epochs": 3, "ensemble": 3, "random_state": 0, "widths": (16, 8), **more})


def new_rows(X, n=40):
    """Rows around those of a table, some of them far outside."""
    rng = np.random.default_rng(1)
    scale = X.std().to_numpy() * np.geomspace(0.1, 30, n)[:, None]
    return pd.DataFrame(X.mean().to_numpy() + scale * rng.normal(size=(n, X.shape[1])), columns=X.columns)


def loaded(path, X):
    found = torch.export.load(path).module()(torch.tensor(X.to_numpy()))
    return {name: value.numpy() for name, value in found.items()}


def check(found, model, X, levels=LEVELS):
    mean, std = model.predict(X, return_std=True)
    expected = {"mean": mean, "std": std, "quantiles": model.predict_quantiles(X, levels)}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        size = np.abs(value[np.isfinite(value)]).max()  # a quantile may be near zero
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-9 * size, err_msg=name)


def test_a_program_gives_the_numbers_where_there_is_torch_alone_and_behind_the_server_of_the_page(
    tmp_path, monkeypatch
):
    X, f = table()
    y = np.stack([3e4 + 100 * f, 1e-3 * f**2], 1)
    model = regressor().fit(X, y)
    model.export(tmp_path / "model.pt2", LEVELS)
    rows = new_rows(X)
    command = [sys.executable, "-c", ALONE, str(tmp_path / "model.pt2"), json.dumps(rows.to_numpy().tolist())]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    said = json.loads(done.stdout)
    check(said["found"], model, rows)
    check(said["one"], model, rows[:1])
    about = said["metadata"]
    assert (about["estimator"], about["features"], about["levels"]) == ("ProbMixRegressor", ["a", "b", "c"], [*LEVELS])
    monkeypatch.chdir(tmp_path)
    check(served(rows[:5].to_numpy().tolist()), model, rows[:5])


def served(rows):
    """What the server of the page answers to rows; it refuses others."""
    (script,) = re.findall(
        r"`serve\.py`:\n\n```python\n(.*?)```", (ROOT / "docs/serving.md").read_text("utf-8"), re.DOTALL
    )
    assert sum(bool(line) for line in script.splitlines()) <= 20
    names: dict[str, Any] = {"__name__": "serve"}
    exec(compile(script.replace("8000", "0"), "serve.py", "exec"), names)
    server = names["server"]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        place = f"http://localhost:{server.server_port}"
        with pytest.raises(urllib.error.HTTPError, match="400") as caught:
            urllib.request.urlopen(place, b"[[1, 2]]", timeout=60)
        caught.value.close()
        with urllib.request.urlopen(place, json.dumps(rows).encode(), timeout=60) as answer:
            return json.load(answer)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_probabilities_of_classes(tmp_path):
    X, f = table()
    labels = np.where(f > 0.5, "high", np.where(f < -0.5, "low", "middle"))
    for model, y in ((ProbMixClassifier(epochs=3, ensemble=3, random_state=0), labels),
                     (ProbMixClassifier("ERM", "bernoulli", epochs=3, ensemble=2, random_state=0), f > 0)):  # fmt: skip
        model.fit(X, y).export(tmp_path / "model.pt2")
        files = {"metadata.json": ""}
        program = torch.export.load(tmp_path / "model.pt2", extra_files=files).module()
        rows = new_rows(X)
        found = program(torch.tensor(rows.to_numpy()))["probabilities"].numpy()
        np.testing.assert_allclose(found, model.predict_proba(rows), rtol=1e-6)
        assert json.loads(files["metadata.json"])["classes"] == model.classes_.tolist()


class Laplace(Likelihood):
    """A head of somebody else's, whose distribution torch has functions for, though SciPy's are known for it as well."""

    parameters_per_output = 2

    def density(self, raw):
        loc, scale = raw.chunk(2, -1)
        return dist.Laplace(loc, nn.functional.softplus(scale) + 0.01).to_event(1)


class NoFunctions(Laplace):
    def density(self, raw):
        first, second = raw.chunk(2, -1)
        return dist.VonMises(first, nn.functional.softplus(second) + 0.1).to_event(1)


class Draws(Categorical):
    def density(self, raw):
        return super().density(raw + 0.1 * torch.randn_like(raw))


class HasASite(Categorical):
    def density(self, raw):
        return super().density(raw + pyro.deterministic("shift", torch.zeros(())))


def test_counts(tmp_path):
    X, f = table()
    counts = np.random.default_rng(0).poisson(np.exp(1 + f)).astype(float)
    model = regressor(likelihood="poisson").fit(X, counts)
    model.export(tmp_path / "model.pt2", (0, *LEVELS, 1))
    check(loaded(tmp_path / "model.pt2", new_rows(X)), model, new_rows(X), (0, *LEVELS, 1))


def test_a_program_rounds_to_few_values_as_the_estimator_does():
    marks = Marks.of((0.5, None), (0.25, 0.0), np.array([0.1, -7.0]), np.array([np.inf, 7.0]))
    values = np.random.default_rng(0).normal(size=(100, 2, 3)) * [[[1.0], [5.0]]]
    values[0, :, 0], values[0, :, 1] = 0.625, np.inf
    expected = marks.rounded(values.swapaxes(1, 2)).swapaxes(1, 2)
    mean = torch.tensor([[-0.1, -8.0], [0.3, 8.0]])
    found = Recorded(marks, np.array([0.0, -7.0]), np.array([np.inf, 7.0]))(mean, torch.tensor(values))
    np.testing.assert_allclose(found[1].numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(found[0].numpy(), [[0.0, -7.0], [0.3, 7.0]])  # as means are predicted


@pytest.mark.timeout(900)
@pytest.mark.slow
@pytest.mark.parametrize(
    "likelihood",
    ["homoscedastic", "student-t", "gaussian-mixture", "student-t-mixture", "spline", "zero-inflated-poisson", "gamma",
     "hurdle", "log-normal", "log-normal-mixture", "negative-binomial", "zero-inflated-negative-binomial", "zero-one-beta",
     Laplace, "auto"],
)  # fmt: skip
def test_all_other_heads(likelihood, tmp_path):
    X, f = table()
    counts = np.random.default_rng(0).poisson(np.exp(f)) * 1.0
    y = {
        "zero-inflated-poisson": counts,
        "negative-binomial": counts,
        "zero-inflated-negative-binomial": np.where(f > 1, 0.0, counts),
        "zero-one-beta": np.clip(0.5 + f / 3, 0, 1),
        "hurdle": np.where(f > 0, np.exp(f), 0.0),
        "auto": np.round(3 * f) / 2,  # of few values, which quantiles are rounded to
    }.get(likelihood, np.exp(f))
    model = regressor(likelihood=likelihood).fit(X, y)
    model.export(tmp_path / "model.pt2", LEVELS)
    check(loaded(tmp_path / "model.pt2", new_rows(X)), model, new_rows(X))


def test_an_encoder_of_a_users_own(tmp_path):
    X, f = table()
    encoder = nn.Sequential(nn.Linear(3, 16), nn.LayerNorm(16), nn.GELU())
    model = classifier(encoder=encoder).fit(X, f > 0)
    model.export(tmp_path / "model.pt2")
    found = loaded(tmp_path / "model.pt2", new_rows(X))["probabilities"]
    np.testing.assert_allclose(found, model.predict_proba(new_rows(X)), rtol=1e-6)


def test_columns_of_all_kinds_and_gaps(tmp_path):
    """A program takes the numbers that stand for a table's columns: positions of levels, days, NaN for what is missing."""
    rng, n = np.random.default_rng(0), 300
    X = pd.DataFrame({
        "number": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
        "skewed": np.exp(2 * rng.normal(size=n)),
        "truth": rng.random(n) < 0.5,
        "few": np.array(["x", "y", None], dtype=object)[rng.integers(0, 3, n)],
        "many": rng.choice([f"k{k}" for k in range(12)], n, p=[0.45, 0.4] + [0.015] * 10),
        "ordered": pd.Categorical(rng.choice(["low", "high"], n), ["low", "high", "never"], ordered=True),
        "date": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 800, n), unit="D"),
    })  # fmt: skip
    model = classifier().fit(X, X["skewed"] > 1)
    model.export(tmp_path / "model.pt2")
    rows = X[:50].copy()
    rows.loc[0, "few"], rows.loc[1, "many"], rows.loc[2, "skewed"], rows.loc[3, "skewed"] = "new", "new", 1e9, -1e9
    numbers = pd.DataFrame(model.columns_.numbers(rows))
    found = loaded(tmp_path / "model.pt2", numbers)["probabilities"]
    with pytest.warns(NewLevels, match="few.*many"):
        expected = model.predict_proba(rows)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    numbers.iloc[4, 0] = np.inf  # which estimators refuse
    found = loaded(tmp_path / "model.pt2", numbers)["probabilities"]
    assert np.isnan(found).all(1).tolist() == [k == 4 for k in range(50)]


@pytest.mark.parametrize(
    ("likelihood", "reason"), [(NoFunctions, "cdf"), (Draws, "random"), (HasASite, "site 'shift'")]
)
def test_what_is_no_function_of_tensors_is_refused(likelihood, reason, tmp_path):
    X, f = table()
    make, y = (regressor, np.abs(f.round())) if likelihood is NoFunctions else (classifier, f > 0)
    model = make(likelihood=likelihood, epochs=1).fit(X, y)
    with pytest.raises(ValueError, match=reason) as caught:
        model.export(tmp_path / "model.pt2")
    assert "\n" not in str(caught.value) and "Try " in str(caught.value)
    assert not [*tmp_path.iterdir()]


def test_other_arguments_are_refused(tmp_path):
    X, f = table(40)
    model = classifier(epochs=1).fit(X, f > 0)
    for path, reason in (("model.zip", r"\.pt2 or \.onnx"), ("no/model.pt2", "could not be written")):
        with pytest.raises(ValueError, match=reason):
            model.export(tmp_path / path)
    with pytest.raises(ValueError, match="fitted"):
        regressor().export(tmp_path / "model.pt2")
    with pytest.raises(ValueError, match="levels"):
        regressor(epochs=1).fit(X, f).export(tmp_path / "model.pt2", (2.0,))


def test_onnx_needs_its_packages(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    X, f = table(40)
    model = ProbMixClassifier(epochs=1, ensemble=2, random_state=0).fit(X, f > 0)
    with pytest.raises(ValueError, match=r"pyro_probmix\[onnx\]"):
        model.export(tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's exporter uses what torch has deprecated
def test_onnx_gives_the_probabilities_of_classes(tmp_path):
    for name in ("onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"the package {name} is needed")
    import onnxruntime

    X, f = table()
    model = classifier(ensemble=2, widths=(8, 8)).fit(X, f > 0)
    model.export(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    about = json.loads(session.get_modelmeta().custom_metadata_map["metadata.json"])
    (found,) = session.run(None, {session.get_inputs()[0].name: new_rows(X).to_numpy()})
    np.testing.assert_allclose(found, model.predict_proba(new_rows(X)), rtol=1e-6)
    assert about["classes"] == [False, True]
