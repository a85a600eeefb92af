"""Checks of a configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyro_probmix.experiments.config.config import EXPERIMENTS, OF_SETTINGS, Config
from pyro_probmix.experiments.config.grid import SETTINGS
from pyro_probmix.inference.methods import CRITERIA, GRAPHS
from pyro_probmix.models import find_method
from pyro_probmix.models.layers.scales import SCALES
from pyro_probmix.models.methods import SERIES
from pyro_probmix.models.networks import ACTIVATIONS
from pyro_probmix.names import shown

__all__ = ["check_config"]


def check_config(config: Config) -> None:
    """Raises ValueError for a name that is not there or a number out of range."""
    for name in config.methods:
        find_method(name)
    _check_names(config)
    for option, counts in (
        ("epochs", config.epochs),
        ("patience", config.patience),
        ("particles", config.particles),
        ("neighbors", config.neighbors),
        ("chunk", config.chunk),
        ("num_samples", config.num_samples),
        ("validation_samples", config.validation_samples),
    ):
        _require(counts is None or counts >= 1, option, counts, "at least 1", 5 if option == "neighbors" else 1)
    size = config.batch_size
    _require(size is None or size >= 2, "batch_size", size, "at least 2", 32)
    _require(0 <= config.seed < _SEEDS, "seed", config.seed, f"at least 0 and less than {_SEEDS}", 0)
    seeds = list(config.splits)
    sound = len(set(seeds)) == len(seeds) > 0 and min(seeds) >= 0
    _require(sound, "splits", seeds, "different seeds of at least 0", "0,1,2")
    _require(max(seeds) < _SEEDS, "splits", seeds, f"seeds less than {_SEEDS}", "0,1,2")
    for option, positive in (
        ("alpha", config.alpha),
        ("learning_rate", config.learning_rate),
        ("bandwidth", config.bandwidth),
    ):
        _require(0 < positive < math.inf, option, positive, "a finite value above 0", _DEFAULTS[option])
        sound = bool(_SINGLE.tiny <= positive <= _SINGLE.max)
        _require(sound, option, positive, "a value that a float of 32 bits can hold", _DEFAULTS[option])
    beta = config.beta
    _require(beta is None or 0 <= beta < math.inf, "beta", beta, "a finite value of at least 0", 0)
    rows, noise, df = config.labelled_rows, config.label_noise, config.noise_df
    _require(rows is None or rows >= 10, "labelled_rows", rows, "at least 10", 25)
    _require(0 <= noise < math.inf, "label_noise", noise, "a finite value of at least 0", 0.5)
    _require(df is None or 0 < df < math.inf, "noise_df", df, "a finite value above 0", 3)
    changed = [name for name in _OF_TABLES if getattr(config, name) != getattr(EXPERIMENTS["uci"], name)]
    if changed and config.experiment not in ("uci", "table"):
        raise ValueError(f"{changed[0]} was given for {config.experiment}, expected uci or table. Try leaving it out.")
    if df is not None and noise == 0:
        raise ValueError(f"noise_df is {df} without label_noise, expected a label_noise above 0. Try label_noise 0.5.")
    _check_setting(config)
    both = config.patience is None or config.best_epoch == "validation"
    _require(both, "patience", config.patience, f"none with best_epoch {config.best_epoch}", config.epochs)
    floor, start = config.scale_floor, config.scale_start
    _require(0 <= floor < math.inf, "scale_floor", floor, "a finite value of at least 0", 0.001)
    _require(math.isfinite(start), "scale_start", start, "a finite value", -3)
    _require(config.variance_layers >= 0, "variance_layers", config.variance_layers, "at least 0", 1)
    alphas, betas = list(config.alphas), list(config.betas)
    _require(_all_in(alphas, 0.0, strict=True), "alphas", alphas, "finite values above 0", "0.01, 0.1, 1")
    _require(_all_in(betas, 0.0, strict=False), "betas", betas, "finite values of at least 0", "0, 0.01")
    for option, values, example in (("alphas", alphas, "0.01, 0.1, 1"), ("betas", betas, "0, 0.01")):
        labels = {f"{one:g}" for one in values}  # as the labels of a grid
        _require(len(labels) == len(values), option, values, "values that differ in six digits", example)
    widths = list(config.widths)
    sound = min(widths, default=0) >= 1
    _require(sound, "widths", widths, "at least one width, each at least 1", "128, 32")
    layer, layers = config.mixing_layer, len(widths)
    _require(1 <= layer <= layers, "mixing_layer", layer, f"one of the {layers} hidden layers, from 1", 1)
    _require(0 <= config.dropout < 1, "dropout", config.dropout, "at least 0 and less than 1", 0.1)


def _check_setting(config: Config) -> None:
    """Raises ValueError for a setting whose name stands for something else than what the other entries say."""
    setting = config.setting
    if setting == "relative" and config.experiment != "stocks":
        raise ValueError(f"setting is relative for {config.experiment}, expected stocks. Try --setting fixed.")
    for name, value in OF_SETTINGS.get(setting, {}).items():
        if getattr(config, name) != value:
            raise ValueError(
                f"{name} is {getattr(config, name)} under the setting {setting}, which stands for {name} {value}. Try "
                f'--setting {setting}, which takes that, or "setting": "fixed" for choices of your own.'
            )


#: Entries that change the rows of a table.
_OF_TABLES = ("labelled_rows", "label_noise", "noise_df", "shift")
#: Seeds below it stay within 64 bits when they are multiplied into the seeds of jobs.
_SEEDS = 10**12
_SINGLE = np.finfo(np.float32)
#: Examples for messages.
_DEFAULTS = {"alpha": 0.1, "learning_rate": 0.005, "bandwidth": 1.0}


def _check_names(config: Config) -> None:
    series = config.experiment == "stocks"
    for option, names, known in (
        ("graph", (config.graph,), tuple(GRAPHS)),
        ("criterion", (config.criterion,), tuple(CRITERIA)),
        ("setting", (config.setting,), SETTINGS),
        ("network", [part.strip() for part in config.network.split(",")], tuple(SERIES) if series else ("mlp",)),
        ("task", (config.task,), ("regression", "classification")),
        ("labels", (config.labels,), ("sample", "expected")),
        ("activation", (config.activation,), tuple(ACTIVATIONS)),
        ("targets", (config.targets,), ("standardised", "raw")),
        ("scale", (config.scale,), tuple(SCALES)),
        ("best_epoch", (config.best_epoch,), ("validation", "last", "both")),
        ("weight", (config.weight,), ("pair", "batch")),
    ):
        for name in names:
            if name is not None and name not in known:
                remedy = (
                    "leaving it out" if known == ("mlp",) else _how_to_give(option, known[0])
                )  # only series have --network
                raise ValueError(f"unknown {option} {shown(name)}, expected one of {', '.join(known)}. Try {remedy}.")
    tasks = {"toy-classification": "classification", "ablation-classification": "classification", "table": config.task}
    task = tasks.get(config.experiment, "regression")
    if config.task not in (None, task):
        raise ValueError(
            f"task is {shown(config.task)} for {config.experiment}, expected {shown(task)}. Try leaving it out, or "
            "another experiment."
        )
    expected = EXPERIMENTS[config.experiment].dataset
    if config.experiment.startswith(("toy", "ablation")) and config.dataset != expected:
        raise ValueError(
            f"dataset is {shown(config.dataset)} for {config.experiment}, expected {shown(expected)}. Try leaving it "
            "out, or table."
        )
    repeated = [name for name in config.methods if config.methods.count(name) > 1]
    if repeated:
        raise ValueError(
            f"the method {repeated[0]} is asked for twice, expected each once. Try --method {repeated[0]}."
        )


def _require(sound: bool, option: str, value: object, expected: str, example: object) -> None:
    if not sound:
        raise ValueError(f"{option} is {value}, expected {expected}. Try {_how_to_give(option, example)}.")


def _all_in(values: Sequence[float], lowest: float, strict: bool) -> bool:
    return bool(values) and all(lowest < one < math.inf or (one == lowest and not strict) for one in values)


def _how_to_give(option: str, example: Any) -> str:
    """An example of a value: with its option if there is one, else with its name in a file."""
    inside = (
        "learning_rate",
        "bandwidth",
        "batch_size",
        "seed",
        "num_samples",
        "validation_samples",
        "alphas",
        "betas",
    )
    choices = (
        "labelled_rows",
        "label_noise",
        "noise_df",
        "targets",
        "scale",
        "scale_floor",
        "scale_start",
        "variance_layers",
        "best_epoch",
        "weight",
    )
    if option in (*inside, *choices, "widths", "mixing_layer", "dropout", "labels", "activation"):
        return f"{option} {example}"
    return f"--{option} {example}"
