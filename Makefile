# make demo    set everything up and run the main job
# make test    set everything up and pass the tests
# make lint    formatting, lint rules, types, import directions
# make bench   step time against the plain reference loop
# make image   the container image

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench image clean

demo: $(READY)
	$(BIN)/steerzo demo

test: $(READY)
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -q -n auto --dist loadfile

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks.step_time

image:
	docker build --tag steerzo-edge .

clean:
	rm -rf $(VENV) demo-data build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
