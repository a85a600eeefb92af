"""PriorGuide under the losses and samplers of Pyro, against sums and quadrature."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    SVI,
    EnergyDistance,
    Predictive,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    WeighedPredictive,
)
from pyro.infer.autoguide import AutoGaussian, AutoNormal
from pyro.optim import ClippedAdam
from torch import Tensor

from pyro_probmix import PriorGuide, fuse

X = torch.tensor([-1.0, 0.5, 2.0, -0.3])
Y = torch.tensor([-0.6, 0.9, 1.4, 0.2])


@pytest.fixture(autouse=True)
def clean_store() -> Iterator[None]:
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    yield
    pyro.clear_param_store()


def model(x: Tensor, y: Tensor | None = None) -> Any:
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        return pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def embedded(x: Tensor, y: Tensor | None = None) -> Any:
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Normal(w * x, 0.5))
        return pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def half_normal_guide(x: Tensor, y: Tensor | None = None) -> None:
    """With an auxiliary site and a site of its own, as the autoguides have."""
    loc = pyro.param("loc", torch.tensor(0.3))
    raw = pyro.sample("raw", dist.Normal(loc, 0.4), infer={"is_auxiliary": True})
    pyro.sample("w", dist.Delta(raw, log_density=torch.zeros(())))


def swap(values: Tensor) -> Tensor:
    return values.roll(2, 0)


def exact_elbo() -> float:
    """Of the model fused at weight 0.5: the pooled normal has the mean of both rows' means and variance 1."""
    mean, label = (X + swap(X)) / 2, (Y + swap(Y)) / 2
    w = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
    q = dist.Normal(torch.tensor(0.3, dtype=torch.float64), 0.4)
    joint = dist.Normal(w[:, None] * mean, 1.0).log_prob(label).sum(-1) + dist.Normal(0.0, 1.0).log_prob(w)
    return float((q.log_prob(w).exp() * (joint - q.log_prob(w))).sum() * 12 / 20_000)


@pytest.mark.parametrize(
    ("elbo", "standalone"),
    [
        (Trace_ELBO, False),
        (Trace_ELBO, True),
        (TraceGraph_ELBO, False),
        (TraceGraph_ELBO, True),
        (TraceEnum_ELBO, True),
    ],
)
def test_the_bound_holds_the_entropy_of_a_guide_with_auxiliary_sites(elbo: Any, standalone: bool) -> None:
    fused = fuse(model, at="y", weight=0.5)
    prior: Any = PriorGuide(fused, half_normal_guide)
    guide = prior.standalone() if standalone else prior
    loss = elbo(num_particles=500, vectorize_particles=True, max_plate_nesting=1, strict_enumeration_warning=False)
    losses = torch.tensor([loss.loss(fused, guide, X, Y) for _ in range(20)])
    assert abs(losses.mean() + exact_elbo()) < 4 * losses.std() / math.sqrt(20)


@pytest.mark.parametrize("loss", [Trace_ELBO, RenyiELBO, TraceMeanField_ELBO])
def test_losses_of_pyro_train_the_guide_and_leave_the_weight_to_its_prior(loss: Any) -> None:
    fused = fuse(model, at="y", weight=dist.Beta(0.5, 0.5), beta=0.1)
    svi = SVI(fused, PriorGuide(fused, half_normal_guide), ClippedAdam({"lr": 0.05}), loss(num_particles=2))
    for _ in range(5):
        assert math.isfinite(svi.step(X, Y))
    assert pyro.param("loc").item() != pytest.approx(0.3)
    assert set(pyro.get_param_store().keys()) == {"loc"}


# ReweightedWakeSleep


@pytest.mark.parametrize("vectorize", [False, True])
@pytest.mark.parametrize("insomnia", [1.0, 0.5])
@pytest.mark.parametrize(("program", "at"), [(model, "y"), (embedded, "z")])
def test_reweighted_wake_sleep_takes_the_standalone_guide(
    program: Any, at: str, insomnia: float, vectorize: bool
) -> None:
    def guide(x: Tensor, y: Tensor | None = None, observations: Any = None) -> None:
        pyro.sample("w", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    fused = fuse(program, at=at, weight=dist.Beta(0.5, 0.5))
    loss = ReweightedWakeSleep(
        num_particles=8, insomnia=insomnia, vectorize_particles=vectorize, model_has_params=False, num_sleep_particles=1
    )
    svi = SVI(fused, PriorGuide(fused, guide).standalone(), ClippedAdam({"lr": 0.05}), loss)
    for _ in range(60):
        assert all(map(math.isfinite, svi.step(X, Y)))
    assert pyro.param("loc") > 0.1 * insomnia  # towards the slope of the data; asleep, towards the prior
    with pytest.raises(
        ValueError, match=r"ReweightedWakeSleep runs the guide apart.*Try PriorGuide\(model, guide\).standalone"
    ):
        SVI(fused, PriorGuide(fused, guide), ClippedAdam({"lr": 0.05}), ReweightedWakeSleep()).step(X, Y)


def test_the_wake_bound_is_that_of_importance_weights() -> None:
    """With many particles its value is the log evidence, here of a Gaussian."""
    fused = fuse(model, at="y", weight=0.5)
    loss = ReweightedWakeSleep(num_particles=20_000, max_plate_nesting=2)  # with the particles' own plate
    wake, _ = loss.loss(fused, PriorGuide(fused, half_normal_guide).standalone(), X, Y)
    mean, label = (X + swap(X)) / 2, (Y + swap(Y)) / 2
    evidence = dist.MultivariateNormal(torch.zeros(4), torch.eye(4) + mean[:, None] * mean).log_prob(label)
    assert abs(wake + evidence) < 0.05


# EnergyDistance


@pytest.mark.parametrize("standalone", [False, True])
@pytest.mark.parametrize("prior_scale", [0.0, 0.1])
@pytest.mark.parametrize(("program", "at"), [(model, "y"), (embedded, "z")])
def test_energy_distance_draws_one_weight_for_all_particles(
    program: Any, at: str, prior_scale: float, standalone: bool
) -> None:
    def guide(x: Tensor, y: Tensor | None = None) -> None:
        pyro.sample("w", dist.Normal(pyro.param("loc", torch.tensor(-1.0)), 0.1))

    fused = fuse(program, at=at, weight=dist.Beta(0.5, 0.5), beta=0.01)
    own: Any = PriorGuide(fused, guide)
    loss = EnergyDistance(num_particles=16, prior_scale=prior_scale)
    svi = SVI(fused, own.standalone() if standalone else own, ClippedAdam({"lr": 0.1}), loss)
    for _ in range(60):
        svi.step(X, Y)
    assert pyro.param("loc") > 0.2  # the slope of the data


def test_energy_distance_with_weights_of_each_particle_is_refused() -> None:
    fused = fuse(model, at="y", weight=dist.Beta(0.5, 0.5))
    svi = SVI(fused, AutoNormal(fused), ClippedAdam({"lr": 0.1}), EnergyDistance())
    with pytest.raises(ValueError, match=r"'y' differ between the particles of EnergyDistance.*Try PriorGuide"):
        svi.step(X, Y)


# Predictive


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize(("program", "at"), [(model, "y"), (embedded, "z")])
@pytest.mark.parametrize("num_rows", [3, 4])
def test_the_model_before_fusion_predicts_by_the_guide_it_was_trained_with(
    program: Any, at: str, parallel: bool, num_rows: int
) -> None:
    """Nothing of the fused model has a part in it: any number of rows will do, and its density is that of the model."""
    fused = fuse(program, at=at, weight=dist.Beta(0.1, 0.1))
    guide = PriorGuide(fused, half_normal_guide)
    Trace_ELBO().loss(fused, guide, X, Y)
    rows = torch.tensor([-10.0, 0.0, 10.0, 5.0])[:num_rows]
    draws = Predictive(program, guide=guide, num_samples=2000, parallel=parallel)(rows)
    assert "lambda" not in draws
    y = draws["y"].reshape(2000, -1)
    assert y.shape == (2000, num_rows)
    variance = 1 + (rows * 0.4) ** 2 + (0.25 if at == "z" else 0.0)
    assert bool(((y.mean(0) - 0.3 * rows).abs() < 5 * (variance / 2000).sqrt()).all())
    assert bool(((y.var(0) / variance - 1).abs() < 5 * math.sqrt(2 / 2000)).all())


def test_the_fused_model_predicts_by_it_too() -> None:
    fused = fuse(embedded, at="z", weight=dist.Beta(0.5, 0.5))
    draws = Predictive(fused, guide=PriorGuide(fused, half_normal_guide), num_samples=50, return_sites=("y", "lambda"))(
        X
    )
    assert draws["y"].shape == (50, 4) and draws["lambda"].shape == (50, 4)
    assert Predictive(model, guide=PriorGuide(fuse(model, at="y", weight=0.5)), num_samples=5)(X[:3])["y"].shape == (
        5,
        3,
    )


def test_importance_weights_count_the_density_of_the_guide() -> None:
    fused = fuse(model, at="y", weight=dist.Beta(1e6, 1e6))  # nearly 0.5
    guide = PriorGuide(fused, half_normal_guide)
    results = WeighedPredictive(fused, guide=guide, num_samples=2000, parallel=True)(X, Y)
    mean, label = (X + swap(X)) / 2, (Y + swap(Y)) / 2
    evidence = dist.MultivariateNormal(torch.zeros(4), torch.eye(4) + mean[:, None] * mean).log_prob(label)
    assert abs(results.log_weights.logsumexp(0) - math.log(2000) - evidence) < 0.05


def test_the_outer_trace_meets_each_site_once() -> None:
    fused = fuse(embedded, at="z", weight=dist.Beta(0.5, 0.5))
    guide = PriorGuide(fused, half_normal_guide)
    outer = poutine.trace(guide).get_trace(X, Y)
    names = [name for name, site in outer.nodes.items() if site["type"] == "sample"]
    assert sorted(names) == ["lambda", "raw", "rows", "w", "z"]
    own, inner = (dict(trace.nodes.items())["w"] for trace in guide.get_traces())
    sites: Any = (own, inner)
    assert sites[0]["fn"].mean == 0 and sites[1]["fn"].v == sites[0]["value"]
    assert copy.deepcopy(guide) is not guide
    assert isinstance(pickle.loads(pickle.dumps(PriorGuide(model))), PriorGuide)


# pyro.markov


def given(values: dict[str, Tensor]) -> Any:
    trace = poutine.Trace()
    for name, value in values.items():
        trace.add_node(name, name=name, type="sample", value=value, is_observed=False, infer={})
    return trace


@pytest.mark.parametrize("at", ["y_*", "y_1", "z_1"])
@pytest.mark.parametrize("standalone", [False, True])
def test_weights_drawn_within_a_markov_loop_under_enumeration(at: str, standalone: bool) -> None:
    """A loop in which nothing is enumerated, downstream of a regime that is: against the sum over that by hand."""
    y = torch.stack([Y, Y + 0.5])

    def series(x: Tensor, regime: Any = None) -> None:
        regime = pyro.sample("regime", dist.Bernoulli(0.4), infer={"enumerate": "parallel"}, obs=regime)
        with pyro.plate("rows", len(x)):
            z = torch.zeros(())
            for t in pyro.markov(range(2)):
                z = pyro.sample(f"z_{t}", dist.Normal(0.6 * z + x, 1.0))
                pyro.sample(f"y_{t}", dist.Normal(z + regime, 0.7), obs=y[t])

    states = torch.randn(2, 4)

    weight = dist.Beta(1e8, 1e8)  # of little variance
    fused = fuse(series, at=at, weight=weight)

    def guide(x: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            for t in pyro.markov(range(2)):
                pyro.sample(f"z_{t}", dist.Delta(states[t]))
            if not standalone:
                pyro.sample("lambda", weight)

    used: Any = PriorGuide(fused, guide).standalone() if standalone else guide
    loss = TraceEnum_ELBO(max_plate_nesting=1).loss(fused, used, X)

    by_hand = []
    for regime in torch.tensor([0.0, 1.0]):
        values = {f"z_{t}": states[t] for t in range(2)} | {"lambda": torch.full((4,), 0.5)}
        trace: Any = poutine.trace(poutine.replay(fused, trace=given(values))).get_trace(X, regime)
        by_hand.append(trace.log_prob_sum() - trace.nodes["lambda"]["log_prob_sum"])
    assert loss == pytest.approx(-torch.stack(by_hand).logsumexp(0).item(), rel=1e-3)


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("loss", [Trace_ELBO, TraceGraph_ELBO])
def test_a_step_without_gradients_is_refused_and_a_loss_is_not(without, loss):
    """SVI itself returns a loss and leaves all parameters as they are."""
    fused = fuse(model, at="y", weight=0.3)
    svi = SVI(fused, PriorGuide(fused, AutoNormal(model)), ClippedAdam({"lr": 0.1}), loss())
    with (
        without(),
        pytest.raises(RuntimeError, match=r"SVI.step .* torch.no_grad .*, expected gradients. Try the step outside"),
    ):
        svi.step(X, Y)
    svi.step(X, Y)
    before = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    assert math.isfinite(svi.step(X, Y))
    assert any(not torch.equal(value, before[name]) for name, value in pyro.get_param_store().items())
    with without():
        assert math.isfinite(svi.evaluate_loss(X, Y))


def test_a_guide_that_looks_at_the_model_without_gradients_trains():
    fused = fuse(model, at="y", weight=0.3)
    svi = SVI(fused, AutoGaussian(fused), ClippedAdam({"lr": 0.1}), Trace_ELBO())  # type: ignore[abstract]
    assert math.isfinite(svi.step(X, Y))
