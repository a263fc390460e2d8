# `make demo` and `make test` create the virtual environment that they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# More processes than cores, because most tests wait.
PYTEST := .ci/docker-setup exec $(BIN)/python -m pytest -n 5 --dist worksteal --durations 10

.PHONY: compiled demo test test-more test-aws check docker docker-stop bench bench-imports scale large faults clean help

help:
	@echo "make demo   run the Monte Carlo example on the embedded cloud"
	@echo "make test   run the checks, the unit and integration tests, and ten tests on Docker where there is an engine"
	@echo "make test-more  run all other tests: faults, properties with fresh seeds, everything on Docker, large sizes"
	@echo "make test-aws   check cloudknot on your AWS account (asks first, costs under a dollar); OPTIONS='--region ...'"
	@echo "make bench  measure cloudknot beside its rivals, and write the tables and figures of docs/benchmarks.md;"
	@echo "            BENCH=--quick takes ten minutes"
	@echo "make bench-imports  measure imports, maps and a second Knot"
	@echo "make scale  count requests, bytes and memory of maps of SIZES='1 1000 100000 1000000' elements"
	@echo "make large  count bytes and memory of large elements and objects, and of going through a million results"
	@echo "make faults run maps under faults, and count faults injected, results checked and lost"
	@echo "make docker start a Docker engine and a registry, and print the commands that use them (Debian, root)"
	@echo "make docker-stop  stop them, and remove the engine's network rules"
	@echo "make clean  remove the virtual environment"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cloudknot needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || \
	  { echo "This Python cannot make virtual environments: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[local]"
	@touch $@

$(VENV)/.test: $(BIN)/python setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	@touch $@

$(VENV)/.examples: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test,examples]"
	@touch $@

# Each of the five processes of `make test`, and each server and job that they start, would compile all modules for
# itself, for ever where PYTHONDONTWRITEBYTECODE is set. Pytest compiles test modules in a way of its own.
$(VENV)/.compiled: $(VENV)/.test
	@$(BIN)/python -m compileall -q cloudknot
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -q --collect-only tests >$(VENV)/compiled.log 2>&1 || \
	  { tail -20 $(VENV)/compiled.log; exit 1; }
	@touch $@

compiled: $(VENV)/.compiled

demo: $(VENV)/.demo
	CLOUDKNOT_CLOUD=local CLOUDKNOT_PROGRESS=1 $(BIN)/python examples/monte_carlo_pi/monte_carlo_pi.py
	@echo "The embedded cloud keeps running. It stops after a day without use, or with: $(BIN)/cloudknot local stop"

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check compiled
	$(PYTEST) -m "not more"

test-more: $(VENV)/.examples
	$(PYTEST) -m "more or properties" --hypothesis-profile more

test-aws: $(VENV)/.demo
	$(BIN)/cloudknot selftest --cloud aws $(OPTIONS)

docker:
	@.ci/docker-setup start

docker-stop:
	.ci/docker-setup stop

bench: $(VENV)/.examples
	$(BIN)/python -m tests.benchmarks.rivals --output docs/figures --page docs/benchmarks.md $(BENCH)
	$(BIN)/python -m tests.benchmarks.cloud.object_store --size 512 --page docs/benchmarks.md

bench-imports: $(VENV)/.test
	$(BIN)/python -m tests.benchmarks

scale: $(VENV)/.test
	$(BIN)/python -m tests.benchmarks.scale $(SIZES) $(SCALE)

large: $(VENV)/.test
	$(BIN)/python -m tests.benchmarks.consume 1000000 --chunksize 100000
	$(BIN)/python -m tests.benchmarks.large elements
	$(BIN)/python -m tests.benchmarks.large kwargs --bytes 500000000
	$(BIN)/python -m tests.benchmarks.large closure --bytes 500000000

faults: $(VENV)/.test
	$(BIN)/python -m tests.benchmarks.faults

clean:
	rm -rf $(VENV)
