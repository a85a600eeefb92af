"""The fields of a saved model, each checked as it is read: a file may come from an untrusted source."""

from __future__ import annotations

__all__ = ["POOL", "POOL_NUMBERS", "SCORES", "check_method", "check_record", "check_size"]

import math
import re
import sys
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pyro_probmix.estimators.ensemble.network import LINEAR, Recipe
from pyro_probmix.estimators.saving.entries import has_entries, integer, is_number, need, one_of
from pyro_probmix.inference.methods import CRITERIA, GRAPHS
from pyro_probmix.inference.pseudo_rows import PSEUDO_ROWS
from pyro_probmix.models import LIKELIHOODS, Method
from pyro_probmix.models.networks import ACTIVATIONS

ENTRIES = (
    "format",
    "estimator",
    "parameters",
    "recipe",
    "expansion",
    "factor",
    "tails",
    "pool",
    "single",
    "held_out_rows",
    "seed",
    "calls",
    "diverged",
    "attributes",
    "versions",
)
#: The parts of a :class:`~pyro_probmix.estimators.doubt.conformal.HeldOutScores` that are arrays.
SCORES = ("members", "scores", "share", "weights")
#: The tensors of a :class:`~pyro_probmix.estimators.neighbors.pool.NeighborPool`, and its numbers.
POOL = ("x", "scales", "errors", "own", "weights")
POOL_NUMBERS = ("neighbors", "weight", "width", "growth", "spread", "copied", "copy_scale", "scatter")
SCALER, HISTORY = ("mean", "scale", "unit"), ("best_epoch", "best_nll", "train_loss", "validation_nll")
#: A network has at least a quarter of the weights that joining its widths one by one takes: a method may halve a layer.
FEWEST_SHARE = 4
#: Numbers of a row, for all members, that an encoder may be tried on, whatever the file's size; and for each weight in it.
TRIED, TRIED_OF_EACH = 2**22, 64


def check_record(record: dict[str, Any], tensors: dict[str, Tensor], own: object) -> None:
    """Checks all of a model's record but its parameters and attributes, and what it asks for against the size of the tensors.

    Args:
        record: as read.
        tensors: all of the file.
        own: what stands for an object of the user's.

    Raises:
        ValueError: says which entry is what, and what was expected.
    """
    has_entries("record", record, ENTRIES)
    need(isinstance(record["estimator"], str), "estimator", record["estimator"], "a name")
    for name in ("parameters", "attributes"):
        need(isinstance(record[name], dict), name, record[name], "a record")
    for name in ("factor", "tails"):
        need(is_number(record[name]) and record[name] > 0, name, record[name], "a number above 0")
    need(isinstance(record["single"], bool), "single", record["single"], "true or false")
    integer("seed", record["seed"], 0, 2**31)
    integer("calls", record["calls"], 0)
    recipe = record["recipe"]
    _check_recipe(recipe, own)
    is_list = isinstance(record["expansion"], list) and all(isinstance(part, dict) for part in record["expansion"])
    need(is_list == (recipe["encoder"] is None), "expansion", record["expansion"], "the inputs of a table's columns")
    check_size(recipe, tensors)
    for name in ("grid", "lower", "upper", "marks"):
        _check_each(name, recipe[name], recipe["num_outputs"])
    marks, grid = recipe["marks"], recipe["grid"]
    rounds = all(mark is None or (k < len(grid) and grid[k] > 0) for k, mark in enumerate(marks))
    need(rounds, "grid", grid, "a number above 0 of each target that has marks")
    _check_tensors(record, tensors)


def _check_recipe(recipe: dict[str, Any], own: object) -> None:
    has_entries("recipe", recipe, Recipe.__dataclass_fields__)
    need(isinstance(recipe["method"], dict) and list(recipe["method"]) == ["method"], "method", recipe["method"], "one")
    check_method(recipe["method"]["method"])
    if recipe["likelihood"] != own:
        one_of("likelihood", recipe["likelihood"], (*LIKELIHOODS, LINEAR))
    one_of("activation", recipe["activation"], ACTIVATIONS)
    need(recipe["encoder"] in (None, own), "encoder", recipe["encoder"], "none, or code that is given again")
    for name in ("num_outputs", "members"):
        integer(name, recipe[name], 1)
    integer("periodic", recipe["periodic"], 0)
    if recipe["num_smooth"] is not None:
        integer("num_smooth", recipe["num_smooth"], 0)
    need(is_number(recipe["unit"]) and recipe["unit"] > 0, "unit", recipe["unit"], "a number above 0")
    for name in ("row_shape", "widths"):
        value = recipe[name]
        need(isinstance(value, list) and len(value) > 0, name, value, "a list of sizes")
        for size in value:
            integer(name, size, 1)


def _check_each(name: str, value: object, num_outputs: int) -> None:
    """A list of a number for each target, or of none at all; a bound or a mark may be none, and a grid is not negative."""
    need(isinstance(value, list) and len(value) in (0, num_outputs), name, value, "none, or one for each target")
    assert isinstance(value, list)
    for entry in value:
        good = entry is None if name != "grid" else False
        number = isinstance(entry, int | float) and not isinstance(entry, bool) and abs(entry) <= sys.float_info.max
        need(good or (number and (name != "grid" or entry >= 0)), name, entry, "a number")


def check_method(method: Any) -> None:
    """Raises ValueError for a record that is of no :class:`~pyro_probmix.models.Method`."""
    has_entries("method", method, Method.__dataclass_fields__)
    one_of("method's site", method["site"], (None, "x", "z", "y"))
    one_of("method's graph", method["graph"], (None, *GRAPHS))
    one_of("method's pool", method["pool"], ("linear", "log-linear"))
    one_of("method's variance", method["variance"], (None, "shared", "separate"))
    one_of("method's similarity", method["similarity"], (None, "x", "y"))
    one_of("method's pseudo_rows", method["pseudo_rows"], (None, *PSEUDO_ROWS))
    one_of("method's likelihood", method["likelihood"], (None, *LIKELIHOODS))
    one_of("method's criterion", method["criterion"], (None, *CRITERIA))
    integer("method's num_fused", method["num_fused"], 2)
    integer("method's members", method["members"], 1)
    added, alpha, draws = (method[name] for name in ("add_unfused_rows", "alpha", "draws"))
    need(isinstance(added, bool), "method's add_unfused_rows", added, "true or false")
    need(alpha is None or (is_number(alpha) and alpha > 0), "method's alpha", alpha, "a number above 0, or none")
    need(draws is None or (isinstance(draws, list) and len(draws) == 2), "method's draws", draws, "two, or none")
    for draw in draws or ():
        integer("method's draws", draw, 1)


def check_size(recipe: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Refuses networks that are larger than the file, before one is built."""
    weights = sum(tensor.numel() for name, tensor in tensors.items() if name.startswith("density."))
    sizes, members = [*recipe["widths"], recipe["num_outputs"]], recipe["members"]
    if recipe["encoder"] is None:
        need(len(recipe["row_shape"]) == 1, "row_shape", recipe["row_shape"], "one size, as a table has")
        width, smooth = recipe["row_shape"][0], recipe["num_smooth"]
        smooth = width if smooth is None else smooth
        need(smooth <= width, "num_smooth", smooth, f"at most {width}")
        sizes = [width + smooth * recipe["periodic"], *sizes]
    else:
        sizes = sizes[1:]  # the first is the encoder's
        tried = members * math.prod(recipe["row_shape"])
        need(tried <= max(TRIED, TRIED_OF_EACH * weights), "row_shape", recipe["row_shape"], "rows that fit its size")
    asked = members * max(1, sum(a * b for a, b in pairwise(sizes)))
    if asked > FEWEST_SHARE * weights or len(sizes) > 2 + len(tensors):
        raise ValueError(f"its recipe asks for some {asked:.3g} weights, expected those {weights} that are in it")


def _check_tensors(record: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    members = record["recipe"]["members"]
    history = [name for name in HISTORY if f"history.{name}" in tensors]
    named = {f"{axis}_scaler.{part}" for axis in "xy" for part in SCALER} | {f"history.{name}" for name in history}
    named |= {f"scores.{part}" for part in SCORES if record["held_out_rows"] is not None}
    named |= {f"pool.{part}" for part in POOL if record["pool"] is not None}
    other = {name for name in tensors if not name.startswith("density.") and name != "noise"} ^ named
    need(not other, "list of tensors", sorted(other), "one without those, or with those that are missing")
    for axis in "xy":
        parts = [tensors[f"{axis}_scaler.{part}"] for part in SCALER]
        good = all(part.dtype == torch.float64 and part.dim() == 1 and len(part) > 0 for part in parts)
        need(good and len({len(part) for part in parts}) == 1, f"{axis}_scaler", parts, "vectors of one length")
        finite = all(bool(part.isfinite().all()) for part in parts)
        need(finite and bool((parts[1] > 0).all() and (parts[2] > 0).all()), f"{axis}_scaler", parts, "finite units")
    need(
        len(tensors["x_scaler.unit"]) == record["recipe"]["row_shape"][-1],
        "x_scaler",
        "another's",
        "one of the columns",
    )
    if record["held_out_rows"] is not None:
        _check_scores(record, *(tensors[f"scores.{part}"] for part in SCORES))
    if record["pool"] is not None:
        _check_pool(record, *(tensors[f"pool.{part}"] for part in POOL))
    need(len(history) in (0, len(HISTORY)), "history", history, "all of it or none")
    diverged = record["diverged"]
    need(isinstance(diverged, list) and all(isinstance(name, str) for name in diverged), "diverged", diverged, "names")
    need(len(diverged) <= (members if history else 0), "diverged", diverged, "some of its members")
    if history:
        epochs = tensors["history.train_loss"].shape[:1]
        for name, shape in (("train_loss", (*epochs, members)), ("validation_nll", (*epochs, members)),
                            ("best_epoch", (members,)), ("best_nll", (members,))):  # fmt: skip
            tensor = tensors[f"history.{name}"]
            good = tensor.dtype == torch.int64 if name == "best_epoch" else tensor.is_floating_point()
            need(good and tuple(tensor.shape) == shape, f"history.{name}", tuple(tensor.shape), f"shape {shape}")


def _check_pool(
    record: dict[str, Any], x: Tensor, scales: Tensor, errors: Tensor, own: Tensor, weights: Tensor
) -> None:
    recipe, numbers = record["recipe"], record["pool"]
    has_entries("pool", numbers, POOL_NUMBERS)
    integer("pool's neighbors", numbers["neighbors"], 1)
    for name, least, most in (
        ("weight", -1, 1), ("width", 0, math.inf), ("growth", -1, math.inf), ("spread", 0, math.inf),
        ("copied", -1, 1), ("copy_scale", 0, math.inf),
    ):  # fmt: skip
        good = is_number(numbers[name]) and least < numbers[name] < most and numbers[name] >= 0
        need(good, f"pool's {name}", numbers[name], "a number in its range")
    scatter = numbers["scatter"]
    need(is_number(scatter) and 0 <= scatter <= 1, "pool's scatter", scatter, "a number from 0 to 1")
    need(recipe["num_outputs"] == 1, "pool", numbers, "none for several targets")
    n, members = x.shape[0] if x.dim() == 2 else 0, recipe["members"]
    width = recipe["row_shape"][-1]
    shapes = ((n, width), (width,), (members, n, 1), (members, n), (n,))
    for part, tensor, shape in zip(POOL, (x, scales, errors, own, weights), shapes, strict=True):
        need(tuple(tensor.shape) == shape and n > 0, f"pool.{part}", tuple(tensor.shape), f"shape {shape}")
        dtype = torch.bool if part == "own" else torch.float32
        need(tensor.dtype == dtype, f"pool.{part}", tensor.dtype, f"{dtype}")
        need(bool(tensor.isfinite().all()), f"pool.{part}", tensor, "finite numbers")
    for part, tensor in (("weights", weights), ("scales", scales)):
        need(bool((tensor > 0).all()), f"pool.{part}", tensor, "numbers above 0")


def _check_scores(record: dict[str, Any], members: Tensor, scores: Tensor, share: Tensor, weights: Tensor) -> None:
    rows, recipe = record["held_out_rows"], record["recipe"]
    good = isinstance(rows, str) and bool(re.fullmatch(r"([0-9a-f]{64})?", rows))
    need(good, "held_out_rows", rows, "a digest, or none")
    types = (torch.int64, torch.float64, torch.int64, torch.float64)
    for part, tensor, dtype in zip(SCORES, (members, scores, share, weights), types, strict=True):
        need(tensor.dtype == dtype, f"scores.{part}", tensor.dtype, f"{dtype}")
    shape, n = tuple(scores.shape), len(weights) if weights.dim() == 1 else 0
    need(shape == (n, recipe["num_outputs"]) and n > 0, "scores.scores", shape, "a score of each row and target")
    need(bool(((scores >= 0) & (scores <= 1)).all()), "scores.scores", scores, "numbers from 0 to 1")
    need(bool(((weights > 0) & weights.isfinite()).all()), "scores.weights", weights, "finite numbers above 0")
    shape = tuple(members.shape)
    need(shape == (recipe["members"],), "scores.members", shape, "a share of each member")
    shares = set(members.tolist()) - {-1}
    need(all(0 <= one < len(members) for one in shares), "scores.members", members, "shares, or -1")
    need(tuple(share.shape) == (n,) and set(share.tolist()) == shares, "scores.share", share, "shares of members")
