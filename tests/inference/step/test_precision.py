"""Matrix products in bfloat16: rounded factors and products, all else in float32, gradients close, fits as good."""

import pytest
import torch
from torch.nn import functional

from pyro_probmix import ExpectedLogLikelihood, fit
from pyro_probmix.inference.step.objective import Objective, eager_gradient
from pyro_probmix.inference.step.precision import bfloat16_products
from pyro_probmix.inference.step.replicas import Replicas
from tests.inference.test_training import N, R, data, process, weights


def factors(*shape):
    return torch.randn(*shape) + 1.0


def rounded(value):
    return value.bfloat16().float()


A, B, C, V = factors(5, 4), factors(4, 3), factors(5, 3), factors(4)
X, W = factors(2, 3, 9), factors(4, 3, 3)
PRODUCTS = {
    "mm": (lambda: torch.mm(A, B), lambda a, b: a @ b, (A, B)),
    "operator": (lambda: A @ B, lambda a, b: a @ b, (A, B)),
    "method": (lambda: A.matmul(B), lambda a, b: a @ b, (A, B)),
    "mv": (lambda: A.mv(V), lambda a, b: a @ b, (A, V)),
    "bmm": (lambda: torch.bmm(A[None], B[None]), lambda a, b: a @ b, (A[None], B[None])),
    "linear": (lambda: functional.linear(A, B.T), lambda a, b: a @ b, (A, B)),
    "einsum": (lambda: torch.einsum("ij,jk->ik", A, B), lambda a, b: a @ b, (A, B)),
    "conv1d": (lambda: functional.conv1d(X, W, None, 1, 1), lambda a, b: functional.conv1d(a, b, None, 1, 1), (X, W)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_factors_and_product_are_rounded(name):
    product, exactly, own = PRODUCTS[name]
    with bfloat16_products():
        result = product()
    expected = exactly(*(rounded(f).double() for f in own))
    assert result.dtype == torch.float32 and torch.equal(result, rounded(result))
    # One rounding of the product, to 8 bits.
    assert ((result - expected).abs() <= 2**-8 * expected.abs() + 1e-6).all()
    assert not torch.equal(result, product())


def test_what_is_added_is_not_rounded():
    bias = torch.full((3,), 1.001)
    zero = torch.zeros(4, 3)
    with bfloat16_products():
        for result in (
            functional.linear(A, zero.T, bias),
            torch.addmm(bias, A, zero),
            torch.baddbmm(bias, A[None], zero[None])[0],
            functional.conv1d(X, torch.zeros(3, 3, 1), bias)[0].T,
        ):
            assert (result == bias).all()
        half = torch.addmm(C, A, B, beta=0.5, alpha=2.0)
    assert torch.equal(half, 0.5 * C + 2.0 * rounded(rounded(A).mm(rounded(B))))


def test_other_operations_and_types_stay():
    double = A.double()
    with bfloat16_products():
        assert torch.equal(double @ B.double(), double @ B.double())
        assert torch.equal(A * 1.001, A.mul(1.001)) and (A.exp().dtype, (A @ B).dtype) == (torch.float32,) * 2
        product = double @ B.double()
    assert torch.equal(product, double @ B.double())
    with bfloat16_products(False):
        assert torch.equal(A @ B, torch.mm(A, B))
    assert torch.equal(A @ B, torch.mm(A, B)) and not torch.equal(A @ B, rounded(A @ B))


@pytest.mark.parametrize("name", ["ERM", "ProbMix", "M-ProbMix", "M-ProbMix*"])
def test_gradients_are_close(name):
    x, y = data()
    found = []
    for bf16 in (False, True):
        torch.manual_seed(1)
        model = process(name)
        replicas = Replicas(model, R)
        gradient = eager_gradient(Objective(model, ExpectedLogLikelihood(), replicas, N, None, bf16), x, y)
        losses = gradient(torch.rand(R, N).argsort(-1)[:, :8])
        found.append((losses, torch.cat([p.grad.flatten() for p in replicas.parameters if p.grad is not None])))
    (exact, true), (losses, own) = found
    torch.testing.assert_close(losses, exact, rtol=0.02, atol=0.02)
    assert own.dtype == torch.float32 and not torch.equal(own, true)
    assert (own - true).norm() < 0.1 * true.norm()  # a unit near its kink may fall on the other side


def test_a_fit_in_bfloat16_learns_as_much():
    x, y = data()
    results = []
    for bf16 in (False, True):
        torch.manual_seed(0)
        model = process("ERM")
        results.append(fit(model, x, y, epochs=40, validation=(x, y), learning_rate=0.01, bf16=bf16))
        assert all(p.dtype == torch.float32 for p in weights(model).values())
    exact, own = results
    torch.testing.assert_close(own.train_loss[:5], exact.train_loss[:5], rtol=0.02, atol=0.02)
    assert not torch.equal(own.train_loss, exact.train_loss)
    gained = exact.validation_nll[0] - exact.best_nll
    assert gained.max() > 0.5 and ((own.best_nll - exact.best_nll).abs() < 0.1 * gained + 0.02).all()


@pytest.mark.slow
def test_compiled_it_is_the_eager_one():
    x, y = data()
    curves = []
    for compile in (False, True):
        torch.manual_seed(0)
        curves.append(
            fit(process("M-ProbMix"), x, y, epochs=5, learning_rate=0.01, bf16=True, compile=compile).train_loss
        )
    torch.testing.assert_close(*curves, rtol=1e-2, atol=1e-2)  # a last bit of bfloat16 may fall the other way
