"""Writing a program to a file: traced once by PyTorch's exporter, for any number of rows, with what a server has to know."""

from __future__ import annotations

__all__ = ["METADATA", "write_program"]

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_probmix.files import write_file
from pyro_probmix.inference.export.program import Program
from pyro_probmix.names import printable, shown
from pyro_probmix.random_state import alone

#: The extra file of a .pt2 program, and the property of an ONNX model, that holds the record.
METADATA = "metadata.json"
#: The largest relative difference from the estimator's own numbers.
TOLERANCE = 1e-6
ADVICE = "Try another path."


def write_program(
    program: Program,
    rows: Tensor,
    expected: Mapping[str, Tensor],
    metadata: dict[str, Any],
    path: str | os.PathLike[str],
    *,
    digits: int = 9,
) -> None:
    """Writes a program to a file: a ``torch.export`` program (.pt2), or ONNX (.onnx).

    Args:
        program: to be traced.
        rows: some, [n, *row] in double precision, on which it is traced and checked.
        expected: what it has to return for them, as far as that is known.
        metadata: goes into the file as JSON.
        path: of the file.
        digits: to how many digits of the largest number others may be off that are nearly zero.

    Raises:
        ValueError: for another suffix, a program that cannot be traced or gives other numbers, or ONNX without its packages.
        OSError: if the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".pt2", ".onnx"):
        raise ValueError(
            f"export got the path {shown(os.fspath(path))}, expected one that ends in .pt2 or .onnx. Try model.pt2."
        )
    with _traceable():
        found = program(rows)
        for name, value in expected.items():
            _check(name, found[name], value, digits)
        rows_dim = torch.export.Dim("rows", min=1)
        traced = torch.export.export(program, (rows,), dynamic_shapes=({0: rows_dim},), strict=False)
        _refuse_random(traced)
        if suffix == ".pt2":
            record = {METADATA: json.dumps(metadata)}
            write_file(path, lambda place: torch.export.save(traced, place, extra_files=record), advice=ADVICE)
        else:
            _write_onnx(traced, metadata, path)


def _check(name: str, found: Tensor, expected: Tensor, digits: int) -> None:
    """Compares with the estimator's numbers: a module that draws random numbers, say, is no function of its rows."""
    size = float(expected[expected.isfinite()].abs().max()) if bool(expected.isfinite().any()) else 0.0
    if not bool(found.isclose(expected, rtol=TOLERANCE, atol=10.0**-digits * size).all()):
        raise ValueError(
            f"the exported program's {name} differs from the estimator's on its own check, expected equal numbers. Try an "
            "encoder and a likelihood that are functions of their inputs alone."
        )


def _refuse_random(traced: Any) -> None:
    for node in traced.graph.nodes:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise ValueError(
                f"the model draws random numbers in a prediction (by {node.target}), expected an encoder and a likelihood "
                "that are functions of their inputs alone. Try noise in training only, where self.training is True."
            )


class _NoSites(Messenger):
    """Refuses statements of Pyro, which would draw while the program is traced."""

    def _pyro_sample(self, msg: Any) -> None:
        self._refuse(msg)

    def _pyro_param(self, msg: Any) -> None:
        self._refuse(msg)

    def _refuse(self, msg: Any) -> None:
        raise ValueError(
            f"export found the site {msg['name']!r} of Pyro in the encoder or the likelihood, expected modules of tensors "
            "alone. Try save(), which keeps any model for Python."
        )


@contextmanager
def _traceable() -> Iterator[None]:
    """Turns what a model cannot be traced by into one sentence."""
    with alone(), torch.no_grad(), pyro.validation_enabled(False), _NoSites():
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            if isinstance(error, ValueError) and ". Try " in str(error):
                raise
            raise ValueError(
                f"the model cannot be exported: {_first_line(error)}, expected a likelihood with a cdf or an icdf, and "
                "modules, of tensors alone. Try likelihood='gaussian', or save(), which keeps any model for Python."
            ) from error


def _first_line(error: Exception) -> str:
    text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return re.sub(r"\s+", " ", printable(text))[:200].rstrip(" .:")


def _write_onnx(traced: Any, metadata: dict[str, Any], path: str | os.PathLike[str]) -> None:
    try:
        import onnxscript  # noqa: F401 # by which torch writes ONNX
    except ImportError:
        raise ValueError(
            "export to ONNX needs the packages onnx and onnxscript, which are not installed. Try pip install "
            "'pyro_probmix[onnx]', or a path that ends in .pt2."
        ) from None
    own: Any = {torch.ops.aten.sort.stable: _sort}
    model: Any = torch.onnx.export(traced, dynamo=True, verbose=False, custom_translation_table=own)
    model.model.metadata_props[METADATA] = json.dumps(metadata)
    write_file(path, lambda place: model.save(str(place)), advice=ADVICE)


def _sort(x: Any, stable: bool = False, dim: int = -1, descending: bool = False) -> Any:
    """Sorted values and their positions by ONNX's largest or smallest values, which keep the order of equal ones."""
    from onnxscript import opset18 as op

    size = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]))
    return op.TopK(x, size, axis=dim, largest=int(descending), sorted=1)
