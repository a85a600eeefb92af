"""The gradient of the evidence lower bound in a weight that is learned or has a guide, through drawn labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import (
    Predictive,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
    TraceTMC_ELBO,
)
from pyro.infer.autoguide import AutoDelta, AutoNormal
from torch import Tensor
from torch.distributions import biject_to, constraints

from pyro_probmix import ExpectedLogLikelihood, PriorGuide, fuse
from pyro_probmix.fusing.kernels.directional import Directions
from pyro_probmix.fusing.kernels.kernels import BiasedCategoricalKernel, Kernel
from pyro_probmix.pooling import log_linear_pool
from tests.fusing.brute_force import halves

LOSSES = [Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO]
COPIES = 200  # of two edges: a sum over them has the small standard error of many draws


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    pyro.set_rng_seed(3)
    yield
    torch.set_default_dtype(torch.float32)
    pyro.clear_param_store()


#: Rows of two edges: 0 and 2, 1 and 3.
X = torch.tensor([0.3, -0.8, 1.1, 0.4], dtype=torch.float64)
SLOPES = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
CLASSES = torch.tensor([0, 2, 1, 0])
#: A density of the responses, their labels, and a kernel that is not the default one.
RESPONSES: dict[str, tuple[Callable[[Tensor], Any], Tensor, Kernel | None]] = {
    "counts": (lambda x: dist.Poisson(x.exp()), torch.tensor([0.0, 2.0, 5.0, 1.0], dtype=torch.float64), None),
    "positive": (lambda x: dist.Gamma(2.0, x.exp()), torch.tensor([0.2, 1.5, 0.7, 3.0], dtype=torch.float64), None),
    "classes": (lambda x: dist.Categorical(logits=x[..., None] * SLOPES), CLASSES, None),
    "biased classes": (
        lambda x: dist.Categorical(logits=x[..., None] * SLOPES), CLASSES, BiasedCategoricalKernel(0.1, 3)
    ),
}  # fmt: skip


def copies(values: Tensor) -> Tensor:
    """Many rows like the four, whose partners are like theirs."""
    return values.reshape(2, 2).repeat(1, COPIES).flatten()


def own(weight: Tensor) -> Tensor:
    """Each row's own weight, of one for all edges [...], to [..., 4]."""
    return torch.where(torch.arange(4) < 2, weight[..., None], 1 - weight[..., None])


def exact(case: str, weight: Tensor) -> Any:
    """The expected log-likelihood, a sum over the labels that may be drawn, at weights of any shape."""
    density, y, kernel = RESPONSES[case]
    w = own(weight)
    pooled = log_linear_pool(density(X.expand(w.shape)), density(halves(X).expand(w.shape)), w)
    if kernel is None:
        return (w * pooled.log_prob(y) + (1 - w) * pooled.log_prob(halves(y))).sum(-1)
    odds = math.log(1.1) - math.log(0.1)
    mixed = w[..., None] * (y[:, None] == torch.arange(3)) + (1 - w[..., None]) * (
        halves(y)[:, None] == torch.arange(3)
    )
    labels = (odds * mixed).softmax(-1)
    scores = torch.stack([pooled.log_prob(torch.full((4,), k)) for k in range(3)], -1)
    return (labels * scores).sum((-1, -2))


def rows(case: str) -> None:
    density, y, _ = RESPONSES[case]
    with pyro.plate("rows", 4 * COPIES):
        pyro.sample("y", density(copies(X)), obs=copies(y))


def learned(case: str) -> None:
    """The rows' model fused by a weight that is a parameter."""
    weight = pyro.param("weight", torch.tensor(0.3))
    with fuse(at="y", weight=weight, kernel=RESPONSES[case][2]):
        rows(case)


def no_latents(*_: Any) -> None:
    """A guide of a model without latents."""


def unconstrained(name: str) -> Any:
    parameter: Any = pyro.param(name)
    return parameter.unconstrained()


def gradients(loss: Any, model: Any, guide: Any, *names: str, runs: int = 40) -> Tensor:
    """Of the evidence lower bound of two edges in the parameters, one for each run."""
    found = []
    for _ in range(runs):
        assert math.isfinite(loss.loss_and_grads(model, guide))
        parameters: list[Any] = [unconstrained(name) for name in names]
        found.append(torch.stack([-parameter.grad / COPIES for parameter in parameters]))
        for parameter in parameters:
            parameter.grad = None
    return torch.stack(found)


def assert_mean(draws: Tensor, expected: Tensor) -> None:
    error = draws.std(0) / math.sqrt(len(draws))
    assert bool(((draws.mean(0) - expected).abs() < 4 * error).all()), (draws.mean(0), error, expected)
    assert bool((error < 0.1 * expected.abs()).all())  # so that the assertion means something


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", RESPONSES)
def test_the_gradient_of_a_weight_that_is_learned(case: str, loss: Any) -> None:
    weight = torch.tensor(0.3, requires_grad=True)
    (expected,) = torch.autograd.grad(exact(case, weight), weight)
    assert_mean(gradients(objective(loss), lambda: learned(case), no_latents, "weight"), expected)


def objective(loss: Any) -> Any:
    return loss(**({"strict_enumeration_warning": False} if loss is TraceEnum_ELBO else {}))


PRIOR = dist.Beta(torch.tensor(2.0, dtype=torch.float64), 2.0)


def logit_normal(loc: Tensor, scale: Tensor) -> Any:
    return dist.TransformedDistribution(dist.Normal(loc, scale), dist.transforms.SigmoidTransform())


def weights_guide(*_: Any) -> None:
    loc, scale = pyro.param("loc", torch.tensor(0.4)), pyro.param("scale", torch.tensor(0.7))
    with pyro.plate("rows", 4 * COPIES):
        pyro.sample("lambda", logit_normal(loc, scale))


def exact_under_guide(likelihood: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient in the guide's parameters: an integral over the weights by the trapezoidal rule, a sum over labels."""
    loc, scale = torch.tensor(0.4, requires_grad=True), torch.tensor(0.7, requires_grad=True)
    grid = torch.linspace(-8, 8, 2001)
    density = dist.Normal(0.0, 1.0).log_prob(grid).exp() * (grid[1] - grid[0])
    weight = torch.sigmoid(loc + scale * grid)
    divergence = logit_normal(loc, scale).log_prob(weight) - PRIOR.log_prob(weight)
    bound = (density * (likelihood(weight) - 4 * divergence)).sum()
    return torch.stack(torch.autograd.grad(bound, [loc, scale]))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", ["counts", "biased classes"])
def test_the_gradient_of_a_guide_for_the_weight(case: str, loss: Any) -> None:
    model = fuse(lambda: rows(case), at="y", weight=PRIOR, kernel=RESPONSES[case][2])
    found = gradients(objective(loss), model, weights_guide, "loc", "scale")
    assert_mean(found, exact_under_guide(lambda weight: exact(case, weight)))


def test_the_gradient_in_many_particles_scaled_and_masked() -> None:
    mask: Any = copies(torch.tensor([True, False, True, False]))

    def model() -> None:
        with pyro.poutine.scale(scale=3.0), pyro.poutine.mask(mask=mask):
            rows("counts")

    fused = fuse(model, at="y", weight=PRIOR)

    def likelihood(weight: Tensor) -> Any:
        w, y = own(weight), RESPONSES["counts"][1]
        p = dist.Poisson((w * X + (1 - w) * halves(X)).exp())
        return (3 * (w * p.log_prob(y) + (1 - w) * p.log_prob(halves(y))))[..., [0, 2]].sum(-1)

    elbo = Trace_ELBO(num_particles=10, vectorize_particles=True, max_plate_nesting=1)
    assert_mean(gradients(elbo, fused, weights_guide, "loc", "scale", runs=20), exact_under_guide(likelihood))


@pytest.mark.parametrize("enumerate_", [None, "parallel", "sequential"])
def test_the_gradient_beside_a_latent_that_the_guide_enumerates(enumerate_: Any) -> None:
    """Of all rows, in the guide's parameters of the weight and of the latent."""

    def model() -> None:
        z = pyro.sample("z", dist.Bernoulli(0.5))
        with pyro.plate("rows", 4 * COPIES):
            pyro.sample("y", dist.Poisson((copies(X) + 0.5 * z).exp()), obs=copies(RESPONSES["counts"][1]))

    def guide() -> None:
        odds = pyro.param("odds", torch.tensor(0.3))
        pyro.sample("z", dist.Bernoulli(logits=odds), infer={"enumerate": enumerate_})
        weights_guide()

    def likelihood(weight: Tensor, z: float) -> Any:
        w, y = own(weight), RESPONSES["counts"][1]
        p = dist.Poisson((w * X + (1 - w) * halves(X) + 0.5 * z).exp())
        return (w * p.log_prob(y) + (1 - w) * p.log_prob(halves(y))).sum(-1)

    def mixed(weight: Tensor) -> Any:
        share = torch.sigmoid(torch.tensor(0.3))
        return share * likelihood(weight, 1.0) + (1 - share) * likelihood(weight, 0.0)

    elbo: Any = objective(TraceEnum_ELBO) if enumerate_ else Trace_ELBO()
    found = gradients(elbo, fuse(model, at="y", weight=PRIOR), guide, "loc", "scale", runs=60)
    assert_mean(found, exact_under_guide(mixed))


FIRST, SECOND = RESPONSES["counts"][1], torch.tensor([1.0, 0.0, 2.0, 4.0], dtype=torch.float64)


def over_labels(weight: Tensor, value: Callable[[Tensor], Tensor]) -> Tensor:
    """The expectation of a value of the rows' labels."""
    w = own(weight)
    return (w * value(FIRST) + (1 - w) * value(halves(FIRST))).sum(-1)


@pytest.mark.parametrize("loss", [Trace_ELBO, TraceGraph_ELBO, TraceEnum_ELBO])
@pytest.mark.parametrize("is_latent", [False, True])
def test_a_later_site_may_depend_on_a_label(is_latent: bool, loss: Any) -> None:
    """An autoregression, in which the label of the first step is an input of the second."""

    def model() -> None:
        with pyro.plate("rows", 4 * COPIES):
            y = pyro.sample("y", dist.Poisson(copies(X).exp()), obs=copies(FIRST))
            if is_latent:
                pyro.sample("later", dist.Normal(y, 1.0))
            else:
                pyro.sample("later", dist.Poisson(y + 1), obs=copies(SECOND))

    def guide() -> None:
        loc, scale = pyro.param("loc", torch.tensor(0.4)), pyro.param("scale", torch.tensor(0.7))
        with pyro.plate("rows", 4 * COPIES):
            pyro.sample("lambda", logit_normal(loc, scale))
            pyro.sample("later", dist.Normal(1.0, 1.0))

    def likelihood(weight: Tensor) -> Any:
        p = dist.Poisson((own(weight) * X + (1 - own(weight)) * halves(X)).exp())
        if is_latent:  # the expectation over the guide's draws, up to a constant
            return over_labels(weight, lambda y: p.log_prob(y) - 0.5 * (y - 1).square())
        return over_labels(weight, lambda y: p.log_prob(y) + dist.Poisson(y + 1).log_prob(SECOND))

    fused = fuse(model, at="y", weight=PRIOR)
    found = gradients(objective(loss), fused, guide if is_latent else weights_guide, "loc", "scale", runs=60)
    assert_mean(found, exact_under_guide(likelihood))
    if is_latent:
        with pytest.raises(ValueError, match=r"'later' has drawn labels, or.*divergence.*Try labels='expected'"):
            TraceMeanField_ELBO().loss_and_grads(fused, guide)


def test_a_site_outside_of_the_rows_may_depend_on_all_labels() -> None:
    def model() -> None:
        with pyro.plate("rows", 4):
            y = pyro.sample("y", dist.Poisson(X.exp()), obs=FIRST)
        pyro.sample("mean", dist.Normal(y.mean(-1, keepdim=True), 0.5), obs=torch.tensor(4.0))

    def guide() -> None:
        with pyro.plate("rows", 4):
            pyro.sample(
                "lambda", logit_normal(pyro.param("loc", torch.tensor(0.4)), pyro.param("scale", torch.tensor(0.7)))
            )

    grid = torch.linspace(-8, 8, 2001)
    density = dist.Normal(0.0, 1.0).log_prob(grid).exp() * (grid[1] - grid[0])

    def likelihood(weight: Tensor) -> Any:
        p = dist.Poisson((own(weight) * X + (1 - own(weight)) * halves(X)).exp())
        w = own((density * weight).sum())  # of the mean of labels that are independent, each with the mean weight
        mean = (w * FIRST + (1 - w) * halves(FIRST)).mean()
        variance = (w * (1 - w) * (FIRST - halves(FIRST)).square()).sum() / 16
        return over_labels(weight, p.log_prob) - ((mean - 4).square() + variance) / (2 * 0.5**2)

    elbo = Trace_ELBO(num_particles=4000, vectorize_particles=True, max_plate_nesting=1)
    found = gradients(elbo, fuse(model, at="y", weight=PRIOR), guide, "loc", "scale", runs=20) * COPIES
    assert_mean(found, exact_under_guide(likelihood))


@pytest.mark.parametrize("loss", [Trace_ELBO, TraceGraph_ELBO])
def test_the_gradient_through_labels_on_the_sphere(loss: Any) -> None:
    """Against the expectation in closed form; labels are spread around the mixed one."""
    labels = torch.nn.functional.normalize(torch.randn(4, 3), dim=-1)
    modes = labels * torch.tensor([2.0, 1.0, -2.0, 0.5])[:, None]

    def model() -> None:
        with pyro.plate("rows", 4 * COPIES):
            modes_, labels_ = (v.reshape(2, 2, 3).repeat(1, COPIES, 1).reshape(-1, 3) for v in (modes, labels))
            h = pyro.deterministic("h", modes_, event_dim=1)
            pyro.sample("y", dist.VonMises3D(h), obs=labels_)

    def fused(labels: Any) -> Any:
        return fuse(model, at="h", weight=pyro.param("weight", torch.tensor(0.3)), beta=0.4, labels=labels)

    def bound(weight: Tensor) -> Tensor:
        with fuse(at="h", weight=weight, beta=0.4, labels="expected"):
            trace = pyro.poutine.trace(model).get_trace()
        trace.compute_log_prob()
        return trace.nodes["y"]["log_prob_sum"] / COPIES

    weight = torch.tensor(0.3, requires_grad=True)
    found = gradients(objective(loss), lambda: fused("sample")(), no_latents, "weight")
    assert_mean(found, torch.autograd.grad(bound(weight), weight)[0])


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_score_of_a_direction(size: int) -> None:
    unit = torch.nn.functional.normalize(torch.randn(2, size), dim=-1)
    concentration = torch.tensor([0.05, 1.0, 30.0], requires_grad=True)

    def log_prob(concentration: Tensor) -> Tensor:
        return Directions(unit[0].expand(3, -1), concentration).log_prob(unit[1])

    assert torch.autograd.gradcheck(log_prob, concentration)


def enumerated(x: Tensor) -> None:
    z = pyro.sample("z", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
    with pyro.plate("rows", 4):
        pyro.sample("y", dist.Poisson((x + z).exp()), obs=FIRST)


def plain(x: Tensor) -> None:
    with pyro.plate("rows", 4):
        pyro.sample("y", dist.Poisson(x.exp()), obs=FIRST)


def small_guide(*_: Any, **__: Any) -> None:
    with pyro.plate("rows", 4):
        pyro.sample("lambda", logit_normal(pyro.param("loc", torch.tensor(0.4)), torch.tensor(0.7)))


REFUSED: dict[str, tuple[Callable[..., Any], Any, str]] = {
    "Renyi": (plain, RenyiELBO(num_particles=2), "this loss"),
    "criterion": (plain, ExpectedLogLikelihood(), "this loss"),
    "enumerated": (enumerated, TraceEnum_ELBO(), "a sum over an enumerated latent"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_objective_that_has_no_such_gradient_is_refused(case: str) -> None:
    """And taken where no gradient goes through the labels: expected ones, a weight left to its prior, or values alone."""
    model, loss, what = REFUSED[case]
    fused = fuse(model, at="y", weight=PRIOR)
    with pytest.raises(
        ValueError, match=rf"'y' has drawn labels.*{what} has no gradient.*Try labels='expected', or Prior"
    ):
        loss.loss_and_grads(fused, small_guide, X)
    with torch.no_grad():
        assert math.isfinite(loss.loss(fused, small_guide, X))
    assert math.isfinite(loss.loss_and_grads(fuse(model, at="y", weight=PRIOR, labels="expected"), small_guide, X))
    prior: Any = PriorGuide(fused)
    x = X.clone().requires_grad_()  # as of a parameter
    assert math.isfinite(loss.loss_and_grads(fused, prior.standalone() if case == "enumerated" else prior, x))


def test_reweighted_wake_sleep_of_a_learned_weight_is_refused() -> None:
    def model(x: Tensor, observations: Any = None) -> None:
        with fuse(at="y", weight=pyro.param("weight", torch.tensor(0.3))):
            plain(x)

    loss = ReweightedWakeSleep(num_particles=2, vectorize_particles=False)
    with pytest.raises(ValueError, match="this loss has no gradient"):
        loss.loss_and_grads(model, no_latents, X)


@pytest.mark.parametrize("loss", [TraceTailAdaptive_ELBO, TraceTMC_ELBO])
def test_losses_that_weigh_their_particles_are_refused(loss: Any) -> None:
    fused = fuse(plain, at="y", weight=PRIOR)
    with pytest.raises(ValueError, match="'y' has drawn labels"):
        loss(num_particles=2, vectorize_particles=True, max_plate_nesting=1).loss_and_grads(fused, AutoNormal(fused), X)


def test_points_beside_spread_labels_are_refused() -> None:
    def model(x: Tensor, beta: Any) -> None:
        with fuse(at="h", weight=pyro.param("weight", torch.tensor(0.3)), beta=beta), pyro.plate("rows", 4):
            h = pyro.deterministic("h", x)
            pyro.sample("y", dist.VonMises(h, 1.0), obs=X)

    with pytest.raises(ValueError, match=r"'y' has drawn labels.*a tensor of betas with zeros.*Try labels='expected'"):
        Trace_ELBO().loss_and_grads(model, no_latents, X, torch.tensor([0.0, 0.1, 0.1, 0.1]))
    assert math.isfinite(Trace_ELBO().loss_and_grads(model, no_latents, X, torch.tensor([0.2, 0.1, 0.1, 0.1])))
    assert math.isfinite(Trace_ELBO().loss_and_grads(model, no_latents, X, 0.0))


@pytest.mark.parametrize("autoguide", [AutoNormal, AutoDelta])
def test_autoguides_have_the_gradient(autoguide: Any) -> None:
    """Of one number for all edges; the guide's own parameter at its start is compared."""
    fused = fuse(lambda: rows("counts"), at="y", weight=PRIOR)
    guide = autoguide(fused)
    Trace_ELBO().loss(fused, guide)
    name = "AutoNormal.locs.lambda" if autoguide is AutoNormal else "AutoDelta.lambda"
    value = biject_to(constraints.unit_interval).inv(torch.tensor(0.3)).expand(4 * COPIES)
    with torch.no_grad():
        unconstrained(name).copy_(value)
        if autoguide is AutoNormal:
            unconstrained("AutoNormal.scales.lambda").fill_(-20.0)  # nearly a point
    found = []
    for _ in range(40):
        Trace_ELBO().loss_and_grads(fused, guide)
        parameter = unconstrained(name)
        found.append(-parameter.grad.sum()[None] / COPIES)
        parameter.grad = None
    raw = value[0].clone().requires_grad_()
    weight = torch.sigmoid(raw)
    jacobian = (weight * (1 - weight)).log() if autoguide is AutoNormal else 0.0
    bound = exact("counts", weight) + 4 * (PRIOR.log_prob(weight) + jacobian)
    assert_mean(torch.stack(found), torch.autograd.grad(bound, raw)[0])


def test_labels_have_no_score_where_no_gradient_goes_through_them() -> None:
    fused = fuse(plain, at="y", weight=PRIOR)
    guide = PriorGuide(fused)
    guide(X)
    assert guide.get_traces()[0].nodes["y"]["scale"] == 1.0
    assert Predictive(fused, num_samples=2)(X)["y"].shape == (2, 4)
