#!/usr/bin/env bash
# All that needs a GPU, in one go of less than ten minutes: build, tests, compute-sanitizer, figures. Needs no network.
#
#   benchmarks/on_a_gpu.sh [FOLDER]     FOLDER gets the output (default: out/gpu); commit it under benchmarks/results
#
# Python, NumPy, SciPy, scikit-learn, pybind11, scikit-build-core, pytest, hypothesis and torch with CUDA must be there.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-out/gpu}")
python=${PYTHON:-python3}
mkdir -p "$out"
failed=0

step() {  # step NAME SECONDS COMMAND...: runs it, keeps what it says, remembers a failure
  local name=$1 limit=$2
  shift 2
  echo "== $name: $*" | tee "$out/$name.txt"
  if timeout "$limit" "$@" >> "$out/$name.txt" 2>&1; then
    echo "== $name: passed" | tee -a "$out/$name.txt"
  else
    echo "== $name: FAILED with $?" | tee -a "$out/$name.txt"
    failed=1
  fi
  tail -n 25 "$out/$name.txt"
}

capability=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())')
step build 240 "$python" -m pip install --no-build-isolation --no-deps --force-reinstall . \
  -Ccmake.define.CMAKE_CUDA_ARCHITECTURES="$capability-real" -Ccmake.define.MIXTURA_EMULATED=ON \
  -Ccmake.define.MIXTURA_WERROR=ON
cd /  # so that the installed package is imported
here=$OLDPWD
step config 30 "$python" -m mixtura config
step tests 240 "$python" -m pytest -q -p no:cacheprovider -c "$here/pyproject.toml" --rootdir="$here" \
  "$here/tests/test_conformance.py" "$here/tests/test_cuda.py" -k cuda --require-backend cuda
if sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null); then
  for tool in memcheck racecheck; do
    step "$tool" 120 "$sanitizer" --tool "$tool" --error-exitcode 1 "$python" "$here/benchmarks/small_on_a_gpu.py"
  done
else
  echo "== compute-sanitizer is not installed: memcheck and racecheck NOT RUN" | tee "$out/memcheck.txt"
  failed=1
fi
step figures 300 "$python" "$here/benchmarks/gpu.py" --save "$out"
exit $failed
