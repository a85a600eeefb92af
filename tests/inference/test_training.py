"""The trainer: replicas that do not affect each other, best epochs, mistakes; a fit changes nothing but its model."""

import copy
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.poutine.messenger import Messenger
from torch import nn

from pyro_probmix import METHODS, ExpectedLogLikelihood, LogExpectedLikelihood, NearestNeighborGraph, ProbMix, fit, fuse
from pyro_probmix.graphs import Graph
from pyro_probmix.models import (
    Bernoulli,
    Categorical,
    ConditionalDensity,
    Gamma,
    Gaussian,
    HomoscedasticGaussian,
    PointEmbedding,
    Poisson,
    Stacked,
    build_density,
    initialise,
)

N, FEATURES, R = 24, 2, 3


def data(replicas=R, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(replicas, N, FEATURES, generator=g)
    return x, x.sum(-1, keepdim=True).sin() + 0.1 * torch.randn(replicas, N, 1, generator=g)


def process(name, replicas=R, x=None, batch_size=8, dtype=torch.float32, **options):
    method = METHODS[name]
    density = build_density(method, num_features=FEATURES, likelihood=Gaussian, widths=(8, 4), replicas=replicas)
    initialise(density, range(replicas or 1))
    graph = None if method.graph != "nearest" else NearestNeighborGraph(data(replicas)[0] if x is None else x, 3)
    return ProbMix(density.to(dtype), at=method.site, graph=graph, batch_size=batch_size, **options).to(dtype)


class GivenNoise(Messenger):
    """Gives the weights, and the embeddings' noise, instead of drawing them."""

    def __init__(self, lam, eps, edge):
        super().__init__()
        self.lam, self.eps, self.edge = lam, eps, edge

    def _pyro_sample(self, msg):
        if msg["name"] == "lambda":
            msg["value"] = self.lam
        if msg["name"] == "edge" and self.edge is not None:
            msg["value"] = self.edge
        if msg["name"] == "z" and not msg["is_observed"]:
            base = msg["fn"].base_dist
            msg["value"] = base.loc + base.scale * self.eps


@pytest.mark.parametrize("name", METHODS)
def test_replicas_together_are_fits_alone_step_by_step(name):
    x, y = (t.double() for t in data())
    together = process(name, x=x, dtype=torch.float64)
    alone = []
    for r in range(R):
        single = process(name, 1, x[r : r + 1], dtype=torch.float64)
        with torch.no_grad():
            for p, stacked in zip(single.parameters(), together.parameters(), strict=True):
                p.copy_(stacked[r : r + 1])
        alone.append(single)
    models = [together, *alone]
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.01) for m in models]
    width = together.density.encoder.out_features
    for step in range(5):
        torch.manual_seed(step)
        rows = torch.rand(R, N).argsort(-1)[:, :8]
        lam, eps = torch.rand(R, 8, dtype=torch.float64), torch.randn(R, 8, width, dtype=torch.float64)
        partners = None if together.graph is None else together.graph.edges(rows).sample()
        for k, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            own = slice(None) if k == 0 else slice(k - 1, k)
            noise = GivenNoise(lam[own], eps[own], None if partners is None else partners[own])
            optimizer.zero_grad()
            with noise:
                terms = ExpectedLogLikelihood().terms(model, model.guide, x[own], y[own], rows[own])
            torch.stack([-t.sum() for t in terms]).sum().backward()
            optimizer.step()
        for r in range(R):
            for p, stacked in zip(alone[r].parameters(), together.parameters(), strict=True):
                torch.testing.assert_close(stacked[r : r + 1], p, rtol=1e-9, atol=1e-11)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["ERM", "ProbMix", "M-ProbMix", "LocM-ProbMix"])
def test_a_replica_at_nan_changes_no_other_and_is_named(name):
    x, y = data()
    healthy, ill = process(name, batch_size=8), process(name, batch_size=8)
    options: Any = {"epochs": 6, "validation": (x, y), "names": ["split 4", "split 5", "split 6"], "clip_norm": 10.0}
    rates = torch.tensor([0.01, 0.01, 0.01])
    expected = fit(healthy, x, y, learning_rate=rates, **options)
    with torch.no_grad():
        ill.density.likelihood.linear.weight[1] = torch.nan
    with pytest.warns(RuntimeWarning, match=r"not finite for split 5 in epoch 1 .*Try"):
        result = fit(ill, x, y, learning_rate=rates, **options)
    assert result.diverged == ("split 5",)
    assert expected.diverged == ()
    for key, value in weights(ill).items():
        for r in (0, 2):
            torch.testing.assert_close(value[r], weights(healthy)[key][r], rtol=0, atol=0)
    torch.testing.assert_close(result.validation_nll[:, ::2], expected.validation_nll[:, ::2], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["ERM", "M-ProbMix"])
@pytest.mark.parametrize("likelihood", [Categorical, Bernoulli, Poisson])
def test_a_replica_at_nan_of_a_distribution_that_would_refuse_to_be_drawn(name, likelihood):
    x, _ = data()
    density: Any = build_density(
        METHODS[name],
        num_features=FEATURES,
        likelihood=likelihood,
        num_outputs=3 if likelihood is Categorical else 1,
        widths=(8, 4),
        replicas=R,
    )
    y = (x[..., 0] > 0).long() if likelihood is Categorical else (x[..., :1] > 0).float()
    with torch.no_grad():
        density.likelihood.linear.weight[1] = torch.nan
    model = ProbMix(density, at=METHODS[name].site, batch_size=8)
    with pytest.warns(RuntimeWarning, match="not finite for replica 1 in epoch 1"):
        result = fit(model, x, y, epochs=2, validation=(x, y))
    assert result.diverged == ("replica 1",)
    assert result.validation_nll.isfinite().all(0).tolist() == [True, False, True]


def test_a_replica_that_diverges_later_keeps_its_best_weights():
    x, y = data()
    model = process("ERM")
    with pytest.warns(RuntimeWarning, match=r"not finite for replica 1 in epoch \d+ \(kept the weights of epoch [1-9]"):
        result = fit(
            model,
            x,
            y,
            epochs=12,
            validation=(x, y),
            learning_rate=torch.tensor([0.01, 1.0, 0.01]),
            schedule=lambda epoch: torch.tensor([1e-30, 1e-30 if epoch < 5 else 1e30, 1e-30]) if epoch != 11 else 1.0,
        )
    assert result.diverged == ("replica 1",)
    assert all(p.isfinite().all() for p in model.parameters())


def test_learning_rates_of_each_replica():
    """A rate for each replica gives what a fit of all with that rate gives in that replica."""
    x, y = data()
    rates = torch.tensor([0.001, 0.01, 0.03])
    mixed = process("ProbMix")
    fit(mixed, x, y, epochs=5, learning_rate=rates)
    for r, rate in enumerate(rates.tolist()):
        same = process("ProbMix")
        fit(same, x, y, epochs=5, learning_rate=rate)
        for key, value in weights(same).items():
            torch.testing.assert_close(weights(mixed)[key][r], value[r], rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_positions_in_shared_rows_are_the_rows_of_each_replica(plain, weighted):
    x, y = (values[0] for values in data())
    rows = torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(r))[: N - 5] for r in range(R)])
    weights = torch.rand(R, N - 5) + 0.1 if weighted else None
    fits = []
    cases: list[tuple[Any, Any]] = [((x, y), {"rows": rows.numpy()}), ((x[rows], y[rows]), {})]
    for given, options in cases:
        model = process("M-ProbMix")
        result = fit(
            model, *given, epochs=3, weights=weights, validation=(x, y), plain=plain, compile="auto", **options
        )
        fits.append([result.train_loss, result.validation_nll, *model.state_dict().values()])
    for one, other in zip(*fits, strict=True):
        assert torch.equal(one, other)


def test_vectors_of_alpha_and_beta_train():
    x, y = data()
    model = process("M-ProbMix", alpha=torch.tensor([0.01, 0.1, 1.0]), beta=torch.tensor([0.0, 0.01, 0.1]))
    result = fit(model, x, y, epochs=30, validation=(x, y), learning_rate=0.01)
    assert result.diverged == () and (result.validation_nll[-1] < result.validation_nll[0]).all()


def test_gradients_are_clipped_in_each_replica():
    x, y = data()
    y[1] *= 1000  # one replica's gradients are far larger
    model = process("ERM")
    before = weights(model)
    fit(model, x, y, epochs=1, optimizer=torch.optim.SGD, learning_rate=1.0, clip_norm=1e-3)
    steps = 3
    for r in range(R):
        moved = sum((weights(model)[key][r] - before[key][r]).square().sum() for key in before).sqrt()
        assert 1e-4 < moved < steps * 1e-3 * 1.01


@pytest.mark.parametrize("compile", [False, True])
def test_gradients_of_another_layout_than_their_parameters(compile):
    """The fused optimizer walks through memory, where these networks' gradients lie transposed, or are one number expanded."""

    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 5 * 8).reshape(5, 8))
            self.shift = torch.nn.Parameter(torch.zeros(5, 3))

        def forward(self, h):
            return torch.einsum("...i,oi->...o", h, self.weight) + self.shift.sum()

    def trained(optimizer=None):
        torch.manual_seed(0)
        layers = torch.nn.Sequential(torch.nn.Linear(FEATURES, 8), torch.nn.Tanh(), Odd())
        density = ConditionalDensity(
            Stacked(layers, R), PointEmbedding(), torch.nn.Identity(), Gaussian(5, 1, R), replicas=R
        )
        model = ProbMix(density, at="y", batch_size=8)
        options = {} if optimizer is None else {"optimizer": optimizer}
        fit(model, *data(), epochs=10, learning_rate=0.01, compile=compile, **options)
        return weights(model)

    expected = trained(lambda parameters, lr: torch.optim.Adam(parameters, lr=lr, fused=False))
    for key, value in trained().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)


def test_best_epoch_of_each_replica_is_kept():
    x, y = data()
    seen = []
    model = process("M-Mix")
    result = fit(model, x, y, epochs=25, validation=data(seed=1), learning_rate=0.05, keep_last=True,
                 on_epoch=lambda epoch, best: seen.append(weights(model)))  # fmt: skip
    assert result.last is not None
    for key, value in seen[-1].items():
        assert torch.equal(result.last[key], value) and not torch.equal(weights(model)[key], value)
    best = result.validation_nll.argmin(0)
    assert (result.best_epoch == best + 1).all() and len(set(best.tolist())) > 1
    torch.testing.assert_close(result.best_nll, result.validation_nll.min(0).values)
    for key, value in weights(model).items():
        for r in range(R):
            torch.testing.assert_close(value[r], seen[best[r]][key][r], rtol=0, atol=0)


def test_patience_stops_each_replica_on_its_own():
    x, y = data()
    model = process("ERM")
    result = fit(model, x, y, epochs=500, validation=data(seed=1), learning_rate=0.05, patience=5)
    assert len(result.validation_nll) < 500
    assert len(result.validation_nll) == result.best_epoch.max() + 5


def test_a_schedule_scales_the_rate():
    x, y = data()
    halved, half = process("ProbMix"), process("ProbMix")
    fit(halved, x, y, epochs=4, learning_rate=0.02, schedule=lambda epoch: 0.5 if epoch % 2 else torch.tensor(0.5))
    fit(half, x, y, epochs=4, learning_rate=0.01)
    for key, value in weights(half).items():
        torch.testing.assert_close(weights(halved)[key], value, rtol=1e-5, atol=1e-7)


def test_fits_leave_each_other_alone():
    """Two models in one process, and one fitted twice with one seed, give what they give alone."""
    x, y = data()
    start_a, start_b = process("ProbMix"), process("M-ProbMix")
    first = copy.deepcopy(start_a)
    fit(first, x, y, epochs=5, learning_rate=0.01, seed=3)
    other = copy.deepcopy(start_b)
    fit(other, x, y, epochs=5, learning_rate=0.01, seed=3)
    again = copy.deepcopy(start_a)
    state = torch.get_rng_state()
    fit(again, x, y, epochs=5, learning_rate=0.01, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    assert not list(pyro.get_param_store().keys())
    assert all(p.grad is None for p in again.parameters())
    for key, value in weights(first).items():
        assert torch.equal(value, weights(again)[key])
    assert any(not torch.equal(v, weights(start_b)[k]) for k, v in weights(other).items())


def test_without_replicas():
    x, y = data(1)
    model = process("M-ProbMix", replicas=None, batch_size=None)
    result = fit(model, x[0], y[0], epochs=60, validation=(x[0], y[0]), learning_rate=0.02)
    assert result.best_nll.shape == (1,)
    assert result.validation_nll[-10:].mean() < result.validation_nll[:10].mean()


@pytest.mark.parametrize("criterion", [LogExpectedLikelihood(2, 3), ExpectedLogLikelihood(2)])
def test_criteria_train(criterion):
    x, y = data()
    result = fit(process("M-ProbMix"), x, y, epochs=60, learning_rate=0.01, criterion=criterion)
    assert (result.train_loss[-20:].mean(0) < result.train_loss[:5].mean(0)).all()


@pytest.mark.parametrize("name", ["Mix", "ProbMix", "M-ProbMix"])
@pytest.mark.parametrize("likelihood", [Gaussian, HomoscedasticGaussian, Categorical, Bernoulli, Poisson, Gamma])
def test_every_likelihood_trains_at_every_site(name, likelihood):
    x, _ = data()
    torch.manual_seed(0)
    outputs = 3 if likelihood is Categorical else 2
    responses = {
        Categorical: torch.randint(3, (R, N)),
        Bernoulli: torch.rand(R, N, 2).round(),
        Poisson: torch.poisson(2 * torch.ones(R, N, 2)),
        Gamma: torch.rand(R, N, 2) + 0.1,
    }
    y = responses.get(likelihood, torch.randn(R, N, 2))
    method = METHODS[name]
    density = build_density(
        method, num_features=FEATURES, likelihood=likelihood, num_outputs=outputs, widths=(8, 4), replicas=R
    )
    model = ProbMix(density, at=method.site, batch_size=8)
    result = fit(model, x, y, epochs=10, validation=(x, y), learning_rate=0.03)
    assert (result.validation_nll[1:].min(0).values < result.validation_nll[0]).all() and result.diverged == ()


def test_an_odd_number_of_rows_trains():
    x, y = data()
    for batch_size in (None, 8):
        result = fit(process("ProbMix", batch_size=batch_size), x[:, 1:], y[:, 1:], epochs=2)
        assert result.train_loss.isfinite().all()


def counts(likelihood):
    density = build_density(METHODS["ProbMix"], num_features=FEATURES, likelihood=likelihood, num_outputs=1, replicas=R)
    return ProbMix(density, at="y", batch_size=8)


class Own(nn.Module):
    """A user's density; its site is made by a function of a location, the features and the responses."""

    def __init__(self, sampled):
        super().__init__()
        self.sampled, self.linear = sampled, nn.Linear(FEATURES, 1)

    def forward(self, x, y=None):
        with pyro.plate("data", x.shape[0]):
            return self.sampled(self.linear(x)[..., 0], x, y)


def observed(make):
    return lambda loc, x, y: pyro.sample("y", make(loc), obs=y)


def test_labels_outside_of_the_support_of_a_users_density_are_refused():
    x = torch.randn(30, FEATURES)
    cases: list[tuple[Any, torch.Tensor]] = [
        (lambda loc: dist.Exponential(loc.exp()), torch.tensor(-1.0)),
        (lambda loc: dist.Poisson(loc.exp()), torch.tensor(0.5)),
        (lambda loc: dist.Bernoulli(logits=loc), torch.tensor(2.0)),
        (lambda loc: dist.Uniform(-10 - loc.exp(), 10 + loc.exp()), torch.tensor(99.0)),
    ]
    for distribution, bad in cases:
        y = torch.ones(30)
        assert fit(ProbMix(Own(observed(distribution)), at=None), x, y, epochs=2).train_loss.isfinite().all()
        y[29] = bad
        with pytest.raises(ValueError, match=r"outside of the support of \w+ \(training rows\).*Try"):
            fit(ProbMix(Own(observed(distribution)), at=None), x, y, epochs=2)

    # What is observed need not be y itself, and a distribution may be told not to check.
    y = torch.randint(1, 3, (30,)).float()
    shifted = Own(lambda loc, x, y: pyro.sample("y", dist.Bernoulli(logits=loc), obs=None if y is None else y - 1))
    assert fit(ProbMix(shifted, at="y"), x, y, epochs=2).train_loss.isfinite().all()
    with pytest.raises(ValueError, match="outside of the support of Bernoulli"):
        fit(ProbMix(shifted, at="y"), x, y + 1, epochs=2)
    lax = Own(observed(lambda loc: dist.Bernoulli(logits=loc, validate_args=False)))
    assert fit(ProbMix(lax, at=None), x, y / 4, epochs=2).train_loss.isfinite().all()

    def padded(loc, x, y):
        masked = dist.Exponential(loc.exp()[..., None]).mask(x > 0).to_event(1)
        return pyro.sample("y", masked, obs=y)

    assert fit(ProbMix(Own(padded), at=None), x, torch.where(x > 0, x, -1.0), epochs=2).train_loss.isfinite().all()

    def rows_and_coordinates(loc, x, y):
        masked = dist.Exponential(loc.exp()[..., None].expand(-1, 2)).mask(x > 0).to_event(1).mask(x[:, 0] < 9)
        return pyro.sample("y", masked, obs=y)

    both = Own(rows_and_coordinates)
    given = torch.where(x > 0, x, -1.0)
    assert fit(ProbMix(both, at=None), x, given, epochs=2).train_loss.isfinite().all()
    far = torch.cat([x, torch.full((1, FEATURES), 10.0)])  # a row that does not count, whatever its label
    assert fit(ProbMix(both, at=None), far, torch.cat([given, torch.full((1, 2), -1.0)]), epochs=2).diverged == ()
    with pytest.raises(ValueError, match="masks the response 'y' of some validation rows"):
        fit(ProbMix(both, at=None), x, given, epochs=2, validation=(far[-2:], torch.ones(2, 2)))
    with pytest.raises(ValueError, match="outside of the support of Exponential"):
        fit(ProbMix(both, at=None), x, torch.where(x > 0, -1.0, 1.0), epochs=2)

    def standardised(loc, x, y):  # which a single row has not
        return pyro.sample("y", dist.Normal(loc, 1.0), obs=None if y is None else (y - y.mean()) / y.std())

    assert fit(ProbMix(Own(standardised), at="y", batch_size=4), x[:29], x[:29, 0], epochs=1).diverged == ()

    def masked(loc, x, y):
        with pyro.poutine.mask(mask=x[:, 0] < 0):
            return pyro.sample("y", dist.Exponential(loc.exp()), obs=y)

    y = torch.where(x[:, 0] < 0, 1.0, -9.0)  # any value in the place of a label that is missing
    assert fit(ProbMix(Own(masked), at="y"), x, y, epochs=2).train_loss.isfinite().all()
    with pytest.raises(ValueError, match=r"masks the response 'y' of some validation rows.*Try"):
        fit(ProbMix(Own(masked), at="y"), x, y, epochs=2, validation=(x, y))
    labelled = x[:, 0] < 0
    result = fit(ProbMix(Own(masked), at="y"), x, y, epochs=2, validation=(x[labelled], y[labelled]))
    assert result.validation_nll.isfinite().all()


def test_what_a_fit_cannot_train_is_refused():
    x, y = torch.randn(20, FEATURES), torch.randn(20)

    def without_plate(loc, x, y):
        return pyro.sample("y", dist.Normal(loc, 1.0), obs=y)

    def parameter(loc, x, y):
        return pyro.sample("y", dist.Normal(loc, pyro.param("spread", torch.tensor(1.0))), obs=y)

    class Global(Own):
        def forward(self, x, y=None):
            shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
            with pyro.plate("data", len(x)):
                return pyro.sample("y", dist.Normal(self.linear(x)[..., 0] + shift, 1.0), obs=y)

    class Bare(Own):
        def forward(self, x, y=None):
            return without_plate(self.linear(x)[..., 0], x, y)

    class Alone(Own):
        def forward(self, x):  # type: ignore[override] # the mistake
            return super().forward(x)

    class Grouped(Own):
        def forward(self, x, y=None):
            with pyro.plate("groups", 5):
                level = pyro.sample("level", dist.Normal(0.0, 1.0))
            with pyro.plate("data", len(x)):
                return pyro.sample("y", dist.Normal(self.linear(x)[..., 0] + level[..., 0], 1.0), obs=y)

    for density, sentence in (
        (Global(None), "the latent 'shift' outside of the rows' plate.*Try SVI"),
        (Grouped(None), "the latent 'level' outside of the rows' plate.*Try SVI"),
        (Own(parameter), "the parameter 'spread' in Pyro's store, which fit would not train.*Try"),
        (Bare(None), "the response 'y' is in no plate at dim=-1.*Try"),
        (
            Alone(observed(lambda loc: dist.Normal(loc, 1.0))),
            r"the density refuses two of the training rows.*Try density\(",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            fit(ProbMix(density, at="y"), x, y, epochs=1)
    assert "spread" not in pyro.get_param_store()
    other = ProbMix(Own(observed(lambda loc: dist.Normal(loc, 1.0))), at="y", plate="rows")
    with pytest.raises(
        ValueError, match=r"the response 'y' is in the plate 'data', which ProbMix\(plate=.*Try plate='data'"
    ):
        fit(other, x, y, epochs=1)


@pytest.mark.parametrize("plate", [None, "rows", ["rows", "groups"]])
def test_rows_left_of_another_plate_are_refused_by_their_name(plate):
    class Outputs(Own):
        def forward(self, x, y=None):
            with pyro.plate("rows", len(x), dim=-2), pyro.plate("outputs", 3, dim=-1):
                return pyro.sample("y", dist.Normal(self.linear(x), 1.0), obs=y)

    x, y, process = torch.randn(20, FEATURES), torch.randn(20, 3), ProbMix(Outputs(None), at="y", plate=plate)
    with pytest.raises(ValueError, match=r"'y' has its rows in the plate 'rows' at dim=-2, .*\('outputs'\).*or SVI"):
        fit(process, x, y, epochs=1)
    if plate != ["rows", "groups"]:
        assert Trace_ELBO().loss(process, process.guide, x, y) > 0


def test_shared_validation_rows_as_many_as_replicas():
    x, y = (t[0] for t in data())
    result = fit(process("M-ProbMix"), x, y, epochs=2, validation=(x[:R], y[:R]))
    rows = fit(process("M-ProbMix"), x, y, epochs=2, validation=(x[:R].expand(R, -1, -1), y[:R].expand(R, -1, -1)))
    torch.testing.assert_close(result.validation_nll, rows.validation_nll)


def test_what_does_not_fit_is_refused_before_training():
    x, y = data()
    model = process("ProbMix")
    bad_x, bad_y = x.clone(), y.clone()
    bad_x[0, 3, 1], bad_y[1, 2, 0] = torch.nan, torch.inf
    cases: list[tuple[tuple[Any, torch.Tensor], dict[str, Any], str]] = [
        ((bad_x, y), {}, "features that are NaN or infinite"),
        ((x, bad_y), {}, "responses that are NaN or infinite"),
        ((x, y), {"validation": (bad_x, y)}, r"NaN or infinite \(validation rows\)"),
        ((x, y), {"validation": (x, y[..., 0])}, "validation rows"),
        ((x[..., :1], y), {}, r"the density refuses two of the training rows.*Try num_features"),
        ((x, y), {"epochs": 1.5}, "epochs=1.5, expected an integer"),
        ((x, y), {"criterion": Trace_ELBO()}, "criterion Trace_ELBO, expected a pyro_probmix.inference.Criterion.*Try"),
        ((x, y[..., 0]), {}, r"responses of shape .* expected"),
        ((x, y), {"epochs": 0}, r"epochs=0, expected a value above 0"),
        ((x, y), {"learning_rate": -0.1}, "expected values above 0"),
        ((x, y), {"learning_rate": torch.ones(2)}, r"learning rates of shape \(2,\)"),
        ((x, y), {"patience": 3}, "patience but no validation rows"),
        ((x, y), {"names": ["a"]}, "1 names, expected one for each of the 3"),
        ((x, y), {"clip_norm": 0.0}, "clip_norm=0.0"),
        ((x, y), {"clip_norm": "a"}, r"clip_norm='a', expected a value above 0.*Try"),
        ((x, y), {"num_samples": 2.0}, r"num_samples=2.0, expected an integer.*Try"),
        ((x, y), {"num_samples": 0}, r"num_samples=0, expected a value above 0.*Try"),
        ((x, y), {"learning_rate": "a"}, r"learning_rate='a', expected a number or a tensor.*Try"),
        ((x, y), {"schedule": 0.5}, r"schedule=0.5, expected a function.*Try"),
        ((x, y), {"weights": [1.0]}, r"weights of shape \(1,\), expected.*Try"),
        ((x, y), {"weights": ["a"]}, r"weights of type list, expected a tensor.*Try"),
        ((x, y), {"rows": [[0, 1]] * R}, r"rows beside x or y of each replica, expected.*Try rows=None"),
        ((x[0], y[0]), {"rows": [[0, 1]]}, r"rows of shape \(1, 2\) and torch.int64, expected integers.*\(3, n\).*Try"),
        ((x[0], y[0]), {"rows": [[0.0, 1.0]] * R}, r"rows of shape \(3, 2\) and torch.float.*, expected integers.*Try"),
        ((x[0], y[0]), {"rows": [[0, N]] * R}, r"rows from 0 to 24, expected positions from 0 to 23.*Try rows=None"),
        ((x, y), {"seed": 0.5}, r"seed=0.5, expected an integer.*Try"),
        ((x, y), {"names": 3}, r"names=3, expected a name for each replica.*Try"),
        ((x, y), {"compile": "yes"}, r"compile='yes', expected True, False or 'auto'.*Try"),
        ((x, y), {"keep_last": 1}, r"keep_last=1, expected True or False.*Try"),
        ((x, y), {"bf16": None}, r"bf16=None, expected True or False.*Try"),
        ((x, y), {"validation": torch.distributions.Normal(0.0, 1.0)}, r"validation rows of type Normal.*Try"),
        ((x.to_sparse(), y), {}, r"x as a sparse tensor, expected a dense one.*Try"),
        ((x, y + 1j), {}, r"y of torch.complex64, expected real numbers.*Try"),
        ((np.ma.masked_greater(x.numpy(), 0.0), y), {}, r"x with masked values, expected numbers.*Try"),
        (
            (x, y),
            {"criterion": ExpectedLogLikelihood},
            r"the class ExpectedLogLikelihood.*Try criterion=Expected.*\(\)",
        ),
        (
            (x, y),
            {"criterion": Trace_ELBO},
            r"the criterion Trace_ELBO, expected a pyro_probmix.inference.Criterion.*Try",
        ),
        (
            (x, y),
            {"optimizer": pyro.optim.ClippedAdam({"lr": 0.1})},
            r"expected a class of torch.optim.*Try optimizer=",
        ),
        ((x, y), {"optimizer": torch.optim.SGD([torch.zeros(1)], lr=1.0)}, r"the optimizer SGD.*not callable.*Try"),
        ((x, y), {"optimizer": lambda parameters, lr: None}, r"which makes a NoneType, expected.*Try optimizer="),
        ((x[:, :0], y[:, :0]), {}, r"x of shape \(3, 0, 2\).*training rows\), expected at least one row.*Try"),
        ((x, y), {"validation": (x[:, :0], y[:, :0])}, r"validation rows\), expected at least one row.*Try"),
    ]
    for args, options, sentence in cases:
        with pytest.raises(ValueError, match=sentence):
            fit(model, *args, **{"epochs": 1, **options})
    with pytest.raises(ValueError, match="outside of the support of Poisson"):
        fit(counts(Poisson), x, y, epochs=1)
    with pytest.raises(ValueError, match="outside of the support of Categorical"):
        fit(counts(lambda i, o, r: Categorical(i, 3, r)), x, torch.full((R, N), 7), epochs=1)
    unstacked = process("ProbMix")
    unstacked.density.likelihood.register_parameter("extra", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(ValueError, match=r"'density.likelihood.extra' has the shape \(1,\).*Try"):
        fit(unstacked, x, y, epochs=1)


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_a_fit_has_gradients_wherever_it_is_called(without):
    x, y = data()
    alone, within = process("M-ProbMix"), process("M-ProbMix")
    expected = fit(alone, x, y, epochs=2).train_loss
    with without():
        rows = x.clone(), y.clone()
        assert torch.equal(fit(within, *rows, epochs=2).train_loss, expected)
        made = process("M-ProbMix")
    if without is torch.inference_mode:
        with pytest.raises(ValueError, match=r"weights .* made under torch.inference_mode.*, expected others. Try"):
            fit(made, x, y, epochs=2)


@pytest.mark.parametrize("wrap", [lambda density: density, lambda density: fuse(density, at="y", weight=0.5), str])
def test_what_is_no_process_is_refused(wrap):
    given: Any = wrap(process("ERM").density)
    with pytest.raises(
        ValueError, match=rf"fit got a {type(given).__name__}, expected a ProbMix. Try ProbMix\(density"
    ):
        fit(given, *data(), epochs=1)


class Shifted(Graph):
    """Partners that are some rows further on, and no rows at all from the last ones."""

    def __init__(self, shift, change=lambda partners: partners):
        super().__init__(N)
        self.shift, self.change = shift, change

    def partners(self, anchors):
        return self.change(anchors + self.shift)

    def log_partner_prob(self, i, j):
        return torch.zeros(i.shape)


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        (Shifted(1), rf"rows must lie in 0, ..., {N - 1} .*Shifted.partners gave {N}. Try"),
        (Shifted(-1), r"Shifted.partners gave -1. Try"),
        (Shifted(0, torch.Tensor.double), r"partners gave torch.float64 .*expected a row number for each anchor.*Try"),
        (Shifted(0, lambda j: j[..., :1]), r"partners gave .*of shape .*expected a row number for each anchor.*Try"),
    ],
)
@pytest.mark.parametrize("batch_size", [None, 8])
def test_partners_that_are_no_rows_are_refused_before_training(graph, sentence, batch_size):
    model = process("ProbMix", batch_size=batch_size)
    model.graph = graph
    with pytest.raises(ValueError, match=sentence):
        fit(model, *data(), epochs=1)
    with pytest.raises(ValueError, match=sentence):
        graph.edges(torch.arange(N - 1, -1, -1)).sample(), graph.edges(torch.arange(N)).sample()


@pytest.mark.parametrize(
    "form",
    [
        lambda v: v.numpy(),
        lambda v: v.double(),
        lambda v: v.tolist(),
        lambda v: v.numpy().astype(">f4"),
        lambda v: v.numpy().astype(object),
        lambda v: np.flip(np.flip(v.numpy(), 0).copy(), 0),
        lambda v: v.clone().requires_grad_(),
    ],
    ids=["array", "double", "list", "big-endian", "objects", "reversed", "gradient"],
)
def test_arrays_lists_and_other_precisions_are_taken(form):
    x, y = data()
    weights = torch.rand(x.shape[1])
    options: dict[str, Any] = {
        "epochs": 2,
        "learning_rate": torch.tensor([0.01, 0.02, 0.03]),
        "validation": (x, y),
        "weights": weights,
    }
    torch.manual_seed(0)
    wanted = fit(process("ProbMix"), x, y, **options)
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "learning_rate": np.array([0.01, 0.02, 0.03]),
        "validation": [form(x), form(y)],
        "weights": form(weights),
    }
    found = fit(process("ProbMix"), form(x), form(y), epochs=2, **given)
    torch.testing.assert_close(found.train_loss, wanted.train_loss)
    torch.testing.assert_close(found.validation_nll, wanted.validation_nll)


def test_a_density_of_the_users_own_with_other_site_names():
    """The validation NLL is the mixture over draws at the fused site, whatever its name."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(FEATURES, 2)

        def forward(self, x, y=None):
            with pyro.plate("rows", len(x)):
                h = pyro.sample("h", dist.Normal(self.linear(x), 1.0).to_event(1))
                pyro.sample("outcome", dist.Normal(h.sum(-1), 0.5), obs=y)

    x, y = data(1)
    model = ProbMix(Model(), at="h", batch_size=8)
    few, many = (
        fit(model, x[0], y[0, :, 0], epochs=2, validation=(x[0], y[0, :, 0]), num_samples=s).validation_nll[-1]
        for s in (1, 200)
    )
    assert many < few  # log of a mean of 200 draws, not of one


@pytest.mark.gpu
@pytest.mark.parametrize("name", METHODS)
def test_no_synchronisation_on_cuda(name):
    x, y = (t.cuda() for t in data())
    model = process(name, x=x.cpu()).cuda()
    if model.graph is not None:
        model.graph = model.graph.to(x.device)
    fit(model, x, y, epochs=1)  # warms up kernels and caches
    criterion, optimizer = ExpectedLogLikelihood(), torch.optim.Adam(model.parameters())
    rows = torch.rand(R, N, device="cuda").argsort(-1)[:, :8]
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pyro.validation_enabled(False):
            for _ in range(3):
                loss = -torch.stack([t.sum() for t in criterion.terms(model, model.guide, x, y, rows)]).sum()
                loss.backward()
                optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("name", METHODS)
def test_fit_on_cuda(name):
    x, y = (t.cuda() for t in data())
    model = process(name, x=x, alpha=torch.tensor([0.01, 0.1, 1.0])).cuda()
    rates = torch.tensor([0.01, 0.02, 0.01])
    result = fit(model, x, y, epochs=60, validation=(x, y), learning_rate=rates, clip_norm=10.0, patience=50)
    assert (result.validation_nll[-1] < result.validation_nll[0]).all() and result.diverged == ()
