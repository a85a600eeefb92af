"""The tail of Student's t distribution by tensors alone."""

from __future__ import annotations

__all__ = ["student_t_tail"]

import math
from collections.abc import Callable

import torch
from torch import Tensor

#: How often the degrees of freedom of a Student's t rise by 2 before its tail is taken for that of a normal distribution.
RISES = 12


def student_t_tail(df: Tensor) -> Callable[[Tensor], Tensor]:
    r"""The function P(T > t) of t >= 0 for a Student's t distribution, to 10 digits where df is above 1.

    With :math:`x = \nu / (\nu + t^2)` it is :math:`I_x(\nu/2, 1/2) / 2`. The recurrence
    :math:`I_x(a, b) = I_x(a + 1, b) + x^a (1 - x)^b / (a B(a, b))` raises the degrees of freedom at that x, by terms that are
    all positive, until a normal distribution is near enough.

    Args:
        df: degrees of freedom, above 0.

    References:
        Abramowitz and Stegun, 1964, 26.5.16; Hill, 1970, "Algorithm 395: Student's t-distribution".

    Example:
        >>> tail = student_t_tail(torch.tensor(4.0).double())
        >>> tail(torch.tensor(2.0).double())
        tensor(0.0581, dtype=torch.float64)
    """
    a, b = df / 2, 0.5
    # The terms at x, over x^a (1 - x)^b: from one to the next the factor x (a + k + b) / (a + k + 1).
    terms = [torch.exp(torch.lgamma(a + b) - torch.lgamma(a + 1) - math.lgamma(b)) / 2]
    for k in range(RISES - 1):
        terms.append(terms[-1] * (a + k + b) / (a + k + 1))
    root, raised = df.sqrt(), df + (2 * RISES - 0.5)
    c = 48 * raised.square()

    def tail(t: Tensor) -> Tensor:
        square = (t / root).square()
        rise = torch.log1p(square)
        x = torch.exp(-rise)
        total = terms[-1]
        for term in reversed(terms[:-1]):
            total = torch.addcmul(term, total, x)
        total = total * torch.exp(-a * rise) * (square * x).sqrt()
        w2 = raised * rise
        third = (((4 * w2 + 33) * w2 + 240) * w2 + 855) / (10 * c * (c + 0.8 * w2.square() + 100))
        z = w2.sqrt() * (1 + (w2 + 3) / c - third)
        return total + 0.5 * torch.erfc(z * math.sqrt(0.5))

    return tail
