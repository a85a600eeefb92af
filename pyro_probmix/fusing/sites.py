"""Which sites are fused, which are responses, and which have no density that could be fused."""

from __future__ import annotations

__all__ = [
    "Sites",
    "check_met",
    "checked_names",
    "find_event_dim",
    "is_reparameterised",
    "is_response",
    "point_of",
    "refuse_factor",
    "refuse_intervention",
    "refuse_nan",
    "refuse_without_density",
    "told",
]

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from pyro.poutine.do_messenger import DoMessenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor

from pyro_probmix.fusing.kernels.defaults import leaves
from pyro_probmix.fusing.rows import Rows, size_at


class Sites:
    """Names of sites to fuse at; ``*`` in a name stands for any text, as in ``"y_*"``."""

    def __init__(self, at: str | Sequence[str]) -> None:
        self.names = checked_names("at", at)
        if not self.names:
            raise ValueError(f"fuse got at={at!r}, expected the name of a site, or several. Try at='y'.")
        self._patterns = {
            name: re.compile(".*".join(map(re.escape, name.split("*"))), re.DOTALL)
            for name in self.names
            if "*" in name
        }

    def match(self, site: str) -> bool:
        """Whether a site is one of them."""
        return site in self.names or any(pattern.fullmatch(site) for pattern in self._patterns.values())

    def missing(self, seen: Sequence[str]) -> str | None:
        """The first of the names that none of the sites has, if there is one."""
        for name in self.names:
            pattern = self._patterns.get(name)
            if name not in seen and not (pattern and any(pattern.fullmatch(site) for site in seen)):
                return name
        return None

    def __str__(self) -> str:
        return repr(self.names[0] if len(self.names) == 1 else self.names)


def checked_names(argument: str, names: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names as a tuple; None gives none.

    Raises:
        ValueError: if they are not texts.
    """
    given = (names,) if isinstance(names, str) else names
    if isinstance(given, tuple) and not given:
        return ()
    if not isinstance(given, tuple | list | Sequence | None) or not all(isinstance(name, str) for name in given or ()):
        raise ValueError(f"fuse got {argument}={names!r}, expected a name, or several. Try {argument}='data'.")
    return tuple(given or ())


def check_met(argument: str, names: Iterable[str], met: Sequence[str], what: str) -> None:
    """Raises ValueError for a name that is none of those that were met."""
    unknown = next((name for name in names if name not in met), None)
    if unknown is not None:
        raise ValueError(
            f"fuse({argument}={unknown!r}) met no such name, expected some of the {what}, "
            f"{', '.join(map(repr, met)) or 'none'}. Try one of these, or leave {argument} out."
        )


def is_response(msg: Any) -> bool:
    """Whether a site is an observed one with a density of its own; its value is then a label."""
    return bool(msg["is_observed"]) and not msg["infer"].get("_deterministic", False) and not is_reparameterised(msg)


def is_reparameterised(msg: Any) -> bool:
    """Whether a reparameterizer has put a point, observed and without a density, in the place of the site's density."""
    fn = msg["fn"]
    while isinstance(fn, ExpandedDistribution):
        fn = fn.base_dist
    return isinstance(fn, MaskedDistribution) and fn._mask is False and isinstance(fn.base_dist, dist.Delta)


def refuse_without_density(msg: Any, seen: Sequence[str]) -> None:
    """Raises ValueError for a site that is fused already, or has no one density: half observed, reparameterised, a factor."""
    site = msg["name"]
    if msg["infer"].get("_fused", False) and msg.get("_intervener_id") is not None:
        raise ValueError(
            f"site {site!r} is set by poutine.do outside of fuse, where its density is fused already, expected inside. "
            "Try fuse(poutine.do(model, data), ...)."
        )
    if msg["infer"].get("_fused", False):
        raise ValueError(f"site {site!r} is fused by two handlers, expected one. Try fuse(..., num_fused=3).")
    if f"{site}_observed" in seen:
        raise ValueError(
            f"site {site!r} has an obs_mask, under which Pyro makes two sites of it, expected one density. "
            "Try poutine.mask around the site, with any value in the place of the missing ones."
        )
    if bool(msg["is_observed"]) and not msg["infer"].get("_deterministic", False) and is_reparameterised(msg):
        raise ValueError(
            f"site {site!r} is an observed point without a density, as reparameterised inside of fuse, expected the "
            "density. Try fuse without the reparameterizer of the site, or pyro.deterministic for a point; of normal "
            "densities, whose log-linear pool is normal, poutine.reparam(fuse(model, ...), config) does too."
        )
    refuse_factor(msg, "a number for each row and no density, which could be pooled with that of another row")


def refuse_intervention(msg: Any, rows: Rows) -> None:
    """Raises ValueError for a site that ``poutine.do`` inside of fuse sets to another value in each row.

    What comes after the site sees these values, which fuse does not meet, so that they would not be mixed as labels are.
    """
    site, intervener = msg["name"], msg.get("_intervener_id")
    if intervener is None:
        return
    for handler in _PYRO_STACK:
        if not (isinstance(handler, DoMessenger) and handler._intervener_id == intervener):
            continue
        value, dim = torch.as_tensor(handler.data[site]), rows.dim - msg["fn"].event_dim
        if -dim <= value.dim() and not torch.equal(value, value.roll(rows.shift, dim)):
            raise ValueError(
                f"site {site!r} is set by poutine.do inside of fuse, to values that differ between the rows, expected one that "
                f"all rows share, since such values are not mixed. Try pyro.deterministic({site!r}, value, event_dim=...), "
                "which is."
            )


def refuse_nan(site: Any) -> None:
    """Raises ValueError for labels that are NaN, which a mask does not keep out of the gradients, nor out of other labels."""
    value, taking = site["value"], (dist.NanMaskedNormal, dist.NanMaskedMultivariateNormal)
    if not value.is_floating_point() or all(isinstance(leaf, taking) for leaf in leaves(site["fn"])):
        return
    if bool(value.isnan().any()):
        raise ValueError(
            f"site {site['name']!r} observes NaN, expected numbers: under a mask, too, the gradients would be NaN. "
            "Try y.nan_to_num() beside the mask."
        )


def refuse_factor(msg: Any, reason: str, advice: str = "") -> None:
    """Raises ValueError for a site of ``pyro.factor``."""
    fn = msg["fn"]
    while isinstance(fn, ExpandedDistribution | MaskedDistribution):
        fn = fn.base_dist
    if isinstance(fn, dist.Unit):
        raise ValueError(
            f"site {msg['name']!r} is a factor, {reason}, expected a sample site with a distribution. "
            f"Try pyro.sample({msg['name']!r}, distribution, obs=y){advice}."
        )


def find_event_dim(msg: Any, rows: Rows) -> None:
    """Gives a deterministic site that was made without ``event_dim`` the one that its plates tell, in place.

    Raises:
        ValueError: if none or several would fit.
    """
    value: Tensor = msg["value"]
    if msg["fn"].event_dim < value.dim():
        return
    # Made without it, all dimensions are one event, and the plates have expanded that.
    frames = [frame for frame in msg["cond_indep_stack"] if frame.vectorized]

    def fits(event_dim: int) -> bool:
        sizes = {frame.name: size_at(value.shape, frame.dim - event_dim) for frame in frames}
        return sizes[rows.plate] == rows.size and all(sizes[frame.name] in (1, frame.size) for frame in frames)

    found = [event_dim for event_dim in range(value.dim()) if fits(event_dim)]
    if len(found) != 1:
        plates = ", ".join(f"{frame.name!r} of {frame.size} at dim={frame.dim}" for frame in frames)
        likely = max(value.dim() + min(frame.dim for frame in frames), 0)
        raise ValueError(
            f"site {msg['name']!r} is a point of shape {tuple(value.shape)} without event_dim, which Pyro takes for one "
            f"event, expected it said which of its dimensions are those of the plates ({plates}). "
            f"Try pyro.deterministic({msg['name']!r}, value, event_dim={likely})."
        )
    msg["fn"] = dist.Delta(value, event_dim=found[0]).mask(False)


def point_of(site: str, fused: Any) -> Tensor:
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


@contextmanager
def told(what: str) -> Iterator[None]:
    """Says what could not be done in front of an error's own sentence."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{what}: {error}") from error
