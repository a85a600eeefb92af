"""The step by tensors alone beside the step by Pyro's handlers: the same random numbers, losses and gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_probmix import METHODS, ProbMix, build_density, fit
from pyro_probmix.fusing.rows import Rows
from pyro_probmix.graphs import NearestNeighborGraph
from pyro_probmix.inference import LogExpectedLikelihood
from pyro_probmix.inference.criteria import ExpectedLogLikelihood
from pyro_probmix.inference.methods import build_process
from pyro_probmix.inference.step import compiled, making
from pyro_probmix.inference.step.objective import Objective, eager_gradient
from pyro_probmix.inference.step.plain import _Fused, pooled_draw, runs_plainly, tensor_gradient
from pyro_probmix.inference.step.replicas import Replicas
from pyro_probmix.models import LIKELIHOODS, ConditionalDensity, PointEmbedding, Stacked
from pyro_probmix.models.likelihoods.censored import Censored
from pyro_probmix.pooling import pool_rows

R, N, B = 3, 40, 8


def objective(
    method: str, likelihood: str = "gaussian", *, beta: Any = 0.0, labels: Any = "sample", **options: Any
) -> Any:
    """The objective of a method in double precision, its rows and their responses."""
    make: Any = LIKELIHOODS[likelihood]
    outputs = 3 if likelihood == "categorical" else 2
    torch.manual_seed(0)
    density = build_density(
        METHODS[method], num_features=2, likelihood=make, num_outputs=outputs, widths=(6, 5), activation="silu", replicas=R,
        **options,
    )  # fmt: skip
    x = torch.randn(R, N, 2)
    y = torch.rand(R, N, 2) + 0.1
    if likelihood == "poisson":
        y = (5 * y).round()
    elif likelihood == "bernoulli":
        y = y.round().clamp(max=1)
    elif likelihood == "categorical":
        y = torch.randint(3, (R, N))
    graph = NearestNeighborGraph(x, k=4) if METHODS[method].graph == "nearest" else None
    model = build_process(METHODS[method], density, graph, alpha=0.5, beta=beta, labels=labels, batch_size=B)
    return Objective(model, ExpectedLogLikelihood(max_plate_nesting=2), Replicas(model, R), N), x, y


def both(found: Any, x: torch.Tensor, y: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """Losses, gradients and the next random number of the step by handlers, and of the one by tensors."""
    rows = torch.stack([torch.randperm(N)[:B] for _ in range(R)])
    results = []
    for make in (eager_gradient, partial(tensor_gradient, ahead=1)):
        torch.manual_seed(1)
        losses = make(found, x, y)(rows)
        gradients = [p.grad for p in found.parameters() if p.grad is not None]
        results.append((losses, *gradients, torch.rand(3)))
    return results


@pytest.mark.parametrize("method", list(METHODS))
def test_the_step_of_each_method_is_that_of_the_handlers(method: str) -> None:
    found, x, y = objective(method)
    assert runs_plainly(found)
    handlers, tensors = both(found, x, y)
    assert len(handlers) == len(tensors)
    for one, other in zip(handlers, tensors, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["ProbMix", "M-ProbMix"])
@pytest.mark.parametrize(
    ("likelihood", "options"),
    [
        ("gaussian", {"beta": 0.1}),
        ("poisson", {}),
        ("gamma", {}),
        ("bernoulli", {"beta": 0.01}),
        ("categorical", {"beta": 0.01}),
        ("categorical", {"labels": "expected"}),
        ("homoscedastic", {}),
    ],
)
def test_labels_of_each_kind_are_perturbed_alike(method: str, likelihood: str, options: dict[str, Any]) -> None:
    found, x, y = objective(method, likelihood, **options)
    for one, other in zip(*both(found, x, y), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_rows_that_all_replicas_share() -> None:
    found, x, y = objective("M-ProbMix")
    for one, other in zip(*both(found, x[0], y[0]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["Mix", "M-Mix", "ProbMix", "M-ProbMix"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_weights_of_another_precision_and_labels_of_whole_numbers(method: str, kind: torch.dtype) -> None:
    found, x, y = objective(method)
    found.model.to(kind)
    found.model.alpha = found.model.alpha.to(torch.float64 if kind == torch.float32 else torch.float32)
    for one, other in zip(*both(found, x.to(kind), (3 * y).round().long()), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_pooled_draw_has_the_pool_and_its_gradients() -> None:
    torch.manual_seed(0)
    mean, deviation = torch.randn(2, 6, 3).double(), torch.rand(2, 6, 3).double() + 0.2
    own, noise = torch.rand(2, 6).double(), torch.randn(2, 6, 3).double()
    pool: Any = pool_rows(
        dist.Normal(mean, deviation).to_event(1), own, shift=-3, dim=-1, pool="log-linear", num_fused=2
    )
    z = pooled_draw(mean, deviation, own[..., None], noise)
    torch.testing.assert_close(z, pool.mean + pool.variance.sqrt() * noise, rtol=1e-12, atol=1e-12)
    inputs = mean.requires_grad_(), deviation.requires_grad_()
    assert torch.autograd.gradcheck(lambda m, s: pooled_draw(m, s, own[..., None], noise), inputs)


def test_what_has_more_to_it_runs_by_handlers() -> None:
    found, _, _ = objective("M-ProbMix")
    assert runs_plainly(found)
    found.criterion = LogExpectedLikelihood(2, 1)
    assert not runs_plainly(found)
    assert not runs_plainly(objective("M-ProbMix", dropout=0.1)[0])
    density = build_density(METHODS["ERM"], num_features=2, likelihood=LIKELIHOODS["gaussian"])
    single = ProbMix(density, at="y")
    assert not runs_plainly(Objective(single, ExpectedLogLikelihood(), Replicas(single, None), N))


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": lambda x, y: (x[0] - x[1]).abs().sum(-1) + 0.1},
        {"one_weight": True},
        {"weight_plates": ["data"]},
        {"keep_labels": ["y"]},
        {"plate": "replica"},
        {"add_unfused_rows": True},
        {"pool": "linear"},
        {"num_fused": 4},
        {"at": ["z", "y"]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_process_that_tensors_do_not_know_runs_by_handlers(options: dict[str, Any]) -> None:
    """Each of these has another loss, which the step by tensors would leave out without a word."""
    density = build_density(METHODS["ERM"], num_features=2, likelihood=LIKELIHOODS["gaussian"], replicas=R)
    given: dict[str, Any] = {"at": "y", "batch_size": B} | options
    model = ProbMix(density, **given)
    assert not runs_plainly(Objective(model, ExpectedLogLikelihood(), Replicas(model, R), N))


def test_what_others_add_to_a_step_runs_by_handlers() -> None:
    found, _, _ = objective("M-ProbMix")
    with pyro.poutine.scale(scale=2.0):
        assert not runs_plainly(found)
    for module in (found.model, found.model.density, found.model.density.embedding):
        assert runs_plainly(found)
        hook = module.register_forward_pre_hook(lambda module, inputs: None)
        assert not runs_plainly(found)
        hook.remove()
    assert runs_plainly(found)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not runs_plainly(found)
    own = type("Own", (ProbMix,), {})(found.model.density, at="z")
    assert not runs_plainly(Objective(own, ExpectedLogLikelihood(), Replicas(own, R), N))


def test_a_short_fit_runs_by_tensors_unless_it_is_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    for name in ("tensor_gradient", "choose"):
        way = getattr(making, name)

        def noted(*args: Any, way: Any = way, name: str = name) -> Any:
            made.append(name)
            return way(*args)

        monkeypatch.setattr(making, name, noted)
    ways: list[dict[str, Any]] = [{}, {"plain": True}, {"plain": False}, {"compile": False}]
    for options in ways:
        found, x, y = objective("M-ProbMix")
        fit(found.model, x, y, epochs=1, **options)
    # Where compiling repays, it is compiled, but for those who want no compiling.
    monkeypatch.setattr(compiled, "COMPILE_SECONDS", 1e-3)
    monkeypatch.setattr(compiled, "compiled_gradient", lambda objective, *args: eager_gradient(objective, *args[:2]))
    for options in ways[:2]:
        found, x, y = objective("M-ProbMix")
        fit(found.model, x, y, epochs=1, **options)
    assert made == ["tensor_gradient"] * 2 + ["choose"] * 3 + ["tensor_gradient"]


def test_a_fit_by_tensors_is_the_fit_by_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_probmix.inference.step.making.tensor_gradient", partial(tensor_gradient, ahead=1))
    results = []
    for plain in (False, True):
        found, x, y = objective("M-ProbMix")
        results.append(fit(found.model, x, y, epochs=5, validation=(x, y), learning_rate=1e-2, plain=plain))
    torch.testing.assert_close(results[0].train_loss, results[1].train_loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(results[0].validation_nll, results[1].validation_nll, rtol=1e-4, atol=1e-5)


def test_weights_that_are_drawn_ahead_are_each_steps_own() -> None:
    found, _, _ = objective("M-ProbMix")
    fused = _Fused(found.model, [], ahead=200)
    rows = Rows("data", -1, B, 2)
    drawn = torch.stack([fused._weights(rows) for _ in range(400)])  # two sets of weights
    assert len(drawn.flatten(1).unique(dim=0)) == 400
    flat = drawn.flatten()
    error = (flat.var() / len(flat)).sqrt()
    assert abs(flat.mean() - 0.5) < 4 * error
    assert abs(flat.var() - 1 / 8) < 0.02  # of a Beta distribution of shapes 0.5
    assert fused._weights(Rows("data", -1, B + 2, 2)).shape == (R, B + 2)


def test_a_shape_that_is_changed_in_a_fit_counts_from_the_next_step() -> None:
    found, _, _ = objective("M-ProbMix")
    fused, rows, alpha = _Fused(found.model, [], ahead=64), Rows("data", -1, B, 2), found.model.alpha

    def middle() -> float:
        return float((fused._weights(rows) - 0.5).abs().max())

    assert middle() > 0.1
    for _ in range(3):
        alpha.fill_(1e6)
        assert middle() < 0.01 and not fused.drawn
        alpha.fill_(0.5)
        assert middle() > 0.1 and len(fused.drawn) == 63


def test_a_spread_that_is_replaced_in_a_fit_counts_from_the_next_step() -> None:
    results = []
    for way in (False, True):
        found, x, y = objective("M-ProbMix", beta=torch.full((R,), 0.1))

        def replaced(epoch: int, best: torch.Tensor, model: ProbMix = found.model) -> None:
            model.beta = 100 * model.beta

        results.append(fit(found.model, x, y, epochs=3, on_epoch=replaced, plain=way).train_loss)
    assert all(bool((losses[2] > 10 * losses[0]).all()) for losses in results)


def test_few_weights_are_drawn_ahead_for_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _, _ = objective("M-ProbMix")
    monkeypatch.setattr("pyro_probmix.inference.step.plain.MOST_AHEAD", 3 * R * B)
    for size, ahead in ((B, 3), (2 * B, 1), (10 * B, 1)):
        fused = _Fused(found.model, [], ahead=64)
        assert fused._weights(Rows("data", -1, size, 2)).shape == (R, size)
        assert len(fused.drawn) == ahead - 1


def test_errors_of_a_fit_name_the_site() -> None:
    density = build_density(METHODS["ERM"], num_features=2, likelihood=LIKELIHOODS["poisson"], widths=(3,), replicas=R)
    x, y = torch.randn(N, 2), torch.ones(N, 1)
    for at in ("x", "y"):
        with pytest.raises(ValueError, match=r"the labels of site 'y' cannot be perturbed: beta=0\.\d+ has no meaning"):
            fit(ProbMix(density, at=at, beta=0.1, batch_size=B), x, y, epochs=1)
    known = build_density(
        METHODS["ERM"], num_features=2, likelihood=Censored(LIKELIHOODS["gaussian"]), widths=(3,), replicas=R
    )
    with pytest.raises(TypeError, match="site 'y' cannot be fused: A Known"):
        fit(ProbMix(known, at="y", batch_size=B), x, torch.cat([y, y], -1), epochs=1)
    codes = torch.nn.Sequential(torch.nn.Embedding(4, 3), torch.nn.Flatten(-2))
    encoded = ConditionalDensity(Stacked(codes, R), PointEmbedding(), density.decoder, density.likelihood, replicas=R)
    with pytest.raises(TypeError, match="site 'x' cannot be fused: A Delta at points"):
        fit(ProbMix(encoded, at="x", batch_size=B), torch.ones(N, 1, dtype=torch.long), y, epochs=1)
