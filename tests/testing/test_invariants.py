"""What the checks have in common: named invariants, what may be left out, and no trace of their use."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_probmix import CompleteGraph, GaussianKernel, log_linear_pool
from pyro_probmix.models import Gaussian
from pyro_probmix.testing import (
    BrokenInvariant,
    check_family,
    check_graph,
    check_kernel,
    check_likelihood,
    check_method,
    check_pool,
)

WRONG: Any = 3
Y = torch.tensor([0.5, 1.0, -2.0, 3.0])
CHECKS = {
    "family": lambda **options: check_family(dist.Normal, **options),
    "pool": lambda **options: check_pool(log_linear_pool, **options),
    "graph": lambda **options: check_graph(CompleteGraph(6), **options),
    "kernel": lambda **options: check_kernel(GaussianKernel, Y, **options),
    "likelihood": lambda **options: check_likelihood(Gaussian, **options),
    "method": lambda **options: check_method("ERM", **options),
}
every_check = pytest.mark.parametrize("kind", CHECKS)


@every_check
def test_a_check_leaves_no_trace(kind):
    torch.manual_seed(7)
    np.random.seed(7)
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].tolist()
    CHECKS[kind]()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == before[1]
    assert torch.get_default_dtype() == torch.float32
    assert not dict(pyro.get_param_store())


@every_check
@pytest.mark.parametrize("skip", [["nothing"], "shape"])
def test_a_name_of_no_invariant_is_refused(kind, skip):
    with pytest.raises(ValueError, match=rf"check_{kind} got skip=.*expected a list of names among .*Try skip=\(\)"):
        CHECKS[kind](skip=skip)


def test_what_is_left_out_is_not_looked_at():
    def unnormalised(p, q, weight):
        return log_linear_pool(p, q, weight).mask(torch.tensor([True, False]))

    with pytest.raises(BrokenInvariant) as caught:
        check_pool(unnormalised)
    seen = [caught.value.invariant]
    while True:
        try:
            check_pool(unnormalised, skip=seen)
            break
        except BrokenInvariant as broken:
            assert broken.invariant not in seen
            seen.append(broken.invariant)
    assert "normalisation" in seen and "unanimity" in seen and len(seen) < 12


def test_an_error_of_the_checked_class_is_told_and_kept_as_the_cause():
    def failing(p, q, weight):
        raise KeyError("shelf")

    with pytest.raises(
        BrokenInvariant, match=r"failing breaks the invariant 'shape' .*found KeyError: 'shelf'"
    ) as caught:
        check_pool(failing)
    assert isinstance(caught.value, AssertionError) and isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: check_graph(WRONG), TypeError, "expected a Graph.*Try"),
        (lambda: check_method(WRONG), TypeError, "expected a Method or its name"),
        (lambda: check_method("SuperMix"), ValueError, "unknown method"),
        (lambda: check_kernel(GaussianKernel, Y[:3]), ValueError, "at least four labels that differ"),
        (lambda: check_kernel(GaussianKernel, torch.zeros(5)), ValueError, "at least four labels that differ"),
        (lambda: check_kernel(lambda beta: WRONG, Y), TypeError, "makes a int, expected a Kernel"),
        (lambda: check_family(lambda loc: dist.Normal(loc, 1.0)), ValueError, "without arguments.*Try arguments="),
        (lambda: check_family(dist.Normal, [[Y], [Y]]), ValueError, "arguments of 2 members, expected three"),
    ],
)
def test_what_cannot_be_checked_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_neither_the_package_nor_its_command_imports_the_checks():
    code = "import sys, pyro_probmix, pyro_probmix.cli; assert 'pyro_probmix.testing' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys, pyro_probmix.testing; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
