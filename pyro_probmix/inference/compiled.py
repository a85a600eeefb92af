"""The gradient of a minibatch's loss, and the validation, eager or compiled: a whole Pyro program as one graph."""

from __future__ import annotations

__all__ = [
    "Gradient",
    "Objective",
    "check_repeats",
    "choose",
    "compiled_forward",
    "compiled_gradient",
    "eager_gradient",
    "repays",
]

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import pyro
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.fx._lazy_graph_module import _use_lazy_graph_module
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_probmix.inference.criteria import Criterion
from pyro_probmix.inference.precision import bfloat16_products
from pyro_probmix.inference.replicas import Replicas
from pyro_probmix.inference.validation import Validation
from pyro_probmix.models.process import ProbMix

#: From the rows of a minibatch, [B] or [R, B], to each replica's loss, [R]; leaves its gradient in the parameters.
Gradient = Callable[[Tensor], Tensor]
#: From a block of rows x and y to the sum of their log predictive densities, [] or [R].
LogProb = Callable[[Tensor, Tensor], Tensor]
Compile = bool | Literal["auto"]

#: What a compiled step costs once and saves each time, in seconds; see :func:`repays`. Measured on one core, MLP 8-128-32
#: (``benchmarks/compiling.py``, ``bench.py``): step and validation compile in 19 (ERM) to 21 (M-ProbMix) of processor time, in
#: 3 with the cache on disk, in 0.2 to 0.4 once more in a process; saved a step 3.2 ms by one model of 32 rows, 2.2 to 4.9 by
#: 20 of them, 11 by 20 of 222 rows.
COMPILE_SECONDS, SAVED_PER_STEP, SAVED_PER_ROW = 25.0, 2e-3, 1e-6

_OPTIONS = {
    "cpp_wrapper": True,  # the calls of its kernels and products in C++ too: in Python they take 20 to 40 us a step
    "fallback_random": True,  # the generator, and so the random numbers, of the eager step; it is the faster one, too
    "size_asserts": False,  # the shapes are those of the tracing throughout a fit
    "alignment_asserts": False,
}
_KEPT = 32
_compiled: dict[Any, Callable[..., Any]] = {}


class Objective(nn.Module):
    """Each replica's loss of a minibatch, minus its criterion in nats a row, [R]; R = 1 without replicas.

    Args:
        model: the process.
        criterion: what is maximised.
        replicas: the replicas of the process.
        num_rows: n, rows of the data set, to which the criterion is scaled; x and y may be a part of it.
        clip_norm: largest norm of a replica's gradient; None does not clip.
        bf16: whether matrix products are rounded to bfloat16.
    """

    def __init__(
        self,
        model: ProbMix,
        criterion: Criterion,
        replicas: Replicas,
        num_rows: int,
        clip_norm: float | None = None,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.criterion, self.replicas = model, criterion, replicas
        self.num_rows, self.clip_norm, self.bf16 = num_rows, clip_norm, bf16

    def forward(self, x: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        with bfloat16_products(self.bf16):
            terms = self.criterion.terms(self.model, self.model.guide, x, y, rows, self.num_rows)
        return torch.stack([-self.replicas.sum_of_each(term) / self.num_rows for term in terms]).sum(0)

    def gradients(self, losses: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradients of the losses, clipped, of those parameters on which they depend."""
        # The sum has each loss's own gradient in its replica, also where another's is NaN.
        found = torch.autograd.grad(losses.sum(), list(parameters.values()), allow_unused=True)
        own = {name: g for name, g in zip(parameters, found, strict=True) if g is not None}
        return dict(zip(own, self._clipped(list(own.values())), strict=True))

    def clip(self) -> None:
        """Clips the gradients that the parameters hold."""
        held = [p for p in self.replicas.parameters if p.grad is not None]
        for parameter, own in zip(held, self._clipped([p.grad for p in held if p.grad is not None]), strict=True):
            parameter.grad = own

    def _clipped(self, gradients: list[Tensor]) -> list[Tensor]:
        return gradients if self.clip_norm is None else self.replicas.clipped(gradients, self.clip_norm)


def eager_gradient(objective: Objective, x: Tensor, y: Tensor) -> Gradient:
    """The gradient by running the model at each step."""
    parameters = {name: p for name, p in objective.named_parameters() if p.requires_grad}

    def gradient(rows: Tensor) -> Tensor:
        losses: Tensor = objective(x, y, rows)
        gradients = objective.gradients(losses, parameters)
        for name, parameter in parameters.items():
            parameter.grad = gradients.get(name)
        return losses.detach()

    return gradient


def compiled_gradient(objective: Objective, x: Tensor, y: Tensor, rows: Tensor) -> Gradient:
    """The gradient by a compiled graph: the model is run twice, now, and its tensor operations are what is repeated.

    Whatever is no tensor (a number, a flag, a branch taken) stays as it was in that run. Parameters, buffers, data, and
    tensors that the model takes from elsewhere, such as a graph's neighbours, are read anew at each step. Random numbers
    are drawn by the same calls in the same order as by :func:`eager_gradient`.

    Args:
        objective: in the mode (training or not) that is to be compiled.
        x, y: all rows.
        rows: an example of the rows of a minibatch.

    Raises:
        RuntimeError: says why the model cannot be compiled.
    """
    losses_and_gradients, trained = _step_program(objective)
    run = _compiled_program(objective, losses_and_gradients, [x, y], [rows])
    parameters = dict(objective.named_parameters())
    own_parameters = [parameters[name] for name in trained]

    def gradient(rows: Tensor) -> Tensor:
        losses, *gradients = run(rows)
        for parameter, own in zip(own_parameters, gradients, strict=True):
            parameter.grad = own
        return losses

    return gradient


def check_repeats(objective: Objective, x: Tensor, y: Tensor, rows: Tensor) -> None:
    """Raises RuntimeError unless the step is the same tensor operations each time, whatever the values; runs nothing.

    Args:
        objective, x, y, rows: see :func:`compiled_gradient`.
    """
    with _quiet(rows.device):
        _traced(objective, _step_program(objective)[0], [x, y], [rows.contiguous()])


def _step_program(objective: Objective) -> tuple[_Program, list[str]]:
    """The losses and gradients as a program, and the names of the parameters that have a gradient once it has run."""
    wanted = [name for name, p in objective.named_parameters() if p.requires_grad]
    trained: list[str] = []

    def losses_and_gradients(state: Mapping[str, Tensor], *tensors: Tensor) -> list[Tensor]:
        losses: Tensor = functional_call(objective, dict(state), tensors)
        gradients = objective.gradients(losses, {name: state[name] for name in wanted})
        trained[:] = gradients
        return [losses.detach(), *gradients.values()]

    return losses_and_gradients, trained


def compiled_forward(module: nn.Module, *example: Tensor) -> Callable[..., Tensor]:
    """The module's forward pass by a compiled graph, without gradients; see :func:`compiled_gradient`.

    Args:
        module: returns a tensor; it is compiled in the mode that it is in.
        example: the arguments; those of each call are shaped likewise.

    Raises:
        RuntimeError: says why the module cannot be compiled.
    """

    def forward(state: Mapping[str, Tensor], *tensors: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return [functional_call(module, dict(state), tensors)]

    run = _compiled_program(module, forward, [], example)
    return lambda *tensors: run(*tensors)[0]


def choose(
    objective: Objective,
    x: Tensor,
    y: Tensor,
    rows: Tensor,
    validation: Validation | None,
    compile: Compile,
    num_steps: int,
) -> tuple[Gradient, LogProb | None]:
    """The gradient and the validation, both compiled where it is wanted and can be had, else both eager.

    Args:
        objective, x, y, rows: see :func:`compiled_gradient`.
        validation: the validation, if there is one.
        compile: True compiles; ``"auto"`` does so on a CPU where it :func:`repays`; False does not.
        num_steps: how often the gradient will be asked for.

    Raises:
        ValueError: if ``compile`` is True and the model cannot be compiled, or is none of the three.

    Warns:
        RuntimeWarning: says why, if ``compile`` is ``"auto"`` and the model cannot be compiled.
    """
    if compile not in (True, False, "auto"):
        raise ValueError(f"fit got compile={compile!r}, expected True, False or 'auto'. Try compile='auto'.")
    criterion: Any = objective.criterion
    if criterion.num_particles * criterion.num_embeddings > 1 and criterion.max_plate_nesting == math.inf:
        model = objective.model  # run once now, where the eager and the compiled step draw the same random numbers
        criterion._guess_max_plate_nesting(model, model.guide, (x, y, rows), {})
    eager = eager_gradient(objective, x, y), validation
    if compile is False or (compile == "auto" and (x.is_cuda or not repays(num_steps, objective, rows))):
        return eager
    try:
        return compiled_gradient(objective, x, y, rows), validation and _compiled_validation(validation)
    except RuntimeError as error:
        if compile is True:
            raise ValueError(
                f"fit(compile=True) could not compile the step: {error}. Try compile='auto', which then runs it eagerly."
            ) from error
        warnings.warn(
            f"fit runs the step eagerly, since it could not compile it: {error}. Try compile=False to silence this.",
            RuntimeWarning,
            stacklevel=3,
        )
        return eager


def _compiled_validation(validation: Validation) -> LogProb:
    """One graph for each shape that a block has: all but the last have the same."""
    training = validation.training
    validation.eval()
    compiled = {block[0].shape: compiled_forward(validation, *block) for block in validation.distinct_blocks()}
    validation.train(training)
    return lambda x, y: compiled[x.shape](x, y)


def repays(num_steps: int, objective: Objective, rows: Tensor) -> bool:
    """Whether so many compiled steps save more time than compiling takes when nothing is in the cache.

    A rule, not a timing, so that a fit is compiled in each run of it or in none.
    """
    draws = objective.criterion.num_particles * objective.criterion.num_embeddings
    saved = SAVED_PER_STEP + SAVED_PER_ROW * rows.numel() * draws
    return bool(num_steps * saved > COMPILE_SECONDS)


#: A program of tensors: from the state of a module, by name, and further tensors to its results.
_Program = Callable[..., list[Tensor]]


class _Graph(NamedTuple):
    """A traced program: a graph from (*inputs, *varying) to its results."""

    module: fx.GraphModule
    inputs: list[Tensor]
    lifted: list[Tensor]  # the last of the inputs, those that the model took from elsewhere
    key: Any

    def repeats(self, other: _Graph) -> bool:
        same = all(a is b or torch.equal(a, b) for a, b in zip(self.lifted, other.lifted, strict=True))
        return self.key == other.key and same


def _compiled_program(
    module: nn.Module, program: _Program, fixed: Sequence[Tensor], varying: Sequence[Tensor]
) -> _Program:
    """A program with the module's state and the ``fixed`` tensors bound, a function of the ``varying`` ones alone."""
    varying = [t.contiguous() for t in varying]  # as they are handed to the graph, whose strides are fixed
    with _quiet(varying[0].device):
        graph = _traced(module, program, fixed, varying)
        run = _compile(graph, varying)
    inputs, shapes = graph.inputs, [t.shape for t in varying]

    def bound(*varying: Tensor) -> list[Tensor]:
        assert [t.shape for t in varying] == shapes
        with torch.no_grad():
            return run(*inputs, *[t.contiguous() for t in varying])  # type: ignore[no-any-return] # fx graphs are untyped

    return bound


@contextmanager
def _quiet(device: torch.device) -> Iterator[None]:
    """Tracing and compiling without a trace; raises RuntimeError with the first line of whatever goes wrong."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        warnings.simplefilter("ignore")  # the tracer's and the compiler's, about themselves
        try:
            yield
        except Exception as error:  # of any kind: the model's own code runs inside of the tracer
            raise RuntimeError(_first_line(error)) from error


def _traced(module: nn.Module, program: _Program, fixed: Sequence[Tensor], varying: Sequence[Tensor]) -> _Graph:
    graph, again = _trace(module, program, fixed, varying), _trace(module, program, fixed, varying)
    if not graph.repeats(again):
        raise ValueError("its operations or constants change from run to run, so a state outside of torch is in them")
    return graph


def _trace(module: nn.Module, program: _Program, fixed: Sequence[Tensor], varying: Sequence[Tensor]) -> _Graph:
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
    from torch import _inductor
    from torch._inductor import config

    run = _compiled.pop(graph.key, None)
    if run is None:
        example: list[Any] = [t.detach() for t in (*graph.inputs, *varying)]
        options = _OPTIONS | {"cpp_wrapper": not varying[0].is_cuda}  # there, a captured graph makes the calls
        with config.patch(options):
            run = _inductor.standalone_compile(
                graph.module, example, dynamic_shapes="from_example_inputs", donate_graph_module=True
            )
    _compiled[graph.key] = run  # the last again
    if len(_compiled) > _KEPT:
        del _compiled[next(iter(_compiled))]
    return run


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0].rstrip('.')[:200]}"
