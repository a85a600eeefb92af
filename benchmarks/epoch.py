"""Where an epoch's time goes, and how far a step's limit is: ``python benchmarks/epoch.py``.

Prints, in milliseconds of the processor's time on one core, the parts of an epoch as ``fit`` runs it (20 replicas of 364
rows, minibatches of 32, 41 validation rows, MLP 8-128-32), eager and compiled; the parts of a compiled step that no compiler
can leave out, each on its own: matrix products, random numbers, Adam; an epoch against the number of rows n; and how many
operations a gradient is, and how many of them are left when it is compiled.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("ERM", "Mix", "ProbMix", "M-ProbMix")


def median_ms(action: Callable[[], object], repeats: int = 15) -> float:
    """The median of the processor's time, each of some milliseconds at least, in milliseconds."""
    action()
    start = time.process_time()
    action()
    inner = max(1, round(5e-3 / max(time.process_time() - start, 1e-6)))
    seen = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(inner):
            action()
        seen.append(1e3 * (time.process_time() - start) / inner)
    return sorted(seen)[len(seen) // 2]


def parts(method: str, compile: bool, n: int = 364, batch_size: int = 32, replicas: int = 20) -> dict[str, float]:
    """Milliseconds an epoch of the parts of a fit."""
    import pyro
    import torch

    from pyro_probmix import METHODS, ExpectedLogLikelihood, ProbMix, build_density
    from pyro_probmix.inference.predictive.validation import Validation
    from pyro_probmix.inference.step.adam import FusedStep, fused_adam
    from pyro_probmix.inference.step.compiled import choose
    from pyro_probmix.inference.step.objective import Objective
    from pyro_probmix.inference.step.replicas import Replicas
    from pyro_probmix.models import Gaussian
    from pyro_probmix.models.orders import shuffled_rows

    torch.manual_seed(0)
    x, y = torch.randn(replicas, n, 8), torch.randn(replicas, n, 1)
    density = build_density(METHODS[method], num_features=8, likelihood=Gaussian, replicas=replicas)
    model = ProbMix(density, at=METHODS[method].site, alpha=0.1, batch_size=batch_size)
    stack = Replicas(model, replicas)
    stepper = FusedStep(fused_adam(stack.parameters, lr=0.005))
    steps = -(-n // batch_size)

    def shuffle() -> Any:
        return shuffled_rows(n, steps * batch_size, replicas, x.device).split(batch_size, -1)

    with pyro.validation_enabled(False):
        batches = shuffle()
        held_out = torch.randn(replicas, 41, 8), torch.randn(replicas, 41, 1)
        validation = Validation(model, *held_out, (True, True), 8, "y", 0)
        objective = Objective(model, ExpectedLogLikelihood(), stack, n)
        gradient, log_prob = choose(objective, x, y, batches[0], validation, compile, steps)
        assert log_prob is not None
        gradient(batches[0])
        return {
            "shuffle": median_ms(shuffle),
            "gradients": median_ms(lambda: [gradient(rows) for rows in batches]),
            "Adam": median_ms(lambda: [stack.step(stepper, None) for _ in batches]),
            "validation": median_ms(lambda: validation.nll(log_prob)),
            "best weights": median_ms(lambda: stack.keep_best(1, torch.zeros(replicas), None)),
        }


def operations(method: str, n: int = 364, batch_size: int = 32, replicas: int = 20) -> dict[str, int]:
    """How many operations a step's gradient is, views not counted: as it is written, and compiled for this CPU."""
    import pyro
    import torch
    from torch._inductor import metrics
    from torch.utils._python_dispatch import TorchDispatchMode

    from pyro_probmix import METHODS, ExpectedLogLikelihood, ProbMix, build_density
    from pyro_probmix.inference.step.compiled import compiled_gradient
    from pyro_probmix.inference.step.objective import Objective, eager_gradient
    from pyro_probmix.inference.step.replicas import Replicas
    from pyro_probmix.models import Gaussian

    class Seen(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.ops: list[Any] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.ops.append(func)
            return func(*args, **(kwargs or {}))

    x, y = torch.randn(replicas, n, 8), torch.randn(replicas, n, 1)
    density = build_density(METHODS[method], num_features=8, likelihood=Gaussian, replicas=replicas)
    model = ProbMix(density, at=METHODS[method].site, alpha=0.1, batch_size=batch_size)
    rows = torch.rand(replicas, n).argsort(-1)[:, :batch_size].contiguous()
    with pyro.validation_enabled(False):
        objective = Objective(model, ExpectedLogLikelihood(), Replicas(model, replicas), n)
        with Seen() as seen:
            eager_gradient(objective, x, y)(rows)
        metrics.reset()
        compiled_gradient(objective, x, y, rows)
    done = [op for op in seen.ops if op is not torch.ops.aten._unsafe_view.default and not _is_view(op)]
    # Products and draws are called as they are, and all else is fused into kernels.
    called = [op for op in done if any(kind in op.name() for kind in ("mm", "rand", "normal"))]
    return {"eager": len(done), "compiled": len(called) + metrics.generated_kernel_count}


def _is_view(op: Any) -> bool:
    return any(value.alias_info is not None and not value.alias_info.is_write for value in op._schema.returns)


def floor(replicas: int, batch_size: int) -> dict[str, float]:
    """Milliseconds of what a step of M-ProbMix cannot do without: products by torch.bmm, draws, Adam."""
    import torch

    from benchmarks.cases import ALPHA, EMBEDDING, Case
    from pyro_probmix.inference.step.adam import FusedStep, fused_adam

    case = Case("M-ProbMix", replicas, batch_size, batch_size)
    sets = []
    for layer, (fan_in, fan_out) in case.layers.items():
        x, w = torch.randn(replicas, batch_size, fan_in), torch.randn(replicas, fan_in, fan_out)
        sets.append((x, w, torch.randn(replicas, batch_size, fan_out), layer != "encoder"))

    def products() -> None:
        for x, w, out, has_input_gradient in sets:
            torch.bmm(x, w)
            torch.bmm(x.mT, out)
            if has_input_gradient:
                torch.bmm(out, w.mT)

    mixing = torch.distributions.Beta(torch.tensor(ALPHA), torch.tensor(ALPHA), validate_args=False)
    weights = [torch.nn.Parameter(torch.randn(replicas, n, m)) for n, m in case.layers.values()]
    weights += [torch.nn.Parameter(torch.randn(replicas, m)) for _, m in case.layers.values()]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    stepper = FusedStep(fused_adam(weights, lr=0.005))
    return {
        "products": median_ms(products),
        "weights": median_ms(lambda: mixing.sample((replicas, batch_size))),
        "noise": median_ms(lambda: torch.randn(replicas, batch_size, EMBEDDING)),
        "Adam": median_ms(stepper.step),
    }


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sys.path.insert(0, str(ROOT))
    import torch

    from benchmarks.cases import Case, make_problem
    from benchmarks.engines import load
    from benchmarks.report import exponent

    torch.set_num_threads(1)
    print("ms an epoch")
    for method in METHODS:
        for compile in (False, True):
            cells = parts(method, compile)
            print(f"  {method:10} {'compiled' if compile else 'eager':9} {_line(cells)}", flush=True)
    print("ms a step of M-ProbMix: what it cannot do without; the whole of it; the loop over single models")
    for replicas, batch_size in ((20, 32), (20, 222)):
        cells = floor(replicas, batch_size)
        case = Case("M-ProbMix", replicas, batch_size, max(batch_size, 222))
        problem = make_problem(case, minibatches=4)
        whole, loop = (load(name)(case, problem) for name in ("ours-compiled", "torch-loop"))
        ours, plain = (median_ms(lambda e=engine: e.train(4), 7) / 4 for engine in (whole, loop))  # type: ignore[misc]
        least = sum(cells.values())
        print(
            f"  R={replicas} B={batch_size:<4} {_line(cells)}; compiled step {ours:.2f}, loop {plain:.2f}: "
            f"{plain / ours:.1f} times as fast, {plain / least:.1f} if there were nothing else, "
            f"{plain / cells['products']:.1f} with the products alone",
            flush=True,
        )
    sizes, totals = [1_000, 10_000, 100_000], []
    for n in sizes:
        cells = parts("M-ProbMix", True, n, batch_size=200, replicas=1)
        totals.append(sum(cells[name] for name in ("shuffle", "gradients", "Adam")))
    print("ms of an epoch's training, one model of M-ProbMix, B=200, against the number of rows")
    print("  " + ", ".join(f"n={n} {total:.1f}" for n, total in zip(sizes, totals, strict=True)), end="")
    print(f"; exponent {exponent(sizes, totals):.2f}, between the two largest {exponent(sizes[1:], totals[1:]):.2f}")
    print("operations of a step's gradient")
    for method in METHODS:
        cells_of = operations(method)
        print(f"  {method:10} eager {cells_of['eager']}, compiled {cells_of['compiled']}")


def _line(cells: dict[str, float]) -> str:
    return ", ".join(f"{name} {ms:.2f}" for name, ms in cells.items()) + f", together {sum(cells.values()):.2f}"


if __name__ == "__main__":
    main()
