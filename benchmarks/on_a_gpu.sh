#!/usr/bin/env bash
# All that needs a GPU, in three parts of a few minutes each, the most valuable first. Needs no network.
#
#   benchmarks/on_a_gpu.sh figures [FOLDER]      builds; every kernel once, beside the reference; figures
#   benchmarks/on_a_gpu.sh tests [FOLDER]        the tests on the device
#   benchmarks/on_a_gpu.sh sanitizers [FOLDER]   compute-sanitizer: memory, races, uninitialised memory
#
# FOLDER (default: out/gpu) gets the output as it comes, and the wheel, which later parts find there and do not build
# again; commit the figures under benchmarks/results. Python, NumPy, SciPy, scikit-learn, pybind11, scikit-build-core,
# pytest, hypothesis and torch with CUDA must be there.
set -uo pipefail
cd "$(dirname "$0")/.."
part=${1:-figures}
case $part in
  figures | tests | sanitizers) ;;
  *)
    echo "$0: unknown part '$part': figures, tests or sanitizers" >&2
    exit 2
    ;;
esac
out=$(realpath -m "${2:-out/gpu}")
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1
mkdir -p "$out"
failed=0

step() {  # step NAME SECONDS COMMAND...: runs it, keeps what it says, remembers a failure
  local name=$1 limit=$2
  shift 2
  echo "== $name: $*" | tee "$out/$name.txt"
  timeout "$limit" "$@" >> "$out/$name.txt" 2>&1
  local code=$?
  if [ $code = 0 ]; then
    echo "== $name: passed" | tee -a "$out/$name.txt"
  else
    echo "== $name: FAILED with $code" | tee -a "$out/$name.txt"
    failed=1
  fi
  tail -n "${lines:-12}" "$out/$name.txt"
  return $code
}

if ! ls "$out"/mixtura-*.whl > /dev/null 2>&1; then
  capability=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())')
  [ "$capability" = 90 ] && capability=90a
  lines=3 step build 240 "$python" -m pip wheel -v --no-build-isolation --no-deps -w "$out" . \
    -Ccmake.define.CMAKE_CUDA_ARCHITECTURES="$capability-real" || exit 1
fi
here=$PWD
cd /  # so that the package of the wheel is imported
site=$(mktemp -d)
lines=2 step install 60 "$python" -m pip install --no-deps --no-index --target "$site" "$out"/mixtura-*.whl || exit 1
export PYTHONPATH=$site
# A build whose CUDA half failed is a package without it: that is a failure here.
lines=3 step import 30 "$python" -c 'import mixtura._cuda as c; print(c.describe())' || exit 1

case $part in
  figures)
    step small 60 "$python" "$here/benchmarks/small_on_a_gpu.py"
    lines=120 step figures 200 "$python" "$here/benchmarks/gpu.py" --kernels --save "$out"
    ;;
  tests)
    step tests 300 "$python" -m pytest -q -W default -n 8 -p no:cacheprovider -c "$here/pyproject.toml" \
      --rootdir="$here" "$here/tests/test_conformance.py" "$here/tests/test_cuda.py" \
      "$here/tests/test_elsewhere.py" \
      -k "cuda and not emulated and not built" --require-backend cuda
    ;;
  sanitizers)
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer) || exit 1
    for tool in memcheck initcheck synccheck racecheck; do
      few=()
      [ $tool = racecheck ] && few=(--few)  # it takes ten times as long as the others
      lines=4 step "$tool" 150 "$sanitizer" --tool "$tool" --error-exitcode 1 "$python" \
        "$here/benchmarks/small_on_a_gpu.py" "${few[@]}"
    done
    ;;
esac
exit $failed
