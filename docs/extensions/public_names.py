"""A Sphinx extension: a name links to its entry, by whichever of its paths it is written; one that is not there is an error."""

from __future__ import annotations

__all__ = ["setup"]

from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def _found(path: str) -> Any:
    """What a dotted path names; None if it names nothing."""
    names = path.split(".")
    for cut in range(len(names), 0, -1):
        try:
            found: Any = import_module(".".join(names[:cut]))
            for name in names[cut:]:
                found = getattr(found, name)
            return found
        except (ImportError, AttributeError):
            continue
    return None


def _resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> nodes.Element | None:
    if node.get("refdomain") == "std":  # a label in a docstring that a class has inherited from another project
        return content if node["refdoc"].startswith("generated/") else None
    target = node["reftarget"]
    for path in (target, f"{node.get('py:module')}.{target}"):
        found = _found(path) if path.startswith("pyro_probmix") else None
        if found is None:
            continue
        for entry, described in env.domains.python_domain.objects.items():
            if _found(entry) is found:
                return make_refnode(app.builder, node["refdoc"], described.docname, described.node_id, content, entry)
        return content  # it is there, but has no entry
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Looks up what Sphinx has not found."""
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
