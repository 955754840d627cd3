# `make` lists what can be made. Everything runs in .venv, which is made where it is missing or out of date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=

.DEFAULT_GOAL := help
.PHONY: help quickstart test slow lint benchmark clean
.DELETE_ON_ERROR:

help:  ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "make %-12s%s\n", $$1, $$2 }'

quickstart: $(VENV)/quickstart.stamp  ## evaluate a small model on a few photographs; DATA=folder: on your own
	$(BIN)/python -m jobs.quickstart $(if $(DATA),--data '$(DATA)')

test: $(VENV)/test,lint.stamp  ## run the tests
	$(BIN)/pytest

slow: $(VENV)/test,lint.stamp  ## run the slow tests, which `make test` leaves out
	$(BIN)/pytest -m slow

lint: $(VENV)/test,lint.stamp  ## check format, style, types and the direction of imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

benchmark: $(VENV)/test,lint.stamp  ## measure throughput; asserts no times
	$(BIN)/pytest -m benchmark_run

clean:  ## remove .venv, caches and the quickstart's output
	rm -rf $(VENV) quickstart *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp's name is the extras that were installed: quickstart, or what developing needs.
$(VENV)/%.stamp: pyproject.toml constraints.txt
	@echo 'installing [$*] into $(VENV): a few minutes on a new machine'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[$*]'
	@touch $@
