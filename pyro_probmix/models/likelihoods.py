"""Density heads: from features to the density of the response, p(y|x)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import pyro.distributions as dist
import torch
from scipy.special import stdtr
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_probmix.arguments import checked
from pyro_probmix.models.networks import Linear

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "Gamma",
    "Gaussian",
    "HomoscedasticGaussian",
    "Likelihood",
    "Poisson",
    "StudentT",
]

#: Floor of scales, rates and concentrations, in units of the (standardised) response.
FLOOR = 1e-3


class Likelihood(nn.Module):
    """Base of the density heads: an affine map of the features, then the map from its output to a density.

    Args:
        in_features: width of the features.
        num_outputs: number d_y of responses, or of classes for :class:`Categorical`.
        replicas: number of independent copies, see :class:`Linear`.

    Shape:
        features [..., B, in_features] to a density with batch shape [..., B] and event shape [d_y], or [] for classes.
    """

    #: Parameters of the density for each output.
    parameters_per_output = 1

    @checked(least={"in_features": 1, "num_outputs": 1, "replicas": 1})
    def __init__(self, in_features: int, num_outputs: int = 1, replicas: int | None = None) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        self.linear = Linear(in_features, num_outputs * self.parameters_per_output, replicas)

    @abstractmethod
    def density(self, raw: Tensor) -> Any:  # a Pyro distribution; Pyro annotates `to_event` and similar as Any
        """The density whose unconstrained parameters are ``raw``, [..., B, d_y * parameters_per_output]."""
        raise NotImplementedError(
            f"{type(self).__name__} has no density, expected a method density(raw) that returns a Pyro distribution. "
            "Try dist.Normal(raw, 1.0).to_event(1)."
        )

    def forward(self, features: Tensor) -> Any:
        return self.density(self.linear(features))


class Gaussian(Likelihood):
    r"""Head of a heteroscedastic Gaussian likelihood, :math:`\mathcal{N}(\mu(x), \sigma^2(x))`.

    The scale is a softplus with a floor.
    """

    parameters_per_output = 2

    def density(self, raw: Tensor) -> Any:
        loc, scale = raw.chunk(2, -1)
        return dist.Normal(loc, softplus(scale) + FLOOR).to_event(1)


class HomoscedasticGaussian(Likelihood):
    r"""Head of a Gaussian likelihood with one learnt scale for each output, :math:`\mathcal{N}(\mu(x), \sigma^2)`."""

    def __init__(self, in_features: int, num_outputs: int = 1, replicas: int | None = None) -> None:
        super().__init__(in_features, num_outputs, replicas)
        self.raw_scale = nn.Parameter(torch.zeros(*(() if replicas is None else (replicas, 1)), num_outputs))

    def density(self, raw: Tensor) -> Any:
        return dist.Normal(raw, softplus(self.raw_scale) + FLOOR).to_event(1)


class StudentT(Likelihood):
    r"""Head of a Student's t likelihood: location, scale, degrees of freedom above 2, at first near 5."""

    parameters_per_output = 3

    def density(self, raw: Tensor) -> Any:
        loc, scale, df = raw.chunk(3, -1)
        return _StudentT(2 + FLOOR + softplus(df + 3.0), loc, softplus(scale) + FLOOR).to_event(1)


class _StudentT(dist.StudentT):  # type: ignore[misc] # Pyro is annotated in part
    """Student's t with a cumulative distribution function, which torch's lacks (without gradient), and more than 2 degrees of
    freedom.

    torch's mean and variance pick rows by their degrees of freedom, which a compiled step cannot. Its chi-squared
    distribution takes a rate from the host, which waits for the device and cannot be captured.
    """

    def __init__(self, df: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.df, self.loc, self.scale = torch.broadcast_tensors(df, loc, scale)
        self._chi2 = dist.Gamma(0.5 * self.df, torch.full_like(self.df, 0.5), validate_args=False)
        torch.distributions.Distribution.__init__(self, self.df.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return super().expand(batch_shape, self.__new__(type(self)) if _instance is None else _instance)

    @property
    def mean(self) -> Tensor:
        loc: Tensor = self.loc
        return loc

    @property
    def variance(self) -> Tensor:
        variance: Tensor = self.scale.square() * self.df / (self.df - 2)
        return variance

    def cdf(self, value: Tensor) -> Tensor:
        z = (value - self.loc) / self.scale
        df = self.df.expand(z.shape).detach().cpu().numpy()
        level: Tensor = torch.as_tensor(stdtr(df, z.detach().cpu().numpy())).to(z)
        return level


class Categorical(Likelihood):
    r"""Head of a categorical likelihood: classes 0 to ``num_outputs`` - 1, with logits from the features."""

    def density(self, raw: Tensor) -> Any:
        return dist.Categorical(logits=raw)


class Bernoulli(Likelihood):
    """Head of a Bernoulli likelihood: binary responses in {0., 1.}, with logits from the features."""

    def density(self, raw: Tensor) -> Any:
        return dist.Bernoulli(logits=raw).to_event(1)


class Poisson(Likelihood):
    """Head of a Poisson likelihood: counts, with rates from a softplus of the features.

    The rates are in multiples of ``unit``, [d_y]; 1 unless set.
    """

    unit: Tensor

    def __init__(self, in_features: int, num_outputs: int = 1, replicas: int | None = None) -> None:
        super().__init__(in_features, num_outputs, replicas)
        self.register_buffer("unit", torch.ones(num_outputs))

    def density(self, raw: Tensor) -> Any:
        return dist.Poisson(self.unit * (softplus(raw) + FLOOR)).to_event(1)


class Gamma(Likelihood):
    """Head of a gamma likelihood: positive responses, with concentration and rate from a softplus of the features."""

    parameters_per_output = 2

    def density(self, raw: Tensor) -> Any:
        concentration, rate = (softplus(raw) + FLOOR).chunk(2, -1)
        return dist.Gamma(concentration, rate).to_event(1)


#: Name -> the head. A line here is all that a new one needs.
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "homoscedastic": HomoscedasticGaussian,
    "student-t": StudentT,
    "poisson": Poisson,
    "gamma": Gamma,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
}
