"""Graphs over the rows, which say what rows are fused with which; their edges are distributions."""

from pyro_probmix.graphs.edges import EdgeDistribution
from pyro_probmix.graphs.graphs import (
    CompleteGraph,
    Graph,
    LabelKernelGraph,
    NearestNeighborGraph,
    SameClassGraph,
)
from pyro_probmix.graphs.weighted import WeightedGraph

__all__ = [
    "CompleteGraph",
    "EdgeDistribution",
    "Graph",
    "LabelKernelGraph",
    "NearestNeighborGraph",
    "SameClassGraph",
    "WeightedGraph",
]
