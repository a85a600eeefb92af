# Each target makes a virtual environment in .venv if there is none, and installs again only when pyproject.toml or
# constraints.txt has changed. pip's own settings (PIP_INDEX_URL and the like) apply. PYTHON=... names another interpreter.

VENV := .venv
BIN := $(VENV)/bin
PYTHONS := $(PYTHON) python3.11 python3 python3.12 python3.13

.PHONY: help demo test test-arviz lint bench docs
.NOTPARALLEL:

help:
	@echo "make demo   train all methods on the paper's toy regression and on a real table"
	@echo "make test   run the tests, and every example in the documentation"
	@echo "make test-arviz  run the tests of what goes to ArviZ with arviz 1.x, on Python 3.12 or later and without torch"
	@echo "make lint   check style and types"
	@echo "make docs   build the documentation into build/docs"
	@echo "make bench  time a training step beside plain PyTorch and NumPyro"

demo: $(VENV)/.with-demo
	$(BIN)/probmix run toy-regression --seeds 10
	$(BIN)/probmix run table --dataset diabetes --seeds 10 --epochs 100

test: $(VENV)/.with-test
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

# Python 3.11 has arviz 0.x; the other line is tested on a later Python, in an environment of its own with no more than this.
ARVIZ := .venv-arviz
ARVIZ_PYTHONS := $(PYTHON) python3.12 python3.13 python3 $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/3.1[2-9].*/bin/python3)

test-arviz: $(ARVIZ)/.installed
	$(ARVIZ)/bin/python -m pytest -q --confcutdir=tests/calibration/arviz tests/calibration/arviz

$(ARVIZ)/.installed: pyproject.toml constraints.txt
	@found=; \
	for python in $(ARVIZ_PYTHONS); do \
	    if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; \
	    then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "No Python 3.12 or later (with venv and pip) was found. Try installing one, or make test-arviz PYTHON=/path/to/python3." >&2; \
	    exit 1; \
	fi; \
	echo "making a virtual environment in $(ARVIZ) with $$found, and installing arviz 1.x into it"; \
	$$found -m venv --clear $(ARVIZ)
	@$(ARVIZ)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	    'arviz>=1' h5netcdf h5py matplotlib pytest pytest-timeout
	@touch $@

lint: $(VENV)/.with-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy conftest.py pyro_probmix tests

bench: $(VENV)/.with-bench
	$(BIN)/python benchmarks/bench.py

docs: $(VENV)/.with-docs
	$(BIN)/python -m sphinx -q -W --keep-going docs build/docs
	@echo "the documentation is in build/docs/index.html"

EXTRAS_demo :=
EXTRAS_test := [test]
EXTRAS_lint := [test,lint]
EXTRAS_bench := [bench]
EXTRAS_docs := [docs]

# The file marks a finished installation: it is written last, so that an interrupted one starts again.
$(VENV)/.with-%: pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	    found=; \
	    for python in $(PYTHONS); do \
	        if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	        then found=$$python; break; fi; \
	    done; \
	    if [ -z "$$found" ]; then \
	        echo "No Python 3.11 or later (with venv and pip) was found. Try installing one, or make $* PYTHON=/path/to/python3." >&2; \
	        exit 1; \
	    fi; \
	    echo "making a virtual environment in $(VENV) with $$found"; \
	    $$found -m venv --clear $(VENV); \
	}
	@echo "installing pyro_probmix$(EXTRAS_$*) into $(VENV): some minutes the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.$(EXTRAS_$*)' -c constraints.txt
	@touch $@
