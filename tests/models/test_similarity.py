"""Weights whose distribution depends on the edge: shapes by brute force, draws by the distribution they are of."""

import math
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from scipy.stats import beta

from pyro_probmix import METHODS, ProbMix, build_density, find_method, fit
from pyro_probmix.graphs import NearestNeighborGraph
from pyro_probmix.inference.methods import build_process
from pyro_probmix.models import Gaussian
from pyro_probmix.models.similarity import SimilarityKernel


def density_of(method, replicas=None):
    return build_density(find_method(method), num_features=2, likelihood=Gaussian, widths=(5, 4), replicas=replicas)


def sites_of(process, *data):
    nodes: Any = pyro.poutine.trace(process).get_trace(*data).nodes
    return nodes


def shapes(v, edge, largest, spread):
    """The formula, edge by edge in double precision."""
    distance = np.array([((v[i] - v[j]) ** 2).sum() for i, j in edge])
    return largest * np.exp(-(distance / distance.mean() - 1) / (2 * spread**2))


@pytest.mark.parametrize("of", ["x", "y"])
@pytest.mark.parametrize("replicas", [None, 3])
def test_each_edge_has_its_shape_seen_from_both_ends(of, replicas):
    torch.manual_seed(0)
    pyro.set_rng_seed(0)
    x, y = torch.randn(12, 2), torch.randn(12, 1)
    process = ProbMix(density_of("M-ProbMix", replicas), at="z", alpha=SimilarityKernel(2.0, 0.7, of))
    rows = torch.randperm(12) if replicas is None else torch.stack([torch.randperm(12) for _ in range(replicas)])
    sites = sites_of(process, x, y, rows)
    given = sites["lambda"]["fn"]
    while not hasattr(given, "concentration1"):
        given = given.base_dist
    v = (x if of == "x" else y).double().numpy()
    edges = sites["edge"]["value"].reshape(-1, 6, 2).numpy()
    alpha = given.concentration1.expand(sites["lambda"]["value"].shape).reshape(-1, 12).numpy()
    for edge, own in zip(edges, alpha, strict=True):  # a mean for each replica
        expected = shapes(v, edge, 2.0, 0.7)
        np.testing.assert_allclose(own, np.concatenate([expected, expected]), rtol=1e-4)


def shapes_of_edges(process, *data):
    """Alpha of each edge in a run of the process and its edges, [R, E] and [R, E, 2]."""
    sites = sites_of(process, *data)
    given, edge = sites["lambda"]["fn"], sites["edge"]["value"]
    while not hasattr(given, "concentration1"):
        given = given.base_dist
    alpha = given.concentration1.expand(sites["lambda"]["value"].shape)
    return alpha[..., : edge.shape[-2]].reshape(-1, edge.shape[-2]).double().numpy(), edge.view(-1, *edge.shape[-2:])


def test_each_replica_has_a_largest_shape_of_its_own():
    """As ``build_process`` makes it of several values of alpha, the rows of each replica its own."""
    pyro.set_rng_seed(0)
    x, y, alpha = torch.randn(3, 12, 2), torch.randn(3, 12, 1), torch.tensor([0.1, 1.0, 10.0])
    method = find_method("SK-ProbMix")
    density = density_of("SK-ProbMix", 3)
    options: Any = {"beta": 0.0, "labels": "sample", "batch_size": 12}
    process = build_process(method, density, None, alpha=alpha, **options)
    found, edges = shapes_of_edges(process, x, y)
    for replica, (own, edge) in enumerate(zip(found, edges.numpy(), strict=True)):
        expected = shapes(y[replica].double().numpy(), edge, float(alpha[replica]), 0.5)
        np.testing.assert_allclose(own, expected.clip(SimilarityKernel.LEAST), rtol=1e-4)
    with pytest.raises(ValueError, match=r"edges of shape \(2, 6\), expected .* 3 replicas.*Try"):
        build_process(method, density_of("SK-ProbMix", 2), None, alpha=alpha, **options)(x[:2], y[:2])


def test_rows_that_do_not_differ_are_all_at_the_mean_distance():
    """As rows do whose distances are equal and not zero; and zero for some is no more than the formula says."""
    x = torch.zeros(3, 4, 2)
    apart = x.clone()
    apart[1] = 1.0
    apart[2, 1:] = 1.0
    alpha = SimilarityKernel(0.3, of="x")((x, apart), None)
    torch.testing.assert_close(alpha[:2], torch.full((2, 4), 0.3))
    assert float(alpha[2, 0]) == pytest.approx(0.3 * math.exp(2))


@pytest.mark.parametrize("of_each", [False, True])
def test_counts_are_as_far_apart_as_the_numbers_that_they_are(of_each):
    """Integer responses [n, 1] are no classes, and integer features are numbers."""
    x, y = torch.randint(0, 9, (12, 2)), torch.randint(0, 9, (12, 1))
    if of_each:
        x, y = x.expand(2, 12, 2), y.expand(2, 12, 1)
    for of, v in (("y", y), ("x", x)):
        process = ProbMix(density_of("M-ProbMix", 2), at="z", alpha=SimilarityKernel(of=of))  # type: ignore[arg-type] # a literal
        pyro.set_rng_seed(0)
        found, edges = shapes_of_edges(process, x.float(), y)
        with_integers = process._alpha_of_rows(edges, 6, x, y)[..., :6]
        np.testing.assert_allclose(with_integers, found, rtol=1e-5)
        for r, (own, edge) in enumerate(zip(found, edges.numpy(), strict=True)):
            expected = shapes((v[r] if of_each else v).double().numpy(), edge, 1.0, 0.5)
            np.testing.assert_allclose(own, expected.clip(SimilarityKernel.LEAST), rtol=1e-4)


def test_a_checkpoint_of_another_kernel_is_refused(tmp_path):
    x = torch.randn(20, 2)

    def train(largest):
        process = ProbMix(density_of("ProbMix", 2), at="y", alpha=SimilarityKernel(largest))
        return fit(process, x, x[:, :1], epochs=1, checkpoint=tmp_path / "fit.safetensors")

    train(torch.tensor([0.1, 1.0]))
    with pytest.raises(ValueError, match="is of another fit, with alpha of edges"):
        train(torch.tensor([0.1, 2.0]))


def test_draws_have_the_distribution_of_their_edge():
    """Kolmogorov's distance of 4000 draws of each edge from its Beta distribution."""
    pyro.set_rng_seed(0)
    x, y = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.4], [1.0, 2.0]]), torch.tensor([[0.0], [0.3], [1.0], [3.0]])
    process = ProbMix(density_of("ProbMix"), at="y", alpha=SimilarityKernel(of="y"))
    rows = torch.tensor([0, 2, 1, 3])
    drawn = sites_of(process, x, y, rows)["lambda"]["fn"].sample((4000,)).double().numpy()
    alpha = shapes(y.double().numpy(), [(0, 1), (2, 3)], 1.0, 0.5)
    assert alpha[0] > 5 and alpha[1] < 0.2  # alike, and not
    for row in range(4):
        values = np.sort(drawn[:, row])
        gaps = np.abs(beta.cdf(values, alpha[row % 2], alpha[row % 2]) - (np.arange(4000) + 0.5) / 4000)
        distance = gaps[values < 0.5].max()  # single precision rounds many of the others to 1
        assert distance < 1.95 / 4000**0.5  # passed by one in a thousand of true ones


def test_a_function_of_ones_is_alpha_one():
    """A shape that is the same for all edges is the process with that number: the same draws, the same loss."""
    x, y = torch.randn(10, 2), torch.randn(10, 1)
    graph, rows = NearestNeighborGraph(x, k=3), torch.arange(10)
    density = density_of("M-ProbMix")
    found = []
    for alpha in (1.0, lambda x, y: torch.ones(x[0].shape[:-1])):
        for unfused in (False, True):
            process = ProbMix(density, at="z", graph=graph, alpha=alpha, add_unfused_rows=unfused)
            pyro.set_rng_seed(1)
            trace: Any = pyro.poutine.trace(process).get_trace(x, y, rows)
            found.append(float(trace.log_prob_sum().detach()))
    assert found[0] == pytest.approx(found[2], rel=1e-5) and found[1] == pytest.approx(found[3], rel=1e-5)


def test_classes_are_as_far_apart_as_their_inputs():
    x = torch.randn(6, 2), torch.randn(6, 2)
    classes = torch.tensor([0, 1, 2, 0, 1, 2])[:, None]
    torch.testing.assert_close(SimilarityKernel(of="y")(x, (classes, classes)), SimilarityKernel(of="x")(x, None))


@pytest.mark.parametrize("name", ["SK-Mixup", "SK-ProbMix", "SK-M-ProbMix"])
def test_the_named_methods_train(name):
    density = density_of(name, replicas=2)
    x = torch.linspace(-1, 1, 40)[:, None].repeat(1, 2)
    process = build_process(find_method(name), density, None, alpha=1.0, beta=0.0, labels="sample", batch_size=20)
    result = fit(process, x, x[:, :1] ** 3, epochs=30, learning_rate=0.02, compile=False)
    assert bool((result.train_loss[-1] < result.train_loss[0]).all())


def test_what_is_no_kernel_is_refused():
    wrong: Any
    for wrong in ({"largest": 0.0}, {"largest": torch.tensor([1.0, -1.0])}, {"spread": -1.0}, {"of": "z"}):
        with pytest.raises(ValueError, match="Try"):
            SimilarityKernel(**wrong)
    density = density_of("ProbMix")
    with pytest.raises(ValueError, match=r"num_fused=2.*Try"):
        ProbMix(density, at="y", alpha=SimilarityKernel(), num_fused=3)
    wrong_shape = ProbMix(density, at="y", alpha=lambda x, y: x[0])
    with pytest.raises(ValueError, match=r"one number for each edge.*Try"):
        wrong_shape(torch.randn(4, 2), torch.randn(4, 1))
    assert METHODS["ProbMix"].similarity is None
