"""Compiles liblpsnet with its CUDA kernels, which wants nvcc and no GPU, and says what the kernels take.

Warnings are errors, and so are registers that spill to memory. Without nvcc there is nothing to do.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
USUAL_NVCC = "/usr/local/cuda/bin/nvcc"
_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\w+)'")
_MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")


@dataclass
class Kernel:
    """What ptxas says of a kernel for an architecture."""

    name: str
    arch: str
    registers: int = 0
    stack: int = 0
    spilled: int = 0


def parse(output: str) -> list[Kernel]:
    """The kernels in what ``ptxas -v`` prints."""
    kernels: list[Kernel] = []
    for line in output.splitlines():
        if entry := _ENTRY.search(line):
            kernels.append(Kernel(entry[1], entry[2]))
        elif kernels and (memory := _MEMORY.search(line)):
            stack, stores, loads = map(int, memory.groups())
            kernels[-1].stack = max(kernels[-1].stack, stack)
            kernels[-1].spilled += stores + loads
        elif kernels and (registers := _REGISTERS.search(line)):
            kernels[-1].registers = int(registers[1])
    return kernels


def report(kernels: list[Kernel]) -> int:
    """Prints a line for each architecture and what spills; returns the exit code."""
    by_arch: dict[str, list[Kernel]] = defaultdict(list)
    for kernel in kernels:
        by_arch[kernel.arch].append(kernel)
    for arch in sorted(by_arch, key=lambda name: int(re.sub(r"\D", "", name))):
        most, stack = max(k.registers for k in by_arch[arch]), max(k.stack for k in by_arch[arch])
        print(f"sm_{arch}: {len(by_arch[arch])} kernels, at most {most} registers and {stack} bytes of stack")
    spilling = [k for k in kernels if k.spilled]
    for kernel in spilling:
        print(f"sm_{kernel.arch}: {kernel.name} spills {kernel.spilled} bytes", file=sys.stderr)
    return 1 if spilling else 0


def find_nvcc() -> str | None:
    """The compiler that CMake takes too."""
    return os.environ.get("CUDACXX") or shutil.which("nvcc") or shutil.which(USUAL_NVCC)


def architectures(nvcc: str) -> list[str]:
    """Those that the library is built for and that this nvcc knows, oldest first."""
    wanted = re.search(r'LPSNET_CUDA_ARCHS "([\d;]+)"', (ROOT / "CMakeLists.txt").read_text())
    if wanted is None:
        raise SystemExit("compile_cuda: expected a default of LPSNET_CUDA_ARCHS in CMakeLists.txt")
    known = subprocess.run([nvcc, "--list-gpu-code"], check=True, capture_output=True, text=True).stdout.split()
    return [arch for arch in wanted[1].split(";") if f"sm_{arch}" in known]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path, help="the folder to build in")
    parser.add_argument("--all", action="store_true", help="every architecture, not the oldest and the newest alone")
    arguments = parser.parse_args()
    nvcc = find_nvcc()
    if nvcc is None:
        print("cuda: skipped, for there is no nvcc in PATH, in /usr/local/cuda or named by CUDACXX")
        return 0
    archs = architectures(nvcc)
    chosen = archs if arguments.all else archs[:: max(1, len(archs) - 1)]
    print(f"cuda: sm_{', sm_'.join(chosen)} by {nvcc}", flush=True)
    options = ["-DLPSNET_CUDA=ON", f"-DLPSNET_CUDA_ARCHS={';'.join(chosen)}", "-DCMAKE_CUDA_FLAGS=-Xptxas=-v"]
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    cmake, ninja = shutil.which("cmake", path=tools), shutil.which("ninja", path=tools)
    if cmake is None or ninja is None:
        raise SystemExit(f"compile_cuda: expected cmake and ninja in {tools}")
    options += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", f"-DCMAKE_CUDA_COMPILER={nvcc}"]
    for command in (["-S", str(ROOT), "-B", str(arguments.build), *options], ["--build", str(arguments.build)]):
        done = subprocess.run([cmake, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            print(done.stdout)
            return done.returncode
    return report(parse(done.stdout))


if __name__ == "__main__":
    sys.exit(main())
