"""Label kernels: the distribution of a perturbed label on the line, on circles and spheres, over classes, and by default."""

from pyro_probmix.fusing.kernels.kernels import (
    BiasedBernoulliKernel,
    BiasedCategoricalKernel,
    BiasedOneHotKernel,
    DiracKernel,
    GaussianKernel,
    Kernel,
)

__all__ = [
    "BiasedBernoulliKernel",
    "BiasedCategoricalKernel",
    "BiasedOneHotKernel",
    "DiracKernel",
    "GaussianKernel",
    "Kernel",
]
