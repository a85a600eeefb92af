"""Ours, compiled: the step that ``pyro_probmix.fit(compile=True)`` repeats on a CPU."""

from __future__ import annotations

from benchmarks.engines.ours_eager import OursEager
from pyro_probmix.inference.step.compiled import compiled_gradient
from pyro_probmix.inference.step.objective import Gradient

__all__ = ["OursCompiled"]


class OursCompiled(OursEager):
    """The same loop as the eager one's, with the gradient compiled; compiling is not timed."""

    def _gradient(self) -> Gradient:
        return compiled_gradient(self.objective, self.x, self.y, self.rows[0])
