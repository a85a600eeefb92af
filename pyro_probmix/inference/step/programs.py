"""A function of a module's state and of tensors, a whole Pyro program, traced to one graph and compiled."""

from __future__ import annotations

__all__ = ["Program", "compiled_program", "quiet", "traced"]

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor, fx, nn
from torch.fx._lazy_graph_module import _use_lazy_graph_module
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_probmix.random_state import own_random_state

_OPTIONS = {
    "cpp_wrapper": True,  # the calls of its kernels and products in C++ too: in Python they take 20 to 40 us a step
    "fallback_random": True,  # the generator, and so the random numbers, of the eager step; it is the faster one, too
    "size_asserts": False,  # the shapes are those of the tracing throughout a fit
    "alignment_asserts": False,
}
_KEPT = 32
_compiled: dict[Any, Callable[..., Any]] = {}

#: A program of tensors: from the state of a module, by name, and further tensors to its results.
Program = Callable[..., list[Tensor]]


class _Graph(NamedTuple):
    """A traced program: a graph from (*inputs, *varying) to its results."""

    module: fx.GraphModule
    inputs: list[Tensor]
    lifted: list[Tensor]  # the last of the inputs, those that the model took from elsewhere
    key: Any

    def repeats(self, other: _Graph) -> bool:
        same = all(a is b or torch.equal(a, b) for a, b in zip(self.lifted, other.lifted, strict=True))
        return self.key == other.key and same


def compiled_program(
    module: nn.Module, program: Program, fixed: Sequence[Tensor], varying: Sequence[Tensor]
) -> Program:
    """A program with the module's state and the ``fixed`` tensors bound, a function of the ``varying`` ones alone."""
    varying = [t.contiguous() for t in varying]  # as they are handed to the graph, whose strides are fixed
    with quiet(varying[0].device):
        graph = traced(module, program, fixed, varying)
        run = _compile(graph, varying)
    inputs, shapes = graph.inputs, [t.shape for t in varying]

    def bound(*varying: Tensor) -> list[Tensor]:
        assert [t.shape for t in varying] == shapes
        with torch.no_grad():
            return run(*inputs, *[t.contiguous() for t in varying])  # type: ignore[no-any-return] # fx graphs are untyped

    return bound


@contextmanager
def quiet(device: torch.device) -> Iterator[None]:
    """Tracing and compiling without a trace; raises RuntimeError with the first line of whatever goes wrong."""
    with warnings.catch_warnings(), own_random_state(device):
        warnings.simplefilter("ignore")  # the tracer's and the compiler's, about themselves
        try:
            yield
        except Exception as error:  # of any kind: the model's own code runs inside of the tracer
            raise RuntimeError(_first_line(error)) from error


def traced(module: nn.Module, program: Program, fixed: Sequence[Tensor], varying: Sequence[Tensor]) -> _Graph:
    graph, again = _trace(module, program, fixed, varying), _trace(module, program, fixed, varying)
    if not graph.repeats(again):
        raise ValueError("its operations or constants change from run to run, so a state outside of torch is in them")
    return graph


def _trace(module: nn.Module, program: Program, fixed: Sequence[Tensor], varying: Sequence[Tensor]) -> _Graph:
    state: dict[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    inputs = [*state.values(), *fixed]

    def results(*tensors: Tensor) -> list[Tensor]:
        return program(dict(zip(state, tensors, strict=False)), *tensors[len(state) :])

    # Fake tensors have no values: a model that looks at one in Python fails here, and is not frozen at what it saw.
    trace = make_fx(results, tracing_mode="fake", _allow_non_fake_inputs=True)
    # Lazily: torch keeps the source of each graph module that it has made runnable, 0.1 MiB a fit, for good.
    with pyro.get_param_store().scope(), _use_lazy_graph_module(True):  # the store: a PyroModule's fake parameters
        traced = trace(*inputs, *varying)
        lifted, constants = _lift(traced, len(inputs))
    inputs += lifted
    shapes = tuple((t.shape, t.stride(), t.dtype, t.device) for t in (*inputs, *varying))
    return _Graph(
        traced, inputs, lifted, (traced.graph.python_code("self").src, shapes, constants, torch.get_num_threads())
    )


def _lift(module: fx.GraphModule, place: int) -> tuple[list[Tensor], tuple[Any, ...]]:
    """Makes inputs of the tensors that the graph refers to, except those that the model itself makes from numbers.

    Returns:
        these tensors, which become the inputs at ``place``, and the values of the others.
    """
    lifted: dict[str, tuple[Tensor, fx.Node]] = {}
    constants: list[Any] = []
    before_varying = module.graph.find_nodes(op="placeholder")[place]
    for node in module.graph.find_nodes(op="get_attr"):
        value = getattr(module, node.target)
        if all(user.target is torch.ops.aten.lift_fresh_copy.default for user in node.users):
            constants.append((value.dtype, repr(value.tolist())))
            continue
        if node.target not in lifted:
            with module.graph.inserting_before(before_varying):
                lifted[node.target] = value, module.graph.placeholder(node.target)
            # As the tracer describes the other inputs, by whose description the compiler runs the graph.
            fake = before_varying.meta["val"].fake_mode.from_tensor(value)
            lifted[node.target][1].meta["val"] = fake
        node.replace_all_uses_with(lifted[node.target][1])
        module.graph.erase_node(node)
    module.recompile()
    return [value for value, _ in lifted.values()], tuple(constants)


def _compile(graph: _Graph, varying: Sequence[Tensor]) -> Callable[..., Any]:
    """Compiles a graph, or takes it from the graphs compiled last in this process, or from Inductor's cache on disk."""
    from torch._inductor import config, standalone_compile

    run = _compiled.pop(graph.key, None)
    if run is None:
        example: list[Any] = [t.detach() for t in (*graph.inputs, *varying)]
        options = _OPTIONS | {"cpp_wrapper": not varying[0].is_cuda}  # there, a captured graph makes the calls
        if "donate_graph_module" in signature(standalone_compile).parameters:  # torch 2.11 always makes a copy
            donated: dict[str, Any] = {"donate_graph_module": True}
        else:
            donated = {}
        with config.patch(options):
            run = standalone_compile(graph.module, example, dynamic_shapes="from_example_inputs", **donated)
    _compiled[graph.key] = run  # the last again
    if len(_compiled) > _KEPT:
        del _compiled[next(iter(_compiled))]
    return run


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0].rstrip('.')[:200]}"
