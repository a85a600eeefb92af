"""Theorems 4.3 to 4.7 and the limits of alpha, as equalities of log-likelihoods and gradients on networks."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from pyro_probmix import ExpectedLogLikelihood, LogExpectedLikelihood, ProbMix, fuse
from pyro_probmix.models import METHODS, Gaussian, build_density

WEIGHT = 0.37
ROWS, FEATURES, CLASSES = 6, 3, 4


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(ROWS, FEATURES, dtype=torch.float64)


def network(outputs):
    """A network with a hidden layer, or what is left without it: an affine map."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(FEATURES, 8), torch.nn.Tanh(), torch.nn.Linear(8, outputs)).double()


def affine(outputs):
    torch.manual_seed(0)
    return torch.nn.Linear(FEATURES, outputs).double()


class Classifier(torch.nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x, y):
        with pyro.plate("data", len(x)):
            x = pyro.deterministic("x", x, event_dim=1)
            logits = pyro.deterministic("logits", self.f(x), event_dim=1)
            pyro.sample("y", dist.Categorical(logits=logits), obs=y)


class Regressor(torch.nn.Module):
    def __init__(self, f, scale=0.6):
        super().__init__()
        self.f, self.scale = f, scale

    def forward(self, x, y):
        with pyro.plate("data", len(x)):
            x = pyro.deterministic("x", x, event_dim=1)
            mean = pyro.deterministic("mean", self.f(x), event_dim=1)
            pyro.sample("y", dist.Normal(mean, self.scale).to_event(1), obs=y)


def log_likelihood_and_gradients(model, x, y, at, labels="sample"):
    trace = poutine.trace(fuse(model, at=at, weight=WEIGHT, labels=labels)).get_trace(x, y)
    trace.compute_log_prob()
    log_prob = trace.nodes["y"]["log_prob"]
    return log_prob, torch.autograd.grad(log_prob.sum(), list(model.parameters()))


CASES = {
    "4.3 classes: the response is the logits": (lambda: Classifier(network(CLASSES)), "logits"),
    "4.4 regression: the response is the means": (lambda: Regressor(network(2)), "mean"),
    "4.5 logistic regression: the response is the input": (lambda: Classifier(affine(CLASSES)), "x"),
    "4.6 linear regression: the response is the input": (lambda: Regressor(affine(2)), "x"),
}


@pytest.mark.parametrize("case", CASES)
def test_fusing_the_response_is_mixing(case, x):
    make, site = CASES[case]
    model = make()
    y = torch.arange(ROWS) % CLASSES if isinstance(model, Classifier) else torch.randn(ROWS, 2, dtype=torch.float64)
    # Assumption 4.2 takes the expectation over the labels of a class; those of a regression are mixed.
    labels = "expected" if isinstance(model, Classifier) else "sample"
    fused = log_likelihood_and_gradients(model, x, y, "y", labels)
    mixed = log_likelihood_and_gradients(model, x, y, site, labels)
    torch.testing.assert_close(fused, mixed)


def test_it_is_not_so_beyond_the_theorems(x):
    """With a network below, fusing the response is another thing than mixing the inputs."""
    model, y = Regressor(network(2)), torch.randn(ROWS, 2, dtype=torch.float64)
    fused, _ = log_likelihood_and_gradients(model, x, y, "y")
    mixed, _ = log_likelihood_and_gradients(model, x, y, "x")
    assert (fused - mixed).abs().max() > 1e-3


class MeansPassOn(Messenger):
    def _pyro_sample(self, msg):
        if msg["name"] == "z":
            msg["value"] = msg["fn"].mean


@pytest.mark.parametrize("same_scale", [True, False])
def test_4_7_a_homoscedastic_gaussian_embedding_is_manifold_mixup(x, same_scale):
    encoder, decoder = network(5), torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()
    parameters = [*encoder.parameters(), *decoder.parameters()]
    y = torch.randn(ROWS, 2, dtype=torch.float64)

    def model(gaussian):
        with pyro.plate("data", ROWS):
            h = encoder(x)
            scale = 0.3 if same_scale else (0.3 * h).exp()
            z = (
                pyro.sample("z", dist.Normal(h, scale).to_event(1))
                if gaussian
                else pyro.deterministic("z", h, event_dim=1)
            )
            pyro.sample("y", dist.Normal(decoder(z), 0.5).to_event(1), obs=y)

    results = []
    for gaussian in (True, False):
        with MeansPassOn(), poutine.trace() as tracer, fuse(at="z", weight=WEIGHT):
            model(gaussian)
        tracer.trace.compute_log_prob()
        log_prob = tracer.trace.nodes["y"]["log_prob"]
        results.append((log_prob, torch.autograd.grad(log_prob.sum(), parameters)))
    if same_scale:
        torch.testing.assert_close(*results)
    else:
        assert (results[0][0] - results[1][0]).abs().max() > 1e-3


def process(method, alpha):
    density = build_density(METHODS[method], num_features=FEATURES, likelihood=Gaussian, widths=(8, 4)).double()
    torch.manual_seed(0)
    for parameter in density.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return ProbMix(density, at=METHODS[method].site, alpha=alpha).double()


@pytest.mark.parametrize("method", ["Mix", "M-Mix", "ProbMix"])
def test_small_alpha_is_maximum_likelihood(method, x):
    """As alpha goes to 0 the weight is 0 or 1, and each row stands for itself or its partner: ERM on average."""
    y = torch.randn(ROWS, 1, dtype=torch.float64)
    erm, rows = process("ERM", 0.1), torch.arange(ROWS)
    exact = ExpectedLogLikelihood()(erm, erm.guide)(x, y, rows)
    model = process(method, 1e-5)
    with torch.no_grad():
        draws = torch.stack([ExpectedLogLikelihood()(model, model.guide)(x, y, rows) for _ in range(500)])
    assert draws.std() > 0.1
    assert abs(draws.mean() - exact) < 4 * draws.std() / math.sqrt(500)


@pytest.mark.parametrize("method", ["Mix", "M-Mix", "ProbMix"])
def test_large_alpha_is_the_even_pool(method, x):
    y = torch.randn(ROWS, 1, dtype=torch.float64)
    model = process(method, 1e9)
    site: Any = METHODS[method].site
    trace = poutine.trace(fuse(model.density, at=site, weight=0.5)).get_trace(x, y)
    trace.compute_log_prob()
    (terms,) = LogExpectedLikelihood().terms(model, model.guide, x, y, torch.arange(ROWS))
    torch.testing.assert_close(terms, trace.nodes["y"]["log_prob"], atol=1e-3, rtol=1e-3)
