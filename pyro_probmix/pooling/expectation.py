"""Expected log densities over random labels, in closed form."""

from __future__ import annotations

__all__ = ["ExpectedLikelihood", "expected_log_prob", "register_expected_log_prob"]

from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution, TorchDistribution
from pyro.distributions.util import broadcast_shape, scale_and_mask, sum_rightmost
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)

from pyro_probmix.pooling.linear import LinearPool
from pyro_probmix.pooling.rows.batches import expand_batch

Rule = Callable[[Any, Any], Tensor]

# The rules in order of registration; the last one that fits counts.
_RULES: list[tuple[type[Distribution], type[Distribution], Rule]] = []


def register_expected_log_prob(p: type[Distribution], labels: type[Distribution]) -> Callable[[Rule], Rule]:
    """Registers a rule of :func:`expected_log_prob` for two classes of distributions and their subclasses.

    A later rule counts before an earlier one. A subclass of ``p`` with a ``log_prob`` of its own has another density, which
    the rule does not fit.

    Args:
        p: class of the density.
        labels: class of the labels' distribution.
    """

    def register(rule: Rule) -> Rule:
        _RULES.append((p, labels, rule))
        return rule

    return register


def expected_log_prob(p: Distribution, labels: Distribution) -> Tensor:
    r"""The expectation :math:`\mathbb{E}_{\tilde y \sim \text{labels}}[\log p(\tilde y)]` in closed form.

    For points it is the log density there, for a linear pool the weighted mean over its members, for classes the
    cross-entropy :math:`\sum_k \pi_k \log p_k`, and for Gaussian labels of variance :math:`\beta` under a Gaussian

    .. math:: \log \mathcal{N}(m \mid \mu, \sigma^2) - \sum_d \frac{\beta_d}{2 \sigma_d^2}.

    Args:
        p: the density.
        labels: the distribution of the labels, with the event shape of ``p``.

    Returns:
        a tensor of the batch shape of ``p``.

    Raises:
        TypeError: if there is no closed form for the two.

    References:
        El-Laham et al., 2025, Assumption 4.2.

    Example:
        >>> import pyro.distributions as dist
        >>> p = dist.Categorical(probs=torch.tensor([[0.5, 0.25, 0.25]]))
        >>> soft = dist.Categorical(probs=torch.tensor([[0.5, 0.5, 0.0]]))
        >>> (expected_log_prob(p, soft) / torch.tensor(2.0).log()).tolist()
        [-1.5]
    """
    for p_class, labels_class, rule in reversed(_RULES):
        if isinstance(p, p_class) and isinstance(labels, labels_class) and _has_density_of(p, p_class):
            return rule(p, labels)
    raise _no_closed_form(p, labels)


class ExpectedLikelihood(TorchDistribution):
    r"""A density whose score is its expected log density over random labels, whatever value is observed.

    It stands for ``p`` at an observed site: ``log_prob(value)`` is :func:`expected_log_prob`; samples, shapes and
    support are those of ``p``.

    Args:
        p: the density.
        labels: the distribution of the labels; its batch shape broadcasts to that of ``p``.

    Raises:
        ValueError: if the shapes of the two do not fit.

    References:
        El-Laham et al., 2025, Assumption 4.2.

    Example:
        >>> import pyro.distributions as dist
        >>> p = dist.Bernoulli(probs=torch.tensor([0.5, 0.5]))
        >>> expected = ExpectedLikelihood(p, dist.Bernoulli(probs=torch.tensor([0.3, 1.0])))
        >>> expected.log_prob(torch.zeros(2)).exp().tolist()
        [0.5, 0.5]
    """

    has_enumerate_support = False
    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (an attribute of torch's base class)

    def __init__(self, p: Distribution, labels: Distribution, validate_args: bool | None = None) -> None:
        try:
            fits = broadcast_shape(p.batch_shape, labels.batch_shape) == tuple(p.batch_shape)
        except ValueError:
            fits = False
        if not fits or p.event_shape != labels.event_shape:
            raise ValueError(
                f"Labels with batch shape {list(labels.batch_shape)} and event shape {list(labels.event_shape)} "
                f"do not fit a density with {list(p.batch_shape)} and {list(p.event_shape)}. Try labels of its shape."
            )
        self.p = p
        self.labels = labels
        self.has_rsample = bool(p.has_rsample)
        super().__init__(torch.Size(p.batch_shape), p.event_shape, validate_args=validate_args)

    @constraints.dependent_property
    def support(self) -> Any:
        return self.p.support

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> ExpectedLikelihood:
        return ExpectedLikelihood(expand_batch(self.p, batch_shape), self.labels, self._validate_args)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.p.sample(torch.Size(sample_shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.p.rsample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        return expected_log_prob(self.p, self.labels).expand(self.batch_shape)


@register_expected_log_prob(Distribution, Categorical)
@register_expected_log_prob(Distribution, OneHotCategorical)
def _any_under_classes(p: Distribution, labels: Any) -> Tensor:
    labels = labels.expand(broadcast_shape(p.batch_shape, labels.batch_shape))
    values = labels.enumerate_support(expand=False)  # [K, 1, ..., 1]
    return _weighted(labels.probs.movedim(-1, 0), p.log_prob(values)).sum(0)


@register_expected_log_prob(Distribution, Bernoulli)
def _any_under_binary(p: Distribution, labels: Bernoulli) -> Tensor:
    one, zero = p.log_prob(torch.ones_like(labels.probs)), p.log_prob(torch.zeros_like(labels.probs))
    return _weighted(labels.probs, one) + _weighted(1 - labels.probs, zero)


@register_expected_log_prob(Categorical, Categorical)
def _cross_entropy(p: Categorical, labels: Categorical) -> Tensor:
    return _weighted(labels.probs, p.logits).sum(-1)


@register_expected_log_prob(OneHotCategorical, OneHotCategorical)
def _one_hot_cross_entropy(p: OneHotCategorical, labels: OneHotCategorical) -> Tensor:
    return _weighted(labels.probs, p.logits).sum(-1)


@register_expected_log_prob(Normal, Normal)
def _gaussian(p: Normal, labels: Normal) -> Tensor:
    at_mean: Tensor = p.log_prob(labels.mean)
    return at_mean - labels.variance / (2 * p.variance)


@register_expected_log_prob(Independent, Independent)
def _independent(p: Independent[Any], labels: Independent[Any]) -> Tensor:
    if p.reinterpreted_batch_ndims != labels.reinterpreted_batch_ndims:
        raise _no_closed_form(p, labels)
    expected: Tensor = sum_rightmost(expected_log_prob(p.base_dist, labels.base_dist), p.reinterpreted_batch_ndims)
    return expected


@register_expected_log_prob(MultivariateNormal, Independent)
def _multivariate_gaussian(p: MultivariateNormal, labels: Independent[Any]) -> Tensor:
    if not isinstance(labels.base_dist, Normal):
        raise _no_closed_form(p, labels)
    # E[(y - mu)' P (y - mu)] is the form at the mean plus tr(P V), with V diagonal.
    trace = (p.precision_matrix.diagonal(dim1=-2, dim2=-1) * labels.variance).sum(-1)
    at_mean: Tensor = p.log_prob(labels.mean)
    return at_mean - trace / 2


@register_expected_log_prob(Distribution, dist.Delta)
def _at_a_point(p: Distribution, labels: dist.Delta) -> Tensor:
    return p.log_prob(labels.v)


@register_expected_log_prob(Distribution, LinearPool)
def _over_members(p: Distribution, labels: LinearPool) -> Tensor:
    expected = [expected_log_prob(p, member) for member in labels.members]
    return _weighted(labels.weights, torch.stack(expected, dim=-1)).sum(-1)


@register_expected_log_prob(MaskedDistribution, Distribution)
def _masked(p: MaskedDistribution, labels: Distribution) -> Tensor:
    expected: Tensor = scale_and_mask(expected_log_prob(p.base_dist, labels), mask=p._mask)
    return expected


@register_expected_log_prob(ExpandedDistribution, Distribution)
def _expanded(p: ExpandedDistribution, labels: Distribution) -> Tensor:
    expected = expected_log_prob(p.base_dist, labels)
    return expected.expand(broadcast_shape(expected.shape, p.batch_shape))


@register_expected_log_prob(dist.NanMaskedNormal, Normal)
def _gaussian_with_gaps(p: Any, labels: Normal) -> Tensor:
    at_mean: Tensor = p.log_prob(labels.mean)  # 0 where a label is missing
    return at_mean - torch.where(labels.mean.isnan(), 0.0, labels.variance / (2 * p.variance))


def _has_density_of(p: Distribution, p_class: type[Distribution]) -> bool:
    """Whether a distribution of a class, or of a subclass, is scored as that class is, in torch or in Pyro."""
    known = p_class, getattr(dist, p_class.__name__, p_class)
    return p_class is Distribution or any(type(p).log_prob is one.log_prob for one in known)


def _weighted(weight: Tensor, log_prob: Tensor) -> Tensor:
    # What has no weight does not count, even at log 0.
    return weight * torch.where(weight > 0, log_prob, 0.0)


def _no_closed_form(p: Distribution, labels: Distribution) -> TypeError:
    return TypeError(
        f"E[log p] has no closed form for p of type {type(p).__name__} and labels of type {type(labels).__name__}. "
        "Try labels='sample', or register_expected_log_prob."
    )
