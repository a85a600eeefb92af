"""The design of the audit: choices at two levels each, and the settings that are run, all or a regular fraction."""

from __future__ import annotations

__all__ = ["PARTS", "Factor", "Part", "Point", "canonical", "design", "factors_of", "methods_of", "part_of"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from typing import Any

from pyro_probmix.experiments.config import EXPERIMENTS, Config
from pyro_probmix.experiments.data.uci import UCI_DATASETS
from pyro_probmix.models import METHODS, Method, find_method


@dataclass(frozen=True)
class Factor:
    """A choice of two.

    Attributes:
        name: short.
        ours: the level that is ours, in words.
        other: the other level.
        changes: entries of the configuration at the other level.
        touches: whether a method depends on it.
    """

    name: str
    ours: str
    other: str
    changes: Mapping[str, Any]
    touches: Callable[[Method], bool]


@dataclass(frozen=True)
class Part:
    """A data set of the audit.

    Attributes:
        config: of our setting.
        factors: the choices, by their names.
        generators: the fraction: the sign of such a factor, -1 at our level and 1 at the other, is the product of the signs
            of those that it names. Words of three names keep all of our levels among the settings.
    """

    config: Config
    factors: tuple[Factor, ...]
    generators: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)


#: A setting: the level of each factor, True for the other one than ours.
Point = Mapping[str, bool]


def _any(method: Method) -> bool:
    return True


def _scaled(method: Method) -> bool:
    """Another likelihood than the Gaussian, or categorical, maps its scale in its own way."""
    return method.likelihood is None or _drawn(method)


def _fused(method: Method) -> bool:
    return method.site is not None


def _weighted(method: Method) -> bool:
    return _fused(method) and method.alpha is None


def _embedded(method: Method) -> bool:
    return method.site == "z"


def _drawn(method: Method) -> bool:
    return method.variance is not None


_TARGETS = Factor("targets", "standardised", "in their units", {"targets": "raw"}, _any)
_SCALE = Factor("scale", "softplus, floor 0.001", "exp(r / 2), no floor", {"scale": "exp", "scale_floor": 0.0}, _scaled)
_EMBEDDING = Factor("embedding", "after its activation", "before it", {"before_activation": True}, _embedded)
_START = Factor("start", "r - 3", "r", {"scale_start": 0.0}, _drawn)
_LAYERS = Factor("variance network", "shares the layer", "one layer of its own", {"variance_layers": 1}, _drawn)
_WEIGHT = Factor("weight", "one for a pair", "one for a batch", {"weight": "batch"}, _fused)
_ALPHA = Factor("alpha", "0.1", "1", {"alpha": 1.0}, _weighted)
_BETA = Factor("beta", "0", "0.01", {"beta": 0.01}, _fused)
_BATCH = Factor("batch", "32 rows", "all rows", {"batch_size": None}, _any)

_TOY = {"num_samples": 50, "best_epoch": "both"}


def _uci(name: str) -> Part:
    config = replace(EXPERIMENTS["uci"], dataset=name, best_epoch="both", num_samples=50)
    factors = (_TARGETS, _SCALE, _BATCH, _WEIGHT, _EMBEDDING, _START, _LAYERS)
    generators = {
        "embedding": ("scale", "batch", "weight"),
        "start": ("targets", "batch", "weight"),
        "variance network": ("targets", "scale", "batch"),
    }
    return Part(config, factors, generators)


def _of_drawn(factor: Factor) -> Factor:
    """For classes, whose likelihood has no scale."""
    return replace(factor, touches=_drawn)


_SCALES = replace(_SCALE, other="exp(r / 2), no floor, start r", changes={**_SCALE.changes, "scale_start": 0.0})

#: Name -> a data set of the audit; the first is the toy regression by the two choices that matter most there, with more runs.
PARTS: dict[str, Part] = {
    "lead": Part(
        replace(EXPERIMENTS["toy-regression"], splits=tuple(range(40)), **_TOY),  # type: ignore[arg-type] # mixed options
        (_TARGETS, _SCALES),
    ),
    "toy-regression": Part(
        replace(EXPERIMENTS["toy-regression"], **_TOY),  # type: ignore[arg-type] # mixed options
        (_TARGETS, _SCALE, _EMBEDDING, _WEIGHT, _START, _LAYERS, _ALPHA, _BETA),
        {
            "start": ("scale", "embedding", "weight"),
            "variance network": ("targets", "embedding", "weight"),
            "alpha": ("targets", "scale", "embedding"),
            "beta": ("targets", "scale", "weight"),
        },
    ),
    "toy-classification": Part(
        replace(EXPERIMENTS["toy-classification"], **_TOY),  # type: ignore[arg-type] # mixed options
        (
            _of_drawn(_SCALE),
            _EMBEDDING,
            _WEIGHT,
            _START,
            _LAYERS,
            _ALPHA,
            replace(_BETA, ours="0.01", other="0", changes={"beta": 0.0}),
        ),
        {
            "variance network": ("scale", "embedding", "start"),
            "alpha": ("embedding", "weight", "start"),
            "beta": ("scale", "weight", "start"),
        },
    ),
    **{name: _uci(name) for name in UCI_DATASETS},
}


def part_of(name: str) -> Part:
    """A data set of the audit.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in PARTS:
        raise ValueError(
            f"the audit has no data set {name!r}, expected one of {', '.join(PARTS)}. Try --dataset yacht."
        )
    return PARTS[name]


def design(part: Part, *, full: bool = False) -> list[Point]:
    """The settings: all combinations of levels, or the regular fraction that the generators name; first ours.

    Example:
        >>> from pyro_probmix.experiments.audit.design import design, part_of
        >>> points = design(part_of("toy-regression"))
        >>> len(points), any(points[0].values())
        (16, False)
        >>> sum(point["alpha"] for point in points)  # each level as often
        8
    """
    names = [factor.name for factor in part.factors]
    free = [name for name in names if full or name not in part.generators]
    points: list[Point] = []
    for levels in product((False, True), repeat=len(free)):
        point = dict(zip(free, levels, strict=True))
        for name, word in {} if full else part.generators.items():
            point[name] = prod(1 if point[one] else -1 for one in word) > 0
        points.append({name: point[name] for name in names})
    return points


def factors_of(part: Part, method: str) -> list[Factor]:
    """The choices that a method depends on."""
    of_name = find_method(method)
    return [factor for factor in part.factors if factor.touches(of_name)]


def canonical(part: Part, point: Point, method: str) -> tuple[str, dict[str, Any]]:
    """What a method is run with at a setting: a name and the changes, by those factors alone that it depends on."""
    changed = [factor for factor in factors_of(part, method) if point[factor.name]]
    changes: dict[str, Any] = {}
    for factor in changed:
        changes |= factor.changes
    return "+".join(factor.name.replace(" ", "-") for factor in changed) or "ours", changes


def methods_of(part: Part, chosen: Sequence[str] = ()) -> tuple[str, ...]:
    """The methods of a part: those that are chosen, else all of the paper's tables."""
    starred = part.config.experiment == "uci"
    return tuple(chosen) or tuple(name for name in METHODS if starred or not name.endswith("*"))
