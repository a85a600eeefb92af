"""The posterior predictive as a distribution: a mixture over draws of the embedding and over the members of an ensemble."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor
from torch.distributions import constraints

from pyro_probmix.inference.data.arrays import TensorLike, as_tensor
from pyro_probmix.inference.predictive.families import family_of, marginals_of
from pyro_probmix.pooling.rows.tensors import floating_tensor

__all__ = ["PredictiveMixture", "check_responses", "fits"]


class PredictiveMixture(TorchDistribution):
    r"""The equally weighted mixture over the leading batch dims of a density, in the units of the response.

    .. math::
        p(y \mid x) = \frac1M \sum_{m=1}^M \frac1c\, p_m\!\left(\frac{y - a}{c} \,\Big|\, x\right)

    Args:
        components: a distribution with batch shape [*mixed, *batch].
        num_mixed: number of leading batch dims that are mixed over.
        loc, scale: a and c > 0, of the standardised response; they broadcast with [*batch, *event].

    Raises:
        ValueError: for a loc or scale that does not broadcast, a scale that is not positive, or, when used, values that
            do not broadcast with [*batch, *event], end in another event shape, or are a column [N, 1] of scalars.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = False

    def __init__(
        self, components: TorchDistribution, num_mixed: int, loc: Tensor | float = 0.0, scale: Tensor | float = 1.0
    ) -> None:
        if not isinstance(components, torch.distributions.Distribution):
            raise ValueError(
                f"PredictiveMixture got components of type {type(components).__name__}, expected a distribution. "
                "Try predict(density, x)."
            )
        if not isinstance(num_mixed, int) or not 0 <= num_mixed <= len(components.batch_shape):
            raise ValueError(
                f"PredictiveMixture got num_mixed={num_mixed!r}, expected a number of the components' leading batch dims, of "
                f"which there are {len(components.batch_shape)}. Try num_mixed=1."
            )
        self.components, self.num_mixed = components, num_mixed
        self.rescaled = not (isinstance(loc, float) and isinstance(scale, float) and (loc, scale) == (0.0, 1.0))
        self.loc: Tensor | float = _unit("loc", loc, components)
        self.scale: Tensor | float = _unit("scale", scale, components)
        super().__init__(components.batch_shape[num_mixed:], components.event_shape, validate_args=False)
        if self.rescaled:
            self._check_units(loc=self.loc, scale=self.scale)

    def _check_units(self, **units: Tensor | float) -> None:
        shape = self.batch_shape + self.event_shape
        for name, value in units.items():
            if not isinstance(value, Tensor | float | int) or not fits(np.shape(value), shape):
                given = f"{name} of shape {tuple(np.shape(value))}" if hasattr(value, "shape") else f"{name}={value!r}"
                raise ValueError(
                    f"PredictiveMixture got {given}, expected a number or a tensor that broadcasts with the rows' responses, "
                    f"{tuple(shape)}. Try a number, or {name}[:, None]."
                )
        scale = units["scale"]
        # Looking at values waits for the device, so it is done where Pyro validates arguments.
        looked_at = not isinstance(scale, Tensor) or dist.is_validation_enabled()
        if looked_at and not bool(torch.as_tensor(scale > 0).all()):
            raise ValueError(f"PredictiveMixture got scale={scale}, expected values above 0. Try scale=y.std().")

    @property
    def support(self) -> Any:
        """The real line after rescaling, else the support of the components."""
        return (
            constraints.independent(constraints.real, len(self.event_shape))
            if self.rescaled
            else self.components.support
        )

    @property
    def num_components(self) -> int:
        """M, the number of densities that are mixed."""
        return math.prod(self.components.batch_shape[: self.num_mixed])

    def log_prob(self, value: TensorLike) -> Tensor:
        """The logarithm of the mean density, never the mean of logarithms; shape [..., *batch]."""
        value = self._checked_value("log_prob", value)
        try:
            log_prob = self.components.log_prob(self._beside_components(value))
        except ValueError as error:  # in torch's words, over many lines
            raise ValueError(
                f"log_prob got y outside of the support of the predictive, {self.support}, expected responses of that kind. "
                "Try another likelihood, or the units of the fit."
            ) from error
        dims = tuple(range(-len(self.batch_shape) - self.num_mixed, -len(self.batch_shape)))
        mixed: Tensor = log_prob.logsumexp(dims) - math.log(self.num_components)
        if self.rescaled:
            log_scale = torch.as_tensor(self.scale, dtype=mixed.dtype, device=mixed.device).log()
            shape = (*self.batch_shape, *self.event_shape)
            log_scale = log_scale.expand(shape)
            for point in getattr(marginals_of(self.components).support, "points", ()):
                # A probability has no unit, as a density has.
                log_scale = torch.where(value == self.loc + self.scale * point, torch.zeros_like(log_scale), log_scale)
            mixed = mixed - (log_scale.sum(tuple(range(-len(self.event_shape), 0))) if self.event_shape else log_scale)
        return mixed

    def _beside_components(self, value: Tensor) -> Tensor:
        """A value in the components' units, whose leading sample dims are to the left of the mixed ones."""
        if self.rescaled:
            value = (value - self.loc) / self.scale
        lead = value.dim() - len(self.batch_shape) - len(self.event_shape)
        return value[(slice(None),) * lead + (None,) * self.num_mixed] if lead > 0 else value

    def _checked_value(self, asked: str, given: Any) -> Tensor:
        """The value as a tensor; raises ValueError unless it broadcasts with the responses as it was meant to."""
        shape, events = self.batch_shape + self.event_shape, len(self.event_shape)
        value = as_tensor(asked, "y", given)
        if value is not given:
            value = value.to(floating_tensor(self.components).device)
        # Looking at values waits for the device, so it is done where Pyro validates arguments.
        if dist.is_validation_enabled() and value.is_floating_point() and bool(value.isnan().any()):
            raise ValueError(f"{asked} got y with NaN, expected numbers. Try leaving out the rows without a response.")
        ends = not events or value.shape[-events:] == self.event_shape
        # A column of scalar responses would be taken for a grid, on which each row is evaluated.
        rows = self.batch_shape[-1] if self.batch_shape else 1
        column = not events and rows > 1 and value.shape[-2:] == (rows, 1)
        try:
            broadcast_shape(value.shape, shape)
        except ValueError:
            ends = False
        if column or not ends:
            check_responses(asked, value, (*self.batch_shape[-1:], *self.event_shape))
        return value

    def _moment(self, per_component: Tensor) -> Tensor:
        return per_component.mean(tuple(range(self.num_mixed)))

    @property
    def mean(self) -> Tensor:
        """Shape [*batch, *event]."""
        return self.loc + self.scale * self._moment(self.components.mean)

    @property
    def variance(self) -> Tensor:
        """Within plus between the components; shape [*batch, *event]."""
        mean, axes = self.components.mean, tuple(range(self.num_mixed))
        between = mean.var(axes, correction=0)
        return torch.as_tensor(self.scale) ** 2 * (self._moment(self.components.variance) + between)

    def cdf(self, value: TensorLike) -> Tensor:
        """The distribution function of each one of the responses; shape [..., *batch, *event].

        By torch where it has the function, and otherwise by SciPy, without a gradient.

        Raises:
            ValueError: for components of a family that neither has it for.
        """
        moved = self._beside_components(self._checked_value("cdf", value))
        try:
            cdf: Tensor = marginals_of(self.components).cdf(moved)
            if bool(cdf.isnan().any()):  # outside of the support of a family that does not check it
                cdf = self._cdf_by_scipy(moved)
        except (NotImplementedError, ValueError):  # torch has none, or none outside of the support, where it is 0 or 1
            cdf = self._cdf_by_scipy(moved)
        right = len(self.batch_shape) + len(self.event_shape)
        # The weights of a mixture's components add up to 1 but for rounding.
        return cdf.mean(tuple(range(-right - self.num_mixed, -right))).clamp(max=1.0)

    def _cdf_by_scipy(self, moved: Tensor) -> Tensor:
        marginals = marginals_of(self.components)
        try:
            family = family_of(marginals)
        except TypeError:
            name = type(marginals).__name__
            raise ValueError(
                f"the cdf of a {name} is not known, expected a univariate family that has one. "
                "Try pyro_probmix.inference.predictive.families.family_of.register, or the share of draws below y."
            ) from None
        full = (*self.components.batch_shape, *self.event_shape)
        parameters = [t.detach().expand(full).double().cpu().numpy() for t in family.parameters]
        with np.errstate(all="ignore"):  # at the ends of the support
            found = np.asarray(family.cdf(moved.detach().double().cpu().numpy(), *parameters))
        like = floating_tensor(marginals)
        return torch.as_tensor(found, dtype=like.dtype, device=like.device)

    @property
    def probs(self) -> Tensor:
        """Class probabilities [*batch, classes], where the components have them."""
        return self._moment(marginals_of(self.components).probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape [*sample_shape, *batch, *event].

        Each follows the mixture; M draws of one call come from the M components in a random order, one from each, as
        posterior predictive draws do, so that they spread more evenly than independent ones.
        """
        sample_shape = _sizes(sample_shape)
        count = math.prod(sample_shape)
        draws = self.components.sample(torch.Size((-(-count // self.num_components),)))
        draws = draws.flatten(1, self.num_mixed)  # [sets, M, *batch, *event]
        keys = torch.rand(draws.shape[: 2 + len(self.batch_shape)], device=draws.device)
        order = keys.argsort(1).reshape(*keys.shape, *(1,) * len(self.event_shape))
        draws = draws.gather(1, order.expand_as(draws)).flatten(0, 1)[:count]
        draws = draws.reshape(*sample_shape, *draws.shape[1:])
        return self.loc + self.scale * draws if self.rescaled else draws


def check_responses(asked: str, y: Any, shape: Sequence[int], *, exactly: bool = False) -> None:
    """Raises ValueError for responses that would broadcast with a density, or not even that.

    Args:
        asked: the name of what got them.
        y: the responses.
        shape: in which their shape has to end, [N, *event], or ``exactly`` their shape.
    """
    y = as_tensor(asked, "y", y)
    given, shape = tuple(y.shape), tuple(shape)
    if given == shape if exactly else given[-len(shape) :] == shape or not shape:
        return
    if (*given, 1)[-len(shape) :] == shape:
        advice = "y[..., None]"
    else:
        advice = (
            "y[..., 0]"
            if given[-1:] == (1,) and given[-len(shape) - 1 : -1] == shape
            else "the responses of these rows"
        )
    expected = f"{shape}" if exactly else f"a shape that ends in {shape}"
    raise ValueError(f"{asked} got y of shape {given}, expected {expected}. Try {advice}.")


def _sizes(sample_shape: Any) -> tuple[int, ...]:
    """A sample shape; an integer n stands for (n,)."""
    given = (sample_shape,) if isinstance(sample_shape, int | np.integer) else sample_shape
    if not isinstance(given, tuple | list) or not all(
        isinstance(n, int | np.integer) and not isinstance(n, bool) and 0 <= n < 2**31 for n in given
    ):
        raise ValueError(
            f"sample got a sample_shape of type {type(sample_shape).__name__}, expected sizes of at least 0. Try sample((3,))."
        )
    return tuple(int(n) for n in given)


def _unit(name: str, value: Any, components: Any) -> Any:
    """A mean or standard deviation of a kind that NumPy has, in the dtype and on the device of the components."""
    if isinstance(value, Tensor | float | int):
        return value
    like = floating_tensor(components)
    found = as_tensor("PredictiveMixture", name, value)
    return found.to(like.device, like.dtype)


def fits(given: Sequence[int], shape: torch.Size) -> bool:
    """Whether values of a given shape broadcast to another."""
    try:
        return bool(broadcast_shape(given, shape) == shape)
    except ValueError:
        return False
