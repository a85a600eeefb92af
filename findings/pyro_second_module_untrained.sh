#!/usr/bin/env bash
# The second of two Pyro modules with equal names of parameters is never trained, without an error.
#
# Versions: pyro-ppl 1.9.2, torch 2.13.0, Python 3.11.
#
# Behaviour: the parameters of a PyroModule live in a store of the whole process, by name. The first module that is fitted enters
# "l.weight" and "l.bias" there. A second one of the same class finds these names taken: SVI optimises the parameters of the
# first module once more, while the loss is that of the second one's own weights, which never change.
#
# Expected: two fits of one process do not touch each other, or the second one fails.
#
# Output seen:
#     first:  loss at the start 300.2, at the end 45.9
#     second: loss at the start 227.8, at the end 227.8; its weights have not changed
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet pyro-ppl==1.9.2 torch==2.13.0 numpy==2.4.6
cd "$folder"
bin/python - <<'EOF'
import sys

def show() -> str | None:
    """Prints what happens; returns what is no longer so."""
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer import SVI, Trace_ELBO
    from pyro.nn import PyroModule

    class Line(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.l = PyroModule[torch.nn.Linear](1, 1)

        def forward(self, x, y):
            with pyro.plate("data", len(x)):
                return pyro.sample("y", dist.Normal(self.l(x)[:, 0], 1.0), obs=y)

    torch.manual_seed(0)
    x = torch.randn(50, 1)
    y = 3 * x[:, 0]
    first, second = Line(), Line()
    before = second.l.weight.detach().clone()
    for name, model in (("first", first), ("second", second)):
        svi = SVI(model, lambda x, y: None, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
        losses = [svi.step(x, y) for _ in range(200)]
        note = "; its weights have not changed" if torch.equal(second.l.weight, before) and model is second else ""
        print(f"{name + ':':<7} loss at the start {losses[0]:.1f}, at the end {losses[-1]:.1f}{note}")
    return None if torch.equal(second.l.weight, before) else "the second module's weights have changed"


sys.exit(show())
EOF
