"""Natural parameters of torch's and Pyro's exponential families, by which these are registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributions as td
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_probmix.pooling.families import Family, Naturals, add_family


def _register(
    standard: type[Any],
    to_natural: Callable[[Any], Naturals],
    arguments: Callable[..., dict[str, Any]],
    *also: type,
) -> None:
    """Registers torch's class behind Pyro's ``standard`` one, given the map from naturals to constructor arguments."""

    def from_natural(p: Any, naturals: Naturals) -> td.Distribution:
        made: td.Distribution = _constructor(p, standard)(
            **arguments(p, *naturals), validate_args=p.__dict__.get("_validate_args")
        )
        return made

    add_family(Family(to_natural, from_natural), getattr(td, standard.__name__, standard), standard, *also)


def _constructor(p: td.Distribution, standard: type[Any]) -> type[Any]:
    """Pyro's version of the type of p, so that a subclass with the same arguments stays what it is."""
    own = type(p) if isinstance(p, TorchDistributionMixin) else getattr(dist, type(p).__name__, standard)
    return own if own.__init__ is standard.__init__ else standard


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
