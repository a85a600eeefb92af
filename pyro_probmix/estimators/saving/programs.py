"""A fitted estimator's predictions as a program of PyTorch's alone, compared with the estimator before it is written."""

from __future__ import annotations

__all__ = ["Recorded", "export"]

import os
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_probmix import __version__
from pyro_probmix.columns.by_tensors import Inputs
from pyro_probmix.estimators.ensemble.rows import Array
from pyro_probmix.estimators.ensemble.state import FARTHEST, State
from pyro_probmix.estimators.neighbors.pool import NeighborPool
from pyro_probmix.estimators.saving.fields import POOL, POOL_NUMBERS
from pyro_probmix.estimators.saving.files import SavedModel
from pyro_probmix.estimators.targets.marks import AT, Marks
from pyro_probmix.inference.export.program import Program, Scaling
from pyro_probmix.inference.export.writing import write_program
from pyro_probmix.inference.predictive.quantile import quantiles

#: Rows on which an exported program is compared with the estimator.
CHECKED_ROWS = 8


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
    recorded = Recorded(state.recipe.values(), *state.recipe.bounds())
    program = Program(state.for_rows(), noise, _Spread(state), inputs, scaling, levels, single, recorded)
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


class _Spread(nn.Module):
    """From the members' densities and the features of rows to the densities that a state predicts."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.adapted, self.numbers = state.adapted, None
        if state.pool is not None:
            self.numbers = {name: getattr(state.pool, name) for name in POOL_NUMBERS}
            for name in POOL:
                self.register_buffer(name, getattr(state.pool, name))

    def forward(self, components: Any, features: Tensor) -> Any:
        components = self.adapted(components)
        if self.numbers is None:
            return components
        pool = NeighborPool(**{name: getattr(self, name) for name in POOL}, **self.numbers)
        scales = pool.scales.to(features)
        known, scaled = pool.x.to(features) * scales, features * scales
        about = known.square().sum(-1) - 2 * scaled @ known.T  # and the same number more in each column
        positions = about.topk(pool.num_found, dim=-1, largest=False).indices
        square = (scaled[:, None] - known[positions]).square().sum(-1)
        return pool.pooled(components, square, positions, pool.same(features, positions))


class Recorded(nn.Module):
    """Means [n, d_y] within the targets' bounds, and quantiles [n, d_y, L] as by :meth:`Marks.rounded`."""

    first: Tensor
    grid: Tensor
    low: Tensor
    high: Tensor
    lower: Tensor
    upper: Tensor

    def __init__(self, marks: Marks, lower: Array, upper: Array) -> None:
        super().__init__()
        for name in ("first", "grid", "low", "high"):
            self.register_buffer(name, torch.as_tensor(getattr(marks, name))[:, None])
        for name, bounds in (("lower", lower), ("upper", upper)):
            self.register_buffer(name, torch.as_tensor(bounds))

    def forward(self, mean: Tensor, quantiles: Tensor) -> tuple[Tensor, Tensor]:
        marks = self.first + self.grid * torch.ceil((quantiles - self.first) / self.grid - 0.5 - AT)
        rounded = torch.where(self.first.isnan(), quantiles, marks).clamp(self.low, self.high)
        return mean.clamp(self.lower, self.upper), rounded


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
    lower, upper = map(torch.as_tensor, state.recipe.bounds())
    found = {"mean": mean.clamp(lower, upper), "std": std}
    with suppress(TypeError):  # of a likelihood whose quantiles are known to torch alone
        values = torch.as_tensor(quantiles(part, levels)) * step[:, None] + offset[:, None]
        _, found["quantiles"] = Recorded(state.recipe.values(), *state.recipe.bounds())(mean, values)
    return {name: (value[:, 0] if single else value)[: len(rows)] for name, value in found.items()}


def _names(values: Any) -> list[Any] | None:
    """Names or classes as JSON holds them."""
    if values is None:
        return None
    return [value if isinstance(value, str | bool | int | float) else str(value) for value in values.tolist()]
