"""The product of negative binomial probabilities, of which few log-gamma functions are taken."""

from __future__ import annotations

__all__ = ["NegativeBinomials"]

from collections.abc import Sequence

import torch
from torch import Tensor

_FIRST = 32  # counts whose terms are added as they are
_NODES = 64  # of the integral beyond them
_ROUNDS = 12  # of the search for where the integrand is largest


class NegativeBinomials:
    r"""The product :math:`\prod_k p_k(n)^{w_k}` of negative binomial probabilities, up to a factor.

    .. math:: \sum_k w_k \log\Gamma(n + r_k) - \log\Gamma(n + 1) + n \sum_k w_k \log \pi_k

    Args:
        members: total count r and logits of each.
        shares: their weights w, tensors of the shape of the batch, which sum to one. One of weight zero is not read.
        some_are_zero: whether a total count may be zero.
    """

    def __init__(
        self, members: Sequence[tuple[Tensor, Tensor]], shares: Sequence[Tensor], *, some_are_zero: bool = True
    ) -> None:
        self._shares = shares
        self._totals: list[Tensor] = []
        self._none: list[Tensor | None] = []  # where there are no counts but 0
        slope: Tensor | float = 0.0
        for (total, logits), share in zip(members, shares, strict=True):
            absent = share == 0
            none = (total == 0) & ~absent
            # Ones in the place of what is not read, which may be NaN.
            self._totals.append(torch.where(none | absent, 1.0, total).to(share))
            self._none.append(none if some_are_zero else None)
            slope = slope + share * torch.nn.functional.logsigmoid(torch.where(absent, 1.0, logits).to(share))
        assert isinstance(slope, Tensor)
        self._slope = slope

    def score(self, value: Tensor) -> Tensor:
        """The logarithm of the product at counts ``[*sample_shape, *batch_shape]``, without constants."""
        result = value * self._slope.to(value) - torch.lgamma(value + 1)
        for total, share, none in zip(self._totals, self._shares, self._none, strict=True):
            result = result + share.to(value) * torch.lgamma(value + total.to(value))
            if none is not None:
                result = result.masked_fill(none & (value > 0), -torch.inf)
        return result

    def log_mass(self) -> Tensor:
        r"""The logarithm of the sum of the exponential of :meth:`score` over all counts, of the shape of the batch.

        The first M = 32 terms are added as they are, the others by the midpoint form of the Euler-Maclaurin formula,

        .. math:: \sum_{n \ge M} f(n) = \int_a^\infty f(x)\, dx + \frac{f'(a)}{24} - \frac{7 f^{(3)}(a)}{5760} + \dots,
            \quad a = M - \tfrac12,

        and the integral by a trapezoidal sum over equal steps of v, :math:`x = a + \exp(m + \sigma \sinh v)`, where m and
        :math:`\sigma` are mode and width of the integrand in the logarithm of x - a. It is analytic, and ends twice
        exponentially on both sides.
        """
        first = torch.arange(_FIRST, dtype=self._slope.dtype, device=self._slope.device)
        nodes, log_steps = self._nodes()
        start = torch.full_like(self._slope, _FIRST - 0.5)
        one, two, three = self._slopes(start)
        ends = one / 24 - (one.pow(3) + 3 * one * two + three) * (7 / 5760)
        terms = self.score(first.reshape(-1, *(1,) * self._slope.dim()))
        total = torch.cat([terms, self.score(nodes) + log_steps]).logsumexp(0)
        return total + torch.log1p((self.score(start) - total).exp() * ends)

    def _slopes(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first three derivatives of the score, as exactly as the correction of the sum needs them."""
        one, two, three = self._slope - torch.digamma(x + 1), -1 / (x + 0.5), 1 / (x + 0.5).square()
        for total, share in zip(self._totals, self._shares, strict=True):
            near = 1 / (x + total - 0.5)
            one, two, three = one + share * torch.digamma(x + total), two + share * near, three - share * near.square()
        return one, two, three

    def _nodes(self) -> tuple[Tensor, Tensor]:
        """Points beyond the first counts, ``[n, *batch_shape]``, and the logarithm of the length that each stands for."""
        with torch.no_grad():
            mode, width = self._mode()
            low, high = (
                torch.asinh(-45.0 / width),
                torch.asinh(6.0 / width),
            )  # e-folds on the left; x times 400 on the right
            step = (high - low) / (_NODES - 1)
            place = torch.arange(_NODES, dtype=step.dtype, device=step.device).reshape(-1, *(1,) * step.dim())
            v = low + place * step
            u = mode + width * torch.sinh(v)
            log_steps = u + (width * step * torch.cosh(v)).log()
            return (_FIRST - 0.5 + u.exp()).detach(), log_steps.detach()  # a traced step does not know of `no_grad`

    def _mode(self) -> tuple[Tensor, Tensor]:
        """Where f(a + e^u) e^u is largest, as a value of u, and how wide it is there."""
        slope = self._slope.clamp(max=-1e-15)
        widest = torch.stack(torch.broadcast_tensors(*self._totals)).amax(0) + 2
        low, high = torch.full_like(slope, -8.0), (widest / -torch.expm1(slope) + 1).log()
        u = high - 1
        for _ in range(
            _ROUNDS
        ):  # Newton's method for log(-slope) + u, which is nearly linear, between bounds that close in
            away, slope, bend = self._rise(u)
            below = away * slope > -1
            low, high = torch.where(below, u, low), torch.where(below, high, u)
            step = u - (u + torch.log(-slope)) / (1 + away * bend / slope).clamp(min=0.3)
            u = torch.where((step > low) & (step < high), step, 0.5 * (low + high))  # not a number where it still rises
        away, slope, bend = self._rise(u)
        return u, (-away * (slope + away * bend)).clamp(min=0.1).rsqrt()

    def _rise(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x - a, and the slope and bend of log f there; digamma(z) is nearly log(z - 1/2)."""
        away = u.exp()
        x = away + (_FIRST - 0.5)
        slope, bend = self._slope - torch.log(x + 0.5), -1 / (x + 0.5)
        for total, share in zip(self._totals, self._shares, strict=True):
            z = x + (total - 0.5)
            slope, bend = slope + share * z.log(), bend + share / z
        return away, slope, bend
