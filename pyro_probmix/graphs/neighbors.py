"""Each row's K nearest others: found exactly, or in a large table through a navigable graph."""

from __future__ import annotations

__all__ = ["EXACT_FEATURES", "EXACT_ROWS", "Search", "nearest_others"]

from typing import Any, Literal

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from voyager import Index, Space

Search = Literal["auto", "exact", "approximate"]

# Measured with benchmarks/neighbors.py: beyond some 50,000 rows, comparing every pair takes longer than building and
# searching the index. With few features k-d trees are quicker than either, at any size; with more, slower than every pair.
EXACT_ROWS = 50_000
EXACT_FEATURES = 5
_TREE_FEATURES = 8

# What the index is built and searched with: links of a row, and rows kept in view while building and while searching.
_LINKS, _BUILD_WIDTH, _SEARCH_WIDTH = 16, 100, 80
_SEED = 0
_QUERIES = 100_000  # rows searched at a time


def nearest_others(x: np.ndarray[Any, Any], k: int, search: Search = "auto") -> np.ndarray[Any, Any]:
    """For each row of one table, the numbers of its K nearest others in Euclidean distance.

    Takes memory in proportion to n (K + d). The same rows give the same answer each time, with any number of threads.

    Args:
        x: the features, ``[n, d]``, finite, with n > K.
        k: the number K of neighbours.
        search: ``"exact"``; ``"approximate"`` (to single precision, and most of the nearest); or ``"auto"``: exact for at
            most ``EXACT_ROWS`` rows or ``EXACT_FEATURES`` features.

    Returns:
        Row numbers ``[n, K]``, no row among its own neighbours and none of them twice.

    References:
        Malkov and Yashunin, 2020, "Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable
        Small World Graphs".

    Example:
        >>> nearest_others(np.array([[0.0], [1.0], [3.0]]), k=1).tolist()
        [[1], [0], [1]]
    """
    # Large offsets would cost digits in the distances.
    centred = x - x.mean(axis=0, dtype=np.float64)
    if search == "exact" or (search == "auto" and (len(x) <= EXACT_ROWS or x.shape[1] <= EXACT_FEATURES)):
        return _exact(centred, k)
    largest = np.abs(centred).max(initial=0.0)
    single = (centred / (largest or 1.0)).astype(np.float32) + np.float32(0.0)  # no -0.0: rows are compared by bytes
    del centred
    return _through_distinct_rows(single, k)


def _exact(x: np.ndarray[Any, Any], k: int) -> np.ndarray[Any, Any]:
    algorithm = "kd_tree" if x.shape[1] <= _TREE_FEATURES else "brute"
    # Without an argument, kneighbors leaves each row out of its own list.
    found: np.ndarray[Any, Any] = (
        NearestNeighbors(n_neighbors=k, algorithm=algorithm).fit(x).kneighbors(return_distance=False)
    )
    return found


def _through_distinct_rows(x: np.ndarray[Any, Any], k: int) -> np.ndarray[Any, Any]:
    # Of many equal rows, each would be linked to the others alone, and the index would fall apart. It holds one of each.
    as_bytes = np.ascontiguousarray(x).view(np.dtype((np.void, x.itemsize * x.shape[1]))).ravel()
    _, first, group, count = np.unique(as_bytes, return_index=True, return_inverse=True, return_counts=True)
    distinct, others = x[first], min(k, len(first) - 1)
    if others == 0:
        near = np.empty((1, 0), dtype=np.int64)
    else:
        near = _exact(distinct, others) if len(first) <= EXACT_ROWS else _indexed(distinct, others)

    # A row's neighbours: the equal rows, then the members of the nearest groups, as many as it takes to make K.
    groups = np.column_stack([np.arange(len(first)), near])  # [groups, 1 + others]
    sizes = count[groups]
    sizes[:, 0] -= 1
    taken = np.column_stack([np.zeros(len(first), dtype=sizes.dtype), sizes.cumsum(axis=1)])
    start = count.cumsum() - count
    order = np.argsort(group, kind="stable")  # group by group
    rank = np.empty_like(order)
    rank[order] = np.arange(len(x)) - start[group[order]]
    found = np.empty((len(x), k), dtype=np.int64)
    for slot in range(k):
        place = (taken[:, 1:] <= slot).sum(axis=1)[:, None]
        chosen = np.take_along_axis(groups, place, axis=1)[group, 0]
        offset = (slot - np.take_along_axis(taken, place, axis=1))[group, 0]
        # Counted from the row after its own place: a group's members are chosen alike often, and a row never itself.
        found[:, slot] = order[start[chosen] + (rank + 1 + offset) % count[chosen]]
    return found


def _indexed(x: np.ndarray[Any, Any], k: int) -> np.ndarray[Any, Any]:
    n, d = x.shape
    # In the order of a sorted table the index would find less.
    order = np.random.default_rng(_SEED).permutation(n)
    width = max(_SEARCH_WIDTH, 4 * (k + 1))
    index = Index(
        Space.Euclidean, d, M=_LINKS, ef_construction=max(_BUILD_WIDTH, width), random_seed=_SEED, max_elements=n
    )
    # One thread: with several, the links depend on which row comes first. Searching changes nothing, and takes them all.
    for rows in np.array_split(order, -(-n // _QUERIES)):
        index.add_items(x[rows], num_threads=1)
    found = np.empty((n, k), dtype=np.int64)
    for rows in np.array_split(order, -(-n // _QUERIES)):
        places, _ = index.query(x[rows], k + 1, num_threads=torch.get_num_threads(), query_ef=width)
        near = order[places.astype(np.int64)]  # [rows, K + 1], nearest first
        own = near == rows[:, None]
        own[:, -1] |= ~own.any(axis=1)  # the farthest goes where the row was not found itself
        found[rows] = near[~own].reshape(-1, k)
    return found
