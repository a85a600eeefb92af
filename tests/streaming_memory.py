"""Prints by how many MiB a fit on a stream raises the most memory that the process held; run in a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pyro_probmix import METHODS, ArrayStream, ParquetStream, ProbMix, build_density, fit
from pyro_probmix.inference import RowStream
from pyro_probmix.models import Gaussian

BATCH = 4096


def write(path: Path, num_rows: int, group_rows: int, num_features: int = 20) -> None:
    """A Parquet or .npy file of normal draws, written piece by piece."""
    rng = np.random.default_rng(0)
    sizes = [min(group_rows, num_rows - start) for start in range(0, num_rows, group_rows)]
    names = [*(f"x{k}" for k in range(num_features)), "y"]
    if path.suffix == ".npy":
        array = np.lib.format.open_memmap(path, "w+", np.float64, (num_rows, num_features + 1))
        for k, size in enumerate(sizes):
            array[k * group_rows : k * group_rows + size] = rng.normal(size=(size, num_features + 1))
        return
    with pq.ParquetWriter(path, pa.schema([(name, pa.float64()) for name in names])) as writer:
        for size in sizes:
            writer.write_table(pa.table({name: rng.normal(size=size) for name in names}), row_group_size=size)


def stream(path: Path, **options: Any) -> RowStream:
    if path.suffix == ".parquet":
        return ParquetStream(path, "y", **options)
    rows = np.load(path, mmap_mode="r")
    return ArrayStream(rows[:, :-1], rows[:, -1], **options)


def most_memory() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main(path: Path, replicas: int | None = None, held_out: bool = False, **options: Any) -> None:
    torch.set_num_threads(1)
    features = stream(path, **options).num_features
    density = build_density(
        METHODS["ProbMix"], num_features=features, likelihood=Gaussian, widths=(8, 4), replicas=replicas
    )
    model = ProbMix(density, at="y", batch_size=BATCH)

    def train(rows: Path) -> None:
        own = stream(rows, **options).standardized()
        fit(model, own, epochs=1, validation=own if held_out else None)

    # What training takes on a table of a few batches, and a small file: the stream is what comes on top.
    small = path.with_name("small" + path.suffix)
    write(small, 2 * BATCH, 2 * BATCH, features)
    train(small)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    train(small)
    before = most_memory()
    train(path)
    print(most_memory() - before)


if __name__ == "__main__":
    main(Path(sys.argv[1]), **json.loads(sys.argv[2]))
