"""What a fit on a stream adds to the memory, and how fast it reads: ``python benchmarks/streaming.py``.

Writes tables of normal draws to a temporary folder, 20 features and a target in float64, several times as large as the
memory that the stream is given. ``added`` is by how much training an epoch raises the most memory that the process held,
in MiB, over training as many epochs of two batches; ``read`` is the processor time of one pass, ``fit`` that of training on
it with batches of 4096 rows (a small network: a usual one takes longer).
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FEATURES, BATCH = 20, 4096

#: Kind of file, rows, rows of a group, and the options of the stream.
CASES: list[tuple[str, int, int, dict[str, Any]]] = [
    (".npy", 2_500_000, 100_000, {"memory_mib": 64}),
    (".npy", 400_000, 100_000, {"memory_mib": 192, "chunk_rows": 1}),
    (".parquet", 2_500_000, 10_000, {"memory_mib": 64}),
    (".parquet", 2_500_000, 100_000, {"memory_mib": 64}),
    (".parquet", 2_500_000, 1_000_000, {"memory_mib": 64}),
    (".parquet", 2_500_000, 100_000, {"memory_mib": 256}),
    (".parquet", 2_500_000, 100_000, {"memory_mib": 64, "replicas": 20}),
    (".parquet", 2_500_000, 100_000, {"memory_mib": 64, "validate": True}),
]


def write(path: Path, num_rows: int, group_rows: int, num_features: int = FEATURES) -> None:
    """A Parquet or .npy file of normal draws, written piece by piece."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

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


def stream(path: Path, **options: Any) -> Any:
    import numpy as np

    from pyro_probmix import ArrayStream, ParquetStream

    if path.suffix == ".parquet":
        return ParquetStream(path, "y", **options)
    rows = np.load(path, mmap_mode="r")
    return ArrayStream(rows[:, :-1], rows[:, -1], **options)


def most_memory() -> float:
    """The most that this process has held, in MiB, by Linux's account."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(path: Path, replicas: int | None = None, validate: bool = False, **options: Any) -> dict[str, float]:
    """What training on the file adds, in a process of its own."""
    import torch

    from pyro_probmix import METHODS, ProbMix, build_density, fit
    from pyro_probmix.inference.data.pages import give_back
    from pyro_probmix.models import Gaussian

    torch.set_num_threads(1)
    features = stream(path, **options).num_features
    density = build_density(
        METHODS["ProbMix"], num_features=features, likelihood=Gaussian, widths=(8, 4), replicas=replicas
    )
    model = ProbMix(density, at="y", batch_size=BATCH)

    def train(rows: Path, epochs: int) -> None:
        own = stream(rows, **options).standardized()
        fit(model, own, epochs=epochs, validation=own if validate else None, compile=False)

    # What training takes on a table of two batches: the stream is what comes on top.
    small = path.with_name("small" + path.suffix)
    write(small, 2 * BATCH, 2 * BATCH, features)
    train(small, 1)
    gc.collect()
    give_back()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the most so far is what is held now
    train(small, 5)
    before = most_memory()
    start = time.process_time()
    train(path, 1)
    found = {"added": most_memory() - before, "fit": time.process_time() - start}
    own = stream(path, **options).shared_by(replicas or 1, torch.float32)
    block = own.room(own.shuffle.block_rows)
    start = time.process_time()
    for _ in own.read_into(block, 0, 0):
        pass
    return found | {
        "read": time.process_time() - start,
        "block": own.shuffle.block_rows,
        "chunk": own.shuffle.chunk_rows,
    }


def in_a_process(path: Path, options: dict[str, Any]) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", str(path), json.dumps(options)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    if options.one:
        print(json.dumps(measure(Path(options.one[0]), **json.loads(options.one[1]))))
        return
    print(
        f"{'file':9} {'rows':>10} {'MiB':>5} {'group':>10} {'bound':>6} {'added':>6} {'block':>10} {'chunk':>7}",
        end=" ",
    )
    print(f"{'read s':>7} {'fit s':>6}  options")
    for suffix, num_rows, group_rows, case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"table{suffix}")
            write(path, num_rows, group_rows)
            found = in_a_process(path, case)
        size = num_rows * (FEATURES + 1) * 8 / 2**20
        others = ", ".join(f"{key}={value}" for key, value in case.items() if key != "memory_mib")
        group = f"{group_rows:,}" if suffix == ".parquet" else ""
        print(
            f"{suffix:9} {num_rows:10,} {size:5.0f} {group:>10} {case['memory_mib']:6} {found['added']:6.0f} "
            f"{found['block']:10,} {found['chunk']:7,} {found['read']:7.1f} {found['fit']:6.1f}  {others}".rstrip(),
            flush=True,
        )


if __name__ == "__main__":
    main()
