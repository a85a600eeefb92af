"""The draws of an embedding in a prediction, in a dim left of all plates."""

from __future__ import annotations

__all__ = ["DrawEmbeddings", "Embedding"]

from typing import Any, Literal

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from pyro_probmix.pooling.batches import floating_tensor

Embedding = Literal["sample", "mean"]

#: Layers that read their channels at dim 1 from the left, where draws to the left of the rows are in their way.
CHANNELS_SECOND = (_NormBase, _ConvNd, nn.GroupNorm, nn.PReLU)


class DrawEmbeddings(Messenger):
    """Draws the embedding S times in a new leading dim, or passes its mean on.

    From there on, layers that do not broadcast over dims left of the rows get the draws as further rows.

    Args:
        at, response, embedding, num_samples: see :func:`~pyro_probmix.inference.predictive.prediction.predict`.
    """

    def __init__(self, at: str, response: str, embedding: Embedding, num_samples: int) -> None:
        super().__init__()
        self.at, self.response, self.embedding, self.num_samples = at, response, embedding, num_samples
        self.drawn: torch.Size | None = None  # [S, *batch] of the embedding
        self._folded: set[nn.Module] = set()  # layers that are running on rows that are draws
        self._hooks: list[Any] = []

    def __exit__(self, *error: Any) -> None:
        while self._hooks:
            self._hooks.pop().remove()
        super().__exit__(*error)

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == self.response and not msg["is_observed"] and not msg["fn"].has_rsample:
            # Its law is wanted, and no draw: counts and classes refuse to be drawn where one replica is not finite.
            zero = floating_tensor(msg["fn"]).new_zeros(())
            msg["value"] = (zero.long() if _is_categorical(msg["fn"]) else zero).expand(msg["fn"].shape())
        if msg["name"] != self.at or msg["is_observed"]:
            return
        if self.embedding == "mean":
            msg["value"] = msg["fn"].mean
        else:
            msg["fn"] = msg["fn"].expand((self.num_samples, *msg["fn"].batch_shape))
            self.drawn = msg["fn"].batch_shape
            # On all modules there are, since the density may be any callable around some.
            hooks = register_module_forward_pre_hook(self._fold), register_module_forward_hook(self._unfold)
            self._hooks.extend(hooks)

    def _fold(self, layer: nn.Module, inputs: Any) -> Any:
        if not (inputs and self.drawn and isinstance(layer, CHANNELS_SECOND)):
            return None
        if inputs[0].dim() <= len(self.drawn) or inputs[0].shape[: len(self.drawn)] != self.drawn:
            return None  # of the rows alone
        self._folded.add(layer)
        return (inputs[0].flatten(0, 1), *inputs[1:])

    def _unfold(self, layer: nn.Module, inputs: Any, output: Any) -> Any:
        if layer not in self._folded or self.drawn is None:
            return None
        self._folded.remove(layer)
        return output.unflatten(0, self.drawn[:2]) if isinstance(output, Tensor) else None


def _is_categorical(p: Any) -> bool:
    while hasattr(p, "base_dist"):
        p = p.base_dist
    return isinstance(p, torch.distributions.Categorical)
