"""Prints pip constraints that hold each requirement of pyproject.toml at the lowest version it allows.

python .ci/lowest.py pyproject.toml EXTRA...
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text("utf-8"))["project"]
for requirement in [
    *project["dependencies"],
    *(r for extra in sys.argv[2:] for r in project["optional-dependencies"][extra]),
]:
    found = re.fullmatch(r"([\w-]+)>=([\d.]+)(;.*)?", requirement)
    if found is None:
        sys.exit(
            f"{sys.argv[1]} has the requirement {requirement!r}, expected NAME>=VERSION. Try giving it a lower bound."
        )
    print(f"{found[1]}=={found[2]}{found[3] or ''}")
