"""Programs of the kinds that Pyro's users write: the fused density against the unfused model run twice, and training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.optim import ClippedAdam
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_probmix import PriorGuide, fuse
from pyro_probmix.fusing.sites import Sites
from tests.fusing.brute_force import halves, own_weight
from tests.fusing.programs import PROGRAMS, Program

WEIGHT = 0.3


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    pyro.set_rng_seed(5)
    yield
    torch.set_default_dtype(torch.float32)
    pyro.clear_param_store()


def of_partners(program: Program, trace: Any) -> Any:
    """A trace of the partners' draws: latents of rows are rolled, those of all rows are not."""
    rolled = trace.copy()
    for name, node in trace.nodes.items():
        if node["type"] != "sample" or site_is_subsample(node) or node["is_observed"]:
            continue
        value, frames = (
            node["value"],
            [frame.dim for frame in node["cond_indep_stack"] if frame.size == rows_of(program)],
        )
        if name in program.in_event:
            value = halves(value, -1)
        elif program.dim in frames and named(program, node):
            value = halves(value, program.dim - node["fn"].event_dim)
        rolled.nodes[name] = {**node, "value": value}
    return rolled


def rows_of(program: Program) -> int:
    dim = program.rows[0]
    assert dim is not None
    return int(program.args[0].shape[dim])


def named(program: Program, node: Any) -> bool:
    return program.plate is None or program.plate in [frame.name for frame in node["cond_indep_stack"]]


def element(p: Any) -> Any:
    """The distribution of one number, or of one class, without the event dimensions and masks around it."""
    while isinstance(p, torch.distributions.Independent | MaskedDistribution | ExpandedDistribution):
        p = p.base_dist
    return p


def pooled_log_prob(p: Any, q: Any, own: Tensor, value: Tensor, pool: str) -> Tensor:
    """Of two densities, the normaliser as a sum or an integral over each number of an event."""
    if pool == "linear":
        mixed: Tensor = torch.logaddexp(own.log() + p.log_prob(value), (1 - own).log() + q.log_prob(value))
        return mixed
    independent = p.event_dim
    p, q = element(p), element(q)
    independent -= p.event_dim
    own = own.reshape(own.shape + (1,) * independent)

    def score(at: Tensor) -> Tensor:
        scores: Tensor = own * p.log_prob(at) + (1 - own) * q.log_prob(at)
        return scores

    points, log_cells = support_points(p)
    batch = (1,) * len(p.batch_shape)
    points = points.reshape(-1, *batch, *p.event_shape)
    scores = score(points.expand(-1, *p.batch_shape, *p.event_shape)) + log_cells.reshape(-1, *batch)
    if isinstance(p, dist.Multinomial):  # of one total, that of the label
        scores = scores.masked_fill(points.sum(-1) != value.sum(-1), -torch.inf)
    log_prob = score(value) - scores.logsumexp(0)
    return log_prob.sum(tuple(range(-independent, 0))) if independent else log_prob


def support_points(p: Any) -> tuple[Tensor, Tensor]:
    """Points of a support, and the logs of the lengths that they stand for."""
    support = p.support
    if isinstance(support, constraints.MixtureSameFamilyConstraint):
        support = support.base_constraint
    if isinstance(p, dist.Multinomial):
        points = torch.cartesian_prod(*[torch.arange(p.total_count + 1.0)] * p.event_shape[0])
    elif support is constraints.nonnegative_integer:
        points = torch.arange(200.0)
    elif isinstance(support, constraints.integer_interval):
        points = torch.arange(float(torch.as_tensor(support.upper_bound).max()) + 1)
    elif support.is_discrete:
        points = p.enumerate_support(expand=False)
    else:
        line = torch.linspace(-30, 30, 20_001)
        log_step = (line[1] - line[0]).log()
        if support is constraints.real:
            return line, log_step.expand(len(line))
        return line.exp(), line + log_step
    return points, torch.zeros(len(points))


CASES = [(name, pool) for name, make in PROGRAMS.items() for pool in ("log-linear", "linear")]


@pytest.mark.parametrize(("name", "pool"), CASES)
def test_the_density_is_that_of_the_unfused_model_run_twice(name: str, pool: Any) -> None:
    program = PROGRAMS[name]()
    if pool not in program.pools:
        with pytest.raises(TypeError, match=r"cannot be fused.*Try"):
            fuse(program.model, at=program.at, weight=WEIGHT, plate=program.plate, pool=pool)(*program.args)
        return
    trace = poutine.trace(program.model).get_trace(*program.args)
    partner_args = [
        arg if dim is None else halves(arg, dim) for arg, dim in zip(program.args, program.rows, strict=True)
    ]
    partners = poutine.trace(poutine.replay(program.model, trace=of_partners(program, trace))).get_trace(*partner_args)
    fused_model = fuse(program.model, at=program.at, weight=WEIGHT, plate=program.plate, pool=pool)
    fused = poutine.trace(poutine.replay(fused_model, trace=trace)).get_trace(*program.args)
    own = own_weight(WEIGHT, rows_of(program), -1 - program.dim)
    sites = [node for node in fused.nodes.values() if Sites(program.at).match(node["name"])]
    assert sites
    for node in sites:
        p, q = (t.nodes[node["name"]]["fn"] for t in (trace, partners))
        found = node["fn"].log_prob(node["value"])
        expected = pooled_log_prob(p, q, own, node["value"], pool)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
        mask = node["mask"]
        if mask is not None:
            both = trace.nodes[node["name"]]["mask"] & partners.nodes[node["name"]]["mask"]
            assert torch.equal(mask, both)


@pytest.mark.parametrize("name", PROGRAMS)
def test_training_lowers_the_loss(name: str) -> None:
    program = PROGRAMS[name]()
    pool: Any = program.pools[0]
    fused = fuse(program.model, at=program.at, weight=dist.Beta(0.5, 0.5), plate=program.plate, pool=pool)
    guide = PriorGuide(fused, program.guide(program.model))
    svi = SVI(fused, guide, ClippedAdam({"lr": 0.05}), Trace_ELBO())

    def loss() -> float:
        pyro.set_rng_seed(1)
        return float(sum(svi.evaluate_loss(*program.args) for _ in range(20)))

    before = loss()
    for _ in range(40):
        assert math.isfinite(svi.step(*program.args))
    assert loss() < before


@pytest.mark.parametrize("name", ["deep_markov", "counts_in_turn", "compartments"])
def test_fused_and_unfused_models_predict_by_the_guide(name: str) -> None:
    program = PROGRAMS[name]()
    fused = fuse(program.model, at=program.at, weight=dist.Beta(0.5, 0.5))
    guide = PriorGuide(fused, program.guide(program.model))
    Trace_ELBO().loss(fused, guide, *program.args)
    for model in (program.model, fused):
        draws = Predictive(model, guide=guide, num_samples=3)(*program.args)
        assert all(len(values) == 3 and bool(torch.isfinite(values).all()) for values in draws.values())
