# SPDX-License-Identifier: GPL-2.0-or-later
# Each command makes its machine ready by itself: tests/lab/setup.sh.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-long bench lint format install clean

PREFIX ?= /opt/kwatch
SERVE ?=
SETUP ?= tests/lab/setup.sh
DEMO ?= /var/tmp/kwatch-demo

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## install what the lab needs (the others do it by themselves)
	@$(SETUP)

demo: setup ## a lab in a box on real Linux: three tags, three mails (SERVE=1: leave the pages up)
	@.venv/bin/python -u -m tests.lab.demo --directory $(DEMO) $(if $(SERVE),--serve)

test: setup ## everything: lint, unit, integration, lab, story
	@tests/suites.sh lint unit integration lab story

test-fast: setup ## lint and unit, in less than a minute
	@tests/suites.sh lint unit

test-long: setup ## the scenarios on real kernels that take hours
	@tests/suites.sh long

bench: setup ## each claim about speed, beside what it is compared with
	@set -e; for script in bench/*.py; do \
		name=$$(basename $$script .py); echo "== $$name =="; \
		.venv/bin/python -u -m bench.$$name; \
	done

lint: setup ## formatting, ruff, mypy, and who may import what
	@tests/suites.sh lint

format: setup ## format the sources, and mend what ruff can mend
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

install: ## install the daemon into PREFIX (/opt/kwatch)
	@$(SETUP) environment
	@rm -rf dist/wheel
	/usr/bin/python3 -m venv $(PREFIX)
	$(PREFIX)/bin/python -m pip --quiet install --no-deps --require-hashes -r requirements.txt
	.venv/bin/python -m pip --quiet wheel --no-deps --no-build-isolation --no-index -w dist/wheel .
	$(PREFIX)/bin/python -m pip --quiet install --no-deps --no-index --force-reinstall dist/wheel/*.whl
	$(PREFIX)/bin/kwatch --version

clean: ## remove what can be made again; the demo's folder stays
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find kwatch tests bench -name __pycache__ -prune -exec rm -rf {} +
