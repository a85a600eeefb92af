"""The labels of fused rows: drawn around both rows' labels, or their expectation taken."""

from __future__ import annotations

__all__ = ["Labels", "LabelsOf", "Perturbation", "check_same_labels"]

from typing import Any, Literal, NamedTuple

import torch
from pyro.distributions import is_validation_enabled
from pyro.distributions.util import broadcast_shape
from torch import Tensor
from torch.distributions import Distribution

from pyro_probmix.fusing.algorithms import LabelScores, drawn_labels, scores_nothing
from pyro_probmix.fusing.edge_weights import same_weight
from pyro_probmix.fusing.kernels.defaults import default_kernel
from pyro_probmix.fusing.kernels.kernels import ExpectedLikelihood, Kernel, Partners
from pyro_probmix.fusing.kernels.spread import checked_beta
from pyro_probmix.fusing.rows import Rows
from pyro_probmix.fusing.sites import refuse_nan, told
from pyro_probmix.pooling import linear_pool

Labels = Literal["sample", "expected"]


class Perturbation:
    """Perturbs the labels of a response of fused rows.

    Args:
        beta, kernel, labels: see :func:`~pyro_probmix.fuse`.

    Raises:
        ValueError: for other labels, a beta that is negative, what is no kernel, or a kernel beside a beta.
    """

    def __init__(self, beta: float | Tensor, kernel: Kernel | None, labels: Labels) -> None:
        if not isinstance(labels, str) or labels not in ("sample", "expected"):
            raise ValueError(f"fuse got labels={labels!r}, expected 'sample' or 'expected'. Try labels='sample'.")
        if kernel is not None and not isinstance(kernel, Kernel):
            raise ValueError(
                f"fuse got kernel={kernel!r}, expected a Kernel. Try kernel=GaussianKernel(0.01), or kernel=None."
            )
        if kernel is not None and not (isinstance(beta, float | int) and beta == 0):
            raise ValueError(
                f"fuse got beta={beta} beside the kernel {type(kernel).__name__}, expected one of the two. "
                "Try a kernel with that beta."
            )
        self.beta = checked_beta(beta)
        self.kernel = kernel
        self.labels: Labels = labels

    def __call__(
        self,
        msg: Any,
        at: str,
        plates: frozenset[str],
        rows: Rows,
        weights: Tensor,
        scores: LabelScores,
        linearly: bool = False,
    ) -> None:
        """Changes the message of a response.

        Args:
            msg: the message, as Pyro's handlers get it.
            at: name of the fused site.
            plates: names of the plates of the fused site.
            rows: the fused rows.
            weights: as each row sees them, see :meth:`Rows.weights`.
            scores: those of labels drawn before, to which that of these is added.
            linearly: whether the labels' kernels are pooled linearly, whatever the kernel's own pool is.

        Raises:
            ValueError: if the labels are not one for each row, the response is not in all of the plates, or its labels
                cannot be perturbed.
        """
        _check_labels(msg, rows)
        if is_validation_enabled() and not scores_nothing():  # looking at values waits for the device
            refuse_nan(msg)
        fn = msg["fn"]
        missing = plates - {frame.name for frame in msg["cond_indep_stack"]}
        if missing:
            raise ValueError(
                f"site {msg['name']!r} is not in the plate {min(missing)!r} of the fused site {at!r}, expected all plates "
                "of that, since a label is perturbed for each fused density. Try fusing a site in fewer plates."
            )
        with told(f"the labels of site {msg['name']!r} cannot be perturbed"):
            perturbed = self._perturbed(fn, msg["value"], rows, weights, linearly)
        if self.labels == "expected":
            msg["fn"] = ExpectedLikelihood(fn, perturbed)
        else:
            msg["value"] = drawn_labels(msg, perturbed)
            scores.add(msg, perturbed, msg["value"])

    def _perturbed(self, fn: Any, y: Tensor, rows: Rows, weights: Tensor, linearly: bool) -> Distribution:
        """The distribution of the perturbed labels."""
        kernel = default_kernel(fn, self._beta(rows, y.device)) if self.kernel is None else self.kernel
        event_shape = y.shape[y.dim() - fn.event_dim :]
        # The plates, and draws to the left of them.
        batch_shape = broadcast_shape(
            fn.batch_shape,
            y.shape[: y.dim() - fn.event_dim],
            weights.shape[: None if rows.num_fused == 2 else -1],
        )

        def pooled(own: Tensor, partner: Partners, weight: Tensor) -> Distribution:
            labels = kernel.pooled(own, partner, weight, fn.event_dim)
            _check_pooled(labels, kernel, batch_shape + event_shape)
            return labels

        partners = rows.partners(y, fn.event_dim)
        if not linearly:
            return pooled(y, partners[0] if len(partners) == 1 else partners, weights)
        one = weights.new_ones(())  # each label by itself
        first, *others = (pooled(label, label, one) for label in (y, *partners))
        return linear_pool(first, others, weights)

    def _beta(self, rows: Rows, device: torch.device) -> float | Tensor:
        """The spread, 0 at rows that are not fused: they keep their labels."""
        if not rows.add_unfused_rows or (not isinstance(self.beta, Tensor) and self.beta == 0):
            return self.beta
        if isinstance(self.beta, Tensor):
            beta = self.beta.to(device, torch.get_default_dtype())
        else:  # filled there: a copy from the host would wait for the device
            beta = torch.full((), self.beta, dtype=torch.get_default_dtype(), device=device)
        return torch.where(rows.is_unfused(device), 0.0, beta)


class LabelsOf(NamedTuple):
    """What the labels of a response are perturbed by: a weight, as it was given, rows and their perturbation."""

    weight: Any
    rows: Rows
    perturbation: Perturbation


def check_same_labels(site: str, one: LabelsOf, other: LabelsOf) -> None:
    """Raises ValueError unless two handlers, of which one perturbs the labels of a site, would perturb them alike."""
    ours, theirs = one.perturbation, other.perturbation
    if not same_weight(one.weight, other.weight):
        differ, same = "of two weights, expected one weight for a label", "the same weight"
    elif one.rows != other.rows:
        differ, same = f"along the plates {other.rows.plate!r} and {one.rows.plate!r}, expected one", "the same plate"
    elif ours.kernel is not theirs.kernel or ours.labels != theirs.labels or not same_weight(ours.beta, theirs.beta):
        differ, same = "with different beta, kernel or labels, expected the same", "the same ones"
    else:
        return
    raise ValueError(
        f"the labels of site {site!r} are perturbed by two handlers {differ}. Try fuse(model, at=('z', 'y'), ...), or {same} "
        "in both."
    )


def _check_pooled(labels: Any, kernel: Kernel, wanted: torch.Size) -> None:
    """Raises ValueError unless a kernel gave a distribution whose draws broadcast to the wanted shape."""
    if not isinstance(labels, Distribution):
        raise ValueError(
            f"{type(kernel).__name__}.pooled gave a {type(labels).__name__}, expected a distribution. "
            "Try dist.Delta(label, event_dim=event_dim)."
        )
    drawn = labels.batch_shape + labels.event_shape
    if len(drawn) > len(wanted) or any(
        a not in (1, b) for a, b in zip(reversed(drawn), reversed(wanted), strict=False)
    ):
        raise ValueError(
            f"their distribution has draws of shape {tuple(drawn)}, expected no larger ones than the labels, {tuple(wanted)}. "
            "Try a beta that is a number, or one for each replica, [R, 1]."
        )


def _check_labels(msg: Any, rows: Rows) -> None:
    """Raises ValueError unless the labels are one for each row."""
    y, event_shape = msg["value"], tuple(msg["fn"].event_shape)
    if not isinstance(y, Tensor):
        raise ValueError(
            f"site {msg['name']!r} got labels of type {type(y).__name__}, expected a tensor. Try torch.as_tensor(y)."
        )
    dim = rows.dim - len(event_shape)
    if y.dim() < -dim or y.shape[dim] != rows.size:
        wanted = ", ".join(["...", str(rows.size), *(":" for _ in range(-1 - rows.dim)), *map(str, event_shape)])
        raise ValueError(
            f"site {msg['name']!r} got labels of shape {tuple(y.shape)}, expected [{wanted}], one for each row of the plate "
            f"{rows.plate!r}. Try y.reshape."
        )
