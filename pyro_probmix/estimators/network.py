"""An estimator's conditional density: periodic features and an MLP, or an encoder of one's own, for any method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from pyro_probmix.models import (
    LIKELIHOODS,
    ConditionalDensity,
    Method,
    PeriodicFeatures,
    Stacked,
    build_density,
    initialise,
)
from pyro_probmix.models.methods import METHODS

__all__ = ["Encoder", "Likelihood", "named_likelihood", "named_method", "network"]

Encoder = nn.Module | Callable[[int, int], nn.Module]
Likelihood = str | Callable[[int, int, int | None], nn.Module]


def named_method(method: Any) -> Method:
    """The method of a name; one given as such is itself.

    Raises:
        ValueError: for neither.
    """
    if isinstance(method, Method):
        return method
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"got method={method!r}, expected one of {', '.join(METHODS)}, or a Method. Try 'M-ProbMix'.")
    return METHODS[method]


def named_likelihood(likelihood: Any) -> Callable[..., nn.Module]:
    """The head of a name; one given as such is itself.

    Raises:
        ValueError: for neither.
    """
    if isinstance(likelihood, str) and likelihood in LIKELIHOODS:
        return LIKELIHOODS[likelihood]
    if isinstance(likelihood, str) or not callable(likelihood):
        raise ValueError(
            f"got likelihood={likelihood!r}, expected one of {', '.join(LIKELIHOODS)}, or something that makes a head from "
            "(in_features, num_outputs, replicas). Try likelihood='gaussian'."
        )
    made: Callable[..., nn.Module] = likelihood
    return made


def network(
    method: Method,
    likelihood: Callable[..., nn.Module],
    *,
    row_shape: Sequence[int],
    num_outputs: int,
    members: int,
    seeds: Sequence[int],
    widths: Sequence[int],
    activation: Any,
    periodic: int,
    encoder: Encoder | None,
) -> ConditionalDensity:
    """A density whose members are replicas, each with weights from a seed of its own.

    Args:
        method: decides on the embedding.
        likelihood: the head.
        row_shape: shape of one row of x, [d] for a table.
        num_outputs: d_y, or the number of classes.
        members: R.
        seeds: R of them.
        widths: of the hidden layers; the first one's activations are the embedding, unless an encoder makes it.
        activation: see :class:`~pyro_probmix.models.MLP`.
        periodic: number of periodic features of each input; 0 for none.
        encoder: what stands in for periodic features and the first layer: a module for one member, from [B, *row] to
            [B, width], or something that makes one for all members from (features of a row, members).
    """
    if encoder is None:
        (width,) = row_shape
        wide = width * (periodic + 1)
        density = build_density(
            method,
            num_features=wide,
            likelihood=likelihood,
            num_outputs=num_outputs,
            widths=widths,
            activation=activation,
            replicas=members,
        )
        if periodic:
            density.encoder = nn.Sequential(PeriodicFeatures(width, periodic, replicas=members), density.encoder)
            if method.variance == "separate":
                density.embedding.variance = nn.Sequential(
                    PeriodicFeatures(width, periodic, replicas=members), density.embedding.variance
                )
    else:
        density = _around(encoder, method, likelihood, row_shape, num_outputs, members, widths, activation)
    initialise(density, seeds)
    return density


def _around(
    encoder: Encoder,
    method: Method,
    likelihood: Callable[..., nn.Module],
    row_shape: Sequence[int],
    num_outputs: int,
    members: int,
    widths: Sequence[int],
    activation: Any,
) -> ConditionalDensity:
    own = (
        Stacked(encoder, members, event_dim=len(row_shape))
        if isinstance(encoder, nn.Module)
        else encoder(row_shape[-1], members)
    )
    try:
        with torch.no_grad():
            shape = own.eval()(torch.zeros(members, 2, *row_shape)).shape
    except RuntimeError as error:
        raise ValueError(
            f"the encoder refuses two rows of shape {tuple(row_shape)}: {str(error).splitlines()[0]}. "
            "Try an encoder whose input fits the columns of X."
        ) from error
    if len(shape) != 3 or shape[:2] != (members, 2):
        raise ValueError(
            f"the encoder makes {tuple(shape)} from {members} members x 2 rows of shape {tuple(row_shape)}, expected "
            f"({members}, 2, width). Try a module that ends in one vector for each row."
        )
    own.train()
    width = shape[-1]
    if method.variance == "separate" and len(row_shape) > 1:
        raise ValueError(
            "a method with a separate variance network needs rows of one dimension, got rows of shape "
            f"{tuple(row_shape)}. Try method='M-ProbMix'."
        )
    # `build_density` halves the first layer of a method with a separate variance network.
    first = 2 * width if method.variance == "separate" else width
    density = build_density(
        method,
        num_features=row_shape[-1],
        likelihood=likelihood,
        num_outputs=num_outputs,
        widths=(first, *widths[1:]),
        activation=activation,
        replicas=members,
    )
    density.encoder = own
    density.event_dim = len(row_shape)
    return density
