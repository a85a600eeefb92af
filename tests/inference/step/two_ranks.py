"""What test_distributed.py runs in one process and in two: ``python two_ranks.py RANK FOLDER`` is one of the two."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pyro_probmix import METHODS, ArrayStream, ExpectedLogLikelihood, PriorGuide, ProbMix, build_density, fit
from pyro_probmix.inference.data.ranks import Ranks
from pyro_probmix.models import Gaussian, initialise

N, BATCH, WIDTH = 24, 12, 6


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(N, 2, generator=generator, dtype=torch.float64)
    return x, x.sum(-1, keepdim=True).sin()


def process(name: str, batch_size: int | None = BATCH, seed: int = 0) -> ProbMix:
    torch.set_default_dtype(torch.float64)
    density = build_density(METHODS[name], num_features=2, likelihood=Gaussian, widths=(WIDTH, 4), replicas=2)
    initialise(density, [seed, seed + 1])
    density.double()
    return ProbMix(density, at=METHODS[name].site, alpha=0.5, beta=0.1, batch_size=batch_size, labels="expected")


class Tabled(nn.Module):
    """A process whose weights and embedding noise are looked up by the row that they belong to."""

    def __init__(self, inner: ProbMix) -> None:
        super().__init__()
        self.inner = inner
        generator = torch.Generator().manual_seed(4)
        self.weights = torch.rand(2, N, generator=generator, dtype=torch.float64)
        self.noise = torch.randn(2, N, WIDTH, generator=generator, dtype=torch.float64)

    def forward(self, x: Tensor, y: Tensor, rows: Tensor) -> Any:
        with _LookUp(self, rows):
            return self.inner(x, y, rows)


class _LookUp(Messenger):
    def __init__(self, table: Tabled, rows: Tensor) -> None:
        super().__init__()
        self.table, self.rows = table, rows

    def _pyro_sample(self, msg: Any) -> None:
        own = (torch.arange(2)[:, None], self.rows)
        if msg["name"] == "lambda":
            msg["value"] = self.table.weights[own].reshape(msg["fn"].shape())
        if msg["name"] == "z" and not msg["infer"].get("_deterministic", False):
            msg["value"] = msg["fn"].mean + msg["fn"].variance.sqrt() * self.table.noise[own]


def by_loop(name: str, joint: bool) -> dict[str, Tensor]:
    """A user's own loop over the loss as a module, without or with DistributedDataParallel around it."""
    model = Tabled(process(name))
    loss: Any = ExpectedLogLikelihood()(model, PriorGuide(model))
    ranks = Ranks(joint, BATCH)
    if joint:
        loss = DistributedDataParallel(loss)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, y = data()
    generator = torch.Generator().manual_seed(5)
    for _ in range(4):
        order = torch.stack([torch.randperm(N, generator=generator) for _ in range(2)])
        for rows in order.split(BATCH, -1):
            optimizer.zero_grad()
            loss(x, y, ranks.share_of(rows)).backward()
            optimizer.step()
    return model.inner.density.state_dict()


def by_fit(
    name: str, joint: bool, batch_size: int | None = BATCH, seed: int = 0, block_rows: int | None = None
) -> dict[str, Tensor]:
    """The weights that ``fit`` leaves, and what it reports; from a stream, if there are blocks."""
    model = process(name, batch_size, seed)
    x, y = data()
    rows = (x, y) if block_rows is None else (ArrayStream(x.numpy(), y.numpy(), block_rows=block_rows, chunk_rows=2),)
    result = fit(
        model,
        *rows,
        epochs=4,
        validation=(x + 0.1, y),
        learning_rate=0.01,
        clip_norm=1.0,
        patience=3,
        distributed=joint,
    )
    return model.density.state_dict() | {
        "nll": result.validation_nll,
        "loss": result.train_loss,
        "best": result.best_epoch,
    }


def everything(joint: bool, rank: int = 0) -> dict[str, dict[str, Tensor]]:
    left = {f"loop {name}": by_loop(name, joint) for name in ("ERM", "ProbMix", "M-ProbMix")}
    left["fit ERM"] = by_fit("ERM", joint)
    left["fit ERM, all rows"] = by_fit("ERM", joint, None)
    left["fit ERM, stream"] = by_fit("ERM", joint, block_rows=18)
    left["fit ERM, a last batch of half the size"] = by_fit("ERM", joint, 16)
    left["fit M-ProbMix"] = by_fit("M-ProbMix", joint, seed=7 * rank)  # the first rank's initial weights count
    return left


if __name__ == "__main__":
    number, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=2)
    torch.save(everything(True, number), folder / f"{number}.pt")
    try:
        process("ERM", 10)
        by_fit("ERM", True, 10)
    except ValueError as error:
        (folder / f"{number}.txt").write_text(str(error))
    distributed.destroy_process_group()
