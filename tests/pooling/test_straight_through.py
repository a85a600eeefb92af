"""Pools of straight-through distributions: hard draws, whose relaxed values have the density and the gradient."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO

from pyro_probmix import PriorGuide, fuse
from pyro_probmix.pooling import linear_pool, log_linear_pool, pool_rows
from tests.pooling.cases import REAL, t

LOGITS = t(0.3, -1.5, 2.0, 0.1)


def bernoulli(logits: torch.Tensor) -> Any:
    return dist.RelaxedBernoulliStraightThrough(t(0.7), logits=logits.unsqueeze(-1)).to_event(1)


def one_hot(logits: torch.Tensor) -> Any:
    return dist.RelaxedOneHotCategoricalStraightThrough(t(0.7)[0], logits=logits.unsqueeze(-1) * t(1.0, 0.0, -1.0))


@pytest.mark.parametrize("pool", ["linear", "log-linear"])
def test_the_draws_of_a_pool_are_hard_and_scored_where_they_were_relaxed(pool: Any) -> None:
    logits, weight = LOGITS.clone().requires_grad_(), t(0.3, 0.6, 1.0, 0.0)
    pooled = pool_rows(bernoulli(logits), weight, 2, pool=pool)
    relaxed = dist.RelaxedBernoulli(t(0.7), logits=logits.unsqueeze(-1)).to_event(1)
    want = pool_rows(relaxed, weight, 2, pool=pool)
    for draw in (pooled.rsample((50,)), pooled.expand([2, 4]).rsample((50,))):
        assert ((draw == 0) | (draw == 1)).all() and set(draw.unique().tolist()) == {0.0, 1.0}
        torch.testing.assert_close(pooled.log_prob(draw), want.log_prob(draw._unquantize))
        (gradient,) = torch.autograd.grad(draw.sum() + pooled.log_prob(draw).sum(), logits, retain_graph=True)
        assert gradient.isfinite().all() and (gradient != 0).all()
    assert set(pooled.sample((50,)).unique().tolist()) == {0.0, 1.0}


def test_the_linear_pool_of_one_hot_draws_is_hard() -> None:
    logits = LOGITS.clone().requires_grad_()
    p = one_hot(logits)
    for pooled in (pool_rows(p, 0.3, 2, pool="linear"), linear_pool(p, one_hot(logits.roll(2)), 0.3)):
        draw = pooled.rsample((100,))
        assert draw.sum(-1).unique().tolist() == [1.0] and set(draw.unique().tolist()) == {0.0, 1.0}
        value = draw._unquantize
        soft = [dist.RelaxedOneHotCategorical(p.temperature, logits=x) for x in (p.logits, p.logits.roll(2, 0))]
        expected = torch.logaddexp(soft[0].log_prob(value) + t(0.3).log(), soft[1].log_prob(value) + t(0.7).log())
        torch.testing.assert_close(pooled.log_prob(draw), expected)
        assert (
            torch.autograd.grad(draw[..., 0].sum() + pooled.log_prob(draw).sum(), logits, retain_graph=True)[0]
            .isfinite()
            .all()
        )
    with pytest.raises(TypeError, match="no closed log-linear pool"):
        pool_rows(p, 0.3, 2)


def test_the_share_of_ones_is_that_of_relaxed_draws_above_a_half() -> None:
    pooled = log_linear_pool(
        dist.RelaxedBernoulliStraightThrough(t(0.7), logits=t(0.5)),
        dist.RelaxedBernoulliStraightThrough(t(0.7), logits=t(-2.0)),
        0.4,
    )
    logit = torch.linspace(-30.0, 30.0, 6001, dtype=REAL).unsqueeze(-1)
    points = logit.sigmoid()
    density = pooled.log_prob(points).exp() * points * (1 - points)
    torch.testing.assert_close(density.sum() * 0.01, t(1.0)[0], rtol=0.0, atol=1e-6)
    share = density[points > 0.5].sum() / density.sum()
    error = 4 * (share * (1 - share) / 10_000).sqrt()
    assert (pooled.sample((10_000,)).mean() - share).abs() < error


def test_only_distributions_of_one_kind_are_pooled() -> None:
    p = dist.RelaxedBernoulliStraightThrough(t(0.7), logits=t(0.5))
    with pytest.raises(TypeError, match=r"only some are straight-through.*Try the same class"):
        linear_pool(p, dist.RelaxedBernoulli(t(0.7), logits=t(0.5)), 0.5)


@pytest.mark.parametrize(
    ("pool", "make"),
    [
        ("linear", bernoulli),
        ("log-linear", bernoulli),
        ("linear", one_hot),
        ("linear", lambda x: dist.OneHotCategoricalStraightThrough(logits=x.unsqueeze(-1) * t(1.0, 0.0, -1.0))),
        ("log-linear", lambda x: dist.OneHotCategoricalStraightThrough(logits=x.unsqueeze(-1) * t(1.0, 0.0, -1.0))),
    ],
)
def test_a_model_with_a_hard_latent_is_trained(pool: Any, make: Any) -> None:
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    y = t(1.0, -1.0, 2.0, 0.0)

    def model() -> None:
        logits = pyro.param("logits", LOGITS.clone())
        scale = pyro.param("scale", t(1.0)[0], constraint=dist.constraints.positive)
        with pyro.plate("rows", 4):
            z = pyro.sample("z", make(logits))
            pyro.sample("y", dist.Normal(z.sum(-1) + z[..., 0], scale), obs=y)

    fused = fuse(model, at="z", weight=dist.Beta(t(0.5)[0], t(0.5)[0]), pool=pool)
    value = poutine.trace(fused).get_trace().nodes["z"]["value"]
    assert ((value == 0) | (value == 1)).all()
    svi = SVI(fused, PriorGuide(fused), pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())  # type: ignore[attr-defined]
    for _ in range(10):
        svi.step()
    assert pyro.param("logits").isfinite().all() and not torch.equal(pyro.param("logits"), LOGITS)
