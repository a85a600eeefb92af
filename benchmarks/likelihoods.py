"""What fusing costs with other likelihoods: a training step of ProbMix over the same step that is not fused.

By Pyro's handlers, by tensors alone (as ``fit`` and the estimators train by default), compiled, and by Pyro's ``SVI``.

python benchmarks/likelihoods.py [--replicas 20] [--rows 32] [--repeats 200]
"""

from __future__ import annotations

import argparse
import random
import time
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_probmix import METHODS, ExpectedLogLikelihood, ProbMix, build_density
from pyro_probmix.inference.step.adam import fused_adam
from pyro_probmix.inference.step.compiled import compiled_gradient
from pyro_probmix.inference.step.eager import Step
from pyro_probmix.inference.step.objective import Gradient, Objective, eager_gradient
from pyro_probmix.inference.step.plain import tensor_gradient
from pyro_probmix.inference.step.replicas import Replicas
from pyro_probmix.models import Gaussian, Likelihood, NegativeBinomial, StudentT
from pyro_probmix.pooling.weights import Beta

ALL_ROWS = 400


class OneTotal(Likelihood):
    """Negative binomial counts whose total is one number."""

    def density(self, raw: Tensor) -> Any:
        return dist.NegativeBinomial(5.0, logits=raw).to_event(1)


class ByHand(OneTotal):
    """The same with the operations of fusing written out, without sites, plates or distributions: what no handler can save."""

    def density(self, raw: Tensor) -> Any:
        alpha, half = torch.tensor(0.1), raw.shape[1] // 2
        drawn = Beta(alpha, alpha).expand(raw.shape[:2]).sample()
        own = torch.cat([drawn[:, :half], 1 - drawn[:, half:]], 1).unsqueeze(-1)
        eta = logsigmoid(raw)
        eta = torch.lerp(eta.roll(half, 1), eta, own)
        return Chosen(5.0, eta - torch.log(-torch.expm1(eta)), own).to_event(1)


class Chosen(dist.NegativeBinomial):  # type: ignore[misc] # Pyro is annotated in part
    """Scores each row's own count, or its partner's, by its weight."""

    def __init__(self, total: float, logits: Tensor, own: Tensor) -> None:
        super().__init__(total, logits=logits)
        self.own = own

    def expand(self, batch_shape: Any, _instance: Any = None) -> Chosen:
        return self

    def log_prob(self, value: Tensor) -> Tensor:
        chosen = torch.where(torch.rand_like(self.own) < self.own, value, value.roll(value.shape[1] // 2, 1))
        log_prob: Tensor = super().log_prob(chosen)
        return log_prob


HEADS: dict[str, type[Likelihood]] = {
    "Gaussian": Gaussian,
    "NegativeBinomial, one total": OneTotal,
    "NegativeBinomial, a total of each row": NegativeBinomial,
    "StudentT": StudentT,
}


#: How a step is run.
WAYS: dict[str, Callable[[Objective, Tensor, Tensor, Tensor], Gradient]] = {
    "handlers": lambda objective, x, y, rows: eager_gradient(objective, x, y),
    "tensors": lambda objective, x, y, rows: tensor_gradient(objective, x, y),
    "compiled": compiled_gradient,
}


def process(head: type[Likelihood], at: str | None, replicas: int, size: int) -> tuple[ProbMix, Tensor, Tensor]:
    """The regression network (128, 32) on 8 features, and rows."""
    torch.manual_seed(0)
    density = build_density(METHODS["ProbMix"], num_features=8, likelihood=head, widths=(128, 32), replicas=replicas)
    n = max(ALL_ROWS, size)
    x = torch.randn(n, 8)
    y = x[:, :1].clone() if head in (Gaussian, StudentT) else torch.poisson(torch.full((n, 1), 3.0))
    return ProbMix(density, at=at, batch_size=size), x, y


def step(head: type[Likelihood], at: str | None, replicas: int, size: int, way: str) -> Callable[[], Any]:
    """A step of ``fit`` with its default optimizer; or of Pyro's ``SVI``, which draws the rows and the edges too."""
    model, x, y = process(head, at, replicas, size)
    if way == "SVI":
        svi = SVI(model, model.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
        return lambda: svi.step(x, y)
    n = len(x)
    rows = torch.stack([torch.randperm(n)[:size] for _ in range(replicas)])
    stack = Replicas(model, replicas)
    objective = Objective(model, ExpectedLogLikelihood(), stack, n)
    made = Step(WAYS[way](objective, x, y, rows), stack, fused_adam(stack.parameters, lr=1e-3), fused=True)
    return lambda: made(rows)


def timed(steps: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """The lower quartile of the processor's milliseconds of each, all in turn in random order."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for k in range(repeats + 5):
        random.shuffle(names)
        for name in names:
            steps[name]()
            start = time.process_time_ns()
            steps[name]()
            if k >= 5:
                times[name].append((time.process_time_ns() - start) / 1e6)
    return {name: sorted(found)[len(found) // 4] for name, found in times.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=20)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=200)
    arguments = parser.parse_args()
    sizes = arguments.replicas, arguments.rows
    torch.set_num_threads(1)
    random.seed(0)
    print(f"R={sizes[0]}, B={sizes[1]}: ms a step, not fused and fused, and their ratio")
    with warnings.catch_warnings(), pyro.validation_enabled(False):
        warnings.simplefilter("ignore")
        for name, head in HEADS.items():
            cells = []
            for way in (*WAYS, "SVI"):
                steps = {str(at): step(head, at, *sizes, way) for at in (None, "y")}
                if head is OneTotal and way == "handlers":
                    steps["hand"] = step(ByHand, None, *sizes, way)
                found = timed(steps, arguments.repeats)
                cells.append(f"{way} {found['None']:6.2f} {found['y']:6.2f} {found['y'] / found['None']:5.2f}")
                if "hand" in found:
                    by_hand = found["hand"] / found["None"]
            print(f"  {name:38s} {'   '.join(cells)}", flush=True)
            if head is OneTotal:
                print(f"  {'':38s} by hand {by_hand:20.2f}", flush=True)


if __name__ == "__main__":
    main()
