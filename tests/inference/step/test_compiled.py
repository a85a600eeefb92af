"""The compiled step gives what the eager one gives, for every method, or says why it cannot."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_probmix import METHODS, ExpectedLogLikelihood, LogExpectedLikelihood, ProbMix, fit
from pyro_probmix.inference.step import programs
from tests.inference.test_training import FEATURES, data, process, weights

QUICK = ("ProbMix", "LocM-ProbMix")
CASES = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in METHODS]


def both(model, x, y, **options):
    """The fits of two copies from one seed, compiled and eager."""
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    results = [fit(m, x, y, epochs=3, learning_rate=0.01, compile=m is first, **options) for m in (first, second)]
    return (first, results[0]), (second, results[1])


@pytest.mark.parametrize("name", CASES)
def test_compiled_and_eager_fits_agree(name):
    """In float64, after three epochs with clipping: the same random numbers, and rounding of the same operations."""
    x, y = (t.double() for t in data())
    model = process(name, x=x, dtype=torch.float64)
    (model, first), (eager, second) = both(model, x, y, validation=(x, y), clip_norm=1.0)
    torch.testing.assert_close(first.train_loss, second.train_loss, rtol=1e-9, atol=1e-9)
    for key, value in weights(model).items():
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
        monkeypatch.setattr("pyro_probmix.inference.step.compiled.repays", lambda *arguments: True)
        fit(model, x[0], y[0, :, 0], epochs=2, compile="auto")
    assert [warning.filename for warning in caught] == [__file__]  # the line that called fit


class Own(torch.nn.Module):
    """A Pyro model of a user's: a count, an embedding, dropout, and a branch that no number decides."""

    def __init__(self, noisy):
        super().__init__()
        self.noisy = noisy
        self.lower = torch.nn.Sequential(torch.nn.Linear(FEATURES, 6), torch.nn.Tanh(), torch.nn.Dropout(0.3))
        self.spread, self.rate = torch.nn.Linear(6, 6), torch.nn.Linear(6, 1)

    def forward(self, x, y=None):
        with pyro.plate("rows", x.shape[-2], dim=-1):
            hidden = self.lower(x)
            if self.noisy:
                scale = torch.nn.functional.softplus(self.spread(hidden))
                hidden = pyro.sample("hidden", dist.Normal(hidden, scale).to_event(1))
            rate = self.rate(hidden).squeeze(-1).exp()
            return pyro.sample("count", dist.Poisson(rate), obs=y)


@pytest.mark.parametrize(("at", "noisy"), [("count", False), ("count", True), ("hidden", True)])
@pytest.mark.parametrize("compiler", ["interpreted", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_users_own_model_compiled_is_the_eager_one(at, noisy, compiler, monkeypatch):
    """The trace of the whole step, run as it is or by the compiler."""
    if compiler == "interpreted":
        monkeypatch.setattr(
            torch._inductor, "standalone_compile", lambda module, *_, **__: torch.fx.Interpreter(module).run
        )
        monkeypatch.setattr(programs, "_compiled", {})
    torch.manual_seed(2)
    x = torch.randn(40, FEATURES, dtype=torch.float64)
    y = torch.poisson(x[:, 0].exp())
    model = ProbMix(Own(noisy).double(), at=at, batch_size=10, alpha=0.5)
    (model, first), (eager, second) = both(model, x, y, clip_norm=1.0)
    torch.testing.assert_close(first.train_loss, second.train_loss, rtol=1e-9, atol=1e-9)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, eager.state_dict()[key], rtol=1e-8, atol=1e-9)
    assert not torch.allclose(first.train_loss[0], first.train_loss[-1])


def test_few_steps_are_not_compiled(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("compiled")

    monkeypatch.setattr("pyro_probmix.inference.step.compiled.compiled_gradient", refuse)
    x, y = data()
    fit(process("ProbMix"), x, y, epochs=2, compile="auto")


def test_unknown_choice():
    x, y = data()
    with pytest.raises(ValueError, match=r"compile='yes', expected True, False or 'auto'.*Try"):
        fit(process("ERM"), x, y, epochs=1, compile="yes")  # type: ignore[arg-type] # refused at run time


def test_another_chunk_of_replicas_is_not_compiled_again(monkeypatch):
    """Other weights and rows of the same shapes run by the same graphs, which read them anew."""
    compilations = []

    def standalone_compile(module, example, **options):
        compilations.append(module)
        return torch.fx.Interpreter(module).run

    monkeypatch.setattr(torch._inductor, "standalone_compile", standalone_compile)
    monkeypatch.setattr(programs, "_compiled", {})
    for chunk in range(3):
        x, y = data(seed=chunk)
        model = process("ProbMix")
        eager = copy.deepcopy(model)
        result = fit(model, x, y, epochs=2, validation=(x, y), compile=True, seed=chunk)
        assert len(compilations) == 2  # the step and the validation
        expected = fit(eager, x, y, epochs=2, validation=(x, y), compile=False, seed=chunk)
        assert torch.equal(result.validation_nll, expected.validation_nll)


RUN = """
import os, torch
from pyro_probmix import fit
from tests.inference.test_training import data, process

torch.set_num_threads(1)
x, y = data()
start = sum(os.times()[:4])
result = fit(process("ProbMix"), x, y, epochs=1, validation=(x, y), compile=True)
print(sum(os.times()[:4]) - start, float(result.best_nll[0]))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_second_run_finds_the_compiled_code_on_disk(tmp_path):
    """Nothing new is compiled, which takes a fraction of the time, and the numbers are the same bit for bit."""
    root = Path(__file__).resolve().parents[3]
    runs, libraries = [], []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", RUN],
            cwd=root,
            env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        runs.append([float(word) for word in done.stdout.split()])
        libraries.append({path.relative_to(tmp_path) for path in tmp_path.rglob("*.so")})
    (first, nll), (second, again) = runs
    assert libraries[0] and libraries[0] == libraries[1]
    assert second < first / 2 and nll == again
