"""What a GPU does, in one script that ends within ten minutes: ``python benchmarks/device.py``.

Four parts, each ended when the time is up: the tests that need a device; the captured training step against its aim (M-ProbMix,
R = 20, B = 32: at most 150 microseconds); ten trainings in the shapes of the UCI sets (20 splits together, numbers drawn at
random), from which the time of the paper's table follows; predictions of a million rows. It needs PyTorch with CUDA and this
repository. Other packages that are missing are installed from ``--wheels FOLDER``, without a network. Without a device it
runs the same on the CPU with small numbers. The figures are printed, and written to ``--out FILE`` as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: Rows and features of the UCI sets of the paper.
SETS = {
    "yacht": (308, 6),
    "bostonHousing": (506, 13),
    "energy": (768, 8),
    "concrete": (1030, 8),
    "wine-quality-red": (1599, 11),
    "kin8nm": (8192, 8),
    "power-plant": (9568, 4),
    "naval-propulsion-plant": (11934, 16),
}
#: The trainings that are timed: each set, and two more methods on one of them.
TRAININGS = [*((name, "M-ProbMix") for name in SETS), ("kin8nm", "ERM"), ("kin8nm", "ProbMix")]
#: Of the paper's table.
EPOCHS, METHODS, SPLITS, BATCH = 1000, 11, 20, 32
AIM_MICROSECONDS = 150.0


def install(folder: str) -> None:
    """Installs the wheels of a folder that are missing, without a network; PyTorch stays as it is."""
    wheels = [str(path) for path in sorted(Path(folder).glob("*.whl")) if not path.name.startswith("torch-")]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", *wheels], check=True)


def gpu_tests(on_gpu: bool, left: float) -> dict[str, Any]:
    """The tests marked ``gpu``: how they ended."""
    if not on_gpu:
        return {"left out": "there is no CUDA device"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=left)
    return {"code": done.returncode, "said": done.stdout.strip().splitlines()[-1:]}


def captured_step(on_gpu: bool, left: float) -> dict[str, Any]:
    """Microseconds of a training step, and whether it reaches its aim."""
    from benchmarks.cases import Case, make_problem
    from benchmarks.engines import load
    from benchmarks.measure import time_in_turns

    device, name = ("cuda", "ours-captured") if on_gpu else ("cpu", "ours-eager")
    case = Case("M-ProbMix", 20, 32, 350) if on_gpu else Case("M-ProbMix", 2, 8, 40)
    engine = load(name)(case, make_problem(case, minibatches=8), device=device)
    timing = time_in_turns({"step": engine}, {"step": 200 if on_gpu else 4}, 9 if on_gpu else 2, device)["step"]
    wall = 1e3 * sorted(timing.wall)[len(timing.wall) // 2]
    found = {"case": str(case), "engine": name, "microseconds": wall}
    return found | ({"aim": AIM_MICROSECONDS, "met": wall <= AIM_MICROSECONDS} if on_gpu else {})


def trainings(on_gpu: bool, left: float) -> dict[str, Any]:
    """Seconds of an epoch in the shape of each set, and the hours of the table that follow."""
    import torch

    from pyro_probmix import METHODS as methods
    from pyro_probmix import ProbMix, build_density, fit
    from pyro_probmix.models import Gaussian

    device = torch.device("cuda" if on_gpu else "cpu")
    splits, epochs = (SPLITS, 6) if on_gpu else (2, 1)
    started, seconds = time.perf_counter(), {}
    for name, method in TRAININGS:
        if time.perf_counter() - started > left:
            break
        n, d = SETS[name] if on_gpu else (64, SETS[name][1])
        x, y = torch.randn(splits, n, d, device=device), torch.randn(splits, n, 1, device=device)
        density = build_density(methods[method], num_features=d, likelihood=Gaussian, widths=(128, 32), replicas=splits)
        process = ProbMix(density, at=methods[method].site or "y", batch_size=BATCH) if methods[method].site else None
        model = (process or ProbMix(density, at="y", alpha=1e-6, batch_size=BATCH)).to(device)
        fit(model, x, y, epochs=1, learning_rate=0.005)  # records and compiles
        begun = time.perf_counter()
        fit(model, x, y, epochs=epochs, learning_rate=0.005)
        if on_gpu:
            torch.cuda.synchronize()
        seconds[f"{name}, {method}"] = (time.perf_counter() - begun) / epochs
    of_sets = [seconds.get(f"{name}, M-ProbMix") for name in SETS]
    found: dict[str, Any] = {"rows and splits": "of the sets" if on_gpu else "small", "seconds of an epoch": seconds}
    if on_gpu and None not in of_sets:
        found["hours of the table"] = sum(s for s in of_sets if s) * EPOCHS * METHODS / 3600
    return found


def predictions(on_gpu: bool, left: float) -> dict[str, Any]:
    """Seconds and memory of the mean and standard deviation of a million rows."""
    import numpy as np
    import torch

    from pyro_probmix import ProbMixRegressor

    rng, n = np.random.default_rng(0), 1_000_000 if on_gpu else 1000
    X = rng.normal(size=(2000 if on_gpu else 100, 10))
    y = X[:, 0] + 0.1 * rng.normal(size=len(X))
    small = {} if on_gpu else {"ensemble": 2, "widths": (16, 16)}
    model = ProbMixRegressor(epochs=20 if on_gpu else 1, random_state=0, **small).fit(X, y)
    rows = rng.normal(size=(n, 10))
    model.predict(rows[:1000])
    begun = time.perf_counter()
    model.predict(rows, return_std=True)
    found = {"rows": n, "seconds": time.perf_counter() - begun}
    return found | ({"peak MiB": torch.cuda.max_memory_allocated() / 2**20} if on_gpu else {})


PARTS: dict[str, Callable[[bool, float], dict[str, Any]]] = {
    "captured step": captured_step,
    "ten trainings": trainings,
    "predictions": predictions,
    "tests": gpu_tests,
}


def run(budget: float) -> dict[str, Any]:
    """All parts; one that fails says why, and the others go on."""
    import torch

    on_gpu, started = torch.cuda.is_available(), time.perf_counter()
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if on_gpu else "CPU, with small numbers: no CUDA device is here",
        "torch": torch.__version__,
    }
    for name, part in PARTS.items():
        left = budget - (time.perf_counter() - started)
        try:
            found[name] = part(on_gpu, left) if left > 0 else {"left out": "the time was up"}
        except Exception as error:
            found[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[:1]}"}
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    return found | {"seconds": time.perf_counter() - started}


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", metavar="FOLDER", help="wheels of packages that are missing")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds (default 540)")
    parser.add_argument("--out", metavar="FILE", help="JSON of the figures")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    if arguments.wheels:
        install(arguments.wheels)
    found = run(arguments.budget)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if any("failed" in part for part in found.values() if isinstance(part, dict)):
        sys.exit("device: a part failed")


if __name__ == "__main__":
    main()
