"""What is printed and what is kept of the timings."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cases import METHODS, Case

__all__ = [
    "AXES",
    "Row",
    "along",
    "captured_targets",
    "comparison",
    "cost_of_fusing",
    "exponent",
    "growth",
    "machine",
    "read_json",
    "report",
    "targets",
    "write_json",
]

#: engine, method, R, B, K, S, device, threads, ms_per_step, spread (interquartile range, ms), peak_mib.
Row = dict[str, Any]


#: The cases that count, (R, B): minibatches of a small table, a whole small table at once, one model.
HEADLINE = ((20, 32), (20, 222), (1, 32))
PER_MODEL = 8.0  # how many times as fast per model as the plain loop
CAPTURED_US = 150.0  # a step on CUDA


def report(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """All tables of a run, of those cases that it has; ``about`` has what each device's rows depend on."""
    return "\n".join(
        _report_of(device, [row for row in rows if row["device"] == device], own) for device, own in about.items()
    )


def _report_of(device: str, rows: Sequence[Row], about: dict[str, Any]) -> str:
    parts = [comparison(own) for r, b in HEADLINE if (own := _select(rows, "M-ProbMix", R=r, B=b))]
    methods = [
        row for row in rows if row["K"] == row["S"] == 1 and (row["R"], row["B"]) == (rows[0]["R"], rows[0]["B"])
    ]
    parts.append(cost_of_fusing(methods))
    axes = [growth(rows, axis) for axis in AXES]
    parts += [AXES_TITLE, *filter(None, axes)] if any(axes) else []
    if all(_select(rows, "M-ProbMix", R=r, B=b) for r, b in HEADLINE):
        parts.append(targets(rows) if device == "cpu" else captured_targets(rows))
    slowdown = about["wall_over_processor"]
    clock = (
        f"Processor's time on one core, float32, median and interquartile range; the clock on the wall took {slowdown:.2f} "
        "times as long."
        if device == "cpu"
        else f"Time on the clock, {about['processor']}, float32, median and interquartile range."
    )
    parts.append(
        f"{clock} All engines agreed in loss and gradients. Matrix products of "
        f"{about['matrix_product_gflops']:.0f} GFLOP/s at most. {about['seconds']:.0f} s in all."
    )
    if device == "cpu" and slowdown > 1.2:
        parts.append("The machine was busy with other things, so the numbers are rough. Try again when it is quiet.")
    return "\n".join(parts)


def _select(rows: Sequence[Row], method: str, **sizes: int) -> list[Row]:
    wanted = {"method": method, "K": 1, "S": 1, **sizes}
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def _case(row: Row) -> Case:
    return Case(row["method"], row["R"], row["B"], row["B"], row["K"], row["S"])


def comparison(rows: Sequence[Row]) -> str:
    """A case's engines side by side; ratios below 1 are faster than the engine that the column names."""
    times = {row["engine"]: row["ms_per_step"] for row in rows}
    others = [name for name in times if not name.startswith("ours-")]
    lines = [
        f"\n{_case(rows[0])}",
        f"  {'':14} {'ms a step':>10} {'spread':>7} {'ms a model':>11} {'peak MiB':>9}"
        + "".join(f" {'/ ' + name.removeprefix('torch-'):>9}" for name in others),
    ]
    for row in rows:
        ms, peak = row["ms_per_step"], row["peak_mib"]
        lines.append(
            f"  {row['engine']:14} {ms:10.3f} {row['spread']:7.3f} {ms / row['R']:11.4f} "
            f"{'' if peak is None else f'{peak:.1f}':>9}" + "".join(f" {ms / times[name]:9.2f}" for name in others)
        )
    return "\n".join(lines)


def cost_of_fusing(rows: Sequence[Row]) -> str:
    """Each method's step in each engine, in ms, and relative to a step that fuses nothing."""
    times = {(row["engine"], row["method"]): row["ms_per_step"] for row in rows}
    engines = list(dict.fromkeys(engine for engine, _ in times))
    lines = [
        f"\nWhat fusing costs, R={rows[0]['R']}, B={rows[0]['B']}: ms a step, and relative to the same network not fused",
        f"  {'':9}" + "".join(f" {engine:>14}" for engine in engines),
    ]
    for method in METHODS:
        plain = _plain(method)
        cells = [f"{times[e, method]:.3f} {times[e, method] / times[e, plain]:6.2f}" for e in engines]
        lines.append(f"  {method:9}" + "".join(f" {cell:>14}" for cell in cells))
    return "\n".join(lines)


def _plain(method: str) -> str:
    return "M-sampled" if method.startswith("M-") else "ERM"


AXES_TITLE = "\nGrowth of a step of M-ProbMix: exponent fitted to all sizes, and between the two largest (1 is linear)"
#: What is varied, from R = 20, B = 32, K = S = 1.
AXES = ("R", "B", "K", "S")


def along(rows: Sequence[Row], axis: str) -> dict[str, list[Row]]:
    """The rows of each engine in which nothing but one size differs, by that size."""
    others = {name: size for name, size in {"R": 20, "B": 32, "K": 1, "S": 1}.items() if name != axis}
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["method"] == "M-ProbMix" and all(row[name] == size for name, size in others.items()):
            found.setdefault(row["engine"], []).append(row)
    return {engine: sorted(own, key=lambda row: int(row[axis])) for engine, own in found.items()}


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of the logarithms: how values grow with sizes."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def growth(rows: Sequence[Row], axis: str) -> str:
    """How each engine's time grows along an axis; empty where fewer than two sizes were timed."""
    engines, cells = [], []
    for engine, own in along(rows, axis).items():
        sizes, times = ([row[name] for row in own] for name in (axis, "ms_per_step"))
        if len(own) < 2:
            return ""
        cells.append(f"{exponent(sizes, times):.2f} {exponent(sizes[-2:], times[-2:]):5.2f}")
        engines.append(engine)
    if not cells:
        return ""
    lines = [f"  {f'{axis} {sizes[0]}..{sizes[-1]}':13}" + "".join(f" {engine:>13}" for engine in engines)]
    return "\n".join([*lines, f"  {'':13}" + "".join(f" {cell:>13}" for cell in cells)])


def targets(rows: Sequence[Row]) -> str:
    """The compiled step beside what was aimed at."""

    def ms(engine: str, method: str, r: int, b: int) -> float:
        (row,) = (row for row in _select(rows, method, R=r, B=b) if row["engine"] == engine)
        return float(row["ms_per_step"])

    def against(engine: str, r: int, b: int) -> float:
        return ms("ours-compiled", "M-ProbMix", r, b) / ms(engine, "M-ProbMix", r, b)

    found = []
    if any(row["engine"] == "numpyro" for row in rows):
        aims = zip(HEADLINE, (1.0, 1.0, 2.0), strict=True)
        found = [(f"M-ProbMix / NumPyro, R={r}, B={b}", against("numpyro", r, b), aim) for (r, b), aim in aims]
    for method, aim in (("Mix", 1.1), ("ProbMix", 1.2), ("M-ProbMix", 1.3)):
        ratio = ms("ours-compiled", method, 20, 32) / ms("ours-compiled", _plain(method), 20, 32)
        found.append((f"{method} / {_plain(method)}, R=20, B=32", ratio, aim))
    lines = [f"  {what:36} {ratio:6.2f}, at most {aim:.1f}: {_met(ratio <= aim)}" for what, ratio, aim in found]
    for b in (32, 222):
        times = 1 / against("torch-loop", 20, b)
        what = f"times as fast as the loop, R=20, B={b}"
        lines.append(f"  {what:36} {times:6.1f}, at least {PER_MODEL:.0f}: {_met(times >= PER_MODEL)}")
    return "\n".join(["\nThe compiled step beside its aims", *lines])


def captured_targets(rows: Sequence[Row]) -> str:
    """The captured step beside what was aimed at."""
    lines = []
    for method in METHODS:
        (row,) = (row for row in _select(rows, method, R=20, B=32) if row["engine"] == "ours-captured")
        us = 1e3 * row["ms_per_step"]
        lines.append(f"  {f'{method}, R=20, B=32':36} {us:6.0f}, at most {CAPTURED_US:.0f}: {_met(us <= CAPTURED_US)}")
    return "\n".join(["\nThe captured step beside its aims, microseconds", *lines])


def _met(met: bool) -> str:
    return "met" if met else "missed"


def machine(device: str) -> dict[str, Any]:
    """What the timings of a device depend on besides the code."""
    versions: dict[str, str | None] = {}
    for name in ("torch", "pyro-ppl", "numpyro", "jax", "jaxlib", "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        **(
            _processor() if device == "cpu" else {"processor": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
        ),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "clock": "processor time of a process pinned to one core" if device == "cpu" else "time on the clock",
    }


def _processor() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    models = [v for v in cpuinfo.read_text().splitlines() if v.startswith("model name")] if cpuinfo.exists() else []
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
    }


def write_json(path: Path, value: Any) -> None:
    """Writes a file whole or not at all."""
    unfinished = path.with_suffix(".json.unfinished")
    unfinished.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(unfinished, path)


def read_json(path: Path) -> Any:
    """Reads what :func:`write_json` wrote.

    Raises:
        ValueError: if there is no such file.
    """
    if not path.exists():
        raise ValueError(f"there is no {path}. Try make bench, which times all engines first.")
    return json.loads(path.read_text())
