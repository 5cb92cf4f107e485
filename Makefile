# Every target sets up what it needs in .venv; a second run finds it there and starts at once.
# Other Python: make test PYTHON=python3.12

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO ?= nnunet_transfer_demo
WORKERS ?= 2
# make coverage COVERED="tests/test_files.py --cov-fail-under=0": some tests alone
COVERED ?=
# the networks of demo and tests are tiny: thread pools cost more than they give
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help demo test test-fast coverage lint format docs bench clean

help:
	@echo "make demo       run the whole study on small synthetic data (offline, no GPU)"
	@echo "make test       run all tests"
	@echo "make test-fast  run the tests that are not marked slow"
	@echo "make lint       check style, format and types"
	@echo "make docs       build the documentation site into build/site"
	@echo "make coverage   run all tests and measure which lines they run"
	@echo "make format     put the code into the project's format"
	@echo "make bench      measure epochs, the loading of a source, scoring and conversion against their limits"
	@echo "make clean      remove the environment and what was built; results stay"

demo: $(STAMP)
	$(BIN)/nnunet_transfer demo --output $(DEMO) --resume

test: $(STAMP)
	$(PYTEST) --costly 30

test-fast: $(STAMP)
	$(PYTEST) -m "not slow"

coverage: $(STAMP)
	$(PYTEST) --cov --cov-report=term:skip-covered $(COVERED)

docs: $(STAMP)
	$(BIN)/mkdocs build --quiet
	@echo "open build/site/index.html"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy nnunet_transfer
	$(BIN)/codespell

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	for script in benchmarks/bench_*.py; do $(BIN)/python -m benchmarks.$$(basename $$script .py) || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage* .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip resolves torch and torchvision in one go, so that both come from the same index
$(STAMP): setup.py pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11 to 3.13 found; install one and run: make PYTHON=/path/to/it" >&2; exit 1; }
	@$(PYTHON) -c '$(SUPPORTED)' || { echo "$(PYTHON) is not Python 3.11 to 3.13; run: make PYTHON=/path/to/one" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 \
		|| $(PYTHON) -m virtualenv --quiet --clear $(VENV) 2>/dev/null \
		|| { rm -rf $(VENV); echo "$(PYTHON) can't make an environment; run: sudo apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV); torch is large, so this takes some minutes the first time"
	$(BIN)/python -m pip install --quiet --editable ".[test,lint]"
	@touch $@
