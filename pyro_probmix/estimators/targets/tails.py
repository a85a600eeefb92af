"""Densities with heavier or lighter tails, for the families that have degrees of freedom."""

from __future__ import annotations

__all__ = ["HEAVIEST", "LIGHTEST", "with_tails"]

from functools import singledispatch
from typing import Any

import pyro.distributions as dist
from torch import Tensor

from pyro_probmix.models.distributions.censored import Known
from pyro_probmix.models.distributions.mixtures import StudentTMixture
from pyro_probmix.models.distributions.student import StudentT

#: Factors of the degrees of freedom beyond 2 among which the best is searched.
HEAVIEST, LIGHTEST = 1 / 16, 64.0


@singledispatch
def with_tails(p: Any, factor: float) -> Any:
    """The density with its degrees of freedom beyond 2 times a factor: heavier tails below 1, those of a Gaussian far above.

    Another family joins by ``@with_tails.register``; one without degrees of freedom is left as it is.

    Example:
        >>> import torch
        >>> with_tails(StudentT(torch.tensor(10.0), torch.tensor(0.0), torch.tensor(1.0)), 0.25).df
        tensor(4.)
    """
    return p


@with_tails.register
def _independent(p: dist.Independent, factor: float) -> Any:
    base = with_tails(p.base_dist, factor)
    return p if base is p.base_dist else base.to_event(p.reinterpreted_batch_ndims)


@with_tails.register
def _known(p: Known, factor: float) -> Any:
    inner = with_tails(p.base_dist, factor)
    return p if inner is p.base_dist else Known(inner)


@with_tails.register
def _student(p: StudentT, factor: float) -> Any:
    return StudentT(_beyond_two(p.df, factor), p.loc, p.scale, validate_args=False)


@with_tails.register
def _student_mixture(p: StudentTMixture, factor: float) -> Any:
    return StudentTMixture(p.logits, _beyond_two(p.df, factor), p.loc, p.scale, validate_args=False)


def _beyond_two(df: Tensor, factor: float) -> Tensor:
    return 2 + (df - 2) * factor
