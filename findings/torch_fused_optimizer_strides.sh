#!/usr/bin/env bash
# Fused optimizers on a CPU update the wrong entries where a gradient has other strides than its parameter.
#
# Versions: torch 2.13.0 (2.11.0 and 2.14.1 alike), Python 3.11, CPU.
#
# Behaviour: ``torch.autograd.grad`` may return a gradient with other strides than the parameter, as for this einsum, whose
# gradient of a [3, 4] matrix has the strides (1, 3). With ``fused=True``, SGD, Adam, AdamW and Adagrad then read the gradient in
# the order in which it lies in memory, so that entries are updated by the gradients of others. There is no error and no warning.
#
# Expected: the update of ``fused=False``.
#
# Output seen:
#     strides of the parameter (4, 1), of its gradient (1, 3)
#     SGD: fused and not fused agree: False
#     Adam: fused and not fused agree: False
#     AdamW: fused and not fused agree: False
#     Adagrad: fused and not fused agree: False
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
bin/python - <<'EOF'
import sys

def show() -> str | None:
    """Prints what happens; returns what is no longer so."""
    import torch

    torch.manual_seed(0)
    x, start = torch.randn(5, 3), torch.randn(3, 4)
    parameter = torch.nn.Parameter(start.clone())
    loss = torch.einsum("bi,io->ob", x, parameter).square().sum()
    (gradient,) = torch.autograd.grad(loss, parameter)
    print(f"strides of the parameter {parameter.stride()}, of its gradient {gradient.stride()}")
    agreeing = []
    for optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad):
        results = []
        for fused in (False, True):
            stepped = torch.nn.Parameter(start.clone())
            stepped.grad = gradient.clone()
            optimizer([stepped], lr=0.1, fused=fused).step()
            results.append(stepped.detach())
        agree = torch.allclose(*results)
        print(f"{optimizer.__name__}: fused and not fused agree: {agree}")
        agreeing += [optimizer.__name__] * agree
    return f"fused and not fused agree for {', '.join(agreeing)}" if agreeing else None


sys.exit(show())
EOF
