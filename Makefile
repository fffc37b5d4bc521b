# Three commands do everything on a machine with Python 3.11+ and make:
#   make demo      a trained model and real images -> a parity-checked INT8 bundle with an engine, no GPU needed
#   make test      every check, then the tests, with the same verdict every time
#   make test-all  the slow tests too, and property tests that search at random

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
BUILD  ?= build
STAMP   = $(VENV)/.installed
EXTRAS  = export,dev,openvino,tensorrt-rtx

export OMP_NUM_THREADS ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# What the C++ tests need, by Debian's package names.
CPP_PACKAGES = g++ cmake ninja-build libssl-dev nlohmann-json3-dev libstb-dev clang

# What the tests of HTML reports look at them with.
PAGE_PACKAGES = chromium fonts-dejavu-core

.PHONY: demo test test-all docs check system format install clean help
.DEFAULT_GOAL := help

help:
	@echo "make demo     run the main job: digits checkpoint -> INT8 bundle in $(BUILD)/linglo_digits"
	@echo "make test     lint, types, import contract, then the tests with coverage; the same verdict every time"
	@echo "make test-all the same with the slow tests, and property tests that search at random"
	@echo "make docs     build the documentation site: build/site/index.html"
	@echo "make format   format the code"
	@echo "make clean    remove what the targets made"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $$($(PYTHON) --version 2>&1) found, Python 3.11 or later expected; next: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq python3-venv; \
	  else echo "error: Python's venv module is missing; next: install python3-venv"; exit 3; fi; }
	@echo "Installing into $(VENV) (torch, onnx, onnxruntime, tensorrt-rtx, ...; a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

# Root installs what is missing; anybody else is told by the tests that need it.
system:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  missing=$$(for package in $(CPP_PACKAGES) $(PAGE_PACKAGES); do \
	    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	  if [ -n "$$missing" ]; then \
	    echo "Installing" $$missing; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi; \
	  runtime=$$(clang -dumpversion 2>/dev/null | cut -d. -f1); \
	  if [ -n "$$runtime" ] && ! dpkg-query -W -f '$${Status}' libclang-rt-$$runtime-dev 2>/dev/null | grep -q 'ok installed'; then \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libclang-rt-$$runtime-dev >/dev/null || true; fi; \
	fi

demo: $(STAMP)
	@$(BIN)/python examples/digits/make_images.py --output $(BUILD)/digits
	@$(BIN)/linglos-deploy export \
	  --checkpoint examples/digits/linglo_digits.safetensors \
	  --data $(BUILD)/digits/train --eval $(BUILD)/digits/heldout --max-accuracy-drop 0.5 \
	  --int8 --engine auto --output $(BUILD) --force

check: $(STAMP)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/vermin --quiet --target=3.10- --no-tips linglos_deploy >/dev/null || $(BIN)/vermin --target=3.10- --violations --no-tips linglos_deploy
	@$(BIN)/lint-imports --no-logo >/dev/null || $(BIN)/lint-imports --no-logo

# A worker for every core, and a thread for every worker: more of them wait for each other.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup --cov --cov-report=term --cov-fail-under=90

test: check system
	@$(PYTEST) -m "not slow"

test-all: check system
	@$(PYTEST) --hypothesis-profile=search

docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html; with search: $(BIN)/python -m http.server -d build/site"

format: $(STAMP)
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

clean:
	rm -rf build $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage*
