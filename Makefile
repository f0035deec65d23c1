# make demo     set up, then run the main job end to end on the simulated world
# make test     set up, then run every check: format, lint, types, import contracts, tests
# make label-studio   install a Label Studio server beside us, for the tests that use a real one

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo
READY := $(VENV)/.ready
STUDIO := .venv-label-studio

.PHONY: demo test check setup constraints label-studio clean

demo: $(READY)
	$(BIN)/wildrf demo $(DEMO)

test: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses logical --maxprocesses 4

setup: $(READY)

# torch comes first and alone: with 2.13.0 pinned, nothing after it brings another build.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wildrf needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,label,exchange,live,c2pa,cluster,onnx,dev]'
	touch $(READY)

label-studio: $(STUDIO)/bin/label-studio

$(STUDIO)/bin/label-studio:
	$(PYTHON) -m venv $(STUDIO)
	$(STUDIO)/bin/pip install --quiet --disable-pip-version-check label-studio==1.23.2

constraints:
	{ head -n 1 constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu//'; } > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) $(STUDIO) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
