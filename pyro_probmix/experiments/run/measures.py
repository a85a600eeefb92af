"""The scores of a trained density on the test rows, in the target's units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_probmix.experiments.data.problem import Part, Problem
from pyro_probmix.inference import predict
from pyro_probmix.inference.predictive.crps import crps_of_columns
from pyro_probmix.inference.predictive.families import columns_of, family_of, marginals_of
from pyro_probmix.models import ConditionalDensity, GaussianEmbedding
from pyro_probmix.random_state import own_random_state

__all__ = ["BINS", "Calibration", "measure", "validation_nll"]

#: Equal bins on [0, 1] of the histograms of PIT values, or of the confidence in the most probable class.
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
    density: ConditionalDensity, problem: Problem, num_samples: int, seed: int, members: int = 1
) -> tuple[dict[str, list[float]], list[Calibration]]:
    r"""NLL (nats), RMSE, sharpness and CRPS (the target's units), or NLL and accuracy for classes, lists over the splits.

    Sharpness is the root of the predictive variance's mean over the rows, see :func:`~pyro_probmix.calibration.sharpness`.

    The second value is the calibration of the predictive of each split.

    For a drawn embedding the predictive is the mixture over ``num_samples`` draws; the scores with the embedding's
    mean in the place of draws are "nll (plug-in)" and so on.

    With M members to a split their mixture is scored, a deep ensemble,

    .. math:: p(y \mid x) = \frac1M \sum_{m=1}^M p_m(y \mid x),

    for a drawn embedding over the draws of each member.

    Args:
        density: of S * M replicas, the M members of a split in a row.
        problem: of S splits.
        num_samples: draws of an embedding.
        seed: of these draws.
        members: M.

    References:
        Lakshminarayanan et al. (2017), Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles.
    """
    device = problem.loc.device
    # A replica without a finite weight scores NaN, and does not keep the others from being scored.
    no_validation = pyro.validation_enabled(False)
    with own_random_state(device, seed), no_validation:
        values, calibration = _scores(density, problem, num_samples, members)
        if isinstance(density.embedding, GaussianEmbedding):
            plug_in, _ = _scores(density, problem, None, members)
            values |= {f"{metric} (plug-in)": numbers for metric, numbers in plug_in.items()}
    return values, calibration


@torch.no_grad()
def validation_nll(
    density: ConditionalDensity, problem: Problem, num_samples: int, seed: int, members: int = 1
) -> Tensor:
    """NLL of the validation rows in nats on the standardised target, [S], of each split's mixture; see :func:`measure`."""
    device = problem.loc.device
    with own_random_state(device, seed), pyro.validation_enabled(False):
        own = _Members(density, problem.validation, num_samples, members)
        total = sum(own.log_prob(rows).sum(-1) for rows in own.blocks())
    return -torch.as_tensor(total) / problem.validation.x.shape[1]


class _Members:
    """The predictive of a part's rows in all replicas, mixed over the members of each split."""

    def __init__(self, density: ConditionalDensity, part: Part, num_samples: int | None, members: int) -> None:
        self.density, self.members = density, members
        self.x, self.y = (values.repeat_interleave(members, 0) for values in (part.x, part.y))
        self.block = max(1, LARGEST_BLOCK // ((num_samples or 1) * self.x.shape[0]))
        self.drawn: dict[str, Any] = {"embedding": "mean"} if num_samples is None else {"num_samples": num_samples}

    def blocks(self) -> tuple[Tensor, ...]:
        """Indices of rows that are predicted together."""
        rows = torch.arange(self.x.shape[1], device=self.x.device)
        return torch.split(rows, self.block)

    def predict(self, rows: Tensor) -> Any:
        """The predictive of every replica, [S * M, B]."""
        return predict(self.density, self.x[:, rows], **self.drawn)

    def log_prob(self, rows: Tensor, predictive: Any = None) -> Tensor:
        """The logarithm of the members' mean density at the rows' responses, [S, B]."""
        each = (self.predict(rows) if predictive is None else predictive).log_prob(self.y[:, rows])
        mixed: Tensor = each.unflatten(0, (-1, self.members)).logsumexp(1) - math.log(self.members)
        return mixed

    def mean(self, values: Tensor) -> Tensor:
        """Over the members: of means, probabilities or distribution functions, what belongs to their mixture."""
        mixed: Tensor = values.unflatten(0, (-1, self.members)).mean(1)
        return mixed

    def crps(self, rows: Tensor, predictive: Any) -> Tensor:
        """The continuous ranked probability scores of the members' mixture at the rows' responses, [S, B, d_y]."""
        y = self.y[:: self.members, rows]
        marginals = marginals_of(predictive.components)
        columns = [
            v.reshape(len(v), len(y), self.members, -1).swapaxes(1, 2).reshape(len(v) * self.members, -1)
            for v in columns_of(family_of(marginals), predictive.components, predictive.num_mixed)
        ]
        found = crps_of_columns(marginals, columns, y.double().cpu().numpy().ravel()).reshape(y.shape)
        return torch.as_tensor(found, dtype=y.dtype, device=y.device)


def _scores(
    density: ConditionalDensity, problem: Problem, num_samples: int | None, members: int
) -> tuple[dict[str, list[float]], list[Calibration]]:
    """The scores of the mixture over draws of the embedding, or of its mean if None, and over the members."""
    splits, count = problem.test.x.shape[:2]
    device = problem.test.x.device
    counts, correct, confidence = (torch.zeros(splits, BINS, dtype=torch.float64, device=device) for _ in range(3))
    nll, error, variance, crps = (torch.zeros(splits, device=device) for _ in range(4))
    own = _Members(density, problem.test, num_samples, members)
    for rows in own.blocks():
        y, scale = problem.test.y[:, rows], problem.scale if problem.scale.shape[1] == 1 else problem.scale[:, rows]
        predictive = own.predict(rows)
        if problem.classes:
            largest, chosen = own.mean(predictive.probs).max(-1)
            right = chosen == y
            error += (~right).sum(-1)
            _count(counts, largest)
            _count(correct, largest, right)
            _count(confidence, largest, largest)
        else:  # in standard units, where no digits are lost, then in the target's units
            mean = own.mean(predictive.mean)
            among_members = own.mean(predictive.mean.square()) - mean.square()
            error += ((mean - y) * scale).square().mean(-1).sum(-1)
            variance += ((own.mean(predictive.variance) + among_members) * scale.square()).mean(-1).sum(-1)
            crps += (own.crps(rows, predictive) * scale).mean(-1).sum(-1)
            _count(counts, own.mean(predictive.cdf(own.y[:, rows])).flatten(1))
        nll -= own.log_prob(rows, predictive).sum(-1)
    standardised = nll / count
    nll = standardised + problem.scale.log().sum(-1).mean(-1)
    if problem.classes:
        means = (confidence / counts.clamp(min=1)).tolist()
        histograms = zip(counts.long().tolist(), correct.long().tolist(), means, strict=True)
        calibration = [Calibration(tuple(all_), tuple(right), tuple(mean)) for all_, right, mean in histograms]
        return {"nll": nll.tolist(), "accuracy": (1 - error / count).tolist()}, calibration
    calibration = [Calibration(tuple(row)) for row in counts.long().tolist()]
    root_means = {"rmse": (error / count).sqrt().tolist(), "sharpness": (variance / count).sqrt().tolist()}
    values = {"nll": nll.tolist(), **root_means, "crps": (crps / count).tolist()}
    if own.x.dim() == 4:  # of a series, the paper's numbers are in no unit that it names
        values["nll (standardised)"] = standardised.tolist()
    return values, calibration


def _count(histogram: Tensor, values: Tensor, weights: Tensor | None = None) -> None:
    """Adds values [S, N] in [0, 1] to histograms [S, BINS]; what is not finite is in none."""
    bins = (values.nan_to_num(nan=-1.0) * BINS).floor().clamp(-1, BINS - 1).long()
    own = torch.ones_like(values) if weights is None else weights
    histogram.scatter_add_(1, bins.clamp(min=0), torch.where(bins >= 0, own, 0).to(histogram.dtype))
