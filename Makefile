# make demo: train nine small models and judge them.  make test: run all tests.  Both need only make and Python 3.11 or later.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
SWEEP := sweeps/demo
RULES := trainer/recipes/demo-rules.toml
NULL := sweeps/demo-null
# a sweep must plan a number to beat, here the control's mean; then the claim is tested against the control's runs
CLAIM := $(NULL)/candidate --control $(SWEEP)/control --rules $(RULES)
MAY_EXIT_1 := > $(NULL).txt || [ $$? -eq 1 ] || { cat $(NULL).txt; exit 1; }
OLDEST := .venv-oldest

.PHONY: demo test oldest lint bench clean
.DELETE_ON_ERROR:

demo: $(READY)
	@echo "[1/4] Data: build a tokenizer and token shards from the text of Python's standard library."
	@$(BIN)/python -m trainer.dataset demo --output data
	@echo "[2/4] Sweep: train three seeds of the candidate and three of the control, one torchrun each, on a local Ray."
	@rm -rf $(SWEEP) $(NULL)
	@$(BIN)/python -m orchestration.sweep run --script trainer/train_gpt.py \
		--recipe trainer/recipes/demo-candidate.toml --control trainer/recipes/demo-baseline.toml \
		--rules $(RULES) --seeds 1337,1338,1339 --output $(SWEEP)
	@echo "[3/4] Check: judge the sweep from its files alone, as a reviewer or a CI job would."
	@$(BIN)/python -m analysis.significance check $(SWEEP) --rules $(RULES)
	@echo "[4/4] A claim that fails: train three seeds of a change that cannot help; judge them against the control of step 2."
	@$(BIN)/python -m orchestration.sweep run --script trainer/train_gpt.py --recipe trainer/recipes/demo-null.toml \
		--sota $$($(BIN)/python -c "import json; print(json.load(open('$(SWEEP)/verdict.json'))['sota'])") \
		--rules $(RULES) --seeds 1340,1341,1342 --output $(NULL) $(MAY_EXIT_1)
	@$(BIN)/python -m analysis.significance report $(CLAIM) --output $(NULL)/report.html $(MAY_EXIT_1)
	@echo "Open $(SWEEP)/report.html and $(NULL)/report.html for the full reports."
	@$(BIN)/python -m analysis.significance check $(CLAIM) > $(NULL).txt; \
		[ $$? -eq 1 ] && grep "^NOT SUPPORTED" $(NULL).txt || { cat $(NULL).txt; exit 1; }

test: $(READY)
	@echo "Fast tests."
	@$(BIN)/python -m pytest -n auto -m "not slow" -q
	@echo "Slow tests (Ray, torchrun, training, simulation, a browser), two at once."
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m slow -q

oldest: $(OLDEST)/.ready
	@echo "The trainer's tests on torch 2.8, the oldest that it supports."
	@$(OLDEST)/bin/python -m pytest -n 2 --dist worksteal -q tests/trainer

lint: $(READY)
	@echo "ruff check, ruff format, mypy."
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(READY)
	@echo "Benchmarks: waiting times as ratios, reading, and how often false claims pass. Results go to benchmarks/results."
	@$(BIN)/python -m benchmarks.waiting
	@$(BIN)/python -m benchmarks.looks
	@$(BIN)/python -m benchmarks.reading
	@$(BIN)/python -m benchmarks.calibration

clean:
	@echo "Removing .venv, $(OLDEST), data, sweeps and caches."
	@rm -rf .venv $(OLDEST) data sweeps build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "seedproof needs Python 3.11 or later; got $$("$(PYTHON)" --version). Name one with make PYTHON=..."; exit 2; }
	@echo "Setting up .venv with the exact versions in constraints.txt. This takes a minute or two, once."
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	@touch $(READY)

$(OLDEST)/.ready: pyproject.toml constraints.txt
	@echo "Setting up $(OLDEST) with torch 2.8. On Linux this is the build for CUDA, 7 GB on disk, once."
	@"$(PYTHON)" -m venv $(OLDEST)
	@sed 's/^torch==.*/torch==2.8.0/' constraints.txt > $(OLDEST)/constraints.txt
	@$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(OLDEST)/constraints.txt --editable '.[all,dev]'
	@touch $@
