"""Faults that are really caused: kills at each change to files, damage, hostile values; and bounds on what they may cost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]

# Forks for each of the changes asked for, since to import takes longer than to write; says how the child ended.
_CHILDREN = """
import os, signal, sys
import torch
torch.set_num_threads(1)
folder = sys.argv[1]
for line in sys.stdin:
    at, value = line.split()
    child = os.fork()
    if child == 0:
        changes = 0
        def counted(inner):
            def call(*args, **kwargs):
                global changes
                if changes == int(at):
                    os.kill(os.getpid(), signal.SIGKILL)
                changes += 1
                return inner(*args, **kwargs)
            return call
        for name in ("replace", "rename", "mkdir", "rmdir", "unlink", "open", "fsync"):
            setattr(os, name, counted(getattr(os, name)))
        try:
            write(folder, value)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def _started(code: str, folder: Path, **pipes: Any) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], env=environment, cwd=ROOT, text=True, **pipes)


def killed_at_each_change(writer: str, folder: Path, check: Callable[[bool], None], most: int) -> int:
    """Kills a process before each of its first changes to files, in turn; returns how many kills that were.

    Args:
        writer: code that defines ``write(folder, value)``.
        folder: where it writes.
        check: called after each kill.
        most: kills at most this many.
    """
    pipe = subprocess.PIPE
    with _started(writer + _CHILDREN, folder, stdin=pipe, stdout=pipe) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        for at in range(most):
            parent.stdin.write(f"{at} {at}\n")
            parent.stdin.flush()
            status = int(parent.stdout.readline())
            assert status in (0, 9)
            check(status == 9)
            if status == 0:
                return at
    return most


def two_at_once(writer: str, folder: Path) -> None:
    """Two processes that write to the same place, and end without an error."""
    code = writer + "\nimport sys\nwrite(sys.argv[1], sys.argv[1][-1:])"
    both = [_started(code, folder, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        said = process.communicate(timeout=100)[1]
        assert process.returncode == 0, said


@contextmanager
def bounded(seconds: float = 2.0, mib: float = 500.0) -> Iterator[None]:
    """Asserts that what is done inside takes no more time and memory than that."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    before, started = _peak(), time.perf_counter()
    yield
    assert time.perf_counter() - started < seconds
    assert _peak() - before < mib


def _peak() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def changed(data: bytes, rng: np.random.Generator) -> bytes:
    """One change of the bytes of a file: bits, bytes, cut, longer, a part twice; half of them in its header."""
    new = bytearray(data)
    header = 8 + int.from_bytes(data[:8], "little")
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(header if rng.random() < 0.5 else len(new)))
        kind = rng.integers(6)
        if kind <= 1:
            new[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            size = int(rng.integers(1, 9))
            new[place : place + size] = rng.bytes(size)
        elif kind == 3:
            new[place : place + int(rng.integers(0, 9))] = rng.bytes(int(rng.integers(0, 9)))
        elif kind == 4:
            del new[place : place + int(rng.integers(1, 2000))]
        else:
            new[place:place] = new[place : place + int(rng.integers(1, 2000))]
        if len(new) <= header:
            break
    return bytes(new)


def deep(levels: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


#: Values that a record may be made to hold.
HOSTILE: list[Any] = [
    *(None, True, False, -1, 0, 3, 10**9, 2**63, 10**300, 0.5, -0.5, 1e308, float("nan"), float("inf")),
    *("", "x", "os.system", "<U999999999", "x" * 10_000, [], [1], [10**9], ["a"], [[]], [None], [-1, 4], [1.5]),
    *(
        {},
        {"own": True},
        {"array": [1], "type": "<U999999999"},
        {"array": "abc", "type": "O"},
        {"array": [], "type": 7},
    ),
    *({"array": [1e9], "type": "<i1"}, {"method": {}}, {"method": {"site": 3}}, {"method": 4}, [10**9, 10**9]),
]


def hostile(record: dict[str, Any], rng: np.random.Generator) -> None:
    """Gives one entry, somewhere in a record, another value, takes it out, or adds one."""
    places: list[tuple[Any, Any]] = []

    def walk(holder: Any) -> None:
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            places.append((holder, key))
            if isinstance(holder[key], dict | list) and holder[key]:
                walk(holder[key])

    walk(record)
    holder, key = places[rng.integers(len(places))]
    kind = rng.integers(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[f"{key}_"] = holder[key]
    elif kind == 2:
        holder[key] = deep(400)
    else:
        holder[key] = HOSTILE[rng.integers(len(HOSTILE))]
