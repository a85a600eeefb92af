"""The `probmix` command; a module for each kind of work, and nothing heavy imported before it is needed."""

from pyro_probmix.cli.command import main

__all__ = ["main"]
