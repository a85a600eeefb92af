"""The check of a likelihood: the head of a network that makes a density of features, for all replicas at once."""

from __future__ import annotations

__all__ = ["check_likelihood"]

import math
from collections.abc import Collection
from typing import Any

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin

from pyro_probmix.inference import predict
from pyro_probmix.inference.training import fit
from pyro_probmix.models import ProbMix, initialise
from pyro_probmix.names import name_of
from pyro_probmix.pooling import pool_rows
from pyro_probmix.testing.devices import each_device
from pyro_probmix.testing.grids import total_mass
from pyro_probmix.testing.heads import (
    REPLICAS,
    ROWS,
    WIDTH,
    Head,
    MakeHead,
    data_for,
    density_with,
    features_of,
    first_not_finite,
    gradients_of,
)
from pyro_probmix.testing.invariants import Invariants, demand, demand_close

LIKELIHOOD: Invariants[Head] = Invariants("likelihood")


def check_likelihood(likelihood: MakeHead, *, num_outputs: int = 2, skip: Collection[str] = ()) -> None:
    """Check a likelihood, the head of a network.

    It looks at: ``"shape"``, ``"normalisation"``, ``"support"``, ``"dtype"``, ``"gradient"``, ``"large features"``, ``"rows"``
    and ``"replicas"`` (which never touch), ``"seeds"``, ``"saving"``, ``"fusing"``, ``"training"``, ``"prediction"`` and
    ``"device"``.

    Args:
        likelihood: makes a head from (in_features, num_outputs, replicas): a :class:`~pyro_probmix.models.Likelihood`'s class,
            or a function that returns any module.
        num_outputs: number of responses d_y, or of classes.
        skip: names of invariants that are left out.

    Raises:
        BrokenInvariant: an ``AssertionError`` that names the invariant, what was found and what was expected.
        TypeError: if it makes no head: a head itself, for example.

    Example:
        >>> from pyro_probmix.models import Gamma
        >>> from pyro_probmix.testing import check_likelihood
        >>> check_likelihood(Gamma)
    """
    if isinstance(likelihood, torch.nn.Module) or not callable(likelihood):
        given = f"a {name_of(likelihood)} that is made" if isinstance(likelihood, torch.nn.Module) else repr(likelihood)
        raise TypeError(
            f"check_likelihood got {given}, expected its class, or a function from (in_features, num_outputs, replicas) to a "
            "head. Try check_likelihood(MyLikelihood)."
        )
    LIKELIHOOD.hold(name_of(likelihood), Head(likelihood, num_outputs), skip)


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


@LIKELIHOOD.add("seeds", "initialise(head, seeds) decides all initial weights, each replica's by its own seed")
def _seeds(s: Head) -> None:
    heads = []
    for seed in (11, 12):
        torch.default_generator.manual_seed(seed)
        head = s.make(WIDTH, s.num_outputs, REPLICAS)
        initialise(head, [5, 7, 5])
        heads.append(dict(head.named_parameters()))
    for name, parameter in heads[0].items():
        demand(torch.equal(parameter, heads[1][name]), f"another {name} in a second head of the same seeds", "the same")
        demand(torch.equal(parameter[0], parameter[2]), f"{name} that differs in two replicas of one seed", "the same")


@LIKELIHOOD.add("saving", "state_dict holds all that decides the density")
def _saving(s: Head) -> None:
    head, features = s.build(seed=3), features_of(REPLICAS, ROWS)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1)
    y = s.draw(head(features))
    other = s.build(seed=4)
    other.load_state_dict(head.state_dict())
    demand_close(
        other(features).log_prob(y),
        head(features).log_prob(y),
        "a log density of the head that took over the state",
        "that of the first",
    )


@LIKELIHOOD.add(
    "fusing", "the densities of two rows have a linear pool, and a log-linear one unless the family is refused"
)
def _fusing(s: Head) -> None:
    p = s.build()(features_of(REPLICAS, ROWS))
    y = s.draw(p)
    for pool in ("linear", "log-linear"):
        try:
            score = pool_rows(p, 0.3, ROWS // 2, pool=pool).log_prob(y)
        except TypeError as error:
            if pool == "log-linear" and "linear pool" in str(error):
                continue
            raise
        demand(score.isfinite().all(), f"a {pool} pool with a log density of {first_not_finite(score)}", "finite ones")


@LIKELIHOOD.add("training", "a density with this head trains, fused at the response and at an embedding")
def _training(s: Head) -> None:
    for at, pool in (("y", "linear"), ("z", "log-linear")):
        density = density_with(s)
        x, y = data_for(s, density)
        before = [p.detach().clone() for p in density.likelihood.parameters()]
        process = ProbMix(density, at=at, pool=pool, batch_size=10)  # type: ignore[arg-type] # a literal of two
        loss = fit(process, x, y, epochs=2, learning_rate=0.01, compile=False).train_loss
        demand(loss.isfinite().all(), f"a loss of {first_not_finite(loss)}, fused at {at!r}", "finite ones")
        for old, (name, new) in zip(before, density.likelihood.named_parameters(), strict=True):
            demand(
                not (new.requires_grad and torch.equal(old, new)), f"{name} as it was before training", "another value"
            )


@LIKELIHOOD.add("prediction", "predict gives the mixture of the replicas' densities")
def _prediction(s: Head) -> None:
    density = density_with(s)
    x, y = data_for(s, density)
    each, mixed = predict(density, x).log_prob(y[0]), predict(density, x, ensemble=True).log_prob(y[0])
    demand(tuple(each.shape) == (2, 20), f"log densities of shape {tuple(each.shape)}", "(2, 20)")
    wanted = each.logsumexp(0) - math.log(2)
    demand_close(mixed, wanted, "a log density of the ensemble", "that of the mixture", 1e-4, 1e-4)
    again = predict(density, x[:, :7]).log_prob(y[0, :7])
    demand_close(again, each[:, :7], "a log density among fewer rows", "that among all", 1e-4, 1e-4)


@LIKELIHOOD.add("device", "to(device) takes all tensors along, and no value is read back from the device")
def _device(s: Head) -> None:
    y = s.draw(s.build()(features_of(REPLICAS, ROWS)))
    for device in each_device():
        with device as like, pyro.validation_enabled(False):
            p = s.build().to(like.device)(features_of(REPLICAS, ROWS).to(like.device))
            score = p.log_prob(y.to(like.device))
            demand(score.device.type == like.device.type, f"log densities on {score.device}", f"{like.device}")
            if like.device.type != "meta":  # draws are no part of a step, and may be looked at
                drawn = p.sample()
                demand(drawn.device.type == like.device.type, f"draws on {drawn.device}", f"{like.device}")
