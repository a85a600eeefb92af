"""The validation NLL of each epoch: all replicas at once, the same draws of the embedding every time."""

from __future__ import annotations

__all__ = ["Validation"]

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_probmix.inference.data.digests import digest
from pyro_probmix.inference.data.held_out import StreamedBlocks
from pyro_probmix.inference.data.streaming import RowStream
from pyro_probmix.inference.predictive.prediction import predict
from pyro_probmix.models.process import ProbMix
from pyro_probmix.random_state import own_random_state

#: Rows times replicas times draws that are evaluated together: bounds the memory, and keeps the embeddings in the cache.
_BLOCK = 16_384


class Validation(nn.Module):
    """The log predictive density of held-out rows in each replica, as the trainer asks for it after every epoch.

    The draws of an embedding are the same in each epoch, so that two epochs differ by their weights alone, and training
    draws the same random numbers whatever is held out. Replicas share the noise of a Gaussian embedding, which leaves the
    law of each replica's NLL as it is; drawing noise for all of them took a third of a fit.

    Args:
        model: the process.
        x, y: all held-out rows, [N, ...], with replicas also [R, N, ...]; or a stream of them, and None.
        own: whether x and y are each replica's own.
        num_samples: S, draws of an embedding.
        response: name of the response's site.
        seed: of the draws.
    """

    def __init__(
        self,
        model: ProbMix,
        x: Tensor | RowStream,
        y: Tensor | None,
        own: tuple[bool, bool],
        num_samples: int,
        response: str,
        seed: int,
    ) -> None:
        super().__init__()
        self.density, self.replicas, self.site = model.density, model.replicas, model.at or "z"
        self.num_samples, self.response, self.seed = num_samples, response, seed
        rows = max(1, _BLOCK // ((self.replicas or 1) * num_samples))
        if isinstance(x, RowStream):
            self.blocks: StreamedBlocks | list[tuple[Tensor, ...]] = StreamedBlocks(model, x, rows)
            self.num_rows = x.num_rows
        else:
            assert y is not None
            blocks = [v.split(rows, 1 if of_each else 0) for v, of_each in zip((x, y), own, strict=True)]
            self.blocks = [tuple(v.contiguous() for v in block) for block in zip(*blocks, strict=True)]
            self.num_rows = x.shape[1] if own[0] else x.shape[0]

    def distinct_blocks(self) -> list[tuple[Tensor, ...]]:
        """A block of each shape that there is."""
        if isinstance(self.blocks, StreamedBlocks):
            return [*self.blocks.examples()]
        return list({block[0].shape: block for block in self.blocks}.values())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum of the rows' log predictive densities in nats, [], with replicas [R]."""

        def density(x: Tensor) -> Any:
            with _SharedNoise(self.site, self.replicas):
                return self.density(x)

        predictive = predict(density, x, num_samples=self.num_samples, at=self.site, response=self.response)
        return predictive.log_prob(y).sum(-1)

    @torch.no_grad()
    def nll(self, log_prob: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The negative log-likelihood in nats a row, [], with replicas [R], by a compiled or an eager :meth:`forward`."""
        with own_random_state(next(self.density.parameters()).device, self.seed):
            sums = torch.stack([log_prob(*block) for block in self.blocks])
        return -(sums.sum(0, dtype=torch.float64) / self.num_rows).to(sums.dtype)

    def identity(self) -> object:
        """What tells the rows from others, for a checkpoint."""
        if isinstance(self.blocks, StreamedBlocks):
            return self.blocks.stream.identity()
        return digest(*(values for block in self.blocks for values in block))


class _SharedNoise(Messenger):
    """Draws a Gaussian embedding of all replicas from the same noise."""

    def __init__(self, site: str, replicas: int | None) -> None:
        super().__init__()
        self.site, self.replicas = site, replicas

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        if msg["name"] != self.site or msg["is_observed"] or self.replicas is None or len(fn.batch_shape) < 2:
            return
        base = fn.base_dist if isinstance(fn, dist.Independent) else fn
        if type(base) is dist.Normal:
            shared: Any = _SharedNormal(base.loc, base.scale, validate_args=False)
            shared.replica_dim = -2 - fn.event_dim
            msg["fn"] = shared.to_event(fn.event_dim)


class _SharedNormal(dist.Normal):
    """A normal law whose draws have the same noise along one dim."""

    replica_dim: int

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        base: Any = super()
        new = base.expand(batch_shape, _instance)
        new.replica_dim = self.replica_dim
        return new

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = [*sample_shape, *self.batch_shape]
        shape[self.replica_dim] = 1
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return torch.addcmul(self.loc, self.scale, noise)
