"""Sphinx's configuration; `make docs` builds the pages into build/docs, a warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from pyro_probmix import __version__

project = "pyro_probmix"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "mathml",
    "public_names",
    "shapes",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
templates_path = ["templates"]
nitpicky = True
nitpick_ignore = [("py:class", "pyro_probmix.inference.compiled.Objective")]  # an argument that `fit` makes
nitpick_ignore_regex = [
    (r"py:.*", r"(?!pyro_probmix\b).*")
]  # other projects' names are not looked up: that needs a network

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_custom_sections = [("Shape", "notes_style")]
napoleon_use_ivar = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"pyro_probmix {__version__}"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
