"""What every test and example starts from: one thread, no display, a seeded generator, an empty parameter store."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

os.environ["MPLBACKEND"] = "Agg"  # read by matplotlib when it is first imported, also by a test's child process

import pyro
import pytest
import torch

torch.set_num_threads(1)

# Files that import a package of an extra and are tests by their examples: `make test-skpro` has it.
OF_SKPRO = ["pyro_probmix/skpro", "docs/tutorials/forecasting.md", "docs/tutorials/panel.md"]
collect_ignore = [] if importlib.util.find_spec("skpro") else OF_SKPRO
if not importlib.util.find_spec("netcal"):  # `make test-recipes`
    collect_ignore += ["docs/recipes_apart.md"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        no_gpu = pytest.mark.skip(reason="needs a CUDA device, and torch finds none")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(no_gpu)


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    """Seed torch's generator, and let no test or example see another's parameters."""
    torch.manual_seed(0)
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()
