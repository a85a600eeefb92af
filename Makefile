# Each target makes a virtual environment of its kind if there is none, and installs again only when pyproject.toml or
# constraints.txt has changed. pip's own settings (PIP_INDEX_URL and the like) apply. PYTHON=... names another interpreter.

VENV := .venv
BIN := $(VENV)/bin
PYENV := $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
PYTEST := -m pytest -q -n 2 --dist worksteal

.PHONY: help demo test test-newest test-oldest test-arviz test-skpro test-recipes test-autogluon lint bench docs
.NOTPARALLEL:

help:
	@echo "make demo   train all methods on the paper's toy regression and on a real table"
	@echo "make test   run the tests, and every example in the documentation"
	@echo "make test-newest  run them with the newest release of everything, on the newest Python that is supported"
	@echo "make test-oldest  run them with the lowest versions that pyproject.toml allows"
	@echo "make test-arviz  run the tests of what goes to ArviZ with arviz 1.x, on Python 3.12 or later and without torch"
	@echo "make test-skpro  run skpro's own checks of the regressor for skpro, and the tutorials on forecasting with sktime"
	@echo "make test-recipes  run the page on netcal and Dask"
	@echo "make test-autogluon  run the tests of the model for AutoGluon and TabArena"
	@echo "make lint   check style and types"
	@echo "make docs   build the documentation into build/docs"
	@echo "make bench  time a training step beside plain PyTorch and NumPyro, and whole fits beside boosted trees"

# $(call make_venv,FOLDER,lowest Python,interpreters): unless it is there, made with the first of them that has venv and pip.
define make_venv
@$(1)/bin/python -m pip --version >/dev/null 2>&1 || { \
    found=; \
    for python in $(PYTHON) $(3); do \
        if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < tuple(map(int, "$(2)".split("."))))' \
            >/dev/null 2>&1; then found=$$python; break; fi; \
    done; \
    if [ -z "$$found" ]; then \
        echo "No Python $(2) or later (with venv and pip) was found. Try installing one, or make $(MAKECMDGOALS) PYTHON=/path/to/python3." >&2; \
        exit 1; \
    fi; \
    echo "making a virtual environment in $(1) with $$found"; \
    $$found -m venv --clear $(1); \
}
@echo "installing into $(1): some minutes the first time"
endef

demo: $(VENV)/.with-demo
	$(BIN)/probmix run toy-regression --seeds 10
	$(BIN)/probmix run table --dataset diabetes --seeds 10 --epochs 100

test: $(VENV)/.with-test
	$(BIN)/python $(PYTEST)

lint: $(VENV)/.with-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy conftest.py pyro_probmix tests

bench: $(VENV)/.with-bench
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/fits.py $(if $(OTHER),--other $(OTHER))

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
	$(call make_venv,$(VENV),3.11,python3.11 python3 python3.12 python3.13)
	@$(BIN)/python $(PIP_INSTALL) -e '.$(EXTRAS_$*)' -c constraints.txt
	@touch $@

# What is newest changes from day to day: pip looks each time.
NEWEST := .venv-newest

test-newest:
	$(call make_venv,$(NEWEST),3.13,python3.13 $(wildcard $(PYENV)/3.13.*/bin/python3))
	@$(NEWEST)/bin/python $(PIP_INSTALL) --upgrade --upgrade-strategy eager -e '.[test]'
	$(NEWEST)/bin/python $(PYTEST)

OLDEST := .venv-oldest

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python $(PYTEST)

$(OLDEST)/.installed: pyproject.toml .ci/lowest.py
	$(call make_venv,$(OLDEST),3.11,python3.11 $(wildcard $(PYENV)/3.11.*/bin/python3) python3 python3.12 python3.13)
	@$(OLDEST)/bin/python .ci/lowest.py pyproject.toml test > $(OLDEST)/constraints.txt
	@$(OLDEST)/bin/python $(PIP_INSTALL) -e '.[test]' -c $(OLDEST)/constraints.txt
	@touch $@

# Python 3.11 has arviz 0.x; the other line is tested on a later Python, in an environment of its own with no more than this.
ARVIZ := .venv-arviz

test-arviz: $(ARVIZ)/.installed
	$(ARVIZ)/bin/python -m pytest -q --confcutdir=tests/calibration/arviz tests/calibration/arviz

$(ARVIZ)/.installed: pyproject.toml constraints.txt
	$(call make_venv,$(ARVIZ),3.12,python3.12 python3.13 python3 $(wildcard $(PYENV)/3.1[2-9].*/bin/python3))
	@$(ARVIZ)/bin/python $(PIP_INSTALL) -c constraints.txt 'arviz>=1' h5netcdf h5py matplotlib pytest pytest-timeout typeguard
	@touch $@

# skpro's newest release asks for an older pandas than the other tests have.
SKPRO := .venv-skpro

test-skpro: $(SKPRO)/.installed
	$(SKPRO)/bin/python -m pytest -q tests/skpro pyro_probmix/skpro docs/tutorials/forecasting.md docs/tutorials/panel.md

$(SKPRO)/.installed: pyproject.toml constraints.txt
	$(call make_venv,$(SKPRO),3.11,python3.11 python3.12 $(wildcard $(PYENV)/3.1[12].*/bin/python3))
	@grep -v '^pandas==' constraints.txt > $(SKPRO)/constraints.txt
	@$(SKPRO)/bin/python $(PIP_INSTALL) -e '.[skpro]' pytest pytest-timeout hypothesis -c $(SKPRO)/constraints.txt
	@touch $@

# netcal brings tensorboard and gpytorch along.
RECIPES := .venv-recipes

test-recipes: $(RECIPES)/.installed
	$(RECIPES)/bin/python -m pytest -q docs/recipes_apart.md

$(RECIPES)/.installed: pyproject.toml constraints.txt
	$(call make_venv,$(RECIPES),3.11,python3.11 python3.12 $(wildcard $(PYENV)/3.1[12].*/bin/python3))
	@$(RECIPES)/bin/python $(PIP_INSTALL) -e '.[recipes]' pytest pytest-timeout -c constraints.txt
	@touch $@

# AutoGluon has upper bounds of its own on most of what it uses: of the versions of the other tests, torch's alone is kept.
AUTOGLUON := .venv-autogluon

test-autogluon: $(AUTOGLUON)/.installed
	$(AUTOGLUON)/bin/python -m pytest -q tests/benchmarks/test_tabarena.py

$(AUTOGLUON)/.installed: pyproject.toml constraints.txt
	$(call make_venv,$(AUTOGLUON),3.11,python3.11 python3.12 $(wildcard $(PYENV)/3.1[12].*/bin/python3))
	@grep '^torch==' constraints.txt > $(AUTOGLUON)/constraints.txt
	@$(AUTOGLUON)/bin/python $(PIP_INSTALL) -e '.[autogluon]' pytest pytest-timeout -c $(AUTOGLUON)/constraints.txt
	@touch $@
