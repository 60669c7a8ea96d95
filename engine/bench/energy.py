"""Joules that the machine says it used: of the processor's packages, and of NVIDIA GPUs."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

_RAPL = Path("/sys/class/powercap")


class EnergyMeter:
    """Sums the counters that can be read here, for all that runs on the machine.

    Args:
        rapl: the folder of the kernel's power capping zones.

    Attributes:
        source: of the joules, in words.
    """

    def __init__(self, rapl: Path = _RAPL) -> None:
        self._counters: list[Callable[[], float]] = []
        sources = []
        for zone in sorted(rapl.glob("intel-rapl:*")):
            # Zones within a package, such as intel-rapl:0:0, are counted by it already.
            if zone.name.count(":") == 1 and _is_readable(zone / "energy_uj"):
                self._counters.append(_Rapl(zone))
                sources.append(f"RAPL {_text(zone / 'name')}")
        for index, handle in enumerate(_gpus()):
            self._counters.append(_Gpu(handle))
            sources.append(f"NVML GPU {index}")
        self.source = ", ".join(sources) or "not told here"

    def joules(self) -> float | None:
        """Since some point in the past; None where no counter can be read."""
        return sum(counter() for counter in self._counters) if self._counters else None


class _Rapl:
    """A counter of microjoules that starts again at zero after its range."""

    def __init__(self, zone: Path) -> None:
        self._file = zone / "energy_uj"
        self._range = int(_text(zone / "max_energy_range_uj") or 0)
        self._last = int(_text(self._file))
        self._turns = 0

    def __call__(self) -> float:
        now = int(_text(self._file))
        self._turns += now < self._last
        self._last = now
        return (now + self._turns * self._range) / 1e6


class _Gpu:
    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._nvml = import_module("pynvml")

    def __call__(self) -> float:
        return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3


def _gpus() -> list[Any]:
    """Handles of the GPUs whose driver counts joules (Volta and newer)."""
    try:
        nvml = import_module("pynvml")
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        for handle in handles:
            nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # the package, the driver or the counter is missing, each with an error of its own
        return []
    return handles


def _is_readable(path: Path) -> bool:
    try:
        return bool(path.read_text())
    except OSError:
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
