"""Label kernels: the distribution of a perturbed label around the labels of the fused rows."""

from __future__ import annotations

__all__ = [
    "BiasedBernoulliKernel",
    "BiasedCategoricalKernel",
    "BiasedOneHotKernel",
    "DiracKernel",
    "ExpectedLikelihood",
    "GaussianKernel",
    "Kernel",
    "Partners",
    "all_labels",
    "expected_log_prob",
    "mixed_labels",
    "register_expected_log_prob",
]

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.distributions import Distribution

from pyro_probmix.fusing.kernels.points import OneOfTwo
from pyro_probmix.fusing.kernels.spread import by_beta, check_spread, checked_beta, trailing
from pyro_probmix.pooling.expectation import ExpectedLikelihood, expected_log_prob, register_expected_log_prob
from pyro_probmix.pooling.linear import LinearPool, simplex_weights
from pyro_probmix.pooling.rows.convex import combined

#: The label of the partner, or those of several.
Partners = Tensor | Sequence[Tensor]


class Kernel(ABC):
    r"""A density :math:`s_\beta(\tilde y \mid y)` around a label, pooled for the labels of the fused rows.

    References:
        El-Laham et al., 2025, eq. (14) and section 5.
    """

    @abstractmethod
    def pooled(self, y: Tensor, partner: Partners, weight: Tensor, event_dim: int) -> Distribution:
        r"""The perturbed label's distribution, :math:`g^y_\lambda(s_\beta(\cdot \mid y_i), s_\beta(\cdot \mid y_j))`.

        Args:
            y: own labels :math:`y_i`, ``[..., B, *event]``.
            partner: the partners' labels :math:`y_j`, of the same shape; where more than two rows are fused, a sequence
                of them.
            weight: weight of the own label, ``[..., B]``, in [0, 1]; of more than two, the weights ``[..., B, k]`` on the
                simplex, that of the own label first.
            event_dim: number of event dimensions of a label, 0 for classes.
        """


class GaussianKernel(Kernel):
    r"""The isotropic Gaussian :math:`\mathcal{N}(\tilde y \mid y, \beta I)` of a real label, pooled log-linearly.

    .. math:: g^y_\lambda = \mathcal{N}(\lambda y_i + (1 - \lambda) y_j,\; \beta I)

    Where :math:`\beta = 0` it is the point :math:`\lambda y_i + (1 - \lambda) y_j`.

    Args:
        beta: the variance, at least 0, in squared units of the label; a tensor broadcasts over the batch (``[R, 1]``:
            one value a replica), belongs on the labels' device and may hold zeros.

    Raises:
        TypeError: if beta is no number or tensor.
        ValueError: if beta is negative or not finite, or does not broadcast with the batch.

    References:
        El-Laham et al., 2025, section 5; eq. (54) with equal variances.

    Example:
        >>> kernel = GaussianKernel(0.01)
        >>> kernel.pooled(torch.tensor([1.0]), torch.tensor([3.0]), torch.tensor([0.75]), event_dim=0).mean.tolist()
        [1.5]
    """

    def __init__(self, beta: float | Tensor) -> None:
        self.beta = checked_beta(beta)

    def pooled(self, y: Tensor, partner: Partners, weight: Tensor, event_dim: int) -> Distribution:
        mean = mixed_labels(all_labels(y, partner), weight, event_dim)
        check_spread(self.beta, mean.shape[: mean.dim() - event_dim])
        if isinstance(self.beta, Tensor):
            scale = trailing(self.beta, event_dim).to(mean).sqrt()
            return _events(_NormalOrPoint(mean, scale, validate_args=False), event_dim)  # missing labels stay missing
        if self.beta == 0:
            return dist.Delta(mean, event_dim=event_dim)
        scale = torch.full_like(mean, math.sqrt(self.beta))
        return _events(dist.Normal(mean, scale, validate_args=False), event_dim)


class BiasedCategoricalKernel(Kernel):
    r"""The biased distribution :math:`P(\tilde y = k) \propto 1[y = k] + \beta` of a class, pooled log-linearly.

    .. math::
        P(\tilde y = k \mid y_i, y_j, \lambda) \propto (1 + 1 / \beta)^{m_k}, \qquad
        m_k = \lambda\, 1[y_i = k] + (1 - \lambda)\, 1[y_j = k]

    Where :math:`\beta = 0`, log-linear pooling of two different labels has no normaliser, and the linear
    pool :math:`\lambda \delta_{y_i} + (1 - \lambda) \delta_{y_j}` of Assumption 4.2 stands in. It is not the limit of small
    beta, in which the label with the larger weight takes all.

    Args:
        beta: the bias, at least 0; a tensor broadcasts over the batch (``[R, 1]``: one value a replica), belongs on the
            labels' device and may hold zeros.
        num_classes: the number of classes.

    Raises:
        TypeError: if beta is no number or tensor.
        ValueError: if beta is negative or not finite, or does not broadcast with the batch, or if a label is no class.

    References:
        El-Laham et al., 2025, section 5, eq. (60) and Assumption 4.2.

    Example:
        >>> kernel = BiasedCategoricalKernel(0.0, num_classes=3)
        >>> kernel.pooled(torch.tensor([2]), torch.tensor([0]), torch.tensor([0.75]), event_dim=0).probs
        tensor([[0.2500, 0.0000, 0.7500]])
    """

    def __init__(self, beta: float | Tensor, num_classes: int) -> None:
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes!r}. Try the largest class plus one.")
        self.beta = checked_beta(beta)
        self.num_classes = num_classes

    def pooled(self, y: Tensor, partner: Partners, weight: Tensor, event_dim: int) -> Distribution:
        _check_labels(
            y, self.num_classes, "Try as many classes, in the density or num_classes, as the largest plus one."
        )
        # Mixed one-hot labels, [..., B, *event, K].
        classes = torch.arange(self.num_classes, device=y.device)
        one_hot = [label.unsqueeze(-1) == classes for label in all_labels(y, partner)]
        logits = _class_logits(mixed_labels(one_hot, weight, event_dim + 1), self.beta, event_dim + 1)
        return _events(dist.Categorical(logits=logits), event_dim)


class BiasedOneHotKernel(Kernel):
    r"""The biased distribution of a one-hot label: :class:`BiasedCategoricalKernel` for labels of shape ``[..., K]``.

    Args:
        beta: the bias, at least 0; a tensor broadcasts over the batch (``[R, 1]``: one value a replica), belongs on the
            labels' device and may hold zeros.

    Raises:
        TypeError: if beta is no number or tensor.
        ValueError: if beta is negative or not finite, or does not broadcast with the batch, or if a label is not one-hot.

    References:
        El-Laham et al., 2025, section 5, eq. (60) and Assumption 4.2.

    Example:
        >>> y, partner = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> BiasedOneHotKernel(0.0).pooled(y, partner, torch.tensor([0.75]), event_dim=1).probs
        tensor([[0.2500, 0.0000, 0.7500]])
    """

    def __init__(self, beta: float | Tensor) -> None:
        self.beta = checked_beta(beta)

    def pooled(self, y: Tensor, partner: Partners, weight: Tensor, event_dim: int) -> Distribution:
        if dist.is_validation_enabled() and not bool(constraints.one_hot.check(y).all()):
            raise ValueError("Labels must be one-hot, a single 1 among zeros, got others. Try one_hot(y, num_classes).")
        logits = _class_logits(mixed_labels(all_labels(y, partner), weight, event_dim), self.beta, event_dim)
        return _events(dist.OneHotCategorical(logits=logits), event_dim - 1)


class BiasedBernoulliKernel(Kernel):
    r"""The biased distribution :math:`P(1) \propto y + \beta`, :math:`P(0) \propto 1 - y + \beta` of a binary label.

    It is :class:`BiasedCategoricalKernel` with two classes, for labels in {0., 1.}: pooled log-linearly where
    :math:`\beta > 0`, and the linear pool of Assumption 4.2 where :math:`\beta = 0`.

    Args:
        beta: the bias, at least 0; a tensor broadcasts over the batch (``[R, 1]``: one value a replica), belongs on the
            labels' device and may hold zeros.

    Raises:
        TypeError: if beta is no number or tensor.
        ValueError: if beta is negative or not finite, or does not broadcast with the batch, or if a label is neither 0 nor 1.

    References:
        El-Laham et al., 2025, section 5 and Assumption 4.2.

    Example:
        >>> kernel = BiasedBernoulliKernel(0.0)
        >>> kernel.pooled(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([0.75]), event_dim=0).probs.tolist()
        [0.75]
    """

    def __init__(self, beta: float | Tensor) -> None:
        self.beta = checked_beta(beta)

    def pooled(self, y: Tensor, partner: Partners, weight: Tensor, event_dim: int) -> Distribution:
        _check_labels(y, 2, "Try labels 0. and 1.")
        mixed = mixed_labels(all_labels(y, partner), weight, event_dim).clamp(
            0, 1
        )  # rounding may carry weights past one
        check_spread(self.beta, mixed.shape[: mixed.dim() - event_dim])

        def biased(beta: float | Tensor) -> Tensor:
            return torch.sigmoid((2 * mixed - 1) * _log_odds(beta))

        return _events(dist.Bernoulli(probs=by_beta(self.beta, event_dim, biased, lambda: mixed)), event_dim)


class DiracKernel(Kernel):
    r"""The point mass at the label, pooled linearly: :math:`\lambda \delta_{y_i} + (1 - \lambda) \delta_{y_j}`.

    For labels of any support, such as counts, positive or bounded ones, where a convex combination of two labels may be
    no label.

    References:
        El-Laham et al., 2025, Assumption 4.2.

    Example:
        >>> labels = DiracKernel().pooled(torch.tensor([3.0]), torch.tensor([8.0]), torch.tensor([1.0]), event_dim=0)
        >>> labels.sample().tolist()
        [3.0]
    """

    def pooled(self, y: Tensor, partner: Partners, weight: Tensor, event_dim: int) -> Distribution:
        if isinstance(partner, Tensor):
            return OneOfTwo(y, partner, weight, event_dim)
        labels = [dist.Delta(label, event_dim=event_dim, validate_args=False) for label in all_labels(y, partner)]
        return LinearPool(labels, simplex_weights(labels, weight.unbind(-1)))


class _NormalOrPoint(dist.Normal):
    """A normal distribution whose scale may be zero in places: there it is a point, with the log density 0 of a Delta."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.nonnegative}  # noqa: RUF012 (torch's attribute)

    def log_prob(self, value: Tensor) -> Tensor:
        is_point = self.scale == 0
        spread = torch.where(is_point, 1.0, self.scale)
        log_density: Tensor = dist.Normal(self.loc, spread, validate_args=False).log_prob(value)
        return torch.where(is_point, torch.where(value == self.loc, 0.0, -math.inf), log_density)


def _check_labels(y: Tensor, num_classes: int, advice: str) -> None:
    if dist.is_validation_enabled():
        outside = y[~((y >= 0) & (y < num_classes) & (y == y.long()))]
        if len(outside):
            raise ValueError(f"Labels must be 0, ..., {num_classes - 1}, got {outside[0].item():g}. {advice}")


def all_labels(y: Tensor, partner: Partners) -> list[Tensor]:
    """A row's own label and those of its partners."""
    return [y, partner] if isinstance(partner, Tensor) else [y, *partner]


def mixed_labels(labels: Sequence[Tensor], weight: Tensor, dims: int) -> Tensor:
    """The convex combination of labels with ``dims`` dimensions to the right of the batch; exact at the corners.

    A label without weight has no part in it, even if it is NaN or infinite.
    """
    dtype = torch.result_type(labels[0], weight)
    shares = (weight,) if len(labels) == 2 else weight.unbind(-1)
    return combined([label.to(dtype) for label in labels], [trailing(share.to(dtype), dims) for share in shares])


def _class_logits(mixed: Tensor, beta: float | Tensor, dims: int) -> Tensor:
    """The logits of the pooled biased kernels, from mixed one-hot labels with ``dims`` dimensions right of the batch."""
    check_spread(beta, mixed.shape[: mixed.dim() - dims])

    def biased(beta: float | Tensor) -> Tensor:
        return mixed * _log_odds(beta)

    def unbiased() -> Tensor:
        # Without an infinite slope where a class has no probability.
        return torch.where(mixed > 0, torch.where(mixed > 0, mixed, 1.0).log(), -math.inf)

    return by_beta(beta, dims, biased, unbiased)


def _log_odds(beta: float | Tensor) -> float | Tensor:
    """The log of (1 + beta) / beta, of a label's own class to another."""
    if isinstance(beta, Tensor):
        return beta.log1p() - beta.log()
    return math.log1p(beta) - math.log(beta)


def _events(p: Any, event_dim: int) -> Distribution:
    labels: Distribution = p.to_event(event_dim)
    return labels
