"""A module's parameters shown to Pyro's SVI, without its global store."""

from __future__ import annotations

__all__ = ["expose_parameters"]

import weakref
from collections.abc import Iterator

from pyro.nn import PyroModule
from pyro.poutine.runtime import _PYRO_STACK, effectful
from torch import nn


def expose_parameters(module: nn.Module) -> None:
    """Shows the module's parameters to ``SVI.step``, which collects them by a trace of ``param`` statements.

    Nothing is copied into the global parameter store, where two models with like names would share values. Outside of
    ``SVI.step`` this does nothing.

    A jitted loss within it looks parameters up in the store. There those of a ``PyroModule`` are left to its own statements.

    Raises:
        ValueError: under a jitted loss, for the parameters of other modules.
    """
    collectors = sum(getattr(handler, "param_only", False) for handler in _PYRO_STACK)
    if not collectors:
        return
    for parameter in module.parameters():
        parameter.unconstrained = weakref.ref(parameter)  # type: ignore[attr-defined] # as Pyro marks its own
    if collectors == 1:
        for name, parameter in module.named_parameters():
            effectful(type="param")(lambda *_, value=parameter, **__: value)(name, name=name)
        return
    # A jitted loss collects for itself, within SVI's own collection.
    unstated = next(_unstated("", module), None)
    if unstated is not None:
        raise ValueError(
            f"a jitted loss looks for the parameter {unstated!r} in Pyro's store, where a module's are not, expected a loss "
            "that takes them from the model. Try Trace_ELBO, or a PyroModule."
        )


def _unstated(prefix: str, module: nn.Module) -> Iterator[str]:
    """The names of the parameters that are in no PyroModule."""
    if not isinstance(module, PyroModule):
        for name, _ in module.named_parameters(prefix.rstrip("."), recurse=False):
            yield name
        for name, child in module.named_children():
            yield from _unstated(f"{prefix}{name}.", child)
