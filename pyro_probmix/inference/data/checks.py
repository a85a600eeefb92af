"""Whether rows fit a model, before it is trained on them."""

from __future__ import annotations

__all__ = ["as_rows", "check_kinds", "check_rows", "check_streamed_rows"]

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Independent
from torch.distributions.constraints import is_dependent

from pyro_probmix.fusing.rows import plates_of_rows
from pyro_probmix.inference.data.arrays import as_tensor, in_dtype
from pyro_probmix.inference.data.streaming import RowStream
from pyro_probmix.models.density import ConditionalDensity
from pyro_probmix.models.process import ProbMix
from pyro_probmix.pooling.rows.supports import is_fixed
from pyro_probmix.random_state import own_random_state

CHECKED_ROWS = 8_192  # at once, so that what a check computes is small beside a block


def check_kinds(model: object, x: object, y: object, validation: object) -> None:
    """Raises ValueError unless a process is to be trained on arrays or streams, with responses beside arrays alone."""
    if not isinstance(model, ProbMix):
        name = getattr(model, "__name__", type(model).__name__)
        raise ValueError(f"fit got a {name}, expected a ProbMix. Try ProbMix(density, at=...).")
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(
            "fit got weights that were made under torch.inference_mode, which have no gradients, expected others. "
            "Try to make the model outside of it, or under torch.no_grad."
        )
    if isinstance(x, RowStream) and y is not None:
        raise ValueError("fit got responses beside a stream, which has its own. Try fit(model, stream, epochs=10).")
    if not isinstance(x, RowStream) and y is None:
        raise ValueError(
            "fit got features and no responses, expected a response for each row. Try fit(model, x, y, epochs=10)."
        )
    is_pair = isinstance(validation, Sequence) and len(validation) == 2
    scores = callable(validation) and not isinstance(validation, torch.distributions.Distribution)
    if validation is not None and not is_pair and not isinstance(validation, RowStream) and not scores:
        raise ValueError(
            f"fit got validation rows of type {type(validation).__name__}, expected two tensors or a stream. "
            "Try validation=(x, y)."
        )


def as_rows(model: ProbMix, x: Any, y: Any, rows: str = "") -> tuple[Any, Any]:
    """Rows as tensors in the precision of the model's weights; a stream, without responses, as it is.

    Raises:
        ValueError: for what holds no numbers.
    """
    if isinstance(x, RowStream):
        return x, y
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    found = [in_dtype(as_tensor("fit", f"{rows}{name}", value), dtype).detach() for name, value in (("x", x), ("y", y))]
    found = [tensor.clone() if tensor.is_inference() else tensor for tensor in found]  # autograd refuses the former
    return found[0], found[1]


@torch.no_grad()
def check_rows(model: ProbMix, x: Tensor, y: Tensor, rows: str, *, of_each: tuple[bool, bool] | None = None) -> str:
    """Checks x and y against a run of the density, and returns the name of its response.

    Args:
        model: the process.
        x, y: rows, shared by the replicas or those of each.
        rows: what they are called in messages.
        of_each: whether x and whether y hold the rows of each replica, if it is known; else as the process reads them.

    Raises:
        ValueError: for rows that do not fit the model, or a density with something in it that a fit cannot train.
    """
    for name, values in (("features", x), ("responses", y)):
        if not bool(values.isfinite().all()):
            raise ValueError(
                f"fit got {name} that are NaN or infinite ({rows} rows), expected finite ones. "
                "Try to drop or impute those rows."
            )
    if of_each is None:
        of_each = model.of_each_replica(x, y)
    few_x, few_y = (v[:, :2] if each else v[:2] for v, each in zip((x, y), of_each, strict=True))
    sites = _sites(model, few_x, few_y, f"two of the {rows} rows")
    response = _response(sites, model, few_x.shape[1] if of_each[0] else few_x.shape[0])
    _check_trained(model, sites, response)
    fn = sites[response]["fn"]
    n = x.shape[1] if of_each[0] else x.shape[0]
    rows_dim = -1 - fn.event_dim
    if y.dim() < -rows_dim or y.shape[y.dim() + rows_dim + 1 :] != fn.event_shape or y.shape[rows_dim] != n:
        wanted_shape = ", ".join(str(size) for size in (n, *fn.event_shape))
        raise ValueError(
            f"fit got responses of shape {tuple(y.shape)}, expected [..., {wanted_shape}], one for each of the {rows} rows. "
            "Try y.reshape or num_outputs."
        )
    site, is_strict = sites[response], partial(_is_strict, model, few_x, few_y, response)
    unmasked, counts = _unmasked(fn)
    support = _support(unmasked)
    alike = support is None or is_fixed(support)
    if site["value"] is few_y and site["mask"] is None and counts is True and alike:
        _check_responses(site | {"value": y}, rows, is_strict)
        return response
    # The support or the mask of a distribution may differ from row to row, and what is observed need not be y itself.
    size = min(model.batch_size or n, max(2, CHECKED_ROWS // (model.replicas or 1)))
    for end in range(size, n + size, size):
        part = slice(max(0, min(end, n) - size), end)  # the last is as large as the others
        some_x, some_y = (v[:, part] if each else v[part] for v, each in zip((x, y), of_each, strict=True))
        _check_responses(_sites(model, some_x, some_y, f"some of the {rows} rows")[response], rows, is_strict)
    return response


def _sites(model: ProbMix, x: Tensor, y: Tensor, which: str) -> dict[str, Any]:
    """The sites of a run of the density on some rows; random numbers and running statistics stay as they are."""
    training = model.training
    model.eval()
    try:
        # With draws of its own: training draws the same whatever is checked.
        with own_random_state(x.device, 0), poutine.block(), poutine.trace() as tracer:
            model.density(x, y)
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        ours = isinstance(model.density, ConditionalDensity)
        advice = "num_features and num_outputs that fit the data" if ours else "density(x[:2], y[:2]) on its own"
        raise ValueError(
            f"the density refuses {which}, x {tuple(x.shape)} and y {tuple(y.shape)}: {str(error).splitlines()[0]}. "
            f"Try {advice}."
        ) from error
    finally:
        model.train(training)
    return dict(tracer.trace.nodes.items())


def _response(sites: dict[str, Any], model: ProbMix, num_rows: int) -> str:
    observed = [name for name, site in sites.items() if _is_sampled(site) and site["is_observed"]]
    if len(observed) != 1:
        raise ValueError(
            f"fit found {len(observed)} observed sites in the density, expected one response. Try one of them alone."
        )
    (response,) = observed
    found = plates_of_rows(sites[response], model.batch(num_rows))
    if found and all(frame.dim < -1 for frame in found):
        (*_, frame) = found
        inner = [repr(f.name) for f in sites[response]["cond_indep_stack"] if f.vectorized and f.dim > frame.dim]
        raise ValueError(
            f"the response {response!r} has its rows in the plate {frame.name!r} at dim={frame.dim}, expected them at dim=-1, "
            f"where fit scores them. Try .to_event({-1 - frame.dim}) in the place of the plates inside of it "
            f"({', '.join(inner) or 'none'}), or SVI(process, process.guide, ...), which takes any dim."
        )
    plates = model.plates
    if not _plates(sites[response]):
        raise ValueError(
            f"the response {response!r} is in no plate at dim=-1, expected one of the rows. "
            "Try `with pyro.plate('data', len(x)):` around it."
        )
    if plates and not _plates(sites[response]) & set(plates):
        (plate,) = _plates(sites[response])
        raise ValueError(
            f"the response {response!r} is in the plate {plate!r}, which ProbMix(plate=...) does not name, expected it among "
            f"the rows'. Try plate={plate!r}, or a list with it."
        )
    return response


def _check_trained(model: ProbMix, sites: dict[str, Any], response: str) -> None:
    """Raises ValueError for what a fit does not train: latents outside of the rows' plate, and parameters in Pyro's store."""
    ours = {id(parameter) for parameter in model.parameters()}
    of_rows = _plates(sites[response]) | set(model.plates)
    for name, site in sites.items():
        latent = _is_sampled(site) and not site["is_observed"] and not site["infer"].get("is_auxiliary")
        if latent and not of_rows & _plates(site):
            raise ValueError(
                f"the density has the latent {name!r} outside of the rows' plate, which fit would draw from its prior at each "
                "step, expected parameters. Try SVI with PriorGuide(process, AutoNormal(density)), or name all plates of rows "
                "in ProbMix(..., plate=[...])."
            )
        if site["type"] == "param" and id(_unconstrained(site["value"])) not in ours:
            raise ValueError(
                f"the density has the parameter {name!r} in Pyro's store, which fit would not train, expected parameters of "
                "its module. Try nn.Parameter, or PyroParam in a PyroModule."
            )


def _unconstrained(value: Any) -> Tensor:
    """The parameter itself, of which the value may be a transform."""
    found: Tensor = value.unconstrained() if hasattr(value, "unconstrained") else value
    return found


def _is_sampled(site: Any) -> bool:
    return site["type"] == "sample" and not site_is_subsample(site) and not site["infer"].get("_deterministic")


def _plates(site: dict[str, Any]) -> set[str]:
    """The names of a site's plates that may be of rows."""
    return {frame.name for frame in site["cond_indep_stack"] if frame.dim == -1}


def _unmasked(fn: Any) -> tuple[Any, bool | Tensor]:
    """A distribution without its masks, and which rows count, or which coordinates where these are masked."""
    if not isinstance(fn, MaskedDistribution | Independent):
        return fn, True
    base, counts = _unmasked(fn.base_dist)
    if isinstance(fn, MaskedDistribution):
        dims = counts.dim() - len(fn.batch_shape) if isinstance(counts, Tensor) else 0
        return base, counts & torch.as_tensor(fn._mask)[(..., *(None,) * dims)]
    return (fn, True) if counts is True else (base, counts)


def _support(fn: Any) -> Any:
    """The support of a distribution; None if its class names none, or one that depends on more than the class."""
    try:
        return None if is_dependent(fn.support) else fn.support
    except NotImplementedError:
        return None


def _base(fn: Any) -> Any:
    return fn.base_dist if isinstance(fn, Independent) else fn


def _is_strict(model: ProbMix, x: Tensor, y: Tensor, response: str) -> bool:
    """Whether the distribution would refuse what is not in its support, unless it is told not to by ``validate_args=False``."""
    # Arguments that it refuses under Pyro's validation say nothing against its support.
    with suppress(ValueError), pyro.validation_enabled(True):
        fn = _unmasked(_sites(model, x, y, "two rows")[response]["fn"])[0]
        return _base(fn).__dict__.get("_validate_args") is not False
    return True


def _check_responses(site: dict[str, Any], rows: str, is_strict: Callable[[], bool]) -> None:
    """Checks whether responses are in the support of the distribution at a site, and count if they are held out."""
    fn, counts = _unmasked(site["fn"])
    coordinates = len(site["fn"].event_shape) - len(fn.event_shape)  # dims of the mask that are coordinates of a row
    mask = torch.as_tensor(True if site["mask"] is None else site["mask"])
    counts = torch.as_tensor(counts, device=mask.device)
    of_rows = mask & (counts.flatten(-coordinates).any(-1) if coordinates else counts)
    if rows == "validation" and not bool(of_rows.all()):
        raise ValueError(
            f"the density masks the response {site['name']!r} of some validation rows, expected rows that all count. "
            "Try validation rows that have labels."
        )
    support = _support(fn)
    if support is None:
        return
    inside = support.check(site["value"])
    counts = mask[(..., *(None,) * coordinates)] & counts
    if not bool((inside | ~counts.to(inside.device)).all()) and is_strict():
        told = str(support)
        if len(told) > 80:  # with the bounds of all rows
            told = f"each in the {type(support).__name__} of its row"
        raise ValueError(
            f"fit got responses outside of the support of {type(_base(fn)).__name__} ({rows} rows), expected {told}. "
            "Try another likelihood, or another scale of the response."
        )


def check_streamed_rows(model: ProbMix, x: Tensor, y: Tensor, rows: str) -> None:
    """Checks rows that all replicas share piece by piece, which takes little memory."""
    for piece in zip(x.split(CHECKED_ROWS), y.split(CHECKED_ROWS), strict=True):
        check_rows(model, *piece, rows, of_each=(False, False))
