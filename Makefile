# `make demo` and `make test` are all a fresh machine with Python 3.11 or newer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINES := $(abspath $(or $(LRM_ENGINES),.engines))

.PHONY: demo test test-engines lint format setup engines clean

demo: setup
	rm -rf demo
	$(BIN)/lrm demo --out demo

# Where there are engines, their tests run by themselves, one after the other: see test-engines.
test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal $(if $(wildcard $(ENGINES)/.installed),--ignore=tests/engines)

# Real clusters on this machine, after `make engines`: minutes.
test-engines: setup
	$(BIN)/python -m pytest tests/engines

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(VENV)/.installed

# Torch first and alone: resolved together with the rest, pip may choose a newer build than need be.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "torch>=2.10,<2.14"
	$(BIN)/python -m pip install --quiet -e ".[dev,export,ann,service]"
	touch $@

# Flink, Spark, Prism and what Beam needs beside them, for tests/engines: wants Java, Maven and Go, and a few minutes.
GO_BEAM := github.com/apache/beam/sdks/v2
GO_VERSION := v2.77.0
PYSPARK := pyspark==3.5.6
GCS_EMULATOR := github.com/fsouza/fake-gcs-server@v1.52.3

engines: setup $(ENGINES)/.installed $(ENGINES)/.google

$(ENGINES)/.installed: examples/engines/flink/pom.xml examples/engines/spark/pom.xml
	mkdir -p $(ENGINES)
	rm -rf $(ENGINES)/flink $(ENGINES)/spark
	for place in flink/gradle/wrapper spark; do \
		mvn -q -B -f examples/engines/$${place%%/*}/pom.xml dependency:copy-dependencies \
			-DincludeScope=runtime -DoutputDirectory=$(ENGINES)/$$place || exit 1; \
	done
	GOBIN=$(ENGINES)/bin go install $(GO_BEAM)/go/cmd/prism@$(GO_VERSION) $(GO_BEAM)/python/container@$(GO_VERSION)
	$(BIN)/python -m pip install --quiet --upgrade --target $(ENGINES)/python $(PYSPARK)
	touch $@

# An emulator of Google Cloud Storage, and the packages for Google Cloud that workers on Dataflow have.
$(ENGINES)/.google: pyproject.toml
	mkdir -p $(ENGINES)
	GOBIN=$(ENGINES)/bin go install $(GCS_EMULATOR)
	$(BIN)/python -m pip install --quiet -e ".[gcp]"
	touch $@

clean:
	rm -rf $(VENV) demo build dist *.egg-info
