#!/usr/bin/env bash
# The first forward-mode derivative of a process warns that torch.jit.script is deprecated, 18 times, by torch's own calls.
#
# Versions: torch 2.13.0, Python 3.11, CPU.
#
# Behaviour: ``torch.func.jvp``, and with it ``jacfwd`` and ``hessian``, imports its decompositions when it is first asked for one,
# and scripts each of them by ``torch.jit.script``, which warns since it is deprecated. Where warnings are errors, as in many test
# suites, no forward-mode derivative can be taken, in the first call nor in a later one. Reverse mode warns of nothing.
#
# Expected: no warning, since nothing deprecated was called.
#
# Output seen:
#     grad: 0 warnings
#     jvp under errors, twice: DeprecationWarning, DeprecationWarning
#     jvp: 18 warnings, all DeprecationWarning of torch.jit.script
#     jvp again: 0 warnings
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
bin/python - <<'EOF'
import sys
import warnings


def show() -> str | None:
    """Prints what happens; returns what is no longer so."""
    import torch

    x = torch.ones(2)

    def forward() -> None:
        torch.func.jvp(torch.sin, (x,), (x,))

    def seen(call) -> list[warnings.WarningMessage]:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            call()
        return found

    print(f"grad: {len(seen(lambda: torch.func.grad(lambda x: x.sin().sum())(x)))} warnings")
    raised = []
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                forward()
                raised.append("none")
            except Warning as error:
                raised.append(type(error).__name__)
    print(f"jvp under errors, twice: {', '.join(raised)}")
    first, second = seen(forward), seen(forward)
    own = [w for w in first if w.category is DeprecationWarning and "torch.jit.script" in str(w.message)]
    print(f"jvp: {len(first)} warnings, {'all' if len(own) == len(first) else 'some'} DeprecationWarning of torch.jit.script")
    print(f"jvp again: {len(second)} warnings")
    if not own or raised[0] == "none":
        return "forward mode warns no longer"
    return None


sys.exit(show())
EOF
