"""The generative process: its sites, its edges, how often it looks at the network, what it refuses."""

import copy
import pickle
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import ClippedAdam
from torch import nn

from pyro_probmix import METHODS, ExpectedLogLikelihood, NearestNeighborGraph, PriorGuide, ProbMix, fuse
from pyro_probmix.fusing.kernels.kernels import GaussianKernel
from pyro_probmix.graphs import CompleteGraph
from pyro_probmix.models import Categorical, ConditionalDensity, Gaussian, Linear, PointEmbedding, build_density

N, FEATURES = 20, 2


@pytest.fixture
def table():
    torch.manual_seed(0)
    return torch.randn(N, FEATURES), torch.randn(N, 1)


def process(name, table, replicas=None, **options):
    method = METHODS[name]
    density = build_density(method, num_features=FEATURES, likelihood=Gaussian, widths=(8, 4), replicas=replicas)
    graph = NearestNeighborGraph(table[0], 3) if method.graph == "nearest" else None
    return ProbMix(density, at=method.site, graph=graph, pool=method.pool, **options)


def test_sites_of_the_process(table):
    trace = poutine.trace(process("M-ProbMix", table, batch_size=8)).get_trace(*table)
    assert [name for name in trace.stochastic_nodes if name in ("edge", "lambda", "z")] == ["edge", "lambda", "z"]
    assert trace.nodes["edge"]["value"].shape == (4, 2)
    assert trace.nodes["lambda"]["value"].shape == (8,)
    assert trace.nodes["z"]["value"].shape == (8, 8)
    assert trace.nodes["y"]["is_observed"] and trace.nodes["y"]["value"].shape == (8, 1)
    assert trace.nodes["y"]["scale"] == N / 8


def test_rendered_model_shows_the_process(table):
    graph = pyro.render_model(process("M-ProbMix", table), model_args=table, render_distributions=True)
    source = graph.source.replace('"', "")
    for node in ("edge", "lambda", "z", "y"):
        assert f"{node} [label={node}" in source
    assert "lambda -> z" in source and "z -> y" in source
    assert "edge ~ EdgeDistribution" in source and "lambda ~ Beta" in source


def test_labels_are_those_of_the_edges(table):
    x, y = table
    model = process("M-Mix", table, batch_size=8)
    trace = poutine.trace(model).get_trace(x, y)
    i, j = trace.nodes["edge"]["value"].unbind(-1)
    own, other = torch.cat([i, j]), torch.cat([j, i])
    lam = trace.nodes["lambda"]["value"]
    weight = torch.cat([lam[:4], 1 - lam[4:]])[:, None]
    torch.testing.assert_close(trace.nodes["y"]["value"], weight * y[own] + (1 - weight) * y[other])


def test_given_rows_decide_the_edges(table):
    rows = torch.randperm(N)[:8]
    edge = poutine.trace(process("ProbMix", table)).get_trace(*table, rows).nodes["edge"]["value"]
    torch.testing.assert_close(edge, torch.stack([rows[:4], rows[4:]], -1))
    local = process("LocProbMix", table)
    edge = poutine.trace(local).get_trace(*table, rows).nodes["edge"]["value"]
    torch.testing.assert_close(edge[:, 0], rows[:4])
    distance = torch.cdist(table[0], table[0]).fill_diagonal_(torch.inf)
    nearest = distance.topk(3, largest=False).indices
    assert (nearest[edge[:, 0]] == edge[:, 1:]).any(-1).all()


@pytest.mark.parametrize("name", METHODS)
def test_the_network_is_evaluated_once_a_row_and_step(name, table):
    model = process(name, table, replicas=3, batch_size=8)
    evaluated = []
    for part in (model.density.encoder, model.density.likelihood):
        part.register_forward_hook(lambda module, args, out: evaluated.append(args[0].shape[:-1]))
    ExpectedLogLikelihood()(model, model.guide)(*table).backward()
    assert evaluated == [torch.Size([3, 8])] * 2
    evaluated.clear()
    SVI(model, model.guide, ClippedAdam({"lr": 1e-3}), Trace_ELBO()).step(*table)
    assert evaluated == [torch.Size([3, 8])] * 2


@pytest.mark.parametrize("name", ["ProbMix", "M-ProbMix", "Mix"])
def test_particles_do_not_evaluate_what_lies_upstream(name, table):
    """K weights for each edge: a fused response needs the network once, an embedding its encoder once."""
    model = process(name, table, replicas=3, batch_size=8)
    criterion = ExpectedLogLikelihood(num_particles=5, num_embeddings=2, max_plate_nesting=2)
    rows: dict[str, list[int]] = {"encoder": [], "head": []}
    model.density.encoder.register_forward_hook(
        lambda m, args, out: rows["encoder"].append(args[0].numel() // FEATURES)
    )
    model.density.likelihood.register_forward_hook(lambda m, args, out: rows["head"].append(args[0].numel() // 4))
    criterion(model, model.guide)(*table)
    once = 3 * 8
    expected = {"ProbMix": (once, once), "M-ProbMix": (once, once * 10), "Mix": (once * 5, once * 5)}[name]
    assert (rows["encoder"], rows["head"]) == ([expected[0]], [expected[1]])


def test_any_module_may_be_the_encoder(table):
    encoder = torch.nn.Sequential(torch.nn.Linear(FEATURES, 16), torch.nn.LayerNorm(16), torch.nn.GELU())
    density = ConditionalDensity(encoder, PointEmbedding(), torch.nn.Linear(16, 4), Gaussian(4))
    model = ProbMix(density, at="z")
    svi = SVI(model, model.guide, ClippedAdam({"lr": 0.01}), Trace_ELBO())
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(3):
        svi.step(*table)
    assert all((p != old).any() for p, old in zip(model.parameters(), before, strict=True))


def test_a_model_of_the_users_own_is_a_density(table):
    """A Bayesian regression: its global weights are not scaled by the minibatch, its rows are."""

    class Model(torch.nn.Module):
        def forward(self, x, y=None):
            slope = pyro.sample("slope", dist.Normal(torch.zeros(FEATURES), 1.0).to_event(1))
            with pyro.plate("data", len(x)):
                return pyro.sample("y", dist.Normal(x @ slope, 1.0), obs=y if y is None else y[:, 0])

    model = ProbMix(Model(), at="y", batch_size=4)
    trace = poutine.trace(model).get_trace(*table)
    assert trace.nodes["slope"]["scale"] == 1 and trace.nodes["y"]["scale"] == N / 4
    guide = PriorGuide(model, pyro.infer.autoguide.AutoNormal(Model()))
    svi = SVI(model, guide, ClippedAdam({"lr": 0.01}), Trace_ELBO())
    assert all(torch.isfinite(torch.tensor(svi.step(*table))) for _ in range(3))


def test_classes(table):
    density = build_density(METHODS["ProbMix"], num_features=FEATURES, likelihood=Categorical, num_outputs=3)
    model = ProbMix(density, at="y", beta=0.01)
    y = torch.arange(N) % 3
    site: Any = poutine.trace(model).get_trace(table[0], y).nodes["y"]
    assert site["value"].dtype == torch.long
    assert site["fn"].event_shape == ()


def test_alpha_and_beta_of_each_replica(table):
    alpha, beta = torch.tensor([0.01, 1.0, 100.0]), torch.tensor([0.0, 0.0, 4.0])
    model = process("ProbMix", table, replicas=3, alpha=alpha, beta=beta)
    lam, noise = [], []
    for _ in range(200):
        trace = poutine.trace(model).get_trace(*table)
        drawn = trace.nodes["lambda"]["value"]
        lam.append(drawn)
        i, j = trace.nodes["edge"]["value"].unbind(-1)
        own, other = torch.cat([i, j], -1), torch.cat([j, i], -1)
        weight = torch.cat([drawn[:, : N // 2], 1 - drawn[:, N // 2 :]], -1)
        mixed = weight * table[1][own, 0] + (1 - weight) * table[1][other, 0]
        noise.append(trace.nodes["y"]["value"][..., 0] - mixed)
    variance = torch.stack(lam).var((0, 2))
    torch.testing.assert_close(variance, 1 / (4 * (2 * alpha + 1)), rtol=0.1, atol=1e-4)
    spread = torch.stack(noise).var((0, 2))
    torch.testing.assert_close(spread[:2], torch.zeros(2), atol=1e-10, rtol=0)
    torch.testing.assert_close(spread[2], beta[2], rtol=0.1, atol=0)


def test_data_of_each_replica(table):
    x = torch.stack([table[0], table[0] + 10])
    y = torch.stack([table[1], table[1] + 100])
    model = process("M-Mix", table, replicas=2, batch_size=4)
    seen = []
    model.density.encoder.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    trace = poutine.trace(model).get_trace(x, y)
    i, j = trace.nodes["edge"]["value"].unbind(-1)
    rows = torch.cat([i, j], -1)
    torch.testing.assert_close(seen[0], torch.stack([x[r][rows[r]] for r in range(2)]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"alpha": 0.0}, r"alpha=0.0, expected finite values above 0.*Try"),
        ({"alpha": -1.0}, r"alpha=-1.0, expected finite values above 0.*Try"),
        ({"beta": -0.1}, r"beta=.*expected finite values of at least 0.*Try"),
        ({"alpha": float("inf")}, r"alpha=inf, expected finite values.*Try"),
        ({"batch_size": 7}, r"batch_size=7, expected an even number.*Try"),
        ({"alpha": torch.ones(3)}, r"alpha of shape \(3,\), expected a number or one for each replica.*Try"),
        ({"pool": "geometric"}, r"pool='geometric'.*Try"),
        ({"labels": "both"}, r"labels='both'.*Try"),
        ({"batch_size": 4.0}, r"batch_size=4.0, expected an integer.*Try"),
        ({"graph": "knn"}, r"graph='knn', expected a Graph.*Try"),
        ({"graph": CompleteGraph}, r"graph=CompleteGraph, expected a Graph.*Try"),
        ({"kernel": "gaussian"}, r"kernel='gaussian', expected a Kernel.*Try"),
        ({"kernel": GaussianKernel}, r"kernel=GaussianKernel, expected a Kernel.*Try"),
    ],
)
def test_bad_options_are_refused_at_once(options, sentence, table):
    density = build_density(METHODS["ProbMix"], num_features=FEATURES, likelihood=Gaussian)
    with pytest.raises(ValueError, match=sentence):
        ProbMix(density, at="y", **options)


def test_data_that_do_not_fit_are_refused(table):
    x, y = table
    model = process("LocProbMix", table)
    with pytest.raises(ValueError, match=r"x with 19 rows, expected the 20 of its graph.*Try"):
        model(x[1:], y[1:])
    with pytest.raises(ValueError, match=r"expected as many rows"):
        model(x, y[1:])
    with pytest.raises(ValueError, match=r"at='h'.*no such sample site.*'z'.*Try"):
        ProbMix(model.density, at="h")(x, y)
    with pytest.raises(ValueError, match=r"mixing_layer=3, expected 1 to 2.*Try"):
        build_density(METHODS["M-Mix"], num_features=2, likelihood=Gaussian, mixing_layer=3)


def test_draws_of_replicas_fold_into_rows():
    """A batched affine map of [S, R, B, d] is R single maps."""
    layer = Linear(3, 2, replicas=4)
    x = torch.randn(5, 4, 6, 3)
    expected = torch.stack([x[:, r] @ layer.weight[r] + layer.bias[r] for r in range(4)], 1)
    torch.testing.assert_close(layer(x), expected)


def test_fuse_of_the_density_alone(table):
    density = build_density(METHODS["M-ProbMix"], num_features=FEATURES, likelihood=Gaussian, widths=(8, 4))
    fused = fuse(density, at="z", weight=dist.Beta(0.1, 0.1))
    svi = SVI(fused, PriorGuide(fused), ClippedAdam({"lr": 0.01}), Trace_ELBO())
    before = [p.detach().clone() for p in density.encoder.parameters()]
    svi.step(*table)
    assert any((p != old).any() for p, old in zip(density.encoder.parameters(), before, strict=True))


class Grouped(nn.Module):
    """Rows in one of eight groups, whose levels have a prior."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, x, y=None):
        with pyro.plate("groups", 8):
            level = pyro.sample("level", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            return pyro.sample("y", dist.Normal(level[x[:, 0].long() % 8], self.log_scale.exp()), obs=y)


@pytest.mark.parametrize("at", ["y", None])
def test_only_the_rows_plate_is_scaled_though_another_may_be_as_large(at):
    x, y = torch.arange(80.0)[:, None], torch.randn(80)
    for batch_size, plate in ((6, None), (8, "data"), (10, "data")):
        trace = poutine.trace(ProbMix(Grouped(), at=at, batch_size=batch_size, plate=plate)).get_trace(x, y)
        assert trace.nodes["level"]["scale"] == 1 and trace.nodes["y"]["scale"] == 80 / batch_size
    with pytest.raises(ValueError, match=r"plates 'groups' and 'data' of 8 members each.*Try plate='data'"):
        ProbMix(Grouped(), at=at, batch_size=8)(x, y)
    sentence = (
        r"ProbMix\(plate='date'\) met no such plate of 8 rows.*Try" if at is None else "expected the plate 'date'"
    )
    with pytest.raises(ValueError, match=sentence):
        ProbMix(Grouped(), at=at, batch_size=8, plate="date")(x, y)


def test_two_plates_of_rows_are_named():
    class Twice(nn.Module):
        def forward(self, x, y=None):
            with pyro.plate("a", len(x)):
                pyro.deterministic("twice", 2 * x[:, 0])
                pyro.sample("u", dist.Normal(x[:, 0], 1.0), obs=y)
            with pyro.plate("b", len(x)):
                pyro.sample("y", dist.Normal(x[:, 0], 1.0), obs=y)

    x = torch.randn(24, 1)
    with pytest.raises(ValueError, match=r"or plate=\['a', 'b'\], if both are"):
        ProbMix(Twice(), at=None, batch_size=8)(x, x[:, 0])
    for plate in (5, [5], ["a", None]):
        with pytest.raises(ValueError, match=r"ProbMix got plate=.*, expected text, a sequence of texts.*Try"):
            ProbMix(Twice(), at=None, plate=plate)  # type: ignore[arg-type] # the mistake
    trace = poutine.trace(ProbMix(Twice(), at=None, batch_size=8, plate=["a", "b"])).get_trace(x, x[:, 0])
    assert trace.nodes["u"]["scale"] == trace.nodes["y"]["scale"] == 3


def test_shapes_that_are_no_numbers_are_refused(table):
    for name in ("alpha", "beta"):
        for value in (None, "a", [[1.0], [1.0, 2.0]]):
            with pytest.raises(
                ValueError,
                match=rf"ProbMix got {name}=.*, expected a number(, a Tensor or a function| or a Tensor)\. Try {name}=0\.",
            ):
                process("ProbMix", table, **{name: value})


def test_data_of_another_kind_are_refused(table):
    x, y = table
    for args, sentence in (
        (({"a": x}, y), "x of type dict, expected a tensor.*Try"),
        ((x, y.tolist()), "y of type list, expected a tensor.*Try"),
    ):
        with pytest.raises(ValueError, match=sentence):
            process("ProbMix", table)(*args)


def test_a_guide_is_copied_and_pickled_after_a_step(table):
    model = process("M-ProbMix", table)
    guide = PriorGuide(model)
    loss = Trace_ELBO()(model, guide)
    loss(*table).backward()
    for again in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.isfinite(again(*table))


def test_a_process_of_a_learned_shape_is_copied_after_a_step(table):
    """The shapes of a step's edges have a graph, which no copy can have; so do those that a functional call is given."""
    shape = torch.nn.Parameter(torch.tensor(0.5))
    of_edges = process("M-ProbMix", table, alpha=lambda x, y: shape.expand(x[0].shape[:-1]))
    Trace_ELBO()(of_edges, of_edges.guide)(*table).backward()
    given = process("M-ProbMix", table)
    torch.func.functional_call(given, {"alpha": 2 * shape}, table)
    for model in (of_edges, given):
        again = copy.deepcopy(model)
        assert torch.isfinite(Trace_ELBO()(again, again.guide)(*table))


def test_what_is_changed_between_steps_counts_at_the_next(table):
    """A shape in place, as when it is annealed, another site, another spread: no step keeps what an earlier one made."""
    model = process("M-ProbMix", table, alpha=0.05, batch_size=20)

    def run():
        return poutine.trace(model).get_trace(*table)

    run()
    model.alpha.fill_(200.0)
    weights = torch.cat([run().nodes["lambda"]["value"] for _ in range(20)])
    assert (weights - 0.5).abs().max() < 0.2  # of standard deviation 0.025
    model.alpha = torch.tensor(0.01)
    assert ((run().nodes["lambda"]["value"] - 0.5).abs() > 0.4).double().mean() > 0.5
    model.at = "y"
    assert run().nodes["y"]["infer"].get("_fused", False)
    model.at = ["y"]
    run()
    model.at.append("nowhere")
    with pytest.raises(ValueError, match="at='nowhere'"):
        run()
    model.at = None
    assert "lambda" not in run().nodes
