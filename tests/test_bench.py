"""The engines that ``make bench`` compares do the same mathematics, and what it measures is kept whole."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed

from benchmarks import measure  # noqa: E402
from benchmarks.cases import METHODS, Case, make_draws, make_problem  # noqa: E402
from benchmarks.engines import ENGINES, load  # noqa: E402
from benchmarks.measure import check_equal, time_in_turns  # noqa: E402
from benchmarks.report import comparison, cost_of_fusing, write_json  # noqa: E402
from benchmarks.suite import make_row  # noqa: E402

IN_TORCH = [name for name in ENGINES if name != "numpyro"]


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_engines_in_torch_agree_in_losses_and_gradients(method: str, replicas: int) -> None:
    check_equal(Case(method, replicas, batch_size=6, num_rows=11), IN_TORCH)


def test_numpyro_agrees_in_losses_and_gradients() -> None:
    if importlib.util.find_spec("numpyro") is None:
        pytest.skip("needs numpyro, which the extra [bench] installs")
    # In a process of its own: once JAX is imported, it warns at every fork of any other test.
    code = (
        "from benchmarks.cases import Case\n"
        "from benchmarks.measure import check_equal\n"
        "check_equal(Case('M-ProbMix', 3, 6, 11), ['numpyro'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", IN_TORCH)
def test_engines_take_the_same_optimizer_steps(name: str) -> None:
    case = Case("ERM", 2, batch_size=6, num_rows=11)  # without random numbers of its own
    problem, draws = make_problem(case), make_draws(case)
    trained, expected = (load(n)(case, problem, "float64") for n in (name, "torch-batched"))
    before, _ = trained.loss_and_gradients(draws)
    for engine in (trained, expected):
        engine.train(20)
    after, _ = trained.loss_and_gradients(draws)
    np.testing.assert_allclose(after, expected.loss_and_gradients(draws)[0], rtol=1e-9)
    assert (after < before).all()


def test_an_engine_that_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    right = load("torch-loop")

    class Wrong(right):  # type: ignore[misc, valid-type] # a class found by name
        def loss_and_gradients(self, draws: Any) -> Any:
            loss, gradients = super().loss_and_gradients(draws)
            return loss, {**gradients, "head.bias": 1.001 * gradients["head.bias"]}

    monkeypatch.setattr(measure, "load", lambda name: Wrong if name == "wrong" else load(name))
    with pytest.raises(ValueError, match=r"wrong differs from torch-batched in head\.bias by 1\.0e-03"):
        check_equal(Case("ProbMix", 2, 6, 11), ["torch-loop", "wrong"])


def test_timings_become_rows_and_tables() -> None:
    rows = []
    for method in METHODS:
        case = Case(method, 2, 4, 9)
        engines = {name: load(name)(case, make_problem(case)) for name in ("torch-loop", "torch-batched", "ours-eager")}
        timings = time_in_turns(engines, steps=1, blocks=2)
        rows += [make_row(name, case, timing, None) for name, timing in timings.items()]
    keys = ["engine", "method", "R", "B", "K", "S", "device", "threads", "ms_per_step", "spread", "peak_mib"]
    assert list(rows[0]) == keys
    assert all(row["ms_per_step"] > 0 and row["spread"] >= 0 for row in rows)
    table = comparison(Case("M-ProbMix", 2, 4, 9), rows[-3:])
    assert "ours-eager" in table and "times as fast per model as the plain loop" in table
    assert all(method in cost_of_fusing(rows) for method in METHODS)


def test_results_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, [{"ms_per_step": 1.0}])
    with pytest.raises(TypeError):
        write_json(path, [{"ms_per_step": object()}])
    assert json.loads(path.read_text()) == [{"ms_per_step": 1.0}]
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
