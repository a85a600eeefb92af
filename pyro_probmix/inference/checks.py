"""Whether rows fit a model, before it is trained on them."""

from __future__ import annotations

__all__ = ["check_kinds", "check_rows", "check_streamed_rows"]

from collections.abc import Sequence
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_probmix.inference.streaming import RowStream
from pyro_probmix.models.density import ConditionalDensity
from pyro_probmix.models.process import ProbMix
from pyro_probmix.random_state import own_random_state

CHECKED_ROWS = 8_192  # at once, so that what a check computes is small beside a block


def check_kinds(x: object, y: object, validation: object) -> None:
    """Raises ValueError unless the rows are tensors or streams, with responses beside tensors alone."""
    given = {} if isinstance(x, RowStream) else {"x": x, "y": y}
    if isinstance(x, RowStream) and y is not None:
        raise ValueError("fit got responses beside a stream, which has its own. Try fit(model, stream, epochs=10).")
    if isinstance(x, Tensor) and y is None:
        raise ValueError(
            "fit got features and no responses, expected a response for each row. Try fit(model, x, y, epochs=10)."
        )
    if isinstance(validation, Sequence) and len(validation) == 2:
        given |= {"validation x": validation[0], "validation y": validation[1]}
    elif validation is not None and not isinstance(validation, RowStream) and not callable(validation):
        raise ValueError(
            f"fit got validation rows of type {type(validation).__name__}, expected two tensors or a stream. "
            "Try validation=(x, y)."
        )
    for name, value in given.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"fit got {name} of type {type(value).__name__}, expected a tensor. Try torch.as_tensor({name})."
            )


@torch.no_grad()
def check_rows(model: ProbMix, x: Tensor, y: Tensor, rows: str, *, shared: bool = False) -> str:
    """Checks x and y against a run of the density on two rows, and returns the name of its response.

    Args:
        model: the process.
        x, y: rows, shared by the replicas or each one's own.
        rows: what they are called in messages.
        shared: whether they are known to be shared; otherwise R of them are taken for a row of each replica.

    Raises:
        ValueError: for rows that do not fit the model.
    """
    wanted = next(model.parameters()).dtype
    if x.is_floating_point() and x.dtype != wanted:
        raise ValueError(f"fit got features of {x.dtype} for weights of {wanted} ({rows} rows). Try x.to({wanted}).")
    for name, values in (("features", x), ("responses", y)):
        if not bool(values.isfinite().all()):
            raise ValueError(
                f"fit got {name} that are NaN or infinite ({rows} rows), expected finite ones. "
                "Try to drop or impute those rows."
            )
    replicas = None if shared else model.replicas
    stacked = [replicas is not None and v.dim() > 1 and v.shape[0] == replicas for v in (x, y)]
    few_x, few_y = (v[:, :2] if own else v[:2] for v, own in zip((x, y), stacked, strict=True))
    training = model.training
    model.eval()
    try:
        # With draws of its own: training draws the same whatever is checked.
        with own_random_state(x.device, 0), poutine.block(), poutine.trace() as tracer:
            model.density(few_x, few_y)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the density refuses two of the {rows} rows, x {tuple(few_x.shape)} and y {tuple(few_y.shape)}: "
            f"{str(error).splitlines()[0]}. Try num_features and num_outputs that fit the data."
        ) from error
    finally:
        model.train(training)
    sites: dict[str, Any] = dict(tracer.trace.nodes.items())
    observed = [
        n
        for n, s in sites.items()
        if s["type"] == "sample" and s["is_observed"] and not s["infer"].get("_deterministic")
    ]
    if len(observed) != 1:
        raise ValueError(
            f"fit found {len(observed)} observed sites in the density, expected one response. Try one of them alone."
        )
    fn = sites[observed[0]]["fn"]
    n = x.shape[1] if stacked[0] else x.shape[0]
    rows_dim = -1 - fn.event_dim
    if y.dim() < -rows_dim or y.shape[y.dim() + rows_dim + 1 :] != fn.event_shape or y.shape[rows_dim] != n:
        wanted_shape = ", ".join(str(size) for size in (n, *fn.event_shape))
        raise ValueError(
            f"fit got responses of shape {tuple(y.shape)}, expected [..., {wanted_shape}], one for each of the {rows} rows. "
            "Try y.reshape or num_outputs."
        )
    if isinstance(model.density, ConditionalDensity) and not bool(fn.support.check(y).all()):
        raise ValueError(
            f"fit got responses outside of the support of {type(model.density.likelihood).__name__} ({rows} rows), expected "
            f"{fn.support}. Try another likelihood, or another scale of the response."
        )
    return observed[0]


def check_streamed_rows(model: ProbMix, x: Tensor, y: Tensor, rows: str) -> None:
    """Checks rows that all replicas share piece by piece, which takes little memory."""
    for piece in zip(x.split(CHECKED_ROWS), y.split(CHECKED_ROWS), strict=True):
        check_rows(model, *piece, rows, shared=True)
