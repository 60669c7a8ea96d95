"""What can be said of the library with CUDA code without a GPU. `make cuda` builds it, and `make test` runs that."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from op_cases import op_cases

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "build" / "cuda" / "liblpsnet.so"
PTXAS = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4keepPi' for 'sm_75'
ptxas info    : Function properties for _Z4keepPi
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 368 bytes cmem[0]
ptxas info    : Compiling entry function '_Z4walkPi' for 'sm_120'
ptxas info    : Function properties for _Z4walkPi
    {stack} bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers
"""
# Every operator, on the CPU; then a call that wants a GPU.
PROGRAM = """
from op_cases import op_cases
from lpsnet.native import library
from lpsnet.native.nms import NmsParams
seen = set()
for parameter in op_cases():
    case = parameter.values[0]
    op = case.name.split("-")[0]
    if op not in seen:
        case.verify()
        seen.add(op)
print(len(seen), library.library()._name, library.library().lps_num_cuda_devices())
try:
    library.call("nms", NmsParams(0, 0, 0.5), *[None] * 4, 256, 256, device=library.CUDA, workspace=256,
                 workspace_size=library.workspace_size("nms", NmsParams(0, 0, 0.5), library.CUDA))
except RuntimeError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def compile_cuda() -> ModuleType:
    path = ROOT / "cmake" / "compile_cuda.py"
    module = ModuleType("compile_cuda")
    module.__file__ = str(path)
    sys.modules["compile_cuda"] = module  # dataclasses look themselves up there
    exec(compile(path.read_text(), path, "exec"), vars(module))  # no file of bytecode among the sources of the build
    return module


def test_the_library_works_without_a_gpu():
    if not LIBRARY.exists():
        pytest.skip(f"there is no {LIBRARY.relative_to(ROOT)}: `make cuda` builds it where there is nvcc")
    sources = [*(ROOT / "csrc").rglob("*.*"), ROOT / "CMakeLists.txt"]
    if LIBRARY.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        pytest.skip(f"{LIBRARY.relative_to(ROOT)} is older than csrc: `make cuda` builds it")
    env = os.environ | {
        "LPSNET_LIBRARY": str(LIBRARY),
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": f"{ROOT}:{ROOT}/tests",
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ran, error = done.stdout.splitlines()
    operators = {parameter.id.split("-")[0] for parameter in op_cases()}
    assert ran == f"{len(operators)} {LIBRARY} 0"
    assert error.startswith("nms: ")
    assert "CUDA" in error


def test_spills_are_found(compile_cuda, capsys):
    assert compile_cuda.report(compile_cuda.parse(PTXAS.format(stack=0, stores=0, loads=0))) == 0
    assert capsys.readouterr().out.splitlines() == [
        "sm_75: 1 kernels, at most 32 registers and 0 bytes of stack",
        "sm_120: 1 kernels, at most 255 registers and 0 bytes of stack",
    ]
    assert compile_cuda.report(compile_cuda.parse(PTXAS.format(stack=16, stores=8, loads=12))) == 1
    assert capsys.readouterr().err.splitlines() == ["sm_120: _Z4walkPi spills 20 bytes"]


def test_a_machine_without_nvcc_has_nothing_to_compile(compile_cuda, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDACXX", raising=False)
    monkeypatch.setattr(compile_cuda, "USUAL_NVCC", str(tmp_path / "nvcc"))
    monkeypatch.setattr(sys, "argv", ["compile_cuda", str(tmp_path)])
    assert compile_cuda.main() == 0
    assert "skipped" in capsys.readouterr().out


def test_the_oldest_and_the_newest_architecture_that_the_compiler_knows(compile_cuda, tmp_path):
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\nprintf 'sm_70\\nsm_75\\nsm_80\\nsm_90\\n'\n")
    nvcc.chmod(0o755)
    assert compile_cuda.architectures(str(nvcc)) == ["75", "80", "90"]
