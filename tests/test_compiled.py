"""The compiled step gives what the eager one gives, for every method, or says why it cannot."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_probmix import METHODS, ExpectedLogLikelihood, LogExpectedLikelihood, ProbMix, fit
from tests.test_training import FEATURES, data, process, weights

QUICK = ("ProbMix", "LocM-ProbMix")
CASES = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in METHODS]


def both(model, x, y, **options):
    """The fits of two copies from one seed, compiled and eager."""
    compiled, eager = copy.deepcopy(model), copy.deepcopy(model)
    results = [fit(m, x, y, epochs=3, learning_rate=0.01, compile=m is compiled, **options) for m in (compiled, eager)]
    return (compiled, results[0]), (eager, results[1])


@pytest.mark.parametrize("name", CASES)
def test_compiled_and_eager_fits_agree(name):
    """In float64, after three epochs with clipping: the same random numbers, and rounding of the same operations."""
    x, y = (t.double() for t in data())
    model = process(name, x=x, dtype=torch.float64)
    (compiled, first), (eager, second) = both(model, x, y, validation=(x, y), clip_norm=1.0)
    torch.testing.assert_close(first.train_loss, second.train_loss, rtol=1e-9, atol=1e-9)
    for key, value in weights(compiled).items():
        torch.testing.assert_close(value, weights(eager)[key], rtol=1e-8, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "criterion", [ExpectedLogLikelihood(3, 2), LogExpectedLikelihood(2, 3), LogExpectedLikelihood(2, 1, scope="graph")]
)
def test_criteria_with_several_draws(criterion):
    x, y = (t.double() for t in data())
    model = process("M-ProbMix", dtype=torch.float64, alpha=torch.tensor([0.1, 0.5, 1.0]))
    (_, first), (_, second) = both(model, x, y, criterion=criterion)
    torch.testing.assert_close(first.train_loss, second.train_loss, rtol=1e-9, atol=1e-9)


class Branching(torch.nn.Module):
    """A density whose control flow depends on the data."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(FEATURES, 1)

    def forward(self, x, y=None):
        loc = self.linear(x)[:, 0]
        scale = 1.0 if loc.mean() > 0 else 2.0
        with pyro.plate("data", len(x)):
            return pyro.sample("y", dist.Normal(loc, scale), obs=y)


def test_a_model_that_cannot_be_compiled_runs_eagerly_with_one_warning(monkeypatch):
    x, y = data(1)
    model = ProbMix(Branching(), at="y", batch_size=8)
    with pytest.raises(ValueError, match=r"fit\(compile=True\) could not compile the step.*Try compile='auto'"):
        fit(model, x[0], y[0, :, 0], epochs=1, compile=True)
    with pytest.warns(RuntimeWarning, match="fit runs the step eagerly, since it could not compile it") as caught:
        monkeypatch.setattr("pyro_probmix.inference.compiled.repays", lambda *arguments: True)
        fit(model, x[0], y[0, :, 0], epochs=2, compile="auto")
    assert len(caught) == 1


def test_few_steps_are_not_compiled(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("compiled")

    monkeypatch.setattr("pyro_probmix.inference.compiled.compiled_gradient", refuse)
    x, y = data()
    fit(process("ProbMix"), x, y, epochs=2, compile="auto")


def test_unknown_choice():
    x, y = data()
    with pytest.raises(ValueError, match=r"compile='yes', expected True, False or 'auto'.*Try"):
        fit(process("ERM"), x, y, epochs=1, compile="yes")  # type: ignore[arg-type] # refused at run time
