"""The negative log-likelihood of held-out rows after each epoch, of all replicas at once, by the same draws every time."""

from __future__ import annotations

__all__ = ["Validation", "held_out_rows"]

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pyro_probmix.inference.data.digests import digest
from pyro_probmix.inference.data.held_out import StreamedBlocks
from pyro_probmix.inference.data.minibatches import Minibatches, checked_validation
from pyro_probmix.inference.data.streaming import RowStream
from pyro_probmix.inference.predictive.draws import independent, same_in_all_replicas
from pyro_probmix.inference.predictive.prediction import log_density, response_density
from pyro_probmix.models.process import ProbMix
from pyro_probmix.random_state import own_random_state

#: Rows times replicas times draws that are evaluated together: bounds the memory, and keeps the embeddings in the cache.
_BLOCK = 16_384


class Validation(nn.Module):
    """The log predictive density of held-out rows in each replica, as the trainer asks for it after every epoch.

    The draws of an embedding are the same in each epoch, so that two epochs differ by their weights alone, and training
    draws the same random numbers whatever is held out. Replicas share the noise of a Gaussian embedding.

    Args:
        model: the process.
        x, y: all held-out rows, [N, ...], with replicas also [R, N, ...]; or a stream of them, and None.
        of_each_replica: whether x and whether y hold the rows of each replica, or rows that all share.
        num_samples: S, draws of an embedding.
        response: name of the response's site.
        seed: of the draws.
    """

    def __init__(
        self,
        model: ProbMix,
        x: Tensor | RowStream,
        y: Tensor | None,
        of_each_replica: tuple[bool, bool],
        num_samples: int,
        response: str,
        seed: int,
    ) -> None:
        super().__init__()
        self.density, self.response, self.seed = model.density, response, seed
        self.site = model.at if isinstance(model.at, str) else "z"  # where draws of an embedding differ
        self.draw = independent(num_samples) if model.replicas is None else same_in_all_replicas(num_samples)
        rows = max(1, _BLOCK // ((model.replicas or 1) * num_samples))
        if isinstance(x, RowStream):
            self.blocks: StreamedBlocks | list[tuple[Tensor, ...]] = StreamedBlocks(model, x, rows)
            self.num_rows = x.num_rows
        else:
            assert y is not None
            blocks = [v.split(rows, 1 if of_each else 0) for v, of_each in zip((x, y), of_each_replica, strict=True)]
            self.blocks = [tuple(v.contiguous() for v in block) for block in zip(*blocks, strict=True)]
            self.num_rows = x.shape[1] if of_each_replica[0] else x.shape[0]

    def distinct_blocks(self) -> list[tuple[Tensor, ...]]:
        """A block of each shape that there is."""
        if isinstance(self.blocks, StreamedBlocks):
            return [*self.blocks.examples()]
        return list({block[0].shape: block for block in self.blocks}.values())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum of the rows' log predictive densities in nats, [], with replicas [R]."""
        components = response_density(self.density, x, self.draw, self.site, self.response)
        return log_density(components, y).sum(-1)

    @torch.no_grad()
    def nll(self, log_prob: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The negative log-likelihood in nats a row, [], with replicas [R], by a compiled or an eager :meth:`forward`."""
        with own_random_state(next(self.density.parameters()).device, self.seed):
            sums = torch.stack([log_prob(*block) for block in self.blocks])
        return -(sums.sum(0, dtype=torch.float64) / self.num_rows).to(sums.dtype)

    def scored_by(self, log_prob: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], Tensor]:
        """:meth:`nll` of the weights as they stand, without arguments."""
        return lambda: self.nll(log_prob)

    def identity(self) -> object:
        """A checksum of the rows, or the stream's own identity, for a checkpoint."""
        if isinstance(self.blocks, StreamedBlocks):
            return self.blocks.stream.identity()
        return digest(*(values for block in self.blocks for values in block))


def held_out_rows(
    model: ProbMix, validation: object, source: Minibatches, num_samples: int, seed: int
) -> Validation | None:
    """The rows that a fit is given for validation, checked; None for none, or a function that scores the model itself."""
    if validation is None or callable(validation):
        return None
    rows: Any = validation
    return Validation(model, *checked_validation(model, rows, source), num_samples, source.response, seed)
