"""Fitted models on disk: weights and settings in one safetensors file, no code in it and none run by reading it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyro_probmix import __version__
from pyro_probmix.columns.expansion import Expansion
from pyro_probmix.columns.schema import Schema
from pyro_probmix.estimators.doubt.conformal import HeldOutScores
from pyro_probmix.estimators.ensemble.network import Recipe
from pyro_probmix.estimators.ensemble.rows import Scaler
from pyro_probmix.estimators.ensemble.state import State
from pyro_probmix.estimators.neighbors.pool import NeighborPool
from pyro_probmix.estimators.saving.fields import POOL, POOL_NUMBERS, SCORES, check_record
from pyro_probmix.estimators.saving.fitted import check_weights
from pyro_probmix.estimators.saving.values import OWN, plain_value, python_value
from pyro_probmix.inference.sealed import DamagedFile, read_sealed, under, write_sealed
from pyro_probmix.inference.training import Fit
from pyro_probmix.names import shown

__all__ = ["SavedModel", "putting_together", "read", "write"]

#: Raised when a file written by this version could not be read by the one before.
FORMAT = 1
#: The entry of the file's header that holds all but the tensors, as JSON.
ENTRY = "pyro_probmix"


@dataclass(frozen=True, eq=False)
class SavedModel:
    """The content of a fitted estimator's file.

    Attributes:
        kind: the estimator's name, see :data:`~pyro_probmix.estimators.loading.KINDS`.
        parameters: those that it was made with.
        attributes: those that its fit set, beside the state.
        state: of the fit.
    """

    kind: str
    parameters: dict[str, Any]
    attributes: dict[str, Any]
    state: State


def write(model: SavedModel, path: str | os.PathLike[str]) -> None:
    """Writes a fitted model, whole or not at all.

    Callbacks, a generator as ``random_state`` and the optimizer's state of partial fits are left out.

    Args:
        model: to be written.
        path: of the file.

    Raises:
        ValueError: for classes or an activation that JSON does not hold.
        OSError: if it cannot be written; what was there before stays.
    """
    state = model.state
    tensors = _tensors(state)
    record = {
        "format": FORMAT,
        "estimator": model.kind,
        "parameters": {name: plain_value(name, value) for name, value in model.parameters.items()},
        "recipe": {field.name: plain_value(field.name, getattr(state.recipe, field.name)) for field in fields(Recipe)},
        "expansion": None if state.expansion is None else state.expansion.record(),
        "factor": state.factor,
        "tails": state.tails,
        "single": state.single,
        "pool": None if state.pool is None else {name: getattr(state.pool, name) for name in POOL_NUMBERS},
        "held_out_rows": None if state.scores is None else state.scores.rows,
        "seed": state.seed,
        "calls": state.calls,
        "diverged": [] if state.history is None else list(state.history.diverged),
        "attributes": {name: plain_value(name, value) for name, value in model.attributes.items()},
        "versions": {"pyro_probmix": __version__, "torch": version("torch"), "python": platform.python_version()},
    }
    write_sealed(path, ENTRY, record, tensors, advice="Try another path for the model.")


def read(path: str | os.PathLike[str], own_code: dict[str, Any]) -> SavedModel:
    """Reads what :func:`write` wrote. What the file says is checked before anything is built of it.

    Args:
        path: of the file.
        own_code: the encoder and likelihood that the model was made with, if they were the user's own; else None.

    Raises:
        ValueError: if there is no such file, it is damaged, of a newer version or something else's, it asks for more than its
            size allows, or code that it needs is not given.
    """
    record, tensors = _read(Path(path))
    with putting_together(path):
        check_record(record, tensors, OWN)
    for name, given in own_code.items():
        needed = OWN in (record["parameters"].get(name), record["recipe"][name])
        if needed != (given is not None):
            raise ValueError(
                f"the model in {shown(path)} was made with {'its own' if needed else 'no'} {name}, whose code is not in the "
                f"file, and load was given {'none' if needed else 'one'}. Try load(path{f', {name}=...' if needed else ''})."
            )
    with putting_together(path, "the encoder and likelihood it was made with" if any(own_code.values()) else None):
        return _restored(record, tensors, own_code)


@contextmanager
def putting_together(path: str | os.PathLike[str], hint: str | None = None) -> Iterator[None]:
    """Turns what goes wrong while a file's settings are put together into a ValueError that names the file."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].partition(". Try ")[0].rstrip(".")
        reason = (
            reason if len(reason) <= 300 else f"{reason[:150]} ... {reason[-150:]}"
        )  # it may be what the file holds
        raise ValueError(
            f"the model in {shown(path)} cannot be put together: {reason}. Try {hint or 'saving the model again'}."
        ) from error


def _tensors(state: State) -> dict[str, Tensor]:
    """All tensors of a state by name."""
    tensors = {f"density.{name}": _narrow(tensor) for name, tensor in state.density.state_dict().items()}
    for name, scaler in (("x", state.x_scaler), ("y", state.y_scaler)):
        tensors |= {f"{name}_scaler.{part}": torch.as_tensor(value) for part, value in vars(scaler).items()}
    if state.noise is not None:
        tensors["noise"] = state.noise
    if state.scores is not None:
        tensors |= {f"scores.{part}": torch.as_tensor(getattr(state.scores, part)) for part in SCORES}
    if state.pool is not None:
        tensors |= {f"pool.{part}": getattr(state.pool, part) for part in POOL}
    history: Any = {} if state.history is None else vars(state.history)
    tensors |= {f"history.{name}": value for name, value in history.items() if isinstance(value, Tensor)}
    return tensors


def _restored(record: dict[str, Any], tensors: dict[str, Tensor], own_code: dict[str, Any]) -> SavedModel:
    def given(values: dict[str, Any]) -> dict[str, Any]:
        return {
            name: own_code[name] if value == OWN and name in own_code else python_value(name, value)
            for name, value in values.items()
        }

    recipe = Recipe(**given(record["recipe"]))
    density = recipe.build([0] * recipe.members).double()
    check_weights(density, recipe.members, tensors)
    density.load_state_dict(under(tensors, "density."))
    history = under(tensors, "history.")
    x_scaler, y_scaler = (
        Scaler(**{part: value.numpy() for part, value in under(tensors, f"{name}_scaler.").items()}) for name in "xy"
    )
    scores: Any = {part: value.numpy() for part, value in under(tensors, "scores.").items()}
    fit: Any = {**history, "diverged": tuple(record["diverged"])}
    state = State(
        recipe,
        density.eval(),
        x_scaler,
        y_scaler,
        tensors.get("noise"),
        record["factor"],
        record["seed"],
        Fit(**fit) if history else None,
        calls=record["calls"],
        single=record["single"],
        scores=HeldOutScores(**scores, rows=record["held_out_rows"]) if scores else None,
        tails=record["tails"],
    )
    if record["pool"] is not None:
        kept: Any = {**under(tensors, "pool."), **record["pool"]}
        state.pool = NeighborPool(**kept)
    attributes = {name: python_value(name, value) for name, value in record["attributes"].items()}
    if record["expansion"] is not None and isinstance(attributes.get("columns_"), Schema):
        state.expansion = Expansion.from_record(record["expansion"], attributes["columns_"])
    return SavedModel(record["estimator"], given(record["parameters"]), attributes, state)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        if not path.is_file():
            raise ValueError(f"there is no file {shown(path)}, expected a saved model. Try another path.")
        record, tensors = read_sealed(path, ENTRY)
    except DamagedFile as error:
        raise ValueError(
            f"the file {shown(path)} is damaged, or no saved model, expected one as save() wrote it. "
            "Try saving the model again."
        ) from error
    except OSError as error:
        raise ValueError(
            f"the file {shown(path)} cannot be read ({error.strerror}), expected a saved model. Try another path."
        ) from None
    newest = record.get("format")
    if not isinstance(newest, int) or isinstance(newest, bool) or not 0 < newest <= FORMAT:
        told = repr(newest)
        raise ValueError(
            f"the model in {shown(path)} is of format {told if len(told) < 20 else told[:17] + '...'}, expected at most "
            f"{FORMAT}: a newer version wrote it. Try upgrading pyro_probmix."
        )
    return record, tensors


def _narrow(tensor: Tensor) -> Tensor:
    """The tensor in single precision, as it was trained, where that loses nothing."""
    narrow = tensor.float() if tensor.dtype == torch.float64 else tensor
    return narrow if torch.equal(narrow.to(tensor.dtype), tensor) else tensor
