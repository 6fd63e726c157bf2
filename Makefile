# Two commands do all set-up:  make run  (main job)  and  make test  (lint, types, tests).
#
# make run                  embedded synthetic logs, 4096 episodes
# make run LOGS=folder      logs of your own (MAPS=folder with maps they refer to), 4096 episodes
# make test
# PYTHON=python3.12 before the first of them takes another interpreter than python3.

PYTHON ?= python3
VENV ?= .venv
LOGS ?=
MAPS ?=
STORE ?= $(if $(LOGS),stores/logs,stores/synthetic)
EPISODES ?= 4096
# Test processes: each compiles programs of its own, so more of them need more memory (about 3 GiB each).
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test lint clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n 1,6p

run: $(VENV)/.installed
ifeq ($(LOGS),)
	$(BIN)/perlsim generate -n 96 --seed 0 -o "$(STORE)"
	$(BIN)/perlsim info "$(STORE)"
	$(BIN)/perlsim rollout --store "$(STORE)" --vmap $(EPISODES)
else
	@# Some logs refused (exit code 1) does not keep the others from being rolled out, but is not success.
	$(BIN)/perlsim import "$(LOGS)" $(if $(MAPS),--maps "$(MAPS)") -o "$(STORE)"; code=$$?; \
	[ $$code -le 1 ] || exit $$code; \
	$(BIN)/perlsim info "$(STORE)" && \
	$(BIN)/perlsim rollout --store "$(STORE)" --vmap $(EPISODES) && exit $$code
endif

test: lint
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf "$(VENV)"

# Stamps are made last, so that an interrupted installation is done again. Both installations are editable: only
# a change of the dependencies calls for a new one.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.created
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/.created
	$(PIP) -e ".[dev]"
	@touch $@ $(VENV)/.installed

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "perlsim needs Python 3.11 or newer, and $(PYTHON) is not; name one: make PYTHON=python3.12 …" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { \
	  echo "$(PYTHON) lacks the module venv or ensurepip. On Debian and Ubuntu: apt install python3-venv." >&2; \
	  echo "Or name another Python: make PYTHON=/path/to/python3.12 …" >&2; \
	  exit 1; }
	$(PYTHON) -m venv "$(VENV)"
	@touch $@
