# `make convert` and `make test` need Python 3.11 or newer and make; everything else they install into .venv themselves:
# `make convert` what a conversion needs, and all others the developers' tools as well.

PYTHON ?= python3
SOURCE ?=
OUT ?= build/sample
ARGS ?=

VENV_PYTHON := .venv/bin/python
INSTALLED := .venv/.installed
INSTALLED_DEV := .venv/.installed-dev
INSTALLED_DOCS := .venv/.installed-docs
PEERS := .venv-peers/.installed
SAMPLE := build/sample-source
FAULTS := $(addprefix tests/,property fuzz test_security.py) \
  $(addprefix tests/conversion/test_,changed_source.py hostile_images.py hostile_values.py) \
  $(addprefix tests/system/test_,disk.py fsync.py hub_faults.py kill_cycles.py kill_train.py surroundings.py)

# One at a time: an installation would pull packages from under a target that runs beside it.
.NOTPARALLEL:

.PHONY: setup convert train test test-system dist gpu-test gpu-report coverage lint docs peers bench soak clean

setup: $(INSTALLED_DEV)

# Scripts of a virtual environment break where its path has a space, so everything runs as `python -m`.
PIP_INSTALL = $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

# What a conversion and its sample need; torch is most of it.
$(INSTALLED): setup.cfg setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "wdsremux needs Python 3.11 or newer; say which with make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(VENV_PYTHON) || $(PYTHON) -m venv .venv
	$(PIP_INSTALL) ".[sample]"
	@touch $(INSTALLED)

# What everything else needs on top of that.
$(INSTALLED_DEV): $(INSTALLED)
	$(PIP_INSTALL) ".[dali,dev]"
	@touch $(INSTALLED_DEV)

ifeq ($(SOURCE),)
convert: $(INSTALLED)
	$(VENV_PYTHON) scripts/sample_source.py $(SAMPLE)
	$(VENV_PYTHON) -m wdsremux convert $(SAMPLE) "$(OUT)" --split train $(ARGS)
	$(VENV_PYTHON) -m wdsremux convert $(SAMPLE) "$(OUT)" --split test $(ARGS)
else
convert: $(INSTALLED)
	$(VENV_PYTHON) -m wdsremux convert "$(SOURCE)" "$(OUT)" $(ARGS)
endif

train: convert $(INSTALLED_DEV)
	$(VENV_PYTHON) scripts/train.py "$(OUT)"

test: $(INSTALLED_DEV)
	$(VENV_PYTHON) -m pytest --numprocesses 2 --dist loadfile

test-system: $(INSTALLED_DEV)
	$(VENV_PYTHON) -m pytest -m system --numprocesses 2 --dist loadfile

# On a machine with a GPU: tests marked gpu. Without one they are left out, and it says so; with WDSREMUX_REQUIRE_CUDA=1
# that is a failure.
gpu-test: $(INSTALLED_DEV)
	$(VENV_PYTHON) -m pytest -m gpu -rsP

# All that is measured on a GPU, in ten minutes: a table, and build/gpu-report.json. OUT=FOLDER takes a converted folder
# in place of a set that is made for it. Without a GPU it is a rehearsal of two minutes that says what it left out.
gpu-report: $(INSTALLED_DEV)
	$(VENV_PYTHON) benchmarks/gpu_report.py $(if $(filter-out file,$(origin OUT)),"$(OUT)") $(ARGS)

# What goes to a package index, made in an environment of its own; its metadata and README as the index would show them.
dist: $(INSTALLED_DEV)
	rm -rf build/dist
	$(VENV_PYTHON) -m build --outdir build/dist > /dev/null
	$(VENV_PYTHON) -m twine check --strict build/dist/*

lint: $(INSTALLED_DEV)
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy

# The documentation as a site, in build/site; a broken link or a missing name ends it.
$(INSTALLED_DOCS): $(INSTALLED)
	$(PIP_INSTALL) ".[docs]"
	@touch $(INSTALLED_DOCS)

docs: convert $(INSTALLED_DOCS)
	$(VENV_PYTHON) scripts/docs_cli.py docs/cli.md
	$(VENV_PYTHON) scripts/docs_plan.py $(SAMPLE) docs/planning.md
	$(VENV_PYTHON) -m wdsremux preview $(OUT) -n 6 -o docs/preview.png
	$(VENV_PYTHON) -m mkdocs build --strict

# What the benchmarks compare with, in an environment of its own (7 GB).
peers: $(PEERS)

$(PEERS): benchmarks/peers.txt
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement benchmarks/peers.txt
	@touch $(PEERS)

# Seventy-five minutes on two cores that nothing else uses. Then docs/benchmarks.md.
bench: $(INSTALLED_DEV) $(PEERS)
	-$(VENV_PYTHON) benchmarks/bench_convert.py --json build/bench-convert.json
	-$(VENV_PYTHON) benchmarks/bench_load.py --json build/bench-load.json --large-source build/bench-convert/whole-large
	-$(VENV_PYTHON) benchmarks/bench_containers.py build/bench-containers --page docs/containers.md
	-$(VENV_PYTHON) benchmarks/bench_sizes.py build/bench-sizes --rounds 3 --page docs/benchmarks.md
	-$(VENV_PYTHON) benchmarks/bench_scale.py build/bench-scale --page docs/benchmarks.md
	.venv-peers/bin/python benchmarks/bench_readme.py build/bench-convert.json build/bench-load.json docs/benchmarks.md

# Lines of wdsremux/ that `make test test-system` reaches, in all their processes. Lines for a GPU count as missed here.
coverage: export COVERAGE_FILE := $(CURDIR)/build/coverage/data
coverage: $(INSTALLED_DEV)
	rm -rf build/coverage && mkdir -p build/coverage
	$(VENV_PYTHON) -m coverage run -m pytest
	$(VENV_PYTHON) -m coverage run -m pytest -m system
	$(VENV_PYTHON) -m coverage combine --quiet
	$(VENV_PYTHON) -m coverage report

# Hours: 280 kills, 100,000 inputs for each parser, each bit of a set flipped, the laws over many more cases; then the
# table of faults in docs/guarantees.md.
soak: $(INSTALLED_DEV)
	mkdir -p build && rm -f build/faults.jsonl
	WDSREMUX_SOAK=1 WDSREMUX_FAULTS=build/faults.jsonl $(VENV_PYTHON) -m pytest -m "system or not system" --timeout=0 \
	  $(FAULTS)
	$(VENV_PYTHON) benchmarks/fault_table.py build/faults.jsonl docs/guarantees.md

clean:
	rm -rf build .venv .venv-peers .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
