"""The fields of a saved model, each checked as it is read: a file may come from an untrusted source."""

from __future__ import annotations

__all__ = ["SCORES", "check_attributes", "check_record", "check_weights", "python_value"]

import math
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_probmix.columns.expansion import Expansion
from pyro_probmix.columns.schema import Schema
from pyro_probmix.estimators.network import LINEAR, Recipe
from pyro_probmix.inference.methods import CRITERIA, GRAPHS
from pyro_probmix.models import LIKELIHOODS, GaussianEmbedding, Method
from pyro_probmix.models.networks import ACTIVATIONS

ENTRIES = (
    "format",
    "estimator",
    "parameters",
    "recipe",
    "expansion",
    "factor",
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
SCALER, HISTORY = ("mean", "scale", "unit"), ("best_epoch", "best_nll", "train_loss", "validation_nll")
LARGEST = 2**53
#: A network has at least a quarter of the weights that joining its widths one by one takes: a method may halve a layer.
FEWEST_SHARE = 4
#: Numbers of a row, for all members, that an encoder may be tried on, whatever the file's size; and for each weight in it.
TRIED, TRIED_OF_EACH = 2**22, 64
#: Bytes of an array of names or classes, whatever is in it; and for each character.
ARRAY, ARRAY_OF_EACH = 2**24, 64


def _need(truth: bool, what: str, given: object, expected: str) -> None:
    if not truth:
        text = repr(given)
        raise ValueError(f"its {what} is {text if len(text) <= 60 else text[:57] + '...'}, expected {expected}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST  # and not NaN


def _integer(what: str, value: object, least: int, most: int = LARGEST) -> None:
    truth = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    _need(truth, what, value, f"an integer from {least} to {most}")


def _one_of(what: str, value: object, options: Iterable[object]) -> None:
    choices = list(options)
    _need(isinstance(value, str | None) and value in choices, what, value, f"one of {', '.join(map(str, choices))}")


def _entries(what: str, value: object, names: Iterable[str]) -> None:
    _need(isinstance(value, dict), what, value, "a record")
    assert isinstance(value, dict)
    other = sorted(set(value) ^ set(names))
    _need(not other, what, other, "a record with neither more nor fewer entries than save() writes")


def check_record(record: dict[str, Any], tensors: dict[str, Tensor], own: object) -> None:
    """Checks all of a model's record but its parameters and attributes, and what it asks for against the size of the tensors.

    Args:
        record: as read.
        tensors: all of the file.
        own: what stands for an object of the user's.

    Raises:
        ValueError: says which entry is what, and what was expected.
    """
    _entries("record", record, ENTRIES)
    _need(isinstance(record["estimator"], str), "estimator", record["estimator"], "a name")
    for name in ("parameters", "attributes"):
        _need(isinstance(record[name], dict), name, record[name], "a record")
    _need(_is_number(record["factor"]) and record["factor"] > 0, "factor", record["factor"], "a number above 0")
    _need(isinstance(record["single"], bool), "single", record["single"], "true or false")
    _integer("seed", record["seed"], 0, 2**31)
    _integer("calls", record["calls"], 0)
    recipe = record["recipe"]
    _entries("recipe", recipe, Recipe.__dataclass_fields__)
    _need(
        isinstance(recipe["method"], dict) and list(recipe["method"]) == ["method"], "method", recipe["method"], "one"
    )
    _check_method(recipe["method"]["method"])
    if recipe["likelihood"] != own:
        _one_of("likelihood", recipe["likelihood"], (*LIKELIHOODS, LINEAR))
    _one_of("activation", recipe["activation"], ACTIVATIONS)
    _need(recipe["encoder"] in (None, own), "encoder", recipe["encoder"], "none, or code that is given again")
    for name in ("num_outputs", "members"):
        _integer(name, recipe[name], 1)
    _integer("periodic", recipe["periodic"], 0)
    if recipe["num_smooth"] is not None:
        _integer("num_smooth", recipe["num_smooth"], 0)
    is_list = isinstance(record["expansion"], list) and all(isinstance(part, dict) for part in record["expansion"])
    _need(is_list == (recipe["encoder"] is None), "expansion", record["expansion"], "the inputs of a table's columns")
    _need(_is_number(recipe["unit"]) and recipe["unit"] > 0, "unit", recipe["unit"], "a number above 0")
    for name in ("row_shape", "widths"):
        value = recipe[name]
        _need(isinstance(value, list) and len(value) > 0, name, value, "a list of sizes")
        for size in value:
            _integer(name, size, 1)
    _check_size(recipe, tensors)
    for name in ("grid", "lower", "upper"):
        _check_each(name, recipe[name], recipe["num_outputs"])
    _check_tensors(record, tensors)


def _check_each(name: str, value: object, num_outputs: int) -> None:
    """A list of a number for each target, or of none at all; a bound may be none, and a grid is not negative."""
    _need(isinstance(value, list) and len(value) in (0, num_outputs), name, value, "none, or one for each target")
    assert isinstance(value, list)
    for entry in value:
        good = entry is None if name != "grid" else False
        number = isinstance(entry, int | float) and not isinstance(entry, bool) and math.isfinite(entry)
        _need(good or (number and (name != "grid" or entry >= 0)), name, entry, "a number")


def _check_method(method: Any) -> None:
    _entries("method", method, Method.__dataclass_fields__)
    _one_of("method's site", method["site"], (None, "x", "z", "y"))
    _one_of("method's graph", method["graph"], (None, *GRAPHS))
    _one_of("method's pool", method["pool"], ("linear", "log-linear"))
    _one_of("method's variance", method["variance"], (None, "shared", "separate"))
    _one_of("method's similarity", method["similarity"], (None, "x", "y"))
    _one_of("method's likelihood", method["likelihood"], (None, *LIKELIHOODS))
    _one_of("method's criterion", method["criterion"], (None, *CRITERIA))
    _integer("method's num_fused", method["num_fused"], 2)
    _integer("method's members", method["members"], 1)
    added, alpha, draws = (method[name] for name in ("add_unfused_rows", "alpha", "draws"))
    _need(isinstance(added, bool), "method's add_unfused_rows", added, "true or false")
    _need(alpha is None or (_is_number(alpha) and alpha > 0), "method's alpha", alpha, "a number above 0, or none")
    _need(draws is None or (isinstance(draws, list) and len(draws) == 2), "method's draws", draws, "two, or none")
    for draw in draws or ():
        _integer("method's draws", draw, 1)


def _check_size(recipe: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Refuses networks that are larger than the file, before one is built."""
    weights = sum(tensor.numel() for name, tensor in tensors.items() if name.startswith("density."))
    sizes, members = [*recipe["widths"], recipe["num_outputs"]], recipe["members"]
    if recipe["encoder"] is None:
        _need(len(recipe["row_shape"]) == 1, "row_shape", recipe["row_shape"], "one size, as a table has")
        width, smooth = recipe["row_shape"][0], recipe["num_smooth"]
        smooth = width if smooth is None else smooth
        _need(smooth <= width, "num_smooth", smooth, f"at most {width}")
        sizes = [width + smooth * recipe["periodic"], *sizes]
    else:
        sizes = sizes[1:]  # the first is the encoder's
        tried = members * math.prod(recipe["row_shape"])
        _need(tried <= max(TRIED, TRIED_OF_EACH * weights), "row_shape", recipe["row_shape"], "rows that fit its size")
    asked = members * max(1, sum(a * b for a, b in pairwise(sizes)))
    if asked > FEWEST_SHARE * weights or len(sizes) > 2 + len(tensors):
        raise ValueError(f"its recipe asks for some {asked:.3g} weights, expected those {weights} that are in it")


def _check_tensors(record: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    members = record["recipe"]["members"]
    history = [name for name in HISTORY if f"history.{name}" in tensors]
    named = {f"{axis}_scaler.{part}" for axis in "xy" for part in SCALER} | {f"history.{name}" for name in history}
    named |= {f"scores.{part}" for part in SCORES if record["held_out_rows"] is not None}
    other = {name for name in tensors if not name.startswith("density.") and name != "noise"} ^ named
    _need(not other, "list of tensors", sorted(other), "one without those, or with those that are missing")
    for axis in "xy":
        parts = [tensors[f"{axis}_scaler.{part}"] for part in SCALER]
        good = all(part.dtype == torch.float64 and part.dim() == 1 and len(part) > 0 for part in parts)
        _need(good and len({len(part) for part in parts}) == 1, f"{axis}_scaler", parts, "vectors of one length")
        finite = all(bool(part.isfinite().all()) for part in parts)
        _need(finite and bool((parts[1] > 0).all() and (parts[2] > 0).all()), f"{axis}_scaler", parts, "finite units")
    _need(
        len(tensors["x_scaler.unit"]) == record["recipe"]["row_shape"][-1],
        "x_scaler",
        "another's",
        "one of the columns",
    )
    if record["held_out_rows"] is not None:
        _check_scores(record, *(tensors[f"scores.{part}"] for part in SCORES))
    _need(len(history) in (0, len(HISTORY)), "history", history, "all of it or none")
    diverged = record["diverged"]
    _need(isinstance(diverged, list) and all(isinstance(name, str) for name in diverged), "diverged", diverged, "names")
    _need(len(diverged) <= (members if history else 0), "diverged", diverged, "some of its members")
    if history:
        epochs = tensors["history.train_loss"].shape[:1]
        for name, shape in (("train_loss", (*epochs, members)), ("validation_nll", (*epochs, members)),
                            ("best_epoch", (members,)), ("best_nll", (members,))):  # fmt: skip
            tensor = tensors[f"history.{name}"]
            good = tensor.dtype == torch.int64 if name == "best_epoch" else tensor.is_floating_point()
            _need(good and tuple(tensor.shape) == shape, f"history.{name}", tuple(tensor.shape), f"shape {shape}")


def _check_scores(record: dict[str, Any], members: Tensor, scores: Tensor, share: Tensor, weights: Tensor) -> None:
    rows, recipe = record["held_out_rows"], record["recipe"]
    good = isinstance(rows, str) and bool(re.fullmatch(r"([0-9a-f]{64})?", rows))
    _need(good, "held_out_rows", rows, "a digest, or none")
    types = (torch.int64, torch.float64, torch.int64, torch.float64)
    for part, tensor, dtype in zip(SCORES, (members, scores, share, weights), types, strict=True):
        _need(tensor.dtype == dtype, f"scores.{part}", tensor.dtype, f"{dtype}")
    shape, n = tuple(scores.shape), len(weights) if weights.dim() == 1 else 0
    _need(shape == (n, recipe["num_outputs"]) and n > 0, "scores.scores", shape, "a score of each row and target")
    _need(bool(((scores >= 0) & (scores <= 1)).all()), "scores.scores", scores, "numbers from 0 to 1")
    _need(bool(((weights > 0) & weights.isfinite()).all()), "scores.weights", weights, "finite numbers above 0")
    shape = tuple(members.shape)
    _need(shape == (recipe["members"],), "scores.members", shape, "a share of each member")
    shares = set(members.tolist()) - {-1}
    _need(all(0 <= one < len(members) for one in shares), "scores.members", members, "shares, or -1")
    _need(tuple(share.shape) == (n,) and set(share.tolist()) == shares, "scores.share", share, "shares of members")


def check_weights(density: Any, members: int, tensors: dict[str, Tensor]) -> None:
    """Checks the weights and the noise in a file against the density that its recipe makes.

    Raises:
        ValueError: for weights of another name, shape or type, or that are not finite; for noise that is not the embedding's.
    """
    given = {name.removeprefix("density."): value for name, value in tensors.items() if name.startswith("density.")}
    wanted = density.state_dict()
    other = sorted(given.keys() ^ wanted.keys())
    _need(not other, "list of weights", other, "those of its recipe")
    for name, tensor in given.items():
        shape, floating = tuple(wanted[name].shape), wanted[name].is_floating_point()
        _need(tuple(tensor.shape) == shape, f"weight {name}", tuple(tensor.shape), f"shape {shape}")
        good = tensor.dtype in (torch.float32, torch.float64) if floating else tensor.dtype == wanted[name].dtype
        _need(good, f"weight {name}", tensor.dtype, f"{wanted[name].dtype}")
        _need(not floating or bool(tensor.isfinite().all()), f"weight {name}", "not finite", "finite numbers")
    noise, embedding = tensors.get("noise"), density.embedding
    if not isinstance(embedding, GaussianEmbedding):
        _need(noise is None, "noise", "there", "none, since its embedding is not drawn")
        return
    weight: nn.Parameter = embedding.scale.weight
    if noise is None:
        return
    shape, found = (members, 1, weight.shape[-1]), tuple(noise.shape)
    good = noise.dtype in (torch.float32, torch.float64) and noise.dim() == 4 and len(noise) > 0
    _need(good and found[1:] == shape, "noise", found, f"shape (draws, {members}, 1, {shape[-1]})")
    _need(bool(noise.isfinite().all()), "noise", "not finite", "finite numbers")


def check_attributes(
    attributes: dict[str, Any], recipe: Recipe, expansion: Expansion | None, num_targets: int, *, classes: bool
) -> None:
    """Checks what a fit sets beside the state: names and numbers of columns, classes.

    Args:
        attributes: by name, as Python holds them.
        recipe, expansion: of the state.
        num_targets: columns of the scaling of targets.
        classes: whether the estimator is one of classes.

    Raises:
        ValueError: says which is what, and what was expected.
    """
    wanted = {"n_features_in_", "columns_", *(("classes_",) if classes else ("n_outputs_", "_single"))}
    _entries("list of attributes", {k: v for k, v in attributes.items() if k != "feature_names_in_"}, wanted)
    columns = attributes["columns_"]
    _need(isinstance(columns, Schema), "columns_", columns, "the columns of a table")
    width = len(columns.columns)
    _integer("n_features_in_", attributes["n_features_in_"], width, width)
    inputs = (width,) if expansion is None else (expansion.num_inputs,)
    _need(recipe.row_shape[-1:] == inputs, "row_shape", recipe.row_shape, f"{inputs[0]} inputs")
    if expansion is not None:
        _need(recipe.num_smooth == expansion.num_smooth, "num_smooth", recipe.num_smooth, f"{expansion.num_smooth}")
    names = attributes.get("feature_names_in_", np.array([""] * width, dtype=object))
    is_list = isinstance(names, np.ndarray) and names.shape == (width,) and all(isinstance(name, str) for name in names)
    _need(is_list, "feature_names_in_", names, f"{width} names")
    if classes:
        found = attributes["classes_"]
        _need(isinstance(found, np.ndarray) and found.ndim == 1 and len(found) > 0, "classes_", found, "classes")
        _need(bool((found[1:] > found[:-1]).all()) and not (found != found).any(), "classes_", found, "sorted classes")
        _need(num_targets == 1, "y_scaler", num_targets, "one of a single column")
        if recipe.likelihood == "bernoulli":
            _need(len(found) <= 2 and recipe.num_outputs == 1, "classes_", found, "two classes")
        else:
            _need(recipe.num_outputs == len(found), "classes_", found, f"{recipe.num_outputs} classes")
        allowed = not isinstance(recipe.likelihood, str) or recipe.likelihood in ("categorical", "bernoulli")
    else:
        _integer("n_outputs_", attributes["n_outputs_"], recipe.num_outputs, recipe.num_outputs)
        _integer("y_scaler", num_targets, recipe.num_outputs, recipe.num_outputs)
        single = attributes["_single"]
        _need(isinstance(single, bool) and (not single or recipe.num_outputs == 1), "_single", single, "true or false")
        allowed = recipe.likelihood != "categorical"
    _need(allowed, "likelihood", recipe.likelihood, f"one for {'classes' if classes else 'numbers'}")


def python_value(name: str, value: Any) -> Any:
    """The value of a parameter or attribute that a record holds.

    Raises:
        ValueError: for what save() does not write, such as lists in lists.
    """
    if isinstance(value, list):
        _need(all(isinstance(entry, str | bool | int | float | None) for entry in value), name, value, "a flat list")
        return tuple(value)
    if isinstance(value, dict) and list(value) == ["method"]:
        _check_method(value["method"])
        fields: Any = {field: tuple(v) if isinstance(v, list) else v for field, v in value["method"].items()}
        return Method(**fields)
    if isinstance(value, dict) and list(value) == ["columns"]:
        _need(isinstance(value["columns"], list), name, value, "a list of columns")
        return Schema.from_record(value["columns"])
    if isinstance(value, dict):
        return _array(name, value)
    return value


def _array(name: str, value: dict[str, Any]) -> Any:
    _entries(name, value, ("array", "type"))
    entries, kind = value["array"], value["type"]
    flat = isinstance(entries, list) and all(isinstance(entry, str | bool | int | float) for entry in entries)
    _need(flat, name, entries, "a flat list")
    _need(
        isinstance(kind, str) and bool(re.fullmatch(r"[<>|=]?[biufUO][0-9]{0,9}", kind)),
        name,
        kind,
        "a type of NumPy's",
    )
    try:
        dtype = np.dtype(kind)
        room = ARRAY + ARRAY_OF_EACH * sum(len(str(entry)) for entry in entries)
        _need(dtype.itemsize * len(entries) <= room, name, kind, "a type that fits the entries")
        found = np.array(entries, dtype=dtype)
        # As wide as the longest text: predictions repeat an entry for each row, whatever width the file asks for.
        return found.astype(f"U{max(map(len, found.tolist()), default=1) or 1}") if dtype.kind == "U" else found
    except (TypeError, OverflowError) as error:
        raise ValueError(f"its {name} cannot be an array of {kind}: {error}") from None
