"""Ours, captured: the step that ``pyro_probmix.fit`` replays on a CUDA device, compiled where that can be done."""

from __future__ import annotations

from benchmarks.engines.ours_compiled import OursCompiled
from pyro_probmix.inference.step.captured import CapturedStep
from pyro_probmix.inference.step.eager import Step
from pyro_probmix.inference.step.objective import Gradient, eager_gradient
from pyro_probmix.inference.step.recorders import recorder_for

__all__ = ["OursCaptured"]


class OursCaptured(OursCompiled):
    """The compiled gradient and the optimizer's step as one graph; neither compiling nor capturing is timed."""

    def _gradient(self) -> Gradient:
        try:
            return super()._gradient()
        except RuntimeError as error:
            print(f"ours-captured is not compiled here, only captured: {error}.")
            return eager_gradient(self.objective, self.x, self.y)

    def _make_step(self) -> CapturedStep:
        step, recorder = super()._make_step(), recorder_for(self.x.device)
        assert isinstance(step, Step) and recorder is not None
        return CapturedStep(step, recorder)
