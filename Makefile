# `make build` needs no root. `sudo make demo` and `sudo make test` do all of their
# own set-up; what they install is in the README.

# The system's Python: BCC is a package of the distribution, for that one only.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
BPF_SOURCES := $(wildcard bpf/*.c bpf/*.h)
OBJECT := bpf/xdplb.bpf.o

.PHONY: lint build demo test soak bench bench-control check format wheel setup clean

build: $(VENV)/.installed $(OBJECT)

$(VENV)/.installed: pyproject.toml bpf/build_hook.py
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo,dev]'
	touch $@

$(OBJECT): $(BPF_SOURCES) bpf/build_hook.py
	$(PYTHON) bpf/build_hook.py

# System packages, once; the stamp makes a second run fast.
setup:
	@packaging/install-packages

demo: setup build
	$(BIN)/xdplb demo

# Most share the CPUs; the others have the machine for themselves.
test: setup build
	$(BIN)/pytest -n auto -m "not alone"
	$(BIN)/pytest -m alone

# Ten thousand connections through every kind of edit; some five minutes.
soak: setup build
	XDPLB_SOAK_CONNECTIONS=10000 $(BIN)/pytest -s tests/netns/soak

# Some five minutes on two cores; BENCH=--quick for half a minute, BENCH=--docs to write
# docs/benchmark.md and its picture anew.
bench: setup build
	@bench/install-packages
	$(BIN)/python -m bench $(BENCH)

# What the controller's work costs, from one service to a thousand; some ten minutes.
bench-control: setup build
	$(BIN)/python -m bench.control

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	clang-format --dry-run --Werror bpf/*.c bpf/*.h bench/programs/*.c bench/programs/*.h

# What takes less than a minute and needs no root.
check: lint
	$(BIN)/pytest -n auto -m "not root and not slow" tests/unit tests/contract

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	clang-format -i bpf/*.c bpf/*.h bench/programs/*.c bench/programs/*.h

wheel: build
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) dist $(OBJECT)
