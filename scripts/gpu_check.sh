#!/usr/bin/env bash
# Runs all that is for a GPU on a bare machine, in less than ten minutes: tests/gpu, then the benchmark.
# The machine has torch, torchvision and lightning, and needs no package index: what else is missing comes
# from the wheels beside this script, which were made elsewhere by `python scripts/gpu_check.py wheels`.
#   scripts/gpu_check.sh               writes logs/gpu_check.json and logs/gpu_check.md
#   DEVICE=cpu scripts/gpu_check.sh    the same on the CPU, small, to try this script
# Variables: PYTHON, that of torch; WHEELS, a folder; OUTPUT, without suffix; LIMIT, seconds of it all;
# WORKERS, processes of the tests. Ends with 1 where a test failed or nothing was measured.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda} LIMIT=${LIMIT:-570} OUTPUT=${OUTPUT:-logs/gpu_check}
WHEELS=${WHEELS:-scripts/wheels} WORKERS=${WORKERS:-$([ "$DEVICE" = cpu ] && echo 1 || echo 4)}
began=$(date +%s) work=$(mktemp -d)
left() { echo $((began + LIMIT - $(date +%s) - ${1:-0})); }

finish() { # whatever happened, what there is is written
  trap - EXIT
  local code=0
  "$work/venv/bin/python" scripts/gpu_check.py report "$work" "$OUTPUT" "$DEVICE" || code=$?
  rm -rf "$work"
  exit "$code"
}

# An environment of its own that sees the machine's packages, also where python is of an environment itself.
"$PYTHON" -m venv --without-pip "$work/venv"
python=$work/venv/bin/python
"$PYTHON" -c 'import site; print(*site.getsitepackages(), sep="\n")' \
  >"$("$python" -c 'import site; print(site.getsitepackages()[0])')/machine.pth"
wheels=$("$python" scripts/gpu_check.py missing "$WHEELS")
[ -z "$wheels" ] || xargs timeout "$(left 60)" "$python" -m pip install --quiet --disable-pip-version-check \
  --no-index --no-deps --no-compile <<<"$wheels"
export PYTHONPATH=$PWD/src FORGER_TEST_DEVICE=$DEVICE WANDB_MODE=disabled
if [ "$DEVICE" != cpu ] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "gpu_check: torch finds no GPU here, so that nothing was run; DEVICE=cpu tries this script on the CPU"
  rm -rf "$work"
  exit 0
fi
trap finish EXIT
trap 'exit 130' INT TERM

# Tests have 6 tenths of the time; then none is begun, and in a minute more pytest is told to end, which leaves
# a report of those that ended. Some failing is told in the end.
export FORGER_TEST_UNTIL=$((began + LIMIT * 6 / 10))
timeout --kill-after=20 "$(left $((LIMIT * 3 / 10)))" "$python" -m pytest -m gpu tests/gpu -q \
  -p no:cacheprovider --basetemp="$work/tests" --junitxml="$work/tests.xml" \
  $([ "$WORKERS" -gt 1 ] && echo "-n $WORKERS") ${TESTS:+-k "$TESTS"} || echo $? >"$work/tests.code"

# The benchmark begins no run that would end too late, and writes after each.
benchmark=(--seconds "$(left 30)" --output "$work/throughput" --pairs 1)
[ "$DEVICE" = cpu ] && benchmark+=(--workloads vanilla --programs product reference graph --iterations 50 --threads 1)
timeout --kill-after=10 "$(left 10)" "$python" benchmarks/throughput.py "${benchmark[@]}" || true
