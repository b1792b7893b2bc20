# The two commands of the README, and what CI runs. Everything else is `autoresearch --help`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO ?= demo

.PHONY: demo test agents lint clean

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[pretrain,mcp,api,dev]'
	touch $@

demo: $(VENV)/ready ## prepare data, make a lab for this machine, run a campaign, print where the report is
	PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/demo.sh $(DEMO)

test: $(VENV)/ready ## the whole suite, the slow part included
	$(BIN)/python -m pytest -n 2 -q

agents: ## Claude Code and Codex for tests/cli/test_real_agents.py, in a folder of their own
	sh scripts/install_agents.sh claude codex

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(DEMO) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
