"""The CRPS as a criterion: values and gradients beside quadrature, what it refuses, and that densities learn by it."""

from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_probmix import Method, PriorGuide, ProbMixRegressor, fuse
from pyro_probmix.calibration import crps_gaussian
from pyro_probmix.inference import CRPS
from pyro_probmix.inference.predictive.crps import crps_at
from pyro_probmix.inference.predictive.mixture import PredictiveMixture

N = 6
LOC = torch.linspace(-1, 1, N).double()
SCALE = torch.linspace(0.2, 2, N).double()
Y = torch.tensor([3.0, -1.0, 0.1, 0.3, -2.0, 1.0]).double()


def loss_of(make: Any, criterion: CRPS) -> tuple[Any, list[Any]]:
    """The loss of six rows and its gradients with respect to a location and a log scale that all share."""
    shift, log_scale = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))

    def model() -> None:
        with pyro.plate("rows", N, dim=-1):
            pyro.sample("y", make(LOC + shift, SCALE * log_scale.exp()), obs=Y)

    loss = criterion.differentiable_loss(model, PriorGuide(model))
    return float(loss.detach()), [float(g) for g in torch.autograd.grad(loss, (shift, log_scale))]


def by_quadrature(make: Any, step: float = 1e-4) -> tuple[float, list[float]]:
    def total(shift: float, log_scale: float) -> float:
        p = make(LOC + shift, SCALE * np.exp(log_scale))
        return float(crps_at(PredictiveMixture(p, 0), Y.numpy()).sum())

    slopes = [(total(*(step * e)) - total(*(-step * e))) / (2 * step) for e in np.eye(2)]
    return total(0, 0), slopes


def test_of_gaussians_value_and_gradient_are_exact():
    loss, slopes = loss_of(dist.Normal, CRPS())
    assert loss == pytest.approx(crps_gaussian(Y.numpy(), LOC.numpy(), SCALE.numpy()).sum(), rel=1e-9)
    np.testing.assert_allclose(slopes, by_quadrature(dist.Normal)[1], rtol=1e-5)


@pytest.mark.parametrize("family", ["student", "laplace"])
def test_of_others_value_and_gradient_are_unbiased(family):
    def make(loc, scale):
        return dist.StudentT(5.0, loc, scale) if family == "student" else dist.Laplace(loc, scale)

    pyro.set_rng_seed(0)
    found = [(loss, *slopes) for loss, slopes in (loss_of(make, CRPS(num_draws=50)) for _ in range(300))]
    value, slopes = by_quadrature(make)
    error = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - [value, *slopes]) < 4 * error).all()
    assert (error < 0.02 * value).all()


def test_a_pooled_gaussian_is_scored_as_it_is():
    def model():
        with pyro.plate("rows", N, dim=-1):
            pyro.sample("y", dist.Normal(LOC, 1.0), obs=Y)

    fused = fuse(model, at="y", weight=0.5)
    half = Y.roll(N // 2) / 2 + Y / 2
    pooled = LOC / 2 + LOC.roll(N // 2) / 2
    loss = CRPS().differentiable_loss(fused, PriorGuide(fused))
    assert float(loss) == pytest.approx(crps_gaussian(half.numpy(), pooled.numpy(), np.ones(N)).sum(), rel=1e-6)


@pytest.mark.parametrize(
    "density, said",
    [
        (dist.Poisson(torch.ones(N)), "expected a continuous one with rsample"),
        (dist.MultivariateNormal(torch.zeros(N, 2), torch.eye(2)), "ties"),
    ],
)
def test_what_has_no_such_score_is_refused(density, said):
    def model():
        with pyro.plate("rows", N, dim=-1):
            pyro.sample("y", density, obs=torch.zeros(density.shape()))

    with pytest.raises(ValueError, match=said):
        CRPS().differentiable_loss(model, PriorGuide(model))
    with pytest.raises(ValueError, match="expected 1, since the score of a mixture"):
        CRPS(1, 2)


@pytest.mark.parametrize(
    "method", [Method(criterion="crps"), Method("z", "complete", variance="shared", criterion="crps")]
)
@pytest.mark.parametrize("likelihood", ["gaussian", "student-t"])
def test_estimators_learn_by_it(method, likelihood):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (200, 1))
    y = x[:, 0] ** 2 + 0.1 * rng.normal(size=200)
    model = ProbMixRegressor(method, likelihood, ensemble=2, widths=(32, 16), epochs=40, random_state=0).fit(
        x[:150], y[:150]
    )
    constant = crps_gaussian(y[150:], y[:150].mean(), y[:150].std()).mean()
    assert model.crps(x[150:], y[150:]) < 0.6 * constant
