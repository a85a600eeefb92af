"""What is printed and what is kept of the timings."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import METHODS, Case

__all__ = ["Row", "comparison", "cost_of_fusing", "machine", "write_json"]

#: engine, method, R, B, K, S, device, threads, ms_per_step, spread (interquartile range, ms), peak_mib.
Row = dict[str, Any]


def comparison(case: Case, rows: Sequence[Row]) -> str:
    """A case's engines side by side; ratios below 1 are faster than the engine that the column names."""
    times = {row["engine"]: row["ms_per_step"] for row in rows}
    others = [name for name in times if not name.startswith("ours-")]
    lines = [
        f"\n{case}",
        f"  {'':14} {'ms a step':>10} {'spread':>8} {'ms a model':>11} {'peak MiB':>9}"
        + "".join(f" {'/ ' + name:>16}" for name in others),
    ]
    for row in rows:
        ms, peak = row["ms_per_step"], row["peak_mib"]
        lines.append(
            f"  {row['engine']:14} {ms:10.3f} {row['spread']:8.3f} {ms / row['R']:11.4f} "
            f"{'' if peak is None else f'{peak:.1f}':>9}" + "".join(f" {ms / times[name]:16.2f}" for name in others)
        )
    lines += [
        f"  {name} is {times['torch-loop'] / ms:.1f} times as fast per model as the plain loop over single models"
        for name, ms in times.items()
        if name.startswith("ours-")
    ]
    return "\n".join(lines)


def cost_of_fusing(rows: Sequence[Row]) -> str:
    """Each method's step in each engine, in ms, and relative to a step that fuses nothing."""
    times = {(row["engine"], row["method"]): row["ms_per_step"] for row in rows}
    engines = list(dict.fromkeys(engine for engine, _ in times))
    lines = [
        f"\nWhat fusing costs, R={rows[0]['R']}, B={rows[0]['B']}: ms a step, and relative to the same network not fused",
        f"  {'':14}" + "".join(f" {engine:>20}" for engine in engines),
    ]
    for method in METHODS:
        plain = "M-sampled" if method.startswith("M-") else "ERM"
        cells = [f"{times[e, method]:.3f} {times[e, method] / times[e, plain]:8.2f}" for e in engines]
        lines.append(f"  {method:14}" + "".join(f" {cell:>20}" for cell in cells))
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the timings depend on besides the code."""
    versions: dict[str, str | None] = {}
    for name in ("torch", "pyro-ppl", "numpyro", "jax", "jaxlib", "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    cpuinfo = Path("/proc/cpuinfo")
    models = [v for v in cpuinfo.read_text().splitlines() if v.startswith("model name")] if cpuinfo.exists() else []
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "clock": "processor time of a process pinned to one core",
    }


def write_json(path: Path, value: Any) -> None:
    """Writes a file whole or not at all."""
    unfinished = path.with_suffix(".json.unfinished")
    unfinished.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(unfinished, path)
