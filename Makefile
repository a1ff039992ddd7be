# Two commands: `make demo` and `make test`. They need Python 3.11 or newer, and nothing installed.

VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALL := $(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PLUGINS := $(wildcard plugins/*/pyproject.toml)
DECLARED := pyproject.toml constraints.txt
# the interpreter to make .venv with; `make demo FROM=/path/to/python3.12` takes another
FROM ?= python3.11 python3.12 python3.13 python3.14 python3
SEED ?= 0

.PHONY: demo test lint docs results clean

demo: $(VENV)/base.stamp
	@$(VENV)/bin/fdllm demo --seed $(SEED)

test: $(VENV)/test.stamp
	$(PYTHON) -m pytest

lint: $(VENV)/lint.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/base.stamp
	$(PYTHON) -m fdllm.cli.config_docs > docs/config.md
	$(PYTHON) -m fdllm.cli.task_docs > docs/tasks.md

# the page of results and its plots, from what `fdllm bench` measured
results: $(VENV)/test.stamp
	$(PYTHON) -m fdllm.grids.results docs/benchmarks/grids docs/results.md

clean:
	rm -rf $(VENV) build dist *.egg-info plugins/*/*.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache

# a stamp is newer than what it installed, so a second call installs nothing
$(VENV)/made.stamp:
	@for python in $(FROM); do \
	  if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$python"; $$python -m venv $(VENV) && touch $@ && exit 0; exit 1; \
	  fi; \
	done; echo "no Python 3.11 or newer with venv among: $(FROM); install one, or give make FROM=/path/to/python3" >&2; exit 1

$(VENV)/base.stamp: $(DECLARED) | $(VENV)/made.stamp
	@echo "installing fdllm and what it needs (the first time takes minutes)"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/test.stamp: $(DECLARED) $(PLUGINS) | $(VENV)/made.stamp
	@echo "installing fdllm, what its tests need, and every package under plugins/"
	@$(INSTALL) --editable '.[test]' $(patsubst %/pyproject.toml,--editable ./%,$(PLUGINS))
	@touch $@ $(VENV)/base.stamp

$(VENV)/lint.stamp: $(DECLARED) | $(VENV)/made.stamp
	@echo "installing fdllm, its linters, and the test packages whose types they check against"
	@$(INSTALL) --editable '.[lint,test]'
	@touch $@ $(VENV)/base.stamp
