"""What `import pyro_probmix` offers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_probmix


def test_every_public_name_is_there_and_known_to_type_checkers():
    assert pyro_probmix.__file__ is not None
    tree = ast.parse(Path(pyro_probmix.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module for alias in node.names
        if node.module.startswith("pyro_probmix.")
    }  # fmt: skip
    names = set(pyro_probmix.__all__) - {"__version__"}
    assert names == imported
    assert names <= set(dir(pyro_probmix))
    for name in names:
        assert getattr(pyro_probmix, name) is not None


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="nothing"):
        getattr(pyro_probmix, "nothing")  # noqa: B009 (the attribute is not there, as a type checker would say too)


def test_import_is_cheap():
    code = "import sys, pyro_probmix; assert not {'torch', 'pyro', 'numpy', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
