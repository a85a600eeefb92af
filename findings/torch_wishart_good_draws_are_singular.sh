#!/usr/bin/env bash
# torch's Wishart takes its good draws for singular ones: it warns, draws again, and loses the gradient of a batch.
#
# Versions: torch 2.13.0, Python 3.11, CPU.
#
# Behaviour: Wishart.rsample first asks whether its draws lie in the support, and treats those that DO as singular (the later tries
# negate the answer, the first does not). Every draw of a well-conditioned Wishart so warns "Singular sample detected.", is
# replaced in place by a second one, and a truly singular one would be kept. With a batch the replacement is written into a
# tensor that the gradient needs, so that backward raises.
#
# Expected: no warning for draws that are positive definite, and a gradient for a batch as for a single one.
#
# Output seen:
#     warnings in 20 draws: 20; draws that are positive definite: 20
#     gradient of a batch: RuntimeError, one of the variables needed for gradient computation has been modified
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
bin/python - <<'EOF'
import sys
import warnings

import torch
from torch.distributions import Wishart

torch.manual_seed(0)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    draws = [Wishart(torch.tensor(5.0), torch.eye(2)).sample() for _ in range(20)]
    said = sum("Singular" in str(warning.message) for warning in caught)
    definite = sum(bool((torch.linalg.eigvalsh(draw) > 0).all()) for draw in draws)
    print(f"warnings in 20 draws: {said}; draws that are positive definite: {definite}")
    degrees = torch.tensor([5.0, 6.0], requires_grad=True)
    try:
        Wishart(degrees, torch.eye(2).expand(2, 2, 2)).rsample((3,)).sum().backward()
        lost = False
        print("gradient of a batch: found")
    except RuntimeError as error:
        lost = True
        print(f"gradient of a batch: RuntimeError, {str(error)[:75]}")
sys.exit(None if said == definite == 20 and lost else "good draws are no longer taken for singular ones")
EOF
