"""Log-linear pools of counts against sums over every count in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_probmix.pooling import log_linear_pool, pool_rows
from pyro_probmix.pooling.counts import CountPool
from pyro_probmix.pooling.integrals.sums import gauss_sum
from pyro_probmix.pooling.rows.batches import roll_batch
from pyro_probmix.pooling.rows.declared import unvalidated
from tests.pooling.cases import REAL, t

# Means from 0.003 to 1e4, widths from one count to 1e4, mass at zero, at both ends and in two places.
MEANS, TOTALS = t(0.003, 7.0, 900.0, 1e4, 30.0), t(3.0, 0.02, 400.0, 25.0, 0.3)
OTHER_MEANS, OTHER_TOTALS = t(2.0, 0.4, 2500.0, 2e3, 4e3), t(0.1, 60.0, 5.0, 1.7, 0.5)
GATES, WEIGHT = t(0.3, 0.9, 0.05, 0.5, 0.02), t(0.3, 0.8, 0.5, 0.02, 0.97)
TRIALS = t(1.0, 10.0, 300.0, 2e4, 50.0)
OTHER_TRIALS = t(4.0, 9.0, 2e4, 2e4, 1e5)
FAMILIES: dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {
    "NegativeBinomial": lambda m, r, n: dist.NegativeBinomial(r, logits=(m / r).log()),
    "GammaPoisson": lambda m, r, n: dist.GammaPoisson(r, r / m),
    "ZeroInflatedPoisson": lambda m, r, n: dist.ZeroInflatedPoisson(m, gate=GATES.to(m)),
    "ZeroInflatedNegativeBinomial": lambda m, r, n: dist.ZeroInflatedNegativeBinomial(
        r, logits=(m / r).log(), gate_logits=GATES.clamp(min=0.01).logit().to(m)
    ),
    "ZeroInflatedDistribution": lambda m, r, n: dist.ZeroInflatedDistribution(
        dist.GammaPoisson(r, r / m), gate=GATES.to(m)
    ),
    "LogNormalNegativeBinomial": lambda m, r, n: dist.LogNormalNegativeBinomial(
        r + 1, (m / r).log() - 1, GATES.to(m) / 3 + 0.1
    ),
    "Binomial": lambda m, r, n: dist.Binomial(n, probs=r / (r + 1)),
    "ExtendedBinomial": lambda m, r, n: dist.ExtendedBinomial(n, logits=r.log()),
    "BetaBinomial": lambda m, r, n: dist.BetaBinomial(r, m, total_count=n),
    "ExtendedBetaBinomial": lambda m, r, n: dist.ExtendedBetaBinomial(r, m, total_count=n),
    "MixtureSameFamily": lambda m, r, n: dist.MixtureSameFamily(
        dist.Categorical(probs=torch.stack([r, n], -1)), dist.Poisson(torch.stack([m / 3, m + 1], -1))
    ),
}
FIRST, SECOND = (MEANS, TOTALS, TRIALS), (OTHER_MEANS, OTHER_TOTALS, OTHER_TRIALS)
BOUNDED = [name for name in FAMILIES if "Binomial" in name and "Neg" not in name and "Zero" not in name]
every_family = pytest.mark.parametrize("name", FAMILIES)


def brute_force(weight: Tensor, p: Any, q: Any, most: int) -> tuple[Tensor, Tensor]:
    """Every count with mass, ``[N, 1]``, and the normalised log probabilities ``[N, B]``."""
    counts = torch.arange(most, dtype=REAL).unsqueeze(-1)
    score: Any = 0.0
    for w, member in ((weight, unvalidated(p)), (1 - weight, unvalidated(q))):
        inside = counts <= member.total_count if member.has_enumerate_support else counts >= 0
        read = member.log_prob(torch.where(inside, counts, 0.0).expand(-1, len(weight)))
        score = score + torch.where(inside, w * read, -math.inf)
    return counts, score - score.logsumexp(0)


@every_family
def test_the_pool_is_the_product_of_powers_over_its_sum_over_all_counts(name: str) -> None:
    p, q = (FAMILIES[name](*x) for x in (FIRST, SECOND))
    pool = log_linear_pool(p, q, WEIGHT)
    assert isinstance(pool, CountPool)
    counts, expected = brute_force(WEIGHT, p, q, 20_001 if name in BOUNDED else 400_000)
    places = torch.stack([expected.argmax(0) * k // 4 for k in range(6)])
    inside = expected.gather(0, places) > -50
    places = torch.where(inside, places, 0)
    torch.testing.assert_close(pool.log_prob(places.double()), expected.gather(0, places), rtol=0.0, atol=1e-7)
    mean = (expected.exp() * counts).sum(0)
    variance = (expected.exp() * (counts - mean).square()).sum(0)
    torch.testing.assert_close(pool.mean, mean, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(pool.variance, variance, rtol=1e-6, atol=1e-9)


@every_family
def test_single_precision_is_that_of_its_parameters_not_of_large_log_gammas(name: str) -> None:
    single = [tuple(x.float() for x in arguments) for arguments in (FIRST, SECOND)]
    p, q = (FAMILIES[name](*x) for x in single)
    pool = log_linear_pool(p, q, WEIGHT.float())
    first, second = (FAMILIES[name](*(x.double() for x in arguments)) for arguments in single)
    wide = log_linear_pool(first, second, WEIGHT.float().double())
    value = wide.mean.round()
    assert pool.log_prob(value.float()).dtype == pool.mean.dtype == pool.sample().dtype == torch.float32
    torch.testing.assert_close(pool.log_prob(value.float()).double(), wide.log_prob(value), rtol=2e-3, atol=2e-3)


def test_a_member_of_no_weight_that_finds_zero_impossible_leaves_no_trace() -> None:
    gate = t(0.0).requires_grad_()
    p, q = dist.ZeroInflatedPoisson(t(3.0), gate=t(0.2)), dist.ZeroInflatedPoisson(t(4000.0), gate=gate)
    pooled = log_linear_pool(p, q, 1.0).log_prob(t(2.0))
    torch.testing.assert_close(pooled, p.log_prob(t(2.0)), rtol=0.0, atol=1e-12)
    assert torch.autograd.grad(pooled.sum(), gate)[0].isfinite().all()


@every_family
def test_gradients_are_those_of_the_sum(name: str) -> None:
    small = (t(0.3, 2.0, 5.0, 9.0, 4.0), t(3.0, 0.4, 1.5, 25.0, 0.8), t(9.0, 5.0, 12.0, 7.0, 8.0))
    leaves = [x.clone().requires_grad_() for x in (*small[:2], *(x.flip(0) for x in small[:2]), WEIGHT)]
    p = FAMILIES[name](leaves[0], leaves[1], small[2])
    q = FAMILIES[name](leaves[2], leaves[3], small[2].flip(0))
    value = t(0.0, 3.0, 1.0, 5.0, 2.0)
    pool = log_linear_pool(p, q, leaves[4])
    counts, log_probs = brute_force(leaves[4], p, q, 9000)
    expected = [log_probs.gather(0, value.long().unsqueeze(0))[0], (log_probs.exp() * counts).sum(0)]
    for ours, wanted in zip([pool.log_prob(value), pool.mean], expected, strict=True):
        pairs = [torch.autograd.grad(x.sum(), leaves, retain_graph=True, allow_unused=True) for x in (ours, wanted)]
        for actual, gradient in zip(*pairs, strict=True):
            if gradient is not None:
                torch.testing.assert_close(actual, gradient, rtol=1e-7, atol=1e-8)


@every_family
def test_at_either_end_of_the_weight_the_survivor_is_left(name: str) -> None:
    leaves = [[x.clone().requires_grad_() for x in arguments[:2]] for arguments in (FIRST, SECOND)]
    p, q = (
        FAMILIES[name](own[0], own[1], arguments[2]) for own, arguments in zip(leaves, (FIRST, SECOND), strict=True)
    )
    for weight, survivor in ((1.0, p), (0.0, q)):
        value = t(0.0, 3.0, 8.0, 2.0, 1.0).minimum(TRIALS if weight else OTHER_TRIALS)
        pooled = log_linear_pool(p, q, torch.full((5,), weight, dtype=REAL)).log_prob(value)
        torch.testing.assert_close(pooled, survivor.log_prob(value), rtol=0.0, atol=1e-8)
        gradients = [
            torch.autograd.grad(x.sum(), [*leaves[0], *leaves[1]], retain_graph=True, allow_unused=True)
            for x in (pooled, survivor.log_prob(value))
        ]
        for actual, wanted in zip(*gradients, strict=True):
            assert actual is None or actual.isfinite().all()
            if wanted is not None:
                torch.testing.assert_close(actual, wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["NegativeBinomial", "ZeroInflatedPoisson", "BetaBinomial"])
def test_draws_have_the_probabilities_of_the_pool(name: str) -> None:
    pool = log_linear_pool(FAMILIES[name](*FIRST), FAMILIES[name](*SECOND), WEIGHT)
    n = 4000
    draws = pool.sample((n,))
    assert (draws == draws.round()).all() and pool.support.check(draws).all()
    assert ((draws.mean(0) - pool.mean).abs() <= 4.5 * (pool.variance / n).sqrt()).all()
    zero = pool.log_prob(torch.zeros(5, dtype=REAL)).exp()
    share = (draws == 0).double().mean(0)
    assert ((share - zero).abs() < 4.5 * (zero * (1 - zero) / n).sqrt() + 1e-9).all()


def test_negative_binomials_of_one_total_have_a_closed_pool_and_others_a_sum() -> None:
    logits, weight = torch.randn(4, dtype=REAL), t(0.1, 0.4, 0.6, 0.9)
    total = torch.tensor(5.0, dtype=REAL, requires_grad=True)
    rows = dist.NegativeBinomial(total, logits=logits)
    closed = pool_rows(rows, weight, 2)
    assert isinstance(closed, dist.NegativeBinomial)
    members = [rows, roll_batch(rows, 2)]
    summed = CountPool(members, torch.stack([weight, 1 - weight], -1))
    value = t(0.0, 3.0, 1.0, 12.0)
    torch.testing.assert_close(closed.log_prob(value), summed.log_prob(value), rtol=0.0, atol=1e-9)
    gradients = [torch.autograd.grad(x.log_prob(value).sum(), total)[0] for x in (closed, summed)]
    torch.testing.assert_close(*gradients)
    # Totals that agree by chance, but have gradients of their own
    own = torch.full((4,), 5.0, dtype=REAL, requires_grad=True)
    assert isinstance(pool_rows(dist.NegativeBinomial(own, logits=logits), weight, 2), CountPool)
    assert isinstance(pool_rows(dist.NegativeBinomial(own.detach(), logits=logits), weight, 2), dist.NegativeBinomial)


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("family", [dist.Binomial, dist.ExtendedBinomial])
def test_totals_that_differ_between_rows_are_pooled_over_what_they_share(family: Any, validate: bool) -> None:
    with pyro.validation_enabled(validate):
        total, probs, weight = t(10.0, 6.0), t(0.3, 0.6), t(0.3, 0.7)
        pool = pool_rows(family(total, probs), weight, 1)
        counts = torch.arange(7, dtype=REAL).unsqueeze(-1)
        scores = torch.cat([family(n, p).log_prob(counts) for n, p in zip(total, probs, strict=True)], -1)
        expected = weight * scores + (1 - weight) * scores.flip(-1)
        torch.testing.assert_close(pool.enumerate_support(expand=False), counts)
        torch.testing.assert_close(pool.log_prob(counts), expected - expected.logsumexp(0), rtol=0.0, atol=1e-12)
        three = log_linear_pool(
            family(t(5.0), t(0.4)), [family(t(3.0), t(0.2)), family(t(4.0), t(0.9))], t([0.2, 0.3, 0.5])
        )
        assert three.enumerate_support().shape == (4, 1)
        torch.testing.assert_close(three.log_prob(three.enumerate_support()).exp().sum(0), t(1.0))
        ends = log_linear_pool(family(t(5.0), t(0.4)), family(t(3.0), t(0.2)), t(1.0))
        torch.testing.assert_close(ends.log_prob(t(5.0)), family(t(5.0), t(0.4)).log_prob(t(5.0)))


def test_supports_that_cannot_be_enumerated_say_so() -> None:
    with pytest.raises(NotImplementedError, match="unbounded"):
        log_linear_pool(FAMILIES["GammaPoisson"](*FIRST), FAMILIES["GammaPoisson"](*SECOND), 0.5).enumerate_support()
    with pytest.raises(NotImplementedError, match="another one in each row"):
        log_linear_pool(FAMILIES["Binomial"](*FIRST), FAMILIES["Binomial"](*SECOND), 0.5).enumerate_support()
    with pytest.raises(ValueError, match=r"does not exist.*no count of positive probability in common"):
        log_linear_pool(dist.ExtendedBinomial(t(-1.0), t(0.5)), dist.ExtendedBinomial(t(3.0), t(0.5)), 0.5)


def test_counts_expand_and_keep_their_mask_and_event() -> None:
    p, q = (FAMILIES["GammaPoisson"](*x) for x in (FIRST, SECOND))
    pool, value = log_linear_pool(p, q, WEIGHT), t(0.0, 3.0, 8.0, 2.0, 1.0)
    large = pool.expand((3, 5))
    assert large.sample((2,)).shape == (2, 3, 5) and large.mean.shape == (3, 5)
    torch.testing.assert_close(large.log_prob(value), pool.log_prob(value).expand(3, 5))
    event = log_linear_pool(p.to_event(1), q.to_event(1), 0.3)
    torch.testing.assert_close(event.log_prob(value), log_linear_pool(p, q, 0.3).log_prob(value).sum())
    mask = torch.tensor([True, False, True, True, False])
    masked = log_linear_pool(p.mask(mask), q.mask(mask), WEIGHT)
    torch.testing.assert_close(masked.log_prob(value), pool.log_prob(value) * mask)
    wide = log_linear_pool(ExpandedDistribution(p, (3, 5)), q, 0.5)
    assert wide.batch_shape == (3, 5) and wide.sample().shape == (3, 5)
    torch.testing.assert_close(roll_batch(pool, 1).log_prob(value.roll(1)), pool.log_prob(value).roll(1))
    nested = log_linear_pool(pool, log_linear_pool(p, q, 1.0 - WEIGHT), 0.5)
    torch.testing.assert_close(nested.log_prob(value), log_linear_pool(p, q, 0.5).log_prob(value), rtol=0.0, atol=1e-8)


def test_tables_of_probabilities_are_summed_at_counts_alone() -> None:
    probs, other = torch.rand(2, 3, 200, dtype=REAL)
    mix = dist.Categorical(torch.ones(3, dtype=REAL))
    p, q = (dist.MixtureSameFamily(mix, dist.Categorical(x)) for x in (probs, other))
    pool = log_linear_pool(p, q, 0.3)
    counts = torch.arange(200)
    score = 0.3 * p.log_prob(counts) + 0.7 * q.log_prob(counts)
    torch.testing.assert_close(pool.log_prob(counts), score - score.logsumexp(0))


@pytest.mark.parametrize("name", ["NegativeBinomial", "ZeroInflatedPoisson", "Binomial", "BetaBinomial"])
def test_nothing_waits_for_the_device_without_validation(name: str) -> None:
    def score(m: Tensor, r: Tensor, n: Tensor, weight: Tensor) -> Tensor:
        p = FAMILIES[name](m, r, n)
        total = pool_rows(p, weight, 2).log_prob(torch.zeros_like(m)).sum()
        return torch.autograd.grad(total, r if "Poisson" not in name else m)[0]

    means, totals = (x.clone().requires_grad_() for x in FIRST[:2])
    with pyro.validation_enabled(False):
        traced = make_fx(score)(means, totals, TRIALS, WEIGHT)
        torch.testing.assert_close(traced(means, totals, TRIALS, WEIGHT), score(means, totals, TRIALS, WEIGHT))
        make_fx(score, tracing_mode="fake", _allow_non_fake_inputs=True)(means, totals, TRIALS, WEIGHT)


@pytest.mark.parametrize("length", [1, 3, 5, 6, 17, 400, 10**6])
def test_five_nodes_sum_polynomials_of_degree_nine(length: int) -> None:
    nodes, weights = gauss_sum(t(0.0), t(float(length)))
    counts = torch.arange(length, dtype=REAL)
    for degree in range(10):
        expected = (counts / length).pow(degree).sum()
        torch.testing.assert_close((weights * (nodes / length).pow(degree)).sum(), expected, rtol=1e-12, atol=0.0)
