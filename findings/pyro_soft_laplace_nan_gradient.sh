#!/usr/bin/env bash
# The gradient of Pyro's SoftAsymmetricLaplace is NaN some forty scales from its centre, where its log density is still right.
#
# Versions: pyro-ppl 1.9.2, torch 2.13.0, Python 3.11; single precision.
#
# Behaviour: the log density is a logaddexp of two halves, each with the log of an erfc, taken as erfc(x).log(). Far out one erfc
# is zero also in double precision: its log is minus infinity, which logaddexp rightly passes over, but the gradient is zero times
# infinity. One outlier in a batch turns all parameters to NaN in one step of an optimizer, while the loss looks fine.
#
# Expected: a slope of -1 and 1 in the tails, as at 20 scales.
#
# Output seen:
#     at -40: log density -40.19, gradient nan
#     at -20: log density -20.19, gradient 1.0
#     at 20: log density -20.19, gradient -1.0
#     at 40: log density -40.19, gradient nan
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet pyro-ppl==1.9.2 torch==2.13.0 numpy==2.4.6
cd "$folder"
bin/python - <<'EOF'
import sys

import pyro.distributions as dist
import torch

seen = {}
for place in (-40.0, -20.0, 20.0, 40.0):
    x = torch.tensor(place, requires_grad=True)
    log_density = dist.SoftAsymmetricLaplace(0.0, 1.0).log_prob(x)
    log_density.backward()
    seen[place] = (log_density.item(), x.grad.item())
    print(f"at {place:g}: log density {log_density.item():.2f}, gradient {x.grad.item()}")
fine = all(value > -50 for value, _ in seen.values())
lost = [place for place, (_, slope) in seen.items() if slope != slope]
sys.exit(None if fine and lost == [-40.0, 40.0] else "the gradient is another one now")
EOF
