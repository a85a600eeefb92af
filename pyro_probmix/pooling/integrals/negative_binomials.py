"""The product of negative binomial probabilities, of which few log-gamma functions are taken."""

from __future__ import annotations

__all__ = ["NegativeBinomials"]

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

_FIRST = 24  # counts whose terms are added as they are
_NODES = 60  # of the integral beyond them
_ROUNDS = 10  # of the search for where the integrand is largest


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
            # Ones in the place of what is not read, which may be NaN: with them a member is constant.
            self._totals.append(torch.where(none | absent, 1.0, total).to(share))
            self._none.append(none if some_are_zero else None)
            log_prob = torch.nn.functional.logsigmoid(torch.where(absent, 1.0, logits).to(share))
            slope = slope + share * log_prob.masked_fill(absent, 0.0)
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

        The first M = 24 terms are added as they are, the others by the midpoint form of the Euler-Maclaurin formula,

        .. math:: \sum_{n \ge M} f(n) = \int_a^\infty f(x)\, dx + \frac{f'(a)}{24} - \frac{7 f^{(3)}(a)}{5760} + \dots,
            \quad a = M - \tfrac12,

        and the integral by a trapezoidal sum over equal steps of v, :math:`x = a + \exp(m + \sigma \sinh v)`, where m and
        :math:`\sigma` are mode and width of the integrand in the logarithm of x - a. It is analytic, and ends twice
        exponentially on both sides.
        """
        nodes, log_steps = self._nodes()
        pairs = *self._totals, *self._shares
        total: Tensor
        total, _ = _LogSum.apply(nodes, log_steps, self._slope, *pairs)  # type: ignore[no-untyped-call] # torch
        start = torch.full_like(self._slope, _FIRST - 0.5)
        one, two, three = self._slopes(start)
        ends = one / 24 - (one.pow(3) + 3 * one * two + three) * (7 / 5760)
        at_start = _beyond(start, self._slope, self._totals, self._shares)
        total = total + torch.log1p((at_start - total).exp() * ends)
        for r, share, none in zip(self._totals, self._shares, self._none, strict=True):
            if none is not None:
                total = total.masked_fill(none, 0.0)  # that of the count 0
            total = total + share * torch.lgamma(r)
        return total

    def _slopes(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first three derivatives of the score, as exactly as the correction of the sum needs them."""
        one, two, three = self._slope - _digamma(x + 1), -1 / (x + 0.5), 1 / (x + 0.5).square()
        for total, share in zip(self._totals, self._shares, strict=True):
            near = 1 / (x + total - 0.5)
            one, two, three = one + share * _digamma(x + total), two + share * near, three - share * near.square()
        return one, two, three

    def _nodes(self) -> tuple[Tensor, Tensor]:
        """Points beyond the first counts, ``[n, *batch_shape]``, and the logarithm of the length that each stands for."""
        with torch.no_grad():
            mode, width = self._mode()
            # 45 e-folds to the left; to the right to where exp(slope x) has fallen as far, since no power of x falls.
            end = torch.log(-45 / self._slope.clamp(max=-1e-15)) - mode
            low, high = torch.asinh(-45 / width), torch.asinh(end.clamp(min=6) / width)
            step = (high - low) / (_NODES - 1)
            place = torch.arange(_NODES, dtype=step.dtype, device=step.device).reshape(-1, *(1,) * step.dim())
            v = low + place * step
            u = mode + width * torch.sinh(v)
            log_steps = u + (width * step * torch.cosh(v)).log()
            return (_FIRST - 0.5 + u.exp()).detach(), log_steps.detach()  # a traced step does not know of `no_grad`

    def _mode(self) -> tuple[Tensor, Tensor]:
        """Where f(a + e^u) e^u is largest, as a value of u, and how wide it is there."""
        slope = self._slope.clamp(max=-1e-15)
        # The function is that of one negative binomial whose total lies between the geometric and the arithmetic mean of all.
        least, most = _mean([r.log() for r in self._totals], self._shares), _mean(self._totals, self._shares)
        rest = -torch.expm1(slope)
        low = ((slope + least).exp() / rest - _FIRST).clamp(min=3e-4).log()
        high = ((slope.exp() * most + 2) / rest).log()
        u = high
        # Newton's method for the slope plus exp(-u), which falls: convex in u, concave in exp(-u), so that it comes nearer
        # from the left in the one and from the right in the other; between bounds that close in.
        for _ in range(_ROUNDS):
            away, slope, bend = self._rise(u)
            below = away * slope > -1
            low, high = torch.where(below, u, low), torch.where(below, high, u)
            ahead = (away * slope + 1) / (1 - away.square() * bend)
            step = u + torch.where(below, ahead, -torch.log1p(-ahead))
            inside = (step >= low) & (step <= high)
            u = torch.where(inside, step, 0.5 * (low + high))
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


class _LogSum(torch.autograd.Function):
    """The logarithm of the sum over the first counts and the nodes beyond them, and the terms, as logarithms.

    Its derivatives are means under the terms' shares of the sum, so that no operation of a term has to be gone back through.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(nodes: Tensor, log_steps: Tensor, slope: Tensor, *pairs: Tensor) -> tuple[Tensor, Tensor]:
        terms = _terms(nodes, log_steps, slope, *_halves(pairs))
        return terms.logsumexp(0), terms

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, *output)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        *inputs, total, terms = ctx.saved_tensors
        if torch.is_grad_enabled():  # for derivatives of second order
            total, terms = None, None
        slopes = _slopes_of_sum(inputs, ctx.needs_input_grad, total, terms)
        return tuple(None if slope is None else gradients[0] * slope for slope in slopes)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        slopes = _slopes_of_sum(ctx.saved_tensors, [tangent is not None for tangent in tangents])
        pairs = [(slope, t) for slope, t in zip(slopes, tangents, strict=True) if slope is not None and t is not None]
        return torch.stack(torch.broadcast_tensors(*(slope * t for slope, t in pairs))).sum(0), None


def _slopes_of_sum(
    inputs: Sequence[Tensor], wanted: Sequence[bool], total: Tensor | None = None, terms: Tensor | None = None
) -> list[Tensor | None]:
    """The derivatives of the sum's logarithm by each input of :class:`_LogSum`, where they are wanted; None for nodes.

    Args:
        inputs: of :class:`_LogSum`.
        wanted: of which of them.
        total, terms: its outputs; without them they are computed, so that the derivatives have some themselves.
    """
    nodes, log_steps, slope, *pairs = inputs
    totals, shares = _halves(pairs)
    if terms is None or total is None:
        terms = _terms(nodes, log_steps, slope, totals, shares)
        total = terms.logsumexp(0)
    near, far = (terms - total).exp().split([_FIRST, len(nodes)])
    above = near.flip(0).cumsum(0).flip(0)[1:]  # the part of the first counts above each of them but the last
    count = _counts(slope)[:-1]
    found: list[Tensor | None] = [None, None, above.sum(0) + (far * nodes).sum(0)]
    of_totals, of_shares = _halves(wanted[3:])
    for r, share, is_wanted in zip(totals, shares, of_totals, strict=True):
        if is_wanted:
            by_total = (above / (r + count)).sum(0) + (far * (_digamma(nodes + r) - torch.digamma(r))).sum(0)
        found.append(share * by_total if is_wanted else None)
    for r, is_wanted in zip(totals, of_shares, strict=True):
        if is_wanted:
            by_share = (above * (r + count).log()).sum(0) + (far * (_log_gamma(nodes + r) - torch.lgamma(r))).sum(0)
        found.append(by_share if is_wanted else None)
    return found


def _halves(pairs: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """What there is of the totals, and of the shares."""
    half = len(pairs) // 2
    return pairs[:half], pairs[half:]


def _mean(values: Sequence[Tensor], shares: Sequence[Tensor]) -> Tensor:
    return torch.stack(torch.broadcast_tensors(*(share * x for x, share in zip(values, shares, strict=True)))).sum(0)


def _counts(like: Tensor) -> Tensor:
    first = torch.arange(_FIRST, dtype=like.dtype, device=like.device)
    return first.reshape(-1, *(1,) * like.dim())


def _terms(
    nodes: Tensor, log_steps: Tensor, slope: Tensor, totals: Sequence[Tensor], shares: Sequence[Tensor]
) -> Tensor:
    """Logarithms of the terms of the first counts and of the nodes, less the gamma functions of the totals."""
    count = _counts(slope)
    rise = slope - torch.log1p(count)  # from each count to the next
    for r, share in zip(totals, shares, strict=True):
        rise = rise + share * (r + count).log()
    near = torch.cat([torch.zeros_like(rise[:1]), rise[:-1].cumsum(0)])
    return torch.cat([near, _beyond(nodes, slope, totals, shares) + log_steps])


def _beyond(x: Tensor, slope: Tensor, totals: Sequence[Tensor], shares: Sequence[Tensor]) -> Tensor:
    """The score at large x, less the gamma functions of the totals."""
    result = x * slope - _log_gamma(x + 1)
    for r, share in zip(totals, shares, strict=True):
        result = result + share * (_log_gamma(x + r) - torch.lgamma(r))
    return result


def _log_gamma(z: Tensor) -> Tensor:
    r"""The log-gamma function of numbers above 20 less the constant :math:`\log\sqrt{2 \pi}`.

    It is Stirling's series at z - 1/2, within 1e-12.
    """
    y = z - 0.5
    inverse = y.reciprocal()
    square = inverse.square()
    return torch.addcmul(torch.special.xlogy(y, y) - y, inverse, square * (7 / 2880 - square * (31 / 40320)) - 1 / 24)


def _digamma(z: Tensor) -> Tensor:
    """The slope of the log-gamma function, likewise."""
    y = z - 0.5
    square = y.reciprocal().square()
    return torch.addcmul(y.log(), square, 1 / 24 - square * (7 / 960 - square * (31 / 8064)))
