#!/usr/bin/env bash
# A direct reduction that is pooled over a panel forecasts each horizon as the first one.
#
# Versions: sktime 1.2.0, skpro 2.16.0, scikit-learn 1.9.1, pandas 3.0.6, Python 3.11.
#
# Behaviour: ``make_reduction(..., strategy="direct", pooling="global")`` gives the forecast of the first horizon for each of them,
# around a regressor of skpro or of scikit-learn; ``pooling="local"`` does not.
#
# Expected: a straight line goes on, 60, 61, 62.
#
# Output seen:
#     skpro, global: [60. 60. 60.]
#     skpro, local: [60. 61. 62.]
#     scikit-learn, global: [60. 60. 60.]
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet sktime==1.2.0 skpro==2.16.0 scikit-learn==1.9.1 pandas==3.0.6 numpy==2.4.6
cd "$folder"
bin/python -W ignore - <<'EOF'
import sys

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression
from skpro.regression.residual import ResidualDouble
from sktime.forecasting.compose import make_reduction

panel = pd.concat({c: pd.DataFrame({"v": 10.0 * k + np.arange(60)}) for k, c in enumerate("ab")}, names=["series", "time"])


def first_series(regressor, pooling):
    forecaster = make_reduction(regressor, window_length=4, strategy="direct", pooling=pooling)
    return forecaster.fit(panel, fh=[1, 2, 3]).predict().to_numpy()[:3, 0].round(6)


pooled = first_series(ResidualDouble(LinearRegression()), "global")
alone = first_series(ResidualDouble(LinearRegression()), "local")
plain = first_series(LinearRegression(), "global")
print("skpro, global:", pooled)
print("skpro, local:", alone)
print("scikit-learn, global:", plain)
same = np.allclose(pooled, 60) and np.allclose(alone, [60, 61, 62]) and np.allclose(plain, 60)
sys.exit(0 if same else "the forecasts have changed")
EOF
