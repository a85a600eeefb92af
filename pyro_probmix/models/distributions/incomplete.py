"""Probabilities of intervals by SciPy's incomplete beta and gamma functions, of which PyTorch has no gradients."""

from __future__ import annotations

__all__ = ["log_mass"]

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import special
from torch import Tensor

Array = npt.NDArray[np.float64]

#: A parameter is moved by this part of itself, and of no less than the second number, for its derivative.
STEP, LEAST = 1e-5, 1e-3
#: The least probability: a smaller one is rounded up to this, so that its logarithm is finite.
TINY = 1e-300


def log_mass(family: str, low: Tensor, high: Tensor, *parameters: Tensor) -> Tensor:
    r"""The logarithm of the probability of [a, b], with gradients by central differences.

    Args:
        family: "student" (df, loc, scale), "gamma" (concentration, rate), "beta" (concentration1, concentration0), "poisson"
            (rate) or "negative-binomial" (total_count, logits).
        low, high: a <= b, which may be infinite.
        parameters: of the family, in that order.

    Example:
        >>> log_mass("gamma", torch.tensor(2.0), torch.tensor(torch.inf), torch.tensor(1.0), torch.tensor(3.0))
        tensor(-6.)
    """
    low, high, *parameters = torch.broadcast_tensors(low, high, *parameters)
    found: Tensor = _LogMass.apply(family, low, high, *parameters)  # type: ignore[no-untyped-call] # torch
    return found


class _LogMass(torch.autograd.Function):
    """See :func:`log_mass`; the ends get no gradient."""

    @staticmethod
    def forward(ctx: Any, family: str, low: Tensor, high: Tensor, *parameters: Tensor) -> Tensor:
        ctx.family = family
        ctx.save_for_backward(low, high, *parameters)
        ends, values = _arrays(low, high), _arrays(*parameters)
        return torch.as_tensor(_of(family, ends, values)).to(parameters[0])

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        low, high, *parameters = ctx.saved_tensors
        ends, values = _arrays(low, high), _arrays(*parameters)
        slopes: list[Tensor | None] = []
        for k, value in enumerate(values):
            if not ctx.needs_input_grad[3 + k]:
                slopes.append(None)
                continue
            step = STEP * np.maximum(np.abs(value), LEAST)
            up, down = (
                _of(ctx.family, ends, [v + sign * step if j == k else v for j, v in enumerate(values)])
                for sign in (1, -1)
            )
            slopes.append(torch.as_tensor((up - down) / (2 * step)).to(gradient[0]) * gradient[0])
        return None, None, None, *slopes


def _arrays(*values: Tensor) -> list[Array]:
    return [value.detach().double().cpu().numpy() for value in values]


def _of(family: str, ends: list[Array], parameters: list[Array]) -> Array:
    with np.errstate(all="ignore"):
        mass = _MASSES[family](*ends, *parameters)
    return np.asarray(np.log(np.maximum(mass, TINY)))


def _student(low: Array, high: Array, df: Array, loc: Array, scale: Array) -> Array:
    a, b = (low - loc) / scale, (high - loc) / scale
    # By the tail on whose side the interval is, so that small numbers are subtracted from each other, not from 1.
    a, b = np.where(a > 0, -b, a), np.where(a > 0, -a, b)
    return np.asarray(special.stdtr(df, b) - special.stdtr(df, a))


def _by_tails(below: Callable[[Array], Any], above: Callable[[Array], Any], a: Array, b: Array) -> Array:
    left = below(a)
    return np.asarray(np.where(left < 0.5, below(b) - left, above(a) - above(b)))


def _gamma(low: Array, high: Array, shape: Array, rate: Array) -> Array:
    a, b = rate * np.maximum(low, 0), rate * np.maximum(high, 0)
    return _by_tails(lambda y: special.gammainc(shape, y), lambda y: special.gammaincc(shape, y), a, b)


def _beta(low: Array, high: Array, one: Array, zero: Array) -> Array:
    a, b = np.clip(low, 0, 1), np.clip(high, 0, 1)
    # The part above y is the part below 1 - y with the shapes exchanged.
    return _by_tails(lambda y: special.betainc(one, zero, y), lambda y: special.betainc(zero, one, 1 - y), a, b)


def _counts(low: Array, high: Array, below: Callable[[Array], Any], above: Callable[[Array], Any]) -> Array:
    """Of counts from a to b, by the probabilities of at most k and of more than k."""
    a, b = np.ceil(np.maximum(low, 0)) - 1, np.floor(high)

    def at_most(k: Array) -> Array:
        return np.select([k < 0, k == np.inf], [0.0, 1.0], below(np.where(np.isfinite(k), np.maximum(k, 0), 0.0)))

    def more(k: Array) -> Array:
        return np.select([k < 0, k == np.inf], [1.0, 0.0], above(np.where(np.isfinite(k), np.maximum(k, 0), 0.0)))

    return _by_tails(at_most, more, a, b)


def _poisson(low: Array, high: Array, rate: Array) -> Array:
    return _counts(low, high, lambda k: special.pdtr(k, rate), lambda k: special.pdtrc(k, rate))


def _negative_binomial(low: Array, high: Array, count: Array, logits: Array) -> Array:
    failure, success = special.expit(-logits), special.expit(logits)
    return _counts(
        low, high, lambda k: special.betainc(count, k + 1, failure), lambda k: special.betainc(k + 1, count, success)
    )


_MASSES: dict[str, Callable[..., Array]] = {
    "student": _student,
    "gamma": _gamma,
    "beta": _beta,
    "poisson": _poisson,
    "negative-binomial": _negative_binomial,
}
