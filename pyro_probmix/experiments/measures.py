"""What a trained density scores on the test rows, in the target's own units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_probmix.experiments.problem import Problem
from pyro_probmix.inference import predict
from pyro_probmix.models import ConditionalDensity, GaussianEmbedding

__all__ = ["BINS", "Calibration", "measure"]

#: Of the histograms of PIT values, or of the confidence in the most probable class, equal ones on [0, 1].
BINS = 100

#: Rows are predicted in blocks with at most so many draws x replicas x rows, about 1 GiB at a width of 128.
LARGEST_BLOCK = 2_000_000


@dataclass(frozen=True)
class Calibration:
    """Histograms of one split's test rows.

    Attributes:
        count: rows in each of the ``BINS`` bins: of the probability integral transform, all targets together; for classes of
            the probability of the most probable class.
        correct: for classes, how many of them were right; else none.
        confidence: for classes, the mean probability in the bin (0 where it is empty); else none.
    """

    count: tuple[int, ...]
    correct: tuple[int, ...] = ()
    confidence: tuple[float, ...] = ()


@torch.no_grad()
def measure(
    density: ConditionalDensity, problem: Problem, num_samples: int, seed: int
) -> tuple[dict[str, list[float]], list[Calibration]]:
    """NLL (nats) and RMSE (the target's units), or NLL and accuracy for classes, a list over the replicas for each.

    Beside them, how well calibrated the predictive of each replica is.

    For a drawn embedding the predictive is the mixture over ``num_samples`` draws; what passing on the embedding's mean
    scores stands beside it, as "nll (plug-in)" and so on.
    """
    device = problem.loc.device
    # A replica without a finite weight scores NaN, and does not keep the others from being scored.
    no_validation = pyro.validation_enabled(False)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), no_validation:
        torch.manual_seed(seed)
        values, calibration = _scores(density, problem, num_samples)
        if isinstance(density.embedding, GaussianEmbedding):
            plug_in, _ = _scores(density, problem, None)
            values |= {f"{metric} (plug-in)": numbers for metric, numbers in plug_in.items()}
    return values, calibration


def _scores(
    density: ConditionalDensity, problem: Problem, num_samples: int | None
) -> tuple[dict[str, list[float]], list[Calibration]]:
    """The scores of the mixture over draws of the embedding, or of its mean if None."""
    x, count = problem.test.x, problem.test.x.shape[1]
    block = max(1, LARGEST_BLOCK // ((num_samples or 1) * x.shape[0]))
    counts, correct, confidence = (
        torch.zeros(x.shape[0], BINS, dtype=torch.float64, device=x.device) for _ in range(3)
    )
    nll, error = torch.zeros(x.shape[0], device=x.device), torch.zeros(x.shape[0], device=x.device)
    for rows in torch.arange(count, device=x.device).split(block):
        drawn: dict[str, Any] = {"embedding": "mean"} if num_samples is None else {"num_samples": num_samples}
        y = problem.test.y[:, rows]
        predictive = predict(density, x[:, rows], **drawn)
        if problem.classes:
            largest, chosen = predictive.probs.max(-1)
            right = chosen == y
            error += (~right).sum(-1)
            _count(counts, largest)
            _count(correct, largest, right)
            _count(confidence, largest, largest)
        else:  # in standard units, where digits are not lost, then to the target's own
            error += ((predictive.mean - y) * problem.scale).square().mean(-1).sum(-1)
            _count(counts, predictive.cdf(y).flatten(1))
        nll -= predictive.log_prob(y).sum(-1)
    standardised = nll / count
    nll = standardised + problem.scale.log().sum((-1, -2))
    if problem.classes:
        means = (confidence / counts.clamp(min=1)).tolist()
        histograms = zip(counts.long().tolist(), correct.long().tolist(), means, strict=True)
        calibration = [Calibration(tuple(all_), tuple(right), tuple(mean)) for all_, right, mean in histograms]
        return {"nll": nll.tolist(), "accuracy": (1 - error / count).tolist()}, calibration
    calibration = [Calibration(tuple(own)) for own in counts.long().tolist()]
    values = {"nll": nll.tolist(), "rmse": (error / count).sqrt().tolist()}
    if x.dim() == 4:  # of a series, the paper's numbers are in no unit that it names
        values["nll (standardised)"] = standardised.tolist()
    return values, calibration


def _count(histogram: Tensor, values: Tensor, weights: Tensor | None = None) -> None:
    """Adds values [R, N] in [0, 1] to histograms [R, BINS]; what is not finite is in none."""
    bins = (values.nan_to_num(nan=-1.0) * BINS).floor().clamp(-1, BINS - 1).long()
    own = torch.ones_like(values) if weights is None else weights
    histogram.scatter_add_(1, bins.clamp(min=0), torch.where(bins >= 0, own, 0).to(histogram.dtype))
