"""The processes of one fit, and each one's share of every batch."""

from __future__ import annotations

from torch import Tensor, distributed

__all__ = ["Ranks"]


class Ranks:
    r"""The W processes (ranks) of a distributed fit; W = 1 otherwise.

    Rank r evaluates the pairs of its share of a batch, with its own weights and noise, and

    .. math:: \nabla \hat\ell = \frac1W \sum_{r=1}^W \nabla \hat\ell_r

    is the gradient of the whole batch: since each rank scales its share to all rows, their mean is the estimate from all of
    the batch's pairs.

    Args:
        joint: whether the processes of torch's default group train together.
        batch_size: of the process; None for all rows.
        num_fused: of the process, the rows of an edge.

    Raises:
        ValueError: if there is no group, or the batch cannot be dealt evenly.
    """

    def __init__(self, joint: bool, batch_size: int | None, num_fused: int = 2) -> None:
        if joint and not (distributed.is_available() and distributed.is_initialized()):
            raise ValueError(
                "fit got distributed=True outside of a process group, expected one. Try torchrun, and "
                "torch.distributed.init_process_group() before fit."
            )
        self.joint = joint
        self.count = distributed.get_world_size() if joint else 1
        self.index = distributed.get_rank() if joint else 0
        self.num_fused = num_fused
        least = num_fused * self.count
        if batch_size is not None and batch_size % least:
            raise ValueError(
                f"fit got batch_size={batch_size} for {self.count} processes, expected a multiple of {least}, "
                f"whole {'pairs' if num_fused == 2 else 'edges'} for each. "
                f"Try batch_size={max(1, round(batch_size / least)) * least}."
            )

    def seed(self, seed: int) -> int:
        """Of this rank's pairs and noise; the first rank's is that of a fit by one process."""
        return seed + 1_000_003 * self.index

    def padded(self, num_rows: int) -> int:
        """The rows of a batch of all, so many that each rank gets whole edges."""
        return -(-num_rows // (self.num_fused * self.count)) * self.num_fused * self.count

    def shared(self, order: Tensor) -> Tensor:
        """The first rank's order of the rows, for all."""
        if self.count > 1:
            order = order.contiguous()  # what is sent is memory from the first element on
            distributed.broadcast(order, 0)
        return order

    def share_of(self, rows: Tensor) -> Tensor:
        """This rank's share of a batch [..., B], pairs that are pairs of the batch too."""
        if self.count == 1:
            return rows
        parts = rows.reshape(*rows.shape[:-1], self.num_fused, -1)
        return parts.chunk(self.count, -1)[self.index].flatten(-2)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the ranks, the same on all ranks."""
        if self.count > 1:
            distributed.all_reduce(values)
            values = values / self.count
        return values
