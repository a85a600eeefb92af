"""The product of negative binomial probabilities, of which few log-gamma functions are taken."""

from __future__ import annotations

__all__ = ["NegativeBinomials"]

from collections.abc import Sequence

import torch
from torch import Tensor


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
        """Return the logarithm of the product at counts ``[*sample_shape, *batch_shape]``, without constants."""
        result = value * self._slope.to(value) - torch.lgamma(value + 1)
        for total, share, none in zip(self._totals, self._shares, self._none, strict=True):
            result = result + share.to(value) * torch.lgamma(value + total.to(value))
            if none is not None:
                result = result.masked_fill(none & (value > 0), -torch.inf)
        return result
