"""Fitted models on disk: weights and settings in one safetensors file, no code in it and none run by reading it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_probmix import __version__
from pyro_probmix.columns.by_tensors import Inputs
from pyro_probmix.columns.expansion import Expansion
from pyro_probmix.columns.schema import Schema
from pyro_probmix.estimators.doubt.conformal import HeldOutScores
from pyro_probmix.estimators.fields import SCORES, check_record, check_weights, python_value
from pyro_probmix.estimators.held_out import widened
from pyro_probmix.estimators.network import Recipe
from pyro_probmix.estimators.rows import Array, Scaler
from pyro_probmix.estimators.state import FARTHEST, State
from pyro_probmix.inference.export.program import Program, Scaling
from pyro_probmix.inference.export.writing import write_program
from pyro_probmix.inference.predictive.quantile import quantiles
from pyro_probmix.inference.sealed import DamagedFile, read_sealed, under, write_sealed
from pyro_probmix.inference.training import Fit
from pyro_probmix.models import Method
from pyro_probmix.names import shown

__all__ = ["SavedModel", "export", "putting_together", "read", "write"]

#: Raised when a file written by this version could not be read by the one before.
FORMAT = 1
#: The entry of the file's header that holds all but the tensors, as JSON.
ENTRY = "pyro_probmix"
#: Stands for a Python object of the user's, which has to be given again.
OWN = {"own": True}
#: Parameters that may be code.
OWN_CODE = ("encoder", "likelihood")
#: Rows on which an exported program is compared with the estimator.
CHECKED_ROWS = 8


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
        "parameters": {name: _plain(name, value) for name, value in model.parameters.items()},
        "recipe": {field.name: _plain(field.name, getattr(state.recipe, field.name)) for field in fields(Recipe)},
        "expansion": None if state.expansion is None else state.expansion.record(),
        "factor": state.factor,
        "single": state.single,
        "held_out_rows": None if state.scores is None else state.scores.rows,
        "seed": state.seed,
        "calls": state.calls,
        "diverged": [] if state.history is None else list(state.history.diverged),
        "attributes": {name: _plain(name, value) for name, value in model.attributes.items()},
        "versions": {"pyro_probmix": __version__, "torch": version("torch"), "python": platform.python_version()},
    }
    write_sealed(path, ENTRY, record, tensors, advice="Try another path for the model.")


def export(model: SavedModel, path: str | os.PathLike[str], levels: Sequence[float] | None) -> None:
    """Writes a fitted model's predictions as a program of PyTorch's or ONNX, with the names of its columns and classes.

    Args:
        model: to be written.
        path: of the file, which ends in .pt2 or .onnx.
        levels: of the quantiles; None for probabilities of classes.

    Raises:
        ValueError: for a model that is no function of tensors alone, or a file of another kind.
        OSError: if it cannot be written; what was there before stays.
    """
    state, attributes = model.state, model.attributes
    x, y = state.x_scaler, state.y_scaler
    scaling = Scaling(x.unit, x.mean, x.scale, FARTHEST, y.offset, y.step)
    noise = None if state.noise is None else state.noise.to(torch.float32 if state.single else torch.float64)
    single = bool(attributes.get("_single", False))
    inputs = Inputs(state.expansion)
    program = Program(state.for_rows(), noise, lambda p: widened(p, state.factor), inputs, scaling, levels, single)
    columns = attributes.get("columns_")
    metadata = {
        "estimator": model.kind,
        "features": _names(attributes.get("feature_names_in_")),
        "columns": None if columns is None else columns.record(),
        "classes": _names(attributes.get("classes_")),
        "targets": attributes.get("n_outputs_"),
        "levels": levels,
        "versions": {"pyro_probmix": __version__, "torch": version("torch")},
    }
    rows = _some_rows(state)
    expected = _predicted(state, rows, levels, single)
    write_program(program, torch.as_tensor(rows), expected, metadata, path, digits=6 if state.single else 9)


def _some_rows(state: State) -> Array:
    """Rows of numbers like those of the fit, on which an exported program is compared with the estimator."""
    rng, scaler, expansion = np.random.default_rng(0), state.x_scaler, state.expansion
    if expansion is None:
        shape = (CHECKED_ROWS, *state.recipe.row_shape)
        return np.asarray((rng.standard_normal(shape) * scaler.scale + scaler.mean) * scaler.unit)
    columns, place = [], 0
    for part in expansion.parts:
        width = part.smooth(np.zeros(1)).shape[1]
        if part.kind in ("indicator", "boolean", "category", "none"):
            values = rng.integers(-1 if part.kind == "category" else 0, max(2, len(part.levels)), CHECKED_ROWS).astype(
                float
            )
        elif part.scores is not None:
            values = rng.choice(part.scores.knots, CHECKED_ROWS)
        else:
            z = rng.standard_normal(CHECKED_ROWS) * scaler.scale[place] + scaler.mean[place]
            values = z * scaler.unit[place]
        values[-1] = np.nan if part.gaps else values[-1]
        place += width
        columns.append(values)
    return np.stack(columns, 1)


def _predicted(state: State, rows: Array, levels: Sequence[float] | None, single: bool) -> dict[str, Tensor]:
    """What the estimator predicts for some rows, by the names that a program gives it."""
    (_, part), *_ = state.mixtures(rows)
    if levels is None:
        probabilities = part.probs[: len(rows)].cpu()
        both = probabilities.shape[-1] > 1
        return {"probabilities": probabilities if both else torch.cat([1 - probabilities, probabilities], -1)}
    step, offset = (torch.as_tensor(v) for v in (state.y_scaler.step, state.y_scaler.offset))
    mean, std = part.mean.double().cpu() * step + offset, part.variance.sqrt().double().cpu() * step
    found = {"mean": mean, "std": std}
    with suppress(TypeError):  # of a likelihood whose quantiles are known to torch alone
        found["quantiles"] = torch.as_tensor(quantiles(part, levels)) * step[:, None] + offset[:, None]
    return {name: (value[:, 0] if single else value)[: len(rows)] for name, value in found.items()}


def _names(values: Any) -> list[Any] | None:
    """Names or classes as JSON holds them."""
    if values is None:
        return None
    return [value if isinstance(value, str | bool | int | float) else str(value) for value in values.tolist()]


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
    )
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


def _plain(name: str, value: Any) -> Any:
    """A value as JSON holds it; lists stand for tuples, and arrays say their type."""
    if name == "callbacks":
        return []
    if name == "random_state":
        return int(value) if isinstance(value, int | np.integer) else None
    if name in OWN_CODE and not isinstance(value, str | None):
        return OWN
    if isinstance(value, Method):
        return {"method": asdict(value)}
    if isinstance(value, Schema):
        return {"columns": value.record()}
    if isinstance(value, np.ndarray):
        entries = value.tolist()
        if value.dtype.kind in "biufUO" and all(isinstance(entry, str | bool | int | float) for entry in entries):
            return {"array": entries, "type": value.dtype.str}
    elif isinstance(value, np.generic):
        return value.item()
    elif isinstance(value, list | tuple):
        return [_plain(name, entry) for entry in value]
    elif value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(
        f"the model cannot be saved with {name} of type {type(value).__name__}, expected numbers or text. "
        "Try joblib.dump, which keeps any Python object."
    )
