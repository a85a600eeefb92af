#!/usr/bin/env bash
# sktime 1.2.0, skpro 2.16.0, scikit-learn 1.9.1, pandas 3.0.6
# A forecaster by make_reduction(..., pooling="global") around a regressor of skpro forecasts each horizon as the first one.
# Expected: a straight line goes on, 60, 61, 62, as it does with pooling="local" or with a regressor of scikit-learn.
# Seen: global [60. 60. 60.], local [60. 61. 62.], scikit-learn [60. 61. 62.]
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check sktime==1.2.0 skpro==2.16.0 scikit-learn==1.9.1 pandas==3.0.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
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
print("global", pooled, "local", alone, "scikit-learn", plain)
same = np.allclose(pooled, 60) and np.allclose(alone, [60, 61, 62]) and np.allclose(plain, [60, 61, 62])
sys.exit(0 if same else "the forecasts have changed: docs/tutorials/panel.md may forecast several horizons now")
PYTHON
