#!/usr/bin/env bash
# In a plate without a size, a latent of each row is one latent of all rows, and nothing says so.
#
# Versions: pyro-ppl 1.9.2, torch 2.13.0, Python 3.11.
#
# Behaviour: `pyro.plate("rows", dim=-1)` is allowed without a size, and its sites count as independent along dim -1. A plate with a
# size expands the distributions in it; this one does not. A latent with scalar parameters in it is drawn once, and broadcasts to
# all rows of the data: the model of a random effect of each row becomes that of one effect, with another likelihood. The trace's
# check of shapes passes.
#
# Expected: as many draws as the site of the data has rows, or a refusal.
#
# Output seen:
#     size 4: latent of shape (4,), correlation of two rows 0.01
#     no size: latent of shape (), correlation of two rows 0.99
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet pyro-ppl==1.9.2 torch==2.13.0 numpy==2.4.6
cd "$folder"
bin/python - <<'EOF'
import sys

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

pyro.enable_validation(True)
pyro.set_rng_seed(0)
x = torch.arange(4.0)


def model(*size):
    with pyro.plate("rows", *size, dim=-1):
        effect = pyro.sample("effect", dist.Normal(0.0, 1.0))
        return pyro.sample("y", dist.Normal(x + effect, 0.1))


found = {}
for name, size in (("size 4", (4,)), ("no size", ())):
    trace = poutine.trace(model).get_trace(*size)
    trace.compute_log_prob()  # checks the shapes
    rows = torch.stack([model(*size) for _ in range(2000)])
    shape = tuple(trace.nodes["effect"]["value"].shape)
    alike = torch.corrcoef(rows[:, :2].T)[0, 1].item()
    found[name] = shape, alike
    print(f"{name}: latent of shape {shape}, correlation of two rows {alike:.2f}")
same = found["size 4"][0] == (4,) and abs(found["size 4"][1]) < 0.1 and found["no size"][0] == () and found["no size"][1] > 0.95
sys.exit(None if same else "a plate without a size does something else now")
EOF
