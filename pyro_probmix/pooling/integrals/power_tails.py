"""The mass of a product of two densities with power tails, by one trapezoidal sum."""

from __future__ import annotations

__all__ = ["PowerTail", "PowerTails"]

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_COARSE, _FINE = 112, 256  # nodes in single and in double precision
_ROUNDS = 3  # of the search for where a product is largest


class PowerTail(NamedTuple):
    r"""A Student's t or Cauchy density, :math:`p(x) \propto (1 + (x - c)^2 / (\nu s^2))^{-(\nu + 1) / 2}`.

    Attributes:
        loc, scale, df: c, s and :math:`\nu`, tensors that broadcast with the batch.
    """

    loc: Tensor
    scale: Tensor
    df: Tensor


class PowerTails:
    r"""The product :math:`\prod_k p_k(x)^{w_k}` of two densities with power tails, up to a factor, and its mass.

    The mass is a sum over equal steps of :math:`v = \operatorname{asinh} \frac{x - c_1}{\omega_1} + \operatorname{asinh}
    \frac{x - c_2}{\omega_2}`, whose inverse is

    .. math::
        x = c_1 + \frac{\omega_1 / \omega_2 + \cosh v}{T} d + \sinh v \sqrt{\frac{\omega_1 \omega_2}{T}
            \Bigl(1 + \frac{d^2}{\omega_1 \omega_2 T}\Bigr)}, \quad
        T = \frac{\omega_1}{\omega_2} + \frac{\omega_2}{\omega_1} + 2 \cosh v, \quad d = c_2 - c_1.

    The integrand is analytic in a strip around the line of v that is a few units wide, so that the error falls exponentially
    with the number of steps; it ends exponentially, too, and what lies beyond the last node is a geometric series. In double
    precision the logarithm is within 1e-8 where the scales are in a ratio of up to ten, within 1e-6 up to a thousand.

    Args:
        pair: the two densities.
        shares: their weights w, tensors of the shape of the batch, which sum to one. One of weight zero is not read.

    References:
        Trefethen and Weideman, 2014, The exponentially convergent trapezoidal rule.
    """

    def __init__(self, pair: Sequence[PowerTail], shares: Sequence[Tensor]) -> None:
        self._shares = shares
        self._absent = [share == 0 for share in shares]
        # Ones in the place of what is not read, which may be NaN.
        self._loc, self._scale, self._df = (
            [torch.where(none, 1.0, x) for x, none in zip(values, self._absent, strict=True)]
            for values in zip(*((p.loc, p.scale, p.df) for p in pair), strict=True)
        )
        self._powers = [share * (0.5 * df + 0.5) for share, df in zip(shares, self._df, strict=True)]
        self._rates = [(scale * df.sqrt()).reciprocal() for scale, df in zip(self._scale, self._df, strict=True)]

    def score(self, x: Tensor) -> Tensor:
        """The logarithm of the product at points ``[*sample_shape, *batch_shape]``, without constants."""
        first, second = (
            power * torch.log1p(((x - loc) * rate).square())
            for power, loc, rate in zip(self._powers, self._loc, self._rates, strict=True)
        )
        return -first - second

    def log_mass(self) -> Tensor:
        """The logarithm of the integral of the exponential of :meth:`score`, of the shape of the batch."""
        values = [[x.detach() for x in each] for each in (self._loc, self._scale, self._df, self._shares)]
        nodes, log_steps, step = _nodes(values, self._absent)
        scores = self.score(nodes) + log_steps
        fall = (self._powers[0] + self._powers[1] - 0.5) * step
        beyond = torch.stack([scores[0], scores[-1]]) - (fall + torch.log(-torch.expm1(-fall)))
        return torch.cat([scores, beyond]).logsumexp(0)


def _nodes(values: Sequence[Sequence[Tensor]], absent: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Points ``[n, *batch_shape]``, the logarithm of the length that each stands for, and the step of v; no gradient."""
    with torch.no_grad():
        (c1, w1), (c2, w2) = (_landmark(values, k) for k in range(2))
        c1, c2 = torch.where(absent[0], c2, c1), torch.where(absent[1], c1, c2)
        w1, w2 = torch.where(absent[0], w2, w1), torch.where(absent[1], w1, w2)
        count, widths = (_FINE, 1e6) if c1.dtype == torch.float64 else (_COARSE, 1e4)
        far = widths * torch.maximum(w1, w2)
        ends = torch.stack([torch.minimum(c1, c2) - far, torch.maximum(c1, c2) + far])
        low, high = torch.asinh((ends - c1) / w1) + torch.asinh((ends - c2) / w2)
        step = (high - low) / (count - 1)
        place = torch.arange(count, dtype=step.dtype, device=step.device).reshape(-1, *(1,) * step.dim())
        up = torch.exp(low + place * step)
        down = up.reciprocal()
        cosh, sinh = 0.5 * (up + down), 0.5 * (up - down)
        ratio, product, apart = w1 / w2, w1 * w2, c2 - c1
        t = ratio + ratio.reciprocal() + 2 * cosh
        share = product / t
        x = c1 + (ratio + cosh) / t * apart + sinh * torch.sqrt(share + (share * apart / product).square())
        density = torch.rsqrt(w1.square() + (x - c1).square()) + torch.rsqrt(w2.square() + (x - c2).square())
        return x.detach(), (step / density).log().detach(), step.detach()  # a traced step does not know of `no_grad`


def _landmark(values: Sequence[Sequence[Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """A point near which the product may be narrow, and how narrow: the k-th location, or where the product is largest.

    A density looks like a normal one up to the distance at which its poles lie. The product of two that lie closer to each
    other is large between the two, where no location is.
    """
    c, s, nu, _ = (of_each[k] for of_each in values)
    pole = s * nu.sqrt()
    x = best = c
    width = pole
    for _ in range(_ROUNDS):  # each a weighted mean, as in iteratively reweighted least squares
        precisions = [w * (d + 1) / (d * b.square() + (x - a).square()) for a, b, d, w in zip(*values, strict=True)]
        total = precisions[0] + precisions[1]
        best, width = x, total.rsqrt()
        x = (precisions[0] * values[0][0] + precisions[1] * values[0][1]) / total
    near = (best - c).abs() < pole
    return torch.where(near, best, c), torch.where(near, torch.minimum(width, pole), torch.minimum(s, pole))
