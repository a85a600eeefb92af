"""The check of a pool: what every pool of distributions has to satisfy."""

from __future__ import annotations

__all__ = ["POOL", "Pooled", "check_pool", "gradients", "t"]

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import MaskedDistribution, TorchDistributionMixin
from torch import Tensor

from pyro_probmix.names import name_of
from pyro_probmix.testing.devices import each_device
from pyro_probmix.testing.frequencies import follow_density
from pyro_probmix.testing.invariants import Invariants, demand, demand_close, refuse
from pyro_probmix.testing.members import Arguments, MakeMember, Members, members_of

Pool = Callable[..., Any]
_DRAWS = 20_000


@dataclass(frozen=True)
class Pooled:
    """A pool, and members to pool.

    Attributes:
        pool: from a distribution, another or several others, and a weight to a distribution.
        members: what is pooled.
    """

    pool: Pool
    members: Members

    def of(self, weight: Any) -> Any:
        """The pool of the first two members."""
        return self.pool(self.members.member(0)[0], self.members.member(1)[0], weight)

    def close(self, actual: Tensor, expected: Tensor, what: str, of: str, factor: float = 1.0) -> None:
        """Demands that log densities agree."""
        demand_close(actual, expected, what, of, rtol=1e-9, atol=factor * self.members.tolerance)


POOL: Invariants[Pooled] = Invariants("pool")


def check_pool(
    pool: Pool,
    family: MakeMember = dist.Normal,
    arguments: Arguments | None = None,
    *,
    grid: tuple[Tensor, Tensor] | None = None,
    tolerance: float = 1e-6,
    skip: Collection[str] = (),
) -> None:
    """Checks a pool, a function ``pool(p, q, weight)`` of distributions, on members of one family.

    It looks at: ``"shape"``, ``"normalisation"``, ``"unanimity"``, ``"symmetry"``, ``"ends"`` (weights of 0 and 1),
    ``"several members"``, ``"gradient"``, ``"draws"``, ``"expansion"``, ``"masks"``, ``"dtype"`` and ``"device"``.

    Args:
        pool: takes a distribution, another or a sequence of others, and a weight: a number, ``[2]``, or for k members
            ``[2, k]``; returns a Pyro distribution.
        family: makes a member from tensors: a class of distributions, or a function.
        arguments: the tensors of three members, each of batch shape (2,); None draws some by the ``arg_constraints`` of the
            class.
        grid: points of the support, ``[N, *event_shape]``, and logarithms of weights, ``[N]``, over which a density sums to
            one. None makes one for univariate and finite supports; for others integrals are estimated from draws.
        tolerance: the largest error of a log density that counts as rounding, in float64.
        skip: names of invariants that are left out.

    Raises:
        BrokenInvariant: an ``AssertionError`` that names the invariant, what was found and what was expected.
        TypeError: if the first argument is no function.
        ValueError: if the members cannot be made from what is given.

    Example:
        >>> import pyro.distributions as dist
        >>> from pyro_probmix import log_linear_pool
        >>> from pyro_probmix.testing import check_pool
        >>> check_pool(log_linear_pool, dist.Gamma)
        >>> check_pool(lambda p, q, weight: p)
        Traceback (most recent call last):
        ...
        pyro_probmix.testing.invariants.BrokenInvariant: ...
    """
    if not callable(pool):
        raise TypeError(
            f"check_pool got {pool!r}, expected a function pool(p, q, weight). Try check_pool(linear_pool, MyDistribution)."
        )
    POOL.hold(name_of(pool), Pooled(pool, members_of(family, arguments, grid, tolerance)), skip)


def t(*values: float) -> Tensor:
    """A vector in float64."""
    return torch.tensor(values, dtype=torch.float64)


@POOL.add("shape", "the pool is a Pyro distribution of the batch shape and event shape of the members")
def _shape(s: Pooled) -> None:
    p, _ = s.members.member(0)
    for weight, batch in ((0.3, (2,)), (t(0.3, 0.85), (2,)), (t(0.3, 0.85).unsqueeze(-1), (2, 2))):
        pooled = s.of(weight)
        demand(
            isinstance(pooled, TorchDistributionMixin),
            f"{type(pooled).__module__}.{type(pooled).__name__}",
            "a distribution of pyro.distributions",
        )
        found = tuple(pooled.batch_shape), tuple(pooled.event_shape)
        wanted = batch, tuple(p.event_shape)
        demand(found == wanted, f"batch and event shapes {found[0]} and {found[1]}", f"{wanted[0]} and {wanted[1]}")
        value = s.members.values()
        score = pooled.log_prob(value if len(batch) == 1 else value.unsqueeze(1))
        wanted_score = (len(value), *batch)
        demand(
            tuple(score.shape) == wanted_score, f"log densities of shape {tuple(score.shape)}", f"shape {wanted_score}"
        )


@POOL.add("normalisation", "densities, of the members and of their pool, integrate or sum to one")
def normalisation(s: Pooled) -> None:
    for name, p in (("the member's density", s.members.member(0)[0]), ("the pool's density", s.of(t(0.3, 0.85)))):
        grid = s.members.grid
        if grid is not None:
            mass = grid.log_total(p.log_prob(grid.points)).exp()
            allowed = torch.full_like(mass, 10 * s.members.tolerance)
        else:
            # Under the equal mixture of two members, which no pool of theirs exceeds by more than a factor.
            (first, _), (second, _) = s.members.member(0), s.members.member(1)
            draws = torch.cat([first.sample((_DRAWS,)), second.sample((_DRAWS,))])
            mixture = torch.logaddexp(s.members.score(first, draws), s.members.score(second, draws)) - t(2.0).log()
            ratio = (s.members.score(p, draws) - mixture).exp()
            mass, allowed = ratio.mean(0), 6 * ratio.std(0) / (2 * _DRAWS) ** 0.5 + 1e-6
        wrong = (~((mass - 1).abs() <= allowed)).nonzero()
        if len(wrong):
            row = int(wrong[0])
            refuse(f"a total of {mass[row]:.6g} for {name} in row {row}", "1")


@POOL.add("unanimity", "the pool of a distribution with itself is that distribution")
def _unanimity(s: Pooled) -> None:
    p, value = s.members.member(0)[0], s.members.values()
    for weight in (0.3, t(0.2, 0.9)):
        s.close(s.pool(p, p, weight).log_prob(value), s.members.score(p, value), "a log density", "that of the member")


@POOL.add("symmetry", "exchanging the members together with their weights changes nothing")
def _symmetry(s: Pooled) -> None:
    (p, _), (q, _), weight = s.members.member(0), s.members.member(1), t(0.2, 0.9)
    value = s.members.values()
    one, other = s.pool(p, q, weight).log_prob(value), s.pool(q, p, 1 - weight).log_prob(value)
    s.close(one, other, "a log density", "that of the exchanged members")


@POOL.add("ends", "at weights of 0 and 1 the pool is the member of weight 1, in value and in gradient, without NaN")
def _ends(s: Pooled) -> None:
    (p, p_leaves), (q, q_leaves) = (s.members.member(k, requires_grad=True) for k in (0, 1))
    value, leaves, weight = s.members.values(), [*p_leaves, *q_leaves], t(1.0, 0.0).requires_grad_()
    pooled = s.pool(p, q, weight).log_prob(value)
    expected = torch.where(torch.tensor([True, False]), s.members.score(p, value), s.members.score(q, value))
    s.close(pooled, expected, "a log density", "that of the member of weight 1")
    possible = expected.isfinite()
    chosen = torch.randn(expected.shape, dtype=torch.float64)[possible]
    ours, wanted = (gradients((chosen * f[possible]).sum(), leaves) for f in (pooled, expected))
    for a, b in zip(ours, wanted, strict=True):
        demand_close(a, b, "a gradient", "that of the member of weight 1", 1e-7, 100 * s.members.tolerance)
    both = (s.members.score(p, value) + s.members.score(q, value)).isfinite()
    slope = gradients(pooled[both].sum(), [weight])[0]
    demand(slope.isfinite().all(), f"a gradient of {slope.tolist()} in the weights 1 and 0", "finite numbers")


@POOL.add(
    "several members", "the pool takes a list of others with weights on the simplex; a member of weight 0 has no part"
)
def _several(s: Pooled) -> None:
    (p, _), (q, _), (r, _) = (s.members.member(k) for k in range(3))
    value = s.members.values()
    weights = torch.stack([t(0.3, 0.8), t(0.7, 0.2), t(0.0, 0.0)], -1)
    pooled, two = s.pool(p, [q, r], weights).log_prob(value), s.pool(p, q, t(0.3, 0.8)).log_prob(value)
    s.close(pooled, two, "a log density", "that of the pool of the two of positive weight")
    same = s.pool(p, [p, p], t(0.2, 0.5, 0.3)).log_prob(value)
    s.close(same, s.members.score(p, value), "a log density of the pool of three equal members", "that of the member")
    weights = torch.stack([t(0.3, 0.1), t(0.5, 0.2), t(0.2, 0.7)], -1)
    turned = s.pool(r, [q, p], weights.flip(-1)).log_prob(value)
    s.close(
        s.pool(p, [q, r], weights).log_prob(value), turned, "a log density", "that of the same three in another order"
    )


@POOL.add(
    "gradient", "the gradient of the log density, in each parameter and in the weight, is the slope of its values"
)
def _gradient(s: Pooled) -> None:
    value = s.members.values()
    tensors = [t(0.3, 0.75), *s.members.arguments[0], *s.members.arguments[1]]
    split = 1 + len(s.members.arguments[0])

    def total(given: list[Tensor]) -> Tensor:
        p, q = s.members.build(given[1:split]), s.members.build(given[split:])
        score: Tensor = s.pool(p, q, given[0]).log_prob(value)
        return score.masked_fill(score == -torch.inf, 0.0).sum()

    for k, tensor in enumerate(tensors):
        if not tensor.is_floating_point():
            continue
        leaf = tensor.clone().requires_grad_()
        score = total([*tensors[:k], leaf, *tensors[k + 1 :]])
        direction = torch.randn_like(tensor)
        slope = (gradients(score, [leaf])[0] * direction).sum()
        # The values' slope, by the step that fits the scale of the parameters best.
        differences = []
        for step in (1e-4, 1e-6, 1e-8):
            with suppress(ValueError):  # a step out of the parameters' range
                high, low = (total([*tensors[:k], tensor + e * direction, *tensors[k + 1 :]]) for e in (step, -step))
                differences.append((high - low) / (2 * step))
        difference = min(differences, key=lambda d: float((d - slope).abs()))
        scale = 1e-3 * (1 + float(difference.abs()))
        what = "the weight" if k == 0 else f"argument {(k - 1) % (split - 1)} of a member"
        demand_close(slope, difference, f"a derivative in {what}", "the slope of the values", 0.0, scale)


@POOL.add("draws", "draws have the right shape, lie in the support and follow the density")
def _draws(s: Pooled) -> None:
    pooled = s.of(t(0.4, 0.7))
    try:
        few = pooled.sample((3, 2))
    except NotImplementedError:
        return  # a density that is only ever observed
    demand(
        few.shape == (3, 2, *pooled.batch_shape, *pooled.event_shape),
        f"draws of shape {tuple(few.shape)} from sample((3, 2))",
        f"{(3, 2, *pooled.batch_shape, *pooled.event_shape)}",
    )
    demand(pooled.support.check(few).all(), "a draw outside of the support", "draws inside")
    demand(not few.requires_grad, "draws of sample() that carry a gradient", "none")
    if s.members.grid is not None:
        follow_density(pooled, s.members.grid)


@POOL.add("expansion", "expand gives the same density over a larger batch")
def _expansion(s: Pooled) -> None:
    for pooled in (s.members.member(0)[0], s.of(t(0.4, 0.7))):
        large, value = pooled.expand((3, 2)), s.members.values()
        demand(
            tuple(large.batch_shape) == (3, 2) and large.event_shape == pooled.event_shape,
            f"batch shape {tuple(large.batch_shape)} after expand((3, 2))",
            "(3, 2)",
        )
        wide = large.log_prob(value.unsqueeze(1))
        s.close(wide, pooled.log_prob(value).unsqueeze(1).expand_as(wide), "a log density", "that before")


@POOL.add("masks", "the pool of masked members is masked where a member of positive weight is")
def _masks(s: Pooled) -> None:
    value, weight = s.members.values(), t(0.4, 0.7)
    masks = torch.tensor([True, False]), torch.tensor([True, True])
    p, q = (MaskedDistribution(s.members.member(k)[0], mask) for k, mask in enumerate(masks))
    pooled = s.pool(p, q, weight)
    demand(isinstance(pooled, MaskedDistribution), f"a {type(pooled).__name__}", "a masked distribution")
    whole = s.of(weight).log_prob(value)
    s.close(pooled.log_prob(value), torch.where(masks[0], whole, 0.0), "a log density", "0 in the masked row alone")


@POOL.add("dtype", "float32 parameters give float32 log densities and draws, the same up to rounding")
def _dtype(s: Pooled) -> None:
    like = torch.zeros((), dtype=torch.float32)
    p, q = (s.members.member(k, like=like)[0] for k in (0, 1))
    value, weight = s.members.values(), torch.tensor([0.4, 0.7])
    narrow = value.float() if value.is_floating_point() else value
    score, wide = s.pool(p, q, weight).log_prob(narrow), s.of(weight.double()).log_prob(narrow.to(value.dtype))
    demand(score.dtype == torch.float32, f"log densities of {score.dtype}", "torch.float32")
    demand_close(score.double(), wide, "a log density in float32", "that in float64", 1e-3, 1e-3)


@POOL.add("device", "all tensors are made on the parameters' device, and no value is read back from it")
def _device(s: Pooled) -> None:
    for device in each_device():
        with device as like, pyro.validation_enabled(False):
            p, q = (s.members.member(k, like=like)[0] for k in (0, 1))
            score = s.pool(p, q, t(0.4, 0.7).to(like)).log_prob(s.members.values().to(like.device))
            demand(score.device.type == like.device.type, f"log densities on {score.device}", f"{like.device}")


def gradients(score: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """The gradient in each of the leaves, zeros in one that has no part."""
    if not score.requires_grad:
        return [torch.zeros_like(x) for x in leaves]
    found = torch.autograd.grad(score, leaves, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]
