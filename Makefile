# Each target sets up all it needs: `make demo` and `make test` run on a fresh machine with Python, make and the index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= nnunet_transfer_demo

.PHONY: demo test test-fast lint bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(BIN)/nnunet_transfer demo --out $(DEMO) --resume

test: $(VENV)/installed
	$(BIN)/python -m pytest

test-fast: $(VENV)/installed
	$(BIN)/python -m pytest -m "not slow"

# type checkers don't see where setup.py maps trainers/ and dataset_conversion/: check a copy laid out as installed
lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/typed && mkdir -p build/typed
	cp -r nnunet_transfer build/typed/nnunet_transfer
	cp -r trainers dataset_conversion build/typed/nnunet_transfer/
	cd build/typed && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p nnunet_transfer

bench: $(VENV)/installed
	for script in benchmarks/bench_*.py; do $(BIN)/python -m benchmarks.$$(basename $$script .py) || exit 1; done

# torch and torchvision are resolved together by the installer: builds that don't match fail to import
$(VENV)/installed: setup.py pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.10 to 3.13 is needed; call make PYTHON=python3.12 or the like" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); $(PYTHON) -m virtualenv $(VENV); } || \
		{ rm -rf $(VENV); echo "no venv module: apt-get install python3-venv (or pip install virtualenv)" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis $(DEMO)
