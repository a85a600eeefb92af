"""Natural parameters of points, empty classes and directions (Theorem C.1), and families of your own."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.distributions as td

from pyro_probmix.pooling import log_linear_pool, pool_rows
from pyro_probmix.pooling.counts import CountPool
from pyro_probmix.pooling.families import register_family
from pyro_probmix.pooling.numerical import NumericalPool
from tests.pooling.cases import REAL, sphere, t


def test_pools_of_matrices_have_the_combined_parameters() -> None:
    tril = torch.eye(2, dtype=REAL) + 0.3 * torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=REAL)
    weight, value = t(0.3, 0.0), 3 * torch.eye(2, dtype=REAL)
    wishart = log_linear_pool(dist.Wishart(t(4.0), scale_tril=tril), dist.Wishart(t(7.0), scale_tril=2 * tril), weight)
    precision = (weight + (1 - weight) / 4).reshape(2, 1, 1) * torch.linalg.inv(tril @ tril.mT)
    expected = dist.Wishart(4 * weight + 7 * (1 - weight), precision_matrix=precision)
    torch.testing.assert_close(wishart.log_prob(value), expected.log_prob(value))
    lkj = log_linear_pool(dist.LKJ(3, t(2.0)), dist.LKJ(3, t(5.0)), weight)
    matrix = dist.LKJ(3, t(1.0)).sample()
    assert type(lkj) is dist.LKJ
    torch.testing.assert_close(lkj.log_prob(matrix), dist.LKJ(3, 2 * weight + 5 * (1 - weight)).log_prob(matrix))


def test_trees_and_matchings_are_pooled_by_their_logits() -> None:
    for family, shape in ((dist.SpanningTree, (6,)), (dist.OneOneMatching, (3, 3)), (dist.OneTwoMatching, (4, 2))):
        first, second = torch.randn(2, *shape)
        p, q = family(first), family(second)
        pool, points = log_linear_pool(p, q, 0.3), p.enumerate_support()
        scores = torch.stack([0.3 * p.log_prob(x) + 0.7 * q.log_prob(x) for x in points])
        ours = torch.stack([pool.log_prob(x) for x in points])
        torch.testing.assert_close(ours, scores - scores.logsumexp(0), rtol=1e-4, atol=1e-5)


def test_pools_of_directions_have_the_combined_concentration() -> None:
    x, y = t([1.0, 0.5, -0.3], [0.2, 0.0, 2.2]), t([-0.4, 1.9, 0.1], [1.0, -1.0, 0.3])
    weight, (points, log_measure) = t(0.3, 0.0), sphere()
    pool = log_linear_pool(dist.VonMises3D(x), dist.VonMises3D(y), weight)
    density = pool.log_prob(points.unsqueeze(1)) + log_measure.unsqueeze(-1)
    torch.testing.assert_close(density.logsumexp(0), t(0.0, 0.0), rtol=0.0, atol=1e-9)
    torch.testing.assert_close(pool.concentration, weight.unsqueeze(-1) * x + (1 - weight.unsqueeze(-1)) * y)


def test_opposite_directions_cancel_to_the_uniform_distribution_of_the_sphere() -> None:
    direction = t(0.0, 0.0, 3.0).requires_grad_()
    score = log_linear_pool(dist.VonMises3D(direction), dist.VonMises3D(-direction.detach()), 0.5).log_prob(
        t(0.6, 0.0, 0.8)
    )
    torch.testing.assert_close(score.exp(), t(1 / (4 * math.pi))[0])
    score.backward()
    assert direction.grad is not None and direction.grad.isfinite().all()


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


def test_opposite_directions_cancel_to_the_uniform_density_of_the_circle() -> None:
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


def test_a_subclass_with_a_density_of_its_own_is_not_taken_for_its_base() -> None:
    class Truncated(dist.Normal):
        """Above 0."""

        support: Any = dist.constraints.positive

        def log_prob(self, value: torch.Tensor) -> Any:
            return super().log_prob(value) - torch.special.log_ndtr(self.loc / self.scale)

    loc, value = t(0.5, 2.0), t(0.3, 1.4)
    pooled = pool_rows(Truncated(loc, 1.0), 0.25, 1)
    assert isinstance(pooled, NumericalPool)
    torch.testing.assert_close(pooled.log_prob(value), Truncated(t(1.625, 0.875), 1.0).log_prob(value))


@pytest.mark.parametrize("validate", [True, False])
def test_what_a_closed_pool_takes_from_one_member_is_the_same_in_all(validate: bool) -> None:
    class Counts(dist.NegativeBinomial):  # type: ignore[misc]  # Pyro makes the class at run time
        pass

    register_family(Counts, lambda p: (p.probs.log(),), lambda p, e: Counts(p.total_count, probs=e[0].exp()))
    one, two, probs = t(5.0, 5.0), t(5.0, 3.0), t(0.25, 0.81)
    with pyro.validation_enabled(validate):
        for family in (Counts, dist.Binomial, dist.ExtendedBinomial):
            for weight in (0.5, t(1.0, 0.0)):
                assert isinstance(log_linear_pool(family(one, probs), family(one, probs), weight), family)
                assert isinstance(log_linear_pool(family(one, probs), family(two, probs), weight), CountPool)
            torch.testing.assert_close(pool_rows(family(one, probs), t(1.0, 0.0), 1).probs, t(0.25, 0.25))
            pooled = pool_rows(family(two, probs), t(1.0, 0.0), 1).log_prob(t(3.0))
            first = family(t(5.0), t(0.25)).log_prob(t(3.0))
            torch.testing.assert_close(pooled, first.expand(2), rtol=0.0, atol=1e-9)
        with pytest.raises(ValueError, match=r"supports differ.*same total_count"):
            log_linear_pool(dist.Multinomial(3, torch.ones(2)), dist.Multinomial(5, torch.ones(2)), 0.5)


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


def test_a_pool_is_a_site_like_any_other() -> None:
    p, q = dist.Gamma(torch.ones(4), 1.0), dist.Gamma(torch.ones(4) * 2, 3.0)
    with pyro.plate("outer", 3, dim=-2), pyro.plate("rows", 4, dim=-1):
        assert pyro.sample("y", log_linear_pool(p, q, 0.5)).shape == (3, 4)
