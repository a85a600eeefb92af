"""Invariants of a head's densities: their shape, mass, support and gradients, and that rows and replicas stand alone."""

from __future__ import annotations

__all__ = ["LIKELIHOOD"]

from typing import Any

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin

from pyro_probmix.testing.grids import total_mass
from pyro_probmix.testing.heads import (
    REPLICAS,
    ROWS,
    WIDTH,
    Head,
    features_of,
    first_not_finite,
    gradients_of,
)
from pyro_probmix.testing.invariants import Invariants, demand, demand_close

#: Those of this module come first; :mod:`~pyro_probmix.testing.likelihoods` adds to them.
LIKELIHOOD: Invariants[Head] = Invariants("likelihood")


@LIKELIHOOD.add(
    "shape", "a head makes a Pyro distribution over rows, with replicas over [R, B], whatever draws are to the left"
)
def _shape(s: Head) -> None:
    r, b = REPLICAS, ROWS
    cases = [((b,), None, (b,)), ((5, b), None, (5, b))]
    cases += [((r, b), r, (r, b)), ((b,), r, (r, b)), ((5, r, b), r, (5, r, b))]  # type: ignore[list-item] # r is an int
    events = set()
    for given, replicas, wanted in cases:
        p: Any = s.build(replicas)(features_of(*given))
        demand(isinstance(p, TorchDistributionMixin), f"a {type(p).__name__}", "a distribution of pyro.distributions")
        of = f"from features of shape {[*given, WIDTH]} with replicas={replicas}"
        demand(tuple(p.batch_shape) == wanted, f"batch shape {tuple(p.batch_shape)} {of}", f"{wanted}")
        events.add(tuple(p.event_shape))
        y = s.draw(p)
        demand(
            y.shape == p.batch_shape + p.event_shape, f"draws of shape {tuple(y.shape)} {of}", f"{wanted} and the event"
        )
        score = p.log_prob(y)
        demand(tuple(score.shape) == wanted, f"log densities of shape {tuple(score.shape)} {of}", f"{wanted}")
    possible = {(), (s.num_outputs,)}
    demand(len(events) == 1 and events <= possible, f"event shapes {events}", f"({s.num_outputs},), or () for classes")


@LIKELIHOOD.add("normalisation", "the density of each row integrates or sums to one")
def _normalisation(s: Head) -> None:
    with torch.no_grad():
        # Near zero, where a Beta's or Gamma's density has no more mass at the ends than numbers can tell.
        p = s.build()(0.3 * features_of(REPLICAS, ROWS))
        mass = total_mass(p, p.sample((1000,)))
    if mass is not None:
        worst = float(mass.flatten()[(mass - 1).abs().argmax()])
        demand(abs(worst - 1) <= 1e-3, f"a density with a total of {worst:.6g}", "1")


@LIKELIHOOD.add("support", "draws lie in the support, which is the same for all features")
def _support(s: Head) -> None:
    head = s.build()
    p, q = head(features_of(REPLICAS, ROWS)), head(3 * features_of(REPLICAS, ROWS).flip(1))
    y = s.draw(p)
    demand(p.support.check(y).all(), "a draw outside of the support", "draws inside")
    demand(q.support.check(y).all(), "a draw outside of the support at other features", "one support for all features")


@LIKELIHOOD.add("dtype", "parameters of float32 and of float64 give draws and log densities of their own dtype")
def _dtype(s: Head) -> None:
    head, features = s.build(), features_of(REPLICAS, ROWS)
    y = s.draw(head(features))
    for dtype in (torch.float64, torch.float32):
        label = y.to(dtype) if y.is_floating_point() else y
        p = head.to(dtype)(features.to(dtype))
        drawn = s.draw(p)
        demand(drawn.dtype == dtype or not drawn.is_floating_point(), f"draws of {drawn.dtype}", f"{dtype}")
        score = p.log_prob(label)
        demand(score.dtype == dtype, f"log densities of {score.dtype}", f"{dtype}")


@LIKELIHOOD.add("gradient", "the gradient of the log density in each parameter is the slope of its values")
def _gradient(s: Head) -> None:
    head, features = s.build(), features_of(REPLICAS, ROWS)
    y = s.draw(head(features))
    gradients = gradients_of(head, head(features).log_prob(y).sum())
    step = 1e-5
    for name in gradients:
        parameter = head.get_parameter(name)
        direction = torch.randn_like(parameter)
        values = []
        for way in (step, -2 * step, step):  # the last one goes back
            with torch.no_grad():
                parameter.add_(way * direction)
                values.append(head(features).log_prob(y).sum())
        difference = (values[0] - values[1]) / (2 * step)
        slope = (gradients[name] * direction).sum()
        scale = 1e-4 * (1 + float(difference.abs()))
        demand_close(slope, difference, f"a derivative in {name}", "the slope of the values", 0.0, scale)


@LIKELIHOOD.add("large features", "parameters are valid, log densities and gradients finite, also at large features")
def _large_features(s: Head) -> None:
    head = s.build()
    y = s.draw(head(features_of(REPLICAS, ROWS)))
    for factor in (0.0, 30.0, -30.0):
        score = head(factor * features_of(REPLICAS, ROWS)).log_prob(y)
        demand(
            score.isfinite().all(),
            f"a log density of {first_not_finite(score)} at {factor:g} times the features",
            "finite ones",
        )
        for name, gradient in gradients_of(head, score.sum()).items():
            demand(gradient.isfinite().all(), f"a gradient of {first_not_finite(gradient)} in {name}", "finite ones")


@LIKELIHOOD.add("rows", "a row's density depends on that row's features alone")
def _rows(s: Head) -> None:
    head, features = s.build(), features_of(REPLICAS, ROWS)
    p = head(features)
    y = s.draw(p)
    other = features.clone()
    other[:, 0] += 3.0
    demand_close(
        head(other).log_prob(y)[:, 1:],
        p.log_prob(y)[:, 1:],
        "a log density after another row has changed",
        "that before",
    )


@LIKELIHOOD.add(
    "replicas",
    "a replica has parameters of its own, and nothing that another one is given changes its density or gradient",
)
def _replicas(s: Head) -> None:
    head, features = s.build(), features_of(REPLICAS, ROWS)
    for name, parameter in head.named_parameters():
        demand(
            parameter.dim() > 0 and len(parameter) == REPLICAS,
            f"the parameter {name} of shape {list(parameter.shape)} for {REPLICAS} replicas",
            f"[{REPLICAS}, ...], a part for each replica",
        )
    y = s.draw(head(features))
    healthy = [0, 2]
    before = head(features).log_prob(y)
    slopes = gradients_of(head, before[healthy].sum())
    for name, gradient in slopes.items():
        demand((gradient[1] == 0).all(), f"a gradient in {name} of a replica from the density of another", "0")
    ill = features.clone()
    ill[1] = torch.nan
    with pyro.validation_enabled(False):
        after = head(ill).log_prob(y)
    demand_close(
        after[healthy],
        before[healthy],
        "a log density beside a replica whose features are NaN",
        "that without",
        0.0,
        0.0,
    )
    with torch.no_grad():
        for parameter in head.parameters():
            parameter[1] = torch.nan
    with pyro.validation_enabled(False):
        after = head(features).log_prob(y)
    demand_close(
        after[healthy],
        before[healthy],
        "a log density beside a replica whose weights are NaN",
        "that without",
        0.0,
        0.0,
    )
    for name, gradient in gradients_of(head, after[healthy].sum()).items():
        demand_close(
            gradient[healthy], slopes[name][healthy], f"a gradient in {name} beside a replica at NaN", "that without"
        )
