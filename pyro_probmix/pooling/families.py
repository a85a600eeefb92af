"""Natural parameters of exponential families, and how a family of one's own joins them."""

from __future__ import annotations

__all__ = ["Family", "find_family", "register_family", "scores_as"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributions as td
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

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
        """Return what ``to_natural`` makes of ``p``, checked."""
        given: Any = self.to_natural(p)
        if not isinstance(given, (tuple, list)) or not given or not all(isinstance(eta, Tensor) for eta in given):
            raise TypeError(
                f"to_natural({type(p).__name__}) returned {_described(given)}, expected a tuple of tensors. "
                "Try return (eta,), whose comma makes it a tuple."
            )
        shape = p.batch_shape
        given = [eta.expand(shape) if not eta.dim() else eta for eta in given]  # all rows may share a number
        for eta in given:
            if not all(a in (1, b) for a, b in zip_longest(eta.shape[: len(shape)], shape)):
                raise ValueError(
                    f"to_natural({type(p).__name__}) returned a tensor of shape {tuple(eta.shape)}, expected the batch "
                    f"shape {tuple(shape)}, then any dimensions of its own. Try eta.expand(p.batch_shape)."
                )
        return tuple(given)

    def member(self, p: td.Distribution, naturals: Naturals) -> td.Distribution:
        """Return what ``from_natural`` makes of ``p`` and the natural parameters, checked."""
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
    r"""Let log-linear pools of a distribution class be computed by its natural parameters.

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
    _FAMILIES[cls] = Family(to_natural, from_natural, tuple(shared))


def find_family(p: td.Distribution) -> Family | None:
    """Return the family that the class of ``p`` is registered under, itself or by inheritance of its density, or None."""
    base: Any = next((base for base in type(p).__mro__ if base in _FAMILIES), None)
    if base is None or not scores_as(p, base) or not _has_transforms_of(p, base):
        return None
    return _FAMILIES[base]


def scores_as(p: Any, *classes: type[Any]) -> bool:
    """Return whether ``p`` is of one of the classes and has the ``log_prob`` of that class, not another one of a subclass."""
    return any(isinstance(p, cls) and type(p).log_prob is cls.log_prob for cls in classes)


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


def _register(
    standard: type[Any],
    to_natural: Callable[[Any], Naturals],
    arguments: Callable[..., dict[str, Any]],
    *also: type,
) -> None:
    """Register torch's class behind Pyro's ``standard`` one, given the map from naturals to constructor arguments."""

    def from_natural(p: Any, naturals: Naturals) -> td.Distribution:
        made: td.Distribution = _constructor(p, standard)(
            **arguments(p, *naturals), validate_args=p.__dict__.get("_validate_args")
        )
        return made

    family = Family(to_natural, from_natural)
    for cls in (getattr(td, standard.__name__, standard), standard, *also):
        _FAMILIES[cls] = family


def _constructor(p: td.Distribution, standard: type[Any]) -> type[Any]:
    """Pyro's version of the type of p, so that a subclass with the same arguments stays what it is."""
    own = type(p) if isinstance(p, TorchDistributionMixin) else getattr(dist, type(p).__name__, standard)
    return own if own.__init__ is standard.__init__ else standard


def _described(x: Any) -> str:
    if isinstance(x, (tuple, list)):
        return f"a {type(x).__name__} ({', '.join(type(part).__name__ for part in x)})"
    return f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else repr(x)


def _validates(p: td.Distribution) -> bool:
    return bool(p.__dict__.get("_validate_args", td.Distribution._validate_args))


def _normal(p: Any) -> Naturals:
    precision = p.scale.square().reciprocal()
    return p.loc * precision, precision


def _from_normal(p: Any, weighted: Tensor, precision: Tensor) -> dict[str, Any]:
    return {"loc": weighted / precision, "scale": precision.rsqrt()}


def _scale_tril(p: Any, precision: Tensor) -> Tensor:
    """The covariance's factor. With J the exchange of rows, P = U U' for the upper triangular U = J chol(J P J) J."""
    factor, _ = torch.linalg.cholesky_ex(
        precision.flip(-2, -1), check_errors=_validates(p)
    )  # the check waits for a GPU
    upper = factor.flip(-2, -1)
    identity = torch.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    scale_tril: Tensor = torch.linalg.solve_triangular(upper.mT, identity, upper=False)
    return scale_tril


def _from_multivariate_normal(p: Any, weighted: Tensor, precision: Tensor) -> dict[str, Any]:
    scale_tril = _scale_tril(p, precision)
    loc = scale_tril @ (scale_tril.mT @ weighted.unsqueeze(-1))
    return {"loc": loc.squeeze(-1).to(p.loc), "scale_tril": scale_tril.to(p.loc)}


def _multivariate_normal(p: Any) -> Naturals:
    # In double precision: single has no digits left on the way through the inverse of a nearly singular covariance.
    exact = p.scale_tril if p.scale_tril.device.type == "mps" else p.scale_tril.double()
    precision = torch.cholesky_inverse(exact)
    return (precision @ p.loc.to(exact).unsqueeze(-1)).squeeze(-1), precision


def _log_probs(p: Any) -> Naturals:
    return _finite_logits(p.logits)


def _finite_logits(logits: Tensor) -> Naturals:
    impossible = logits == -torch.inf
    return logits.masked_fill(impossible, 0.0), impossible.to(logits)


def _from_log_probs(p: Any, logits: Tensor, impossible: Tensor) -> dict[str, Any]:
    excluded = impossible > 0
    if _validates(p) and bool(excluded.all(-1).any()):
        raise ValueError(
            f"Members of type {type(p).__name__} that share no class of positive probability have no log-linear pool. "
            "Try finite logits, or the linear pool."
        )
    return {"logits": logits.masked_fill(excluded, -torch.inf)}


def _log_rate(p: Any) -> Naturals:
    zero = p.rate == 0
    return p.rate.masked_fill(zero, 1.0).log(), zero.to(p.rate)


def _from_log_rate(p: Any, log_rate: Tensor, zero: Tensor) -> dict[str, Any]:
    return {"rate": log_rate.exp().masked_fill(zero > 0, 0.0), "is_sparse": getattr(p, "is_sparse", False)}


def _from_log_failure(p: Any, log_failure: Tensor) -> dict[str, Any]:
    # log_failure = log(1 - probs); log(probs / (1 - probs)) without overflow
    return {"logits": torch.log(-torch.expm1(log_failure)) - log_failure}


def _from_log_success(p: Any, log_success: Tensor) -> dict[str, Any]:
    return {"logits": log_success - torch.log(-torch.expm1(log_success)), "total_count": p.total_count}


def _from_direction(p: Any, concentration: Tensor) -> dict[str, Any]:
    # Opposite directions may cancel to the uniform distribution, whose concentration is kept above 0.
    cancelled = (concentration == 0).all(-1, keepdim=True)
    return {"concentration": torch.where(cancelled, torch.finfo(concentration.dtype).eps, concentration)}


def _from_edge_logits(p: Any, logits: Tensor, impossible: Tensor) -> dict[str, Any]:
    logits = logits.masked_fill(impossible > 0, -torch.inf)
    return {"edge_logits": logits, "sampler_options": p.sampler_options}


def _from_matching_logits(p: Any, logits: Tensor, impossible: Tensor) -> dict[str, Any]:
    return {"logits": logits.masked_fill(impossible > 0, -torch.inf), "bp_iters": p.bp_iters}


def _von_mises(p: Any) -> Naturals:
    return p.concentration * p.loc.cos(), p.concentration * p.loc.sin()


def _from_von_mises(p: Any, x: Tensor, y: Tensor) -> dict[str, Any]:
    # Opposite directions may cancel to the uniform distribution: its concentration is kept above 0, where the root has a slope.
    squared = (x.square() + y.square()).clamp(min=torch.finfo(x.dtype).tiny)
    return {"loc": torch.atan2(y, x), "concentration": squared.sqrt()}


def _delta(p: Any) -> Naturals:
    if not p.v.is_floating_point():
        raise TypeError(
            f"A Delta at points of type {p.v.dtype} has no log-linear pool, which lies between the points. "
            "Try floating-point values, or the linear pool."
        )
    return p.v, p.log_density


# The zero-variance limit of normals of one variance: the pool is the Delta between the points.
_register(dist.Delta, _delta, lambda p, v, log_density: {"v": v, "log_density": log_density, "event_dim": p.event_dim})
_register(dist.Normal, _normal, _from_normal, dist.NanMaskedNormal)
_register(dist.LogNormal, _normal, _from_normal)
_register(
    dist.HalfNormal, lambda p: (p.scale.square().reciprocal(),), lambda p, precision: {"scale": precision.rsqrt()}
)
_register(
    dist.MultivariateNormal,
    _multivariate_normal,
    _from_multivariate_normal,
    dist.NanMaskedMultivariateNormal,
    dist.LowRankMultivariateNormal,
    td.LowRankMultivariateNormal,
)
_register(
    dist.Wishart,
    lambda p: (p.df, p.precision_matrix),
    lambda p, df, precision: {"df": df, "scale_tril": _scale_tril(p, precision)},
)
for _lkj in (dist.LKJCholesky, dist.LKJ):
    _register(
        _lkj, lambda p: (p.concentration,), lambda p, concentration: {"dim": p.dim, "concentration": concentration}
    )
_register(dist.Bernoulli, lambda p: (p.logits,), lambda p, logits: {"logits": logits})
_register(dist.ContinuousBernoulli, lambda p: (p.logits,), lambda p, logits: {"logits": logits, "lims": p._lims})
_register(
    dist.Binomial,
    lambda p: (p.logits,),
    lambda p, logits: {"logits": logits, "total_count": p.total_count},
    dist.ExtendedBinomial,
)
_register(
    dist.NegativeBinomial,
    lambda p: (torch.nn.functional.logsigmoid(p.logits),),
    _from_log_success,
)
_register(dist.Geometric, lambda p: (-torch.nn.functional.softplus(p.logits),), _from_log_failure)
_register(dist.Categorical, _log_probs, _from_log_probs)
_register(dist.OneHotCategorical, _log_probs, _from_log_probs)
_register(
    dist.Multinomial,
    _log_probs,
    lambda p, *naturals: {**_from_log_probs(p, *naturals), "total_count": p.total_count},
)
_register(dist.Poisson, _log_rate, _from_log_rate)
_register(dist.Exponential, lambda p: (p.rate,), lambda p, rate: {"rate": rate})
_register(
    dist.Gamma,
    lambda p: (p.concentration, p.rate),
    lambda p, concentration, rate: {"concentration": concentration, "rate": rate},
)
_register(
    dist.InverseGamma,
    lambda p: (p.concentration, p.rate),
    lambda p, concentration, rate: {"concentration": concentration, "rate": rate},
)
_register(
    dist.Beta,
    lambda p: (p.concentration1, p.concentration0),
    lambda p, c1, c0: {"concentration1": c1, "concentration0": c0},
)
_register(dist.Dirichlet, lambda p: (p.concentration,), lambda p, concentration: {"concentration": concentration})
_register(dist.VonMises, _von_mises, _from_von_mises)
_register(dist.VonMises3D, lambda p: (p.concentration,), _from_direction)
_register(dist.SpanningTree, lambda p: _finite_logits(p.edge_logits), _from_edge_logits)
for _matching in (dist.OneOneMatching, dist.OneTwoMatching):
    _register(_matching, _log_probs, _from_matching_logits)
