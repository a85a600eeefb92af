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

# What imports a package of an extra, and is a test by its examples.
collect_ignore = [] if importlib.util.find_spec("skpro") else ["pyro_probmix/skpro"]
PAGES_OF = {
    "forecasting.md": ("skpro", "make test-skpro"),
    "panel.md": ("skpro", "make test-skpro"),
    "recipes_apart.md": ("netcal", "make test-recipes"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        package, command = PAGES_OF.get(item.path.name, ("pytest", ""))
        if not importlib.util.find_spec(package):
            item.add_marker(pytest.mark.skip(reason=f"{package} is not installed; {command} has it"))
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
