# Needs git, make and a Python >= 3.11 that can create virtual environments.
#   make demo      install into .venv, build a tiny model and train the first example on it
#   make install   install into .venv only
#   make test      run the tests          make quality   check style and types
#   make style     mend the style         make bench     measure the start-up cost
#   make clean     remove what building and testing leave behind; .venv stays
# PYTHON=/path/to/python chooses the interpreter, VENV=folder the environment, PYTEST_ARGS=... adds to make test.

VENV ?= .venv
BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
PYTEST_ARGS ?=

CONSTRAINTS := requirements/constraints.txt
PACKAGING := setup.py pyproject.toml llamafactory_mmself_autoload.pth llamafactory_mmself/__init__.py $(CONSTRAINTS)

DEMO_MODEL := models/tiny-qwen2-vl
DEMO_CONFIG := examples/mdpo/orm_tiny.yaml

# llamafactory-cli starts torchrun by name.
export PATH := $(BIN):$(PATH)
unexport PYTHONPATH PYTHONHOME

.PHONY: demo install test style quality bench clean
.DEFAULT_GOAL := demo

demo: $(DEMO_MODEL)/config.json
	$(BIN)/llamafactory-cli train $(DEMO_CONFIG)

$(DEMO_MODEL)/config.json: | $(VENV)/.installed
	$(BIN)/mmself toy model --family qwen2_vl --out $(DEMO_MODEL)

install: $(VENV)/.installed

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

style: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

quality: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/startup.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find llamafactory_mmself tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are newer than the packaging files they were made from. The dev extra contains the plain install. DeepSpeed
# builds itself with the torch that is there; tests use it on the CPU.
$(VENV)/.installed: $(PACKAGING) | $(VENV)/pyvenv.cfg
	@echo "Installing llamafactory-mmself into $(VENV); the first time this takes some minutes and several GB."
	$(PIP) install --upgrade pip
	$(PIP) install --constraint $(CONSTRAINTS) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --constraint $(CONSTRAINTS) --editable '.[dev]'
	DS_BUILD_OPS=0 $(PIP) install --constraint $(CONSTRAINTS) --no-build-isolation deepspeed
	@touch $@

# Every python on PATH under these names is run before it is trusted: version managers put names there that fail. The
# constraints were tested with Python 3.11, so it comes first.
NAMES := python3.11 python3.12 python3.13 python3
CANDIDATES = $(or $(PYTHON),$(foreach name,$(NAMES),$(patsubst %,'%/$(name)',$(subst :, ,$(PATH)))))

$(VENV)/pyvenv.cfg:
	@for python in $(CANDIDATES); do \
	    if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        echo "Creating $(VENV) with $$python"; \
	        "$$python" -m venv "$(VENV)" && exit 0; \
	        rm -rf "$(VENV)"; \
	    fi; \
	done; \
	echo "No Python >= 3.11 with the venv module was found. Install one (Debian, Ubuntu: apt-get install python3-venv)" >&2; \
	echo "or name one: make PYTHON=/path/to/python" >&2; \
	exit 1
