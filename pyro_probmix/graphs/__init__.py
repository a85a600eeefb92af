"""Graphs over the rows of a data set, from whose edges the fused rows are drawn."""

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
