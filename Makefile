# `make` lists what can be made. Everything runs in .venv, which is made where it is missing or out of date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
PORT ?= 9000
TRACKING_PORT ?= 5000

.DEFAULT_GOAL := help
.PHONY: help quickstart s3 tracking test slow thorough lint benchmark clean
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

# MLflow passes artefacts on, so that its clients need no keys of the S3 server. One worker, since SQLite takes one writer;
# a secret key made at each start, since all that it signs is the form for new users. A model's source may be an artefact
# alone: otherwise MLflow reads whatever its keys reach for all who may log in. The first two variables are for rclone,
# which sends the checksum of a whole object with a part of it.
tracking: $(VENV)/tracking.stamp tracking/env  ## MLflow with a login, artefacts on the server of `make s3`; TRACKING_PORT=5000
	@[ -e s3/env ] && . s3/env && AWS_MAX_ATTEMPTS=2 $(BIN)/python -c \
	'import boto3; boto3.client("s3").head_bucket(Bucket="menagerie")' 2> /dev/null || \
	{ echo 'no S3 server answers to the keys in s3/env; in another shell: make s3' >&2; exit 2; }
	@umask 077 && sed 's|//127.0.0.1:.*|//127.0.0.1:$(TRACKING_PORT)|' tracking/env > tracking/env.new && \
	mv tracking/env.new tracking/env
	@printf '%s\n' 'in another shell: source tracking/env' 'a job takes:      --tracking-uri $$MLFLOW_TRACKING_URI' \
	'in a browser:     http://127.0.0.1:$(TRACKING_PORT), name and password as in tracking/env' 'the end:          Ctrl-C'
	@umask 077 && . s3/env && . tracking/env && unset MLFLOW_TRACKING_URI && \
	export AWS_REQUEST_CHECKSUM_CALCULATION=when_required AWS_RESPONSE_CHECKSUM_VALIDATION=when_required \
	MLFLOW_AUTH_CONFIG_PATH=tracking/auth.ini MLFLOW_AUTH_ADMIN_USERNAME="$$MLFLOW_TRACKING_USERNAME" \
	MLFLOW_AUTH_ADMIN_PASSWORD="$$MLFLOW_TRACKING_PASSWORD" \
	MLFLOW_FLASK_SERVER_SECRET_KEY="$$($(BIN)/python -c 'import secrets; print(secrets.token_hex(32))')" \
	MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX='^mlflow-artifacts:/' \
	MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true && \
	exec $(BIN)/mlflow server --host 127.0.0.1 --port $(TRACKING_PORT) --workers 1 --app-name basic-auth \
	--allowed-hosts 127.0.0.1:$(TRACKING_PORT),localhost:$(TRACKING_PORT) \
	--backend-store-uri sqlite:///tracking/mlflow.db --artifacts-destination s3://menagerie/mlflow

# Made once, as s3/env is. MLflow asks for the password only when it makes its users: another password, other users.
tracking/env: | $(VENV)/tracking.stamp
	@mkdir -p tracking && rm -f tracking/auth.db
	@printf '%s\n' '[mlflow]' 'default_permission = READ' 'database_uri = sqlite:///tracking/auth.db' > tracking/auth.ini
	@umask 077 && $(BIN)/python -c 'import secrets; print( \
	"export MLFLOW_TRACKING_URI=http://127.0.0.1:$(TRACKING_PORT)", "export MLFLOW_TRACKING_USERNAME=admin", \
	"export MLFLOW_TRACKING_PASSWORD=" + secrets.token_hex(20), sep="\n")' > $@

test: $(VENV)/test,lint.stamp  ## run the tests
	$(BIN)/pytest

slow: $(VENV)/test,lint.stamp  ## run the slow tests, which `make test` leaves out
	$(BIN)/pytest -m 'slow and not thorough'

thorough: $(VENV)/test,lint.stamp  ## run further variations of the slow tests: an hour more
	$(BIN)/pytest -m thorough

lint: $(VENV)/test,lint.stamp  ## check format, style, types and the direction of imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

benchmark: $(VENV)/test,lint.stamp  ## measure throughput; asserts no times
	$(BIN)/pytest -m benchmark_run

clean:  ## remove .venv, caches, the quickstart's output, the S3 server and MLflow with their data
	rm -rf $(VENV) quickstart s3 tracking *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp's name is the extras that were installed: quickstart, or what developing needs.
$(VENV)/%.stamp: pyproject.toml constraints.txt
	@echo 'installing [$*] into $(VENV): a few minutes on a new machine'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[$*]'
	@touch $@
