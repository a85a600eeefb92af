"""Distributions of one family, made from tensors: what the checks of families and pools look at."""

from __future__ import annotations

__all__ = ["Arguments", "MakeMember", "Members", "members_of"]

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints, transform_to

from pyro_probmix.names import name_of
from pyro_probmix.pooling.rows.declared import declared_support, supported_log_prob
from pyro_probmix.random_state import own_random_state
from pyro_probmix.testing.grids import Grid, as_grid, grid_over

#: Makes a distribution from tensors: its class, or a function.
MakeMember = Callable[..., Any]
#: For each of three members its tensors, of batch shape (2,).
Arguments = Sequence[Sequence[Tensor]]

#: Of the parameters that name the same thing, the first that a constructor has is given.
_ALTERNATIVES = (("logits", "probs"), ("scale_tril", "covariance_matrix", "precision_matrix"))


@dataclass(frozen=True)
class Members:
    """Three distributions of one family, each a batch of two.

    Attributes:
        make: makes a member from tensors.
        names: of the tensors, empty where they are given by their order.
        arguments: the tensors of each member.
        grid: points over which a member's density sums to one, None where there are none.
        tolerance: largest error of a log density that counts as rounding.
    """

    make: MakeMember
    names: tuple[str, ...]
    arguments: tuple[tuple[Tensor, ...], ...]
    grid: Grid | None
    tolerance: float

    def member(self, k: int, requires_grad: bool = False, like: Tensor | None = None) -> tuple[Any, list[Tensor]]:
        """Member ``k`` and copies of its tensors, of the dtype and on the device of ``like``."""
        leaves = [x.clone() if like is None else x.to(like) for x in self.arguments[k]]
        leaves = [x.requires_grad_(requires_grad and x.is_floating_point()) for x in leaves]
        return self.build(leaves), [x for x in leaves if x.is_floating_point()]

    def build(self, tensors: Sequence[Tensor]) -> Any:
        """The distribution of these tensors."""
        if self.names:
            return self.make(**dict(zip(self.names, tensors, strict=True)))
        return self.make(*tensors)

    def score(self, p: Any, value: Tensor) -> Tensor:
        """The log density of a member, minus infinity outside of a support of its own."""
        return supported_log_prob(p, value)

    def values(self) -> Tensor:
        """Points ``[n, 1 or 2, *event_shape]`` that carry mass under the members."""
        if self.grid is None:
            return self._drawn_values()
        scores = torch.stack([self.score(self.member(k)[0], self.grid.points).amin(-1) for k in range(3)]).sum(0)
        best = (scores + 3 * self.grid.log_weights[:, 0]).topk(min(60, len(scores))).indices.sort().values
        return self.grid.points[best[:: max(1, len(best) // 7)]]

    def _drawn_values(self) -> Tensor:
        members = [self.member(k)[0] for k in range(3)]
        with own_random_state(torch.device("cpu"), seed=1), torch.no_grad():
            draws = torch.stack([p.sample((200,)) for p in members], 1).flatten(0, 1)
        # Supports may depend on parameters: of each row nine draws that every member may have.
        inside = torch.stack([p.support.check(draws) for p in members]).all(0)
        if int(inside.sum(0).min()) < 9:
            raise ValueError("A check found no common support of its members. Try arguments whose supports overlap.")
        chosen = inside.double().sort(dim=0, descending=True, stable=True).indices[:9]  # [9, 2]
        return draws[chosen, torch.arange(2)]


def members_of(
    make: MakeMember,
    arguments: Arguments | None,
    grid: tuple[Tensor, Tensor] | None,
    tolerance: float,
) -> Members:
    """Three members, from their arguments, or from those that the class says that it takes.

    Raises:
        ValueError: if there are not three lists of arguments, or none are given and the class does not say what it takes; if
            it declares no support.
    """
    name = name_of(make)
    names: tuple[str, ...] = ()
    if arguments is None:
        names, arguments = _drawn(make)
        make = _class_of(make)
    elif len(arguments) != 3:
        raise ValueError(
            f"A check got the arguments of {len(arguments)} members, expected three. Try a list of three tuples of tensors."
        )
    given = tuple(tuple(x.double() if x.is_floating_point() else x for x in each) for each in arguments)
    members = Members(make, names, given, None if grid is None else as_grid(*grid), tolerance)
    if grid is not None:
        return members
    made = [members.member(k)[0] for k in range(3)]
    if declared_support(made[0]) is None:
        raise ValueError(
            f"A check got {name}, which declares no support, expected one. Try support = constraints.real in the class."
        )
    try:
        with own_random_state(torch.device("cpu"), seed=1):
            draws = torch.cat([p.sample((200,)) for p in made], 1)
    except NotImplementedError:
        draws = None
    found = grid_over(made[0], draws)
    if found is None and draws is not None:
        members.values()  # refused here where supports do not overlap
    if found is None and draws is None:
        raise ValueError(
            f"A check of {name} found neither draws nor points of its support. Try a method sample, or grid=(points, "
            "log_weights), over which a density sums to one."
        )
    return replace(members, grid=found)


def _drawn(make: Any) -> tuple[tuple[str, ...], Arguments]:
    """Names and values of the constructor's arguments, from the constraints that the class puts on them."""
    known = getattr(make, "arg_constraints", None)
    if not isinstance(make, type) or not isinstance(known, dict):
        raise ValueError(
            f"A check got {name_of(make)} without arguments, expected a class whose arg_constraints is a dict. "
            "Try arguments=[...], the tensors of three members, each of batch shape (2,)."
        )
    parameters = inspect.signature(make).parameters
    names = [
        name for name, p in parameters.items() if name in known and p.default is p.empty and not _counts(known[name])
    ]
    for group in _ALTERNATIVES:
        there = [name for name in group if name in parameters and name in known]
        names += there[: not set(there) & set(names)]
    generator = torch.Generator().manual_seed(1)
    arguments = []
    for _ in range(3):
        arguments.append([_value(make, name, known[name], generator) for name in names])
    return tuple(names), arguments


def _class_of(make: Any) -> MakeMember:
    """The class, its counts a number that all members share, its factors of a covariance lower triangular.

    No gradient reaches the other entries of such a factor.
    """
    known, parameters = make.arg_constraints, inspect.signature(make).parameters
    factors = [name for name, c in known.items() if c is constraints.lower_cholesky]
    counts = {
        name: 5 for name, p in parameters.items() if name in known and p.default is p.empty and _counts(known[name])
    }

    def made(**tensors: Tensor) -> Any:
        return make(**{name: x.tril() if name in factors else x for name, x in tensors.items()}, **counts)

    return made


def _counts(constraint: Any) -> bool:
    return not constraints.is_dependent(constraint) and constraint.is_discrete


def _value(make: Any, name: str, constraint: Any, generator: torch.Generator) -> Tensor:
    try:
        raw = 0.6 * torch.randn((2, *(3,) * constraint.event_dim), generator=generator, dtype=torch.float64)
        if constraint in (constraints.positive, constraints.nonnegative):
            return raw.exp() * math.sqrt(2)
        value: Tensor = transform_to(constraint)(raw)
    except NotImplementedError:
        raise ValueError(
            f"A check has no value for the argument {name!r} of {name_of(make)}, whose constraint is {constraint}. "
            "Try arguments=[...], the tensors of three members, each of batch shape (2,)."
        ) from None
    return value
