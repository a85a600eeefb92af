"""Fits and predictions of ProbMixRegressor() as it comes, here and in another checkout: ``python benchmarks/serve.py OTHER``.

OTHER is the path of a checkout of another commit; without it this one is timed alone, and beside NGBoost where that is
installed. Each number is processor's seconds on one thread, the median of ``--repeats``, of checkouts in turn, each in a
process of its own, the import of a first fit included. ``--parts`` chooses among predict, fit-1000, fit-2000 and fit-50000.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

HERE = Path(__file__).parents[1]
PARTS = ("predict", "fit-1000", "fit-2000", "fit-50000")
CHILD = """
import json, sys, time, warnings
import numpy as np
model, part = sys.argv[1:]
warnings.simplefilter("ignore")
if model == "ngboost":
    from ngboost import NGBRegressor
    make = lambda **_: NGBRegressor(random_state=0, verbose=False)
else:
    import torch
    torch.set_num_threads(1)
    from pyro_probmix import ProbMixRegressor
    make = lambda **options: ProbMixRegressor(random_state=0, **options)

def rows(n, d, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    noise = 0.1 + 0.4 / (1 + np.exp(-2 * x[:, 1]))
    return x, np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + noise * rng.normal(size=n)

def took(call):
    start = time.process_time()
    result = call()
    return time.process_time() - start, result

found = {}
if part == "predict":
    x, y = rows(20000, 8, 0)
    fitted = make(epochs=10).fit(x[:1000], y[:1000])
    fitted.predict(x[:100])
    found["predict, 20,000 rows x 8"] = took(lambda: fitted.predict(x))[0]
    if model != "ngboost":
        found["quantiles 5, 50, 95 %"] = took(lambda: fitted.predict_quantiles(x))[0]
else:
    n = int(part.split("-")[1])
    (x, y), (x_new, y_new) = rows(n, 10, 0), rows(5000, 10, 1)
    found[f"fit, {n} rows x 10"], fitted = took(lambda: make().fit(x, y))
    nll = -fitted.pred_dist(x_new).logpdf(y_new).mean() if model == "ngboost" else fitted.nll(x_new, y_new)
    found[f"NLL of the fit, {n} rows"] = float(nll)
print(json.dumps(found))
"""


def measured(checkout: Path, model: str, part: str) -> dict[str, float]:
    """What a process of its own finds with a checkout's sources."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, model, part]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", nargs="?", type=Path, help="the path of another checkout")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:3])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    sides = {"this": (HERE, "probmix")}
    if arguments.other is not None:
        sides = {"other": (arguments.other.resolve(), "probmix"), **sides}
    if subprocess.run([sys.executable, "-c", "import ngboost"], capture_output=True, check=False).returncode == 0:
        sides["NGBoost"] = HERE, "ngboost"
    print(f"{'':<28}" + "".join(f"{name:>10}" for name in sides) + ("other/this" if "other" in sides else ""))
    for part in arguments.parts:
        runs = [{name: measured(*side, part) for name, side in sides.items()} for _ in range(arguments.repeats)]
        for row in runs[0]["this"]:
            values = {name: median(run[name].get(row, float("nan")) for run in runs) for name in sides}
            ratio = f"{values['other'] / values['this']:>10.1f}" if "other" in values and "NLL" not in row else ""
            print(f"{row:<28}" + "".join(f"{value:>10.3f}" for value in values.values()) + ratio, flush=True)


if __name__ == "__main__":
    main()
