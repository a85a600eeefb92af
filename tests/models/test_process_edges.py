"""The process with k rows to an edge, or with the rows' own likelihood beside the fused one (RegMixup)."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import ClippedAdam
from pyro.poutine.messenger import Messenger

from pyro_probmix import ExpectedLogLikelihood, LogExpectedLikelihood, Method, NearestNeighborGraph, ProbMix, fit, fuse
from pyro_probmix.inference.data.ranks import Ranks
from pyro_probmix.models import METHODS, Categorical, Gaussian, build_density, initialise
from tests.inference.step.test_programs import assert_equal_fits
from tests.inference.step.test_programs import traced_only as traced_only  # a fixture

N, FEATURES, R = 24, 2, 3
SITES = {
    "x": Method("x", "complete"),
    "z": Method("z", "complete"),
    "z ~": Method("z", "nearest", variance="shared"),
    "y": Method("y", "nearest"),
}


def data(replicas: int | None = None):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(*(() if replicas is None else (replicas,)), N, FEATURES, generator=g)
    return x, x.sum(-1, keepdim=True).sin()


def process(name, replicas=None, x=None, dtype=torch.float32, likelihood=Gaussian, outputs=1, **options):
    method = SITES[name]
    density = build_density(
        method, num_features=FEATURES, likelihood=likelihood, num_outputs=outputs, widths=(8, 4), replicas=replicas
    )
    initialise(density, range(replicas or 1))
    graph = NearestNeighborGraph(data(replicas)[0], 3) if method.graph == "nearest" else None
    return ProbMix(density.to(dtype), at=method.site, graph=graph, **options).to(dtype)


# k rows to an edge


def test_sites_of_a_process_of_three():
    x, y = data()
    trace = poutine.trace(process("z ~", num_fused=3, batch_size=9)).get_trace(x, y)
    assert trace.nodes["edge"]["value"].shape == (3, 3)
    assert trace.nodes["lambda"]["value"].shape == (9, 3)
    assert trace.nodes["z"]["value"].shape == (9, 8)
    assert trace.nodes["y"]["scale"] == N / 9
    edge, weights = trace.nodes["edge"]["value"], trace.nodes["lambda"]["value"]
    expected = (weights * y[edge, 0].repeat(3, 1)).sum(-1)
    torch.testing.assert_close(trace.nodes["y"]["value"][:, 0], expected)
    neighbours = torch.cdist(x, x).fill_diagonal_(math.inf).topk(3, largest=False).indices
    assert bool((neighbours[edge[:, :1]] == edge[:, 1:, None]).any(-1).all())


def test_all_rows_are_padded_to_whole_edges():
    x, y = data()
    trace = poutine.trace(process("y", num_fused=5)).get_trace(x, y)
    assert trace.nodes["y"]["value"].shape == (25, 1) and trace.nodes["edge"]["value"].shape == (5, 5)
    result = fit(process("y", num_fused=5), x, y, epochs=2)
    assert bool(result.train_loss.isfinite().all())


def test_alpha_of_each_replica_shapes_all_weights():
    x, y = data()
    alpha = torch.tensor([0.01, 1.0, 100.0])
    model = process("x", R, num_fused=3, alpha=alpha)
    drawn: Any = [poutine.trace(model).get_trace(x, y).nodes["lambda"]["value"] for _ in range(100)]
    weights = torch.stack(drawn)  # [draws, R, B, 3]
    variance = weights.var((0, 2))
    a = alpha[:, None]
    torch.testing.assert_close(variance, (a * 2 * a / ((3 * a) ** 2 * (3 * a + 1))).expand(R, 3), rtol=0.1, atol=1e-4)
    torch.testing.assert_close(weights.mean((0, 2)), torch.full((R, 3), 1 / 3), rtol=0.1, atol=0.0)


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize(
    "options", [{"num_fused": 3, "batch_size": 9}, {"add_unfused_rows": True, "batch_size": 8}], ids=["3", "clean"]
)
def test_the_traced_step_is_the_eager_one(traced_only, name, options):
    x, y = data(R)
    assert_equal_fits(lambda: process(name, R, **options), x, y)
    criterion = LogExpectedLikelihood(3, 2)
    assert_equal_fits(lambda: process(name, R, beta=0.01, **options), x, y, criterion=criterion)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"num_fused": 3, "batch_size": 9}, {"add_unfused_rows": True, "batch_size": 8}], ids=["3", "clean"]
)
def test_the_compiled_step_is_the_eager_one(options):
    x, y = (values.double() for values in data(R))
    fits = [
        fit(process("z ~", R, dtype=torch.float64, **options), x, y, epochs=3, compile=compiled)
        for compiled in (False, True)
    ]
    torch.testing.assert_close(fits[0].train_loss, fits[1].train_loss, rtol=1e-9, atol=1e-9)


def test_a_rank_evaluates_whole_edges_of_the_batch():
    rows = torch.arange(12)
    parts = rows.reshape(3, 4)
    for index in (0, 1):
        ranks = Ranks(False, 12, num_fused=3)
        ranks.count, ranks.index = 2, index
        torch.testing.assert_close(ranks.share_of(rows).reshape(3, 2), parts[:, 2 * index : 2 * index + 2])
    assert ranks.padded(13) == 18


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_fused": 1}, r"num_fused=1, expected an integer of at least 2.*Try num_fused=2"),
        ({"num_fused": 3, "batch_size": 32}, r"batch_size=32, expected a multiple of 3 rows.*Try 33"),
        ({"num_fused": 3, "batch_size": 2}, r"batch_size=2, expected a multiple of 3"),
    ],
)
def test_bad_ways_are_refused_at_once(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        process("y", **options)


# The rows' own likelihood beside the fused one


@pytest.mark.parametrize("name", SITES)
def test_regmixup_is_the_clean_and_the_fused_log_likelihood(name):
    """Both terms by the density itself, at the rows, weights and noise of the step."""
    x, y = (values.double() for values in data())
    model = process(name, dtype=torch.float64, batch_size=8, add_unfused_rows=True, alpha=10.0, beta=0.1)
    rows = torch.randperm(N)[:8]
    trace = poutine.trace(model).get_trace(x, y, rows)
    trace.compute_log_prob()
    edge, drawn = trace.nodes["edge"]["value"], trace.nodes["lambda"]["value"]
    assert edge.shape == (4, 2) and drawn.shape == (16,)
    # [first ends, rows as they are, second ends, rows as they are]
    own = torch.cat([edge[:, 0], edge[:, 1]])
    fused_rows = torch.tensor([0, 1, 2, 3, 8, 9, 10, 11])
    clean_rows = fused_rows + 4

    noise = trace.nodes["z"]["value"] if name == "z ~" else None
    scaled: Any = trace.nodes["y"]["log_prob"]  # scaled to all n rows
    values: Any = trace.nodes["y"]["value"]
    # The clean term: the plain density of each row at its own label.
    with GivenEmbedding(noise, clean_rows):
        clean: Any = poutine.trace(model.density).get_trace(x[rows], y[rows])
    clean.compute_log_prob()
    torch.testing.assert_close(scaled[clean_rows], N / 8 * clean.nodes["y"]["log_prob"])
    torch.testing.assert_close(values[clean_rows], y[rows])
    # The fused term: the density of the 8 rows alone, fused at the drawn weights.
    with (
        GivenEmbedding(noise, fused_rows),
        poutine.trace() as tracer,
        fuse(at=model.at or "", weight=drawn[fused_rows]),
    ):
        model.density(x[own], y[own])
    fused: Any = tracer.trace.nodes["y"]["fn"]
    torch.testing.assert_close(scaled[fused_rows], N / 8 * fused.log_prob(values[fused_rows]))


class GivenEmbedding(Messenger):
    """Gives the draws of the embedding at some rows, if there are any."""

    def __init__(self, drawn, rows):
        super().__init__()
        self.drawn, self.rows = drawn, rows

    def _pyro_sample(self, msg):
        if msg["name"] == "z" and self.drawn is not None:
            msg["value"] = self.drawn[self.rows]


def test_the_loss_of_regmixup_at_the_input():
    """Everything by hand, on a network with known weights: the criterion is the sum of both terms, scaled to n rows."""
    x, y = (values.double() for values in data())
    model = process("x", dtype=torch.float64, batch_size=8, add_unfused_rows=True, alpha=10.0)
    rows = torch.randperm(N)[:8]
    torch.manual_seed(5)
    trace = poutine.trace(model).get_trace(x, y, rows)
    drawn = trace.nodes["lambda"]["value"]
    torch.manual_seed(5)
    loss = ExpectedLogLikelihood()(model, model.guide)(x, y, rows)
    density = model.density
    weight = torch.cat([drawn[:4], 1 - drawn[8:12]])[:, None]
    partner = rows.roll(4)
    mixed_x, mixed_y = (weight * v[rows] + (1 - weight) * v[partner] for v in (x, y))

    def log_likelihood(x, y):
        raw = density.likelihood.linear(density.decoder(density.encoder(x)))
        loc, scale = raw[:, :1], torch.nn.functional.softplus(raw[:, 1:]) + 1e-3
        return torch.distributions.Normal(loc, scale).log_prob(y).sum()

    expected = -N / 8 * (log_likelihood(x[rows], y[rows]) + log_likelihood(mixed_x, mixed_y))
    torch.testing.assert_close(loss, expected)
    assert float(weight.min()) > 0.2 and float(weight.max()) < 0.8  # alpha = 10 keeps them near one half


@pytest.mark.parametrize("labels", ["sample", "expected"])
def test_clean_rows_keep_their_classes(labels):
    x, _ = data()
    y = torch.arange(N) % 3
    model = process(
        "y", likelihood=Categorical, outputs=3, add_unfused_rows=True, beta=0.5, labels=labels, batch_size=8
    )
    own = torch.randperm(N)[:8]
    trace = poutine.trace(model).get_trace(x, y, own)
    trace.compute_log_prob()
    clean = torch.tensor([4, 5, 6, 7, 12, 13, 14, 15])
    plain: Any = poutine.trace(model.density).get_trace(x[own], y[own])
    plain.compute_log_prob()
    torch.testing.assert_close(trace.nodes["y"]["log_prob"][clean], N / 8 * plain.nodes["y"]["log_prob"])
    if labels == "sample":
        torch.testing.assert_close(trace.nodes["y"]["value"][clean], y[own])


def test_clean_and_three_rows_together():
    x, y = (values.double() for values in data())
    model = process("y", dtype=torch.float64, add_unfused_rows=True, num_fused=3, batch_size=6)
    rows = torch.randperm(N)[:6]
    trace = poutine.trace(model).get_trace(x, y, rows)
    edge: Any = trace.nodes["edge"]["value"]
    assert edge.shape == (2, 3)
    value: Any = trace.nodes["y"]["value"]
    torch.testing.assert_close(value.reshape(3, 2, 2)[:, 1].flatten(), y[rows, 0])
    weights: Any = trace.nodes["lambda"]["value"].reshape(3, 2, 2, 3)[:, 0]  # part, edge, weights
    torch.testing.assert_close(value.reshape(3, 2, 2)[:, 0], (weights * y[edge, 0]).sum(-1))


def test_the_clean_term_is_maximum_likelihood_whatever_the_graph():
    """Neighbours are drawn unequally often, the minibatch's rows are not: RegMixup less the fused term is ERM."""
    x, y = (values.double() for values in data())
    reg, mix, erm = (
        process("y", dtype=torch.float64, add_unfused_rows=True, alpha=0.3),
        process("y", dtype=torch.float64, alpha=0.3),
        ProbMix(process("y", dtype=torch.float64).density, at=None).double(),
    )
    rows = torch.arange(N)
    with torch.no_grad():
        exact = ExpectedLogLikelihood()(erm, erm.guide)(x, y, rows)
        means = []
        for model in (reg, mix):
            criterion = ExpectedLogLikelihood(num_particles=200, max_plate_nesting=1)(model, model.guide)
            draws = torch.stack([criterion(x, y, rows) for _ in range(20)])
            means.append((draws.mean(), draws.std() / math.sqrt(20)))
    (both, first_error), (fused, second_error) = means
    assert abs(both - fused - exact) < 4 * math.hypot(first_error, second_error)


def test_without_given_rows_the_clean_ones_are_a_minibatch_of_their_own():
    x, _ = data(R)
    y = torch.arange(N).float()[:, None].expand(R, N, 1)
    model = process("y", R, add_unfused_rows=True, batch_size=N)
    value: Any = poutine.trace(model).get_trace(x, y).nodes["y"]["value"]
    clean = value.reshape(R, 2, 2, N // 2)[:, :, 1].flatten(1)
    torch.testing.assert_close(clean.sort(-1).values, y[..., 0])  # every row once, in an order of each replica's own
    assert not torch.equal(clean[0], clean[1])


def test_clean_rows_of_a_users_own_model():
    """A Bayesian regression: its global weights are drawn and scored once, its rows twice."""

    class Model(torch.nn.Module):
        def forward(self, x, y=None):
            slope = pyro.sample("slope", dist.Normal(torch.zeros(FEATURES), 1.0).to_event(1))
            with pyro.plate("data", len(x)):
                return pyro.sample("y", dist.Normal(x @ slope, 1.0), obs=y if y is None else y[:, 0])

    model = ProbMix(Model(), at="y", batch_size=4, add_unfused_rows=True)
    trace = poutine.trace(model).get_trace(*data())
    assert trace.nodes["slope"]["scale"] == 1
    response: Any = trace.nodes["y"]
    assert response["scale"] == N / 4 and response["value"].shape == (8,)


def test_plain_svi_trains_it():
    x, y = data()
    model = process("x", add_unfused_rows=True, alpha=10.0)
    svi = SVI(model, model.guide, ClippedAdam({"lr": 0.01}), Trace_ELBO())
    losses = [svi.step(x, y) for _ in range(100)]
    assert sum(losses[-10:]) < sum(losses[:10])


def test_clean_without_a_fused_site_is_refused():
    density = process("x").density
    with pytest.raises(ValueError, match=r"add_unfused_rows=True and at=None, expected a site.*Try at='x'"):
        ProbMix(density, at=None, add_unfused_rows=True)


class AnyDensity(torch.nn.Module):
    replicas = 4

    def forward(self, x, y=None):
        raise AssertionError


@pytest.mark.parametrize(
    ("density", "replicas", "shapes", "of_each"),
    [
        ("conditional", 4, ((4, 3), (4, 3)), (False, False)),
        ("conditional", 20, ((20, 3), (20,)), (False, False)),
        ("conditional", 4, ((4, 4, 3), (4, 4, 1)), (True, True)),
        ("conditional", 4, ((4, 6, 3), (6, 4)), (True, False)),
        ("conditional", 4, ((4, 3), (4, 4)), None),  # [n, 4] or [R, n]
        ("other", 4, ((4, 3), (4,)), (False, False)),
        ("other", 4, ((4, 3), (4, 2)), (False, False)),
        ("other", 4, ((4, 3), (3, 2)), (True, False)),
        ("other", 4, ((4, 3, 2), (4, 3)), (True, True)),
        ("other", 4, ((4, 3), (4, 3)), None),
    ],
)
def test_as_many_rows_as_replicas(density, replicas, shapes, of_each):
    """Shapes are read by the dims of a row, or by what fits together, and refused where neither tells."""
    built: Any
    if density == "conditional":
        built = build_density(METHODS["M-Mix"], num_features=3, likelihood=Gaussian, widths=(4, 2), replicas=replicas)
    else:
        built = AnyDensity()
    model, (x, y) = ProbMix(built, at="y"), (torch.zeros(shape) for shape in shapes)
    if of_each is None:
        with pytest.raises(ValueError, match=r"which may be rows that its 4 replicas share or those of each.*Try"):
            model.num_rows(x, y)
    else:
        assert model.of_each_replica(x, y) == of_each
        assert model.num_rows(x, y) == shapes[0][of_each[0]]
