"""What a trained density scores on the test rows, in the target's own units."""

from __future__ import annotations

from typing import Any

import pyro
import torch

from pyro_probmix.experiments.problem import Problem
from pyro_probmix.inference import predict
from pyro_probmix.models import ConditionalDensity, GaussianEmbedding

__all__ = ["measure"]

#: Rows are predicted in blocks with at most so many draws x replicas x rows, about 1 GiB at a width of 128.
LARGEST_BLOCK = 2_000_000


@torch.no_grad()
def measure(density: ConditionalDensity, problem: Problem, num_samples: int, seed: int) -> dict[str, list[float]]:
    """NLL (nats) and RMSE (the target's units), or NLL and accuracy for classes, a list over the replicas for each.

    For a drawn embedding the predictive is the mixture over ``num_samples`` draws; what passing on the embedding's mean
    scores stands beside it, as "nll (plug-in)" and so on.
    """
    device = problem.loc.device
    # A replica without a finite weight scores NaN, and does not keep the others from being scored.
    no_validation = pyro.validation_enabled(False)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), no_validation:
        torch.manual_seed(seed)
        values = _scores(density, problem, num_samples)
        if isinstance(density.embedding, GaussianEmbedding):
            plug_in = _scores(density, problem, None)
            values |= {f"{metric} (plug-in)": numbers for metric, numbers in plug_in.items()}
    return values


def _scores(density: ConditionalDensity, problem: Problem, num_samples: int | None) -> dict[str, list[float]]:
    """The scores of the mixture over draws of the embedding, or of its mean if None."""
    x, count = problem.test.x, problem.test.x.shape[1]
    block = max(1, LARGEST_BLOCK // ((num_samples or 1) * x.shape[0]))
    nll, error = torch.zeros(x.shape[0], device=x.device), torch.zeros(x.shape[0], device=x.device)
    for rows in torch.arange(count, device=x.device).split(block):
        drawn: dict[str, Any] = {"embedding": "mean"} if num_samples is None else {"num_samples": num_samples}
        y = problem.test.y[:, rows]
        predictive = predict(density, x[:, rows], **drawn)
        if problem.classes:
            error += (predictive.probs.argmax(-1) != y).sum(-1)
        else:  # in standard units, where digits are not lost, then to the target's own
            error += ((predictive.mean - y) * problem.scale).square().mean(-1).sum(-1)
        nll -= predictive.log_prob(y).sum(-1)
    nll = nll / count + problem.scale.log().sum((-1, -2))
    if problem.classes:
        return {"nll": nll.tolist(), "accuracy": (1 - error / count).tolist()}
    return {"nll": nll.tolist(), "rmse": (error / count).sqrt().tolist()}
