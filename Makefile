# Every target sets up what it needs: a .venv here, from pyproject.toml and constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable
PYTEST := $(BIN)/python -m pytest --numprocesses logical --dist loadscope --no-loadscope-reorder
# Overrides for the sweep, such as ARGS="data=mnist_sample seed=0,1,2"
ARGS ?=
SWEEPS ?=
# Runs of a sweep side by side, such as JOBS=2
JOBS ?=
SIDE_BY_SIDE := $(if $(JOBS),hydra/launcher=joblib hydra.launcher.n_jobs=$(JOBS))
# What a sweep says to type next works where it is read: `python` may not be this one there.
BY_MAKE := DIGITS_SWEEP_BY_MAKE=1
READY := .venv/ready$(if $(JOBS),-joblib)

.DEFAULT_GOAL := help
.PHONY: announce help sweep lesson resume report critical bench calibration test test-all torture lint docs format clean

announce:
	@ls -d .venv/lib/python3*/site-packages/torch >/dev/null 2>&1 || echo "First, once: downloads what a sweep needs into .venv, up to 5.9 GB (PyTorch with its CUDA libraries); takes 5 to 20 minutes, in which little is printed."

$(BIN)/python: | announce
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

# What a sweep needs; and with an extra of pyproject.toml, what a target needs beside that.
.venv/ready: pyproject.toml constraints.txt | announce $(BIN)/python
	$(INSTALL) .
	touch $@

.venv/ready-%: pyproject.toml constraints.txt | announce $(BIN)/python
	$(INSTALL) '.[$*]'
	touch $@

sweep: $(READY) ## Train at batch size 100, 20 and 5; the table lands in outputs/summary.csv
	$(BY_MAKE) $(BIN)/python -m digits_sweep -m data.batch_size=100,20,5 $(SIDE_BY_SIDE) $(ARGS)

lesson: $(READY) ## Train the four rows of the lesson; JOBS=2 trains two at a time, as in every sweep here
	$(BY_MAKE) $(BIN)/python -m digits_sweep -m experiment=lesson $(SIDE_BY_SIDE) $(ARGS)

resume: .venv/ready ## Resume the newest sweep after what it has recorded
	$(BY_MAKE) $(BIN)/python -m digits_sweep resume=latest $(ARGS)

report: .venv/ready ## Turn the newest sweep, or SWEEPS="folder folder", into outputs/report/index.html
	$(BIN)/python -m digits_sweep.report $(SWEEPS) $(ARGS)

critical: .venv/ready-joblib ## Tune the rate at six batch sizes and count steps to a goal; which is soonest here
	$(BIN)/python -m digits_sweep.critical_batch_size $(SIDE_BY_SIDE) $(ARGS)

bench: .venv/ready ## Time every engine against the lesson's loop and the bare kernels; run nothing else meanwhile
	$(BIN)/python -m benchmarks $(ARGS)

calibration: .venv/ready ## Simulate how often what the program states is right; writes docs/calibration.md (5 min on two cores)
	$(BIN)/python -m benchmarks.calibration $(ARGS)

test: .venv/ready-test ## Run the tests, without those that take long or need a service
	$(PYTEST) -m 'not full and not torture' $(ARGS)

test-all: .venv/ready-dev ## Run all tests: Ray, Slurm, MLflow, pages in Chromium, an installed wheel
	$(PYTEST) -m 'not torture' $(ARGS)

torture: .venv/ready-test ## Stop runs, searches, Recorder after every change of the disk, and all commands by 100 random signals; takes hours
	$(PYTEST) -m torture tests/test_every_prefix.py tests/security
	$(BIN)/python -m tests.killing $(ARGS)

lint: .venv/ready-lint ## Check style and types, and that docs/reference.md and the keywords of run are up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/reference.py --check
	$(BIN)/python docs/keywords.py --check

docs: .venv/ready ## Write docs/reference.md, and the keywords of run, from the code and conf/
	$(BIN)/python docs/reference.py
	$(BIN)/python docs/keywords.py

format: .venv/ready-lint ## Bring the code into the style that lint wants
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environment and the caches; outputs stay
	rm -rf .venv .pytest_cache .hypothesis .ruff_cache .mypy_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
