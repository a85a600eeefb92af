"""The fuse effect handler: pool the density at one sample site of any Pyro model with that of a partner row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from pyro_probmix.kernels import ExpectedLikelihood, Kernel, default_kernel
from pyro_probmix.pooling import pool_rows
from pyro_probmix.weights import Beta

__all__ = ["FuseMessenger", "Fused", "fuse"]

Pool = Literal["log-linear", "linear"]
Labels = Literal["sample", "expected"]
Weight = float | Tensor | Distribution


class FuseMessenger(Messenger):
    r"""Replaces the density at site ``at`` by its pool with the density of the row's partner.

    In a batch of :math:`B` rows the partner of row :math:`b` is row :math:`b + B/2 \pmod B`, so the network is evaluated
    once per row. See :func:`fuse` for the arguments.
    """

    def __init__(
        self,
        at: str,
        *,
        weight: Weight,
        pool: Pool = "log-linear",
        beta: float | Tensor = 0.0,
        kernel: Kernel | None = None,
        labels: Labels = "sample",
        plate: str | None = None,
    ) -> None:
        super().__init__()
        if pool not in ("log-linear", "linear"):
            raise ValueError(f"fuse got pool={pool!r}, expected 'log-linear' or 'linear'. Try pool='log-linear'.")
        if labels not in ("sample", "expected"):
            raise ValueError(f"fuse got labels={labels!r}, expected 'sample' or 'expected'. Try labels='sample'.")
        if kernel is not None and not (isinstance(beta, float | int) and beta == 0):
            raise ValueError(
                f"fuse got beta={beta} beside the kernel {type(kernel).__name__}, expected one of the two. "
                "Try a kernel with that beta."
            )
        self.at = at
        self.weight = _checked_weight(weight)
        self.pool: Pool = pool
        self.beta = beta
        self.kernel = kernel
        self.labels: Labels = labels
        self.plate = plate
        self._forget()

    def _forget(self) -> None:
        self._rows: Any = None  # the plate frame of the fused rows, once the site has been met
        self._own_weight: Tensor | None = None
        self._seen: list[str] = []
        self._enumerated: list[dict[str, Any]] = []

    def __enter__(self) -> FuseMessenger:
        self._forget()
        super().__enter__()
        return self

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        met, seen = self._rows is not None, ", ".join(repr(s) for s in self._seen) or "none"
        self._forget()
        if exc_type is None and not met:
            raise ValueError(
                f"fuse(at={self.at!r}) met no such sample site; the model has the sites {seen}. Try one of these as `at`."
            )

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            return
        if msg["name"] == self.at:
            self._fuse(msg)
        if self._is_response(msg):
            self._perturb_labels(msg)

    def _pyro_post_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            return
        self._seen.append(msg["name"])
        if self._rows is None:
            if msg["infer"].get("_enumerate_dim") is not None or msg["infer"].get("enumerate") == "sequential":
                self._enumerated.append(msg)
        elif self._is_response(msg) and not msg["infer"].get("_perturbed"):
            # Conditioned by a handler outside this one, which acts after it: the labels would stay unperturbed.
            raise ValueError(
                f"site {msg['name']!r} was observed outside fuse(at={self.at!r}), expected inside, where its labels are "
                "perturbed. Try fuse(poutine.condition(model, data), ...)."
            )

    def _is_response(self, msg: Any) -> bool:
        """Whether the site is an observed one, at or after the fused site, in the plate of the fused rows."""
        return (
            self._rows is not None
            and bool(msg["is_observed"])
            and not msg["infer"].get("_deterministic", False)
            and any(frame.name == self._rows.name for frame in msg["cond_indep_stack"])
        )

    def _fuse(self, msg: Any) -> None:
        rows = self._row_frame(msg)
        self._refuse_enumerated_rows(msg, rows)
        self._rows = rows
        self._own_weight = weight = self._draw_weight(rows)
        try:
            fused = pool_rows(msg["fn"], weight, shift=rows.size // 2, dim=rows.dim, pool=self.pool)
        except TypeError as error:
            raise TypeError(f"site {self.at!r} cannot be fused: {error}") from error
        msg["fn"] = fused
        if msg["infer"].get("_deterministic", False):
            msg["value"] = _point(fused)
        elif not msg["is_observed"]:
            msg["infer"]["embedding"] = True  # the criteria draw several of these for one weight

    def _row_frame(self, msg: Any) -> Any:
        frames = [frame for frame in msg["cond_indep_stack"] if frame.vectorized]
        wanted = [frame for frame in frames if (frame.dim == -1 if self.plate is None else frame.name == self.plate)]
        names = ", ".join(repr(frame.name) for frame in frames) or "none"
        if not wanted:
            expected = "a plate of rows at dim=-1" if self.plate is None else f"the plate {self.plate!r}"
            raise ValueError(
                f"site {self.at!r} is in the plates {names}, expected {expected}. "
                "Try `with pyro.plate('data', batch_size):` around it, or name its plate in fuse(..., plate=...)."
            )
        if wanted[0].size % 2:
            raise ValueError(
                f"site {self.at!r} has an odd batch of {wanted[0].size} rows, expected two halves that are each "
                "other's partners. Try an even batch size."
            )
        return wanted[0]

    def _refuse_enumerated_rows(self, msg: Any, rows: Any) -> None:
        for site in self._enumerated:
            if all(frame.name != rows.name for frame in site["cond_indep_stack"]):
                continue
            dim, shape = site["infer"].get("_enumerate_dim"), msg["fn"].batch_shape
            if dim is None or (-dim <= len(shape) and shape[dim] > 1):
                raise ValueError(
                    f"site {self.at!r} cannot be fused: site {site['name']!r} upstream is enumerated in each row, and one "
                    "enumeration dimension would tie the values of the two rows, expected it sampled or global. Try "
                    f"infer={{'enumerate': None}} for {site['name']!r}, or marginalise it in closed form."
                )

    def _draw_weight(self, rows: Any) -> Tensor:
        """Row b's own weight: lambda in the first half of the rows, 1 - lambda in the second."""
        if isinstance(self.weight, Distribution):
            law: Any = self.weight
            drawn: Tensor = pyro.sample("lambda", law)
        else:
            drawn = torch.as_tensor(self.weight)
        first_half = torch.arange(rows.size, device=drawn.device) < rows.size // 2
        return torch.where(first_half.reshape((-1,) + (1,) * (-1 - rows.dim)), drawn, 1 - drawn)

    def _perturb_labels(self, msg: Any) -> None:
        fn, y, rows = msg["fn"], msg["value"], self._rows
        kernel = default_kernel(fn, self.beta) if self.kernel is None else self.kernel
        partner = torch.roll(y, rows.size // 2, rows.dim - fn.event_dim)
        assert self._own_weight is not None
        law = kernel.pooled(y, partner, self._own_weight, fn.event_dim)
        if self.labels == "expected":
            msg["fn"] = ExpectedLikelihood(fn, law)
        else:
            msg["value"] = law.sample()
        msg["infer"]["_perturbed"] = True


class Fused(nn.Module):
    """A module whose forward pass runs under a :class:`FuseMessenger`; made by :func:`fuse`.

    A handler around a bare callable would hide the parameters from ``ELBO()(model, guide)`` and ``state_dict``.
    """

    def __init__(self, model: nn.Module, handler: FuseMessenger) -> None:
        super().__init__()
        self.model = model
        self.handler = handler

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with self.handler:
            return self.model(*args, **kwargs)


def fuse(
    model: Callable[..., Any] | None = None,
    at: str = "",
    *,
    weight: Weight,
    pool: Pool = "log-linear",
    beta: float | Tensor = 0.0,
    kernel: Kernel | None = None,
    labels: Labels = "sample",
    plate: str | None = None,
) -> Any:
    r"""Fuses the densities of two rows at a sample site of any Pyro model.

    With :math:`\lambda_b \sim p(\lambda)` and :math:`w_b = \lambda_b` in the first half of the batch,
    :math:`1 - \lambda_b` in the second,

    .. math::
        \tilde p(\cdot \mid x_b, x_{b'}) = g_{w_b}\bigl(p(\cdot \mid x_b), p(\cdot \mid x_{b'})\bigr),
        \qquad b' = b + B/2 \pmod B,

    at the site ``at``; every response observed at or after that site gets labels perturbed with the same weight,
    :math:`\tilde y_b \sim g^y_{w_b}(s_\beta(\cdot \mid y_b), s_\beta(\cdot \mid y_{b'}))`. A latent upstream of the site
    that is global is shared by both rows; one that is sampled in each row goes with its row.

    The batch is two halves: give row ``b`` and row ``b + B/2`` as the two ends of an edge. Halves of a shuffled batch
    are edges of the complete graph; :class:`~pyro_probmix.models.ProbMix` draws edges of any graph.

    Args:
        model: a Pyro model; an ``nn.Module`` gives back a module, with the same parameters. None gives the handler itself,
            for ``with fuse(at="y", weight=0.5): ...``.
        at: name of the site: a sample site, or a ``pyro.deterministic`` one, given its ``event_dim``.
        weight: the law of lambda on [0, 1], drawn at the sample site ``"lambda"`` in the plates of the fused site, or its
            value, which broadcasts with these plates.
        pool: ``"log-linear"`` (eq. 18) or ``"linear"`` (eq. 17).
        beta: spread of the label kernels, at least 0: variance of Gaussian ones, bias of categorical ones; broadcasts
            with the plates.
        kernel: the label kernel; by default it follows from the support of the response.
        labels: ``"sample"`` draws the perturbed labels (eq. 14); ``"expected"`` takes the expectation of the
            log-likelihood over them in closed form (Assumption 4.2).
        plate: the plate whose rows are fused; by default the one at ``dim=-1``.

    Raises:
        ValueError: if the model has no such site, the site no plate of rows, the batch is odd, the weight outside [0, 1],
            or a latent upstream is enumerated in each row. The error names the site.
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
    handler = FuseMessenger(at, weight=weight, pool=pool, beta=beta, kernel=kernel, labels=labels, plate=plate)
    if model is None:
        return handler
    return Fused(model, handler) if isinstance(model, nn.Module) else handler(model)


def _checked_weight(weight: Weight) -> Weight:
    if isinstance(weight, torch.distributions.Beta):
        return Beta(weight.concentration1, weight.concentration0)
    if isinstance(weight, Distribution):
        support = weight.support
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        if getattr(support, "lower_bound", None) != 0 or getattr(support, "upper_bound", None) != 1:
            raise ValueError(
                f"fuse got a weight drawn from {type(weight).__name__} with support {support}, expected the unit interval. "
                "Try dist.Beta(alpha, alpha)."
            )
    elif not bool(((torch.as_tensor(weight) >= 0) & (torch.as_tensor(weight) <= 1)).all()):
        raise ValueError(
            f"fuse got the weight {weight}, expected values in [0, 1]. Try dist.Beta(alpha, alpha) or 0.5."
        )
    return weight


def _point(fused: Any) -> Tensor:
    """The point that carries the whole mass of a (masked) Delta."""
    while not isinstance(fused, dist.Delta):
        fused = fused.base_dist
    point: Tensor = fused.v
    return point
