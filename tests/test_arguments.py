"""Arguments against annotations: what is taken, what is refused, and in which words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from pyro_probmix.arguments import ArgumentError, checked


@checked(least={"count": 1, "widths": 1, "rate": 0})
def example(
    count: int = 3,
    rate: float = 0.5,
    widths: Sequence[int] = (4, 2),
    name: str | None = None,
    kind: Literal["a", "b"] = "a",
    values: Tensor | float = 0.0,
    module: nn.Module | None = None,
    make: Callable[..., Any] | None = None,
    path: str | PathLike[str] = "here",
    flag: bool = False,
    anything: Any = None,
) -> dict[str, Any]:
    """An example."""
    return locals()


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("count", np.int64(7), 7),
        ("count", np.array(7), 7),
        ("rate", 2, 2),
        ("rate", np.float32(0.25), 0.25),
        ("widths", np.array([3, 2]), [3, 2]),
        ("widths", torch.tensor([3, 2]), [3, 2]),
        ("widths", [3, 2], [3, 2]),
        ("values", np.array([1.0, 2.0]), torch.tensor([1.0, 2.0], dtype=torch.float64)),
        ("values", pd.Series([1, 2]), torch.tensor([1, 2])),
        ("values", np.float64(3), 3.0),
        ("path", Path("there"), Path("there")),
        ("flag", np.bool_(True), True),
        ("make", nn.Linear, nn.Linear),
    ],
)
def test_what_is_taken(name: str, given: Any, taken: Any) -> None:
    found = example(**{name: given})[name]
    assert type(found) is type(taken)
    assert torch.equal(found, taken) if isinstance(taken, Tensor) else found == taken


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("count", 0, r"example got count=0, expected an integer of at least 1. Try count=3."),
        ("count", True, r"count=True, expected an integer of at least 1"),
        ("count", 1.5, r"count=1.5, expected an integer"),
        ("count", "7", r"count='7', expected an integer"),
        ("count", 10**70, r"count=10000000000000000000\.\.\. \(71 digits\), expected an integer"),
        ("widths", [2, True], r"widths=\[2, True\], expected a sequence of integers"),
        ("rate", float("nan"), r"rate=nan, expected a number of at least 0. Try rate=0.5."),
        ("rate", np.array("x"), r"rate=<ndarray of shape \(\)>, expected a number"),
        ("widths", (4, 0), r"widths=\(4, 0\), expected a sequence of integers of at least 1"),
        ("widths", (4, 4, 4, 4, "a"), r"expected a sequence of integers"),
        ("widths", "ab", r"expected a sequence of integers"),
        ("name", 3, r"name=3, expected text or None. Try leaving name out."),
        ("name", [b"abc" * 1000, None], r"name=<list>, expected text or None"),
        ("kind", "c", r"kind='c', expected 'a' or 'b'. Try kind='a'."),
        ("kind", "c\n\x1b" * 1000, r"kind='c\\n\\x1b"),
        ("values", "x", r"values='x', expected a Tensor or a number"),
        ("module", 3, r"module=3, expected a Module or None"),
        ("module", nn.Linear, r"module=Linear, expected a Module or None"),
        ("make", 3, r"make=3, expected a function or None"),
        ("path", np.zeros(3), r"path=<ndarray of shape \(3,\)>, expected text or a path"),
        ("flag", 1, r"flag=1, expected True or False"),
    ],
)
def test_what_is_refused(name: str, given: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said) as caught:
        example(**{name: given})
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, TypeError)
    assert len(str(caught.value)) < 600


@checked()
def arrays(y: ArrayLike, weights: ArrayLike | None = None) -> None: ...


@pytest.mark.parametrize(
    "y",
    [
        np.zeros(3),
        [1.0, 2],
        (1, 2),
        [[1, 2], [3, 4]],
        [True, False],
        range(3),
        1.5,
        pd.Series([1]),
        torch.zeros(2),
        ["a"],
    ],
    ids=repr,
)
def test_what_numpy_makes_an_array_of_is_taken(y: Any) -> None:
    arrays(y)
    arrays(y, y)


@pytest.mark.parametrize("y", [None, {}, [None], [1, [2, 3]], {1}, print], ids=repr)
def test_what_is_no_array_is_refused(y: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^arrays got y=.*, expected an array. Try passing an array.$"):
        arrays(y)
    with pytest.raises(ArgumentError, match=r"^arrays got weights=.*, expected an array or None. Try leaving"):
        arrays(0.0, y or [None])


def test_signature_names_and_errors_of_python_stay() -> None:
    assert list(inspect.signature(example).parameters)[:2] == ["count", "rate"]
    assert example.__doc__ == "An example."
    with pytest.raises(TypeError, match="unexpected keyword argument 'cuont'"):
        example(cuont=3)  # type: ignore[call-arg] # on purpose

    class Made:
        @checked(least={"size": 2})
        def __init__(self, size: int) -> None:
            self.size = size

    with pytest.raises(ArgumentError, match=r"^Made got size=1, expected an integer of at least 2. Try 2.$"):
        Made(1)
