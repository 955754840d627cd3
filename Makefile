# `make` lists what can be made. Everything runs in .venv, which is made where it is missing or out of date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
PORT ?= 9000

.DEFAULT_GOAL := help
.PHONY: help quickstart s3 test slow lint benchmark clean
.DELETE_ON_ERROR:

help:  ## list these targets
	@sed -n 's/^\([a-z0-9]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "make %-12s%s\n", $$1, $$2 }'

quickstart: $(VENV)/quickstart.stamp  ## evaluate a model on photographs, train a student on digits; DATA=folder: evaluate on your own
	$(BIN)/python -m jobs.quickstart $(if $(DATA),--data '$(DATA)')

s3: $(VENV)/s3.stamp s3/env  ## an S3 server on loopback to try things out; keys in s3/env; PORT=9000
	@mkdir -p s3/data/menagerie
	@umask 077 && sed 's|//127.0.0.1:.*|//127.0.0.1:$(PORT)|' s3/env > s3/env.new && mv s3/env.new s3/env
	@printf '%s\n' 'in another shell: source s3/env' 'the bucket:       s3://menagerie' 'the end:          Ctrl-C'
	@. s3/env && export RCLONE_AUTH_KEY="\"$$AWS_ACCESS_KEY_ID,$$AWS_SECRET_ACCESS_KEY\"" && \
	exec $(BIN)/rclone serve s3 --addr 127.0.0.1:$(PORT) --config s3/rclone.conf --cache-dir s3/cache s3/data

# Made once, so that what was written with the keys can be read again; only its owner may read it.
s3/env: | $(VENV)/s3.stamp
	@mkdir -p s3
	@umask 077 && $(BIN)/python -c 'import secrets; print( \
	"export AWS_ACCESS_KEY_ID=" + secrets.token_hex(10), "export AWS_SECRET_ACCESS_KEY=" + secrets.token_hex(20), \
	"export AWS_DEFAULT_REGION=us-east-1", "export AWS_ENDPOINT_URL=http://127.0.0.1:$(PORT)", sep="\n")' > $@

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

clean:  ## remove .venv, caches, the quickstart's output, and the S3 server with its data
	rm -rf $(VENV) quickstart s3 *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp's name is the extras that were installed: quickstart, or what developing needs.
$(VENV)/%.stamp: pyproject.toml constraints.txt
	@echo 'installing [$*] into $(VENV): a few minutes on a new machine'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[$*]'
	@touch $@
