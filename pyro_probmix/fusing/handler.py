"""The fuse effect handler: pool the density at one sample site of any Pyro model with those of partner rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_probmix.fusing.exposure import expose_parameters
from pyro_probmix.fusing.kernels import Kernel
from pyro_probmix.fusing.perturbation import Labels, Perturbation
from pyro_probmix.fusing.rows import Rows, find_rows, refuse_enumerated_rows
from pyro_probmix.pooling import pool_rows
from pyro_probmix.pooling.batches import floating_tensor
from pyro_probmix.pooling.simplex import Weight, checked_weight

__all__ = ["FuseMessenger", "Fused", "fuse"]

Pool = Literal["log-linear", "linear"]


class FuseMessenger(Messenger):
    r"""Replaces the density at site ``at`` by its pool with the densities of the row's partners.

    In a batch of :math:`B` rows the partner of row :math:`b` is row :math:`b + B/2 \pmod B`, so the network is evaluated
    once per row.

    Args:
        add_unfused_rows: whether the rows of the second half of each part are not fused: each stands for itself, at its own
            label.
        at, weight, num_fused, pool, beta, kernel, labels, plate: see :func:`fuse`.
    """

    def __init__(
        self,
        at: str,
        *,
        weight: Weight,
        num_fused: int = 2,
        pool: Pool = "log-linear",
        beta: float | Tensor = 0.0,
        kernel: Kernel | None = None,
        labels: Labels = "sample",
        plate: str | None = None,
        add_unfused_rows: bool = False,
    ) -> None:
        super().__init__()
        if pool not in ("log-linear", "linear"):
            raise ValueError(f"fuse got pool={pool!r}, expected 'log-linear' or 'linear'. Try pool='log-linear'.")
        self.at = at
        self.weight = checked_weight(weight, num_fused)
        self._weight_site = "lambda" if isinstance(self.weight, Distribution) else None
        self.num_fused = num_fused
        self.pool: Pool = pool
        self.perturbation = Perturbation(beta, kernel, labels)
        self.plate = plate
        self.add_unfused_rows = add_unfused_rows
        self._forget()

    def _forget(self) -> None:
        self._rows: Rows | None = None  # the fused rows, once the site has been met
        self._plates: frozenset[str] = frozenset()  # of the fused site
        self._fused_response = False  # whether the fused site is a response itself, whose labels alone are perturbed
        self._weights: Tensor | None = None  # as each row sees them, see Rows
        self._perturbed = 0
        self._left_unperturbed: str | None = None
        self._drawing = False  # whether the site that is met is the weight's, and not one of the model of that name
        self._replayed = False  # whether draws of a guide are given from outside, as by Predictive, with the response's
        self._seen: list[str] = []
        self._enumerated: list[dict[str, Any]] = []

    def __enter__(self) -> FuseMessenger:
        self._forget()
        super().__enter__()
        return self

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        met, seen = self._rows is not None, ", ".join(repr(s) for s in self._seen) or "none"
        left = None if self._perturbed or self._replayed else self._left_unperturbed
        self._forget()
        if exc_type is None and not met:
            raise ValueError(
                f"fuse(at={self.at!r}) met no such sample site; the model has the sites {seen}. Try one of these as `at`."
            )
        if exc_type is None and left is not None:
            # A handler outside this one acts after it, when the labels can no longer be perturbed.
            raise ValueError(
                f"site {left!r} was observed outside fuse(at={self.at!r}), expected inside, where its labels are perturbed. "
                "Try fuse(poutine.condition(model, data), ...)."
            )

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            return
        if msg["name"] == self._weight_site and not self._drawing:
            self._refuse_name()
        if msg["name"] == self.at:
            self._fuse(msg)
        if self._is_response(msg) and (not self._fused_response or msg["name"] == self.at):
            self._perturb_labels(msg)
        msg["infer"]["_mask_at_fuse"] = msg["mask"]

    def _pyro_param(self, msg: Any) -> None:
        if msg["name"] == self._weight_site:
            self._refuse_name()

    def _refuse_name(self) -> None:
        raise ValueError(
            "the model has a site 'lambda' of its own, as fuse(weight=...) names the weight it draws, expected another name. "
            "Try 'rate', or whatever it stands for."
        )

    def _pyro_post_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            return
        self._seen.append(msg["name"])
        if self._rows is None:
            if msg["infer"].get("_enumerate_dim") is not None or msg["infer"].get("enumerate") == "sequential":
                self._enumerated.append(msg)
            return
        if msg["infer"].get("_perturbed"):
            if isinstance(msg["mask"], Tensor) and msg["mask"] is not msg["infer"]["_mask_at_fuse"]:
                raise ValueError(
                    f"site {msg['name']!r} was masked outside fuse(at={self.at!r}), where the partners' rows cannot be "
                    "masked too, expected inside. Try fuse(poutine.mask(model, mask), ...)."
                )
        elif msg["name"] == self._weight_site and msg["is_observed"]:
            self._replayed = True
        elif self._is_response(msg) and not self._fused_response:
            self._left_unperturbed = msg["name"]

    def _is_response(self, msg: Any) -> bool:
        """Whether the site is an observed one, at or after the fused site, in the plate of the fused rows."""
        return (
            self._rows is not None
            and bool(msg["is_observed"])
            and msg["name"] != self._weight_site
            and not msg["infer"].get("_deterministic", False)
            and any(frame.name == self._rows.plate for frame in msg["cond_indep_stack"])
        )

    def _fuse(self, msg: Any) -> None:
        if f"{self.at}_observed" in self._seen:
            raise ValueError(
                f"site {self.at!r} has an obs_mask, under which Pyro makes two sites of it, expected one density. "
                "Try poutine.mask around the site, with any value in the place of the missing ones."
            )
        if _is_reparameterised(msg):
            raise ValueError(
                f"site {self.at!r} is an observed point without a density, as reparameterised inside of fuse, expected the "
                "density. Try poutine.reparam(fuse(model, ...), config), or pyro.deterministic for a point."
            )
        rows = find_rows(msg, self.at, self.plate, self.num_fused, self.add_unfused_rows)
        refuse_enumerated_rows(msg, self.at, rows, self._enumerated)
        self._rows = rows
        self._plates = frozenset(frame.name for frame in msg["cond_indep_stack"] if frame.vectorized)
        deterministic = msg["infer"].get("_deterministic", False)
        self._fused_response = bool(msg["is_observed"]) and not deterministic
        self._weights = weights = self._draw_weights(rows, msg["fn"])
        try:
            fused = pool_rows(
                msg["fn"], weights, shift=rows.shift, dim=rows.dim, pool=self.pool, num_fused=self.num_fused
            )
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"site {self.at!r} cannot be fused: {error}") from error
        msg["fn"] = fused
        self._mask_partners(msg)
        if deterministic:
            msg["value"] = _point(self.at, fused)
        elif not self._fused_response:
            msg["infer"]["embedding"] = True  # the criteria draw several of these for one weight

    def _mask_partners(self, msg: Any) -> None:
        """A row counts where it and all its partners of any weight are unmasked."""
        if isinstance(msg["mask"], Tensor) and self._weights is not None and self._rows is not None:
            mask = msg["mask"].expand(torch.broadcast_shapes(msg["mask"].shape, msg["fn"].batch_shape))
            no_weight = [self._weights == 1] if self.num_fused == 2 else (self._weights == 0).unbind(-1)[1:]
            for partner, absent in zip(self._rows.partners(mask), no_weight, strict=True):
                mask = mask & (partner | absent)
            msg["mask"] = mask

    def _draw_weights(self, rows: Rows, fn: Any) -> Tensor:
        """The weights as each row sees them, :meth:`Rows.weights`."""
        if isinstance(self.weight, Distribution):
            law: Any = self.weight
            self._check_shape(law.batch_shape, rows, fn)
            self._drawing = True
            assert self._weight_site is not None
            drawn: Tensor = pyro.sample(self._weight_site, law)
            self._drawing = False
        else:
            like = floating_tensor(fn)
            if isinstance(self.weight, float | int):  # filled there: a copy from the host would wait for the device
                drawn = torch.full((), self.weight, dtype=like.dtype, device=like.device)
            else:
                drawn = torch.as_tensor(self.weight, dtype=like.dtype, device=like.device)
        self._check_shape(drawn.shape if self.num_fused == 2 else drawn.shape[:-1], rows, fn)
        return rows.weights(drawn)

    def _check_shape(self, weight: torch.Size, rows: Rows, fn: Any) -> None:
        try:
            torch.broadcast_shapes(weight, (rows.size,) + (1,) * (-1 - rows.dim), fn.batch_shape)
        except RuntimeError:
            raise ValueError(
                f"site {self.at!r} has the batch {tuple(fn.batch_shape)}, the weight of fuse {tuple(weight)}, expected "
                "shapes that broadcast. Try a number, or a weight for each replica, [R, 1]."
            ) from None

    def _perturb_labels(self, msg: Any) -> None:
        assert self._weights is not None and self._rows is not None
        # A linear pool of responses is a choice between them, so that their labels are not mixed either.
        linearly = self.pool == "linear" and self._fused_response
        self.perturbation(msg, self.at, self._plates, self._rows, self._weights, linearly)
        if msg["name"] != self.at:
            self._mask_partners(msg)
        msg["infer"]["_perturbed"] = True
        self._perturbed += 1


class Fused(nn.Module):
    """A module whose forward pass runs under a :class:`FuseMessenger`; made by :func:`fuse`.

    A handler around a bare callable would hide the parameters from ``ELBO()(model, guide)`` and ``state_dict``.
    """

    def __init__(self, model: nn.Module, handler: FuseMessenger) -> None:
        super().__init__()
        self.model = model
        self.handler = handler

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        expose_parameters(self)
        with self.handler:
            return self.model(*args, **kwargs)


def fuse(
    model: Callable[..., Any] | None = None,
    *,
    at: str,
    weight: Weight,
    num_fused: int = 2,
    pool: Pool = "log-linear",
    beta: float | Tensor = 0.0,
    kernel: Kernel | None = None,
    labels: Labels = "sample",
    plate: str | None = None,
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
        at: name of the site: a sample site, or a ``pyro.deterministic`` one, given its ``event_dim``.
        weight: the law of lambda on [0, 1], drawn at the sample site ``"lambda"`` in the plates of the fused site, or
            its value; either broadcasts with these plates. For more than two rows a law on the simplex, such as
            ``dist.Dirichlet(alpha * torch.ones(k))``, or values ``[..., k]`` on it.
        num_fused: the number k of rows that are fused, at least 2.
        pool: ``"log-linear"`` (eq. 18) or ``"linear"`` (eq. 17). Where responses are pooled linearly, so are their labels'
            kernels: the label is that of the row with its weight, else a partner's, and not a combination of them.
        beta: spread of the label kernels, finite and at least 0: variance of Gaussian ones, bias of categorical ones;
            broadcasts with the plates.
        kernel: the label kernel; by default it follows from the support of the response.
        labels: ``"sample"`` draws the perturbed labels (eq. 14); ``"expected"`` takes the expectation of the
            log-likelihood over them in closed form (Assumption 4.2).
        plate: the plate whose rows are fused; by default the one at ``dim=-1``.

    Raises:
        ValueError: if the model has no such site, the site no plate of rows, the batch is odd (no k equal parts), the
            weight outside [0, 1] (the simplex), or a latent upstream is enumerated in each row. The error names the site.
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
        at, weight=weight, num_fused=num_fused, pool=pool, beta=beta, kernel=kernel, labels=labels, plate=plate
    )
    if model is None:
        return handler
    return Fused(model, handler) if isinstance(model, nn.Module) else handler(model)


def _is_reparameterised(msg: Any) -> bool:
    """Whether a reparameterizer has put a point, observed and without a density, in the place of the site's density."""
    fn = msg["fn"]
    masked = isinstance(fn, MaskedDistribution) and fn._mask is False and isinstance(fn.base_dist, dist.Delta)
    return masked and bool(msg["is_observed"]) and not msg["infer"].get("_deterministic", False)


def _point(site: str, fused: Any) -> Tensor:
    """The point that carries the whole mass of a (masked) Delta."""
    while not isinstance(fused, dist.Delta):
        if not hasattr(fused, "base_dist"):
            raise ValueError(
                f"site {site!r} is deterministic, and the {type(fused).__name__} of two points is no point, expected the "
                "log-linear pool there. Try pool='log-linear'."
            )
        fused = fused.base_dist
    point: Tensor = fused.v
    return point
