"""Distributions of a continuous number that takes a few values with a probability of their own, such as zero."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to

from pyro_probmix.pooling.families import register_family

__all__ = ["PointsOr", "WithPoints", "ZeroOneBeta", "ZeroOrLogNormal"]


class PointsOr(constraints.Constraint):
    """The support of a continuous distribution and some points.

    Args:
        points: the values of a probability of their own, at ends of the other support.
        base: the support of the density.
    """

    is_discrete = False
    event_dim = 0

    def __init__(self, points: Sequence[float], base: Any) -> None:
        self.points, self.base = tuple(points), base
        for name in ("lower_bound", "upper_bound"):
            if hasattr(base, name):
                setattr(self, name, getattr(base, name))
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Where a value is one of the points, or in the support of the density."""
        inside: Tensor = self.base.check(value)
        for point in self.points:
            inside = inside | (value == point)
        return inside

    def __repr__(self) -> str:
        return f"PointsOr({self.points}, {self.base!r})"


def _onto_density(support: PointsOr) -> Any:
    """The map from the line onto the support of the density: no value of the line is a point."""
    return biject_to(support.base)


for _registry in (biject_to, transform_to):
    _registry.register(PointsOr, _onto_density)


class WithPoints(TorchDistribution):
    r"""Base of the distributions with K points: a density f, and the probabilities of the points.

    .. math:: p(y) = \pi_k \text{ at the point } a_k, \qquad \pi_0\, f(y) \text{ elsewhere}

    It is a density with respect to Lebesgue's measure and the counting measure of the points.

    Args:
        logits: of the points, and at last of the density, [..., K + 1].
        base_dist: of the density, with batch shape [...].
    """

    points: ClassVar[tuple[float, ...]]
    #: A value inside of the support of the density.
    inside: ClassVar[float]
    has_rsample = False

    def __init__(self, logits: Tensor, base_dist: Any, validate_args: bool | None = None) -> None:
        batch_shape = torch.Size(broadcast_shape(logits.shape[:-1], base_dist.batch_shape))
        self.logits = logits.expand(*batch_shape, logits.shape[-1])
        self.base_dist = base_dist.expand(batch_shape)
        super().__init__(batch_shape, torch.Size(), validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The points, and the support of the density."""
        return PointsOr(self.points, type(self.base_dist).support)

    @property
    def probs(self) -> Tensor:
        """Probabilities of the points, and at last of the density, [..., K + 1]."""
        return self.logits.softmax(-1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self.__new__(type(self)) if _instance is None else _instance
        WithPoints.__init__(
            new, self.logits.expand(*batch_shape, -1), self.base_dist.expand(batch_shape), validate_args=False
        )
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        weights = self.logits.log_softmax(-1)
        at = [value == point for point in self.points]
        elsewhere = ~torch.stack(at).any(0)
        # A value inside takes the place of a point, where the density or its gradient may be infinite.
        found: Tensor = self.base_dist.log_prob(torch.where(elsewhere, value, self.inside)) + weights[..., -1]
        for k, here in enumerate(at):
            found = torch.where(here, weights[..., k], found)
        return found

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            drawn: Tensor = self.base_dist.sample(sample_shape)
            which = dist.Categorical(logits=self.logits, validate_args=False).sample(sample_shape)
            for k, point in enumerate(self.points):
                drawn = torch.where(which == k, torch.full_like(drawn, point), drawn)
            return drawn

    @property
    def mean(self) -> Tensor:
        probs = self.probs
        total: Tensor = probs[..., -1] * self.base_dist.mean
        for k, point in enumerate(self.points):
            total = total + probs[..., k] * point
        return total

    @property
    def variance(self) -> Tensor:
        probs, mean = self.probs, self.mean
        total: Tensor = probs[..., -1] * (self.base_dist.variance + (self.base_dist.mean - mean).square())
        for k, point in enumerate(self.points):
            total = total + probs[..., k] * (point - mean).square()
        return total

    @abstractmethod
    def log_normalizer(self) -> Tensor:
        r"""The log normalizer A of the density as a member of its exponential family, :math:`h \exp(\phi^\top T - A)`."""


class ZeroOneBeta(WithPoints):
    """A share: exactly 0, exactly 1, or from a beta distribution between them.

    Args:
        logits: of 0, of 1 and of what lies between, [..., 3].
        concentration1, concentration0: of the beta distribution.

    References:
        Ospina and Ferrari, 2010, "Inflated beta distributions".

    Example:
        >>> import torch
        >>> from pyro_probmix.models.distributions.points import ZeroOneBeta
        >>> p = ZeroOneBeta(torch.tensor([0.25, 0.25, 0.5]).log(), torch.tensor(2.0), torch.tensor(2.0))
        >>> p.log_prob(torch.tensor([0.0, 0.5, 1.0])).exp()
        tensor([0.2500, 0.7500, 0.2500])
    """

    points = (0.0, 1.0)
    inside = 0.5
    arg_constraints: ClassVar[dict[str, Any]] = {
        "logits": constraints.real_vector,
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }

    def __init__(
        self, logits: Tensor, concentration1: Tensor, concentration0: Tensor, validate_args: bool | None = None
    ) -> None:
        super().__init__(logits, dist.Beta(concentration1, concentration0, validate_args=False), validate_args)

    @property
    def concentration1(self) -> Tensor:
        one: Tensor = self.base_dist.concentration1
        return one

    @property
    def concentration0(self) -> Tensor:
        zero: Tensor = self.base_dist.concentration0
        return zero

    def log_normalizer(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return a.lgamma() + b.lgamma() - (a + b).lgamma()


class ZeroOrLogNormal(WithPoints):
    """A hurdle: exactly 0, or a positive number from a log-normal distribution, such as rain or a claim.

    Args:
        logits: of 0, and of a positive number, [..., 2].
        loc, scale: mean and standard deviation of the logarithm of a positive number.
    """

    points = (0.0,)
    inside = 1.0
    arg_constraints: ClassVar[dict[str, Any]] = {
        "logits": constraints.real_vector,
        "loc": constraints.real,
        "scale": constraints.positive,
    }

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(logits, dist.LogNormal(loc, scale, validate_args=False), validate_args)

    @property
    def loc(self) -> Tensor:
        loc: Tensor = self.base_dist.loc
        return loc

    @property
    def scale(self) -> Tensor:
        scale: Tensor = self.base_dist.scale
        return scale

    def log_normalizer(self) -> Tensor:
        return (self.loc / self.scale).square() / 2 + self.scale.log()


def _to_natural(p: Any) -> tuple[Tensor, ...]:
    """The density's natural parameters, and the logits of the points against it without its normalizer: eq. (38) of both."""
    relative = p.logits[..., :-1] - (p.logits[..., -1] - p.log_normalizer()).unsqueeze(-1)
    if isinstance(p, ZeroOneBeta):
        return relative, p.concentration1, p.concentration0
    precision = p.scale.square().reciprocal()
    return relative, p.loc * precision, precision


def _from_natural(p: Any, naturals: tuple[Tensor, ...]) -> Any:
    relative, first, second = naturals
    if isinstance(p, ZeroOneBeta):
        parameters = {"concentration1": first, "concentration0": second}
    else:
        parameters = {"loc": first / second, "scale": second.rsqrt()}
    unweighted = type(p)(
        torch.cat([relative, torch.zeros_like(relative[..., :1])], -1), **parameters, validate_args=False
    )
    of_density = -unweighted.log_normalizer().unsqueeze(-1)
    # The points' logits are those against the density without its normalizer.
    logits = torch.cat([relative + of_density, torch.zeros_like(of_density)], -1)
    return type(p)(logits, **parameters, validate_args=p.__dict__.get("_validate_args"))


for _cls in (ZeroOneBeta, ZeroOrLogNormal):
    register_family(_cls, _to_natural, _from_natural)
