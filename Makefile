# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
DEMO   := build/demo
SERVICES := build/services

.PHONY: setup demo test unit check bench docs services clean

setup: $(VENV)/.test

$(VENV)/.base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e '.[examples]'
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(PIP) install -c constraints.txt -e '.[test,check,docs]'
	touch $@

demo: $(VENV)/.base  ## the main job on real data, from nothing
	$(BIN)/python examples/demo.py $(DEMO)

test: $(VENV)/.test  ## the whole suite, a file at a time on each of two workers
	$(BIN)/python -m pytest -n 2 --dist loadfile

unit: $(VENV)/.test  ## the everyday loop
	$(BIN)/python -m pytest -x -q tests/unit

check: $(VENV)/.test  ## format, lint, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_architecture.py

docs: $(VENV)/.test  ## the documentation, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q

bench: $(VENV)/.test  ## every benchmark, one JSON line each
	for file in benchmarks/*.py benchmarks/claims/*.py; do $(BIN)/python $$file || exit 1; done

services: $(SERVICES)/dvc/.installed $(SERVICES)/label-studio/.installed  ## servers and the browser that the tests need, where absent (apt, as root)
	@test -n "$$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null)" && command -v mariadbd >/dev/null && command -v chromium >/dev/null && command -v promtool >/dev/null && command -v prometheus-alertmanager >/dev/null || \
	  (apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql mariadb-server chromium prometheus prometheus-alertmanager)

# programs that ask for other versions of libraries than the tests: each in an environment of its own
$(SERVICES)/%/.installed: tests/services/%.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check -q install --no-compile --no-deps -r $<
	touch $@

clean:
	rm -rf build site .mypy_cache .pytest_cache .ruff_cache
