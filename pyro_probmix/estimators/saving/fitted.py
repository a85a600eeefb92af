"""Checks of a saved model's weights and attributes against the density that its recipe makes."""

from __future__ import annotations

__all__ = ["check_attributes", "check_weights"]

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_probmix.columns.expansion import Expansion
from pyro_probmix.columns.schema import Schema
from pyro_probmix.estimators.ensemble.network import Recipe
from pyro_probmix.estimators.saving.entries import has_entries, integer, need
from pyro_probmix.models import GaussianEmbedding


def check_weights(density: Any, members: int, tensors: dict[str, Tensor]) -> None:
    """Checks the weights and the noise in a file against the density that its recipe makes.

    Raises:
        ValueError: for weights of another name, shape or type, or that are not finite; for noise that is not the embedding's.
    """
    given = {name.removeprefix("density."): value for name, value in tensors.items() if name.startswith("density.")}
    wanted = density.state_dict()
    other = sorted(given.keys() ^ wanted.keys())
    need(not other, "list of weights", other, "those of its recipe")
    for name, tensor in given.items():
        shape, floating = tuple(wanted[name].shape), wanted[name].is_floating_point()
        need(tuple(tensor.shape) == shape, f"weight {name}", tuple(tensor.shape), f"shape {shape}")
        good = tensor.dtype in (torch.float32, torch.float64) if floating else tensor.dtype == wanted[name].dtype
        need(good, f"weight {name}", tensor.dtype, f"{wanted[name].dtype}")
        need(not floating or bool(tensor.isfinite().all()), f"weight {name}", "not finite", "finite numbers")
    noise, embedding = tensors.get("noise"), density.embedding
    if not isinstance(embedding, GaussianEmbedding):
        need(noise is None, "noise", "there", "none, since its embedding is not drawn")
        return
    weight: nn.Parameter = embedding.scale.weight
    if noise is None:
        return
    shape, found = (members, 1, weight.shape[-1]), tuple(noise.shape)
    good = noise.dtype in (torch.float32, torch.float64) and noise.dim() == 4 and len(noise) > 0
    need(good and found[1:] == shape, "noise", found, f"shape (draws, {members}, 1, {shape[-1]})")
    need(bool(noise.isfinite().all()), "noise", "not finite", "finite numbers")


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
    has_entries("list of attributes", {k: v for k, v in attributes.items() if k != "feature_names_in_"}, wanted)
    columns = attributes["columns_"]
    need(isinstance(columns, Schema), "columns_", columns, "the columns of a table")
    width = len(columns.columns)
    integer("n_features_in_", attributes["n_features_in_"], width, width)
    inputs = (width,) if expansion is None else (expansion.num_inputs,)
    need(recipe.row_shape[-1:] == inputs, "row_shape", recipe.row_shape, f"{inputs[0]} inputs")
    if expansion is not None:
        need(recipe.num_smooth == expansion.num_smooth, "num_smooth", recipe.num_smooth, f"{expansion.num_smooth}")
    names = attributes.get("feature_names_in_", np.array([""] * width, dtype=object))
    is_list = isinstance(names, np.ndarray) and names.shape == (width,) and all(isinstance(name, str) for name in names)
    need(is_list, "feature_names_in_", names, f"{width} names")
    check = _check_classes if classes else _check_numbers
    allowed = check(attributes, recipe, num_targets)
    need(allowed, "likelihood", recipe.likelihood, f"one for {'classes' if classes else 'numbers'}")


def _check_classes(attributes: dict[str, Any], recipe: Recipe, num_targets: int) -> bool:
    """Checks a classifier's classes; whether its likelihood is one for classes."""
    found = attributes["classes_"]
    need(isinstance(found, np.ndarray) and found.ndim == 1 and len(found) > 0, "classes_", found, "classes")
    need(bool((found[1:] > found[:-1]).all()) and not (found != found).any(), "classes_", found, "sorted classes")
    need(num_targets == 1, "y_scaler", num_targets, "one of a single column")
    if recipe.likelihood == "bernoulli":
        need(len(found) <= 2 and recipe.num_outputs == 1, "classes_", found, "two classes")
    else:
        need(recipe.num_outputs == len(found), "classes_", found, f"{recipe.num_outputs} classes")
    return not isinstance(recipe.likelihood, str) or recipe.likelihood in ("categorical", "bernoulli")


def _check_numbers(attributes: dict[str, Any], recipe: Recipe, num_targets: int) -> bool:
    """Checks the number of a regressor's targets; whether its likelihood is one for numbers."""
    integer("n_outputs_", attributes["n_outputs_"], recipe.num_outputs, recipe.num_outputs)
    integer("y_scaler", num_targets, recipe.num_outputs, recipe.num_outputs)
    single = attributes["_single"]
    need(isinstance(single, bool) and (not single or recipe.num_outputs == 1), "_single", single, "true or false")
    return recipe.likelihood != "categorical"
