"""Where a fit's rows come from: tensors that hold them all, or the blocks of a stream, one after the other."""

from __future__ import annotations

__all__ = ["EpochMean", "Minibatches", "checked_validation"]

import math
from collections.abc import Iterator

import pyro
import torch
from torch import Tensor

from pyro_probmix.inference.data.checks import check_rows, check_streamed_rows
from pyro_probmix.inference.data.digests import digest
from pyro_probmix.inference.data.ranks import Ranks
from pyro_probmix.inference.data.streaming import RowStream
from pyro_probmix.models.orders import shuffled_rows, weighted_rows
from pyro_probmix.models.process import ProbMix
from pyro_probmix.random_state import own_random_state

FOLDED = 4096  # losses are kept until they are replaced by their mean


class Minibatches:
    """The steps of a fit, as rows of the tensors :attr:`x` and :attr:`y`, which are in the same place throughout.

    These are the training rows themselves. Of a stream they hold the block that is trained on: each block takes the place
    of the one before.

    Args:
        model: the process.
        x, y: all rows, as the process takes them; or a stream and None.
        weights: of the rows, [n] or [R, n]; None for equal ones.
        ranks: the processes of the fit, which read the same rows in the same order.
        rows: positions of each replica's rows in x and y, [R, n]; None for all of them.
        seed: of the order in which a stream is read.
        device: where the rows are wanted.

    Attributes:
        x, y: the rows to which those of a minibatch refer.
        num_rows: n, rows of the whole data set.
        batch_size: B, rows of a minibatch.
        num_steps: minibatches of an epoch.
        response: name of the density's observed site.

    Raises:
        ValueError: for rows that do not fit the model, or none, or a graph whose partners are no rows.
    """

    def __init__(
        self,
        model: ProbMix,
        x: Tensor | RowStream,
        y: Tensor | None,
        weights: Tensor | None,
        ranks: Ranks,
        rows: Tensor | None = None,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.model, self.ranks, self.seed, self.device = model, ranks, seed, device
        self._checked = False  # all rows of a stream
        self.chosen: Tensor | None = None
        if rows is not None and (isinstance(x, RowStream) or model.graph is not None or model.replicas is None):
            raise ValueError(
                "fit got rows beside a stream, a graph, or a density without replicas, expected tensors that replicas share, "
                "and no graph. Try rows=None, and x and y of each replica, [R, n, ...]."
            )
        self.stream = self._checked_stream(x) if isinstance(x, RowStream) else None
        if self.stream is not None:
            self.num_rows, sizes = self.stream.num_rows, self.stream.shuffle.block_sizes
            self._make_room(self.stream)
        else:
            assert isinstance(x, Tensor) and y is not None
            _check_some(x, y, "training")
            self.x, self.y = x.to(device), y.to(device)
            self.num_rows = model.num_rows(self.x, self.y)
            if rows is not None:
                self.chosen = self._checked_choice(rows).to(device)
                self.num_rows = rows.shape[1]
            sizes = [self.num_rows]
        largest = ranks.padded(max(sizes))
        self.batch_size = model.batch_size or largest
        self.weights = None
        if weights is None:
            self.batch_size = min(self.batch_size, largest)
        else:  # rows are drawn by their weights, however few there are
            self.weights = self._checked_weights(weights)
        if self.stream is not None:
            most = -(-max(sizes) // self.batch_size) * self.batch_size
            self._orders = torch.empty((model.replicas or 1) * most, dtype=torch.long, device=device)
        self.num_steps = sum(-(-size // self.batch_size) for size in sizes)
        held = slice(None if self.stream is None else 2)  # those of a stream are checked when they come
        shared = None if self.stream is None else (False, False)
        self.response = check_rows(model, self.x[held], self.y[held], "training", of_each=shared)
        self._check_graph()

    def _checked_stream(self, stream: RowStream) -> RowStream:
        graph = self.model.graph
        if graph is not None:
            raise ValueError(
                f"fit got a stream and a {type(graph).__name__}, expected no graph: its edges join rows of different "
                "blocks. Try graph=None, for any two rows of a block, or a sample of the rows that fits in memory."
            )
        return stream.shared_by(self.model.replicas or 1, next(self.model.parameters()).dtype)

    def _check_graph(self) -> None:
        """Draws partners for rows from the first to the last, and refuses those that are no rows; steps do not check again."""
        if self.model.graph is not None:
            size, num_fused = self.batch_size // self.model.num_fused, self.model.num_fused
            anchors = torch.linspace(0, self.num_rows - 1, size, dtype=torch.float64, device=self.device).round().long()
            # With draws of its own: training draws the same whatever is checked.
            with own_random_state(self.device, 0), pyro.validation_enabled(True):
                self.model.graph.edges(anchors.repeat(num_fused), num_fused).sample()

    def _checked_choice(self, rows: Tensor) -> Tensor:
        n, replicas = self.num_rows, self.model.replicas
        if any(self.model.of_each_replica(self.x, self.y)):
            raise ValueError(
                "fit got rows beside x or y of each replica, expected x and y that all replicas share. Try rows=None."
            )
        if rows.dim() != 2 or rows.shape[0] != replicas or not rows.numel() or rows.dtype != torch.long:
            raise ValueError(
                f"fit got rows of shape {tuple(rows.shape)} and {rows.dtype}, expected integers (torch.int64) of shape "
                f"({replicas}, n), positions in x and y for each replica. Try rows=None."
            )
        if not bool(((rows >= 0) & (rows < n)).all()):
            raise ValueError(
                f"fit got rows from {int(rows.min())} to {int(rows.max())}, expected positions from 0 to {n - 1}, as x has "
                f"{n} rows. Try rows=None."
            )
        return rows

    def _checked_weights(self, weights: Tensor) -> Tensor:
        n, replicas = self.num_rows, self.model.replicas
        if self.stream is not None:
            raise ValueError(
                "fit got weights beside a stream, expected none, since they would have to be in memory. "
                "Try a stream in which each row stands as often as it should count."
            )
        if tuple(weights.shape) not in {(n,), (replicas, n)}:
            wanted = f"({n},)" if replicas is None else f"({n},) or ({replicas}, {n})"
            raise ValueError(
                f"fit got weights of shape {tuple(weights.shape)}, expected {wanted}, one for each row. Try weights=None."
            )
        if not bool(((weights >= 0) & weights.isfinite()).all() and (weights.sum(-1) > 0).all()):
            raise ValueError(
                "fit got weights that are negative, not finite or all zero, expected some above 0. Try weights=None."
            )
        return weights.to(self.device)

    def _make_room(self, stream: RowStream) -> None:
        """Room for the largest block, in the host's memory and on the device; rows that are not yet read are the first two."""
        largest = stream.shuffle.block_rows
        # R rows could be taken for one row of each of R replicas.
        self._block = stream.room(largest + (largest == self.model.replicas))
        stream.first_rows(self._block)
        x, y = stream.split(self._block)
        self.x, self.y = x.to(self.device), y.to(self.device)

    def epoch(self, epoch: int) -> Iterator[Tensor]:
        """The minibatches of an epoch, rows [B], with replicas [R, B]: all rows in a random order, block by block."""
        for n in self._blocks(epoch):
            size = -(-n // self.batch_size) * self.batch_size
            if self.stream is not None:
                order = self._shuffled_block(n, size)
            elif self.weights is not None:
                order = weighted_rows(self.weights, size, self.model.replicas)
            else:
                order = shuffled_rows(n, size, self.model.replicas, self.device)
            if self.chosen is not None:
                order = self.chosen.gather(-1, order)
            yield from self.ranks.shared(order).split(self.batch_size, -1)

    def _shuffled_block(self, n: int, size: int) -> Tensor:
        """As :func:`shuffled_rows`, each time in the same memory."""
        stack = () if self.model.replicas is None else (self.model.replicas,)
        order = self._orders[: math.prod(stack) * size].view(*stack, size)
        for replica in order.view(-1, size):
            torch.randperm(n, out=replica[:n])
        order[..., n:] = order[..., torch.arange(size - n, device=self.device) % n]
        return order

    def identity(self) -> object:
        """A checksum of the rows, or the stream's identity, for a checkpoint."""
        if self.stream is not None:
            return self.stream.identity()
        return digest(self.x, self.y, *(v for v in (self.weights, self.chosen) if v is not None))

    def _blocks(self, epoch: int) -> Iterator[int]:
        """The number of rows of each block, which is in memory when its number is yielded."""
        if self.stream is None:
            yield self.num_rows
            return
        for n in self.stream.read_into(self._block, self.seed, epoch):
            for here, new in zip((self.x, self.y), self.stream.split(self._block), strict=True):
                if here.data_ptr() != new.data_ptr():
                    here.copy_(new)
            if not self._checked:
                check_streamed_rows(self.model, self.x[:n], self.y[:n], "training")
            yield n
        self._checked = True


class EpochMean:
    """The mean of an epoch's losses, of which few are kept however many there are."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._means: list[Tensor] = []
        self._counts: list[int] = []

    def append(self, loss: Tensor) -> None:
        self._losses.append(loss)
        if len(self._losses) == FOLDED:
            self._fold()

    def _fold(self) -> None:
        self._means.append(torch.stack(self._losses).mean(0))
        self._counts.append(len(self._losses))
        self._losses.clear()

    def value(self) -> Tensor:
        """The mean, shaped as one of them."""
        if self._losses:
            self._fold()
        total = sum(self._counts)
        return torch.stack([mean * (n / total) for mean, n in zip(self._means, self._counts, strict=True)]).sum(0)


def _check_some(x: Tensor, y: Tensor, rows: str) -> None:
    if not (x.dim() and y.dim() and y.numel()):
        raise ValueError(
            f"fit got x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)} ({rows} rows), expected at least one row. "
            "Try x of shape [n, features] and y of shape [n, responses]."
        )


def checked_validation(
    model: ProbMix, rows: tuple[Tensor, Tensor] | RowStream, source: Minibatches
) -> tuple[Tensor | RowStream, Tensor | None, tuple[bool, bool]]:
    """Validation rows on the training rows' device, and whether x and whether y hold the rows of each replica.

    Raises:
        ValueError: for rows that do not fit the model, or a stream in other units than the training rows.
    """
    if not isinstance(rows, RowStream):
        _check_some(*rows, "validation")
        x, y = rows[0].to(source.device), rows[1].to(source.device)
        # A stream's rows are shared by the replicas.
        trained = (False, False) if source.stream is not None else model.of_each_replica(source.x, source.y)
        of_each = _is_of_each(model, x, source.x, trained[0]), _is_of_each(model, y, source.y, trained[1])
        check_rows(model, x, y, "validation", of_each=of_each)
        return x, y, of_each
    if source.stream is not None:
        rows.check_columns(source.stream)
        if not rows.units.same_as(source.stream.units):
            raise ValueError(
                f"fit got validation rows of {rows.name} in other units than the training rows, expected the same. "
                "Try validation.standardized(like=stream)."
            )
    return rows.shared_by(1, next(model.parameters()).dtype), None, (False, False)


def _is_of_each(model: ProbMix, values: Tensor, training: Tensor, trained: bool) -> bool:
    """Whether values hold the rows of each replica, by their number of dims: R shared rows have R as first size, too."""
    dims = training.dim() + (0 if trained else 1)
    return model.replicas is not None and values.shape[:1] == (model.replicas,) and values.dim() == dims
