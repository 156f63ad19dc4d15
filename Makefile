# Every target sets up what it needs: a virtual environment with the pinned versions.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FLOWER := .venv-flower

.PHONY: demo test test-flower fuzz matrix lint bench format clean

demo: $(READY)  ## an encrypted federation on real data, with a report
	$(BIN)/secagg demo

test: $(READY)  ## all tests, with branch coverage of secagg/ and protocols/
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term

test-flower: $(FLOWER)/.ready  ## secure aggregation on Flower: in process, on Ray, on a SuperLink
	$(FLOWER)/bin/python -m pytest -n auto --dist worksteal tests/flower

fuzz: $(READY)  ## 50,000 (of dear ones 10,000) seeded mutations of all that a peer or a file can bring
	$(BIN)/python -W error -m tests.fuzz

matrix: $(READY)  ## every pair of faults of the fault matrix, for each protocol and mode
	SECAGG_MATRIX=all $(BIN)/python -m pytest -n auto --dist worksteal tests/protocols/test_matrix.py tests/protocols/test_matrix_others.py

lint: $(READY)  ## style and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## speed, side by side with what one would use otherwise
	$(BIN)/secagg bench speed

format: $(READY)  ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## forget the virtual environment and everything that was built
	rm -rf $(VENV) $(FLOWER) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage*

$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) with the pinned versions: a minute or two, once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

$(FLOWER)/.ready: pyproject.toml constraints.txt
	@echo "Setting up $(FLOWER), which has Flower as well: some minutes, once."
	@$(PYTHON) -m venv $(FLOWER)
	@$(FLOWER)/bin/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable ".[dev,flower]"
	@touch $@
