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
import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed

from benchmarks import choice, fits, measure  # noqa: E402
from benchmarks.cases import METHODS, Case, make_draws, make_problem  # noqa: E402
from benchmarks.engines import DEVICES, load, ours_captured  # noqa: E402
from benchmarks.engines.ours_compiled import OursCompiled  # noqa: E402
from benchmarks.engines.ours_eager import OursEager  # noqa: E402
from benchmarks.measure import check_equal, time_in_turns  # noqa: E402
from benchmarks.plot import draw  # noqa: E402
from benchmarks.report import captured_targets, comparison, cost_of_fusing, growth, report, targets, write_json  # noqa: E402
from benchmarks.suite import make_row  # noqa: E402
from tests.inference.step.tape import Tape  # noqa: E402

IN_TORCH = [name for name in DEVICES["cpu"] if name != "numpyro"]
EAGER = [name for name in IN_TORCH if name not in measure.OWN_DRAWS]


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Tape:
    """What is captured is recorded, on a CPU."""
    own = Tape()
    monkeypatch.setattr(ours_captured, "recorder_for", lambda device: own)
    return own


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_engines_in_torch_agree_in_losses_and_gradients(method: str, replicas: int) -> None:
    check_equal(Case(method, replicas, batch_size=6, num_rows=11), EAGER, "float64")


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize(("draws", "embeddings"), [(3, 1), (1, 4), (3, 2)])
def test_engines_agree_with_several_draws(draws: int, embeddings: int, replicas: int) -> None:
    check_equal(Case("M-ProbMix", replicas, 6, 11, draws, embeddings), EAGER, "float64")


def test_the_compiled_engine_agrees() -> None:
    check_equal(Case("M-ProbMix", 3, 6, 11), ["ours-compiled"], "float64")


def _record_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Inductor compiles cannot be recorded operation by operation; that it is the same step is tested above."""
    monkeypatch.setattr(OursCompiled, "_gradient", OursEager._gradient)


def test_the_captured_engine_agrees_when_it_is_replayed(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in METHODS:
        case = Case(method, 3, 6, 11)
        _record_eagerly(monkeypatch)
        before = tape.replays
        check_equal(case, ["ours-captured"], "float64")
        assert tape.replays > before


def test_the_captured_engine_trains_by_replays(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    _record_eagerly(monkeypatch)
    case = Case("ERM", 2, batch_size=6, num_rows=11)  # without random numbers of its own
    problem, draws = make_problem(case), make_draws(case)
    captured, eager = (load(n)(case, problem, "float64") for n in ("ours-captured", "ours-eager"))
    for engine in (captured, eager):
        engine.train(20)
    # The rate of a captured step is in single precision.
    found, expected = (engine.loss_and_gradients(draws)[0] for engine in (captured, eager))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert tape.replays == 20 - 3


def test_the_captured_engine_says_where_it_cannot_compile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr("benchmarks.engines.ours_compiled.compiled_gradient", refuse)
    case = Case("ERM", 2, batch_size=6, num_rows=11)
    engine: Any = load("ours-captured")(case, make_problem(case))
    assert engine._gradient()(engine.rows[0]).shape == (2,)
    assert "is not compiled here, only captured: no compiler" in capsys.readouterr().out


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_on_cuda_engines_agree_and_are_timed(method: str) -> None:
    case, names = Case(method, 3, 6, 11), DEVICES["cuda"]
    check_equal(case, names, "float32", "cuda")
    engines: dict[Any, Any] = {name: load(name)(case, make_problem(case), device="cuda") for name in names}
    engines["product"] = measure.MatrixProduct("cuda")
    timings = time_in_turns(engines, dict.fromkeys(engines, 5), 2, "cuda")
    assert all(timing.device == "cuda" and timing.median > 0 for timing in timings.values())
    assert measure.MatrixProduct.gflops(timings["product"]) > 100
    assert all(measure.peak_device_memory(name, case) > 0 for name in names)


def test_numpyro_agrees_in_losses_and_gradients() -> None:
    if importlib.util.find_spec("numpyro") is None:
        pytest.skip("needs numpyro, which the extra [bench] installs")
    # In a process of its own: once JAX is imported, it warns at every fork of any other test.
    code = (
        "from benchmarks.cases import Case\n"
        "from benchmarks.measure import check_equal\n"
        "for draws in (1, 1), (3, 2):\n"
        "    check_equal(Case('M-ProbMix', 3, 6, 11, *draws), ['numpyro'], 'float64')\n"
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
        check_equal(Case("ProbMix", 2, 6, 11), ["torch-loop", "wrong"], "float64")


def test_timings_become_rows_tables_and_a_picture(tmp_path: Path) -> None:
    cases = [Case(method, 2, 4, 9) for method in METHODS]
    names = ("torch-loop", "torch-vmap", "ours-eager")
    engines: dict[Any, Any] = {(case, name): load(name)(case, make_problem(case)) for case in cases for name in names}
    timings = time_in_turns(engines, dict.fromkeys(engines, 1), blocks=2)
    rows = [make_row(name, case, timing, None) for (case, name), timing in timings.items()]
    keys = ["engine", "method", "R", "B", "K", "S", "device", "threads", "ms_per_step", "spread", "peak_mib"]
    assert list(rows[0]) == keys
    assert all(row["ms_per_step"] > 0 and row["spread"] >= 0 for row in rows)
    assert "torch-vmap" in comparison(rows[-3:])
    assert all(method in cost_of_fusing(rows) for method in METHODS)
    # Of another kind: a step that takes R times as long for R models.
    grown = [row | {"R": r, "B": 32, "ms_per_step": 0.5 * r} for row in rows[-3:] for r in (1, 5, 20)]
    head, exponents = (line.split() for line in growth(grown, "R").splitlines())
    assert head == ["R", "1..20", *names] and exponents == ["1.00"] * 6
    draw(grown, 50.0, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_operations_of_the_matrix_products() -> None:
    """Counted by PyTorch in a step of the plain engine."""
    for case in (Case("ERM", 2, 4, 9), Case("M-sampled", 3, 4, 9), Case("M-ProbMix", 2, 4, 9, 3, 2)):
        with FlopCounterMode(display=False) as counter:
            load("torch-batched")(case, make_problem(case)).train(1)
        assert counter.get_total_flops() == case.flops


def test_aims_are_held_against_the_rows() -> None:
    sizes = {"K": 1, "S": 1}
    rows = [
        {"engine": engine, "method": method, "R": r, "B": b, "ms_per_step": ms} | sizes
        for engine, ms in (("torch-loop", 9.0), ("numpyro", 2.0), ("ours-compiled", 1.5))
        for method in METHODS
        for r, b in ((20, 32), (20, 222), (1, 32))
    ]
    text = targets(rows)
    assert "M-ProbMix / NumPyro, R=20, B=222" in text and "0.75, at most 1.0: met" in text
    assert "6.0, at least 8: missed" in text


def test_devices_are_reported_one_after_the_other() -> None:
    sizes = {"K": 1, "S": 1, "spread": 0.01, "peak_mib": None}
    rows: list[Any] = [
        {"device": device, "engine": engine, "method": method, "R": r, "B": b, "ms_per_step": ms} | sizes
        for device, engine, ms in (
            ("cpu", "torch-loop", 9.0),
            ("cpu", "ours-compiled", 1.5),
            ("cuda", "torch-loop", 8.0),
            ("cuda", "ours-captured", 0.12),
        )
        for method in METHODS
        for r, b in ((20, 32), (20, 222), (1, 32))
    ]
    about = {"processor": "a processor", "wall_over_processor": 1.0, "matrix_product_gflops": 50.0, "seconds": 1.0}
    text = report(rows, {"cpu": about, "cuda": about | {"processor": "a card"}})
    cpu, cuda = text.split("Processor's time on one core")
    assert "ours-captured" not in cpu and "9.000" in cpu and "ours-compiled" not in cuda and "8.000" in cuda
    assert "Time on the clock, a card" in cuda and "120, at most 150: met" in cuda
    late = [row | {"ms_per_step": 2 * row["ms_per_step"]} for row in rows if row["device"] == "cuda"]
    assert captured_targets(late).count("240, at most 150: missed") == len(METHODS)


def test_results_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, [{"ms_per_step": 1.0}])
    with pytest.raises(TypeError):
        write_json(path, [{"ms_per_step": object()}])
    assert json.loads(path.read_text()) == [{"ms_per_step": 1.0}]
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_fits_are_measured_in_processes_of_their_own_and_the_page_has_their_table():

    found = fits.measure("HGB", 300, None, quick=True)
    assert isinstance(found, dict) and 0 < found["rmse"] < 2 and found["nll"] > 0 and found["fit"] > 0
    assert fits.page(fits.PAGE.read_text("utf-8")) == fits.PAGE.read_text("utf-8"), "run benchmarks/fits.py --table"


def test_what_the_choice_of_a_likelihood_costs_stands_on_its_page():
    text = choice.PAGE.read_text("utf-8")
    assert choice.page(text) == text, "run benchmarks/choice.py --table"
    rows = choice.read()
    assert {(row["table"], row["seed"]) for row in rows} == {(name, seed) for name in choice.TABLES for seed in (0, 1)}
    behind = [np.mean(row["auto"]) - np.mean(row["gaussian"]) for row in rows]
    assert max(np.mean(behind[k :: len(choice.TABLES)]) for k in range(len(choice.TABLES))) < 0.02


def test_the_script_for_a_device_runs_on_the_cpu_with_small_numbers(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("here it would take its ten minutes")
    command = [sys.executable, "benchmarks/device.py", "--out", str(tmp_path / "found.json")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["predictions"]["rows"] == 1000 and len(found["ten trainings"]["seconds of an epoch"]) == 10
    assert found["captured step"]["microseconds"] > 0 and found["tests"] == {"left out": "there is no CUDA device"}
    assert all("failed" not in part for part in found.values() if isinstance(part, dict))
