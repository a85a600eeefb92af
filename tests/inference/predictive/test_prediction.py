"""The posterior predictive: a proper mixture, in the units of the response."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.special import roots_hermitenorm
from torch import nn

from pyro_probmix import METHODS, ProbMix, fuse, predict
from pyro_probmix.inference import PredictiveMixture, negative_log_likelihood
from pyro_probmix.models import (
    Bernoulli,
    Categorical,
    ConditionalDensity,
    Gamma,
    Gaussian,
    GaussianEmbedding,
    HomoscedasticGaussian,
    Poisson,
    build_density,
)

N, FEATURES = 7, 2
X = torch.linspace(-1, 1, N * FEATURES).reshape(N, FEATURES)


def density(name="M-ProbMix", likelihood=Gaussian, outputs=1, replicas=None):
    return build_density(
        METHODS[name],
        num_features=FEATURES,
        likelihood=likelihood,
        num_outputs=outputs,
        widths=(1, 4),
        replicas=replicas,
    )


def test_mixture_over_draws_is_the_integral_over_the_embedding():
    """One-dimensional embedding: 20,000 draws against Gauss-Hermite quadrature of eq. (21) at one row."""
    model = density().double()
    with torch.no_grad():
        model.embedding.scale.bias.fill_(3.0)  # a wide embedding, so that the integral matters
    x, y = X.double(), torch.full((N, 1), 0.3, dtype=torch.float64)
    with torch.no_grad(), pyro.poutine.trace() as tracer:
        model(x)
    site: Any = tracer.trace.nodes["z"]
    q = site["fn"].base_dist
    node, weight = (torch.as_tensor(a) for a in roots_hermitenorm(100))
    z = q.loc + q.scale * node[:, None, None]
    log_prob = model.likelihood(model.decoder(z)).log_prob(y)
    exact = (log_prob + (weight / weight.sum()).log()[:, None]).logsumexp(0)
    draws = 20_000
    error = ((log_prob - exact).exp().sub(1).square() * (weight / weight.sum())[:, None]).sum(0).sqrt() / math.sqrt(
        draws
    )
    with torch.no_grad():
        estimate = predict(model, x, num_samples=draws).log_prob(y)
    assert ((estimate - exact).abs() < 4 * error + 1e-9).all()


def test_mean_embedding_is_plugged_in():
    model = density()
    with torch.no_grad():
        predictive = predict(model, X, embedding="mean")
        expected = model.likelihood(model.decoder(model.encoder(X)))
    torch.testing.assert_close(predictive.mean, expected.mean)


def components(batch=(5, N)):
    torch.manual_seed(0)
    return dist.Normal(torch.randn(*batch, 1), torch.rand(*batch, 1) + 0.5).to_event(1)


def reference(parts, loc=0.0, scale=1.0):
    """torch's own mixture, its components last."""
    moved = torch.distributions.Normal((loc + scale * parts.mean)[..., 0].T, (scale * parts.variance.sqrt())[..., 0].T)
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(len(parts.mean))), moved)


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (3.0, 2.5)])
def test_mixture_agrees_with_torch(loc, scale):
    parts = components()
    mixture, expected = PredictiveMixture(parts, 1, loc, scale), reference(parts, loc, scale)
    y = torch.randn(N, 1) * 2 + loc
    torch.testing.assert_close(mixture.log_prob(y), expected.log_prob(y[:, 0]))
    torch.testing.assert_close(mixture.mean[:, 0], expected.mean)
    torch.testing.assert_close(mixture.variance[:, 0], expected.variance)
    torch.testing.assert_close(mixture.cdf(y)[:, 0], expected.cdf(y[:, 0]))
    torch.manual_seed(1)
    draws = mixture.sample((40_000,))
    assert draws.shape == (40_000, N, 1)
    error = expected.variance.sqrt() / math.sqrt(40_000)
    assert ((draws.mean(0)[:, 0] - expected.mean).abs() < 4 * error).all()
    many = torch.randn(3, N, 1)
    torch.testing.assert_close(mixture.log_prob(many), torch.stack([mixture.log_prob(v) for v in many]))


def test_log_of_the_mean_not_the_mean_of_the_logs():
    parts = components()
    y = torch.randn(N, 1)
    mixed = PredictiveMixture(parts, 1).log_prob(y)
    assert (mixed > parts.log_prob(y).mean(0)).all()
    torch.testing.assert_close(mixed, parts.log_prob(y).exp().mean(0).log())


def test_units_of_several_responses():
    """Standardised densities integrate to one in the units of the responses too."""
    parts = dist.Normal(torch.randn(4, N, 2), torch.rand(4, N, 2) + 0.5).to_event(1)
    loc, scale = torch.tensor([10.0, -3.0]), torch.tensor([5.0, 0.2])
    y = loc + scale * torch.randn(N, 2)
    mixture = PredictiveMixture(parts, 1, loc, scale)
    expected = PredictiveMixture(parts, 1).log_prob((y - loc) / scale) - scale.log().sum()
    torch.testing.assert_close(mixture.log_prob(y), expected)
    torch.testing.assert_close(mixture.mean, loc + scale * parts.mean.mean(0))


@torch.no_grad()
def test_ensemble_mixes_replicas():
    model = density("ProbMix", replicas=3)
    each, together = predict(model, X), predict(model, X, ensemble=True)
    y = torch.randn(N, 1)
    assert each.batch_shape == (3, N) and together.batch_shape == (N,)
    torch.testing.assert_close(together.log_prob(y), each.log_prob(y).exp().mean(0).log())
    drawn = predict(density(replicas=3), X, num_samples=10, ensemble=True)
    assert drawn.num_components == 30 and drawn.batch_shape == (N,)


@torch.no_grad()
@pytest.mark.parametrize(
    ("likelihood", "outputs", "y"),
    [
        (Gaussian, 2, torch.randn(N, 2)),
        (HomoscedasticGaussian, 1, torch.randn(N, 1)),
        (Categorical, 3, torch.arange(N) % 3),
        (Bernoulli, 2, (torch.rand(N, 2) > 0.5).float()),
        (Poisson, 1, torch.arange(N).float()[:, None]),
        (Gamma, 2, torch.rand(N, 2) + 0.1),
    ],
)
def test_every_likelihood_predicts(likelihood, outputs, y):
    model = density(likelihood=likelihood, outputs=outputs, replicas=2)
    predictive = predict(model, X, num_samples=6)
    assert predictive.log_prob(y).shape == (2, N)
    assert predictive.sample((4,)).shape == (4, 2, *y.shape)
    assert predictive.support.check(predictive.sample()).all()
    nll = negative_log_likelihood(model, X, y, num_samples=6)
    assert nll.shape == (2,) and nll.isfinite().all()
    if likelihood is Categorical:
        torch.testing.assert_close(predictive.probs.sum(-1), torch.ones(2, N))


def test_errors():
    with pytest.raises(ValueError, match=r"embedding='median'.*Try"):
        predict(density(), X, embedding="median")  # type: ignore[arg-type] # what a type checker refuses, at run time
    with pytest.raises(ValueError, match=r"no site 'target'.*'y'.*Try"):
        predict(density(), X, response="target")
    with pytest.raises(ValueError, match=r"num_samples=0.*Try"):
        predict(density(), X, num_samples=0)
    with pytest.raises(ValueError, match=r"ensemble=True for a density with the batch \(7,\).*Try"):
        predict(density(), X, ensemble=True)

    def bayesian(x, y=None):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(slope * x[:, 0], 1.0), obs=y)

    with pytest.raises(ValueError, match=r"latent site 'slope'.*Try pyro.infer.Predictive"):
        predict(bayesian, X)


@pytest.mark.parametrize("name", ["ProbMix", "M-ProbMix"])
@pytest.mark.parametrize(
    ("x", "options", "sentence"),
    [
        (X.numpy().astype(str), {}, "x of type ndarray, expected a tensor or an array of numbers"),
        ({"a": X}, {}, "x of type dict, expected a tensor or an array of numbers"),
        (X[:, :1], {}, r"got 1 to a row, of shape \(7, 1\)"),
        (X * torch.nan, {}, "x with values that are NaN or infinite, expected finite ones"),
        (X / 0, {}, "x with values that are NaN or infinite, expected finite ones"),
        (X[0], {}, r"got x of shape \(2,\), expected rows"),
        (X[:0], {}, "the density refuses: there is no row"),
        (X, {"num_samples": 10.0}, "num_samples=10.0, expected an integer"),
        (X, {"loc": torch.zeros(N)}, r"loc of shape \(7,\), expected .*\(7, 1\)"),
        (X, {"scale": torch.ones(N)}, r"scale of shape \(7,\), expected .*\(7, 1\)"),
        (X, {"scale": "a"}, "scale of type str, expected a tensor or an array of numbers"),
        (X, {"ensemble": 3}, "ensemble=3, expected True or False"),
        (X, {"scale": -1.0}, "scale=-1.0, expected values above 0"),
        (X, {"scale": torch.tensor([0.0])}, r"scale=tensor\(\[0.\]\), expected values above 0"),
    ],
)
def test_what_does_not_fit_is_refused(name, x, options, sentence):
    with pytest.raises(ValueError, match=f"{sentence}.*Try"):
        predict(density(name), x, **options)


@pytest.mark.parametrize("wrap", [lambda d: fuse(d, at="y", weight=0.5), lambda d: ProbMix(d, at=None)])
def test_what_is_fused_is_refused(wrap):
    with pytest.raises(ValueError, match=r"predict got a (Fused|ProbMix), which fuses rows.*Try predict\(density, x\)"):
        predict(wrap(density("ProbMix")), X)


@pytest.mark.parametrize("replicas", [None, 3])
@pytest.mark.parametrize(
    ("shape", "advice"),
    [((N,), r"y\[..., None\]"), ((N - 1, 1), "the responses"), ((), "the responses")],
)
def test_responses_that_would_broadcast_are_refused(replicas, shape, advice):
    predictive = predict(density("ProbMix", replicas=replicas), X)
    with pytest.raises(ValueError, match=rf"y of shape .*expected a shape that ends in \(7, 1\). Try {advice}"):
        predictive.log_prob(torch.zeros(shape))


def test_a_density_is_evaluated_on_a_grid():
    scalar = PredictiveMixture(dist.Normal(torch.zeros(5, N), 1.0), 1)
    grid = torch.linspace(-1, 1, 4)
    assert scalar.log_prob(grid[:, None]).shape == scalar.cdf(grid[:, None]).shape == (4, N)
    torch.testing.assert_close(scalar.log_prob(torch.tensor(1.0)), scalar.log_prob(torch.ones(N)))
    vector = predict(density("ProbMix"), X)
    assert vector.log_prob(grid[:, None, None]).shape == (4, N)
    torch.testing.assert_close(vector.log_prob(grid[:, None, None])[1], vector.log_prob(grid[1].expand(N, 1)))

    alone = PredictiveMixture(dist.Normal(torch.zeros(5), 1.0), 1)
    assert alone.log_prob(torch.zeros(1)).shape == (1,)
    for asked in (scalar.log_prob, scalar.cdf):
        with pytest.raises(ValueError, match=rf"{asked.__name__} got y of shape \(7, 1\).*Try y\[\.\.\., 0\]"):
            asked(torch.zeros(N, 1))
        torch.testing.assert_close(asked(0.5), asked(torch.tensor(0.5)))
        with pytest.raises(ValueError, match=rf"{asked.__name__} got y of type str.*Try"):
            asked("0.5")
        with pytest.raises(ValueError, match=rf"{asked.__name__} got y with NaN, expected numbers.*Try leaving out"):
            asked([float("nan")] * N)


def test_units_as_numpy_has_them():
    components = dist.Normal(torch.zeros(5, N), 1.0)
    arrays: list[Any] = [torch.ones(N), np.ones(N)]
    ours, theirs = (PredictiveMixture(components, 1, ones, 2 * ones) for ones in arrays)
    y = torch.linspace(-1, 1, N)
    for one, other in ((ours.mean, theirs.mean), (ours.log_prob(y), theirs.log_prob(y)), (ours.cdf(y), theirs.cdf(y))):
        torch.testing.assert_close(one, other)


def test_a_density_of_other_inputs_than_one_tensor():
    def of_two(x, y=None):
        with pyro.plate("data", N):
            return pyro.sample("y", dist.Normal(x["a"] + x["b"], 1.0), obs=y)

    assert predict(of_two, {"a": torch.zeros(N), "b": torch.ones(N)}).mean.shape == (N,)
    with pytest.raises(ValueError, match=r"predict got x of shape .*which the density refuses"):
        predict(of_two, X.numpy())


@pytest.mark.parametrize("name", ["ProbMix", "M-ProbMix"])
@pytest.mark.parametrize("form", [lambda x: x.numpy(), lambda x: x.double(), lambda x: x.tolist(), pd.DataFrame])
def test_arrays_lists_frames_and_other_precisions_are_taken(name, form):
    model = density(name)
    torch.manual_seed(0)
    wanted = predict(model, X, num_samples=3).mean
    torch.manual_seed(0)
    torch.testing.assert_close(predict(model, form(X), num_samples=3).mean, wanted)
    y = wanted[..., :1].detach()
    torch.manual_seed(0)
    loss = negative_log_likelihood(model, X, y, num_samples=3)
    torch.manual_seed(0)
    found = negative_log_likelihood(model, form(X), form(y), num_samples=3)
    torch.testing.assert_close(found, loss, check_dtype=False)


def test_an_integer_as_sample_shape():
    predictive = PredictiveMixture(dist.Normal(torch.zeros(5, N), 1.0), 1)
    for shape in (3, (3,), [3], np.int64(3), torch.Size((3,))):
        assert predictive.sample(shape).shape == (3, N)
    for odd in (-1, 0.5, "3", (2.0,), None):
        with pytest.raises(ValueError, match=r"sample got a sample_shape.*Try sample"):
            predictive.sample(odd)


def test_a_branch_beside_the_embedding_keeps_its_rows():
    """As many rows as draws and channels: the branch does not get draws."""

    class Branched(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(N)
            self.linear = nn.Linear(FEATURES, N)

        def forward(self, x, y=None):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(self.linear(x), 1.0).to_event(1))
                loc = z + self.norm(self.linear(x))
                return pyro.sample("y", dist.Normal(loc, 1.0).to_event(1), obs=y)

    assert predict(Branched().eval(), X, num_samples=N).mean.shape == (N, N)


def test_a_scalar_response_in_a_column_is_refused():
    predictive = PredictiveMixture(dist.Normal(torch.zeros(5, N), 1.0), 1)
    with pytest.raises(ValueError, match=r"y of shape \(7, 1\), expected a shape that ends in \(7,\). Try y\[..., 0\]"):
        predictive.log_prob(torch.zeros(N, 1))


@torch.no_grad()
@pytest.mark.parametrize("rows", [N, 4])
@pytest.mark.parametrize(
    "layer", [nn.BatchNorm1d(4), nn.GroupNorm(2, 4), nn.PReLU(4, 0.3), nn.LayerNorm(4)], ids=lambda v: type(v).__name__
)
def test_layers_that_read_their_channels_from_the_left_see_rows(layer, rows):
    """As many rows as channels, or not: each draw's predictive is that of its embedding alone."""
    if isinstance(layer, nn.BatchNorm1d):
        layer.running_mean, layer.running_var = torch.randn(4), torch.rand(4) + 0.5
    decoder = nn.Sequential(nn.Linear(4, 4), layer)
    model = ConditionalDensity(nn.Linear(FEATURES, 4), GaussianEmbedding(4), decoder, Gaussian(4)).eval()
    torch.manual_seed(1)
    predictive = predict(model, X[:rows], num_samples=5)
    torch.manual_seed(1)
    with pyro.poutine.trace() as tracer:
        model(X[:rows])
    site: Any = tracer.trace.nodes["z"]
    torch.manual_seed(1)
    z = site["fn"].expand((5, rows)).sample()
    expected = torch.stack([model.likelihood(decoder(one)).mean for one in z])
    torch.testing.assert_close(predictive.components.mean, expected)
    assert not torch.nn.modules.module._global_forward_pre_hooks and not torch.nn.modules.module._global_forward_hooks


def test_units_of_a_scalar_response():
    """A density without event dims loses log scale once a row, not once a batch."""

    def model(x, y=None):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x[:, 0], 1.0), obs=y)

    y = torch.randn(N)
    expected = dist.Normal(3.0 + 2.0 * X[:, 0], 2.0).log_prob(y)
    torch.testing.assert_close(predict(model, X, loc=3.0, scale=2.0).log_prob(y), expected)


def test_no_unit_is_dropped_in_a_prediction():
    model = build_density(METHODS["ERM"], num_features=FEATURES, likelihood=Gaussian, widths=(16, 8), dropout=0.5)
    with torch.no_grad():
        assert torch.equal(predict(model, X).mean, predict(model, X).mean)
    assert model.training


def test_a_discrete_response_that_the_model_goes_on_with():
    """It is not drawn, but stands as a number of its kind."""
    table = torch.tensor([0.0, 1.0, 2.0])

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(logits=x))
            return table[y]

    assert predict(model, torch.zeros(7, 3)).probs.shape == (7, 3)
