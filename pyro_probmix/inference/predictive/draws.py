"""Draws of an embedding for a prediction, in a dim left of all plates."""

from __future__ import annotations

__all__ = [
    "Draw",
    "DrawEmbeddings",
    "Embedding",
    "from_noise",
    "independent",
    "plug_in",
    "same_in_all_replicas",
    "shifted",
]

import threading
from collections.abc import Callable
from typing import Any, Literal

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from pyro_probmix.pooling.rows.tensors import floating_tensor

Embedding = Literal["sample", "mean"]
#: From the density of an embedding q(z|x), batch shape [*batch], to S draws of it, [S, *batch, width]; or to one value in
#: their place, [*batch, width].
Draw = Callable[[Any], Tensor]

#: Layers that read their channels at dim 1 from the left, where draws to the left of the rows are in their way.
CHANNELS_SECOND = (_NormBase, _ConvNd, nn.GroupNorm, nn.PReLU)


def independent(num_samples: int) -> Draw:
    """So many independent draws."""

    def draw(q: Any) -> Tensor:
        z: Tensor = q.expand((num_samples, *q.batch_shape))()
        return z

    return draw


def plug_in(q: Any) -> Tensor:
    """The embedding's mean in the place of draws."""
    mean: Tensor = q.mean
    return mean


def from_noise(noise: Tensor) -> Draw:
    """Draws of a Gaussian embedding by its mean, its scale and standard normal noise, [S, R, 1, width].

    All rows share the noise, so that a row's density does not depend on the rows beside it.
    """

    def draw(q: Any) -> Tensor:
        return shifted(q.base_dist.loc, q.base_dist.scale, noise)

    return draw


def shifted(mean: Tensor, deviation: Tensor, noise: Tensor) -> Tensor:
    """The mean plus deviation times noise, [S, R, N, width], laid out as [R, S, N, width].

    A layer batched over replicas then takes all draws as further rows without a copy.

    Args:
        mean, deviation: [R, N, width].
        noise: [S, R, 1, width].
    """
    return torch.addcmul(mean[:, None], deviation[:, None], noise.movedim(0, 1)).movedim(1, 0)


def same_in_all_replicas(num_samples: int) -> Draw:
    """So many draws of an embedding; those of a Gaussian one have the same noise in all replicas.

    This leaves the distribution of each replica's draws as it is; noise for all of them took a third of a fit.
    """

    def draw(q: Any) -> Tensor:
        base = q.base_dist if isinstance(q, dist.Independent) else q
        if type(base) is not dist.Normal or len(q.batch_shape) < 2:
            return independent(num_samples)(q)
        shape = [num_samples, *base.batch_shape]
        shape[-2 - q.event_dim] = 1
        return torch.addcmul(base.loc, base.scale, torch.randn(shape, dtype=base.loc.dtype, device=base.loc.device))

    return draw


class DrawEmbeddings(Messenger):
    """Gives an embedding its draws.

    From there on, layers that do not broadcast over dims left of the rows get the draws as further rows.

    Args:
        at, response: see :func:`~pyro_probmix.inference.predictive.prediction.predict`.
        draw: the draws.
    """

    def __init__(self, at: str, response: str, draw: Draw) -> None:
        super().__init__()
        self.at, self.response, self.draw = at, response, draw
        self.drawn: torch.Size | None = None  # [S, *batch] of the embedding
        self._folded: set[nn.Module] = set()  # layers that are running on rows that are draws
        self._hooks: list[Any] = []
        self._thread = threading.get_ident()  # hooks are on the modules of all threads

    def __exit__(self, *error: Any) -> None:
        while self._hooks:
            self._hooks.pop().remove()
        super().__exit__(*error)

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == self.response and not msg["is_observed"] and not msg["fn"].has_rsample:
            # Its density is wanted, and no draw: counts and classes refuse to be drawn where one replica is not finite.
            zero = floating_tensor(msg["fn"]).new_zeros(())
            msg["value"] = (zero.long() if _is_categorical(msg["fn"]) else zero).expand(msg["fn"].shape())
        if msg["name"] != self.at or msg["is_observed"]:
            return
        q = msg["fn"]
        msg["value"] = self.draw(q)
        if msg["value"].dim() > len(q.shape()):
            msg["fn"] = q.expand((len(msg["value"]), *q.batch_shape))
            self.drawn = msg["fn"].batch_shape
            # On all modules there are, since the density may be any callable around some.
            hooks = register_module_forward_pre_hook(self._fold), register_module_forward_hook(self._unfold)
            self._hooks.extend(hooks)

    def _fold(self, layer: nn.Module, inputs: Any) -> Any:
        if not (inputs and self.drawn and isinstance(layer, CHANNELS_SECOND)) or threading.get_ident() != self._thread:
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
