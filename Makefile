# Tidesight. `make demo` and `make test` set up all they need in .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
# Fine-tuning needs PyTorch (gigabytes). Add `train` to test it too: make test EXTRAS=dev,train
EXTRAS ?= dev
# Tests at a time; most of them wait for processes.
JOBS   ?= 2
# What make bench measures, in this order; the same command goes on where it was cut off.
BENCH  ?= cold_start latency stages reduced_decode engines stacks yolov8n overload overload_pinned half curve stored soak load_generator \
          fleet_front fleet_start fleet_throughput fleet_idle fleet_rolling streams_speedup streams_killed \
          tuned_accuracy accuracy

.PHONY: demo test lint bench serve references clean help

help: ## Show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

demo: $(VENV)/.demo ## Serve, detect real photographs, then two published studies in small
	@$(BIN)/tidesight demo

test: $(VENV)/.$(EXTRAS) lint ## Lint, types, import contracts and all tests
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.$(EXTRAS) ## ruff, mypy --strict, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev,bench ## Measure on a quiet machine, two hours; writes benchmarks/ (some: BENCH="stacks soak")
	@# Imports are most of a cold start, so it is measured with what an instance needs and nothing else installed.
	@test -x $(VENV)-instance/bin/python || $(PYTHON) -m venv $(VENV)-instance
	@$(VENV)-instance/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt -e .
	@$(BIN)/python -m compileall -q src benchmarks
	$(if $(filter cold_start,$(BENCH)),$(VENV)-instance/bin/python -m benchmarks cold_start)
	$(BIN)/python -m benchmarks $(or $(filter-out cold_start,$(BENCH)),pages)

references: $(VENV)/.dev ## Render deploy/ again from the files in it
	@for target in gke kubernetes cloud-run app-engine-flex app-engine-standard observability; do \
	  $(BIN)/tidesight deploy render --target $$target --config deploy/tidesight.toml --out deploy/$$target; done
	@$(BIN)/tidesight deploy render --target compose --config deploy/compose/tidesight.toml --out deploy/compose

serve: $(VENV)/.demo ## Serve the embedded model on http://127.0.0.1:8080
	@$(BIN)/tidesight serve

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) $(VENV)-instance .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say which: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "venv is missing; on Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing tidesight[$*] into $(VENV) (once; a minute or two) ..."
	@$(PIP) install -c constraints.txt -e '.[$*]'
	@# libreyolo brings OpenCV's desktop build, which wants libGL; the headless one must be the one that stays.
	@if $(PIP) show opencv-python >/dev/null 2>&1; then $(PIP) uninstall -y opencv-python \
	  && $(PIP) install -c constraints.txt --force-reinstall --no-deps opencv-python-headless; fi
	@$(BIN)/python -m compileall -q src
	@touch $@
