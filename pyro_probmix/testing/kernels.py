"""The check of a label kernel: the density around a label, pooled for two or more labels."""

from __future__ import annotations

__all__ = ["check_kernel"]

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from pyro_probmix.fusing.kernels.kernels import Kernel
from pyro_probmix.names import name_of
from pyro_probmix.testing.devices import each_device
from pyro_probmix.testing.grids import total_mass
from pyro_probmix.testing.invariants import Invariants, demand, demand_close

_DRAWS = 1000
#: From the spread beta to a kernel: a class, or a function.
MakeKernel = Callable[[float], Kernel]


@dataclass(frozen=True)
class Labelled:
    """A kernel and labels to put it around.

    Attributes:
        make: from beta to the kernel; None for a kernel that has none.
        kernel: the kernel of the middle beta.
        tiny: the very small beta.
        y: labels ``[B, *event]``.
        partner: other labels, the same in another order.
        support: of a label, if it is known.
    """

    make: MakeKernel | None
    kernel: Kernel
    tiny: float
    y: Tensor
    partner: Tensor
    support: constraints.Constraint | None

    @property
    def event_dim(self) -> int:
        """The number of event dimensions of a label."""
        return self.y.dim() - 1

    @property
    def weight(self) -> Tensor:
        """Weights ``[B]``, both ends among them."""
        return torch.linspace(0.0, 1.0, len(self.y), dtype=torch.float64)

    def pooled(self, y: Any, partner: Any, weight: Tensor, kernel: Kernel | None = None) -> Any:
        """What the kernel makes of labels, of the check's own by default."""
        real = y.dtype if y.is_floating_point() else torch.float64
        return (kernel or self.kernel).pooled(y, partner, weight.to(real), self.event_dim)


KERNEL: Invariants[Labelled] = Invariants("kernel")


def check_kernel(
    kernel: Kernel | MakeKernel,
    y: Tensor,
    *,
    betas: tuple[float, float] = (0.1, 1e-6),
    support: constraints.Constraint | None = None,
    skip: Collection[str] = (),
) -> None:
    r"""Checks a label kernel on some labels.

    It looks at: ``"shape"``, ``"normalisation"``, ``"support"``, ``"unanimity"``, ``"symmetry"``, ``"ends"`` (a weight of 1
    leaves the partner out), ``"several labels"``, ``"expansion"``, ``"Dirac limit"`` (at :math:`\beta = 0` the kernel is a
    point at the label), ``"dtype"``, ``"seed"`` and ``"device"``.

    Args:
        kernel: from the spread :math:`\beta` to a kernel: its class, or a function; or a kernel that has no spread, which
            is left out of "Dirac limit" then.
        y: at least four labels that differ, ``[B]`` or ``[B, *event]``. Of numbers ``[B]``, the invariant "shape" is checked
            on ``[B, 1]`` as well.
        betas: a middle and a very small spread.
        support: the constraint that a label meets, such as ``constraints.positive``; None checks no draws by it.
        skip: names of invariants that are left out.

    Raises:
        BrokenInvariant: an ``AssertionError`` that names the invariant, what was found and what was expected.
        TypeError: if the first argument is no kernel and makes none.
        ValueError: if there are fewer than four labels, or all are equal.

    Example:
        >>> import torch
        >>> from pyro_probmix import BiasedCategoricalKernel, GaussianKernel
        >>> from pyro_probmix.testing import check_kernel
        >>> check_kernel(GaussianKernel, torch.tensor([[0.5], [-1.0], [2.0], [0.0]]))
        >>> check_kernel(lambda beta: BiasedCategoricalKernel(beta, num_classes=3), torch.tensor([0, 2, 1, 2]))
    """
    if not isinstance(y, Tensor) or y.dim() < 1 or len(y) < 4 or bool((y == y[:1]).all()):
        raise ValueError("check_kernel needs at least four labels that differ. Try torch.tensor([0.5, 1.0, 2.0, 4.0]).")
    own = kernel if isinstance(kernel, Kernel) else kernel(betas[0])
    if not isinstance(own, Kernel):
        raise TypeError(
            f"check_kernel got something that makes a {name_of(own)}, expected a Kernel. Try check_kernel(MyKernel, y)."
        )
    make = None if isinstance(kernel, Kernel) else kernel
    labels = y.double() if y.is_floating_point() else y
    KERNEL.hold(name_of(own), Labelled(make, own, betas[1], labels, labels.roll(1, 0), support), skip)
    if y.dim() == 1 and y.is_floating_point():  # a table's responses are [B, 1]
        columns = labels.unsqueeze(-1)
        others = {*KERNEL.all} - {"shape"} | {*skip}
        KERNEL.hold(name_of(own), Labelled(make, own, betas[1], columns, columns.roll(1, 0), support), others)


@KERNEL.add("shape", "pooled is a distribution with a batch of labels, and draws of the labels' shape")
def _shape(s: Labelled) -> None:
    event_shape = tuple(s.y.shape[1:])
    for lead in ((), (3,), (5, 1)):
        weight = s.weight.expand(*lead, -1)
        p = s.pooled(s.y, s.partner, weight)
        demand(isinstance(p, Distribution), f"a {type(p).__name__}", "a distribution")
        batch = tuple(weight.shape)
        found = tuple(p.batch_shape), tuple(p.event_shape)
        demand(
            found == (batch, event_shape),
            f"batch and event shapes {found[0]} and {found[1]}",
            f"{batch} and {event_shape}",
        )
        draw = p.sample()
        demand(
            tuple(draw.shape) == batch + event_shape, f"draws of shape {tuple(draw.shape)}", f"{batch + event_shape}"
        )
        score = p.log_prob(draw)
        demand(score.shape == p.batch_shape, f"log densities of shape {tuple(score.shape)}", f"{batch}")
        demand((score.isfinite()).all(), "a draw without a finite log density", "finite ones")


@KERNEL.add("normalisation", "the density of a perturbed label integrates or sums to one")
def _normalisation(s: Labelled) -> None:
    p = s.pooled(s.y, s.partner, s.weight)
    draws = p.sample((_DRAWS,))
    masses = total_mass(p, draws)
    for row in range(len(s.y)):
        points, counts = draws[:, row].unique(dim=0, return_counts=True)
        if masses is not None and (p.support.is_discrete or not _are_points(p, points)):
            total = float(masses[row].flatten()[(masses[row] - 1).abs().argmax()])
            demand(abs(total - 1) <= 1e-4, f"a density with a total of {total:.6g} in row {row}", "1")
        elif p.support.is_discrete or _are_points(p, points):
            given = s.y.to(draws.dtype).expand(len(points), *s.y.shape).clone()
            given[:, row] = points
            total = float(p.log_prob(given)[:, row].exp().sum())
            # What is not among the draws has about the probability of what came once.
            missing = 0.05 + 2 * float((counts == 1).sum()) / _DRAWS
            demand(1 - missing <= total <= 1 + 1e-6, f"probabilities of {total:.6g} in all in row {row}", "1")


def _are_points(p: Any, points: Tensor) -> bool:
    """Whether a row's draws, without repeats, are points of a continuous support."""
    return not p.support.is_discrete and len(points) <= _DRAWS // 10


@KERNEL.add("support", "perturbed labels lie in the support of labels")
def _support(s: Labelled) -> None:
    if s.support is None:
        return
    draws = s.pooled(s.y, s.partner, s.weight).sample((_DRAWS,))
    outside = draws[~s.support.check(draws)]
    demand(not len(outside), f"a draw of {outside.flatten()[:1].tolist()}", f"draws in {s.support}")


def _same(s: Labelled, p: Any, q: Any, of: str) -> None:
    """Demands that two distributions are one, by their log densities at draws of both."""
    for first, second in ((p, q), (q, p)):
        draws, others = first.sample((50,)), second.sample((_DRAWS,))
        rows = [_are_points(second, others[:, row].unique(dim=0)) for row in range(len(s.y))]
        at = draws.clone()
        for row, are_points in enumerate(rows):
            if are_points:  # which may differ in the last digit
                points = others[:, row].unique(dim=0)
                distance = (draws[:, row].unsqueeze(1) - points).double().abs().reshape(50, len(points), -1).amax(-1)
                near = points[distance.argmin(1)]
                away = distance.amin(1).max()
                demand(away <= 1e-5, f"a draw that is {away:.3g} away from all draws of {of}", "the same values")
                at[:, row] = near
        shown = draws if first is p else at
        other = at if first is p else draws
        demand_close(p.log_prob(shown), q.log_prob(other), "a log density", f"that of {of}", 1e-6, 1e-6)


@KERNEL.add("unanimity", "two equal labels give the kernel around them, whatever the weight")
def _unanimity(s: Labelled) -> None:
    _same(s, s.pooled(s.y, s.y, s.weight), s.pooled(s.y, s.y, torch.ones_like(s.weight)), "the kernel around the label")


@KERNEL.add("symmetry", "exchanging the labels together with their weights changes nothing")
def _symmetry(s: Labelled) -> None:
    exchanged = s.pooled(s.partner, s.y, 1 - s.weight)
    _same(s, s.pooled(s.y, s.partner, s.weight), exchanged, "the exchanged labels")


@KERNEL.add("ends", "a weight of 1 leaves the partner's label out, and one of 0 the own label")
def _ends(s: Labelled) -> None:
    one, zero = torch.ones_like(s.weight), torch.zeros_like(s.weight)
    _same(s, s.pooled(s.y, s.partner, one), s.pooled(s.y, s.y, one), "the kernel around the own label")
    around = s.pooled(s.partner, s.partner, one)
    _same(s, s.pooled(s.y, s.partner, zero), around, "the kernel around the partner's label")


@KERNEL.add("several labels", "a list of partners is taken with weights on the simplex; one of weight 0 has no part")
def _several(s: Labelled) -> None:
    third, w = s.y.roll(2, 0), s.weight
    three = s.pooled(s.y, [s.partner, third], torch.stack([w, 1 - w, torch.zeros_like(w)], -1))
    _same(s, three, s.pooled(s.y, s.partner, w), "the two labels of positive weight")
    weights = torch.stack([w / 2, (1 - w) / 4 + w / 4, (1 - w) * 3 / 4 + w / 4], -1)
    turned = s.pooled(s.y, [third, s.partner], weights[..., [0, 2, 1]])
    _same(s, s.pooled(s.y, [s.partner, third], weights), turned, "the partners in another order")
    equal = s.pooled(s.y, [s.y, s.y], torch.stack([w, (1 - w) / 2, (1 - w) / 2], -1))
    _same(s, equal, s.pooled(s.y, s.y, torch.ones_like(w)), "the kernel around the label")


@KERNEL.add("expansion", "expand gives the same density over a larger batch")
def _expansion(s: Labelled) -> None:
    p = s.pooled(s.y, s.partner, s.weight)
    large = p.expand((3, *p.batch_shape))
    draws = large.sample()
    wanted = (3, *s.y.shape)
    demand(tuple(draws.shape) == wanted, f"draws of shape {tuple(draws.shape)} after expand", f"{wanted}")
    demand_close(large.log_prob(draws), p.log_prob(draws), "a log density after expand", "that before")


@KERNEL.add("Dirac limit", "at beta=0 the kernel is a point at the label, which small spreads come close to")
def _dirac_limit(s: Labelled) -> None:
    if s.make is None:
        return
    one, zero = torch.ones_like(s.weight), torch.zeros_like(s.weight)
    for weight, label, whose in ((one, s.y, "own"), (zero, s.partner, "partner's")):
        draws = s.pooled(s.y, s.partner, weight, s.make(0.0)).sample((100,)).double()
        away = float(((draws - label).abs() / (1 + label.abs())).max())
        demand(away <= 1e-6, f"a draw that is {away:.3g} away from the {whose} label at beta=0", "that label")
    near = s.pooled(s.y, s.partner, one, s.make(s.tiny)).sample((100,)).double()
    away = float(((near - s.y).abs() / (1 + s.y.abs())).mean())
    demand(away <= 0.05, f"draws that are {away:.3g} away from the label at beta={s.tiny:g}", "at most 0.05")


@KERNEL.add("dtype", "float32 labels give float32 draws")
def _dtype(s: Labelled) -> None:
    if not s.y.is_floating_point():
        return
    draws = s.pooled(s.y.float(), s.partner.float(), s.weight).sample()
    demand(draws.dtype == torch.float32, f"draws of {draws.dtype}", "torch.float32")


@KERNEL.add("seed", "draws follow from torch's random numbers alone")
def _seed(s: Labelled) -> None:
    drawn = []
    for _ in range(2):
        torch.default_generator.manual_seed(3)
        drawn.append(s.pooled(s.y, s.partner, s.weight).sample((20,)))
    demand(torch.equal(*drawn), "other draws from the same seed", "the same ones")


@KERNEL.add("device", "all tensors are made on the labels' device, and no value is read back from it")
def _device(s: Labelled) -> None:
    for device in each_device():
        with device as like, pyro.validation_enabled(False):
            y, partner, weight = (x.to(like.device) for x in (s.y, s.partner, s.weight))
            p = s.pooled(y, partner, weight)
            score = p.log_prob(y.to(weight.dtype) if p.support is constraints.real else y)
            demand(score.device.type == like.device.type, f"log densities on {score.device}", f"{like.device}")
            drawn = p.sample()
            demand(drawn.device.type == like.device.type, f"draws on {drawn.device}", f"{like.device}")
