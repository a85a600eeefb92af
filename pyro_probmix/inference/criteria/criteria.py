"""The two criteria: the expected log-likelihood and the log-expected likelihood of a fused model."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.infer.util import is_validation_enabled, torch_item
from pyro.poutine.util import site_is_subsample
from pyro.util import check_site_shape, warn_if_nan
from torch import Tensor

from pyro_probmix.arguments import checked
from pyro_probmix.fusing.sites import refuse_nan
from pyro_probmix.inference.criteria.runs import Draws, one_run, scaled_log_prob

__all__ = ["Criterion", "ExpectedLogLikelihood", "LogExpectedLikelihood"]


class Criterion(ELBO):
    """Base class of the objectives that :func:`fit` maximises.

    Criteria differ in how they average over the draws, :meth:`average`.

    Args:
        num_particles: K, draws of the weight and the perturbed labels for each edge. The network is evaluated once for
            all of them, as far as it lies upstream of the fused site. Other latents are drawn K times in a dim left of all
            plates, as by Pyro's ``vectorize_particles``: a model with some has to broadcast over it.
        num_embeddings: S, draws of a fused embedding for each weight; they approximate the integral of eq. (21) inside
            the logarithm.
        max_plate_nesting: how many plates deep the model is; read off the model, run once, if left out and needed.

    Raises:
        ValueError: if K or S is no positive integer.
    """

    @checked(least={"num_particles": 1, "num_embeddings": 1, "max_plate_nesting": 0})
    def __init__(
        self, num_particles: int = 1, num_embeddings: int = 1, max_plate_nesting: int | float = math.inf
    ) -> None:
        super().__init__(num_particles=num_particles, max_plate_nesting=max_plate_nesting)  # type: ignore[no-untyped-call] # Pyro
        self.num_embeddings = num_embeddings

    @abstractmethod
    def average(self, log_prob: Tensor) -> Tensor:
        """Averages log-likelihoods of shape [S, K, *plates] over the draws; to shape [*plates]."""

    def check(self, sites: list[dict[str, Any]]) -> None:
        """Raises ValueError if the criterion is not defined for these responses."""
        if self.num_embeddings > 1:
            self.refuse_rows_in_event(sites)

    def refuse_rows_in_event(self, sites: list[dict[str, Any]]) -> None:
        """Raises ValueError for rows in the event, whose density is one, where each row has a logarithm of its own."""
        for site in sites:
            if site["infer"].get("rows_in_event", False):
                raise ValueError(
                    f"site {site['name']!r} has its rows in the event, and {type(self).__name__} would average their joint "
                    "density, expected a density for each row. Try a plate of rows, or ExpectedLogLikelihood(num_particles=K)."
                )

    def check_guided(self, site: dict[str, Any]) -> None:
        """Raises ValueError if the criterion is not defined for a latent that another guide than the prior draws."""

    def log_prob(self, site: dict[str, Any]) -> Tensor:
        """The log density of a response in nats, without the scale from subsampling; 0 where it is masked."""
        if is_validation_enabled():  # looking at values waits for the device
            refuse_nan(site)
        log_prob: Tensor = scale_and_mask(site["fn"].log_prob(site["value"]), 1.0, site["mask"])
        return log_prob

    def terms(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Tensor]:
        """The summands of the objective, in nats, each in the shape of its plates, scaled for subsampling."""
        model_trace, guide_trace = self._get_trace(model, guide, args, kwargs)
        model_sites: dict[str, Any] = dict(model_trace.nodes.items())
        guide_sites: dict[str, Any] = dict(guide_trace.nodes.items())
        # Responses of the same rows share the logarithm; another scale (a tempered likelihood, say) is another term.
        responses: dict[Any, list[dict[str, Any]]] = {}
        terms: list[Tensor] = []
        for name, site in model_sites.items():
            if site["type"] != "sample" or site_is_subsample(site) or site["infer"].get("_deterministic", False):
                continue
            if site["is_observed"]:
                scale = site["scale"] if isinstance(site["scale"], float | int) else id(site["scale"])
                responses.setdefault((*(frame.name for frame in site["cond_indep_stack"]), scale), []).append(site)
            elif not site["infer"].get("drawn_from_prior", False):
                self.check_guided(site)
                terms.append(self._latent_term(name, site, guide_sites) / self.num_particles)
        for name, site in guide_sites.items():
            if site["type"] == "sample" and name not in model_sites:  # auxiliary to the guide
                terms.append(-scaled_log_prob(site) / self.num_particles)
        if not responses:
            raise ValueError(
                f"{type(self).__name__} found no observed site in the model, expected a response. Try model(x, y), with labels."
            )
        for sites in responses.values():
            self.check(sites)
            log_prob = sum(self._checked_log_prob(site) for site in sites)
            assert isinstance(log_prob, Tensor)
            terms.append(scale_and_mask(self.average(self._leading_draws(log_prob)), sites[0]["scale"]))
        return terms

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Minus the estimated criterion, in nats, summed over rows (scaled to all rows) and replicas."""
        total = sum(term.sum() for term in self.terms(model, guide, *args, **kwargs))
        assert isinstance(total, Tensor)
        return -total

    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss as a float, for ``SVI.evaluate_loss``."""
        with torch.no_grad():
            loss = self.differentiable_loss(model, guide, *args, **kwargs)
        warn_if_nan(loss, "loss")
        return float(torch_item(loss))

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss as a float, its gradients added to those of the parameters, for ``SVI.step``."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        warn_if_nan(loss, "loss")
        return float(torch_item(loss))

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[poutine.Trace, poutine.Trace]:
        if self.num_particles == self.num_embeddings == 1:
            return one_run(model, guide, args, kwargs)
        if self.max_plate_nesting == math.inf:
            self._guess_max_plate_nesting(model, guide, args, kwargs)  # type: ignore[no-untyped-call] # Pyro
        with Draws(self.num_particles, self.num_embeddings, int(self.max_plate_nesting)):
            return one_run(model, guide, args, kwargs)

    def _latent_term(self, name: str, site: dict[str, Any], guide_sites: dict[str, Any]) -> Tensor:
        """log p - log q of a latent that another guide than the prior draws."""
        if name not in guide_sites:
            raise ValueError(
                f"latent site {name!r} of the model is not in the guide, expected every latent there. "
                f"Try PriorGuide(model, guide), or Pyro's TraceEnum_ELBO if {name!r} is enumerated."
            )
        guided = guide_sites[name]
        log_q = scaled_log_prob(guided)
        if log_q.requires_grad and not guided["fn"].has_rsample:
            raise ValueError(
                f"site {name!r} of the guide is not reparameterised, and this criterion has no score-function term for its "
                "gradient. Try Trace_ELBO, or a reparameterised guide."
            )
        return scaled_log_prob(site) - log_q

    def _checked_log_prob(self, site: dict[str, Any]) -> Tensor:
        log_prob = self.log_prob(site)
        if is_validation_enabled():  # as in Pyro's losses
            message: Any = site | {"log_prob": log_prob}
            check_site_shape(message, self.max_plate_nesting)
        return log_prob

    def _leading_draws(self, log_prob: Tensor) -> Tensor:
        """[S, K, *plates] from the shape that broadcasting left; a response that depends on no draw gets S = K = 1."""
        if self.num_particles == self.num_embeddings == 1:
            return log_prob[None, None]
        missing = int(self.max_plate_nesting) + 2 - log_prob.dim()
        return log_prob[(None,) * missing] if missing > 0 else log_prob


class ExpectedLogLikelihood(Criterion):
    r"""The expected log-likelihood, a mean over particles of logarithms.

    .. math::
        \hat\ell = \sum_b \frac1K \sum_{k=1}^K \log \frac1S \sum_{s=1}^S p_\theta(\tilde y_b^{(k)} \mid z_b^{(k, s)})

    For a fused response there is no :math:`z`, and the inner mean falls away. At S = 1 this is ``Trace_ELBO``'s estimate
    for a guide that draws the latents from their prior.

    References:
        El-Laham et al. (2025), eq. (15), (16), (21).

    Example:
        >>> import torch
        >>> from pyro_probmix import ExpectedLogLikelihood, ProbMix
        >>> from pyro_probmix.models import METHODS, Gaussian, build_density
        >>> density = build_density(METHODS["M-ProbMix"], num_features=2, likelihood=Gaussian, widths=(8, 4))
        >>> model = ProbMix(density, at="z", alpha=0.1)
        >>> loss = ExpectedLogLikelihood(num_particles=4, num_embeddings=8)(model, model.guide)
        >>> loss(torch.randn(10, 2), torch.randn(10, 1)).shape
        torch.Size([])
    """

    def average(self, log_prob: Tensor) -> Tensor:
        return _log_mean_exp(log_prob, (0,)).mean(0)


class LogExpectedLikelihood(Criterion):
    r"""The log-expected likelihood, the logarithm of a mean over particles, and over edges if asked.

    .. math::
        \hat\ell^{\mathrm{up}} = \sum_b \log \frac1{KS} \sum_{k, s} p_\theta(\tilde y_b^{(k)} \mid z_b^{(k, s)})
        \quad\text{or}\quad
        B \log \frac1{BKS} \sum_{b, k, s} p_\theta(\tilde y_b^{(k)} \mid z_b^{(k, s)})

    for ``scope="edge"`` and ``scope="graph"``; the scale from subsampling stays outside the logarithm. At K = S = 1 the
    gradient for ``scope="edge"`` is that of :class:`ExpectedLogLikelihood`.

    Args:
        scope: whether the mean over edges is outside (``"edge"``) or inside (``"graph"``, eq. 32) of the logarithm. The
            edges are those of the plate at dim=-1.

    Raises:
        ValueError: for another scope; when used, with ``scope="graph"`` if a response is masked, and with K > 1 if a guide
            other than the prior draws a latent: a mean over its draws inside of the logarithm, beside its Kullback-Leibler
            divergence outside, bounds no evidence.

    References:
        El-Laham et al. (2025), Appendix B, eq. (31) to (34).
    """

    @checked(least={"num_particles": 1, "num_embeddings": 1, "max_plate_nesting": 0})
    def __init__(
        self,
        num_particles: int = 1,
        num_embeddings: int = 1,
        max_plate_nesting: int | float = math.inf,
        scope: Literal["edge", "graph"] = "edge",
    ) -> None:
        super().__init__(num_particles, num_embeddings, max_plate_nesting)
        if scope not in ("edge", "graph"):
            raise ValueError(
                f"LogExpectedLikelihood got scope={scope!r}, expected 'edge' or 'graph'. Try scope='edge'."
            )
        self.scope = scope

    def check(self, sites: list[dict[str, Any]]) -> None:
        super().check(sites)
        if self.num_particles > 1 or self.scope == "graph":
            self.refuse_rows_in_event(sites)
        for site in sites:
            if self.scope == "graph" and isinstance(site["mask"], Tensor):
                raise ValueError(
                    f"site {site['name']!r} is masked, and a mean over edges inside the logarithm has no term for a masked "
                    "one. Try scope='edge'."
                )

    def check_guided(self, site: dict[str, Any]) -> None:
        if self.num_particles > 1:
            raise ValueError(
                f"LogExpectedLikelihood got num_particles={self.num_particles} and the latent {site['name']!r} from a guide, "
                "expected latents from their prior, whose draws are averaged inside the logarithm. "
                "Try num_particles=1, or ExpectedLogLikelihood."
            )

    def average(self, log_prob: Tensor) -> Tensor:
        if self.scope == "edge":
            return _log_mean_exp(log_prob, (0, 1))
        edges = log_prob.shape[-1]
        return edges * _log_mean_exp(log_prob, (0, 1, -1))[..., None]


def _log_mean_exp(log_prob: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The logarithm of the mean of exp over dims, which are dropped."""
    count = math.prod(log_prob.shape[d] for d in dims)
    return log_prob.logsumexp(dims) - math.log(count) if count > 1 else log_prob.sum(dims)
