# make demo: recognize actions in videos; make test: all tests. Each sets up all it needs in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Linux without a GPU gets PyTorch's CPU build instead of several GB of CUDA.
ifeq ($(shell uname -s)$(shell command -v nvidia-smi),Linux)
TORCH := "torch==2.13.0" --extra-index-url https://download.pytorch.org/whl/cpu
else
TORCH := "torch>=2.6"
endif

# Container images set it; each of the hundred processes of the tests would compile the package once more.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check docs browser mutants
demo: $(VENV)/ready
	$(BIN)/froster demo

test: $(VENV)/ready-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist worksteal

check: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# An hour and more: how many changes of the papers' mathematics no test notices. `OUT.json` of the script resumes.
mutants: $(VENV)/ready-dev
	$(BIN)/pip install --quiet "cosmic-ray>=8.4"
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py runs/mutants.json --sample 50

docs: $(VENV)/ready-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The site is in build/site/index.html"

# For the tests of the web page, which skip without it. Debian's own: no other source is needed.
browser:
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; \
	else \
		echo "No Chromium is installed, and only root on Debian may install it here: the tests of the web page skip."; \
	fi

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("froster needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps --retries 1 $(TORCH)
	$(BIN)/pip install --quiet --editable ".[cli]"
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(BIN)/pip install --quiet --editable ".[dev]"
	@touch $@
