#!/usr/bin/env bash
# A zero-inflated distribution of Pyro can be expanded until it is drawn from, and never after.
#
# Versions: pyro-ppl 1.9.2, torch 2.13.0, Python 3.11.
#
# Behaviour: ZeroInflatedPoisson made with gate_logits computes "gate" lazily at the first draw, and keeps it as an attribute. Its
# expand then finds both, hands both on, and the constructor refuses: either of the two must be given, but not both. The same for
# one made with a gate, once its gate_logits have been asked for. A plate expands: a distribution that was looked at before a
# model ran fails inside of it.
#
# Expected: expand does not depend on what was asked before.
#
# Output seen:
#     before a draw: (3, 2)
#     after a draw: ValueError, Either `gate` or `gate_logits` must be specified, but not both.
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

counts = dist.ZeroInflatedPoisson(torch.ones(2), gate_logits=torch.zeros(2))
print(f"before a draw: {tuple(counts.expand((3, 2)).batch_shape)}")
counts.sample()
try:
    counts.expand((3, 2))
except ValueError as error:
    print(f"after a draw: ValueError, {error}")
    sys.exit(0)
sys.exit("it is expanded after a draw, too")
EOF
