"""The check of a family of distributions that is registered for log-linear pools."""

from __future__ import annotations

__all__ = ["check_family"]

from collections.abc import Collection, Sequence
from typing import Any, Literal

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_probmix.names import name_of
from pyro_probmix.pooling import linear_pool, log_linear_pool, pool_rows
from pyro_probmix.pooling.families import Family, find_family
from pyro_probmix.testing.devices import each_device
from pyro_probmix.testing.invariants import Invariants, demand, demand_close, refuse
from pyro_probmix.testing.members import Arguments, MakeMember, Members, members_of
from pyro_probmix.testing.pools import POOL, Pooled, gradients, t

PoolName = Literal["linear", "log-linear"]
FAMILY: Invariants[Pooled] = Invariants("family")


def check_family(
    family: MakeMember,
    arguments: Arguments | None = None,
    *,
    grid: tuple[Tensor, Tensor] | None = None,
    tolerance: float = 1e-6,
    skip: Collection[str] = (),
) -> None:
    r"""Checks a family that was registered by :func:`~pyro_probmix.register_family`.

    Beside the invariants of :func:`check_pool`, for its log-linear pools, it looks at: ``"log density"``
    (a number for each row at each value), ``"maps"`` (they are there and return what
    they should), ``"round trip"`` (from natural parameters back to the distribution), ``"product of powers"``
    (the pool is :math:`p^\lambda q^{1 - \lambda}` up to a constant, in value and gradient, which holds only if the tensors
    are affine in the natural parameters), ``"rows"`` (rows of a batch are pooled with
    one another).

    Args:
        family: makes a member from tensors: the registered class, or a function.
        arguments, grid, tolerance, skip: see :func:`check_pool`.

    Raises:
        BrokenInvariant: an ``AssertionError`` that names the invariant, what was found and what was expected.
        ValueError: if the members cannot be made from what is given.

    References:
        El-Laham et al., 2025, Theorem C.1.

    Example:
        >>> import pyro.distributions as dist
        >>> from pyro_probmix.testing import check_family
        >>> check_family(dist.Gamma)
    """
    members = members_of(family, arguments, grid, tolerance)
    FAMILY.hold(name_of(family), Pooled(log_linear_pool, members), skip)


def _family_of(p: Any) -> Family:
    found = find_family(p)
    if found is None:
        refuse(f"no maps for {type(p).__name__}", "some from register_family")
    return found


@FAMILY.add("log density", "log_prob gives a number for each row of a batch at each value")
def _log_density(s: Pooled) -> None:
    p, grid = s.members.member(0)[0], s.members.grid
    value = s.members.values() if grid is None else grid.points[len(grid.points) // 2 :][:3]
    found, wanted = tuple(s.members.score(p, value).shape), (len(value), 2)
    demand(found == wanted, f"log densities of shape {found} at {len(value)} values", f"{wanted}")


@FAMILY.add("maps", "to_natural gives a tuple of tensors over the batch, from_natural a distribution of that batch")
def _maps(s: Pooled) -> None:
    p, _ = s.members.member(0)
    family = _family_of(p)
    naturals = family.naturals(p)
    demand(all(eta.is_floating_point() for eta in naturals), "natural parameters that are integers", "real ones")
    made = family.member(p, naturals)
    demand(isinstance(made, TorchDistributionMixin), f"a {type(made).__name__} of torch", "one of pyro.distributions")
    found, wanted = (made.batch_shape, made.event_shape), (p.batch_shape, p.event_shape)
    demand(found == wanted, f"shapes {[list(x) for x in found]}", f"{[list(x) for x in wanted]}")
    own = find_family(made)
    again = naturals if own is None else own.naturals(made)
    demand(
        {eta.dtype for eta in again} == {eta.dtype for eta in naturals},
        f"a distribution with natural parameters of {again[0].dtype}",
        f"{naturals[0].dtype}, as given to from_natural",
    )


@FAMILY.add("round trip", "from_natural takes the natural parameters of a distribution back to that distribution")
def _round_trip(s: Pooled) -> None:
    for k in range(3):
        p, value = s.members.member(k)[0], s.members.values()
        family = _family_of(p)
        again = family.member(p, family.naturals(p)).log_prob(value)
        s.close(again, s.members.score(p, value), "a log density", "that of the distribution")


FAMILY.all |= {name: POOL.all[name] for name in ("shape", "normalisation")}


@FAMILY.add(
    "product of powers", "the pool is p to the power of its weight, times q to that of the other, over a constant"
)
def _product_of_powers(s: Pooled) -> None:
    (p, p_leaves), (q, q_leaves) = (s.members.member(k, requires_grad=True) for k in (0, 1))
    weight, value = t(0.3, 0.85).requires_grad_(), s.members.values()
    pooled, expected = (
        log_linear_pool(p, q, weight).log_prob(value),
        log_powers(s.members, (weight, 1 - weight), (p, q)),
    )
    if s.members.grid is None:  # up to the constant, which "normalisation" settles
        pooled, expected = pooled - pooled[:1], expected - expected[:1]
    s.close(pooled, expected, "a log density", "that of the product of powers")
    possible = expected.isfinite()
    chosen = torch.randn(expected.shape, dtype=torch.float64)[possible]
    leaves = [weight, *p_leaves, *q_leaves]
    ours, wanted = (gradients((chosen * f[possible]).sum(), leaves) for f in (pooled, expected))
    for a, b in zip(ours, wanted, strict=True):
        demand_close(a, b, "a gradient", "that of the product of powers", 1e-7, 100 * s.members.tolerance)


def log_powers(members: Members, weights: Sequence[Tensor], pooled: Sequence[Any]) -> Tensor:
    """The log of a product of powers of densities at the values, normalised over the grid if there is one."""

    def at(value: Tensor) -> Tensor:
        scores = [members.score(p, value) for p in pooled]
        impossible = torch.stack([score == -torch.inf for score in scores]).any(0)
        finite = [w * score.masked_fill(impossible, 0.0) for w, score in zip(weights, scores, strict=True)]
        return torch.stack(finite).sum(0).masked_fill(impossible, -torch.inf)

    values = at(members.values())
    return values if members.grid is None else values - members.grid.log_total(at(members.grid.points))


FAMILY.all |= POOL.all  # the two that are there already keep their place


@FAMILY.add("rows", "the rows of a batch are pooled with others as they would be with a batch made of those")
def _rows(s: Pooled) -> None:
    m = s.members
    p, value, weight = m.member(0)[0], m.values(), t(0.3, 0.8)
    others = m.build([x.roll(1, 0) for x in m.arguments[0]])
    pools: dict[PoolName, Any] = {"linear": linear_pool, "log-linear": log_linear_pool}
    for pool, pooled in pools.items():
        rows = pool_rows(p, weight, shift=1, pool=pool).log_prob(value)
        of = f"that of the {pool} pool with the other rows"
        s.close(rows, pooled(p, others, weight).log_prob(value), "a log density", of)


@FAMILY.add("device", POOL.all["device"][0])
def _device(s: Pooled) -> None:
    for device in each_device():
        with device as like, pyro.validation_enabled(False):
            p, _ = s.members.member(0, like=like)
            score = pool_rows(p, t(0.4, 0.7).to(like), shift=1).log_prob(s.members.values().to(like.device))
            demand(score.device.type == like.device.type, f"log densities on {score.device}", f"{like.device}")
