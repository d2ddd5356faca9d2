# `make quickstart`, `make demo` and `make test` do all the set-up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready
EXTRAS := $(VENV)/.extras
SITE := $(VENV)-docs
LOWEST := $(VENV)-lowest
BUILD := $(abspath $(VENV)/build.txt)

# Files of recipes in the order in which the suites need them.
ZOO := fmnist-natural cifar10-natural fmnist-adversarial cifar10-adversarial mnist-natural \
	mnist-adversarial fmnist-power fmnist-spaces

.PHONY: install demo quickstart test test-fast test-slow test-extras test-lowest check format docs notebooks regression \
	power wheel zoo bench compatibility reliability clean

install: $(READY)

# What a run needs, and no more.
$(RUNS): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("rbench needs Python 3.11 or newer; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "Making $(VENV) and installing rbench with PyTorch: some gigabytes, a few minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --editable .
	@touch $(RUNS)

# What tests need besides.
$(READY): $(RUNS)
	@echo "Installing what the tests need besides."
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $(READY)

# Beside the committed table, not over it.
demo: $(RUNS)
	$(BIN)/rbench run suites/table1.yaml --out build/table1

quickstart: $(RUNS)
	$(BIN)/rbench run suites/quickstart.yaml

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

# For every change while it is made: no processes, no drawings, nothing that takes a second.
test-fast: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not slow and not gpu and not process"

test-slow: $(READY)
	$(BIN)/pytest -m "slow and not gpu"

# What make test skips for want of other people's libraries.
test-extras: $(EXTRAS)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 tests/attacks tests/export tests/models

# The tests with the oldest versions that setup.cfg allows; the other targets take the newest.
test-lowest: $(LOWEST)/.ready
	OMP_NUM_THREADS=1 $(LOWEST)/bin/pytest -n 2

$(LOWEST)/.ready: setup.cfg
	$(PYTHON) -m venv $(LOWEST)
	sed -n '/^install_requires/,/^\[/s/ >= /==/p' setup.cfg | tr -d ' ' > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check \
		--constraint $(LOWEST)/lowest.txt --editable ".[dev]"
	touch $(LOWEST)/.ready

# Have this project's own numbers moved? See docs/ci.md.
regression: $(RUNS)
	$(BIN)/rbench run suites/smoke.yaml --out build/smoke
	$(BIN)/rbench check build/smoke

# False alarms and power of rbench check, by simulation; takes a quarter of an hour.
power: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.regression_power

# One file with the suites, checkpoints and published tables in it, into dist/.
wheel: $(RUNS)
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

# Trains what has no checkpoint yet; may be stopped and taken up again at any time.
zoo: $(RUNS)
	for book in $(ZOO); do $(BIN)/rbench train $$book || exit 1; done
	$(BIN)/rbench zoo verify --update
	$(BIN)/rbench zoo readme

# An hour on two cores that have nothing else to do; goes on where it was stopped.
bench: $(EXTRAS)
	$(BIN)/python -m tools.speed attacks
	$(BIN)/python -m tools.speed training

# adv-lib needs visdom, which is built by means of something that newer setuptools lack. A library
# that cannot be installed is shown as missing.
$(EXTRAS): $(READY)
	echo 'setuptools<81' > $(BUILD)
	-PIP_CONSTRAINT=$(BUILD) PIP_BUILD_CONSTRAINT=$(BUILD) \
		$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev,all]"
	touch $(EXTRAS)

# Runs every attack of every library that can be installed; takes some ten minutes.
compatibility: $(EXTRAS)
	$(BIN)/python -m tools.compatibility docs/compatibility.md

# Kills runs again and again and counts what was lost; takes about an hour.
reliability: $(READY)
	$(BIN)/python -m tools.reliability local ray workers nodes fuzzing

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 bench
	$(BIN)/lint-imports

# The site, into site/: open site/index.html, or serve it for the search to work:
# python -m http.server -d site
docs: $(SITE)/.ready
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/python -m mkdocs build --strict --quiet

# An environment of its own: MkDocs asks for a newer requests than torchattacks allows. rbench is
# not in it, for the reference is made from its source.
$(SITE)/.ready: docs/requirements.txt
	$(PYTHON) -m venv $(SITE)
	$(SITE)/bin/pip install --quiet --disable-pip-version-check --requirement docs/requirements.txt
	touch $(SITE)/.ready

# Runs the tutorials again and keeps what they print.
notebooks: $(READY)
	$(BIN)/python tests/docs/notebooks.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(SITE) $(LOWEST) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache
