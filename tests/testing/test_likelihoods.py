"""The check of a likelihood: ours pass, and one that is broken on purpose is named by the invariant that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
import torch.distributions as td
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_probmix import register_family
from pyro_probmix.models import LIKELIHOODS, Likelihood
from pyro_probmix.testing import check_likelihood
from pyro_probmix.testing.head_densities import LIKELIHOOD
from tests.testing.broken import assert_breaks


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("num_outputs", [1, 3])
def test_our_likelihoods_pass(name: str, num_outputs: int) -> None:
    if name != "categorical" or num_outputs > 1:
        check_likelihood(LIKELIHOODS[name], num_outputs=num_outputs)


class Sound(Likelihood):
    """A sound likelihood, to break."""

    parameters_per_output = 2

    def density(self, raw: Tensor) -> Any:
        loc, scale = raw.chunk(2, -1)
        return self.member(loc, softplus(scale) + 1e-3).to_event(1)

    def member(self, loc: Tensor, scale: Tensor) -> Any:
        return dist.Normal(loc, scale)


def test_a_likelihood_of_ones_own_passes() -> None:
    check_likelihood(Sound)
    check_likelihood(lambda in_features, num_outputs, replicas: Sound(in_features, num_outputs, replicas))


def of_parts(number: int, make: Callable[..., Any]) -> type[Likelihood]:
    """A likelihood whose density is made of so many parts of the raw parameters."""

    class Made(Likelihood):
        parameters_per_output = number

        def density(self, raw: Tensor) -> Any:
            return make(*raw.unflatten(-1, (number, -1)).unbind(-2))

    return Made


def positive(raw: Tensor) -> Tensor:
    return softplus(raw) + 1e-3


def mixture(logits: Tensor, other: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Any:
    components = dist.Normal(torch.stack([a, b], -1), positive(torch.stack([c, d], -1)))
    return dist.MixtureSameFamily(dist.Categorical(logits=torch.stack([logits, other], -1)), components).to_event(1)


#: What users write: densities of every support, joint ones, mixtures, heavy tails.
OTHERS: dict[str, type[Likelihood]] = {
    "joint normal": of_parts(2, lambda a, b: dist.MultivariateNormal(a, scale_tril=torch.diag_embed(positive(b)))),
    "mixture": of_parts(6, mixture),
    "negative binomial": of_parts(2, lambda a, b: dist.NegativeBinomial(positive(a), logits=b).to_event(1)),
    "one-hot": of_parts(1, lambda a: dist.OneHotCategorical(logits=a)),
    "Dirichlet": of_parts(1, lambda a: dist.Dirichlet(positive(a))),
    "Cauchy": of_parts(2, lambda a, b: dist.Cauchy(a, positive(b)).to_event(1)),
    "half-Cauchy": of_parts(1, lambda a: dist.HalfCauchy(positive(a)).to_event(1)),
    "von Mises": of_parts(2, lambda a, b: dist.VonMises(a, positive(b)).to_event(1)),
    "squashed normal": of_parts(
        2,
        lambda a, b: dist.TransformedDistribution(
            dist.Normal(a, positive(b)), [dist.transforms.TanhTransform()]
        ).to_event(1),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_likelihoods_of_every_kind_pass(name: str) -> None:
    check_likelihood(OTHERS[name])


@pytest.mark.parametrize("given", [Sound(4), 3, "gaussian"])
def test_what_makes_no_head_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"check_likelihood got .*, expected its class.* Try check_likelihood"):
        check_likelihood(given)


def test_a_likelihood_without_its_density_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"Likelihood has no density, expected a method.* Try dist.Normal"):
        Likelihood(4)(torch.zeros(2, 4))  # type: ignore[abstract]


class NoEvent(Sound):
    def density(self, raw: Tensor) -> Any:
        return self.member(*raw.abs().chunk(2, -1))


class OfTorch(Sound):
    def density(self, raw: Tensor) -> Any:
        loc, scale = raw.chunk(2, -1)
        return td.Independent(td.Normal(loc, softplus(scale) + 1e-3), 1)


class OneOutput(Sound):
    def density(self, raw: Tensor) -> Any:
        return super().density(raw[..., :2])


class _Louder(dist.Normal):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + 0.3  # type: ignore[no-any-return]


class Louder(Sound):
    def member(self, loc: Tensor, scale: Tensor) -> Any:
        return _Louder(loc, scale)


class Moving(Sound):
    """Whose support is another one for each row."""

    def member(self, loc: Tensor, scale: Tensor) -> Any:
        return dist.Uniform(loc, loc + scale)


class Constant(Sound):
    """The location carries no gradient."""

    def member(self, loc: Tensor, scale: Tensor) -> Any:
        return dist.Normal(loc.detach(), scale)


class Unused(Sound):
    def __init__(self, in_features: int, num_outputs: int = 1, replicas: int | None = None) -> None:
        super().__init__(in_features, num_outputs, replicas)
        self.extra = nn.Parameter(torch.zeros(replicas or 1, 1))


class Steep(Sound):
    def density(self, raw: Tensor) -> Any:
        loc, scale = raw.chunk(2, -1)
        return dist.Normal(loc, (scale**3).exp()).to_event(1)


class Centred(Sound):
    def density(self, raw: Tensor) -> Any:
        return super().density(raw - raw.mean(-2, keepdim=True))


class SharedScale(Sound):
    def __init__(self, in_features: int, num_outputs: int = 1, replicas: int | None = None) -> None:
        super().__init__(in_features, num_outputs, replicas)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def member(self, loc: Tensor, scale: Tensor) -> Any:
        return dist.Normal(loc, scale * self.log_scale.exp())


class Coupled(Sound):
    def density(self, raw: Tensor) -> Any:
        own = self.linear.weight.dim() == 3
        return super().density(raw + 0.1 * raw.mean(-3, keepdim=True) if own else raw)


class CoupledWeights(Sound):
    def forward(self, features: Tensor) -> Any:
        raw = self.linear(features)
        return self.density(raw * (1 + 0 * self.linear.weight.sum()) if self.linear.weight.dim() == 3 else raw)


class Unseeded(Sound):
    def __init__(self, in_features: int, num_outputs: int = 1, replicas: int | None = None) -> None:
        super().__init__(in_features, num_outputs, replicas)
        self.shift = nn.Parameter(torch.randn(*(() if replicas is None else (replicas, 1)), num_outputs))

    def member(self, loc: Tensor, scale: Tensor) -> Any:
        return dist.Normal(loc + self.shift, scale)


class Hidden(Sound):
    def __init__(self, in_features: int, num_outputs: int = 1, replicas: int | None = None) -> None:
        super().__init__(in_features, num_outputs, replicas)
        self.shift = float(torch.randn(()))

    def member(self, loc: Tensor, scale: Tensor) -> Any:
        return dist.Normal(loc + self.shift, scale)


class _Closed(dist.Normal):
    """Registered with a map that makes nothing."""


register_family(_Closed, lambda p: (p.loc, p.scale), lambda p, naturals: None)  # type: ignore[arg-type, return-value]


class Closed(Sound):
    def member(self, loc: Tensor, scale: Tensor) -> Any:
        return _Closed(loc, scale)


class FewRows(Sound):
    """NaN for a batch of another number of rows than the other invariants look at."""

    def density(self, raw: Tensor) -> Any:
        return super().density(raw * torch.nan if raw.shape[-2] == 10 else raw)


class NoisyPrediction(Sound):
    def density(self, raw: Tensor) -> Any:
        return super().density(raw if self.training else raw + torch.randn_like(raw))


class Doubles(Sound):
    def member(self, loc: Tensor, scale: Tensor) -> Any:
        return dist.Normal(loc.double(), scale.double())


class Singles(Sound):
    def member(self, loc: Tensor, scale: Tensor) -> Any:
        return dist.Normal(loc.float(), scale.float())


class PlainTensor(Sound):
    def __init__(self, in_features: int, num_outputs: int = 1, replicas: int | None = None) -> None:
        super().__init__(in_features, num_outputs, replicas)
        self.unit = torch.ones(num_outputs)

    def member(self, loc: Tensor, scale: Tensor) -> Any:
        return dist.Normal(loc, scale * self.unit)


class ReadingBack(Sound):
    def member(self, loc: Tensor, scale: Tensor) -> Any:
        return dist.Normal(loc, scale if bool((scale > 0).all()) else scale.abs())


BROKEN: dict[str, list[type[Likelihood]]] = {
    "shape": [NoEvent, OfTorch, OneOutput],
    "normalisation": [Louder],
    "support": [Moving],
    "gradient": [Constant, Unused],
    "large features": [Steep],
    "rows": [Centred],
    "replicas": [SharedScale, Coupled, CoupledWeights],
    "seeds": [Unseeded],
    "saving": [Hidden],
    "fusing": [Closed],
    "training": [FewRows],
    "prediction": [NoisyPrediction],
    "dtype": [Doubles, Singles],
    "device": [PlainTensor, ReadingBack],
}


def test_each_invariant_is_broken_in_turn() -> None:
    assert set(BROKEN) == set(LIKELIHOOD.all)


@pytest.mark.parametrize(("invariant", "head"), [(name, head) for name, heads in BROKEN.items() for head in heads])
def test_a_broken_likelihood_is_named_by_its_invariant(invariant: str, head: type[Likelihood]) -> None:
    assert_breaks(invariant, head.__name__, lambda: check_likelihood(head))
