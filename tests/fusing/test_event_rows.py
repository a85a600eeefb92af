"""Rows in the events of sites, by ``to_event``: fused as the same rows in a plate are."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.contrib.gp as gp
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor

from pyro_probmix import ExpectedLogLikelihood, LogExpectedLikelihood, PriorGuide, fuse

B, K = 6, 2


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(B, K, dtype=torch.float64), torch.randn(B, K, dtype=torch.float64)


def normal(x: Tensor) -> Any:
    return dist.Normal(x, (0.3 * x).exp())


def masked(x: Tensor) -> Any:
    rows: Any = torch.tensor([True, True, False, True, True, True])
    return normal(x).to_event(1).mask(rows)


def transformed(x: Tensor) -> Any:
    return dist.TransformedDistribution(normal(x).to_event(x.dim() - 1), [dist.transforms.AffineTransform(1.0, 2.0)])


#: Each as (density, with its rows in a batch at dim=-1, event dims of a row).
ROWS: dict[str, tuple[Callable[[Tensor], Any], int]] = {
    "numbers": (lambda x: normal(x[:, 0]), 0),
    "vectors": (lambda x: normal(x).to_event(1), 1),
    "multivariate": (lambda x: dist.MultivariateNormal(x, torch.eye(K, dtype=x.dtype)), 1),
    "masked": (masked, 1),
    "expanded": (lambda x: dist.Normal(x[0, 0], 1.0).expand([B]), 0),
    "transformed": (transformed, 1),
}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"pool": pool}) for name in ROWS for pool in ("log-linear", "linear")),
        *((name, {"labels": "expected", "beta": 0.01}) for name in ("numbers", "vectors", "multivariate")),
    ],
    ids=str,
)
def test_rows_in_an_event_are_fused_as_rows_in_a_plate(name, options, data):
    density, event_dim = ROWS[name]
    x, y = data
    y = y if event_dim else y[:, 0]

    def in_plate(x, y):
        with pyro.plate("rows", B):
            pyro.sample("y", density(x), obs=y)

    def in_event(x, y):
        pyro.sample("y", density(x).to_event(1), obs=y)

    sites = []
    model: Any
    where: Any
    for model, where in ((in_plate, {}), (in_event, {"rows_in_event": 0})):
        torch.manual_seed(1)
        trace = poutine.trace(fuse(model, at="y", weight=0.3, **options, **where)).get_trace(x, y)
        trace.compute_log_prob()
        sites.append(trace.nodes["y"])
    assert sites[1]["log_prob"].shape == ()
    torch.testing.assert_close(sites[1]["log_prob"], sites[0]["log_prob"].sum())
    torch.testing.assert_close(sites[1]["value"], sites[0]["value"])


def test_rows_in_the_last_dimension_of_an_event(data):
    """Outputs by rows, as in Pyro's Gaussian processes; weights of three rows."""
    x, y = (values.T for values in data)
    weights = dist.Dirichlet(torch.ones(3, dtype=x.dtype)).sample((B,))

    def in_event(x, y):
        pyro.sample("y", normal(x).to_event(2), obs=y)

    def in_plate(x, y):
        with pyro.plate("outputs", K, dim=-2), pyro.plate("rows", B, dim=-1):
            pyro.sample("y", normal(x), obs=y)

    fused = fuse(in_event, at="y", weight=weights, num_fused=3, rows_in_event=-1)
    trace = poutine.trace(fused).get_trace(x, y)
    expected = poutine.trace(fuse(in_plate, at="y", weight=weights, num_fused=3, plate="rows")).get_trace(x, y)
    torch.testing.assert_close(trace.log_prob_sum(), expected.log_prob_sum())
    random = fuse(in_event, at="y", weight=dist.Dirichlet(torch.ones(3)), num_fused=3, rows_in_event=1)
    site = poutine.trace(random).get_trace(x, y).nodes["lambda"]
    assert site["value"].shape == (1, B, 3) and site["fn"].batch_shape == ()
    with pytest.raises(ValueError, match=r"'y' has a batch of 2 rows, expected 3 equal parts"):
        fuse(in_event, at="y", weight=weights, num_fused=3, rows_in_event=0)(x, y)


def latent(x: Tensor, y: Tensor | None = None) -> None:
    z = pyro.sample("z", dist.Normal(x, 0.5).to_event(2))
    with pyro.plate("outputs", K):
        pyro.sample("y", dist.Normal(z.transpose(-1, -2), 0.1).to_event(1), obs=None if y is None else y.T)


def test_labels_after_a_latent_in_whose_event_the_rows_are(data):
    x, y = data
    weight = dist.Beta(torch.tensor(2.0, dtype=x.dtype), 2.0)
    trace = poutine.trace(fuse(latent, at="z", weight=weight, rows_in_event=0)).get_trace(x, y)
    drawn: Any = trace.nodes["lambda"]["value"]
    assert drawn.shape == (B,)
    own = torch.cat([drawn[: B // 2], 1 - drawn[B // 2 :]])[:, None]
    torch.testing.assert_close(trace.nodes["z"]["fn"].mean, own * x + (1 - own) * x.roll(-B // 2, 0))
    torch.testing.assert_close(trace.nodes["y"]["value"].T, own * y + (1 - own) * y.roll(-B // 2, 0))


def test_points_without_a_plate_are_mixed(data):
    x, y = data

    def model(x, y):
        h = pyro.deterministic("h", x)
        pyro.sample("y", dist.Normal(h, 1.0).to_event(2), obs=y)

    trace = poutine.trace(fuse(model, at="h", weight=0.3, rows_in_event=0)).get_trace(x, y)
    own = torch.where(torch.arange(B) < B // 2, 0.3, 0.7).double()[:, None]
    for name, values in (("h", x), ("y", y)):
        torch.testing.assert_close(trace.nodes[name]["value"], own * values + (1 - own) * values.roll(-B // 2, 0))


def test_particles_and_plates_around_the_event(data):
    x, y = data[0].T, data[1].T

    def model(x, y=None):
        slope = pyro.sample("slope", dist.Normal(torch.ones((), dtype=x.dtype), 0.1))
        with pyro.plate("outputs", K):
            pyro.sample("y", dist.Normal(slope[..., None] * x, 1.0).to_event(1), obs=y)

    weight = dist.Beta(torch.tensor(2.0, dtype=x.dtype), 2.0)
    for plates, shape in (((), (B,)), (("outputs",), (K, B))):
        fused = fuse(model, at="y", weight=weight, rows_in_event=0, weight_plates=plates)
        assert poutine.trace(fused).get_trace(x, y).nodes["lambda"]["value"].shape == shape
        loss = Trace_ELBO(num_particles=5, vectorize_particles=True, max_plate_nesting=1)
        assert loss.loss(fused, PriorGuide(fused), x, y) > 0
        with poutine.trace() as tracer, pyro.plate("particles", 5, dim=-2):
            fused(x, y)
        drawn: Any = tracer.trace.nodes["lambda"]["value"]
        assert drawn.shape == (5, shape[0] if plates else 1, B)
        own = torch.cat([drawn[..., : B // 2], 1 - drawn[..., B // 2 :]], -1)
        torch.testing.assert_close(tracer.trace.nodes["y"]["value"], own * y + (1 - own) * y.roll(-B // 2, -1))
    drawn_y = Predictive(fuse(model, at="y", weight=weight, rows_in_event=0), num_samples=7, parallel=True)(x)["y"]
    assert drawn_y.shape == (7, K, B)


@pytest.mark.parametrize(("likelihood", "labels"), [("Gaussian", lambda y: y), ("Binary", lambda y: (y > 0).double())])
def test_gaussian_processes_of_pyro(likelihood, labels, data):
    """A step is the model's own but for the fused likelihood; at weight 1 the first half's rows stand twice."""
    x, y = data[0], labels(data[1][:, 0])
    kernel = gp.kernels.RBF(K, torch.tensor(1.0, dtype=x.dtype))
    process = gp.models.VariationalSparseGP(x, y, kernel, x[:4].clone(), getattr(gp.likelihoods, likelihood)())
    process.double()
    traces = []
    model: Any
    for model in (process.model, fuse(process.model, at="likelihood.y", weight=1.0, rows_in_event=0)):
        torch.manual_seed(2)
        traces.append(poutine.trace(model).get_trace())
    plain, fused = (trace.nodes["likelihood.y"] for trace in traces)
    halves = torch.cat([plain["fn"].base_dist.log_prob(plain["value"])[: B // 2]] * 2)
    torch.testing.assert_close(fused["fn"].log_prob(fused["value"]), halves.sum())
    model = fuse(process.model, at="likelihood.y", weight=dist.Beta(0.5, 0.5), rows_in_event=0)
    svi = SVI(model, PriorGuide(model, process.guide), ClippedAdam({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step() for _ in range(60)]
    assert all(map(math.isfinite, losses))
    assert sum(losses[-20:]) < sum(losses[:20]) or likelihood == "Binary"  # labels at random
    pyro.clear_param_store()


def test_criteria_with_a_logarithm_for_each_row_refuse_rows_in_an_event(data):
    def model(x, y):
        z = pyro.sample("z", dist.Normal(x, 0.5).to_event(2))
        pyro.sample("y", dist.Normal(z, 1.0).to_event(2), obs=y)

    fused = fuse(model, at="z", weight=dist.Beta(0.5, 0.5), rows_in_event=0)
    guide = PriorGuide(fused)
    assert ExpectedLogLikelihood(3, max_plate_nesting=0).loss(fused, guide, *data) > 0
    assert LogExpectedLikelihood(max_plate_nesting=0).loss(fused, guide, *data) > 0
    for criterion in (
        ExpectedLogLikelihood(num_embeddings=2, max_plate_nesting=0),
        LogExpectedLikelihood(2, max_plate_nesting=0),
        LogExpectedLikelihood(scope="graph", max_plate_nesting=0),
    ):
        with pytest.raises(ValueError, match=r"'y' has its rows in the event.*Try a plate of rows, or"):
            criterion.loss(fused, guide, *data)


def test_rows_that_are_in_no_event_or_tied_are_refused(data):
    x, y = data[0][:, 0], data[1][:, 0]

    def model(x, y, density=None):
        if density is None:
            with pyro.plate("rows", B):
                pyro.sample("y", normal(x), obs=y)
        else:
            pyro.sample("y", density, obs=y)

    tied = dist.MultivariateNormal(x, torch.eye(B, dtype=x.dtype))
    options: Any
    for density, options, sentence in (
        (normal(x).to_event(1), {}, r"'y' is in the plates none.*rows_in_event=0.*to_event"),
        (None, {"rows_in_event": 0}, r"'y' has the event shape \(\), expected its rows.*without rows_in_event"),
        (normal(x).to_event(1), {"rows_in_event": 1}, r"event shape \(6,\), expected its rows in dimension 1"),
        (tied, {"rows_in_event": 0}, r"event of a MultivariateNormal, where they may depend.*to_event"),
        (dist.Unit(x.sum()), {"rows_in_event": 0}, r"'y' is a factor"),
    ):
        with pytest.raises(ValueError, match=sentence):
            fuse(model, at="y", weight=0.5, **options)(x, y, density)
    for options in ({"rows_in_event": True}, {"rows_in_event": "y"}, {"rows_in_event": 0, "plate": "rows"}):
        with pytest.raises(ValueError, match=r"fuse got .*rows_in_event.*Try"):
            fuse(model, at="y", weight=0.5, **options)


def test_labels_that_come_from_outside_are_refused(data):
    x, y = data

    def model(x):
        pyro.sample("y", normal(x).to_event(2))

    with pytest.raises(ValueError, match=r"observed outside fuse.*Try fuse\(poutine.condition"):
        poutine.condition(fuse(model, at="y", weight=0.3, rows_in_event=0), {"y": y})(x)


def test_the_log_density_of_points_in_the_event_is_kept():
    def model(points):
        pyro.sample("z", dist.Delta(points, torch.tensor(-3.0, dtype=points.dtype), event_dim=1))

    trace = poutine.trace(fuse(model, at="z", weight=0.3, rows_in_event=0)).get_trace(
        torch.ones(4, dtype=torch.float64)
    )
    trace.compute_log_prob()
    assert trace.nodes["z"]["log_prob_sum"] == -3.0
