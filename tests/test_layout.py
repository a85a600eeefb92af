"""The layout: folders in one order, imports that run downwards only, no circle; docs/layout.md shows the same."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from pyro_probmix import _HOMES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pyro_probmix"
#: From the top down. A folder's name stands for the modules that lie directly in it; those at the root stand for themselves.
FLOORS = (
    "cli",
    "skpro",
    "testing",
    "experiments",
    "experiments.audit",
    "experiments.report",
    "experiments.report.tables",
    "experiments.report.claims",
    "experiments.report.figures",
    "experiments.report.pages",
    "experiments.report.numbers",
    "experiments.run",
    "experiments.data",
    "experiments.config",
    "tabular",
    "tabular.texts",
    "tables",
    "estimators",
    "estimators.saving",
    "estimators.ensemble",
    "estimators.doubt",
    "estimators.neighbors",
    "estimators.targets",
    "columns",
    "inference",
    "inference.step",
    "inference.export",
    "inference.predictive",
    "inference.predictive.families",
    "inference.data",
    "inference.criteria",
    "calibration",
    "calibration.figures",
    "calibration.arviz",
    "calibration.densities",
    "calibration.scores",
    "models",
    "models.likelihoods",
    "models.distributions",
    "models.layers",
    "fusing",
    "fusing.kernels",
    "graphs",
    "pooling",
    "pooling.rows",
    "pooling.integrals",
    "arguments",
    "files",
    "unfinished",
    "interrupts",
    "moves",
    "names",
    "random_state",
)
MOST_MODULES = 14


def modules() -> dict[str, Path]:
    """Dotted names below the package -> files; a folder's own file has the folder's name, the package's the empty one."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """The package's modules that a module imports, anywhere in it: also in functions, and for type checkers alone."""
    for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pyro_probmix":
            base = node.module.removeprefix("pyro_probmix").removeprefix(".")
            for alias in node.names:
                below = f"{base}.{alias.name}".removeprefix(".")
                yield below if below in MODULES else base or _HOMES.get(alias.name, "")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("pyro_probmix."):
                    yield alias.name.removeprefix("pyro_probmix.")


def floor(name: str) -> str:
    return name if MODULES[name].name == "__init__.py" or "." not in name else name.rpartition(".")[0]


GRAPH = {name: sorted(set(imports(name)) - {""}) for name in MODULES if name}  # the root has the version and lazy names


def test_every_folder_has_its_place():
    assert {floor(name) for name in GRAPH} - {"__main__"} == set(FLOORS)


def test_no_import_runs_upwards():
    place = {name: k for k, name in enumerate(("__main__", *FLOORS))}
    upwards = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if place[floor(other)] < place[floor(name)]
    ]
    assert not upwards


def test_there_is_no_circle():
    # A folder's own file gathers what the folder exports, and so comes after its modules.
    TopologicalSorter({name: set(others) - {name} for name, others in GRAPH.items()}).prepare()


def test_folders_are_taken_in_at_a_glance():
    sizes: dict[str, int] = defaultdict(int)
    for name, path in MODULES.items():
        sizes[floor(name) if name else ""] += path.name != "__init__.py"
    assert {name: size for name, size in sizes.items() if size > MOST_MODULES} == {}


def test_every_folder_says_what_it_is():
    for path in MODULES.values():
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), path


def test_the_page_shows_the_same_folders_in_the_same_order():
    page = (ROOT / "docs" / "layout.md").read_text("utf-8")
    shown = re.findall(r"^\| `([\w.]+)` \|", page, flags=re.MULTILINE)
    assert tuple(shown[: len(FLOORS)]) == FLOORS


def test_the_tests_lie_as_the_package_does():
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert all((PACKAGE / folder).is_dir() or (ROOT / folder).is_dir() for folder in folders)
