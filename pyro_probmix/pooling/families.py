"""Families of distributions with natural parameters, and how a family of one's own joins them."""

from __future__ import annotations

__all__ = ["Family", "Naturals", "add_family", "find_family", "register_family"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch.distributions as td
from torch import Tensor

from pyro_probmix.pooling.rows.scoring import scores_as

Naturals = tuple[Tensor, ...]


@dataclass(frozen=True)
class Family:
    """The two maps of a registered family; two distributions are of one family if they find the same object.

    Attributes:
        to_natural, from_natural, shared: see :func:`register_family`.
    """

    to_natural: Callable[[Any], Naturals]
    from_natural: Callable[[Any, Naturals], td.Distribution]
    shared: tuple[str, ...] = ("total_count",)

    def naturals(self, p: td.Distribution) -> Naturals:
        """What ``to_natural`` makes of ``p``, checked."""
        given: Any = self.to_natural(p)
        if not isinstance(given, (tuple, list)) or not given or not all(isinstance(eta, Tensor) for eta in given):
            raise TypeError(
                f"to_natural({type(p).__name__}) returned {_described(given)}, expected a tuple of tensors. "
                "Try return (eta,), whose comma makes it a tuple."
            )
        shape = p.batch_shape
        given = [eta.expand(shape) if not eta.dim() else eta for eta in given]  # all rows may share a number
        for eta in given:
            if eta.shape != shape and not all(a in (1, b) for a, b in zip_longest(eta.shape[: len(shape)], shape)):
                raise ValueError(
                    f"to_natural({type(p).__name__}) returned a tensor of shape {tuple(eta.shape)}, expected the batch "
                    f"shape {tuple(shape)}, then any dimensions of its own. Try eta.expand(p.batch_shape)."
                )
        return tuple(given)

    def member(self, p: td.Distribution, naturals: Naturals) -> td.Distribution:
        """What ``from_natural`` makes of ``p`` and the natural parameters, checked."""
        made: Any = self.from_natural(p, naturals)
        if not isinstance(made, td.Distribution):
            raise TypeError(
                f"from_natural({type(p).__name__}) returned {_described(made)}, expected a distribution. "
                f"Try return {type(p).__name__}(...)."
            )
        return made


_FAMILIES: dict[type, Family] = {}


def register_family(
    cls: type[td.Distribution],
    to_natural: Callable[[Any], Naturals],
    from_natural: Callable[[Any, Naturals], td.Distribution],
    shared: Sequence[str] = ("total_count",),
) -> None:
    r"""Lets log-linear pools of a distribution class be computed by its natural parameters.

    For a density :math:`h(y) \exp(\phi^\top T(y) - A)` (eq. 35) the pool has the natural parameters
    :math:`\lambda \phi_i + (1 - \lambda) \phi_j` (eq. 38). Any tensors that are affine in :math:`\phi` serve, as a
    convex combination commutes with an affine map.

    An infinite natural parameter (a class of probability zero) would make NaN of a weight of zero. Return a finite
    number in its place, and an indicator of the places as a further tensor: the pool's indicator is positive exactly
    where a member of positive weight has the infinite parameter.

    Args:
        cls: the class; subclasses that register nothing themselves, and have its ``log_prob``, belong to it too.
        to_natural: maps a distribution ``p`` to a tuple of tensors, each of shape ``p.batch_shape`` followed by any
            dimensions of its own.
        from_natural: maps ``(p, naturals)`` to a distribution of the family of ``p``, with the batch shape of
            ``naturals``; ``p`` is a template for all else (counts, event structure, ``validate_args``).
        shared: names of the attributes that ``from_natural`` takes from ``p``, as far as ``p`` has them: numbers, or tensors
            that broadcast with the batch shape. A closed pool is one of rows in which they are equal.

    Raises:
        TypeError: if ``cls`` is not a class of distributions, or a map cannot be called.

    References:
        El-Laham et al., 2025, Theorem C.1, eq. (35) to (38).

    Example:
        The negative binomial with a known count has the density
        :math:`h(y) \exp(y \log \pi + r \log(1 - \pi))`, where :math:`\pi` is ``probs``.

        >>> import torch, pyro.distributions as dist
        >>> from pyro_probmix.pooling.families import register_family
        >>> from pyro_probmix.pooling.pools import log_linear_pool
        >>> class Counts(dist.NegativeBinomial):
        ...     pass
        >>> def to_natural(p):
        ...     return (p.probs.log(),)
        >>> def from_natural(p, naturals):
        ...     return Counts(p.total_count, probs=naturals[0].exp())
        >>> register_family(Counts, to_natural, from_natural)
        >>> log_linear_pool(Counts(5.0, torch.tensor([0.25])), Counts(5.0, torch.tensor([0.81])), 0.5).probs
        tensor([0.4500])
    """
    if not (isinstance(cls, type) and issubclass(cls, td.Distribution)):
        raise TypeError(
            f"register_family got {cls!r}, expected a class of distributions. Try a subclass of TorchDistribution."
        )
    if not (callable(to_natural) and callable(from_natural)):
        raise TypeError(
            f"register_family({cls.__name__}) got {to_natural!r} and {from_natural!r}, expected two functions. "
            "Try to_natural(p) -> naturals, from_natural(p, naturals) -> distribution."
        )
    if isinstance(shared, str) or not isinstance(shared, Sequence) or not all(isinstance(name, str) for name in shared):
        raise TypeError(
            f"register_family({cls.__name__}) got shared={shared!r}, expected names of attributes. Try shared=()."
        )
    add_family(Family(to_natural, from_natural, tuple(shared)), cls)


def add_family(family: Family, *classes: type[Any]) -> None:
    """Lets classes belong to a family, so that distributions of them are pooled with each other."""
    _FAMILIES.update(dict.fromkeys(classes, family))


def find_family(p: td.Distribution) -> Family | None:
    """The family that the class of ``p`` is registered under, itself or by inheritance of its density, or None."""
    for base in type(p).__mro__:
        family = _FAMILIES.get(base)
        if family is not None:
            return family if scores_as(p, base) and _has_transforms_of(p, base) else None
    return None


def _has_transforms_of(p: Any, base: type[Any]) -> bool:
    """Whether a subclass maps the same base distribution by the same transforms: its density is by these alone."""
    if type(p) is base or not issubclass(base, td.TransformedDistribution):
        return True
    if type(p).__init__ is base.__init__:
        return True
    try:
        standard = base(**{name: getattr(p, name) for name in base.arg_constraints}, validate_args=False)
    except Exception:  # of any kind: the class may be the user's own
        return False
    return type(standard.base_dist) is type(p.base_dist) and list(standard.transforms) == list(p.transforms)


def _described(x: Any) -> str:
    if isinstance(x, (tuple, list)):
        return f"a {type(x).__name__} ({', '.join(type(part).__name__ for part in x)})"
    return f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else repr(x)
