"""Checks of the arguments of a fit, before anything is done."""

from __future__ import annotations

__all__ = [
    "check_arguments",
    "check_criterion",
    "check_functions",
    "check_options",
    "checked_rates",
    "made_optimizer",
]

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_probmix.arguments import short
from pyro_probmix.inference.criteria import Criterion
from pyro_probmix.inference.step.replicas import Replicas
from pyro_probmix.names import name_of


def checked_rates(learning_rate: Any, replicas: Replicas) -> Tensor:
    """The learning rate, [] or [R]; raises ValueError unless it is above 0."""
    try:
        rates = torch.as_tensor(learning_rate, dtype=torch.get_default_dtype()).cpu()
    except (RuntimeError, TypeError, ValueError):
        raise ValueError(
            f"fit got learning_rate={learning_rate!r}, expected a number or a tensor. Try learning_rate=0.005."
        ) from None
    if rates.dim() and rates.shape != (replicas.count,):
        raise ValueError(
            f"fit got learning rates of shape {tuple(rates.shape)}, expected a number or one for each replica, "
            f"({replicas.count},). Try learning_rate=0.005."
        )
    if not bool(((rates > 0) & rates.isfinite()).all()):
        raise ValueError(f"fit got learning_rate={learning_rate}, expected values above 0. Try learning_rate=0.005.")
    return rates


def made_optimizer(
    make: Callable[..., torch.optim.Optimizer], parameters: list[torch.nn.Parameter], rate: float
) -> torch.optim.Optimizer:
    """The optimizer of the parameters; raises ValueError if what should make it makes none."""
    expected = "expected a class of torch.optim, or a function from (parameters, lr=...) to such an optimizer"
    try:
        made = make(parameters, lr=rate)
    except TypeError as error:  # an optimizer, or a maker of Pyro's, in the place of a class
        raise ValueError(
            f"fit got the optimizer {name_of(make)}, {expected}: {error}. Try optimizer=torch.optim.Adam."
        ) from error
    if not isinstance(made, torch.optim.Optimizer):
        raise ValueError(
            f"fit got the optimizer {name_of(make)}, which makes a {name_of(made)}, {expected}. Try optimizer=torch.optim.Adam."
        )
    return made


def check_criterion(criterion: object) -> None:
    """Raises ValueError unless it is a :class:`Criterion` or None."""
    if isinstance(criterion, type) and issubclass(criterion, Criterion):
        name = criterion.__name__
        raise ValueError(f"fit got the class {name} as criterion, expected one made of it. Try criterion={name}().")
    if criterion is not None and not isinstance(criterion, Criterion):
        raise ValueError(
            f"fit got the criterion {name_of(criterion)}, expected a pyro_probmix.inference.Criterion. "
            f"Try ExpectedLogLikelihood(), or pyro.infer.SVI with {name_of(criterion)}."
        )


def check_options(*, seed: object, names: object, **switches: object) -> None:
    """Raises ValueError for a seed that is no integer, names that are no texts, or switches that are neither on nor off."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise ValueError(f"fit got seed={short(seed)}, expected an integer of at least 0. Try seed=0.")
    if names is not None and not (isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"fit got names={short(names)}, expected a name for each replica. Try names=None.")
    for name, value in switches.items():
        may_be_auto = name in ("compile", "plain")
        auto = may_be_auto and isinstance(value, str) and value == "auto"
        if not auto and not isinstance(value, bool | np.bool_):
            others = ", False or 'auto'" if may_be_auto else " or False"
            raise ValueError(f"fit got {name}={short(value)}, expected True{others}. Try {name}=False.")


def check_functions(**functions: object) -> None:
    """Raises ValueError unless each is a function or None."""
    for name, value in functions.items():
        if value is not None and (not callable(value) or isinstance(value, torch.distributions.Distribution)):
            raise ValueError(f"fit got {name}={value!r}, expected a function. Try {name}=None.")


def check_arguments(
    epochs: int, patience: int | None, clip_norm: float | None, num_samples: int, validation: object
) -> None:
    """Raises ValueError for numbers that are none, or not above 0."""
    for name, value in (("epochs", epochs), ("num_samples", num_samples)):
        if not isinstance(value, int | np.integer) or value >= 2**31:
            raise ValueError(f"fit got {name}={value!r}, expected an integer. Try {name}=100.")
    given: dict[str, Any] = {"epochs": epochs, "patience": patience, "clip_norm": clip_norm, "num_samples": num_samples}
    for name, number in given.items():
        is_number = isinstance(number, float | int | np.number) or (isinstance(number, Tensor) and number.numel() == 1)
        if number is not None and not (is_number and 0 < number < 2**63):
            raise ValueError(f"fit got {name}={number!r}, expected a value above 0. Try {name}=10.")
    if patience is not None and validation is None:
        raise ValueError("fit got patience but no validation rows, expected rows to watch. Try validation=(x, y).")
