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

    Nothing is copied into the global parameter store, where two models with like names would share values. Parameters of a
    ``PyroModule``, which makes such statements itself, are left to it. Outside of ``SVI.step`` this does nothing.

    Raises:
        ValueError: under a loss that looks its parameters up in the store, as Pyro's jitted ones do.
    """
    collectors = sum(getattr(handler, "param_only", False) for handler in _PYRO_STACK)
    if not collectors:
        return
    for parameter in module.parameters():
        parameter.unconstrained = weakref.ref(parameter)  # type: ignore[attr-defined] # as Pyro marks its own
    for name, parameter in _unstated("", module):
        if collectors > 1:  # a jitted loss collects for itself, within SVI's own collection
            raise ValueError(
                f"a jitted loss looks for the parameter {name!r} in Pyro's store, where a module's are not, expected a loss "
                "that takes them from the model. Try Trace_ELBO, or a PyroModule."
            )
        effectful(type="param")(lambda *_, value=parameter, **__: value)(name, name=name)


def _unstated(prefix: str, module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters, by name, except those in a PyroModule."""
    if not isinstance(module, PyroModule):
        yield from module.named_parameters(prefix.rstrip("."), recurse=False)
        for name, child in module.named_children():
            yield from _unstated(f"{prefix}{name}.", child)
