# make train   set up, then train an SKNet on scikit-learn's handwritten digits
# make test    set up, then run all tests, in TEST_PROCESSES=2 processes
# make test-long  the tests that take minutes each
# make lint    style of Python and C++
# make wheel   a wheel of this checkout, in dist/
# make ascend  build the Ascend C ops with CANN, into sknet_ops/lib/ascend
# make bench   time a selection against other frameworks (10 minutes), report in .benchmarks/; bench-full: all (50)
# make clean   remove what was built; .venv, data and runs stay
PYTHON ?= python3
TEST_PROCESSES ?= 2
VENV ?= .venv
DATA ?= data
RUNS ?= runs

bin := $(VENV)/bin
pip := $(bin)/python -m pip --disable-pip-version-check --no-input
native_sources := CMakeLists.txt setup.py pyproject.toml $(shell find cmake csrc -type f)
cxx_sources := $(shell find csrc -name '*.h' -o -name '*.cc')

# MindSpore's own oneDNN falls to its reference convolution on AVX-512 machines, some forty times slower.
export ONEDNN_MAX_CPU_ISA ?= AVX2

.DELETE_ON_ERROR:
.PHONY: train test test-long lint wheel clean bench bench-full bench-report ascend

# Each stamp in the environment stands for one finished step; a second run finds them and starts at once.
$(VENV)/.created: scripts/check_machine.sh
	@python=$$(scripts/check_machine.sh $(PYTHON)) && echo "creating $(VENV)" && "$$python" -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created requirements.txt
	$(pip) install -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(pip) install -r requirements-dev.txt
	@touch $@

# Without build isolation: the build tools are the pinned ones just installed.
$(VENV)/.built: $(VENV)/.installed $(native_sources)
	$(pip) install --no-deps --no-build-isolation -e .
	@touch $@

$(DATA)/digits: | $(VENV)/.built
	$(bin)/python -m sknet.data.digits $(DATA)/digits

train: $(VENV)/.built $(DATA)/digits
	$(bin)/sknet train -c python/configs/sknet/digits.yaml --data_dir $(DATA)/digits --ckpt_save_dir $(RUNS)/digits

# One file's tests stay in one process, which keeps what they compile.
test: $(VENV)/.built $(VENV)/.installed-dev
	$(bin)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

test-long: $(VENV)/.built $(VENV)/.installed-dev
	$(bin)/python -m pytest -m long --durations=0

lint: $(VENV)/.installed-dev
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/clang-format --dry-run --Werror $(cxx_sources)

wheel: $(VENV)/.installed
	rm -rf build/lib.*  # would bring deleted modules back
	$(pip) wheel --no-deps --no-build-isolation --wheel-dir dist .

ascend:
	@scripts/build_ascend.sh $(if $(wildcard $(bin)/python),$(bin)/python,$(PYTHON))

clean:
	rm -rf build dist *.egg-info sknet_ops/lib sknet_ops/_native*.so $(VENV)/.built

# The other frameworks have an environment of their own: their requirements and MindSpore's need not agree.
PEERS ?= .venv-bench
FULL ?= benchmarks/reports/full.json
bench_needs := $(VENV)/.built $(VENV)/.installed-dev $(PEERS)/.installed
export SKNET_BENCH_PYTHON ?= $(abspath $(PEERS))/bin/python

$(PEERS)/.installed: requirements-bench.txt | $(VENV)/.created
	$(bin)/python -m venv $(PEERS)
	$(PEERS)/bin/python -m pip --disable-pip-version-check --no-input install -r requirements-bench.txt
	@touch $@

bench: $(bench_needs)
	$(bin)/python -m benchmarks --suite quick --out .benchmarks/quick.json
	$(PEERS)/bin/python -m benchmarks.report .benchmarks/quick.json

bench-full: $(bench_needs)
	$(bin)/python -m benchmarks --suite full --out $(FULL)
	$(PEERS)/bin/python -m benchmarks.report $(FULL)

bench-report: $(PEERS)/.installed
	$(PEERS)/bin/python -m benchmarks.report $(FULL)
