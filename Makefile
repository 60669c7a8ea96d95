# Everything runs in virtual environments of its own; `make demo` and `make test` are all that a new machine needs.
PYTHON ?= python3
VENV ?= .venv
DEMO_VENV ?= .venv-demo
BIN := $(VENV)/bin
INPUT ?=
NOTE ?=
SOURCES := lpsnet engine export tests benchmarks cmake setup.py
NATIVE := $(shell find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: demo test test-slow test-emulated test-gpu sanitize-gpu gpu cuda cuda-all lint format sanitize bench bench-peers clean

# Installed anew when the build files or the native sources change.
$(VENV)/.installed: pyproject.toml setup.py constraints.txt CMakeLists.txt $(shell find csrc cmake -type f)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# What it takes to run a model, and no more: no torch.
$(DEMO_VENV)/.installed: pyproject.toml setup.py constraints.txt CMakeLists.txt $(shell find csrc cmake -type f)
	test -x $(DEMO_VENV)/bin/python || $(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/python -m pip install --quiet -c constraints.txt -e .
	touch $@

demo: $(DEMO_VENV)/.installed
	$(DEMO_VENV)/bin/lpsnet-predict $(or $(INPUT),--sample) --profile --output out/demo

test: $(VENV)/.installed cuda
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not slow'

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow -s

# Each operator beside what a user would have instead. On a machine that does nothing else.
BENCHMARKS := deform_conv2d upsample_argmax paste_boxes nms decode postprocess roi_align pipeline
bench: $(VENV)/.installed
	mkdir -p out/benchmarks
	for b in $(BENCHMARKS); do $(BIN)/python benchmarks/$$b.py --json out/benchmarks/$$b.json || failed=1; done; test -z "$$failed"

# LPSNet beside UPSNet and Panoptic FPN, and docs/benchmarks.md of it: many minutes on two cores that do nothing else, and
# far fewer with SIZES=800.
SIZES ?= 800 882 964
PEERS := mask2former_r50 eomt_large_640 torchvision_mask_rcnn_r50 detectron2_panoptic_fpn_r50
R50 := lpsnet_r50_coco_800
LITE0 := lpsnet_lite0_camvid lpsnet_lite0_camvid.onnx lpsnet_lite0_camvid_int8.onnx
bench-peers: export OMP_WAIT_POLICY := PASSIVE
bench-peers: $(VENV)/.installed
	$(BIN)/lpsnet-bench --output out/bench_cpu_r50 --models $(R50) --against upsnet panoptic_fpn $(PEERS) \
		--sizes $(SIZES) --rounds 4 --stage-rounds 2 --threads 2 --title "ResNet-50, as in the paper" --note "$(NOTE)"
	for p in fp32 int8; do \
		$(BIN)/python benchmarks/untrained_onnx.py $(R50) out/$(R50)_$$p.onnx --precision $$p --deform-conv gridsample && \
		$(BIN)/python benchmarks/untrained_onnx.py $(R50)_slim out/$(R50)_slim_$$p.onnx --precision $$p || exit 1; \
	done
	$(BIN)/lpsnet-bench --output out/bench_cpu_deployed --models $(R50) $(R50:%=out/%_fp32.onnx) $(R50:%=out/%_int8.onnx) \
		$(R50)_slim $(R50:%=out/%_slim_fp32.onnx) $(R50:%=out/%_slim_int8.onnx) --against upsnet panoptic_fpn \
		--sizes $(firstword $(SIZES)) --rounds 4 --stage-rounds 2 --threads 2 \
		--title "ResNet-50 as it is deployed: ONNX, int8, half the widths" --note "$(NOTE)"
	$(BIN)/lpsnet-bench --output out/bench_cpu_lite0 --models $(LITE0) --against upsnet panoptic_fpn \
		--sizes 360x480 --threads 2 --title "EfficientNet-Lite0, the model that comes with the package" --note "$(NOTE)"
	$(BIN)/lpsnet-bench --output out/bench_cpu_scaling --models $(R50) --sizes 128x192 --rounds 2 --threads 2 \
		--no-memory --scaling 800 1344 --scaling-rounds 3 --title "Cost against size, boxes and classes" --note "$(NOTE)"
	for r in r50 deployed lite0 scaling; do cp out/bench_cpu_$$r/bench.json benchmarks/results/bench_cpu_$$r.json; done
	$(BIN)/python -m lpsnet.engine.bench.page benchmarks/results docs/benchmarks.md

lint: $(VENV)/.installed
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy lpsnet engine export
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

format: $(VENV)/.installed
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/clang-format -i $(NATIVE)

# The op tests over a library with AddressSanitizer and UndefinedBehaviorSanitizer, which GCC's runtime brings. Python is
# not built with them, so their runtime is preloaded, with libstdc++ that they hook into. Leaks are not looked for: Python
# itself leaves memory to the end of the process.
SANITIZED_OPS := nms decode resize_normalize upsample_argmax paste_boxes postprocess deform_conv2d fused_deform_conv2d roi_align
SANITIZED_TESTS := $(wildcard $(SANITIZED_OPS:%=tests/test_%.py) tests/test_parallel.py)
sanitize: $(VENV)/.installed
	$(BIN)/cmake -S . -B build/sanitize -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DLPS_SANITIZE=ON
	$(BIN)/cmake --build build/sanitize
	LPSNET_LIBRARY=$(CURDIR)/build/sanitize/liblpsnet.so ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	LD_PRELOAD="$$(for l in asan ubsan stdc++; do c++ -print-file-name=lib$$l.so; done | xargs)" \
	$(BIN)/python -m pytest -n 0 $(SANITIZED_TESTS)

# The same tests over the CUDA code, run on the CPU by tests/cuda_emulation. Minutes: each CUDA thread is a fiber.
EMULATED_OPS := nms decode resize_normalize upsample_argmax paste_boxes postprocess roi_align fused_deform_conv2d logits_formats
test-emulated: $(VENV)/.installed
	$(BIN)/cmake -S . -B build/emulated -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DLPSNET_CUDA=EMULATED
	$(BIN)/cmake --build build/emulated
	LPSNET_LIBRARY=$(CURDIR)/build/emulated/liblpsnet.so OMP_NUM_THREADS=1 \
	$(BIN)/python -m pytest -n 2 --emulated-cuda $(EMULATED_OPS:%=tests/test_%.py) -k 'not every_number_of_16_bits' \
		--deselect tests/test_postprocess.py::test_a_workspace_that_is_missing_or_small_is_named

# Compiles the kernels for the oldest and the newest architecture, or for every one; warnings and register spills are
# errors. It wants nvcc and no GPU, and says so where there is no nvcc.
cuda: $(VENV)/.installed
	$(BIN)/python cmake/compile_cuda.py build/cuda
cuda-all: $(VENV)/.installed
	$(BIN)/python cmake/compile_cuda.py build/cuda-all --all

# On a machine with a GPU; docs/gpu.md. `gpu` does all of it and writes what it measured to benchmarks/results.
test-gpu sanitize-gpu gpu: $(VENV)/.installed
	PYTHON=$(abspath $(BIN))/python benchmarks/gpu.sh $@

clean:
	rm -rf build out *.egg-info lpsnet/native/liblpsnet.so
