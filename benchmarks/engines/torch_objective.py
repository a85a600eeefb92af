"""The mathematics in plain PyTorch, for one model or for many stacked ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks.cases import ALPHA, EMBEDDING, FLOOR, INITIAL_BIAS, Case

__all__ = ["Own", "Sampler", "losses"]


class Own:
    """Makes an array a tensor of a device, and of a precision unless it counts."""

    def __init__(self, device: str, precision: str) -> None:
        self.device, self.dtype = device, getattr(torch, precision)

    def __call__(self, value: NDArray[Any]) -> Tensor:
        dtype = self.dtype if value.dtype.kind == "f" else None
        return torch.as_tensor(value, dtype=dtype, device=self.device)


class Sampler:
    """Draws the random numbers that a method needs, lambda [..., B] or [..., K, B] and noise [..., (S, K,) B, width]."""

    def __init__(self, case: Case, *replicas: int, device: str = "cpu") -> None:
        particles, embeddings = ((case.draws,), (case.embeddings,)) if case.several else ((), ())
        self.weights = (*replicas, *particles, case.batch_size)
        self.noise = (*replicas, *embeddings, *particles, case.batch_size, EMBEDDING)
        self.case, self.device = case, device
        alpha = torch.tensor(ALPHA, device=device)
        self.mixing = torch.distributions.Beta(alpha, alpha, validate_args=False)

    def __call__(self) -> tuple[Tensor | None, Tensor | None]:
        weight = self.mixing.sample(self.weights) if self.case.fuses else None
        return weight, torch.randn(self.noise, device=self.device) if self.case.embeds else None


def losses(
    case: Case,
    layers: Mapping[str, Callable[[Tensor], Tensor]],
    x: Tensor,
    y: Tensor,
    weight: Tensor | None,
    noise: Tensor | None,
) -> Tensor:
    """The loss of each model, minus its criterion a row: x [..., B, d_x] to [...].

    With K weights and S embeddings the mean of the likelihood over S is inside the logarithm, that over K outside.

    Args:
        case: which method.
        layers: the affine maps of the network, by name.
        x, y: the rows; row b + B/2 (mod B) is row b's partner.
        weight: lambda for each row, [..., B] or [..., K, B].
        noise: standard normal, [..., B, width of the embedding] or [..., S, K, B, width].
    """
    half = x.shape[-2] // 2
    own = None
    if case.fuses:
        assert weight is not None
        own = torch.cat([weight[..., :half], 1 - weight[..., half:]], -1)[..., None]

    def mix(value: Tensor) -> Tensor:
        assert own is not None
        return torch.lerp(value.roll(half, -2), value, own)

    if case.method == "Mix":
        x = mix(x)
    z = layers["encoder"](x).relu()
    if case.embeds:
        assert noise is not None
        scale = softplus(layers["scale"](z) + INITIAL_BIAS) + FLOOR
        if case.method == "M-ProbMix":
            # The log-linear pool of two Gaussians: precision and precision times mean are mixed.
            precision = scale.reciprocal().square()
            if case.several:  # a dim for K
                precision, z, y = precision.unsqueeze(-3), z.unsqueeze(-3), y.unsqueeze(-3)
            pooled = mix(precision)
            loc, spread = mix(precision * z) / pooled, pooled.rsqrt()
            if case.several:  # and one for S
                loc, spread = loc.unsqueeze(-4), spread.unsqueeze(-4)
            z = loc + noise * spread
        else:
            z = z + noise * scale
    loc, raw = layers["head"](layers["decoder"](z).relu()).chunk(2, -1)
    scale = softplus(raw) + FLOOR
    if case.method == "ProbMix":
        precision = scale.reciprocal().square()
        pooled = mix(precision)
        loc, scale = mix(precision * loc) / pooled, pooled.rsqrt()
    if case.fuses:
        y = mix(y)
    if case.several:
        y = y.unsqueeze(-4)
    log_prob = -0.5 * ((y - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)
    if case.several:
        return math.log(case.embeddings) - log_prob.logsumexp(-4).mean((-3, -2, -1))
    return -log_prob.mean((-2, -1))
