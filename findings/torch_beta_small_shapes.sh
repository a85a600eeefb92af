#!/usr/bin/env bash
# Beta draws of small shapes lie in the middle of (0, 1), where almost none belong.
#
# Versions: torch 2.13.0 (2.11.0 and 2.14.1 alike), Python 3.11, CPU.
#
# Behaviour: ``torch.distributions.Beta(a, a)`` draws a pair of gammas and divides one by their sum. Below a shape of about 0.005
# most gammas are smaller than the smallest float, and are replaced by it: both alike, and the draw is 0.5. The share of draws in
# (0.25, 0.75) therefore rises as the shape falls, in float64 as in float32.
#
# Expected: the share falls with the shape, nearly as a log(3) for Beta(a, a).
#
# Output seen:
#     Beta(0.1, 0.1): 0.0957 of the draws in (0.25, 0.75), expected 0.0961
#     Beta(0.01, 0.01): 0.0110 of the draws in (0.25, 0.75), expected 0.0108
#     Beta(0.001, 0.001): 0.2438 of the draws in (0.25, 0.75), expected 0.0011
#     Beta(0.0001, 0.0001): 0.8678 of the draws in (0.25, 0.75), expected 0.0001
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 scipy==1.17.1
cd "$folder"
bin/python - <<'EOF'
import sys

def show() -> str | None:
    """Prints what happens; returns what is no longer so."""
    import torch
    from scipy import stats

    torch.manual_seed(0)
    excess = {}
    for shape in (0.1, 0.01, 0.001, 0.0001):
        a = torch.tensor(shape)
        draws = torch.distributions.Beta(a, a).sample((100_000,))
        seen = ((draws > 0.25) & (draws < 0.75)).double().mean().item()
        expected = stats.beta(shape, shape).cdf(0.75) - stats.beta(shape, shape).cdf(0.25)
        print(f"Beta({shape}, {shape}): {seen:.4f} of the draws in (0.25, 0.75), expected {expected:.4f}")
        excess[shape] = seen / expected
    if excess[0.001] < 100 or excess[0.0001] < 1000:
        return "fewer draws lie in the middle than did"
    return None


sys.exit(show())
EOF
