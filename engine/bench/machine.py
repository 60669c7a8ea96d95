"""What the machine is, and what else went on on it while something was measured. Linux tells most; others less."""

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter, process_time

import lpsnet

from .energy import EnergyMeter
from .results import Conditions, Machine, SubjectResult

_PACKAGES = ("torch", "onnxruntime", "numpy", "opencv-python-headless", "matplotlib", "transformers", "torchvision")
_VARIABLES = ("OMP_", "KMP_", "GOMP_", "MKL_NUM", "OPENBLAS_NUM", "MALLOC_", "LPSNET_")
"""Beginnings of the names of variables that change times or memory."""
_NVIDIA_SMI = 10
"""Seconds that nvidia-smi is waited for."""
_BUSY = 0.1
"""Share of the processors' time in other hands from which on there is a warning."""
_SPREAD = 0.1
"""Likewise of the difference between the slowest and the fastest round, over the median."""
_CLOCK = 0.05
"""Likewise of the change of the clock."""
_FEW_ROUNDS = 10


def machine_card() -> Machine:
    """This machine, without its name."""
    packages = [f"lpsnet {lpsnet.__version__}", f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            packages.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    gpus = _nvidia_smi("name,memory.total,driver_version") or ""
    return Machine(
        _processor(),
        os.cpu_count() or 1,
        _cpu_limit(),
        round(_memory_bytes() / 2**30, 1),
        f"{platform.system()} {platform.release()} {platform.machine()}",
        tuple(packages),
        tuple(gpus.split("; ")) if gpus else (),
        EnergyMeter().source,
        tuple(sorted(f"{k}={v}" for k, v in os.environ.items() if k.startswith(_VARIABLES))),
    )


@dataclass(frozen=True)
class Snapshot:
    """Counters at one moment."""

    wall: float
    own: float
    busy: float | None
    load: float | None
    mhz: float | None
    throttled_us: float | None
    gpu: str | None

    @classmethod
    def take(cls) -> "Snapshot":
        """Now."""
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        gpu = _nvidia_smi("clocks.sm,clocks.mem,temperature.gpu,power.draw,clocks_throttle_reasons.active")
        return cls(perf_counter(), process_time(), _busy_seconds(), load, _mhz(), _throttled_us(), gpu)


def conditions(before: Snapshot, after: Snapshot) -> Conditions:
    """What went on between two moments of this process."""
    others = None
    if before.busy is not None and after.busy is not None:
        spent = (after.busy - before.busy) - (after.own - before.own)
        others = min(1.0, max(0.0, spent / ((os.cpu_count() or 1) * max(after.wall - before.wall, 1e-9))))
    throttled = None
    if before.throttled_us is not None and after.throttled_us is not None:
        throttled = (after.throttled_us - before.throttled_us) / 1e3
    return Conditions(before.load, after.load, others, before.mhz, after.mhz, throttled, before.gpu, after.gpu)


def warnings(found: Conditions, subjects: tuple[SubjectResult, ...]) -> tuple[str, ...]:
    """What speaks against the numbers of a case, a line each."""
    lines = []
    if found.others is not None and found.others > _BUSY:
        lines.append(f"other processes took {found.others:.0%} of the processors' time: compare ratios, not times")
    if found.throttled_ms:
        lines.append(f"a limit of the control group held the process back for {found.throttled_ms:.0f} ms")
    before, after = found.mhz_before, found.mhz_after
    if before and after and abs(after - before) > _CLOCK * before:
        lines.append(f"the clock of the processors went from {before:.0f} to {after:.0f} MHz")
    inputs = {subject.input for subject in subjects if subject.input is not None}
    if len(inputs) > 1:
        lines.append("the networks have inputs of different sizes: " + ", ".join(f"{h}x{w}" for h, w in sorted(inputs)))
    for subject in subjects:
        if subject.measured is None:
            continue
        rounds = subject.measured.rounds_ms
        spread = (max(rounds) - min(rounds)) / subject.measured.times.median
        if spread > _SPREAD:
            lines.append(f"{subject.name}: slowest and fastest round are {spread:.0%} of the median apart")
        if len(rounds) < _FEW_ROUNDS:
            lines.append(f"{subject.name}: p90 and p99 of {len(rounds)} rounds say little")
    return tuple(lines)


def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _cpu_limit() -> float | None:
    words = " ".join(_lines("/sys/fs/cgroup/cpu.max")).split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdigit() else None


def _throttled_us() -> float | None:
    for line in _lines("/sys/fs/cgroup/cpu.stat"):
        if line.startswith("throttled_usec"):
            return float(line.split()[1])
    return None


def _busy_seconds() -> float | None:
    """Of all processors together, since the start of the machine; waiting for disks is not busy."""
    for line in _lines("/proc/stat"):
        if line.startswith("cpu "):
            ticks = [int(v) for v in line.split()[1:9]]
            return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    return None


def _mhz() -> float | None:
    clocks = [float(line.partition(":")[2]) for line in _lines("/proc/cpuinfo") if line.startswith("cpu MHz")]
    return sum(clocks) / len(clocks) if clocks else None


def _nvidia_smi(query: str) -> str | None:
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_NVIDIA_SMI, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return "; ".join(line.strip() for line in done.stdout.splitlines() if line.strip()) or None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
