# Every target installs what it needs; only Python 3.11+, gcc, g++, CMake and make have to be there.
PYTHON     ?= python3
ENGINES    ?=
MODEL      ?=
# A model with a preset of its own name takes that one.
COMPARISON ?= $(or $(and $(MODEL),$(wildcard harness/presets/$(MODEL).toml)),harness/presets/default.toml)
RESULTS    ?=
BIN        := .venv/bin

# 3.11.0, not 3.11: a release that needs 3.11.5 does not install on Debian 12, whose Python is 3.11.2.
UV_COMPILE := .venv/uv/bin/uv pip compile --quiet --python-version 3.11.0 --python-platform linux --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make lock' \
	$(if $(UPGRADE),$(if $(filter 1,$(UPGRADE)),--upgrade,--upgrade-package $(UPGRADE)))

.DEFAULT_GOAL := help
.PHONY: help compare images test test-quick check test-pure bench bench-peers report notebooks lint lock clean

help: ## this list
	@echo "make compare [COMPARISON=file.toml] [ENGINES=a,b] [MODEL=id-or-path] [RESULTS=dir]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

compare: .venv/core ## measure the engines and compare them
	$(BIN)/harness compare $(COMPARISON) $(if $(ENGINES),--engines $(ENGINES)) $(if $(MODEL),--model $(MODEL)) $(if $(RESULTS),--results $(RESULTS))

images: .venv/core ## build container images of engines that install natively, for machines without an image registry
	$(BIN)/python compose/build.py $(ENGINES)

test: .venv/dev ## run all tests that can run here; others are skipped with a reason (TESTS="live or slow": with these marks)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -rs $(if $(TESTS),-m "$(TESTS)" --durations=25)

check: .venv/dev ## lint, types and the tests that start no process and open no socket; takes three minutes
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint test-pure

test-pure: .venv/dev
	$(BIN)/pytest -m "not live and not slow"

test-quick: .venv/dev ## run the tests that start no engine; takes a few minutes
	$(BIN)/pytest -rs -m "not slow"

bench: .venv/dev ## compare the driver's speed here with its targets; takes a quarter of an hour on an idle machine
	$(BIN)/pytest tests/bench --benchmark-enable --benchmark-columns=median,iqr,rounds --benchmark-sort=name
	$(BIN)/python -m tests.bench.targets $(if $(SAVE),--save)

bench-peers: .venv/dev ## compare this driver, vllm bench serve, AIPerf and GuideLLM with the null server's log, at the same load
	$(BIN)/python -m tests.bench.peers --out results/peers-$$(date +%Y%m%d-%H%M%S)

report: .venv/core ## redraw charts, table and page of RESULTS=dir (default: the latest)
	$(BIN)/harness report $(or $(RESULTS),results/latest)

notebooks: .venv/dev ## run the notebooks on RESULTS=dir (default: the committed sample) and export them to HTML
	$(BIN)/python notebooks/export.py $(RESULTS)

lint: .venv/dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

lock: ## pin requirements/*.txt for Python 3.11.0; UPGRADE=1 takes the newest releases, UPGRADE=name that of one package
	test -x .venv/uv/bin/uv || $(PYTHON) -m venv .venv/uv
	.venv/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(UV_COMPILE) pyproject.toml - --output-file requirements/core.txt
	$(UV_COMPILE) pyproject.toml --extra dev --extra notebooks --extra ray --extra triton \
		--constraints requirements/core.txt --output-file requirements/dev.txt

clean: ## remove the project's environment and caches; results and engine environments stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The marks are written last, so that an interrupted installation is repeated.
.venv/core: requirements/core.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one with PYTHON=" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the harness into .venv (about a minute)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/core.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

.venv/dev: .venv/core requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	touch $@
