"""``fuse``: a Pyro model whose densities at a sample site are pooled with those of partner rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from pyro_probmix.arguments import checked
from pyro_probmix.fusing.exposure import expose_parameters
from pyro_probmix.fusing.kernels.kernels import Kernel
from pyro_probmix.fusing.messenger import FuseMessenger, Pool
from pyro_probmix.fusing.perturbation import Labels
from pyro_probmix.pooling.simplex import Weight

__all__ = ["Fused", "fuse"]


class Fused(nn.Module):
    """A module whose forward pass runs under a :class:`FuseMessenger`; made by :func:`fuse`.

    A handler around a bare callable would hide the parameters from ``ELBO()(model, guide)`` and ``state_dict``. Attributes
    that a module does not have by itself are those of ``model``, where trainers such as ``pyro.contrib.forecast.Forecaster``
    look for them.
    """

    def __init__(self, model: nn.Module, handler: FuseMessenger) -> None:
        super().__init__()
        self.model = model
        self.handler = handler

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":  # before there is one, as in a copy that is being made
                raise
            return getattr(self.model, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        expose_parameters(self)
        with self.handler:
            return self.model(*args, **kwargs)


@checked()
def fuse(
    model: Callable[..., Any] | None = None,
    *,
    at: str | Sequence[str],
    weight: Weight | Sequence[Any],
    num_fused: int = 2,
    pool: Pool = "log-linear",
    beta: float | Tensor = 0.0,
    kernel: Kernel | None = None,
    labels: Labels = "sample",
    plate: str | Sequence[str] | None = None,
    rows_in_event: int | None = None,
    weight_plates: Sequence[str] = (),
    keep_labels: Sequence[str] = (),
    one_weight: bool = False,
) -> Any:
    r"""Fuses the densities of two rows, or more, at a sample site of any Pyro model.

    With :math:`\lambda_b \sim p(\lambda)` and :math:`w_b = \lambda_b` in the first half of the batch,
    :math:`1 - \lambda_b` in the second,

    .. math::
        \tilde p(\cdot \mid x_b, x_{b'}) = g_{w_b}\bigl(p(\cdot \mid x_b), p(\cdot \mid x_{b'})\bigr),
        \qquad b' = b + B/2 \pmod B,

    at the site ``at``. If that is a response, its labels are perturbed with the same weight; else those of every response
    after it are,
    :math:`\tilde y_b \sim g^y_{w_b}(s_\beta(\cdot \mid y_b), s_\beta(\cdot \mid y_{b'}))`. A latent upstream of the site
    that is global is shared by both rows; one that is sampled in each row goes with its row.

    The batch is two halves: give row ``b`` and row ``b + B/2`` as the two ends of an edge. Halves of a shuffled batch
    are edges of the complete graph; :class:`~pyro_probmix.models.ProbMix` draws edges of any graph.

    With ``num_fused=k`` above 2 the batch is k equal parts, and row b is fused with the rows b + B/k, b + 2 B/k and so on
    (mod B), with weights :math:`\lambda_b` on the simplex, of which the first belongs to the row in the first part, the
    second to that in the second, and so on; the labels are pooled with the same weights.

    Args:
        model: a Pyro model; an ``nn.Module`` gives back a module, with the same parameters. None gives the handler itself,
            for ``with fuse(at="y", weight=0.5): ...``.
        at: name of the site: a sample site, or a ``pyro.deterministic`` one. Several names fuse at each of these sites:
            sites in one plate of rows share their edges and weights. In a name ``*`` stands for any text: ``"y_*"``.
        weight: the distribution of lambda on [0, 1], drawn at the sample site ``"lambda"`` in the plate of the rows, or its
            value; either broadcasts with the plates of the fused site. For more than two rows a distribution on the
            simplex, such as ``dist.Dirichlet(alpha * torch.ones(k))``, or values ``[..., k]`` on it. Where sites in several
            plates of rows are fused, a second plate ``"b"`` has its weights at the site ``"lambda_b"``.
        num_fused: the number k of rows that are fused, at least 2.
        pool: ``"log-linear"`` (eq. 18) or ``"linear"`` (eq. 17). Where responses are pooled linearly, so are their labels'
            kernels: the label is that of the row with its weight, else a partner's, and not a combination of them.
        beta: spread of the label kernels, finite and at least 0: variance of Gaussian ones, bias of categorical ones;
            broadcasts with the plates.
        kernel: the label kernel; by default it follows from the support of the response.
        labels: ``"sample"`` draws the perturbed labels (eq. 14); ``"expected"`` takes the expectation of the
            log-likelihood over them in closed form (Assumption 4.2).
        plate: name of the plate whose rows are fused, at any dim, or names of several, one for each site; needed where a
            fused site is in more than one plate.
        rows_in_event: dimension of the event that holds the rows, where a model has them in the events of the fused sites and
            responses by ``to_event`` and not in a plate, as the likelihoods of ``pyro.contrib.gp`` do; 0 is the leftmost, and
            -1 the rightmost. The weights of the edges are an event as well.
        weight_plates: names of other plates of the fused site for whose members weights are drawn separately. By default
            an edge has one weight (eq. 12), for all pixels, words or time steps of its two rows.
        keep_labels: names of observed sites after a fused latent whose values are kept: those that do not depend on the
            latent, and penalties by ``pyro.factor``.
        one_weight: whether all edges of a batch have one weight, drawn once, as many implementations of mixup draw it; by
            default each edge has its own.

    Raises:
        ValueError: if the model has no such site, the site no plate of rows or several that may be, the batch is odd (no k
            equal parts), the weight outside [0, 1] (the simplex), a latent upstream is enumerated in each row, or a
            response after a fused latent is outside of the rows' plate. The error names the site.
        TypeError: if the density at the site cannot be pooled.

    References:
        El-Laham et al. (2025), Mixup Regularization: A Probabilistic Perspective, eq. (11), (14), (22).

    Example:
        >>> import pyro, torch, pyro.distributions as dist
        >>> from pyro_probmix import fuse
        >>> def model(x, y=None):
        ...     w = pyro.sample("w", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("data", len(x)):
        ...         return pyro.sample("y", dist.Poisson((w * x).exp()), obs=y)
        >>> fused = fuse(model, at="y", weight=dist.Beta(0.5, 0.5))
        >>> _ = pyro.set_rng_seed(0)
        >>> trace = pyro.poutine.trace(fused).get_trace(torch.ones(4), torch.tensor([0.0, 1.0, 2.0, 3.0]))
        >>> trace.nodes["lambda"]["value"].shape
        torch.Size([4])
    """
    handler = FuseMessenger(
        at,
        weight=weight,
        num_fused=num_fused,
        pool=pool,
        beta=beta,
        kernel=kernel,
        labels=labels,
        plate=plate,
        rows_in_event=rows_in_event,
        weight_plates=weight_plates,
        keep_labels=keep_labels,
        one_weight=one_weight,
    )
    if model is None:
        return handler
    return Fused(model, handler) if isinstance(model, nn.Module) else handler(model)
