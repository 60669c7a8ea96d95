#!/usr/bin/env bash
# All that wants a GPU: builds liblpsnet for the one that is here, tests, sanitizes and measures. See docs/gpu.md.
#
#   benchmarks/gpu.sh [gpu | build | test-gpu | sanitize-gpu | bench-gpu]
#
# gpu, the default, does all of it. PYTHON names a Python with torch for CUDA, numpy, OpenCV, pytest and hypothesis
# (python3 by default); nothing is installed. What is printed and measured goes to the folder OUT (benchmarks/results by
# default), as <card>.txt and <card>.json.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-benchmarks/results}
BUILD=$PWD/build/gpu
what=${1:-gpu}
failed=()

step() { # NAME COMMAND...: runs it, remembers a failure, goes on
  echo "== $1"
  local begin=$SECONDS
  "${@:2}" || failed+=("$1")
  echo "== $1: $((SECONDS - begin)) s"
}

build() {
  local capability
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '. ')
  cmake -S . -B "$BUILD" -DLPSNET_CUDA=ON -DLPSNET_CUDA_ARCHS="$capability" \
    -DCMAKE_CUDA_COMPILER="${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}" &&
    cmake --build "$BUILD" --parallel "$(nproc)" || return 1
  # The package as it is installed: export and engine are parts of it.
  rm -rf "$BUILD/python" && mkdir -p "$BUILD/python/lpsnet"
  ln -s "$PWD"/lpsnet/* "$BUILD/python/lpsnet/"
  ln -sfn "$PWD/export" "$BUILD/python/lpsnet/export"
  ln -sfn "$PWD/engine" "$BUILD/python/lpsnet/engine"
}

sanitize() { # TOOL
  local tool=${COMPUTE_SANITIZER:-$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)}
  local ours=()
  # Of the kernels of torch nothing is wanted, and they take most of the time.
  if "$tool" --help | grep -q -- --kernel-regex; then ours=(--kernel-regex kns=lps); fi
  # Without torch's cache each tensor is an allocation, whose ends the tool knows.
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$tool" --tool "$1" --error-exitcode 1 "${ours[@]}" \
    "$PYTHON" -m pytest -p no:cacheprovider -x -m sanitized tests/gpu
}

bench() { # NAME ARGUMENTS...
  "$PYTHON" "benchmarks/${1%%-*}.py" --device cuda --json "$BUILD/json/$1.json" "${@:2}"
}

tests() { "$PYTHON" -m pytest -p no:cacheprovider -m "gpu and not slow" -rs tests/gpu; }

sanitizers() {
  local tool
  for tool in memcheck racecheck initcheck synccheck; do step "compute-sanitizer $tool" sanitize "$tool"; done
}

benches() {
  rm -rf "$BUILD/json" && mkdir -p "$BUILD/json"
  local name
  for name in upsample_argmax nms paste_boxes decode postprocess roi_align deform_conv2d; do
    if grep -q -- "--device\|add_arguments" "benchmarks/$name.py"; then step "$name" bench "$name"; fi
  done
  step pipeline bench pipeline --model lpsnet_r50_coco_800 --size 800 1344 --precision fp16 fp32 --goal-ms 5
  step pipeline-compiled bench pipeline-compiled --model lpsnet_r50_coco_800 --size 800 1344 --precision fp16 \
    --batch 1 --compile --goal-ms 5
  "$PYTHON" - "$BUILD/json" "$OUT/$card.json" <<'EOF'
import json, sys
from pathlib import Path
found = {path.stem: json.loads(path.read_text()) for path in sorted(Path(sys.argv[1]).glob("*.json"))}
Path(sys.argv[2]).write_text(json.dumps(found, indent=2) + "\n")
EOF
}

main() {
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  "$PYTHON" -c 'import torch; print("torch", torch.__version__, "CUDA", torch.version.cuda)'
  step build build
  if ((${#failed[@]})); then return 1; fi
  case $what in
    build) ;;
    test-gpu) step test-gpu tests ;;
    sanitize-gpu) sanitizers ;;
    bench-gpu) benches ;;
    gpu)
      step test-gpu tests
      sanitizers
      benches
      ;;
  esac
  if ((${#failed[@]})); then
    printf 'failed: %s\n' "${failed[@]}"
    return 1
  fi
  echo "all passed"
}

case $what in
  gpu | build | test-gpu | sanitize-gpu | bench-gpu) ;;
  *)
    echo "gpu.sh: expected gpu, build, test-gpu, sanitize-gpu or bench-gpu, got $what" >&2
    exit 2
    ;;
esac
card=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1 | tr '[:upper:] ' '[:lower:]_' | tr -cd 'a-z0-9_.-')
if [[ -z $card ]]; then
  echo "gpu.sh: expected a CUDA GPU, but nvidia-smi finds none" >&2
  exit 1
fi
mkdir -p "$OUT"
export LPSNET_REQUIRE_GPU=1 LPSNET_LIBRARY=$BUILD/liblpsnet.so
export PYTHONPATH=$BUILD/python${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1
log=$OUT/$card.txt
if [[ $what != gpu ]]; then log=$OUT/$card.$what.txt; fi
main 2>&1 | tee "$log"
