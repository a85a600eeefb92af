"""The engines: each trains the models of a case in its own way, by the same mathematics."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from numpy.typing import NDArray

from benchmarks.cases import Case, Draws, Problem

__all__ = ["DEVICES", "ENGINES", "Engine", "load"]

# Name in the results -> where its class is. It is imported when it is asked for: an engine may need a library that is not
# there.
ENGINES = {
    "torch-loop": "torch_loop.TorchLoop",
    "torch-batched": "torch_batched.TorchBatched",
    "torch-vmap": "torch_vmap.TorchVmap",
    "numpyro": "numpyro_scan.NumPyroScan",
    "ours-eager": "ours_eager.OursEager",
    "ours-compiled": "ours_compiled.OursCompiled",
    "ours-captured": "ours_captured.OursCaptured",
}
#: What is compared on each kind of device: NumPyro is asked for a CPU, and on CUDA ``fit`` captures what it compiles.
DEVICES = {
    "cpu": ("torch-loop", "torch-batched", "torch-vmap", "numpyro", "ours-eager", "ours-compiled"),
    "cuda": ("torch-loop", "torch-batched", "torch-vmap", "ours-eager", "ours-captured"),
}


class Engine(Protocol):
    """Trains R models from given initial weights; made from (case, problem, "float32" or "float64", device)."""

    def __init__(self, case: Case, problem: Problem, precision: str = "float32", device: str = "cpu") -> None: ...

    def train(self, steps: int) -> None:
        """Runs training steps with random numbers of its own; a CUDA device may still be at them."""

    def loss_and_gradients(self, draws: Draws) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Each model's loss on the first minibatch, [R], and its gradients, named and shaped as the weights."""


def load(name: str) -> type[Engine]:
    """The class of an engine.

    Raises:
        ImportError: if a library that it needs is not installed.
    """
    module, _, cls = ENGINES[name].partition(".")
    engine: type[Engine] = getattr(import_module(f"benchmarks.engines.{module}"), cls)
    return engine
