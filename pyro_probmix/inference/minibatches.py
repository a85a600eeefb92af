"""Where a training step's rows come from: all of them in memory, or a stream's blocks one after the other."""

from __future__ import annotations

__all__ = ["Source", "check_rows", "checked_source", "minibatches"]

from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from pyro import poutine
from torch import Tensor

from pyro_probmix.inference.streaming import RowStream
from pyro_probmix.models.density import ConditionalDensity
from pyro_probmix.models.process import ProbMix, shuffled_rows

Source: TypeAlias = tuple[Tensor, Tensor] | RowStream


def checked_source(model: ProbMix, x: Tensor | RowStream, y: Tensor | None, device: torch.device) -> Source:
    """The training rows on the device, or the stream of them, after a check that the model can be trained on it."""
    if not isinstance(x, RowStream):
        if y is None:
            raise ValueError(
                "fit got features and no responses, expected a response for each row. Try fit(model, x, y)."
            )
        x, y = x.to(device), y.to(device)
        model.num_rows(x, y)  # refuses rows that do not match
        if not bool(x.isfinite().all()):
            raise ValueError(
                "fit got features that are NaN or infinite, expected finite ones. Try to drop or impute those rows."
            )
        return x, y
    if y is not None:
        raise ValueError("fit got responses beside a stream, which has its own. Try fit(model, stream, epochs=10).")
    if model.graph is not None:
        raise ValueError(
            f"fit got a stream and a {type(model.graph).__name__}, expected no graph: a graph over all rows joins rows of "
            "different blocks. Try graph=None, for any two rows of a block, or a sample of the rows that fits in memory."
        )
    if x.replicas != (model.replicas or 1):
        raise ValueError(
            f"fit got a stream with memory for {x.replicas} replicas, expected the {model.replicas or 1} of the model. "
            f"Try replicas={model.replicas or 1} for the stream."
        )
    return x


def minibatches(
    model: ProbMix, source: Source, seed: int, epoch: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor, int]]:
    """The steps of an epoch: x, y, a minibatch of their n rows, and n. Rows in memory are one block."""
    for x, y in source.blocks(seed, epoch) if isinstance(source, RowStream) else (source,):
        if isinstance(source, RowStream):
            x, y = x.to(device), y.to(device)
            if model.replicas is not None:  # a block of R rows could be taken for one of R replicas' own
                x, y = x.expand(model.replicas, *x.shape), y[None]
            check_rows(model, x, y)
            if model.replicas is not None:
                y = y.expand(model.replicas, *y.shape[1:])
        n = model.num_rows(x, y)
        batch_size = min(model.batch_size or n + n % 2, n + n % 2)
        order = shuffled_rows(n, -(-n // batch_size) * batch_size, model.replicas, device)
        for rows in order.split(batch_size, -1):
            yield x, y, rows, n


@torch.no_grad()
def check_rows(model: ProbMix, x: Tensor, y: Tensor) -> None:
    """Refuses responses whose shape or values do not fit the likelihood."""
    if not isinstance(model.density, ConditionalDensity):
        return
    own = model.density.replicas is not None and x.dim() > 1 + model.density.event_dim
    few = x[:, :2] if own else x[:2]
    training = model.training
    model.eval()
    with poutine.block(), poutine.trace() as tracer:
        model.density(few)
    model.train(training)
    fn: Any = tracer.trace.nodes["y"]["fn"]
    rows_dim = -1 - fn.event_dim
    if (
        y.dim() < -rows_dim
        or y.shape[y.dim() + rows_dim + 1 :] != fn.event_shape
        or y.shape[rows_dim] != model.num_rows(x)
    ):
        raise ValueError(
            f"fit got responses of shape {tuple(y.shape)}, expected [..., {model.num_rows(x)}"
            f"{''.join(f', {size}' for size in fn.event_shape)}], a row for each of x. Try y.reshape or num_outputs."
        )
    if not bool(fn.support.check(y).all() and y.isfinite().all()):
        raise ValueError(
            f"fit got responses outside of the support of {type(model.density.likelihood).__name__}, expected "
            f"{fn.support}, finite. Try another likelihood, or another scale of the response."
        )
