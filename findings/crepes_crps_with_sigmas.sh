#!/usr/bin/env bash
# The CRPS of a conformal predictive system with difficulty estimates is not the integral that defines it.
#
# Versions: crepes 0.9.0, numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.1, pandas 3.0.6, Python 3.11.
#
# Behaviour: ``ConformalPredictiveSystem.evaluate(metrics=["CRPS"])`` is right for ``sigmas`` of 1, and wrong for others.
#
# Expected: responses, residuals and ``sigmas`` that are all five times as large have a CRPS that is five times as large, as that of
# the distributions of ``predict_cpds`` has.
#
# Output seen:
#     sigmas of 1: evaluate 0.6355, of its distributions 0.6355
#     sigmas of 5: evaluate 3.4854, of its distributions 3.1773
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet crepes==0.9.0 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 pandas==3.0.6
cd "$folder"
bin/python - <<'EOF'
import sys

import numpy as np
from crepes import ConformalPredictiveSystem

rng = np.random.default_rng(0)
residuals, y = rng.normal(size=200), rng.normal(size=100)


def crps(values, observed):
    return np.abs(values - observed).mean() - 0.5 * np.abs(values[:, None] - values).mean()


found, wanted = {}, {}
for scale in (1.0, 5.0):
    fitted, new = np.full(200, scale), {"y_hat": np.zeros(100), "sigmas": np.full(100, scale)}
    system = ConformalPredictiveSystem().fit(scale * residuals, sigmas=fitted)
    found[scale] = system.evaluate(y=scale * y, metrics=["CRPS"], seed=0, **new)["CRPS"]
    values = np.array(list(system.predict_cpds(**new)))
    wanted[scale] = np.mean([crps(*row) for row in zip(values, scale * y)])
    print(f"sigmas of {scale:.0f}: evaluate {found[scale]:.4f}, of its distributions {wanted[scale]:.4f}")
same = np.isclose(found[1.0], wanted[1.0]) and np.isclose(wanted[5.0], 5 * wanted[1.0])
sys.exit(0 if same and abs(found[5.0] - wanted[5.0]) > 0.1 else "evaluate has changed")
EOF
