"""Natural parameters against brute force (Theorem C.1), families of one's own, and rolled rows."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.distributions as td
from pyro.distributions import transforms
from pyro.distributions.torch_distribution import ExpandedDistribution, TorchDistributionMixin
from pyro.distributions.transforms.spline import ConditionedSpline

from pyro_probmix.pooling import log_linear_pool, pool_rows
from pyro_probmix.pooling.families import find_family, register_family, roll_batch
from tests.pooling.cases import CLOSED, EVERY, REAL, Case, t

ids = [case.name for case in CLOSED]


@pytest.mark.parametrize("case", CLOSED, ids=ids)
def test_the_pool_of_a_family_is_the_normalised_product_of_powers(case: Case) -> None:
    (p, p_leaves), (q, q_leaves) = (case.member(k, requires_grad=True) for k in (0, 1))
    weight = t(0.3, 0.85).requires_grad_()
    value = case.common()
    pooled = log_linear_pool(p, q, weight).log_prob(value)
    expected = case.log_pool((weight, 1 - weight), (p, q), value)

    torch.testing.assert_close(pooled, expected, rtol=0.0, atol=case.tolerance)
    possible = expected.isfinite()
    chosen = torch.randn(expected.shape, dtype=REAL)[possible]
    for actual, wanted in zip(
        torch.autograd.grad((chosen * pooled[possible]).sum(), [weight, *p_leaves, *q_leaves], retain_graph=True),
        torch.autograd.grad((chosen * expected[possible]).sum(), [weight, *p_leaves, *q_leaves]),
        strict=True,
    ):
        torch.testing.assert_close(actual, wanted, rtol=0.0, atol=100 * case.tolerance)


@pytest.mark.parametrize("case", CLOSED, ids=ids)
def test_natural_parameters_go_back_to_the_distribution(case: Case) -> None:
    p, _ = case.member(0)
    family = find_family(type(p))
    assert family is not None
    naturals = family.to_natural(p)
    assert all(eta.shape[:1] == p.batch_shape for eta in naturals)
    again = family.from_natural(p, naturals)
    assert isinstance(again, TorchDistributionMixin)
    torch.testing.assert_close(again.log_prob(case.common()), p.log_prob(case.common()), rtol=1e-12, atol=1e-12)


def test_the_pool_of_deltas_is_the_limit_of_normals_of_one_vanishing_variance() -> None:
    x, y = t([0.0, 2.0], [1.0, 5.0]), t([4.0, 0.0], [1.0, 2.0])
    weight = t(0.25, 0.5)
    delta = log_linear_pool(dist.Delta(x, event_dim=1), dist.Delta(y, event_dim=1), weight)
    normal = log_linear_pool(dist.Normal(x, 1e-6).to_event(1), dist.Normal(y, 1e-6).to_event(1), weight)
    assert isinstance(delta, dist.Delta) and delta.event_dim == 1
    torch.testing.assert_close(delta.v, t([3.0, 0.5], [1.0, 3.5]))
    torch.testing.assert_close(delta.v, normal.mean)


def test_the_densities_of_deltas_are_pooled_too() -> None:
    pooled = log_linear_pool(dist.Delta(t(0.0), t(1.0)), dist.Delta(t(2.0), t(3.0)), 0.75)
    torch.testing.assert_close(pooled.log_prob(t(0.5)), t(1.5))


@pytest.mark.parametrize(
    ("p", "kept"),
    [
        (td.Normal(0.0, 1.0), dist.Normal),
        (dist.NanMaskedNormal(torch.tensor(0.0), torch.tensor(1.0)), dist.NanMaskedNormal),
        (dist.OneHotCategoricalStraightThrough(torch.ones(3) / 3), dist.OneHotCategoricalStraightThrough),
        (td.OneHotCategoricalStraightThrough(torch.ones(3) / 3), dist.OneHotCategoricalStraightThrough),
        (dist.Chi2(torch.tensor(3.0)), dist.Gamma),
    ],
)
def test_the_pool_keeps_the_type_where_the_type_is_closed(p: Any, kept: type) -> None:
    assert type(log_linear_pool(p, p, 0.5)) is kept


def test_the_pool_of_sparse_poissons_is_sparse() -> None:
    rates = torch.tensor([1.0, 4.0])
    assert log_linear_pool(dist.Poisson(rates, is_sparse=True), dist.Poisson(rates, is_sparse=True), 0.5).is_sparse


def test_validation_is_inherited_from_the_first_member() -> None:
    p = dist.Normal(torch.zeros(2), 1.0, validate_args=False)
    assert not log_linear_pool(p, p, 0.5)._validate_args


def test_a_poisson_of_rate_zero_excludes_all_but_zero_unless_its_weight_is_zero() -> None:
    rate = t(0.0, 0.0, 2.0).requires_grad_()
    pooled = log_linear_pool(dist.Poisson(rate), dist.Poisson(t(3.0, 3.0, 3.0)), t(0.5, 0.0, 0.0))
    torch.testing.assert_close(pooled.rate, t(0.0, 3.0, 3.0))
    (gradient,) = torch.autograd.grad(pooled.rate.sum(), rate)
    assert gradient.isfinite().all()


def test_opposite_directions_cancel_to_the_uniform_law_of_the_circle() -> None:
    loc = t(0.0).requires_grad_()
    pooled = log_linear_pool(dist.VonMises(loc, t(2.0)), dist.VonMises(t(math.pi), t(2.0)), 0.5)
    score = pooled.log_prob(t(1.0))
    torch.testing.assert_close(score, t(-math.log(2 * math.pi)), rtol=0.0, atol=1e-7)
    score.sum().backward()
    assert loc.grad is not None and loc.grad.isfinite().all()


def test_categoricals_that_share_no_class_are_refused() -> None:
    p, q = (dist.Categorical(logits=torch.tensor(x)) for x in ([0.0, -math.inf], [-math.inf, 0.0]))
    with pytest.raises(ValueError, match="Categorical that share no class"):
        log_linear_pool(p, q, 0.5)
    assert log_linear_pool(p, q, 1.0).probs.tolist() == [1.0, 0.0]


def test_deltas_at_integers_are_refused() -> None:
    p = dist.Delta(torch.tensor([1, 2]))
    with pytest.raises(TypeError, match=r"torch\.int64 has no log-linear pool.*Try floating-point"):
        log_linear_pool(p, p, 0.5)


class Rayleigh(dist.Weibull):  # type: ignore[misc]  # Pyro makes the class at run time
    """A family of a user's own: p(y) proportional to y exp(-y^2 / (2 scale^2))."""

    def __init__(self, scale: torch.Tensor) -> None:
        self.sigma = scale
        super().__init__(math.sqrt(2) * scale, torch.full_like(scale, 2.0))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Rayleigh:
        return Rayleigh(self.sigma.expand(batch_shape))


class OwnRayleigh(Rayleigh):
    pass


def test_a_user_registers_a_family_for_a_class_and_its_subclasses() -> None:
    scale = t(1.0, 2.0)
    q_scale = t(3.0, 0.5)
    numerical = log_linear_pool(Rayleigh(scale), Rayleigh(q_scale), 0.3)
    register_family(Rayleigh, lambda p: (p.sigma**-2,), lambda p, naturals: Rayleigh(naturals[0].rsqrt()))
    pooled = log_linear_pool(Rayleigh(scale), OwnRayleigh(q_scale), 0.3)
    assert type(pooled) is Rayleigh
    torch.testing.assert_close(pooled.sigma, (0.3 * scale**-2 + 0.7 * q_scale**-2).rsqrt())
    torch.testing.assert_close(pooled.log_prob(t(0.8)), numerical.log_prob(t(0.8)))


def test_registering_nonsense_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a class of distributions"):
        register_family(int, lambda p: (), lambda p, naturals: p)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"register_family\(Gumbel\).*expected two functions"):
        register_family(dist.Gumbel, None, lambda p, naturals: p)  # type: ignore[arg-type]


class Waiting(dist.Exponential):  # type: ignore[misc]  # Pyro makes the class at run time
    """A family of a user's own, whose maps are wrong."""


@pytest.mark.parametrize("batch_shape", [(4,), (4, 2)])
@pytest.mark.parametrize(
    ("to_natural", "from_natural", "error", "message"),
    [
        (
            lambda p: p.rate,
            None,
            TypeError,
            r"to_natural\(Waiting\) returned a tensor of shape \(4.*a tuple of tensors",
        ),
        (lambda p: None, None, TypeError, r"to_natural\(Waiting\) returned None, expected a tuple of tensors"),
        (lambda p: (), None, TypeError, r"returned a tuple \(\), expected a tuple of tensors"),
        (lambda p: (p.rate, 1.0), None, TypeError, r"a tuple \(Tensor, float\), expected a tuple of tensors"),
        (lambda p: (p.rate[:2],), None, ValueError, r"returned a tensor of shape \(2.*expected the batch shape \(4"),
        (lambda p: (p.rate,), lambda p, e: None, TypeError, r"from_natural\(Waiting\) returned None.*a distribution"),
    ],
)
def test_the_maps_of_a_family_are_checked(
    batch_shape: tuple[int, ...], to_natural: Any, from_natural: Any, error: type[Exception], message: str
) -> None:
    register_family(Waiting, to_natural, from_natural or (lambda p, e: Waiting(e[0])))
    p = Waiting(torch.rand(batch_shape) + 1)
    for pooled in (lambda: pool_rows(p, 0.5, 2, -len(batch_shape)), lambda: log_linear_pool(p, p, 0.5)):
        with pytest.raises(error, match=f"{message}.*Try"):
            pooled()


def _beside(shared: torch.Tensor, p: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return p.rate, shared


def test_natural_parameters_may_be_shared_by_rows() -> None:
    for shared in (torch.zeros(1, 3), torch.tensor(0.0)):
        register_family(Waiting, partial(_beside, shared), lambda p, e: Waiting(e[0] + e[1].sum()))
        assert pool_rows(Waiting(torch.tensor([1.0, 3.0])), 0.25, 1).rate.tolist() == [2.5, 1.5]


def positive(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=REAL) + 0.5


def spline(raw: torch.Tensor) -> Any:
    """A spline of four segments for each of the rows ``[..., 11]`` of positive numbers."""
    widths, heights, derivatives = raw[..., :4], raw[..., 4:8], raw[..., 8:]
    sums = (x / x.sum(-1, keepdim=True) for x in (widths, heights))
    parameters = (*sums, derivatives, None)
    return ConditionedSpline(lambda: parameters, order="quadratic")


def rows_of_every_kind() -> dict[str, Any]:
    """Distributions of batch shape (3, 4) or (4,), besides those of the pools' cases."""
    torch.manual_seed(0)
    x, y, probs = torch.randn(3, 4, dtype=REAL), positive(3, 4), torch.tensor([0.0, 1.0, 0.3, 0.5], dtype=REAL)
    vectors, mask = torch.randn(4, 2, dtype=REAL), torch.tensor([True, False, True, True])
    counts = torch.tensor([3.0, 4.0, 5.0, 6.0], dtype=REAL)
    components = dist.Normal(torch.randn(4, 5, 2, dtype=REAL), positive(2)).to_event(1)
    return {
        "Normal, shared scale": dist.Normal(x, 2.0),
        "Independent": dist.Normal(torch.randn(3, 4, 2, 2, dtype=REAL), positive(2)).to_event(2),
        "Masked": dist.Normal(x, y).mask(mask),
        "Masked by a bool": dist.Normal(x, y).mask(False),
        "Expanded": ExpandedDistribution(dist.Normal(x[0], y[0]), (3, 4)),
        "Expanded rows": ExpandedDistribution(dist.Normal(x[:, :1], y[:, :1]), (3, 4)),
        "Transformed": dist.TransformedDistribution(dist.Normal(x, y), [transforms.ExpTransform()]),
        "Affine rows": dist.TransformedDistribution(dist.Normal(x, y), [transforms.AffineTransform(y, y + 1)]),
        "Flow": dist.TransformedDistribution(
            dist.Normal(vectors, positive(4, 2)).to_event(1), [transforms.affine_coupling(2, [4]).double()]
        ),
        "Affine rows, inside of others": dist.TransformedDistribution(
            dist.Normal(vectors, positive(4, 2)).to_event(1),
            [
                transforms.ComposeTransform([transforms.TanhTransform(), transforms.AffineTransform(vectors, 2.0).inv]),
                transforms.IndependentTransform(transforms.AffineTransform(0.5, positive(4, 2)), 1),
            ],
        ),
        "Affine rows, ahead of more event dims": dist.TransformedDistribution(
            dist.Normal(torch.zeros(4, 3, dtype=REAL), 1.0).to_event(1),
            [transforms.AffineTransform(x.T, 2.0), transforms.CorrCholeskyTransform()],
        ),
        "Flow of as many dims as rows": dist.TransformedDistribution(
            dist.Normal(x.T @ x, 1.0).to_event(1),
            [
                transforms.affine_coupling(4, [4]).double(),
                spline(positive(4, 11)),
                transforms.AffineTransform(x[0], 2.0),
            ],
        ),
        "Folded": dist.FoldedDistribution(dist.Normal(x, y)),
        "Mixture, shared probabilities": dist.MixtureSameFamily(
            dist.Categorical(logits=torch.randn(4, 5, dtype=REAL)), components
        ),
        "Bernoulli at 0 and 1": dist.Bernoulli(probs),
        "Categorical of probs": dist.Categorical(positive(3, 4, 3)),
        "Binomial of different counts": dist.Binomial(counts, logits=x),
        "Delta": dist.Delta(torch.randn(3, 4, 2, dtype=REAL), x, event_dim=1),
        "Delta of integers": dist.Delta(torch.arange(4)),
        "LogisticNormal": dist.LogisticNormal(vectors, positive(4, 2)),
        "LowRankMultivariateNormal": dist.LowRankMultivariateNormal(vectors, vectors.unsqueeze(-1), positive(4, 2)),
        "MultivariateNormal of a covariance": dist.MultivariateNormal(vectors, torch.eye(2, dtype=REAL)),
        "NegativeBinomial": dist.NegativeBinomial(y, logits=x),
        "RelaxedOneHotCategorical": dist.RelaxedOneHotCategorical(t(0.5)[0], logits=torch.randn(4, 3, dtype=REAL)),
        "Uniform": dist.Uniform(x - 2, x + y),
        "Pareto": dist.Pareto(y, y),
        "AffineBeta": dist.AffineBeta(y, y, x, y),
        "BetaBinomial": dist.BetaBinomial(y, y, total_count=counts),
        "OrderedLogistic": dist.OrderedLogistic(x, t(-1.0, 0.0, 2.0)),
        "ZeroInflatedPoisson": dist.ZeroInflatedPoisson(y, gate_logits=x),
        "ProjectedNormal": dist.ProjectedNormal(vectors),
        "MultivariateStudentT": dist.MultivariateStudentT(y[0] + 2, vectors, torch.eye(2, dtype=REAL)),
    }


@pytest.mark.parametrize("name", rows_of_every_kind())
@pytest.mark.parametrize("dim", [-1, -2])
def test_rolled_rows_have_the_rolled_log_density(name: str, dim: int) -> None:
    p = rows_of_every_kind()[name]
    rolled = roll_batch(p, 1, dim)
    assert rolled.batch_shape == p.batch_shape and rolled.event_shape == p.event_shape
    value = p.sample()
    there = -dim <= len(p.batch_shape)  # without the dimension, the rows along it are all alike
    moved = value.roll(1, dim - len(p.event_shape)) if there else value
    expected = p.log_prob(value).roll(1, dim) if there else p.log_prob(value)
    torch.testing.assert_close(rolled.log_prob(moved), expected, rtol=1e-6, atol=1e-9)
    assert rolled.sample().shape == value.shape


@pytest.mark.parametrize("case", EVERY, ids=[case.name for case in EVERY])
def test_rolled_rows_of_every_family_carry_the_gradient(case: Case) -> None:
    p, leaves = case.member(0, requires_grad=True)
    value = case.common()
    chosen = torch.randn(len(value), dtype=REAL)
    ours, expected = roll_batch(p, 1).log_prob(value), p.log_prob(value).roll(1, -1)
    torch.testing.assert_close(ours, expected)
    possible = expected.isfinite()
    for actual, wanted in zip(
        torch.autograd.grad((chosen.unsqueeze(-1) * ours)[possible].sum(), leaves, retain_graph=True),
        torch.autograd.grad((chosen.unsqueeze(-1) * expected)[possible].sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(actual, wanted)


class Scaled(transforms.Transform):
    """A user's own: multiplies the vector of each row by a number, kept in a dict."""

    domain = codomain = dist.constraints.real_vector
    bijective = True

    def __init__(self, scale: torch.Tensor) -> None:
        super().__init__()
        self.context = {"scale": scale}

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.context["scale"].unsqueeze(-1)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return y / self.context["scale"].unsqueeze(-1)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.shape[-1] * self.context["scale"].log().expand(x.shape[:-1])


DIFFERING = {
    "a hypernetwork's spline": lambda: spline(positive(4, 2, 11)),
    "a number in a dict": lambda: Scaled(positive(4)),
    "its inverse": lambda: Scaled(positive(4)).inv,
    "one among others": lambda: transforms.ComposeTransform([transforms.TanhTransform(), Scaled(positive(4))]),
    "a conditional flow": lambda: (
        transforms.conditional_affine_coupling(2, 3, [4]).double().condition(torch.randn(4, 3, dtype=REAL))
    ),
    "a class for each row": lambda: transforms.StackTransform(
        [transforms.ExpTransform(), *[transforms.TanhTransform()] * 3], dim=-2
    ),
    "a density for each row": lambda: transforms.CumulativeDistributionTransform(dist.Normal(positive(4, 1), 1.0)),
}


@pytest.mark.parametrize("name", DIFFERING)
def test_a_transform_that_differs_from_row_to_row_is_refused_wherever_it_holds_what_differs(name: str) -> None:
    base = dist.Normal(torch.randn(4, 2, dtype=REAL), 1.0).to_event(1)
    p = dist.TransformedDistribution(base, [DIFFERING[name]()])
    assert p.sample().isfinite().all()
    for pool in ("linear", "log-linear"):
        with pytest.raises(TypeError, match=r"TransformedDistribution cannot be exchanged: its .* a batch of 5 rows"):
            pool_rows(p, 0.5, 2, pool=pool)


def test_pooling_the_rows_behind_a_flow_leaves_the_flow_as_it_is() -> None:
    """Its running statistics, its random numbers, and the draw that it keeps since it has no inverse."""
    norm = torch.nn.BatchNorm1d(4)
    network = torch.nn.Sequential(torch.nn.Linear(1, 4), norm, torch.nn.Dropout(), torch.nn.Linear(4, 2))
    halves = [slice(0, 1), slice(1, 2)]
    coupling = transforms.AffineCoupling(1, lambda x: [network(x)[:, half] for half in halves])
    coupling.network = network  # as a part of it
    p = dist.TransformedDistribution(
        dist.Normal(torch.zeros(4, 2), 1.0).to_event(1), [coupling, transforms.block_autoregressive(2)]
    )
    draw, state, before = p.sample(), torch.get_rng_state(), norm.state_dict()["running_mean"].clone()
    pool_rows(p, 0.5, 2, pool="linear")
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(norm.state_dict()["running_mean"], before)
    assert all(layer.training for layer in network)
    assert p.transforms[1].inv(draw).isfinite().all()


def test_a_flow_that_differs_from_row_to_row_is_pooled_as_a_class_of_its_own() -> None:
    class Conditioned(dist.TransformedDistribution):  # type: ignore[misc] # Pyro makes the class at run time
        def __init__(self, base: Any, flow: Any, context: torch.Tensor) -> None:
            self.flow, self.context = flow, context
            super().__init__(base, [flow.condition(context)])

    base, context = dist.Normal(torch.randn(4, 2), 1.0).to_event(1), torch.randn(4, 3)
    p = Conditioned(base, transforms.conditional_affine_coupling(2, 3, [4]), context)
    with pytest.raises(TypeError, match=r"Conditioned cannot be exchanged.*Try .*roll_batch\.register\(Conditioned\)"):
        pool_rows(p, 0.5, 2, pool="linear")

    @roll_batch.register(Conditioned)
    def roll(p: Any, shift: int, dim: int = -1) -> Any:
        return Conditioned(roll_batch(p.base_dist, shift, dim), p.flow, p.context.roll(shift, dim - 1))

    value = torch.randn(4, 2)
    partner = Conditioned(roll_batch(base, 2), p.flow, context.roll(2, 0))
    expected = torch.logaddexp(p.log_prob(value), partner.log_prob(value)) - math.log(2)
    torch.testing.assert_close(pool_rows(p, 0.5, 2, pool="linear").log_prob(value), expected)


def test_rows_that_cannot_be_rolled_are_named() -> None:
    base = dist.Normal(torch.randn(4, 2), 1.0).to_event(1)
    flow = transforms.conditional_affine_coupling(2, 3, [4]).condition(torch.randn(4, 3))
    with pytest.raises(
        TypeError, match=r"exchanged: its AffineCoupling .*Try a subclass of it, and .*register\(subclass"
    ):
        roll_batch(dist.TransformedDistribution(base, [flow]), 1)
    empirical = dist.Empirical(torch.randn(4, 5), torch.zeros(4, 5))
    with pytest.raises(TypeError, match=r"Empirical cannot be exchanged.*'samples'.*Try .*roll_batch\.register"):
        roll_batch(empirical, 1)


def test_rolling_another_type_can_be_registered() -> None:
    class Points(dist.Empirical):
        pass

    @roll_batch.register(Points)
    def roll(p: Any, shift: int, dim: int = -1) -> Any:
        return Points(p._samples.roll(shift, dim - 1), p._log_weights.roll(shift, dim - 1))

    points = torch.arange(8.0).reshape(4, 2)
    assert roll_batch(Points(points, torch.zeros(4, 2)), 1).mean.tolist() == [6.5, 0.5, 2.5, 4.5]


def test_a_pool_is_a_site_like_any_other() -> None:
    p, q = dist.Gamma(torch.ones(4), 1.0), dist.Gamma(torch.ones(4) * 2, 3.0)
    with pyro.plate("outer", 3, dim=-2), pyro.plate("rows", 4, dim=-1):
        assert pyro.sample("y", log_linear_pool(p, q, 0.5)).shape == (3, 4)
