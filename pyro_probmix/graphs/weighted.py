"""The sampling graph of a matrix of weights."""

from __future__ import annotations

__all__ = ["WeightedGraph"]

import math
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from pyro_probmix.graphs.edges import Graph


class WeightedGraph(Graph):
    r"""The graph of a matrix: edges in proportion to its entries, :math:`w_{ij} = W_{ij} / \sum_{kl} W_{kl}`.

    Anchors follow the matrix's row sums: a row of zeros is no anchor. Where these are not equal, the rows of a shuffled
    minibatch cannot be anchors without changing it, so ``edges(rows)`` takes from them only their number and draws
    independent edges. Takes memory in proportion to the positive entries.

    Args:
        matrix: non-negative weights ``[n, n]``: a SciPy sparse matrix or array, a torch sparse (COO or CSR) or
            dense tensor, or a NumPy array.

    Raises:
        TypeError: if the weights are no numbers.
        ValueError: if the matrix is not square, or holds negative or non-finite weights, or none that is positive.

    Example:
        >>> graph = WeightedGraph(torch.tensor([[0.0, 3.0], [1.0, 0.0]]))
        >>> graph.edges().log_prob(torch.tensor([[0, 1], [1, 0], [1, 1]])).exp().tolist()
        [0.75, 0.25, 0.0]
    """

    def __init__(self, matrix: Any) -> None:
        device = matrix.device if isinstance(matrix, Tensor) else "cpu"
        weights = _csr(matrix)
        n = weights.shape[0]
        row = np.repeat(np.arange(n), np.diff(weights.indptr))
        # Each row by its largest entry: neither tiny nor huge weights leave the range of the numbers.
        row_max = np.zeros(n)
        np.maximum.at(row_max, row, weights.data)
        share = weights.data / row_max[row]
        conditional = share / np.bincount(row, share, minlength=n)[row]
        row_sums = np.bincount(row, share, minlength=n) * (row_max / row_max.max())
        uniform = bool(np.allclose(row_sums, row_sums.mean(), rtol=1e-6, atol=0))
        super().__init__(
            n,
            device=device,
            minibatch="anchors" if uniform else "ignored",
            anchor_probs=torch.from_numpy(row_sums / row_sums.sum()).to(device),
        )
        # Row i's entries lie at places start[i], ..., start[i + 1] - 1, and its running sums of p(j | i) are lifted to
        # the interval (i, i + 1], so that one increasing vector serves every row.
        before = np.concatenate([[0.0], np.cumsum(conditional)])
        lifted = before[1:] - before[weights.indptr[:-1]][row] + row
        self._start = torch.from_numpy(weights.indptr.astype(np.int64)).to(device)
        self._column = torch.from_numpy(weights.indices.astype(np.int64)).to(device)
        self._place = torch.from_numpy(row * n + weights.indices.astype(np.int64)).to(device)
        self._cdf = torch.from_numpy(np.maximum.accumulate(lifted)).to(device)
        self._log_conditional = torch.from_numpy(conditional).log().to(device, torch.get_default_dtype())

    def partners(self, anchors: Tensor) -> Tensor:
        """Draws a partner j ~ p(j | i) for each anchor i; an anchor without edges gets itself."""
        level = anchors + torch.rand(anchors.shape, dtype=torch.float64, device=anchors.device)
        first, last = self._start[anchors], self._start[anchors + 1] - 1
        place = torch.searchsorted(self._cdf, level, right=True)
        # Rounding may carry a level past its row's last running sum.
        partner = self._column[torch.minimum(torch.maximum(place, first), last)]
        return torch.where(last < first, anchors, partner)

    def log_partner_prob(self, i: Tensor, j: Tensor) -> Tensor:
        edge = i * self.num_nodes + j
        place = torch.searchsorted(self._place, edge).clamp(max=len(self._place) - 1)
        return self._log_conditional[place].masked_fill(self._place[place] != edge, -math.inf)


def _csr(matrix: Any) -> Any:
    if isinstance(matrix, Tensor):
        matrix = matrix.detach().cpu().double()
        if matrix.layout is torch.strided:
            matrix = matrix.numpy()
        else:
            entries = matrix.to_sparse_coo().coalesce()
            matrix = sparse.coo_array((entries.values().numpy(), entries.indices().numpy()), shape=tuple(matrix.shape))
    try:
        matrix = matrix if sparse.issparse(matrix) else np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"The weights must be a matrix of numbers, got {type(matrix).__name__}. Try a NumPy array."
        ) from None
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"The weights must form a square matrix, got shape {list(matrix.shape)}. Try one row per data row."
        )
    # A copy: merging entries must not change the caller's matrix.
    weights = sparse.csr_array(matrix, dtype=np.float64, copy=True)
    weights.sum_duplicates()
    weights.eliminate_zeros()
    if not np.isfinite(weights.data).all():
        raise ValueError("The weights must be finite, got NaN or infinity. Try replacing them by zero (no edge).")
    if (weights.data < 0).any():
        raise ValueError(
            f"The weights must not be negative, got {weights.data.min():g}. Try exp(-distance) if they are distances."
        )
    if weights.nnz == 0:
        raise ValueError("All weights are zero, so there is no edge to draw. Try a matrix with a positive weight.")
    return weights
