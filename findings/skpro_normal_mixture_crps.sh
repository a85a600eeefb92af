#!/usr/bin/env bash
# The CRPS of skpro's normal mixture is not the integral that defines it.
#
# Versions: skpro 2.16.0, scipy 1.17.1, Python 3.11.
#
# Behaviour: ``p.energy(y) - 0.5 * p.energy()``, as skpro defines the CRPS, is 0.676 for a mixture of two Gaussians.
#
# Expected: the integral of (F(v) - 1[v >= y])^2 over v, 0.468 by the distribution's own cdf.
#
# Output seen:
#     by the energies: 0.6761
#     by quadrature: 0.4677
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet skpro==2.16.0 scipy==1.17.1 scikit-learn==1.9.1 pandas==3.0.6 numpy==2.4.6
cd "$folder"
bin/python -W ignore - <<'EOF'
import sys

import numpy as np
from scipy.integrate import trapezoid
from skpro.distributions.normal_mixture import NormalMixture

p = NormalMixture(np.array([0.5, 0.5]), np.array([-1.0, 1.5]), np.array([0.5, 1.0]))
y, grid = 0.3, np.linspace(-12, 12, 24001)
found = float(p.energy(y) - 0.5 * p.energy())
wanted = trapezoid((np.array([p.cdf(v) for v in grid]) - (grid >= y)) ** 2, grid)
print(f"by the energies: {found:.4f}")
print(f"by quadrature: {wanted:.4f}")
sys.exit(0 if abs(found - wanted) > 0.02 else "they agree now")
EOF
