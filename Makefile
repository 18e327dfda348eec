# Two commands do everything on a fresh machine that has Python 3.11+, pip and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
# Two workers, for two cores and for tests that wait; one that has no more to do takes from the other.
PYTEST = $(BIN)/python -m pytest -n 2 --dist worksteal
# What is compiled is kept: otherwise each of the suite's many processes compiles torch anew, which takes seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: env demo test check format lock clean
.DEFAULT_GOAL := env

env: $(READY)

# The environment is the pinned file and nothing else; the project itself is installed editable, without looking anything up.
$(READY): requirements/uv.txt requirements/env.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "bassline needs Python 3.11 or later; this is " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/env.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: env
	$(BIN)/bassline demo $(ARGS)

test: env
	$(PYTEST) $(ARGS)

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) $(ARGS)

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Resolves the pins again, for every Python from 3.11 up; run it after changing pyproject.toml.
lock: env
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --extra dev \
		--custom-compile-command "make lock" --output-file requirements/env.txt pyproject.toml requirements/uv.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
