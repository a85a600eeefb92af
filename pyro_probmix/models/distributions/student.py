"""Student's t distribution with a cumulative distribution function."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from scipy.special import stdtr
from torch import Tensor

__all__ = ["StudentT"]


class StudentT(dist.StudentT):  # type: ignore[misc] # Pyro is annotated in part
    """Student's t with a cumulative distribution function, which torch's lacks (without gradient), and more than 2 degrees of
    freedom.

    torch's mean and variance pick rows by their degrees of freedom, which a compiled step cannot. Its chi-squared
    distribution takes a rate from the host, which waits for the device and cannot be captured.
    """

    def __init__(self, df: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.df, self.loc, self.scale = torch.broadcast_tensors(df, loc, scale)
        torch.distributions.Distribution.__init__(self, self.df.shape, validate_args=validate_args)

    @property
    def _chi2(self) -> Any:
        # Draws alone need it, and to make it takes as long as a log density.
        return dist.Gamma(0.5 * self.df, torch.full_like(self.df, 0.5), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self.__new__(type(self)) if _instance is None else _instance
        shape = torch.Size(batch_shape)
        new.df, new.loc, new.scale = (value.expand(shape) for value in (self.df, self.loc, self.scale))
        torch.distributions.Distribution.__init__(new, shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

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
