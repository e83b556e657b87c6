# Every target sets up what it needs: a .venv here, from pyproject.toml and constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
# Overrides for the sweep, such as ARGS="data=mnist_sample seed=0,1,2"
ARGS ?=
SWEEPS ?=

.DEFAULT_GOAL := help
.PHONY: help sweep lesson resume report bench test torture lint format clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

sweep: .venv/ready ## Train at batch size 100, 20 and 5; the table lands in outputs/summary.csv
	$(BIN)/python -m digits_sweep -m data.batch_size=100,20,5 $(ARGS)

lesson: .venv/ready ## Train the four rows of the lesson
	$(BIN)/python -m digits_sweep -m experiment=lesson $(ARGS)

report: .venv/ready ## Turn the newest sweep, or SWEEPS="folder folder", into outputs/report/index.html
	$(BIN)/python -m digits_sweep.report $(SWEEPS)

bench: .venv/ready ## Time every engine against the lesson's loop and the bare kernels; run nothing else meanwhile
	$(BIN)/python -m digits_sweep.bench $(ARGS)

resume: .venv/ready ## Go on with the newest sweep where it was stopped
	$(BIN)/python -m digits_sweep resume=latest $(ARGS)

test: .venv/ready ## Run the tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadscope

torture: .venv/ready ## Kill sweeps 50 times at random moments, go on each time, compare the results; takes 10 to 30 minutes
	$(BIN)/python -m tests.killing $(ARGS)

lint: .venv/ready ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready ## Bring the code into the style that lint wants
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environment and the caches; outputs stay
	rm -rf .venv .pytest_cache .hypothesis .ruff_cache .mypy_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
