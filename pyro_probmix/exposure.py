"""A module's parameters shown to Pyro's SVI, without its global store."""

from __future__ import annotations

__all__ = ["expose_parameters"]

import weakref

from pyro.poutine.runtime import _PYRO_STACK, effectful
from torch import nn


def expose_parameters(module: nn.Module) -> None:
    """Shows the module's own parameters to ``SVI.step``, which collects them by a trace of ``param`` statements.

    Nothing is copied into the global parameter store, where two models with like names would share values. Outside of
    ``SVI.step`` this does nothing.
    """
    if any(getattr(handler, "param_only", False) for handler in _PYRO_STACK):
        for name, parameter in module.named_parameters():
            parameter.unconstrained = weakref.ref(parameter)  # type: ignore[attr-defined] # as Pyro marks its own
            effectful(type="param")(lambda *_, value=parameter, **__: value)(name, name=name)
