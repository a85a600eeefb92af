"""Arguments of public functions, checked against their annotations: taken where they can be, else refused in one sentence."""

from __future__ import annotations

__all__ = ["ArgumentError", "checked", "short"]

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeVar

from pyro_probmix.names import shown

P = ParamSpec("P")
T = TypeVar("T")

#: How types are called in a sentence, one and several of them.
_NAMES: dict[Any, tuple[str, str]] = {
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    bool: ("True or False", "truth values"),
    str: ("text", "texts"),
    type(None): ("None", "None"),
    Callable: ("a function", "functions"),
}
_LONGEST = 60


class ArgumentError(ValueError, TypeError):
    """An argument of a wrong type or out of its range."""


def checked(*, least: Mapping[str, float] | None = None) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Makes a decorator that checks the arguments of a function against its annotations.

    NumPy's numbers are taken as Python's, and arrays where tensors or sequences of numbers are expected. What is annotated as
    ``Any`` is not looked at. The annotations are read at the first call.

    Args:
        least: the smallest value that an argument may have, or each entry of it.

    Returns:
        the decorator; what it makes raises :class:`ArgumentError`, one sentence with what was given and expected.

    Example:
        >>> from pyro_probmix.arguments import checked
        >>> @checked(least={"times": 1})
        ... def repeat(text: str, times: int = 2) -> str:
        ...     return text * times
        >>> repeat("ab")
        'abab'
        >>> repeat("ab", times=0)
        Traceback (most recent call last):
        pyro_probmix.arguments.ArgumentError: repeat got times=0, expected an integer of at least 1. Try times=2.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)
        *owner, name = function.__qualname__.replace("<locals>.", "").split(".")
        who = owner[-1] if name == "__init__" else ".".join([*owner[-1:], name])
        hints: dict[str, Any] = {}

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            if not hints:
                hints.update(typing.get_type_hints(function), **{"return": Any})
            bound = signature.bind(*args, **kwargs)
            for name, value in bound.arguments.items():
                parameter = signature.parameters[name]
                if name in hints and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    smallest = None if least is None else least.get(name)
                    bound.arguments[name] = _taken(who, parameter, value, hints[name], smallest)
            return function(*bound.args, **bound.kwargs)

        return call

    return decorate


def _taken(who: str, parameter: inspect.Parameter, given: object, hint: Any, least: float | None) -> Any:
    """The argument in the type of its annotation."""
    value = _converted(given, hint)
    if not _fits(value, hint) or (least is not None and not _at_least(value, least)):
        expected = _described(hint, least)
        default = parameter.default
        way = f"{parameter.name}={short(default)}" if default not in (parameter.empty, None) else _example(hint, least)
        if default is None:
            way = f"leaving {parameter.name} out"
        raise ArgumentError(f"{who} got {parameter.name}={short(given)}, expected {expected}. Try {way}.")
    return value


def _options(hint: Any) -> tuple[Any, ...]:
    """The types that an annotation allows; NumPy's ArrayLike, of other parts in each of its versions, is one."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return (hint,)
    options = tuple(option for part in typing.get_args(hint) for option in _options(part))
    if any(getattr(typing.get_origin(option), "__name__", "") == "_SupportsArray" for option in options):
        from numpy.typing import ArrayLike

        return (ArrayLike, *(option for option in options if option not in typing.get_args(ArrayLike)))
    return options


def _converted(value: Any, hint: Any) -> Any:
    """NumPy's numbers as Python's, and arrays as what is expected in their place."""
    kind = type(value).__module__.partition(".")[0]
    options = _options(hint)
    names = {getattr(option, "__name__", "") for option in options}
    if kind == "numpy" and getattr(value, "shape", None) == () and "ndarray" not in names and hasattr(value, "item"):
        if value.dtype.kind not in "biuf":
            return value
        if "Tensor" not in names or names & {"int", "float", "bool"}:
            return value.item()
    if kind in ("numpy", "pandas") and hasattr(value, "dtype") and "Tensor" in names and value.dtype.kind in "biuf":
        import torch

        return torch.as_tensor(value.to_numpy(copy=True) if kind == "pandas" else value)
    sequences = [option for option in options if typing.get_origin(option) in (Sequence, list, tuple)]
    if kind in ("numpy", "pandas", "torch") and sequences and "Tensor" not in names and getattr(value, "ndim", 0) == 1:
        return value.tolist()
    return value


def _fits(value: object, hint: Any) -> bool:
    from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

    options = _options(hint)
    if any(_is_array_like(option) for option in options):
        return (value is None and type(None) in options) or _is_array(value)
    entries = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(entry, bool) for entry in entries) and not any(
        option in (bool, Any, object) or bool in typing.get_args(option) or _is_literal(option) for option in options
    ):
        return False  # to Python it is an integer, too
    if any(isinstance(entry, int) and abs(entry) >= 2**63 for entry in entries):
        return False  # no tensor can hold it
    try:
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError:
        return False
    return True


def _is_array_like(option: Any) -> bool:
    if getattr(option, "__name__", "") == "ArrayLike":
        return True
    return any(getattr(typing.get_origin(part), "__name__", "") == "_SupportsArray" for part in typing.get_args(option))


def _is_array(value: Any) -> bool:
    """Whether NumPy makes an array of the value, other than one of Python's objects."""
    if hasattr(value, "__array__"):
        return True
    import numpy as np

    try:
        return np.asarray(value).dtype != object
    except (ValueError, TypeError):
        return False  # of uneven rows


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal


def _at_least(value: Any, least: float) -> bool:
    """Whether numbers are; None and what is no number are not compared."""
    if isinstance(value, int | float):
        return value >= least
    if isinstance(value, list | tuple):
        return all(_at_least(entry, least) for entry in value)
    return True


def _described(hint: Any, least: float | None) -> str:
    said = list(dict.fromkeys(_name(option, least) for option in _options(hint)))
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} or {said[-1]}"


def _name(option: Any, least: float | None) -> str:
    bound = "" if least is None else f" of at least {least:g}"
    origin = typing.get_origin(option)
    if _is_array_like(option):
        return "an array"
    if _is_literal(option):
        return " or ".join(repr(value) for value in typing.get_args(option))
    if option in _NAMES:
        return _NAMES[option][0] + (bound if option in (int, float) else "")
    if origin in (Sequence, list, tuple):
        entries = [entry for entry in typing.get_args(option) if entry is not Ellipsis]
        kinds = dict.fromkeys(_NAMES.get(one, ("", getattr(one, "__name__", "values")))[1] for one in entries)
        return "a sequence" if kinds.keys() <= {"Any"} else f"a sequence of {' or '.join(kinds)}{bound}"
    if origin is not None and getattr(origin, "__name__", "") == "Callable":
        return "a function"
    if getattr(origin or option, "__name__", "") == "PathLike":
        return "a path"
    name = getattr(origin or option, "__name__", str(option))
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _example(hint: Any, least: float | None) -> str:
    option = _options(hint)[0]
    if option in (int, float):
        return f"{max(1, least or 1):g}"
    return f"passing {_name(option, None)}"


def short(value: object) -> str:
    """A value for a message: numbers and texts as they are, else the type."""
    if isinstance(value, str):
        return shown(value)
    if value is None or isinstance(value, bool | int | float) or inspect.isclass(value):
        text = getattr(value, "__name__", None) or repr(value)
        return text if len(text) <= _LONGEST else f"{text[:20]}... ({len(text)} digits)"
    if isinstance(value, list | tuple) and len(repr(value)) <= _LONGEST:
        return repr(value)
    kind, shape = type(value).__name__, getattr(value, "shape", None)
    return f"<{kind} of shape {tuple(shape)}>" if isinstance(shape, tuple) else f"<{kind}>"
