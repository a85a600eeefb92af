"""Rows of any distribution exchanged, their gradients, and which transforms all rows share."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms
from pyro.distributions.torch_distribution import ExpandedDistribution
from pyro.distributions.transforms.spline import ConditionedSpline

from pyro_probmix.pooling import linear_pool, pool_rows
from pyro_probmix.pooling.rows.batches import roll_batch
from pyro_probmix.pooling.rows.rebuilding import join_batches, take_batch
from tests.pooling.cases import EVERY, REAL, Case, t


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


class Sliced(transforms.AffineTransform):
    """A user's own: adds the first rows of a table of more."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__(0.0, 2.0)
        self.table = table

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x + self.table[: len(x)]

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return (y - self.table[: len(y)]) / 2


CONDITIONAL = transforms.conditional_affine_coupling(2, 3, [4]).double()
DIFFERING = {
    "a hypernetwork's spline": lambda x: spline(x.unsqueeze(1).expand(-1, 2, -1)),
    "a number in a dict": lambda x: Scaled(x[:, 0]),
    "its inverse": lambda x: Scaled(x[:, 0]).inv,
    "one among others": lambda x: transforms.ComposeTransform([transforms.LeakyReLUTransform(), Scaled(x[:, 0])]),
    "a conditional flow": lambda x: CONDITIONAL.condition(x[:, :3]),
    "a density for each row": lambda x: transforms.CumulativeDistributionTransform(dist.Normal(x[:, :1], 1.0)).inv,
    "rows of a longer table": lambda x: Sliced(torch.cat([x[:, :2], x[:, :2]])),
}


@pytest.mark.parametrize("name", DIFFERING)
def test_rows_behind_transforms_that_differ_are_pooled_linearly_wherever_these_hold_what_differs(name: str) -> None:
    loc, raw, weight = torch.rand(4, 2, dtype=REAL), positive(4, 11), t(0.3, 1.0, 0.0, 0.6)

    def flow(loc: torch.Tensor, raw: torch.Tensor) -> Any:
        base = dist.Kumaraswamy if name == "a density for each row" else dist.Normal
        return dist.TransformedDistribution(base(loc + 1, t(1.0)).to_event(1), [DIFFERING[name](raw)])

    p, partner = flow(loc, raw), flow(loc.roll(2, 0), raw.roll(2, 0))
    value = torch.where((weight == 1).unsqueeze(-1), p.sample(), partner.sample())
    expected = torch.logaddexp(p.log_prob(value) + weight.log(), partner.log_prob(value) + torch.log1p(-weight))
    torch.testing.assert_close(pool_rows(p, weight, 2, pool="linear").log_prob(value), expected)
    with pytest.raises(TypeError, match=r"no closed log-linear pool.*Try the linear pool"):
        pool_rows(p, weight, 2)


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


class Shared(dist.TorchDistribution):
    """A user's own: Gaussian rows around a vector that all rows share, given as the class likes."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (an attribute of torch's base class)
    support = dist.constraints.real_vector
    has_rsample = True

    def __init__(self, shared: torch.Tensor, **rows: torch.Tensor) -> None:
        self.settings = {"shared": shared, **rows}
        super().__init__(rows["loc"].shape[:1], shared.shape)

    def _normal(self):
        return dist.Normal(self.settings["loc"] * self.settings["shared"], 1.0).to_event(1)

    def rsample(self, sample_shape=()):
        return self._normal().rsample(torch.Size(sample_shape))

    def log_prob(self, value):
        return self._normal().log_prob(value)


def test_a_users_class_is_pooled_whatever_shapes_its_arguments_have() -> None:
    shared, loc, weight = torch.randn(4, dtype=REAL), torch.randn(4, 1, dtype=REAL), torch.tensor([0.3, 0.9, 0.0, 1.0])
    p = Shared(shared, loc=loc)
    with pytest.raises(NotImplementedError, match="A LinearPool of Shared has no mean, as a Shared has none"):
        _ = pool_rows(p, 0.3, 2, pool="linear").mean
    pooled = pool_rows(p, weight, 2, pool="linear").expand([3, 4])
    value = pooled.rsample()
    want = linear_pool(p._normal(), Shared(shared, loc=loc.roll(2, 0))._normal(), weight)
    torch.testing.assert_close(pooled.log_prob(value), want.log_prob(value), rtol=1e-12, atol=1e-12)
    assert value.shape == (3, 4, 4) and pooled.weights.dtype == REAL


def test_draws_of_exchanged_rows_are_those_of_the_partner_and_carry_its_gradient() -> None:
    loc = t(0.0, 10.0, 20.0, 30.0).requires_grad_()
    rolled = roll_batch(dist.Laplace(loc, 1e-6), 1)
    draws = rolled.rsample((1000,))
    torch.testing.assert_close(draws, loc.roll(1).expand(1000, 4), rtol=0.0, atol=1e-4)
    (gradient,) = torch.autograd.grad((draws * t(1.0, 2.0, 3.0, 4.0)).mean(0).sum(), loc)
    torch.testing.assert_close(gradient, t(2.0, 3.0, 4.0, 1.0))
    level = t(0.1, 0.2, 0.3, 0.4)
    torch.testing.assert_close(rolled.cdf(rolled.icdf(level)), level)


def test_exchanged_rows_keep_their_own_supports() -> None:
    rolled: Any = roll_batch(dist.Uniform(t(0.0, 1.0, 2.0, 3.0), t(1.0, 2.0, 3.0, 4.0)), 1)
    assert rolled.support.check(t(3.5, 0.5, 1.5, 2.5)).all() and not rolled.support.check(t(0.5, 1.5, 2.5, 3.5)).any()
    assert "interval" in repr(rolled.support).lower()


def test_what_is_joined_is_what_was_taken() -> None:
    for p in (
        dist.Normal(torch.randn(3, 4, 2, dtype=REAL), positive(2)).to_event(1),
        dist.Bernoulli(positive(3, 4) / 2),
        dist.Categorical(logits=torch.randn(3, 4, 5, dtype=REAL)),
        dist.OneHotCategorical(positive(3, 4, 5)),
        dist.StudentT(positive(4), torch.randn(3, 4, dtype=REAL), 2.0),
    ):
        value = p.sample()
        if not isinstance(p, dist.Independent):
            part = take_batch(p, 2)
            torch.testing.assert_close(part.log_prob(value[:, 2]), p.log_prob(value)[:, 2])
        joined = join_batches([p, p])
        torch.testing.assert_close(joined.log_prob(torch.cat([value, value], 1)), p.log_prob(value).repeat(1, 2))
    with pytest.raises(TypeError, match=r"An? Empirical cannot be rebuilt.*'samples'.*Try arg_constraints"):
        take_batch(dist.Empirical(torch.randn(4, 5), torch.zeros(4, 5)), 0)
