# Two commands carry everything: `make run` and `make test`. Variables: PYTHON (an interpreter), PORT and every
# setting of the README, as in `make run PORT=8001`.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin/python
PIP := $(BIN) -m pip --disable-pip-version-check --no-input install --quiet --quiet --constraint constraints.txt
PYTHON ?=
CANDIDATES := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
TEST_PROCESSES ?= auto
PYTEST_ARGS ?=

KERNELS := $(wildcard accelerator/_*.pyx)
KERNELS_MISSING := $(foreach kernel,$(KERNELS),$(if $(wildcard $(kernel:.pyx=).*.so),,$(kernel)))

.PHONY: help
help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

.PHONY: run
run: $(VENV)/.kernels-built static/vendor/vega.js ## install what is missing and run the twin until Ctrl-C
	@$(BIN) manage.py up

.PHONY: install
install: $(VENV)/.kernels-built static/vendor/vega.js ## virtual environment, requirements and compiled kernels; starts nothing

.PHONY: test
test: install $(VENV)/.test-installed ## install what the tests need and run them all
	@$(BIN) -m pytest --numprocesses $(TEST_PROCESSES) --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

.PHONY: check
check: install $(VENV)/.test-installed ## format, lint, types, arrows, migrations, OpenAPI drift, templates, security
	$(BIN) -m ruff format --check --quiet .
	$(BIN) -m ruff check --quiet .
	$(BIN) -m mypy --no-error-summary .
	$(VENV)/bin/lint-imports --no-cache
	$(BIN) manage.py makemigrations --check --dry-run
	$(BIN) manage.py openapi_check
	$(BIN) -m djlint templates --check --lint --quiet
	$(BIN) -m bandit -q -ll -r accelerator fleet scenarios api dashboard config

.PHONY: bench
bench: install $(VENV)/.test-installed ## run benchmarks/bench_*.py one after the other
	@for bench in benchmarks/bench_*.py; do \
	  [ -e "$$bench" ] || { echo "there is no benchmark yet"; break; }; \
	  echo "== $$bench"; $(BIN) "$$bench" || exit 1; \
	done

.PHONY: clean
clean: ## remove what was built; var/ with the database stays
	rm -rf $(VENV) build static/vendor .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	rm -f accelerator/_*.c accelerator/_*.so accelerator/_*.html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what the targets stand on: a stamp is written last, so that an interrupted step is done again ---------------------
$(BIN):
	@found=; for python in $(CANDIDATES); do \
	  command -v "$$python" >/dev/null 2>&1 || continue; \
	  last=$$python; \
	  if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	python=$${found:-$$last}; \
	if [ -z "$$python" ]; then \
	  echo "No Python was found ($(CANDIDATES)): install one with \`apt-get install python3 python3-venv python3-dev\` (Fedora: \`dnf install python3 python3-devel\`)." >&2; exit 1; \
	fi; \
	"$$python" -I config/preflight.py || exit 1; \
	echo "making $(VENV) with $$($$python --version)"; \
	"$$python" -m venv --clear $(VENV)

$(VENV)/.installed: requirements.txt constraints.txt | $(BIN)
	@echo "installing requirements.txt"
	@$(PIP) --requirement requirements.txt
	@touch $@

$(VENV)/.test-installed: requirements-test.txt requirements-browser.txt $(VENV)/.installed
	@echo "installing requirements-test.txt and requirements-browser.txt"
	@$(PIP) --requirement requirements-test.txt --requirement requirements-browser.txt
	@touch $@

ifneq ($(KERNELS_MISSING),)
.PHONY: $(VENV)/.kernels-built
endif
$(VENV)/.kernels-built: $(VENV)/.installed setup.py $(KERNELS)
	@$(BIN) -I config/preflight.py
	@echo "compiling the kernels of accelerator/"
	@$(BIN) setup.py --quiet build_ext --inplace --force
	@touch $@

static/vendor/vega.js: config/management/commands/static_build.py $(VENV)/.installed | $(VENV)/.kernels-built
	@$(BIN) manage.py static_build
