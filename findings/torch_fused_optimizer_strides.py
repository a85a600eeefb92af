"""Fused optimizers on a CPU update the wrong entries where a gradient has other strides than its parameter.

Versions: torch 2.13.0 (2.11.0 and 2.14.1 alike), Python 3.11, CPU.

Behaviour: ``torch.autograd.grad`` may return a gradient with other strides than the parameter, as for this einsum, whose
gradient of a [3, 4] matrix has the strides (1, 3). With ``fused=True``, SGD, Adam, AdamW and Adagrad then read the gradient in
the order in which it lies in memory, so that entries are updated by the gradients of others. There is no error and no warning.

Expected: the update of ``fused=False``.

Output seen:
    strides of the parameter (4, 1), of its gradient (1, 3)
    SGD: fused and not fused agree: False
    Adam: fused and not fused agree: False
    AdamW: fused and not fused agree: False
    Adagrad: fused and not fused agree: False
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PACKAGES = ["torch==2.13.0", "numpy==2.4.6"]


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


def main() -> None:
    if sys.argv[1:] == ["inside"]:
        sys.exit(show())
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin", "python"))
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        sys.exit(subprocess.run([python, str(Path(__file__).resolve()), "inside"], cwd=folder).returncode)


if __name__ == "__main__":
    main()
