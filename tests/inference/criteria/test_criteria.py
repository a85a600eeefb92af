"""The criteria against quadrature, at a response site and at an embedding site.

The expectation of a logarithm of a mean of K draws is a quadrature in one more dimension:
E[log X] = integral over t > 0 of (exp(-t) - E[exp(-t X)]) / t, and the transform of a mean of draws is a product.
"""

import math
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import ClippedAdam
from scipy.special import roots_hermitenorm, roots_jacobi
from scipy.stats import norm

from pyro_probmix import ExpectedLogLikelihood, LogExpectedLikelihood, PriorGuide, ProbMix, fuse
from pyro_probmix.models import METHODS, Gaussian, build_density

ALPHA = 0.7
REPLICAS = 20_000
X = torch.tensor([-0.4, 0.9], dtype=torch.float64)
Y = torch.tensor([0.3, -0.8], dtype=torch.float64)


def response_model(x, y):
    with pyro.plate("replica", REPLICAS, dim=-2), pyro.plate("data", 2, dim=-1):
        pyro.sample("y", dist.Normal(1.5 * x, (0.5 * x).exp()), obs=y)


def embedding_model(x, y):
    with pyro.plate("replica", REPLICAS, dim=-2), pyro.plate("data", 2, dim=-1):
        z = pyro.sample("z", dist.Normal(x, (0.4 * x).exp()))
        pyro.sample("y", dist.Normal(z.tanh(), 0.5), obs=y)


def nodes():
    """Weights lambda and their probabilities: Gauss-Jacobi for Beta(ALPHA, ALPHA)."""
    t, w = roots_jacobi(60, ALPHA - 1, ALPHA - 1)
    return (1 + t) / 2, w / w.sum()


def pooled(mean, scale, lam):
    precision = lam / scale[0] ** 2 + (1 - lam) / scale[1] ** 2
    return (lam * mean[0] / scale[0] ** 2 + (1 - lam) * mean[1] / scale[1] ** 2) / precision, precision**-0.5


def likelihoods(site):
    """p(y~ | z, lambda) on nodes of lambda and z, with the probabilities of the nodes."""
    lam, p_lam = nodes()
    x, y = X.numpy(), Y.numpy()
    label = lam * y[0] + (1 - lam) * y[1]
    if site == "y":
        loc, scale = pooled(1.5 * x, np.exp(0.5 * x), lam)
        return norm.pdf(label, loc, scale)[:, None], p_lam, np.ones(1)
    loc, scale = pooled(x, np.exp(0.4 * x), lam)
    node, p_z = roots_hermitenorm(80)
    z = loc[:, None] + scale[:, None] * node
    return norm.pdf(label[:, None], np.tanh(z), 0.5), p_lam, p_z / p_z.sum()


def expected_log(transform):
    """E[log X] from t -> E[exp(-t X)], by the trapezoidal rule in log t."""
    u = np.linspace(-40, 10, 2000)
    t = np.exp(u)
    values = np.exp(-t) - np.array([transform(s) for s in t])
    return np.trapezoid(values, u)


def quadrature(criterion, site, K, S):
    """The expectation of one edge's estimate."""
    p, p_lam, p_z = likelihoods(site)
    if isinstance(criterion, ExpectedLogLikelihood):
        return sum(
            w * (np.log(row[0]) if len(row) == 1 else expected_log(lambda t, r=row: (np.exp(-t * r / S) @ p_z) ** S))
            for w, row in zip(p_lam, p, strict=True)
        )
    edges = 2 if criterion.scope == "graph" else 1  # both directions of one edge have the same distribution
    share = 1 / (K * S * edges)
    value = expected_log(lambda t: (((np.exp(-t * p * share) @ p_z) ** S) @ p_lam) ** (K * edges))
    return value * edges


@pytest.mark.parametrize("K", [1, 8])
@pytest.mark.parametrize("S", [1, 8])
@pytest.mark.parametrize("site", ["y", "z"])
@pytest.mark.parametrize("kind", ["expected", "edge", "graph"])
def test_estimates_match_quadrature(kind, site, K, S):
    if site == "y" and S > 1:
        S = 1  # a fused response has no embedding to draw: S must change nothing
        criterion_S = 8
    else:
        criterion_S = S
    scope = {} if kind == "expected" else {"scope": kind}
    criterion = (ExpectedLogLikelihood if kind == "expected" else LogExpectedLikelihood)(K, criterion_S, 2, **scope)
    model = fuse(
        response_model if site == "y" else embedding_model,
        at=site,
        weight=dist.Beta(torch.tensor(ALPHA, dtype=torch.float64), ALPHA),
        plate="data",
        weight_plates=["replica"],
    )
    torch.manual_seed(5)
    (terms,) = criterion.terms(model, PriorGuide(model), X, Y)
    per_replica = terms.sum(-1) if kind == "graph" else terms.flatten()
    error = per_replica.std() / math.sqrt(len(per_replica))
    assert abs(per_replica.mean() - quadrature(criterion, site, K, S)) < 3 * error


def small_process(at="z", **options):
    method = METHODS["M-ProbMix" if at == "z" else "ProbMix"]
    density = build_density(method, num_features=2, likelihood=Gaussian, widths=(6, 4)).double()
    return ProbMix(density, at=at, alpha=0.5, **options).double()


@pytest.fixture
def table():
    torch.manual_seed(2)
    return torch.randn(6, 2, dtype=torch.float64), torch.randn(6, 1, dtype=torch.float64)


def gradients(criterion, model, table):
    torch.manual_seed(4)
    loss = criterion(model, model.guide)(*table)
    return loss, torch.autograd.grad(loss, list(model.parameters()))


@pytest.mark.parametrize("at", ["y", "z"])
def test_both_criteria_are_trace_elbo_at_one_draw(table, at):
    model = small_process(at)
    reference = gradients(Trace_ELBO(), model, table)
    for criterion in (ExpectedLogLikelihood(), LogExpectedLikelihood()):
        torch.testing.assert_close(gradients(criterion, model, table), reference)


def test_log_expected_is_never_below_the_expected(table):
    """Jensen's inequality, draw by draw."""
    model = small_process("y")
    losses = [gradients(c, model, table)[0] for c in (ExpectedLogLikelihood(8), LogExpectedLikelihood(8))]
    assert losses[1] < losses[0]


@pytest.mark.parametrize("scope", ["edge", "graph"])
def test_scale_from_subsampling_stays_outside_the_logarithm(table, scope):
    """The terms of a batch of B of n rows are n / B times what they are for the batch alone."""
    x, y = table
    model = small_process("y", batch_size=4)
    rows = torch.tensor([5, 0, 2, 3])
    alone = small_process("y")
    alone.load_state_dict(model.state_dict())
    criterion = LogExpectedLikelihood(4, 1, 1, scope=scope)
    torch.manual_seed(1)
    (scaled,) = criterion.terms(model, model.guide, x, y, rows)
    torch.manual_seed(1)
    (whole,) = criterion.terms(alone, alone.guide, x[rows], y[rows], torch.arange(4))
    torch.testing.assert_close(scaled, whole * 6 / 4)


def test_minibatches_estimate_n_times_the_risk(table):
    """Averaged over minibatches, the loss is n times eq. (15), a sum over all n^2 edges."""
    x, y = table
    model = small_process("y", batch_size=2)
    with torch.no_grad():
        features = model.density.decoder(model.density.encoder(x))
        base = model.density.likelihood(features).base_dist
        t, w = roots_jacobi(40, -0.5, -0.5)
        risk = 0.0
        for lam, weight in zip((1 + t) / 2, w / w.sum(), strict=True):
            precision = lam / base.scale[:, None] ** 2 + (1 - lam) / base.scale[None] ** 2
            loc = (lam * (base.loc / base.scale**2)[:, None] + (1 - lam) * (base.loc / base.scale**2)[None]) / precision
            labels = lam * y[:, None] + (1 - lam) * y[None]
            risk -= weight * dist.Normal(loc, precision.rsqrt()).log_prob(labels).mean()
        # 2000 replicas of the same weights are as many independent minibatches.
        many = build_density(
            METHODS["ProbMix"], num_features=2, likelihood=Gaussian, widths=(6, 4), replicas=2000
        ).double()
        for p, stacked in zip(model.density.parameters(), many.parameters(), strict=True):
            stacked.copy_(p.expand_as(stacked) if p.dim() > 1 else p[None, None].expand_as(stacked))
        batched = ProbMix(many, at="y", alpha=0.5, batch_size=2).double()
        (terms,) = ExpectedLogLikelihood().terms(batched, batched.guide, x, y)
        losses = -terms.sum(-1)
    assert abs(losses.mean() - 6 * risk) < 3 * losses.std() / math.sqrt(len(losses))


def test_svi_takes_a_criterion_as_its_loss(table):
    x, y = (t.float() for t in table)
    density = build_density(METHODS["M-ProbMix"], num_features=2, likelihood=Gaussian, widths=(16, 8))
    model = ProbMix(density, at="z", alpha=0.5)
    svi = SVI(model, model.guide, ClippedAdam({"lr": 0.02}), LogExpectedLikelihood(2, 3))
    losses = [svi.step(x, y) for _ in range(200)]
    assert sum(losses[-20:]) < sum(losses[:20])
    assert svi.evaluate_loss(x, y) < losses[0]
    assert not list(pyro.get_param_store().keys())  # the parameters stay in the module


def test_a_guide_of_the_user_adds_its_divergence(table):
    """For a guide that is not the prior, the criterion of one draw is Trace_ELBO's, KL divergence and all."""
    x, y = table

    def model(x, y):
        slope = pyro.sample("slope", dist.Normal(torch.zeros(2, dtype=x.dtype), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal((x * slope).sum(-1), 0.5), obs=y[:, 0])

    def guide(x, y):
        loc = torch.tensor([0.3, -0.2], dtype=x.dtype)
        pyro.sample("slope", dist.Normal(loc, 0.4).to_event(1))

    fused = fuse(model, at="y", weight=0.3)
    losses = []
    for criterion in (Trace_ELBO(), ExpectedLogLikelihood()):
        torch.manual_seed(0)
        losses.append(criterion.loss(fused, PriorGuide(fused, guide), x, y))
    assert losses[0] == pytest.approx(losses[1])
    torch.manual_seed(0)
    many = ExpectedLogLikelihood(4000).loss(fused, PriorGuide(fused, guide), x, y)
    torch.manual_seed(1)
    each = torch.tensor([Trace_ELBO().loss(fused, PriorGuide(fused, guide), x, y) for _ in range(2000)])
    assert abs(many - each.mean()) < 4 * each.std() / math.sqrt(1300)


def test_errors():
    with pytest.raises(ValueError, match=r"num_particles=0.*Try"):
        ExpectedLogLikelihood(num_particles=0)
    with pytest.raises(ValueError, match=r"scope='all'.*Try"):
        LogExpectedLikelihood(scope="all")  # type: ignore[arg-type] # what a type checker refuses, at run time

    def model():
        pyro.sample("k", dist.Bernoulli(0.3))
        with pyro.plate("data", 2):
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.zeros(2))

    def guide():
        pyro.sample("k", dist.Bernoulli(torch.tensor(0.5, requires_grad=True)))

    with pytest.raises(ValueError, match=r"'k' of the guide is not reparameterised.*Try Trace_ELBO"):
        ExpectedLogLikelihood().differentiable_loss(model, guide)
    with pytest.raises(ValueError, match=r"'k' of the model is not in the guide.*Try"), pytest.warns(UserWarning):
        ExpectedLogLikelihood().differentiable_loss(model, lambda: None)


def test_responses_of_different_scales_keep_theirs():
    def model(x, y):
        with pyro.plate("data", 2):
            pyro.sample("a", dist.Normal(x, 1.0), obs=y)
            with poutine.scale(scale=0.1):
                pyro.sample("b", dist.Normal(2 * x, 1.0), obs=y)

    losses = [criterion.loss(model, PriorGuide(model), X, Y) for criterion in (Trace_ELBO(), ExpectedLogLikelihood())]
    assert losses[0] == pytest.approx(losses[1])


def test_graph_scope_refuses_a_mask():
    def model(x, y):
        mask: Any = torch.tensor([True, False])
        with pyro.plate("data", 2), poutine.mask(mask=mask):
            pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    with pytest.raises(ValueError, match=r"'y' is masked.*Try scope='edge'"):
        LogExpectedLikelihood(scope="graph").loss(model, PriorGuide(model), X, Y)


def test_a_criterion_checks_what_pyros_losses_check():
    x = torch.randn(8)

    def model(x, y=None):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    def misspelt(x, y=None):
        pyro.sample("slop", dist.Delta(torch.zeros(())))

    criterion = ExpectedLogLikelihood()
    with pytest.raises(ValueError, match="invalid log_prob shape"):
        criterion.loss(model, PriorGuide(model), x, x[:, None])
    with pytest.warns(UserWarning, match="non-auxiliary vars in guide but not model"):
        criterion.loss(model, PriorGuide(model, misspelt), x, x)
    with pytest.warns(UserWarning, match="Encountered NaN: loss"), pyro.validation_enabled(False):
        criterion.loss(model, PriorGuide(model), x, torch.nan * x)
    with pytest.raises(ValueError, match=r"ExpectedLogLikelihood found no observed site in the model.*Try"):
        criterion.loss(model, PriorGuide(model), x)


def test_a_guide_of_another_model_is_refused():
    x = torch.randn(8)

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x, 1.0), obs=x)

    fused = fuse(model, at="y", weight=dist.Beta(0.5, 0.5))
    with pytest.raises(ValueError, match=r"a guide of another model.*Try PriorGuide\(model, guide\)"):
        ExpectedLogLikelihood().loss(fused, PriorGuide(model), x)


def test_a_guided_latent_is_not_averaged_inside_the_logarithm():
    y = torch.randn(6)

    def model():
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 6):
            pyro.sample("y", dist.Normal(w[..., None], 1.0), obs=y)

    guide = PriorGuide(model, AutoNormal(model))
    with pytest.raises(
        ValueError, match=r"num_particles=3 and the latent 'w' from a guide.*Try num_particles=1, or Expected"
    ):
        LogExpectedLikelihood(3, max_plate_nesting=1).loss(model, guide)
    for criterion in (LogExpectedLikelihood(max_plate_nesting=1), ExpectedLogLikelihood(3, max_plate_nesting=1)):
        assert math.isfinite(criterion.loss(model, guide))


def test_nan_labels_under_a_mask_are_said():
    """Their gradients are NaN although they do not count: a step later that would be blamed on the guide's weights."""

    class Masked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(2, 1)

        def forward(self, x, y=None):
            with pyro.plate("data", len(x)):
                counts: Any = torch.ones(len(x), dtype=torch.bool) if y is None else ~y.isnan()
                with poutine.mask(mask=counts):
                    return pyro.sample("y", dist.Normal(self.linear(x)[:, 0], 1.0, validate_args=False), obs=y)

    x = torch.randn(8, 2)
    y = x.sum(1)
    y[3] = torch.nan
    model = ProbMix(Masked(), at=None)
    for criterion in (ExpectedLogLikelihood(), LogExpectedLikelihood(2)):
        with pytest.raises(
            ValueError, match=r"site 'y' observes NaN, expected numbers: under a mask, too.*Try y.nan_to"
        ):
            criterion(model, model.guide)(x, y)
    # With Pyro's own objective, where the next step would speak of the guide's weights.
    model = fuse(Masked(), at="y", weight=0.5)
    svi = SVI(model, AutoNormal(model), ClippedAdam({"lr": 0.1}), Trace_ELBO())
    with pytest.raises(ValueError, match=r"site 'y' observes NaN, expected numbers: under a mask, too"):
        svi.step(x, y)


def test_responses_that_take_nan_are_given_some():
    def model(y):
        with pyro.plate("data", 4):
            pyro.sample("y", dist.NanMaskedNormal(loc, torch.ones(4)), obs=y)

    loc, y = torch.zeros((), requires_grad=True), torch.tensor([1.0, torch.nan, 3.0, 4.0])
    for pool in ("log-linear", "linear"):
        for criterion in (ExpectedLogLikelihood(), Trace_ELBO()):
            loss = criterion.differentiable_loss(fuse(model, at="y", weight=0.5, pool=pool), lambda y: None, y)
            (gradient,) = torch.autograd.grad(loss, loc)
            assert loss.isfinite() and gradient.isfinite()
