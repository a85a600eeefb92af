"""Methods beyond the paper's, and ensembles of any: more choices of the same kind, as data."""

from __future__ import annotations

__all__ = ["BEYOND", "find_method"]

import re
from dataclasses import replace

from pyro_probmix.arguments import checked
from pyro_probmix.models.methods import METHODS, Method

#: Methods that the paper does not have. The letters before a name say what differs, as Loc and M do in the paper; what
#: follows a hyphen at its end belongs to the response or the criterion.
BEYOND: dict[str, Method] = {
    # Partners with a similar response (Yao et al., 2022, whose alpha is 2 for tables), and the same at the other sites.
    "C-Mixup": Method("x", "label-kernel", alpha=2.0),
    "C-ProbMix": Method("y", "label-kernel"),
    "C-M-ProbMix": Method("z", "label-kernel", variance="shared"),
    # Rows are mixed more, the more alike their responses are (Bouniot et al., 2025), at any site.
    "SK-Mixup": Method("x", "complete", alpha=1.0, similarity="y"),
    "SK-ProbMix": Method("y", "complete", alpha=1.0, similarity="y"),
    "SK-M-ProbMix": Method("z", "complete", variance="shared", alpha=1.0, similarity="y"),
    # Maximum likelihood on pseudo-rows beside the rows: mixed ones, all rows with weights from a Dirichlet distribution (Wu
    # and Williamson, 2024), moved to or from anchors (Schneider et al., 2023), or along tangents (Kaufman and Azencot, 2024).
    "MixupMP": Method(pseudo_rows="mixed", alpha=1.0),
    "ADA": Method(pseudo_rows="anchored"),
    "FOMA": Method(pseudo_rows="tangent", alpha=1.0),
    # The rows' own likelihood beside the fused one (Pinto et al., 2022, whose alpha is 10 or 20), at any site.
    "RegMixup": Method("x", "complete", add_unfused_rows=True, alpha=10.0),
    "RegProbMix": Method("y", "complete", add_unfused_rows=True, alpha=10.0),
    "RegM-ProbMix": Method("z", "complete", variance="shared", add_unfused_rows=True, alpha=10.0),
    # Four rows at once, with weights from a Dirichlet distribution.
    "4-ProbMix": Method("y", "complete", num_fused=4),
    "Loc4-ProbMix": Method("y", "nearest", num_fused=4),
    "4M-ProbMix": Method("z", "complete", variance="shared", num_fused=4),
    "Loc4M-ProbMix": Method("z", "nearest", variance="shared", num_fused=4),
    # Mixtures of the densities, eq. (17).
    "LinProbMix": Method("y", "complete", pool="linear"),
    "LocLinProbMix": Method("y", "nearest", pool="linear"),
    "LinM-ProbMix": Method("z", "complete", pool="linear", variance="shared"),
    # Rows of a large variance keep their weight in the gradient (Seitzer et al., 2022).
    "ERM-beta": Method(criterion="beta-nll"),
    "ProbMix-beta": Method("y", "complete", criterion="beta-nll"),
    "M-ProbMix-beta": Method("z", "complete", variance="shared", criterion="beta-nll"),
    # One scale for all rows.
    "ERM-hom": Method(likelihood="homoscedastic"),
    "ProbMix-hom": Method("y", "complete", likelihood="homoscedastic"),
    "M-ProbMix-hom": Method("z", "complete", variance="shared", likelihood="homoscedastic"),
    # Heavy tails, whose log-linear pool has no closed form and takes hundreds of times as long: at the response the linear one.
    "ERM-t": Method(likelihood="student-t"),
    "LinProbMix-t": Method("y", "complete", pool="linear", likelihood="student-t"),
    "M-ProbMix-t": Method("z", "complete", variance="shared", likelihood="student-t"),
    # The log-expected likelihood (Appendix B), with draws enough for the logarithm to be of a mean.
    "ProbMix-log": Method("y", "complete", criterion="log-expected", draws=(8, 1)),
    "M-ProbMix-log": Method("z", "complete", variance="shared", criterion="log-expected", draws=(8, 8)),
}

_ENSEMBLE = re.compile(r"([1-9][0-9]*)x(.+)")


@checked()
def find_method(name: str) -> Method:
    """The method of a name in ``METHODS`` or ``BEYOND``, or an ensemble: "5xM-ProbMix" is five networks of that method.

    Raises:
        ValueError: if there is no such method.

    References:
        Lakshminarayanan et al. (2017), Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles.

    Example:
        >>> from pyro_probmix.models import find_method
        >>> find_method("5xERM").members
        5
    """
    if name in METHODS:
        return METHODS[name]
    if name in BEYOND:
        return BEYOND[name]
    ensemble = _ENSEMBLE.fullmatch(name)
    if ensemble is None or _ENSEMBLE.fullmatch(ensemble[2]):
        raise ValueError(
            f"unknown method {name!r}, expected one of {', '.join((*METHODS, *BEYOND))}, or an ensemble of one. "
            "Try 'ERM', or '5xERM' for five of them."
        )
    return replace(find_method(ensemble[2]), members=int(ensemble[1]))
