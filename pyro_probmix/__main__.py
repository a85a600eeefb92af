"""``python -m pyro_probmix`` runs the ``probmix`` command."""

import sys

from pyro_probmix.cli import main

if __name__ == "__main__":  # a process that is spawned imports this file without running it
    sys.exit(main())
