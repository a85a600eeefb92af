"""The beta-NLL: its value and gradient by hand, for plain and fused densities, and what it is not defined for."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import SigmoidTransform

from pyro_probmix import METHODS, ExpectedLogLikelihood, PriorGuide, ProbMix, fit, fuse
from pyro_probmix.inference import BetaNLL
from pyro_probmix.models import Categorical, build_density
from tests.inference.test_training import data, process

B, D = 6, 2


class Normals(torch.nn.Module):
    """A table of means and log scales."""

    def __init__(self, d=D):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.loc = torch.nn.Parameter(torch.randn(B, d, dtype=torch.float64, generator=g))
        self.log_scale = torch.nn.Parameter(torch.randn(B, d, dtype=torch.float64, generator=g))

    def forward(self, y):
        with pyro.plate("data", B):
            pyro.sample("y", dist.Normal(self.loc, self.log_scale.exp()).to_event(1), obs=y)


def gradients(model, criterion, y):
    loss = criterion(model, PriorGuide(model))(y)
    return (loss, *torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
def test_value_and_gradient_by_hand(beta):
    """Eq. (5) of Seitzer et al. and what follows from it by the rules of calculus, with the weight held fixed."""
    model, y = Normals(), torch.linspace(-2, 2, B * D, dtype=torch.float64).reshape(B, D)
    loss, of_loc, of_log_scale = gradients(model, BetaNLL(beta=beta), y)
    loc, variance = model.loc.detach(), (2 * model.log_scale.detach()).exp()
    weight, error = variance**beta, model.loc.detach() - y
    value = weight * (0.5 * variance.log() + 0.5 * error**2 / variance + 0.5 * math.log(2 * math.pi))
    torch.testing.assert_close(loss, value.sum())
    torch.testing.assert_close(of_loc, error * variance ** (beta - 1))
    # d/d(log sigma) of log sigma + (y - mu)^2 / (2 sigma^2) is 1 - (y - mu)^2 / sigma^2.
    torch.testing.assert_close(of_log_scale, weight * (1 - error**2 / variance))
    assert loc.shape == (B, D)


def test_at_zero_it_is_the_log_likelihood():
    x, y = data()
    model = process("M-ProbMix", alpha=0.5)
    losses = []
    for criterion in (BetaNLL(4, beta=0.0, max_plate_nesting=2), ExpectedLogLikelihood(4, max_plate_nesting=2)):
        torch.manual_seed(0)
        losses.append(criterion(model, model.guide)(x, y))
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize(("d", "labels"), [(1, "sample"), (1, "expected"), (D, "sample")])
def test_the_weight_is_the_fused_densitys(d, labels):
    model, y = Normals(d), torch.linspace(-2, 2, B * d, dtype=torch.float64).reshape(B, d)
    fused = fuse(model, at="y", weight=0.3, labels=labels)
    (loss, *_) = gradients(fused, BetaNLL(beta=0.5), y)
    own = torch.tensor([0.3] * 3 + [0.7] * 3, dtype=torch.float64)[:, None]
    precision = (-2 * model.log_scale).exp()
    pooled = own * precision + (1 - own) * precision.roll(3, 0)
    loc = (own * precision * model.loc + (1 - own) * (precision * model.loc).roll(3, 0)) / pooled
    label = own * y + (1 - own) * y.roll(3, 0)
    expected = -(pooled**-0.5 * dist.Normal(loc, pooled**-0.5).log_prob(label)).sum()
    torch.testing.assert_close(loss, expected)


def test_a_linear_pool_is_weighted_by_the_mixtures_variance():
    model, y = Normals(1), torch.tensor([-2.0, 0.5, 1.0] * 2, dtype=torch.float64)[:, None]  # one label to an edge
    (loss, *_) = gradients(fuse(model, at="y", weight=0.3, pool="linear"), BetaNLL(beta=1.0), y)
    own = torch.tensor([0.3] * 3 + [0.7] * 3, dtype=torch.float64)
    loc, scale = model.loc[:, 0], model.log_scale[:, 0].exp()
    label = y[:, 0]
    members = [dist.Normal(loc, scale), dist.Normal(loc.roll(3), scale.roll(3))]
    density = own * members[0].log_prob(label).exp() + (1 - own) * members[1].log_prob(label).exp()
    mean = own * loc + (1 - own) * loc.roll(3)
    second = own * (scale**2 + loc**2) + (1 - own) * (scale**2 + loc**2).roll(3)
    torch.testing.assert_close(loss, -((second - mean**2) * density.log()).sum())


def test_masked_rows_do_not_count():
    model, y = Normals(), torch.zeros(B, D, dtype=torch.float64)
    mask: Any = torch.tensor([True, True, False, True, True, True])
    masked = pyro.poutine.mask(model, mask)
    loss = BetaNLL().differentiable_loss(masked, PriorGuide(masked), y)
    kept = BetaNLL().differentiable_loss(model, PriorGuide(model), y)
    with torch.no_grad():
        variance = (2 * model.log_scale[2]).exp()
        left = -(variance**0.5 * dist.Normal(model.loc[2], variance.sqrt()).log_prob(y[2])).sum()
    torch.testing.assert_close(loss, kept - left)


@pytest.mark.parametrize("name", ["ERM", "ProbMix", "M-ProbMix"])
def test_fits_train_by_it(name):
    x, y = data()
    result = fit(process(name), x, y, epochs=20, validation=(x, y), learning_rate=0.01, criterion=BetaNLL(2))
    assert bool((result.validation_nll[-1] < result.validation_nll[0]).all())


@pytest.mark.parametrize(
    ("distribution", "lacking"),
    [
        (lambda loc: dist.Cauchy(loc, 1.0), "Cauchy"),
        (
            lambda loc: dist.TransformedDistribution(dist.Normal(loc, 1.0), SigmoidTransform()),
            "TransformedDistribution",
        ),
        (lambda loc: dist.StudentT(3.0, loc, 1.0), None),
    ],
)
@pytest.mark.parametrize(
    "options", [None, {"labels": "sample", "pool": "linear"}, {"labels": "expected", "pool": "linear"}]
)
def test_a_distribution_without_variance_is_refused(distribution, lacking, options):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loc = torch.nn.Parameter(torch.zeros(B, 1))

        def forward(self, y):
            with pyro.plate("data", B):
                pyro.sample("y", distribution(self.loc).to_event(1), obs=y)

    model = Model() if options is None else fuse(Model(), at="y", weight=0.3, **options)
    loss = BetaNLL()(model, PriorGuide(model))
    if lacking is None:
        assert loss(torch.full((B, 1), 0.5)).isfinite()
    else:
        with pytest.raises(
            ValueError, match=rf"'y' has the distribution {lacking}, which has no variance.*Try ExpectedLogLik"
        ):
            loss(torch.full((B, 1), 0.5))


def test_what_it_is_not_defined_for_is_refused():
    with pytest.raises(ValueError, match=r"num_embeddings=2, expected 1.*Try num_particles"):
        BetaNLL(1, 2)
    with pytest.raises(ValueError, match=r"beta=1.5, expected a power in \[0, 1\].*Try beta=0.5"):
        BetaNLL(beta=1.5)
    y = torch.zeros(B, D, dtype=torch.float64)
    refused: list[Any] = [{"labels": "expected"}, {"pool": "linear"}]
    for options in refused:
        fused = fuse(Normals(), at="y", weight=0.3, **options)
        with pytest.raises(ValueError, match=r"'y' has 2 coordinates.*Try labels='sample'"):
            BetaNLL().differentiable_loss(fused, PriorGuide(fused), y)
    density = build_density(METHODS["ERM"], num_features=2, likelihood=Categorical, num_outputs=3)
    model = ProbMix(density, at=None)
    with pytest.raises(ValueError, match=r"'y' is discrete, expected a continuous response.*Try ExpectedLogLikelihood"):
        BetaNLL()(model, model.guide)(torch.randn(B, 2), torch.zeros(B, dtype=torch.long))
