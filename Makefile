# `make` lists the targets. Everything runs in .venv, which is created if missing and updated if out of date.

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

quickstart: $(VENV)/quickstart.stamp  ## evaluate a model on photographs, train a student on digits; DATA=folder: evaluate your own images
	$(BIN)/python -m jobs.quickstart $(if $(DATA),--data '$(DATA)')

s3: $(VENV)/s3.stamp s3/env  ## run an S3 server on loopback for trying things out; keys in s3/env; PORT=9000
	@mkdir -p s3/data/menagerie
	@umask 077 && sed 's|//127.0.0.1:.*|//127.0.0.1:$(PORT)|' s3/env > s3/env.new && mv s3/env.new s3/env
	@printf '%s\n' 'in another shell: source s3/env' 'the bucket:       s3://menagerie' 'to stop it:       Ctrl-C'
	@. s3/env && export RCLONE_AUTH_KEY="\"$$AWS_ACCESS_KEY_ID,$$AWS_SECRET_ACCESS_KEY\"" && \
	exec $(BIN)/rclone serve s3 --addr 127.0.0.1:$(PORT) --config s3/rclone.conf --cache-dir s3/cache s3/data

# Made once, so that data written with these keys can be read again; only the owner can read the file.
s3/env: | $(VENV)/s3.stamp
	@mkdir -p s3
	@umask 077 && $(BIN)/python -c 'import secrets; print( \
	"export AWS_ACCESS_KEY_ID=" + secrets.token_hex(10), "export AWS_SECRET_ACCESS_KEY=" + secrets.token_hex(20), \
	"export AWS_DEFAULT_REGION=us-east-1", "export AWS_ENDPOINT_URL=http://127.0.0.1:$(PORT)", sep="\n")' > $@

# MLflow proxies artefacts, so that its clients need no keys for the S3 server. One worker, since SQLite takes one writer.
# The secret key is new at each start, since it signs nothing but the form for new users. The source of a model version
# must be an artefact: otherwise any user could have MLflow read whatever its keys reach. The first two variables are for
# rclone, which sends the checksum of the whole object with a range of it.
tracking: $(VENV)/tracking.stamp tracking/env  ## run MLflow with a login and with artefacts in `make s3`; TRACKING_PORT=5000
	@[ -e s3/env ] && . s3/env && AWS_MAX_ATTEMPTS=2 $(BIN)/python -c \
	'import boto3; boto3.client("s3").head_bucket(Bucket="menagerie")' 2> /dev/null || \
	{ echo 'no S3 server accepts the keys in s3/env; in another shell: make s3' >&2; exit 2; }
	@umask 077 && sed 's|//127.0.0.1:.*|//127.0.0.1:$(TRACKING_PORT)|' tracking/env > tracking/env.new && \
	mv tracking/env.new tracking/env
	@printf '%s\n' 'in another shell: source tracking/env' 'a job takes:      --tracking-uri $$MLFLOW_TRACKING_URI' \
	'in a browser:     http://127.0.0.1:$(TRACKING_PORT), name and password as in tracking/env' 'to stop it:       Ctrl-C'
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

# Made once, like s3/env. MLflow reads the password only when it creates its users, so a new one needs a new auth.db.
tracking/env: | $(VENV)/tracking.stamp
	@mkdir -p tracking && rm -f tracking/auth.db
	@printf '%s\n' '[mlflow]' 'default_permission = READ' 'database_uri = sqlite:///tracking/auth.db' > tracking/auth.ini
	@umask 077 && $(BIN)/python -c 'import secrets; print( \
	"export MLFLOW_TRACKING_URI=http://127.0.0.1:$(TRACKING_PORT)", "export MLFLOW_TRACKING_USERNAME=admin", \
	"export MLFLOW_TRACKING_PASSWORD=" + secrets.token_hex(20), sep="\n")' > $@

test: $(VENV)/test,lint.stamp  ## run the tests, except the slow ones
	$(BIN)/pytest

slow: $(VENV)/test,lint.stamp  ## run the slow tests
	$(BIN)/pytest -m 'slow and not thorough'

thorough: $(VENV)/test,lint.stamp  ## run more variations of the slow tests, for about an hour
	$(BIN)/pytest -m thorough

lint: $(VENV)/test,lint.stamp  ## check format, style, types and the direction of imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

benchmark: $(VENV)/test,lint.stamp  ## measure throughput; nothing fails for being slow
	$(BIN)/pytest -m benchmark_run

clean:  ## remove .venv, caches, the quickstart's output, and the data of the S3 server and MLflow
	rm -rf $(VENV) quickstart s3 tracking *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is named after the extras that were installed: quickstart, or those for development.
$(VENV)/%.stamp: pyproject.toml constraints.txt
	@echo 'installing [$*] into $(VENV): a few minutes on a new machine'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[$*]'
	@touch $@
