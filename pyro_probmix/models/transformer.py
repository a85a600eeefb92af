"""A transformer batched over replicas, as the encoder of a series."""

from __future__ import annotations

__all__ = ["Attention", "Transformer"]

import math

import torch
from torch import Tensor, nn

from pyro_probmix.arguments import checked
from pyro_probmix.models.layers.linear import Linear
from pyro_probmix.models.networks import LayerNorm, by_replica


class Attention(nn.Module):
    r"""Multi-head attention, :math:`\operatorname{softmax}(Q K^\top / \sqrt{d}) V` in each head.

    Args:
        width: of the features, a multiple of the heads.
        num_heads: how many heads.
        replicas: number R of independent copies, see :class:`~pyro_probmix.models.Linear`.

    Shape:
        queries [..., B, T, width] and memory [..., B, S, width] to [..., B, T, width], with replicas [R, B, ...].

    Raises:
        ValueError: if the width is no multiple of the heads.

    References:
        Vaswani et al. (2017), eq. (1).
    """

    @checked(least={"width": 1, "num_heads": 1, "replicas": 1})
    def __init__(self, width: int, num_heads: int, replicas: int | None = None) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"Attention got width={width} for {num_heads} heads, expected a multiple. Try width=64.")
        self.num_heads = num_heads
        glorot = math.sqrt(6 / (4 * width))  # of queries, keys and values in one matrix, as torch.nn.MultiheadAttention
        self.query = Linear(width, width, replicas, bound=glorot, zero_bias=True)
        self.key_value = Linear(width, 2 * width, replicas, bound=glorot, zero_bias=True)
        self.output = Linear(width, width, replicas, zero_bias=True)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        if self.query.weight.dim() == 3 and queries.dim() < 4:
            raise ValueError(
                f"Attention got queries of shape {tuple(queries.shape)}, expected those of each replica, [R, B, T, width]. "
                "Try queries.expand(R, ...)."
            )
        keys, values = _rows(self.key_value, memory).chunk(2, -1)
        heads = self._heads(_rows(self.query, queries)), self._heads(keys), self._heads(values)
        mixed = nn.functional.scaled_dot_product_attention(*heads).transpose(-2, -3)
        return _rows(self.output, mixed.reshape(queries.shape))

    def _heads(self, x: Tensor) -> Tensor:
        """[N, heads, T, width of a head], N all rows of all replicas: only of four dimensions is attention one operation."""
        return x.reshape(-1, x.shape[-2], self.num_heads, x.shape[-1] // self.num_heads).transpose(1, 2)


def _rows(linear: Linear, x: Tensor) -> Tensor:
    """An affine map of each time step, one product for all rows of a replica."""
    rows: Tensor = linear(x.flatten(-3, -2))
    return rows.reshape(*x.shape[:-1], rows.shape[-1])


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int, replicas: int | None) -> None:
        super().__init__()
        self.first, self.second = Linear(width, hidden, replicas), Linear(hidden, width, replicas)

    def forward(self, x: Tensor) -> Tensor:
        return _rows(self.second, torch.relu(_rows(self.first, x)))


class _Layer(nn.Module):
    """Self-attention, attention to the encoder's memory in a decoder, a feed-forward net; each added and normalised."""

    def __init__(self, width: int, hidden: int, num_heads: int, decoder: bool, replicas: int | None) -> None:
        super().__init__()
        self.attention, self.norm = Attention(width, num_heads, replicas), LayerNorm(width, replicas)
        self.cross = Attention(width, num_heads, replicas) if decoder else None
        self.cross_norm = LayerNorm(width, replicas) if decoder else None
        self.feed_forward, self.last_norm = _FeedForward(width, hidden, replicas), LayerNorm(width, replicas)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        x = self.norm(x + self.attention(x, x))
        if self.cross is not None and self.cross_norm is not None:
            assert memory is not None
            x = self.cross_norm(x + self.cross(x, memory))
        out: Tensor = self.last_norm(x + self.feed_forward(x))
        return out


class Transformer(nn.Module):
    """An encoder over the steps of a window and a decoder that attends to it; flattened and compressed linearly.

    The steps are mapped to the width and told apart by a sinusoidal code of their position. The decoder reads the same
    steps as the encoder: a window has no other sequence to read.

    Args:
        in_features: numbers of a time step.
        num_steps: length T of a window.
        width: of the layers and of their feed-forward nets.
        num_heads: heads of an attention.
        num_layers: layers of the encoder, and of the decoder.
        out_features: width of the embedding.
        replicas: number R of independent copies.

    Shape:
        [..., B, T, in] to [..., B, out]; with replicas [..., R, B, T, in], or [B, T, in] shared by them, to
        [..., R, B, out].

    References:
        Vaswani et al. (2017); El-Laham et al. (2025), section 6.3. Layers as ``torch.nn.TransformerEncoderLayer`` and
        ``torch.nn.TransformerDecoderLayer``, without dropout.

    Example:
        >>> import torch
        >>> from pyro_probmix.models import Transformer
        >>> Transformer(4, num_steps=42, replicas=3)(torch.zeros(5, 42, 4)).shape
        torch.Size([3, 5, 64])
    """

    position: Tensor

    @checked(
        least={
            "in_features": 1,
            "num_steps": 1,
            "width": 1,
            "num_heads": 1,
            "num_layers": 1,
            "out_features": 1,
            "replicas": 1,
        }
    )
    def __init__(
        self,
        in_features: int,
        num_steps: int,
        *,
        width: int = 64,
        num_heads: int = 2,
        num_layers: int = 2,
        out_features: int = 64,
        replicas: int | None = None,
    ) -> None:
        super().__init__()
        self.out_features = out_features
        self.input = Linear(in_features, width, replicas)
        self.encoder = nn.ModuleList(_Layer(width, width, num_heads, False, replicas) for _ in range(num_layers))
        self.decoder = nn.ModuleList(_Layer(width, width, num_heads, True, replicas) for _ in range(num_layers))
        self.compression = Linear(num_steps * width, out_features, replicas)
        self.register_buffer("position", _position(num_steps, width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:-1] != self.position.shape[-2:-1]:
            raise ValueError(
                f"a Transformer of {self.position.shape[-2]} time steps got x of shape {tuple(x.shape)}, expected "
                "[..., time steps, numbers of each]. Try num_steps=x.shape[-2]."
            )
        return by_replica(self._embedded, x, self.input.weight)

    def _embedded(self, x: Tensor) -> Tensor:
        memory = out = self.input(x.flatten(-3, -2)).unflatten(-2, x.shape[-3:-1]) + self.position
        for layer in self.encoder:
            memory = layer(memory)
        for layer in self.decoder:
            out = layer(out, memory)
        embedding: Tensor = self.compression(out.flatten(-2))
        return embedding


def _position(num_steps: int, width: int) -> Tensor:
    """Sines and cosines of the step, at geometric rates, [T, width]."""
    step = torch.arange(num_steps)[:, None]
    rate = torch.exp(-math.log(10_000) * 2 * (torch.arange(width) // 2) / width)
    odd = torch.arange(width) % 2 == 1
    return torch.where(odd, torch.cos(step * rate), torch.sin(step * rate)).to(torch.get_default_dtype())
