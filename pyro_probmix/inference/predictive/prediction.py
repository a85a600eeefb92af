"""Predictions of a density: its predictive at new rows, and the log density of responses under it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from pyro_probmix.arguments import checked
from pyro_probmix.fusing.handler import Fused
from pyro_probmix.inference.data.arrays import TensorLike, as_tensor, in_dtype
from pyro_probmix.inference.predictive.draws import (
    Draw,
    DrawEmbeddings,
    Embedding,
    independent,
    plug_in,
)
from pyro_probmix.inference.predictive.mixture import PredictiveMixture, check_responses
from pyro_probmix.models.density import ConditionalDensity
from pyro_probmix.models.process import ProbMix
from pyro_probmix.random_state import alone

__all__ = ["log_density", "negative_log_likelihood", "predict", "response_density"]


@contextmanager
def _refused(x: Any, draws: DrawEmbeddings) -> Iterator[None]:
    """Says what a density refused."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("Expected parameter"):  # other sentences are the density's own
            raise
        raise ValueError(
            "predict got a density whose parameters at these rows are not finite or out of range "
            f"({str(error).splitlines()[0][:120]}), expected a trained one. Try a smaller learning rate in its fit."
        ) from error
    except (IndexError, RuntimeError, TypeError, ZeroDivisionError) as error:
        # Not of rows: memory that ran out, and what a device says in a fit, which has looked at its rows before.
        in_fit = isinstance(error, RuntimeError) and not dist.is_validation_enabled()
        if in_fit or isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise
        reason = "there is no row" if isinstance(error, ZeroDivisionError) else str(error).partition("\n")[0]
        if draws.drawn is not None:
            raise ValueError(
                f"what follows the embedding {draws.at!r} refuses its draws, of the batch {tuple(draws.drawn)}: {reason}. "
                "Try layers that broadcast over dims left of the rows, or embedding='mean'."
            ) from error
        given = (
            f"x of shape {tuple(x.shape)} and {x.dtype}" if isinstance(x, Tensor) else f"x of type {type(x).__name__}"
        )
        raise ValueError(
            f"predict got {given}, which the density refuses: {reason}. "
            "Try rows of the shape and dtype that it was trained on, [n, features]."
        ) from error


@contextmanager
def _evaluating(density: Any) -> Iterator[None]:
    """Evaluation mode, where the density is a module that has one: no unit is dropped in a prediction."""
    training = getattr(density, "training", False)
    if training:
        density.eval()
    try:
        yield
    finally:
        if training:
            density.train()


@checked(least={"num_samples": 1})
def predict(
    density: Callable[..., Any],
    x: TensorLike,
    *,
    embedding: Embedding = "sample",
    num_samples: int = 100,
    ensemble: bool = False,
    loc: TensorLike | float = 0.0,
    scale: TensorLike | float = 1.0,
    at: str = "z",
    response: str = "y",
) -> PredictiveMixture:
    r"""The posterior predictive density of the response, :math:`p(y \mid x) = \int p(y \mid z)\, q(z \mid x)\, dz`.

    Args:
        density: a Pyro model ``density(x)``, for example a :class:`ConditionalDensity`; not the fused one. What comes after
            a drawn embedding gets its draws in a dim left of all plates, over which it has to broadcast; layers that
            normalise by channels, and convolutions, get them as rows.
        x: inputs as the density takes them, mostly one tensor. A module is run in evaluation mode, and left in the mode it
            was in.
        embedding: ``"sample"`` is the mixture over ``num_samples`` draws of a drawn embedding; ``"mean"`` passes the
            embedding's mean on.
        num_samples: S.
        ensemble: whether to mix over the replicas, as the members of an ensemble, too.
        loc, scale: mean and (positive) standard deviation of the response before it was standardised, in its units; they
            broadcast with [*batch, *event].
        at, response: names of the sites.

    Returns:
        a distribution with batch shape [N], or [R, N] with replicas that are no ensemble.

    Raises:
        ValueError: if ``embedding`` is neither, ``num_samples`` is no positive integer, the density is fused, refuses x, or
            has no such response or other latents than the embedding, loc or scale do not broadcast, or an ensemble is asked
            of a density without replicas.

    Example:
        >>> import torch
        >>> from pyro_probmix import predict
        >>> from pyro_probmix.models import METHODS, Gaussian, build_density
        >>> density = build_density(METHODS["M-ProbMix"], num_features=3, likelihood=Gaussian, replicas=5)
        >>> predict(density, torch.zeros(7, 3)).mean.shape
        torch.Size([5, 7, 1])
        >>> predict(density, torch.zeros(7, 3), ensemble=True).mean.shape
        torch.Size([7, 1])
    """
    if isinstance(density, Fused | ProbMix):
        raise ValueError(
            f"predict got a {type(density).__name__}, which fuses rows, expected the density alone. Try predict(density, x)."
        )
    x = _inputs(density, x)
    fn = response_density(density, x, plug_in if embedding == "mean" else independent(num_samples), at, response)
    if ensemble and len(fn.batch_shape) < 3:
        raise ValueError(
            f"predict got ensemble=True for a density with the batch {tuple(fn.batch_shape[1:])}, expected replicas, [R, N]. "
            "Try ensemble=False, or build_density(..., replicas=5)."
        )
    return PredictiveMixture(fn, 2 if ensemble else 1, loc, scale)


def _inputs(density: Any, x: Any) -> Any:
    """The inputs: arrays as tensors of the density's precision, on its device; other objects than tensors as they are.

    Raises:
        ValueError: for tensors that are not finite, or of a kind that no density of ours takes.
    """
    ours = isinstance(density, ConditionalDensity)
    if isinstance(x, np.ndarray | list | tuple) or hasattr(x, "iloc") or (ours and not isinstance(x, Tensor)):
        like = (
            next((p for p in density.parameters() if p.is_floating_point()), None)
            if isinstance(density, nn.Module)
            else None
        )
        dtype = torch.get_default_dtype() if like is None else like.dtype
        x = in_dtype(as_tensor("predict", "x", x), dtype)
        x = x if like is None else x.to(like.device)
    elif ours:
        like = next((p for p in density.parameters() if p.is_floating_point()), x)
        x = in_dtype(as_tensor("predict", "x", x), like.dtype) if like.is_floating_point() else x
    # Looking at values waits for the device, so it is done where Pyro validates arguments.
    looked_at = isinstance(x, Tensor) and x.is_floating_point() and dist.is_validation_enabled()
    if looked_at and not bool(x.isfinite().all()):
        raise ValueError(
            "predict got x with values that are NaN or infinite, expected finite ones. Try to drop or impute those rows."
        )
    return x


def response_density(density: Callable[..., Any], x: Any, draw: Draw, at: str = "z", response: str = "y") -> Any:
    """The density of the response at each draw of the embedding, batch shape [S, N], with replicas [S, R, N].

    Every prediction and every held-out loss starts from it.

    Args:
        density, x, at, response: see :func:`predict`.
        draw: the draws of the embedding; S is 1 for one value in their place, or an embedding that is not drawn.

    Raises:
        ValueError: if the density refuses x, or has no such response or other latents than the embedding.
    """
    draws = DrawEmbeddings(at, response, draw)
    with alone(), _refused(x, draws), poutine.block(), poutine.trace() as tracer, draws, _evaluating(density):
        density(x)
    site: Any = tracer.trace.nodes.get(response)
    if site is None:
        sites = ", ".join(repr(name) for name in tracer.trace.stochastic_nodes)
        raise ValueError(f"predict found no site {response!r}, the model has {sites}. Try one of these as `response`.")
    others = [name for name in prune_subsample_sites(tracer.trace).stochastic_nodes if name not in (at, response)]
    if others:
        raise ValueError(
            f"predict found the latent site {others[0]!r} beside {at!r}, expected none whose prior would be drawn from. "
            "Try pyro.infer.Predictive with a guide."
        )
    fn = site["fn"]
    return fn.expand((1, *fn.batch_shape)) if draws.drawn is None else fn


def log_density(components: Any, y: Tensor) -> Tensor:
    """The log predictive density of each response in each replica, [N] or [R, N]: the log of the mean over draws.

    Args:
        components: as :func:`response_density` gives them, batch shape [S, N] or [S, R, N].
        y: the responses, [N, *event], with replicas also [R, N, *event].
    """
    log_prob: Tensor = components.log_prob(y).logsumexp(0)
    return log_prob - math.log(components.batch_shape[0])


@torch.no_grad()
@checked()
def negative_log_likelihood(density: Callable[..., Any], x: TensorLike, y: TensorLike, **prediction: Any) -> Tensor:
    """Minus the mean log predictive density over rows, in nats; shape [], with replicas [R].

    Args:
        density: as in :func:`predict`.
        x, y: N rows, shared or [R, N, ...].
        prediction: arguments of :func:`predict`.
    """
    predictive = predict(density, x, **prediction)
    y = as_tensor("negative_log_likelihood", "y", y)
    check_responses("negative_log_likelihood", y, (*predictive.batch_shape[-1:], *predictive.event_shape))
    return -predictive.log_prob(y).mean(-1)
