"""The batch of any distribution: roll it along one dimension, expand it, join several, or take a part."""

from __future__ import annotations

__all__ = ["expand_batch", "floating_tensor", "join_batches", "roll_batch", "rolled_transforms", "take_batch"]

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributions as td
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import Tensor
from torch.distributions.transforms import Transform

from pyro_probmix.pooling.rolls import roll_tensor, roll_transforms, varies

# Constructor arguments of which exactly one may be given. The first is preferred where a distribution holds several.
_ALTERNATIVES = (
    ("logits", "probs"),
    ("gate_logits", "gate"),
    ("scale_tril", "covariance_matrix", "precision_matrix"),
)
_MISSING = object()


@functools.singledispatch
def roll_batch(p: td.Distribution, shift: int, dim: int = -1) -> td.Distribution:
    """Return ``p`` with its batch rolled: row *b* becomes row *b* - ``shift``, as by ``torch.roll``.

    Works for any distribution that can be rebuilt from its constructor's arguments, and through wrappers, mixtures and
    pools, and transforms that are affine or shared by all rows. A transform is taken for shared if it maps B + 1 rows as
    well as B, since what it holds for each row does not fit those. Another type joins by ``@roll_batch.register``, a
    function of the same arguments.

    Args:
        p: a distribution with batch shape ``[..., B, ...]``.
        shift: number of rows to roll by.
        dim: the batch dimension, negative and counted from the right of the batch shape. Where ``p`` has no such
            dimension, or one of size 1, its rows are all alike and nothing changes.

    Raises:
        TypeError: if the distribution cannot be rebuilt, or a transform differs from row to row. The error names its
            type.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> from pyro_probmix.pooling.families import roll_batch
        >>> p = dist.Normal(torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]), 1.0).to_event(1)
        >>> roll_batch(p, 1).mean
        tensor([[4., 5.],
                [0., 1.],
                [2., 3.]])
    """
    if not varies(p.batch_shape, dim):
        return p
    arguments = _constructor_arguments(p)
    for name, value in arguments.items():
        if isinstance(value, td.Distribution):
            arguments[name] = roll_batch(value, shift, dim)
        elif isinstance(value, Tensor):
            arguments[name] = roll_tensor(value, shift, dim, _event_dim(p, name, value))
    rolled: td.Distribution = type(p)(**arguments)
    if rolled.batch_shape != p.batch_shape or rolled.event_shape != p.event_shape:
        raise _cannot_roll(p, "rebuilding it from its arguments changes its shape")
    return rolled


def expand_batch(p: td.Distribution, batch_shape: Sequence[int]) -> td.Distribution:
    """Expand any distribution; unlike ``ExpandedDistribution.expand``, never in place."""
    batch_shape = torch.Size(batch_shape)
    if p.batch_shape == batch_shape:
        return p
    if isinstance(p, ExpandedDistribution):
        return ExpandedDistribution(p.base_dist, batch_shape)
    try:
        expanded: td.Distribution = p.expand(batch_shape)
        return expanded
    except NotImplementedError:
        return ExpandedDistribution(p, batch_shape)


def join_batches(parts: Sequence[td.Distribution], dim: int = -1) -> td.Distribution:
    """Return the distribution whose batch holds that of several of one class, one after the other.

    Args:
        parts: distributions that differ in batch dimension ``dim`` alone, which each has.
        dim: negative, counted from the right of the batch shape.

    Raises:
        TypeError: if they cannot be rebuilt from their constructor's arguments.
    """

    def join(tensors: list[Tensor], event_dim: int) -> Tensor:
        # A parameter may be shared by rows, or by dims to the left.
        full = [
            t.expand(torch.broadcast_shapes(t.shape, (*p.batch_shape[dim:], *t.shape[t.dim() - event_dim :])))
            for t, p in zip(tensors, bases, strict=True)
        ]
        return torch.cat(full, dim - event_dim)

    if len(parts) == 1:
        return parts[0]
    if all(isinstance(p, td.Independent) for p in parts):
        wrapped: list[Any] = list(parts)
        n = wrapped[0].reinterpreted_batch_ndims
        joined: td.Distribution = dist.Independent(join_batches([p.base_dist for p in wrapped], dim - n), n)
        return joined
    bases = list(parts)
    return _rebuilt(bases, join)


def take_batch(p: td.Distribution, index: int, dim: int = -1) -> td.Distribution:
    """Return the distribution of one place along a batch dimension, which is dropped.

    Args:
        p: a distribution that can be rebuilt from its constructor's arguments.
        index: the place.
        dim: negative, counted from the right of the batch shape.

    Raises:
        TypeError: if it cannot be.
    """

    def take(tensors: list[Tensor], event_dim: int) -> Tensor:
        (t,) = tensors
        if not -dim <= t.dim() - event_dim:
            return t
        return t.select(dim - event_dim, index if t.shape[dim - event_dim] > 1 else 0)

    return _rebuilt([p], take)


def floating_tensor(p: td.Distribution) -> Tensor:
    """Return some floating-point tensor of a distribution, whose dtype and device its densities have."""
    tensors = list(_tensors(p, set()))
    floating = [x for x in tensors if x.is_floating_point()]
    return floating[0] if floating else torch.empty((), device=tensors[0].device if tensors else None)


def _rebuilt(parts: list[Any], change: Callable[[list[Tensor], int], Tensor]) -> td.Distribution:
    """A distribution of the same class, its tensors made from those of the parts and their number of event dims."""
    arguments = [_constructor_arguments(p) for p in parts]
    made = dict(arguments[0])
    for name, value in made.items():
        if isinstance(value, td.Distribution):
            made[name] = _rebuilt([own[name] for own in arguments], change)
        elif isinstance(value, Tensor):
            made[name] = change([own[name] for own in arguments], _event_dim(parts[0], name, value))
    rebuilt: td.Distribution = type(parts[0])(**made)
    return rebuilt


def _cannot_roll(p: td.Distribution, why: str) -> TypeError:
    name = type(p).__name__
    plain = type(p) in (td.TransformedDistribution, dist.TransformedDistribution)  # whose rule is that of every flow
    own, registered = ("a subclass of it, and ", "subclass") if plain else ("", name)
    return TypeError(
        f"The rows of a {name} cannot be exchanged: {why}. "
        f"Try {own}pyro_probmix.pooling.families.roll_batch.register({registered}) for a function (p, shift, dim) that does so."
    )


def _constructor_arguments(p: td.Distribution) -> dict[str, Any]:
    parameters = inspect.signature(type(p).__init__).parameters
    arguments: dict[str, Any] = {}
    for name, parameter in list(parameters.items())[1:]:  # the first one is self
        group = next((names for names in _ALTERNATIVES if name in names), (name,))
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or name != _given(p, group, parameters):
            continue
        value = p.__dict__.get("_validate_args") if name == "validate_args" else getattr(p, name, _MISSING)
        if value is not _MISSING:
            arguments[name] = value
        elif parameter.default is parameter.empty:
            raise _cannot_roll(p, f"its constructor's argument {name!r} cannot be read back from it")
    return arguments


def _given(p: td.Distribution, group: Sequence[str], parameters: Any) -> str:
    """Which of several alternative arguments the distribution was made from (the others are derived lazily)."""
    names = [name for name in group if name in parameters]
    held = vars(getattr(p, "_categorical", p))  # one-hot and multinomial distributions keep theirs in a Categorical
    present = [name for name in names if name in held]
    original = [name for name in present if held[name] is held.get("_param")]
    return [*original, *present, *names][0]


def _event_dim(p: td.Distribution, name: str, value: Tensor) -> int:
    """How many of a parameter's last dimensions are not of the batch; some classes' constraints do not tell."""
    constraint = p.arg_constraints.get(name)
    declared = 0 if constraint is None or td.constraints.is_dependent(constraint) else constraint.event_dim
    for event_dim in (declared, value.dim() - len(p.batch_shape)):
        own = value.shape[: value.dim() - event_dim]
        if event_dim >= 0 and len(own) <= len(p.batch_shape) and _fits(own, p.batch_shape):
            return event_dim
    raise _cannot_roll(p, f"its {name} has shape {tuple(value.shape)}, which does not fit its batch")


def _fits(shape: Sequence[int], batch_shape: Sequence[int]) -> bool:
    return all(a in (1, b) for a, b in zip(reversed(shape), reversed(batch_shape), strict=False))


def _tensors(thing: Any, seen: set[int]) -> Iterator[Tensor]:
    """The tensors that a distribution or transform holds, except a module's parameters and what transforms cache."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    parts: list[Any] = []
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, (list, tuple)):
        parts = list(thing)
    elif isinstance(thing, (td.Distribution, Transform)):
        parts = [value for name, value in vars(thing).items() if "cache" not in name]
    for part in parts:
        yield from _tensors(part, seen)


@roll_batch.register(dist.Delta)
def _roll_delta(p: Any, shift: int, dim: int = -1) -> td.Distribution:
    points, log_density = roll_tensor(p.v, shift, dim, p.event_dim), roll_tensor(p.log_density, shift, dim)
    return dist.Delta(points, log_density, p.event_dim, validate_args=p.__dict__.get("_validate_args"))


@roll_batch.register(td.Independent)
def _roll_independent(p: Any, shift: int, dim: int = -1) -> td.Distribution:
    n = p.reinterpreted_batch_ndims
    rolled: td.Distribution = dist.Independent(roll_batch(p.base_dist, shift, dim - n), n)
    return rolled


@roll_batch.register(MaskedDistribution)
def _roll_masked(p: Any, shift: int, dim: int = -1) -> td.Distribution:
    mask = p._mask if isinstance(p._mask, bool) else roll_tensor(p._mask, shift, dim)
    return MaskedDistribution(roll_batch(p.base_dist, shift, dim), mask)


@roll_batch.register(ExpandedDistribution)
def _roll_expanded(p: Any, shift: int, dim: int = -1) -> td.Distribution:
    return ExpandedDistribution(roll_batch(p.base_dist, shift, dim), p.batch_shape)


@roll_batch.register(td.MixtureSameFamily)
def _roll_mixture(p: Any, shift: int, dim: int = -1) -> td.Distribution:
    components = roll_batch(p.component_distribution, shift, dim - 1)  # whose last batch dimension is the component
    rolled: td.Distribution = dist.MixtureSameFamily(roll_batch(p.mixture_distribution, shift, dim), components)
    return rolled


@roll_batch.register(td.TransformedDistribution)
def _roll_transformed(p: Any, shift: int, dim: int = -1) -> td.Distribution:
    if not varies(p.batch_shape, dim):
        unchanged: td.Distribution = p
        return unchanged
    named = bool(type(p).arg_constraints)  # a family such as Gumbel or Weibull, which follows from its parameters
    own = any(p.batch_shape[dim] in x.shape for x in vars(p).values() if isinstance(x, Tensor))
    try:
        if own:
            raise TypeError("it has a tensor of its own, which may differ from row to row")
        transforms = rolled_transforms(p, shift, dim)
    except TypeError as error:
        if not named:
            raise _cannot_roll(p, str(error)) from error
        generic: td.Distribution = roll_batch.dispatch(object)(p, shift, dim)
        return generic
    rolled: td.TransformedDistribution = copy.copy(p)  # keeps the type, whatever its constructor takes
    extra = len(p.base_dist.batch_shape) - len(p.batch_shape)
    rolled.base_dist = roll_batch(p.base_dist, shift, dim - extra)
    rolled.transforms = transforms
    return rolled


def rolled_transforms(p: Any, shift: int, dim: int) -> list[Transform]:
    """Return the transforms of a transformed distribution's rolled rows, by :func:`roll_transforms`."""
    base = p.base_dist
    place = len(p.batch_shape) + dim
    return roll_transforms(p.transforms, base.batch_shape + base.event_shape, shift, place, floating_tensor(base))
