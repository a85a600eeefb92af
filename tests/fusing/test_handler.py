"""The fuse handler against brute force, composed with what Pyro users compose."""

import copy
import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.contrib.forecast import Forecaster, ForecastingModel
from pyro.infer import SVI, JitTrace_ELBO, Predictive, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from pyro.infer.autoguide import AutoDelta, AutoNormal
from pyro.infer.reparam import LocScaleReparam
from pyro.nn import PyroModule, PyroParam
from pyro.optim import ClippedAdam
from torch import nn

from pyro_probmix import DiracKernel, PriorGuide, fuse

WEIGHT = 0.3
#: Row b's own weight, for a batch of 4 rows.
OWN = torch.tensor([WEIGHT, WEIGHT, 1 - WEIGHT, 1 - WEIGHT], dtype=torch.float64)


def swap(t):
    return torch.roll(t, len(t) // 2, 0)


def pooled_normal(loc, scale, own=OWN):
    """Eq. (54), spelt out."""
    precision = own / scale**2 + (1 - own) / swap(scale) ** 2
    mean = (own * loc / scale**2 + (1 - own) * swap(loc) / swap(scale) ** 2) / precision
    return torch.distributions.Normal(mean, precision.rsqrt())


@pytest.fixture
def rows():
    torch.manual_seed(3)
    return torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)


def regression(x, y=None, slope=1.5):
    with pyro.plate("data", len(x)):
        return pyro.sample("y", dist.Normal(slope * x, (0.3 * x).exp()), obs=y)


def observed_log_prob(trace, name="y"):
    trace.compute_log_prob()
    return trace.nodes[name]["log_prob"]


def test_response_is_fused_and_its_labels_mixed(rows):
    x, y = rows
    trace = poutine.trace(fuse(regression, at="y", weight=WEIGHT)).get_trace(x, y)
    expected = pooled_normal(1.5 * x, (0.3 * x).exp()).log_prob(OWN * y + (1 - OWN) * swap(y))
    torch.testing.assert_close(observed_log_prob(trace), expected)


def test_handler_works_as_a_context(rows):
    x, y = rows
    with poutine.trace() as tracer, fuse(at="y", weight=WEIGHT):
        regression(x, y)
    reference = poutine.trace(fuse(regression, at="y", weight=WEIGHT)).get_trace(x, y)
    torch.testing.assert_close(observed_log_prob(tracer.trace), observed_log_prob(reference))


def test_both_halves_are_edges_of_the_same_law(rows):
    """Row b and its partner see one edge from both ends: with a common lambda their weights add to one."""
    x, y = rows
    trace = poutine.trace(fuse(regression, at="y", weight=torch.tensor(0.2, dtype=x.dtype))).get_trace(x, y)
    fn = trace.nodes["y"]["fn"]
    torch.testing.assert_close(fn.mean[:2], fn.mean[2:])


def test_rows_may_lie_in_another_plate_than_the_last(rows):
    x, y = rows

    def model(x, y):
        with pyro.plate("data", 4, dim=-2), pyro.plate("outputs", 2, dim=-1):
            pyro.sample("y", dist.Normal(x[:, None], 1.0), obs=y[:, None].expand(4, 2))

    trace = poutine.trace(fuse(model, at="y", weight=WEIGHT, plate="data")).get_trace(x, y)
    expected = pooled_normal(x, torch.ones_like(x)).log_prob(OWN * y + (1 - OWN) * swap(y))
    torch.testing.assert_close(observed_log_prob(trace), expected[:, None].expand(4, 2))


def test_embedding_is_fused_and_downstream_labels_mixed(rows):
    x, y = rows

    def model(x, y):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x, (0.2 * x).exp()))
            pyro.sample("y", dist.Normal(z.tanh(), 0.5), obs=y)

    trace = poutine.trace(fuse(model, at="z", weight=WEIGHT)).get_trace(x, y)
    expected = pooled_normal(x, (0.2 * x).exp())
    torch.testing.assert_close(trace.nodes["z"]["fn"].loc, expected.loc)
    torch.testing.assert_close(trace.nodes["z"]["fn"].scale, expected.scale)
    torch.testing.assert_close(trace.nodes["y"]["value"], OWN * y + (1 - OWN) * swap(y))


def test_deterministic_site_is_mixed(rows):
    x, y = rows

    def model(x, y):
        with pyro.plate("data", len(x)):
            h = pyro.deterministic("h", torch.stack([x, x**2], -1), event_dim=1)
            pyro.sample("y", dist.Normal(h.sum(-1), 0.5), obs=y)

    trace = poutine.trace(fuse(model, at="h", weight=WEIGHT)).get_trace(x, y)
    h = torch.stack([x, x**2], -1)
    torch.testing.assert_close(trace.nodes["h"]["value"], OWN[:, None] * h + (1 - OWN[:, None]) * swap(h))


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_weights_at_the_ends_give_one_of_the_rows(rows, end):
    x, y = rows
    x.requires_grad_()
    trace = poutine.trace(fuse(regression, at="y", weight=end)).get_trace(x, y)
    anchors = torch.cat([x[:2], x[:2]]) if end == 1.0 else torch.cat([x[2:], x[2:]])
    labels = torch.cat([y[:2], y[:2]]) if end == 1.0 else torch.cat([y[2:], y[2:]])
    expected = torch.distributions.Normal(1.5 * anchors, (0.3 * anchors).exp()).log_prob(labels)
    log_prob = observed_log_prob(trace)
    torch.testing.assert_close(log_prob, expected)
    (gradient,) = torch.autograd.grad(log_prob.sum(), x)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), x)[0])


def test_gaussian_kernel_draws_labels_around_the_mixed_ones(rows):
    x, y = rows
    beta, draws = 0.04, 4000
    torch.manual_seed(0)
    noise = torch.stack(
        [
            poutine.trace(fuse(regression, at="y", weight=WEIGHT, beta=beta)).get_trace(x, y).nodes["y"]["value"]
            for _ in range(draws)
        ]
    ) - (OWN * y + (1 - OWN) * swap(y))
    assert abs(noise.mean()) < 4 * math.sqrt(beta / noise.numel())
    assert abs(noise.var() - beta) < 4 * beta * math.sqrt(2 / noise.numel())


def test_expected_labels_are_the_closed_form(rows):
    x, y = rows
    beta = 0.04
    trace = poutine.trace(fuse(regression, at="y", weight=WEIGHT, beta=beta, labels="expected")).get_trace(x, y)
    pooled = pooled_normal(1.5 * x, (0.3 * x).exp())
    expected = pooled.log_prob(OWN * y + (1 - OWN) * swap(y)) - beta / (2 * pooled.variance)
    torch.testing.assert_close(observed_log_prob(trace), expected)


def test_poisson_regression_draws_one_of_the_two_labels(rows):
    x, _ = rows
    y = torch.tensor([0.0, 3.0, 5.0, 1.0], dtype=torch.float64)

    def model(x, y):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Poisson(x.exp()), obs=y)

    torch.manual_seed(0)
    fused = fuse(model, at="y", weight=WEIGHT)
    traces = [poutine.trace(fused).get_trace(x, y) for _ in range(2000)]
    rate = (OWN * x + (1 - OWN) * swap(x)).exp()  # the log-linear pool of Poissons
    torch.testing.assert_close(traces[0].nodes["y"]["fn"].rate, rate)
    own = torch.stack([t.nodes["y"]["value"] == y for t in traces]).double().mean(0)
    other = torch.stack([t.nodes["y"]["value"] == swap(y) for t in traces]).double().mean(0)
    assert torch.all((own - OWN).abs() < 4 * (OWN * (1 - OWN) / 2000).sqrt())
    torch.testing.assert_close(own + other, torch.ones_like(own))


def bayesian_network(x, y=None):
    """A network with priors on its weights."""
    w1 = pyro.sample("w1", dist.Normal(torch.zeros(1, 8), 1.0).to_event(2))
    w2 = pyro.sample("w2", dist.Normal(torch.zeros(8, 1), 1.0).to_event(2))
    scale = pyro.sample("scale", dist.LogNormal(-1.0, 0.5))
    with pyro.plate("data", len(x)):
        return pyro.sample("y", dist.Normal(((x @ w1).tanh() @ w2)[:, 0], scale), obs=y)


def test_bayesian_network_is_fused_unchanged_and_trained_by_svi():
    pyro.set_rng_seed(0)
    x = torch.linspace(-2, 2, 32)[torch.randperm(32), None]
    y = x[:, 0].tanh()  # near to linear, where fusing responses biases little
    fused = fuse(bayesian_network, at="y", weight=dist.Beta(0.2, 0.2))
    guide = PriorGuide(fused, AutoNormal(bayesian_network, init_scale=0.05))
    svi = SVI(fused, guide, ClippedAdam({"lr": 0.02}), Trace_ELBO())
    losses = [svi.step(x, y) for _ in range(400)]
    assert sum(losses[-50:]) < 0.7 * sum(losses[:50])
    predictive = Predictive(bayesian_network, guide=guide.guide, num_samples=100)(x)
    assert (predictive["y"].mean(0) - y).square().mean() < 0.3 * y.var()


def test_the_guides_parameters_are_seen_by_an_elbo_module():
    """The default path: the loss as a module, its parameters local to the modules, a torch optimizer."""
    pyro.set_rng_seed(0)
    x = torch.linspace(-1, 1, 16)[torch.randperm(16), None]
    y = x[:, 0]
    with pyro.settings.context(module_local_params=True):
        fused = fuse(bayesian_network, at="y", weight=dist.Beta(0.2, 0.2))
        guide = PriorGuide(fused, AutoNormal(bayesian_network, init_scale=0.05))
        loss = Trace_ELBO()(fused, guide)
        guide(x, y)  # the autoguide makes its parameters
        optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
        losses = []
        for _ in range(200):
            optimizer.zero_grad()
            value = loss(x, y)
            value.backward()
            optimizer.step()
            losses.append(value.item())
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
    assert not list(pyro.get_param_store().keys())


def test_bayesian_network_loss_matches_brute_force(rows):
    """Trace_ELBO of the fused network: the fused log-likelihood minus the KL divergence, at given weights."""
    x, y = rows
    pyro.set_rng_seed(1)
    x = x[:, None].float()
    y = y.float()
    own = OWN.float()
    fused = fuse(bayesian_network, at="y", weight=WEIGHT)
    guide = PriorGuide(fused, AutoDelta(bayesian_network))
    loss = Trace_ELBO().loss(fused, guide, x, y)
    assert guide.guide is not None
    v = guide.guide(x, y)
    loc = ((x @ v["w1"]).tanh() @ v["w2"])[:, 0]
    likelihood = pooled_normal(loc, v["scale"].expand(4), own).log_prob(own * y + (1 - own) * swap(y)).sum()
    prior = dist.Normal(0, 1).log_prob(v["w1"]).sum() + dist.Normal(0, 1).log_prob(v["w2"]).sum()
    prior = prior + dist.LogNormal(-1.0, 0.5).log_prob(v["scale"])
    assert loss == pytest.approx(-(likelihood + prior).item(), rel=1e-5)


def test_global_enumerated_latent_is_shared_by_both_rows(rows):
    x, y = rows
    slopes = torch.tensor([-1.0, 0.5, 2.0], dtype=x.dtype)
    probs = torch.tensor([0.2, 0.5, 0.3], dtype=x.dtype)

    @config_enumerate
    def model(x, y):
        k = pyro.sample("k", dist.Categorical(probs))
        regression(x, y, slopes[k])

    fused = fuse(model, at="y", weight=WEIGHT)
    loss = TraceEnum_ELBO(max_plate_nesting=1).loss(fused, PriorGuide(fused).standalone(), x, y)
    labels = OWN * y + (1 - OWN) * swap(y)
    each = torch.stack([pooled_normal(s * x, (0.3 * x).exp()).log_prob(labels).sum() for s in slopes])
    assert loss == pytest.approx(-(probs.log() + each).logsumexp(0).item())


def test_enumeration_with_a_drawn_weight(rows):
    """The drawn weight comes from its prior in the guide, the enumerated latent stays with the model."""
    x, y = rows
    slopes = torch.tensor([-1.0, 2.0], dtype=x.dtype)

    @config_enumerate
    def model(x, y):
        k = pyro.sample("k", dist.Bernoulli(torch.tensor(0.3, dtype=x.dtype)))
        regression(x, y, slopes[k.long()])

    fused = fuse(model, at="y", weight=dist.Beta(torch.tensor(2.0, dtype=x.dtype), 2.0))
    torch.manual_seed(0)
    site: Any = poutine.trace(PriorGuide(fused).standalone()).get_trace(x, y).nodes["lambda"]
    drawn = site["value"]
    torch.manual_seed(0)
    loss = TraceEnum_ELBO(max_plate_nesting=1).loss(fused, PriorGuide(fused).standalone(), x, y)
    own = torch.cat([drawn[:2], 1 - drawn[2:]])
    labels = own * y + (1 - own) * swap(y)
    each = torch.stack([pooled_normal(s * x, (0.3 * x).exp(), own).log_prob(labels).sum() for s in slopes])
    probs = torch.tensor([0.7, 0.3], dtype=x.dtype)
    assert loss == pytest.approx(-(probs.log() + each).logsumexp(0).item())


def test_a_fused_embedding_downstream_of_an_enumerated_latent_needs_a_guide_of_its_own(rows):
    x, y = rows

    @config_enumerate
    def model(x, y):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x + k, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    fused = fuse(model, at="z", weight=WEIGHT)
    with pytest.raises(ValueError, match=r"'z' would be drawn downstream of 'k'.*Try"):
        TraceEnum_ELBO(max_plate_nesting=1).loss(fused, PriorGuide(fused).standalone(), x, y)


def test_sampled_latent_of_a_row_goes_with_its_row(rows):
    x, y = rows

    def model(x, y):
        with pyro.plate("data", len(x)):
            shift = pyro.sample("shift", dist.Normal(torch.zeros_like(x), 1.0))
            pyro.sample("y", dist.Normal(x + shift, (0.3 * x).exp()), obs=y)

    torch.manual_seed(0)
    trace = poutine.trace(fuse(model, at="y", weight=WEIGHT)).get_trace(x, y)
    shift = trace.nodes["shift"]["value"]
    expected = pooled_normal(x + shift, (0.3 * x).exp()).log_prob(OWN * y + (1 - OWN) * swap(y))
    torch.testing.assert_close(observed_log_prob(trace), expected)


@pytest.mark.parametrize("enumerate_", ["parallel", "sequential"])
def test_enumerated_latent_of_a_row_upstream_is_refused(rows, enumerate_):
    x, y = rows

    def model(x, y):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.5), infer={"enumerate": enumerate_})
            pyro.sample("y", dist.Normal(x + k, 1.0), obs=y)

    fused = fuse(model, at="y", weight=WEIGHT)
    with pytest.raises(ValueError, match=r"'k' upstream is enumerated in each row.*Try"):
        TraceEnum_ELBO(max_plate_nesting=1).loss(fused, PriorGuide(fused).standalone(), x, y)


def test_a_mixture_of_experts_is_fused_with_its_components_summed(rows):
    """What the refusal of enumerated latents advises; the linear pool is the sum over the components of both rows."""
    x, y = rows
    logits, slopes = torch.randn(4, 3, dtype=x.dtype), torch.tensor([-1.0, 0.5, 2.0], dtype=x.dtype)

    def model(x, y):
        with pyro.plate("data", len(x)):
            experts = dist.Normal(slopes * x[:, None], 0.5)
            pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(logits=logits), experts), obs=y)

    for pool in ("linear", "log-linear"):
        trace = poutine.trace(fuse(model, at="y", weight=WEIGHT, pool=pool)).get_trace(x, y)
        label: Any = trace.nodes["y"]["value"]
        scores = logits.log_softmax(-1) + torch.distributions.Normal(slopes * x[:, None], 0.5).log_prob(label[:, None])
        partner = (logits.log_softmax(-1)).roll(-2, 0) + torch.distributions.Normal(
            slopes * swap(x)[:, None], 0.5
        ).log_prob(label[:, None])
        pairs = (OWN[:, None] * scores.exp()).sum(-1) + ((1 - OWN)[:, None] * partner.exp()).sum(-1)
        if pool == "linear":
            torch.testing.assert_close(observed_log_prob(trace), pairs.log())
        else:
            grid = torch.linspace(-20, 20, 8001, dtype=x.dtype)[:, None]

            def density(x, logits, grid=grid):
                each = torch.distributions.Normal(slopes * x[:, None], 0.5).log_prob(grid[..., None])
                return (logits.log_softmax(-1) + each).logsumexp(-1)

            geometric = OWN * density(x, logits) + (1 - OWN) * density(swap(x), swap(logits))
            normaliser = geometric.logsumexp(0) + math.log(40 / 8000)
            at_label = OWN * scores.logsumexp(-1) + (1 - OWN) * partner.logsumexp(-1)
            torch.testing.assert_close(observed_log_prob(trace), at_label - normaliser, rtol=1e-6, atol=1e-6)


def test_predictive_on_a_fused_model(rows):
    x, _ = rows
    torch.manual_seed(0)
    draws = Predictive(fuse(regression, at="y", weight=WEIGHT), num_samples=4000)(x)["y"]
    expected = pooled_normal(1.5 * x, (0.3 * x).exp())
    assert torch.all((draws.mean(0).reshape(-1) - expected.mean).abs() < 4 * expected.stddev / math.sqrt(4000))


def test_vectorised_particles_of_a_fused_model(rows):
    x, y = rows

    def model(x, y):
        slope = pyro.sample("slope", dist.Normal(torch.tensor(1.0, dtype=x.dtype), 0.5))
        regression(x, y, slope)

    fused = fuse(model, at="y", weight=WEIGHT)
    torch.manual_seed(0)
    loss = Trace_ELBO(num_particles=20_000, vectorize_particles=True).loss(fused, PriorGuide(fused), x, y)
    torch.manual_seed(1)
    slopes = dist.Normal(1.0, 0.5).sample((20_000,)).double()
    labels = OWN * y + (1 - OWN) * swap(y)
    each = torch.stack([pooled_normal(s * x, (0.3 * x).exp()).log_prob(labels).sum() for s in slopes[:2000]])
    error = each.std() / math.sqrt(2000)
    assert abs(-loss - each.mean()) < 4 * error


def test_parameters_of_a_fused_module_are_seen():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(1, 1)

        def forward(self, x, y=None):
            with pyro.plate("data", len(x)):
                return pyro.sample("y", dist.Normal(self.linear(x)[:, 0], 1.0), obs=y)

    fused = fuse(Model(), at="y", weight=dist.Beta(0.5, 0.5))
    loss = Trace_ELBO()(fused, PriorGuide(fused))
    assert len(list(loss.parameters())) == 2
    loss(torch.randn(6, 1), torch.randn(6)).backward()
    assert all(p.grad is not None for p in fused.parameters())


def no_plate(x, y=None):
    return pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=y)


def heavy_tailed(x, y=None):
    with pyro.plate("data", len(x)):
        return pyro.sample("y", dist.MultivariateStudentT(3.0, x[:, None].expand(-1, 2), torch.eye(2)))


@pytest.mark.parametrize(
    ("model", "options", "n", "sentence"),
    [
        (regression, {"at": "z"}, 4, r"at='z'.*no such sample site.*'y'.*Try"),
        (regression, {"at": "y"}, 5, r"'y' has an odd batch of 5 rows.*Try"),
        (no_plate, {"at": "y"}, 4, r"'y' is in the plates none.*Try"),
        (regression, {"at": "y", "plate": "rows"}, 4, r"expected the plate 'rows'.*Try"),
    ],
)
def test_errors_name_the_site(model, options, n, sentence):
    with pytest.raises(ValueError, match=sentence):
        fuse(model, weight=0.5, **options)(torch.zeros(n), torch.zeros(n))


def test_density_that_cannot_be_pooled_is_named():
    with pytest.raises((TypeError, ValueError), match="'y' cannot be fused"):
        fuse(heavy_tailed, at="y", weight=0.5)(torch.zeros(4))


@pytest.mark.parametrize(
    "weight",
    [
        dist.Uniform(0.2, 0.8),
        dist.Bernoulli(0.5),
        dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Beta(torch.tensor([0.1, 5.0]), 2.0)),
    ],
    ids=["a part of it", "its ends", "a mixture"],
)
def test_the_weight_has_any_distribution_within_the_unit_interval(weight, rows):
    x, y = rows
    trace = poutine.trace(fuse(regression, at="y", weight=weight)).get_trace(x, y)
    drawn = trace.nodes["lambda"]["value"]
    own = torch.where(torch.arange(4) < 2, drawn, 1 - drawn).double()
    expected = pooled_normal(1.5 * x, (0.3 * x).exp(), own).log_prob(own * y + (1 - own) * swap(y))
    torch.testing.assert_close(observed_log_prob(trace), expected)


@pytest.mark.parametrize("weight", [-0.1, 1.5, torch.tensor([0.2, 2.0]), dist.Gamma(1.0, 1.0), dist.Normal(0.0, 1.0)])
def test_weights_outside_the_unit_interval_are_refused(weight):
    with pytest.raises(ValueError, match=r"fuse got .*Try"):
        fuse(regression, at="y", weight=weight)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="expected 'log-linear' or 'linear'"):
        fuse(regression, at="y", weight=0.5, pool="quadratic")  # type: ignore[arg-type] # refused at run time
    with pytest.raises(ValueError, match="expected 'sample' or 'expected'"):
        fuse(regression, at="y", weight=0.5, labels="none")  # type: ignore[arg-type] # refused at run time


def test_a_kernel_of_the_user_stands_for_beta(rows):
    x, y = rows
    with pytest.raises(ValueError, match=r"beta=0.1 beside the kernel DiracKernel.*Try"):
        fuse(regression, at="y", weight=0.5, beta=0.1, kernel=DiracKernel())
    site: Any = poutine.trace(fuse(regression, at="y", weight=1.0, kernel=DiracKernel())).get_trace(x, y).nodes["y"]
    torch.testing.assert_close(site["value"], torch.cat([y[:2], y[:2]]))


def test_conditioning_outside_is_refused_where_labels_would_stay_unperturbed(rows):
    x, y = rows
    with pytest.raises(ValueError, match=r"observed outside fuse.*Try fuse\(poutine.condition"):
        poutine.condition(fuse(regression, at="y", weight=WEIGHT), {"y": y})(x)
    trace = poutine.trace(fuse(poutine.condition(regression, {"y": y}), at="y", weight=WEIGHT)).get_trace(x)
    torch.testing.assert_close(trace.nodes["y"]["value"], OWN * y + (1 - OWN) * swap(y))


def test_two_responses_of_which_one_is_fused(rows):
    """The labels of a response that is not fused stay with its own density, before or after the fused one."""
    x, y = rows

    def model(x, y):
        with pyro.plate("data", len(x)):
            pyro.sample("first", dist.Normal(x, 1.0), obs=y)
            pyro.sample("second", dist.Normal(2 * x, 1.0), obs=y)

    for at, other in (("first", "second"), ("second", "first")):
        trace = poutine.trace(fuse(model, at=at, weight=WEIGHT)).get_trace(x, y)
        torch.testing.assert_close(trace.nodes[at]["value"], OWN * y + (1 - OWN) * swap(y))
        torch.testing.assert_close(trace.nodes[other]["value"], y)


def test_a_masked_row_masks_its_partner(rows):
    x, y = rows
    mask: Any = torch.tensor([True, True, False, True])
    results = []
    for filler in (0.0, 100.0):
        filled = torch.where(mask, y, filler)
        trace = poutine.trace(fuse(poutine.mask(regression, mask), at="y", weight=WEIGHT)).get_trace(x, filled)
        results.append(observed_log_prob(trace))
    torch.testing.assert_close(results[0], results[1])
    assert (results[0] != 0).tolist() == [False, True, False, True]
    with pytest.raises(ValueError, match=r"'y' was masked outside fuse.*Try fuse\(poutine.mask"):
        poutine.mask(fuse(regression, at="y", weight=WEIGHT), mask)(x, y)
    fused = fuse(regression, at="y", weight=WEIGHT)
    one_for_all: Any
    for one_for_all in (torch.tensor(True), torch.tensor([False])):
        masked = poutine.trace(poutine.mask(fused, one_for_all)).get_trace(x, y)
        expected = observed_log_prob(poutine.trace(fused).get_trace(x, y)) * one_for_all
        torch.testing.assert_close(observed_log_prob(masked), expected)


def test_an_obs_mask_is_refused(rows):
    x, y = rows

    def model(x, y):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x, 1.0), obs=y, obs_mask=missing)

    missing: Any = torch.tensor([True, True, False, True])
    with pytest.raises(ValueError, match=r"'y' has an obs_mask.*Try poutine.mask"):
        fuse(model, at="y", weight=WEIGHT)(x, y)


def test_predictive_with_the_prior_guide(rows):
    x, _ = rows

    def model(x, y=None):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x, 1.0))
            pyro.sample("y", dist.Normal(z, 0.1), obs=y)

    fused = fuse(model, at="z", weight=dist.Beta(0.5, 0.5))
    draws = Predictive(fused, guide=PriorGuide(fused), num_samples=5)(x)
    assert draws["y"].shape == (5, 4)


def test_predictive_with_a_guide_of_the_fused_latent(rows):
    """Its draws come from outside of the handler, and are no labels that would have to be perturbed."""
    x, _ = rows

    def model(x, y=None):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x, 1.0))
            pyro.sample("y", dist.Normal(z, 0.1), obs=y)

    def guide(x, y=None):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Delta(100.0 + x))

    weight: Any
    for weight in (0.5, dist.Beta(0.5, 0.5)):
        draws = Predictive(fuse(model, at="z", weight=weight), guide=guide, num_samples=5)(x)["y"]
        torch.testing.assert_close(draws, (100 + x).expand(5, 4), rtol=0.01, atol=0.0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"weight": torch.rand(3)}, r"'y' has the batch \(4,\), the weight of fuse \(3,\).*Try"),
        ({"weight": 0.5, "beta": -1.0}, r"beta must be finite and not negative.*Try"),
    ],
)
def test_weights_and_spreads_that_do_not_fit(rows, options, sentence):
    x, y = rows
    with pytest.raises(ValueError, match=sentence):
        fuse(regression, at="y", **options)(x, y)


def test_a_linear_pool_of_points_is_refused(rows):
    x, _ = rows

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.deterministic("h", x[:, None], event_dim=1)

    with pytest.raises(ValueError, match=r"'h' is deterministic.*Try pool='log-linear'"):
        fuse(model, at="h", weight=0.5, pool="linear")(x)


def test_a_number_as_weight_keeps_its_digits(rows):
    x, y = rows
    trace = poutine.trace(fuse(regression, at="y", weight=0.3)).get_trace(x, y)
    torch.testing.assert_close(trace.nodes["y"]["value"], OWN * y + (1 - OWN) * swap(y), rtol=1e-14, atol=1e-14)


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, x, y=None):
        return regression(self.linear(x)[:, 0], y)


@pytest.mark.parametrize("own", [Regression, PyroModule[Regression]])
def test_svi_trains_the_parameters_of_a_fused_module(own):
    torch.manual_seed(0)
    x, model = torch.randn(8, 1), own()
    fused = fuse(model, at="y", weight=dist.Beta(0.5, 0.5))
    before = [p.detach().clone() for p in model.parameters()]
    svi = SVI(fused, PriorGuide(fused), ClippedAdam({"lr": 0.1}), Trace_ELBO())
    losses = [svi.step(x, 2 * x[:, 0]) for _ in range(50)]
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert sum(losses[-10:]) < sum(losses[:10])
    if own is Regression:
        assert not list(pyro.get_param_store().keys())
    pyro.clear_param_store()


def test_svi_trains_pyro_modules_within_a_fused_module():
    """Two of them state parameters of like names, and one is used by its attributes, without such statements."""

    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            linear: Any = PyroModule[nn.Linear]
            self.lower, self.upper, self.read = linear(1, 4), linear(4, 1), linear(1, 1)

        def forward(self, x, y=None):
            return regression(self.upper(self.lower(x).tanh())[:, 0] + x[:, 0] * self.read.weight[0, 0], y)

    torch.manual_seed(0)
    x, model = torch.randn(8, 1), Three()
    fused = fuse(model, at="y", weight=dist.Beta(0.5, 0.5))
    before = [p.detach().clone() for p in model.parameters()]
    svi = SVI(fused, PriorGuide(fused), ClippedAdam({"lr": 0.1}), Trace_ELBO())
    for _ in range(5):
        svi.step(x, x[:, 0])
    still = [name for (name, p), old in zip(model.named_parameters(), before, strict=True) if torch.equal(p, old)]
    assert still == ["read.bias"]  # which the model does not use
    pyro.clear_param_store()


def test_a_fused_module_has_the_attributes_of_its_model():
    model = Regression()
    model.units = "m"  # type: ignore[assignment]
    for fused in (fuse(model, at="y", weight=0.5), copy.deepcopy(fuse(model, at="y", weight=0.5))):
        assert fused.units == "m" and torch.equal(fused.linear.weight, model.linear.weight)
        assert [name for name, _ in fused.named_parameters()] == ["model.linear.weight", "model.linear.bias"]
        with pytest.raises(AttributeError, match=r"'Regression' object has no attribute 'slope'"):
            fused.slope  # noqa: B018


class Drifts(ForecastingModel):
    """Series that drift apart, in a plate at dim=-2."""

    def model(self, zero_data, covariates):
        spread = pyro.sample("spread", dist.LogNormal(torch.tensor([-1.0]), 0.5).to_event(1))
        with pyro.plate("series", len(zero_data), dim=-2):
            with self.time_plate:
                drift = pyro.sample("drift", dist.Normal(torch.zeros(1), spread).to_event(1))
            self.predict(dist.Normal(torch.zeros(1), 0.1), drift.cumsum(-2))


def test_a_forecaster_of_pyro_trains_a_fused_model():
    torch.manual_seed(0)
    data, covariates, model = torch.randn(4, 8, 1).cumsum(-2), torch.zeros(11, 0), Drifts()
    fused = fuse(model, at="residual", weight=dist.Beta(0.5, 0.5), plate="series")
    guide = PriorGuide(fused, AutoNormal(model))
    forecaster = Forecaster(fused, data, covariates[:8], guide=guide, num_steps=60, learning_rate=0.05, log_every=0)
    assert sum(forecaster.losses[-20:]) < sum(forecaster.losses[:20])
    for predicts in (fused, model):
        forecaster.model = predicts
        assert forecaster(data, covariates, 5).shape == (5, 4, 3, 1)
    pyro.clear_param_store()


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")  # torch's, of what Pyro's loss does
def test_a_jitted_loss_takes_a_fused_pyro_module_alone():
    class Slope(PyroModule):
        def __init__(self):
            super().__init__()
            self.slope = PyroParam(torch.zeros(()))

        def forward(self, x, y=None):
            return regression(x, y, self.slope)

    x = torch.randn(8)
    fused = fuse(Slope(), at="y", weight=dist.Beta(0.5, 0.5))
    svi = SVI(fused, PriorGuide(fused), ClippedAdam({"lr": 0.1}), JitTrace_ELBO(ignore_jit_warnings=True))
    losses = [svi.step(x, 2 * x) for _ in range(40)]
    assert sum(losses[-10:]) < sum(losses[:10]) and fused.model.slope > 1
    plain = fuse(Regression(), at="y", weight=dist.Beta(0.5, 0.5))
    svi = SVI(plain, PriorGuide(plain), ClippedAdam({"lr": 0.1}), JitTrace_ELBO(ignore_jit_warnings=True))
    with pytest.raises(
        ValueError, match=r"a jitted loss looks for the parameter 'model\.linear\.weight'.*Try Trace_ELBO"
    ):
        svi.step(x[:, None], x)
    pyro.clear_param_store()


def test_a_site_that_is_reparameterised_inside_is_refused(rows):
    x, y = rows

    def model(x, y=None):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    config: dict[str, Any] = {"z": LocScaleReparam(0.0)}
    with pytest.raises(
        ValueError,
        match=r"'z' is an observed point without a density, as reparam.*Try fuse without the reparameterizer",
    ):
        fuse(poutine.reparam(model, config), at="z", weight=0.5)(x, y)
    trace = poutine.trace(poutine.reparam(fuse(model, at="z", weight=0.5), config)).get_trace(x, y)
    noise = trace.nodes["z_decentered"]["value"]
    torch.testing.assert_close(trace.nodes["z"]["value"], (x + swap(x)) / 2 + noise)


def test_a_site_of_the_name_of_the_weight_is_refused_where_one_is_drawn(rows):
    x, y = rows

    def model(x, y=None):
        rate = pyro.sample("lambda", dist.Gamma(1.0, 1.0))
        regression(rate * x, y)

    def with_parameter(x, y=None):
        regression(pyro.param("lambda", torch.ones(())) * x, y)

    weight = dist.Beta(0.5, 0.5)
    for twice in (model, with_parameter):
        with pytest.raises(ValueError, match=r"site 'lambda' of its own.*Try 'rate'"):
            fuse(twice, at="y", weight=weight)(x, y)
    trace = poutine.trace(fuse(model, at="y", weight=0.5)).get_trace(x, y)
    assert type(trace.nodes["lambda"]["fn"]) is dist.Gamma  # the model's own
    pyro.clear_param_store()


def test_labels_that_are_not_one_for_each_row_are_refused(rows):
    x, y = rows

    def vector(x, y=None):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x[:, None], 1.0).to_event(1), obs=y)

    for model, labels, sentence in (
        (
            regression,
            y[:, None],
            r"labels of shape \(4, 1\), expected \[\.\.\., 4\], one for each row of the plate 'data'",
        ),
        (regression, y[:3], r"labels of shape \(3,\), expected \[\.\.\., 4\]"),
        (regression, y[0], r"labels of shape \(\), expected \[\.\.\., 4\]"),
        (vector, y, r"labels of shape \(4,\), expected \[\.\.\., 4, 1\]"),
        (regression, y.numpy(), r"labels of type ndarray, expected a tensor\. Try torch\.as_tensor"),
    ):
        with pytest.raises(ValueError, match=sentence):
            fuse(model, at="y", weight=0.5)(x, labels)
    with pytest.raises(ValueError, match=r"batch \(4,\), the weight of fuse \(3,\)"):
        fuse(regression, at="y", weight=dist.Beta(torch.ones(3), 1.0))(x, y)
