"""The traced step, run as it is without a compiler, is the eager step: same random numbers, same operations."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import nn

from pyro_probmix import (
    METHODS,
    ExpectedLogLikelihood,
    LabelKernelGraph,
    LogExpectedLikelihood,
    ProbMix,
    WeightedGraph,
    fit,
)
from pyro_probmix.inference.step import programs
from pyro_probmix.inference.step.adam import FusedStep, fused_adam
from pyro_probmix.models import Categorical, Gamma, Gaussian, build_density, initialise
from tests.inference.test_training import FEATURES, N, R, data, process


@pytest.fixture
def traced_only(monkeypatch):
    monkeypatch.setattr(programs, "_compile", lambda graph, varying: graph.module)


def assert_equal_fits(make, x, y, **options):
    """Equal in every bit: the traced operations are the eager ones."""
    fits = []
    for compile in (False, True):
        torch.manual_seed(0)
        model = make()
        fits.append((model, fit(model, x, y, epochs=3, learning_rate=0.01, compile=compile, **options)))
    (eager, first), (traced, second) = fits
    assert torch.equal(first.train_loss, second.train_loss)
    assert torch.equal(first.best_nll, second.best_nll)
    for key, value in eager.state_dict().items():
        assert torch.equal(value, traced.state_dict()[key]), key


@pytest.mark.parametrize("name", METHODS)
def test_methods(traced_only, name):
    x, y = data()
    assert_equal_fits(lambda: process(name, x=x), x, y)


@pytest.mark.parametrize("name", ["M-ProbMix", "LocProbMix"])
def test_without_replicas(traced_only, name):
    x, y = data(1)
    assert_equal_fits(lambda: process(name, replicas=None, x=x[0], batch_size=None), x[0], y[0])


CRITERIA = [
    ExpectedLogLikelihood(4, 3),
    LogExpectedLikelihood(4, 3),
    LogExpectedLikelihood(2, 3, scope="graph"),
    ExpectedLogLikelihood(3),
]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_criteria(traced_only, criterion):
    x, y = data()
    for name in ("M-ProbMix", "LocProbMix"):
        assert_equal_fits(lambda name=name: process(name, x=x), x, y, criterion=criterion)


OPTIONS = {
    "beta": {"beta": 0.1},
    "beta of each replica": {"beta": torch.tensor([0.0, 0.1, 1.0]), "alpha": torch.tensor([0.1, 1.0, 2.0])},
    "expected labels": {"beta": 0.1, "labels": "expected"},
    "linear pool": {"pool": "linear"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_of_the_process(traced_only, options):
    x, y = data()
    assert_equal_fits(lambda: process("ProbMix", **options), x, y)


def density(name="ProbMix", likelihood=Gaussian, outputs=1, dropout=0.0):
    made = build_density(
        METHODS[name], num_features=FEATURES, likelihood=likelihood, num_outputs=outputs, widths=(8, 4), replicas=R,
        dropout=dropout,
    )  # fmt: skip
    initialise(made, range(R))
    return made


def test_dropout(traced_only):
    """Trained with, validated without."""
    x, y = data()
    assert_equal_fits(lambda: ProbMix(density("M-ProbMix", dropout=0.3), at="z", batch_size=8), x, y, validation=(x, y))


def test_other_likelihoods(traced_only):
    x, y = data()
    classes = (y[..., 0] > 0).long()
    assert_equal_fits(lambda: ProbMix(density(likelihood=Categorical, outputs=2), at="y", batch_size=8), x, classes)
    assert_equal_fits(lambda: ProbMix(density(likelihood=Gamma), at="y", batch_size=8), x, y.exp())


def test_other_graphs(traced_only):
    """Their tables are inputs of the traced step, not constants in it."""
    x, y = data()
    weights = torch.rand(N, N)
    for graph in (LabelKernelGraph(y, 0.5), WeightedGraph(weights)):
        assert_equal_fits(lambda graph=graph: ProbMix(density(), at="y", graph=graph, batch_size=8), x, y)


class Normalised(nn.Module):
    """Someone's own network, whose buffers change at each step, with a latent of each row."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x, y=None):
        with pyro.plate("data", len(x)):
            shift = pyro.sample("shift", dist.Normal(torch.zeros(()), 0.1))[..., None]
            return pyro.sample("y", dist.Normal(self.net(x) + shift, self.log_scale.exp()).to_event(1), obs=y)


class AsPyroModule(PyroModule):
    """A density whose attributes are ``param`` and ``sample`` statements."""

    def __init__(self):
        super().__init__()
        linear: Any = PyroModule[nn.Linear]
        self.net = linear(FEATURES, 1)
        self.scale: Any = PyroParam(torch.ones(1), constraint=dist.constraints.positive)
        self.shift: Any = PyroSample(dist.Normal(torch.zeros(()), 0.1))

    def forward(self, x, y=None):
        with pyro.plate("data", len(x)):
            shift = self.shift[..., None]
            return pyro.sample("y", dist.Normal(self.net(x) + shift, self.scale).to_event(1), obs=y)


@pytest.mark.parametrize("own", [Normalised, AsPyroModule])
def test_models_of_the_user(traced_only, own):
    x, y = data(1)
    assert_equal_fits(lambda: ProbMix(own(), at="y", batch_size=8), x[0], y[0])
    assert not list(pyro.get_param_store().keys())


class Annealed(Normalised):
    """A density that counts its calls in Python, which a traced step would not do."""

    calls = 0

    def forward(self, x, y=None):
        self.calls += 1
        with pyro.plate("data", len(x)):
            return pyro.sample("y", dist.Normal(self.net(x), 1 + 1 / self.calls).to_event(1), obs=y)


def test_state_outside_of_torch_is_noticed(traced_only):
    x, y = data(1)
    with pytest.raises(ValueError, match="change from run to run"):
        fit(ProbMix(Annealed(), at="y", batch_size=8), x[0], y[0], epochs=1, compile=True)


def test_the_random_state_outside_is_untouched(traced_only):
    x, y = data()
    model = process("LocM-ProbMix", x=x)
    state = torch.get_rng_state()
    fit(model, x, y, epochs=1, compile=True)
    assert torch.equal(state, torch.get_rng_state())


def test_fused_step_is_adams():
    """Through changing rates, and gradients that come late or stay away."""
    steps = []
    for lean in (False, True):
        parameters = [nn.Parameter(torch.ones(3, 2, dtype=torch.float64) * k) for k in (1, 2, 3)]
        optimizer = fused_adam(parameters, lr=0.1)
        stepper = FusedStep(optimizer) if lean else optimizer
        generator = torch.Generator().manual_seed(0)
        for step in range(8):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
            for k, parameter in enumerate(parameters):
                parameter.grad = torch.randn(3, 2, dtype=torch.float64, generator=generator)
                if (k == 2 and step < 3) or (k == 0 and step == 5):
                    parameter.grad = None
            stepper.step()
        steps.append(parameters)
    for expected, got in zip(*steps, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
