# `make run` shows Moongate at work, `make test` proves it. Both set up all they need in this directory.

PYTHON_BIN := .venv/bin/python
# Two processes: half of the tests wait for something most of the time.
PYTEST = $(PYTHON_BIN) -m pytest --timeout 60 -n 2 --dist loadfile
# What is compiled is what is shipped, so it is what is tested and measured. Without a C compiler the sources are.
COMPILED = $(CURDIR)/.build/compiled
CODE = $(wildcard src tests fuzz bench scripts examples conftest.py)
PORT ?= 8000
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-sources compiled conformance requirements bench fuzz lint format clean setup-run setup-test setup-bench

help: ## this list
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf '  %-13s %s\n' "$$name" "$$text"; done
	@echo "PYTHON=/path/to/python3 picks another interpreter (3.11 or newer)."

run: setup-run ## the gateway in front of an example server, ready to be called (PORT=8000)
	@exec $(PYTHON_BIN) scripts/run_example.py --port $(PORT)

test: lint compiled ## all checks and tests but the long ones; pytest's summary comes last
	@PYTHONPATH=$(COMPILED) $(PYTEST) -m "not long" $(ARGS)

test-all: lint compiled ## all checks and all tests
	@PYTHONPATH=$(COMPILED) $(PYTEST) $(ARGS)

test-sources: lint ## as test, on the sources as they stand, nothing compiled
	@$(PYTEST) -m "not long" $(ARGS)

compiled: setup-test ## the package with its hot path compiled, in .build/compiled
	@$(PYTHON_BIN) scripts/compiled.py $(COMPILED) || [ $$? = 3 ]

conformance: setup-test compiled ## the official MCP conformance suite, direct and through the gateway
	@PYTHONPATH=$(COMPILED) $(PYTHON_BIN) -m tests.conformance $(ARGS)

requirements: setup-test ## which acceptance lines have a test, and which have none yet
	@$(PYTHON_BIN) -m tests.requirements

bench: setup-bench compiled ## side by side: direct, nginx, Moongate
	@PYTHONPATH=$(COMPILED) $(PYTHON_BIN) -m bench $(ARGS)

fuzz: setup-test ## hostile bytes against the HTTP layer, for minutes
	@$(PYTHON_BIN) -m fuzz $(ARGS)

lint: setup-test ## ruff and mypy
	@$(PYTHON_BIN) -m ruff check $(CODE)
	@$(PYTHON_BIN) -m ruff format --check $(CODE)
	@$(PYTHON_BIN) -m mypy $(CODE)

format: setup-test ## let ruff format and mend what it can
	@$(PYTHON_BIN) -m ruff check --fix $(CODE)
	@$(PYTHON_BIN) -m ruff format $(CODE)

clean: ## remove everything that the other targets made
	rm -rf .venv .venv-sdk1 tests/node/node_modules tests/browser/node_modules bench/node/node_modules .venv-servers .venv-bench .build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup-run:
	@scripts/bootstrap.sh run

setup-test:
	@scripts/bootstrap.sh test

setup-bench:
	@scripts/bootstrap.sh bench
