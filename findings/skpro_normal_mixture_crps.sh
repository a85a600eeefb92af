#!/usr/bin/env bash
# skpro 2.16.0, scipy 1.17.1
# The CRPS of NormalMixture, energy to the observation less half of the self-energy, is not the integral that defines it.
# Expected: the integral of (F(v) - 1[v >= y])^2, which quadrature over the distribution's own cdf gives.
# Seen: crps 0.6761 by the energies, 0.4675 by quadrature
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check skpro==2.16.0 scipy==1.17.1 scikit-learn==1.9.1 pandas==3.0.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import numpy as np
from scipy.integrate import trapezoid
from skpro.distributions.normal_mixture import NormalMixture

p = NormalMixture(np.array([0.5, 0.5]), np.array([-1.0, 1.5]), np.array([0.5, 1.0]))
y, grid = 0.3, np.linspace(-12, 12, 24001)
found = float(p.energy(y) - 0.5 * p.energy())
wanted = trapezoid((np.array([p.cdf(v) for v in grid]) - (grid >= y)) ** 2, grid)
print(f"crps {found:.4f} by the energies, {wanted:.4f} by quadrature")
sys.exit(0 if abs(found - wanted) > 0.02 else "they agree now")
PYTHON
