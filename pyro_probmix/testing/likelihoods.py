"""The check of a likelihood: the head of a network that makes a density of features, for all replicas at once."""

from __future__ import annotations

__all__ = ["check_likelihood"]

import math
from collections.abc import Collection

import pyro
import torch

from pyro_probmix.inference import predict
from pyro_probmix.inference.training import fit
from pyro_probmix.models import ProbMix, initialise
from pyro_probmix.names import name_of
from pyro_probmix.pooling import pool_rows
from pyro_probmix.testing.devices import each_device
from pyro_probmix.testing.head_densities import LIKELIHOOD
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
)
from pyro_probmix.testing.invariants import demand, demand_close


def check_likelihood(likelihood: MakeHead, *, num_outputs: int = 2, skip: Collection[str] = ()) -> None:
    """Checks a likelihood, the head of a network.

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
