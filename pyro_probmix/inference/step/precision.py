"""Matrix products in bfloat16, everything else as it was."""

from __future__ import annotations

__all__ = ["bfloat16_products"]

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def bfloat16_products(wanted: bool = True) -> AbstractContextManager[Any]:
    """A context in which factors of matrix products, convolutions and attention are rounded to bfloat16.

    The product is rounded too, and comes back in float32; a bias is added there. Sums, activations, densities and random
    numbers stay in float32, and so do weights and their gradients; the products of the backward pass are those of the
    rounded factors. Tensors of other types are left alone.

    Unlike autocast, which hands bfloat16 on to what follows: the scale of a density or the log of one would be kept to
    three digits.

    Args:
        wanted: False for a context that changes nothing.

    Example:
        >>> a, b = torch.full((2, 2), 1.001), torch.eye(2)
        >>> with bfloat16_products():
        ...     (a @ b)[0, 0], (a * b)[0, 0]
        (tensor(1.), tensor(1.0010))
    """
    return _Bfloat16Products() if wanted else nullcontext()


class _Bfloat16Products(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        run = _RUN.get(func)
        return func(*args, **kwargs or {}) if run is None else run(func, *args, **kwargs or {})


def _low(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_low(v) for v in value)
    return value.bfloat16() if isinstance(value, Tensor) and value.dtype == torch.float32 else value


def _high(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.bfloat16 else value


def _product(func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    return _high(func(*_low(args), **{name: _low(value) for name, value in kwargs.items()}))


def _with_bias(
    func: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any
) -> Tensor:
    """Linear maps and convolutions, which take their bias third."""
    product = _high(func(_low(x), _low(weight), None, *args))
    if bias is None or bias.dtype != torch.float32:
        return product if bias is None else product + bias
    return product + bias.reshape(-1, *(1,) * (weight.dim() - 2))


def _added(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``addmm`` and ``baddbmm``, which take what is added first."""

    def run(_func: Any, added: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        rounded = _high(product(_low(a), _low(b)))
        return torch.add(added if beta == 1 else beta * added, rounded, alpha=alpha)

    return run


_RUN: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys((torch.mm, Tensor.mm, torch.bmm, Tensor.bmm, torch.mv, Tensor.mv, torch.einsum), _product),
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__), _product),
    functional.scaled_dot_product_attention: _product,
    **dict.fromkeys((functional.linear, functional.conv1d, functional.conv2d, functional.conv3d), _with_bias),
    **dict.fromkeys((torch.addmm, Tensor.addmm), _added(torch.mm)),
    **dict.fromkeys((torch.baddbmm, Tensor.baddbmm), _added(torch.bmm)),
}
