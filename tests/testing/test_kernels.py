"""The check of a label kernel: ours pass, and one that is broken on purpose is named by the invariant that it breaks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_probmix import BiasedBernoulliKernel, BiasedCategoricalKernel, DiracKernel, GaussianKernel
from pyro_probmix.fusing.kernels.kernels import Kernel
from pyro_probmix.pooling import log_linear_pool
from pyro_probmix.testing import BrokenInvariant, check_kernel
from pyro_probmix.testing.kernels import KERNEL
from tests.testing.broken import assert_breaks

Y = torch.tensor([0.5, 1.0, -2.0, 3.0, 0.0])
CLASSES = torch.tensor([0, 2, 3, 3, 1])
BINARY = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])
KERNELS: dict[str, tuple[Any, Tensor]] = {
    "Gaussian": (GaussianKernel, Y),
    "Gaussian of vectors": (GaussianKernel, torch.stack([Y, Y + 1000], -1)),
    "Gaussian of one beta": (GaussianKernel(0.1), Y),
    "Gaussian at zero": (GaussianKernel(0.0), Y),
    "Gaussian of matrices": (GaussianKernel, torch.randn(5, 2, 3)),
    "categorical": (lambda beta: BiasedCategoricalKernel(beta, 4), CLASSES),
    "categorical vectors": (lambda beta: BiasedCategoricalKernel(beta, 4), torch.stack([CLASSES, CLASSES.flip(0)], -1)),
    "Bernoulli": (BiasedBernoulliKernel, BINARY),
    "Bernoulli vectors": (BiasedBernoulliKernel, BINARY[:, None]),
    "Dirac": (DiracKernel(), Y),
    "Dirac of vectors": (DiracKernel(), Y[:, None]),
    "Dirac of integers": (DiracKernel(), CLASSES),
}


@pytest.mark.parametrize("name", KERNELS)
def test_our_kernels_pass(name: str) -> None:
    kernel, y = KERNELS[name]
    check_kernel(kernel, y)


class Around(Kernel):
    """A sound kernel, to break: a normal distribution around the mixed label."""

    def __init__(self, beta: float) -> None:
        self.beta = beta

    def weights(self, weight: Tensor, several: bool) -> list[Tensor]:
        return list(weight.unbind(-1)) if several else [weight, 1 - weight]

    def mixed(self, y: Tensor, partner: Any, weight: Tensor, event_dim: int) -> Tensor:
        labels = [y, partner] if isinstance(partner, Tensor) else [y, *partner]
        weights = self.weights(weight, not isinstance(partner, Tensor))
        shaped = [w.reshape(w.shape + (1,) * event_dim) for w in weights]
        return sum((w * label for w, label in zip(shaped, labels, strict=True)), torch.zeros_like(y))

    def spread(self, weight: Tensor) -> float | Tensor:
        return self.beta

    def pooled(self, y: Tensor, partner: Any, weight: Tensor, event_dim: int) -> Any:
        mean = self.mixed(y, partner, weight, event_dim)
        beta = self.spread(weight)
        if isinstance(beta, float) and beta == 0:
            return dist.Delta(mean, event_dim=event_dim)
        scale = torch.as_tensor(beta, device=mean.device).to(mean).sqrt()
        return self.member(mean, scale.expand(mean.shape)).to_event(event_dim)

    def member(self, mean: Tensor, scale: Tensor) -> Any:
        return dist.Normal(mean, scale)


def test_a_kernel_of_ones_own_passes() -> None:
    check_kernel(Around, Y, support=constraints.real)


class Counts(Kernel):
    """A wide distribution of counts, more of them than a check draws."""

    def __init__(self, beta: float) -> None:
        self.beta = beta

    def pooled(self, y: Tensor, partner: Any, weight: Tensor, event_dim: int) -> Any:
        if self.beta == 0:
            return DiracKernel().pooled(y, partner, weight, event_dim)
        labels = [y, partner] if isinstance(partner, Tensor) else [y, *partner]
        first, *others = (dist.Poisson(label).to_event(event_dim) for label in labels)
        return log_linear_pool(first, others, weight)


@pytest.mark.parametrize("shape", [(4,), (4, 2)])
def test_a_kernel_of_many_counts_passes(shape: tuple[int, ...]) -> None:
    y = torch.tensor([3e4, 5.0, 800.0, 1e4]).reshape(4, *(1,) * (len(shape) - 1)).expand(shape)
    check_kernel(Counts, y, support=constraints.nonnegative_integer, skip=["Dirac limit"])
    with pytest.raises(BrokenInvariant, match="Dirac limit"):  # it has the spread of a Poisson, whatever beta is
        check_kernel(Counts, y)


class NoEvent(Around):
    def pooled(self, y: Tensor, partner: Any, weight: Tensor, event_dim: int) -> Any:
        return super().pooled(y, partner, weight, 0)


class OwnBatch(Around):
    def mixed(self, y: Tensor, partner: Any, weight: Tensor, event_dim: int) -> Tensor:
        return super().mixed(y, partner, weight, event_dim).reshape(-1, *y.shape)[0]


class _Louder(dist.Normal):
    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return type(self)(self.loc.expand(batch_shape), self.scale.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + 0.3  # type: ignore[no-any-return]


class Louder(Around):
    def member(self, mean: Tensor, scale: Tensor) -> Any:
        return _Louder(mean, scale)


class Louder2(Around):
    """Of classes, whose probabilities do not sum to one."""

    def pooled(self, y: Tensor, partner: Any, weight: Tensor, event_dim: int) -> Any:
        class Points(dist.Categorical):
            def log_prob(self, value: Tensor) -> Tensor:
                return super().log_prob(value) + 0.3  # type: ignore[no-any-return]

        return Points(BiasedCategoricalKernel(self.beta, 4).pooled(y, partner, weight, event_dim).probs)  # type: ignore[attr-defined]


class WideBetween(Around):
    def spread(self, weight: Tensor) -> Tensor:
        w = weight if weight.dim() == 1 or weight.shape[-1] == len(Y) else weight.amax(-1)
        return torch.as_tensor(self.beta * (1 + w * (1 - w)))


class Squared(Around):
    def weights(self, weight: Tensor, several: bool) -> list[Tensor]:
        return super().weights(weight, several) if several else [weight**2, 1 - weight**2]


class Clamped(Around):
    def weights(self, weight: Tensor, several: bool) -> list[Tensor]:
        return super().weights(weight if several else weight.clamp(0.1, 0.9), several)


class OnlyTwo(Around):
    def mixed(self, y: Tensor, partner: Any, weight: Tensor, event_dim: int) -> Tensor:
        assert isinstance(partner, Tensor), "two labels alone"
        return super().mixed(y, partner, weight, event_dim)


class FirstTwo(Around):
    def mixed(self, y: Tensor, partner: Any, weight: Tensor, event_dim: int) -> Tensor:
        if not isinstance(partner, Tensor):
            partner, weight = partner[0], weight[..., 0]
        return super().mixed(y, partner, weight, event_dim)


class _Forgetful(dist.Normal):
    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return dist.Normal(self.loc.expand(batch_shape), 2 * self.scale.expand(batch_shape))


class Forgetful(Around):
    def member(self, mean: Tensor, scale: Tensor) -> Any:
        return _Forgetful(mean, scale)


class NeverAPoint(Around):
    def __init__(self, beta: float) -> None:
        super().__init__(max(beta, 0.01))


class Dividing(Around):
    def __init__(self, beta: float) -> None:
        super().__init__(beta if beta > 0 else 1 / beta)


class Jumping(Around):
    """A point at beta=0 alone."""

    def __init__(self, beta: float) -> None:
        super().__init__(beta and 0.1 + beta)


class Doubles(Around):
    def member(self, mean: Tensor, scale: Tensor) -> Any:
        return dist.Normal(mean.double(), scale.double())


class _OfNumpy(dist.Normal):
    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return _OfNumpy(self.loc.expand(batch_shape), self.scale.expand(batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        noise = np.random.standard_normal((*sample_shape, *self.loc.shape))
        return self.loc + self.scale * torch.as_tensor(noise).to(self.loc)


class OfNumpy(Around):
    def member(self, mean: Tensor, scale: Tensor) -> Any:
        return _OfNumpy(mean, scale)


class ReadingBack(Around):
    def spread(self, weight: Tensor) -> float:
        return self.beta if float(weight.max()) <= 1 else math.inf


class OnTheCpu(Around):
    def member(self, mean: Tensor, scale: Tensor) -> Any:
        return dist.Normal(mean + torch.zeros(len(Y)), scale)


BROKEN: dict[str, list[tuple[type[Kernel], dict[str, Any]]]] = {
    "shape": [(NoEvent, {"y": Y[:, None]}), (NoEvent, {}), (OwnBatch, {})],
    "normalisation": [(Louder, {}), (Louder, {"y": torch.stack([Y, Y + 9], -1)}), (Louder2, {"y": CLASSES})],
    "support": [(Around, {"support": constraints.positive})],
    "unanimity": [(WideBetween, {})],
    "symmetry": [(Squared, {})],
    "ends": [(Clamped, {})],
    "several labels": [(OnlyTwo, {}), (FirstTwo, {})],
    "expansion": [(Forgetful, {})],
    "Dirac limit": [(NeverAPoint, {}), (Dividing, {}), (Jumping, {})],
    "dtype": [(Doubles, {})],
    "seed": [(OfNumpy, {})],
    "device": [(ReadingBack, {}), (OnTheCpu, {})],
}
CASES = [(name, kernel, options) for name, each in BROKEN.items() for kernel, options in each]


def test_each_invariant_is_broken_in_turn() -> None:
    assert set(BROKEN) == set(KERNEL.all)


@pytest.mark.parametrize(("invariant", "kernel", "options"), CASES)
def test_a_broken_kernel_is_named_by_its_invariant(
    invariant: str, kernel: Callable[[float], Kernel], options: dict[str, Any]
) -> None:
    assert_breaks(invariant, kernel.__name__, lambda: check_kernel(kernel, **{"y": Y, **options}))
