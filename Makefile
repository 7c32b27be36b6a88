# Everything a stranger needs is `make demo` and `make test`; both set up what they need (scripts/setup).
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python

.PHONY: help setup demo test check bench lab lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing: Debian packages, then .venv from the lock file
	@scripts/setup

demo: setup ## run real work in a real microVM, from nothing
	@$(PYTHON) scripts/demo.py $(DEMO_ARGS)

test: ## run every test, real virtual machines included (TESTS=path or -k to choose)
	@scripts/setup test
	$(PYTHON) -m bhatti image build
	$(PYTHON) -m pytest $(TESTS)

check: setup ## ruff, mypy --strict, import layers, tests mirror src, docs/{api,cli,settings}.md are not stale
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/mypy --platform darwin src/lohar src/bhatti/guestlink
	.venv/bin/lint-imports --no-cache
	$(PYTHON) scripts/tests_mirror_src.py
	$(PYTHON) scripts/api_page.py --check
	$(PYTHON) scripts/cli_page.py --check
	$(PYTHON) scripts/settings_page.py --check

bench: setup ## measure; prints the tables of docs/performance.md (SECTIONS="wire boot" to choose)
	$(PYTHON) -m bench $(SECTIONS)

lab: setup ## test the KVM path in an emulated machine that has KVM (takes long; LAB_ARGS=tests to choose)
	$(PYTHON) -m scripts.lab $(LAB_ARGS)

lock: setup ## renew requirements/dev.txt from pyproject.toml
	.venv/bin/pip install --quiet uv
	.venv/bin/uv pip compile --quiet --python-version 3.11 --all-extras --group dev --generate-hashes \
	  --no-header --no-emit-index-url --no-annotate --upgrade pyproject.toml -o requirements/dev.txt

clean: ## remove what make made in this folder (images stay: `bhatti image rm`)
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
