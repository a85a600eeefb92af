"""Inputs beside smooth or piecewise linear functions of them, of which each member of an ensemble has one kind."""

from __future__ import annotations

__all__ = ["Encodings", "bins"]

import numpy as np
import torch
from torch import Tensor

from pyro_probmix.estimators.ensemble.rows import Array
from pyro_probmix.models import PeriodicFeatures

#: Members whose numbers are equal modulo this hold out the same rows, by default.
DEALT = 5
#: A bin of a standardised input is no narrower: in single precision its code would be noise.
NARROWEST = 1e-4


class Encodings(PeriodicFeatures):
    r"""Periodic features of the inputs for one half of the members, their piecewise linear codes for the other half.

    Waves follow smooth functions, and codes steps and bends, as trees do. Members of both kinds err in different ways, so that
    their mean errs less. The code of input j in bin k, from :math:`e_{k-1}` to :math:`e_k`, is

    .. math:: x_j \mapsto \min(\max(2\, (x_j - e_{k-1}) / (e_k - e_{k-1}), 0), 2) - 1.

    Members that hold out the same rows are of one kind, as far as that goes. What they gain together is carried on to all
    members, and two of different kinds gain more together than any that join them: intervals would be too narrow.

    Args:
        in_features: number of inputs, standardised.
        frequencies: K, waves of each input, and bins of it.
        replicas: number R of members, of which R // 2 have codes.

    Shape:
        [..., R or 1, B, in_features] to [..., R, B, in_features * (K + 1)].

    References:
        Gorishniy, Rubachev and Babenko, 2022, "On Embeddings for Numerical Features in Tabular Deep Learning", section 3.2.
    """

    coded: Tensor
    slope: Tensor
    offset: Tensor

    def __init__(self, in_features: int, frequencies: int, replicas: int) -> None:
        super().__init__(in_features, frequencies, replicas=replicas)
        coded = torch.zeros(replicas, 1, 1, 1, dtype=torch.bool)
        coded[sorted(range(replicas), key=lambda r: (r % DEALT, r))[: replicas // 2]] = True
        self.register_buffer("coded", coded)
        for name in ("slope", "offset"):
            self.register_buffer(name, torch.zeros(1, in_features, frequencies))

    @torch.no_grad()
    def learn(self, edges: Array) -> None:
        """Takes the lower and upper edges of all bins, [2, K, in_features]."""
        low, high = torch.as_tensor(edges)
        slope = 2 / (high - low).clamp(min=NARROWEST)
        self.slope.copy_(slope.T[None])
        self.offset.copy_((-1 - slope * low).T[None])

    def encoded(self, x: Tensor) -> Tensor:
        x = x[..., None]
        code = torch.addcmul(self.offset, self.slope, x).clamp(-1, 1)
        return torch.where(self.coded, code, torch.cos(torch.addcmul(self.phase, self.frequency, x))).flatten(-2)


def bins(columns: Array, weights: Array, count: int) -> Array:
    """The edges of so many bins of each column, lower and upper ones, [2, count, D], in the columns' units.

    Bins hold equal shares of the rows, or of the distinct values where some recur so often that such bins would be empty. A
    column of few values has an edge at each of them; bins that are left reach from the least value to the largest.

    Args:
        columns: [n, D].
        weights: of the rows, above 0, [n].
        count: number of bins.
    """
    found = np.empty((2, count, columns.shape[1]))
    for j, column in enumerate(columns.T):
        order = np.argsort(column, kind="stable")
        ordered, total = column[order], np.cumsum(weights[order])
        values = ordered[np.append(True, ordered[1:] != ordered[:-1])]
        edges = values
        if len(values) > count + 1:
            shares = np.linspace(0, 1, count + 1)
            edges = np.unique(ordered[np.searchsorted(total, shares * total[-1]).clip(max=len(order) - 1)])
            if len(edges) <= count:
                edges = values[np.round(shares * (len(values) - 1)).astype(int)]
        found[0, :, j], found[1, :, j] = values[0], values[-1]
        found[0, : len(edges) - 1, j], found[1, : len(edges) - 1, j] = edges[:-1], edges[1:]
    return found
