"""Peak memory of one network, in a process that runs nothing else."""

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lpsnet.fields import from_dict
from lpsnet.inference import StageTimer
from lpsnet.memory import give_back_freed_memory

from .results import Memory, StageMemory
from .subjects import Plan, build_subject

_STATUS = Path("/proc/self/status")
_PEAK = Path("/proc/self/clear_refs")
_PERIOD = 0.002
"""Seconds between two looks at the resident memory."""
_RUNS = 2
_MODULE = __name__


def peak_memory(plan: Plan, images: Sequence[Path], timeout: float) -> Memory:
    """Runs a network in a fresh process and returns what memory it took.

    Args:
        plan: of the network.
        images: files, of which the first `plan.batch` are taken.
        timeout: in seconds.

    Raises:
        RuntimeError: the process failed, took too long or cannot tell; the message says why.
    """
    job = {"plan": dataclasses.asdict(plan), "images": [str(p) for p in images]}
    command = [sys.executable, "-c", f"import {_MODULE} as m, sys; m.alone(sys.argv[1])", json.dumps(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"memory: expected an answer within {timeout:.0f} s, got none") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(f"memory: the process of {plan.name} failed: {lines[-1]}")
    return from_dict(Memory, json.loads(done.stdout.splitlines()[-1]))


def alone(job: str) -> None:
    """What the fresh process does: runs the network of a job, in JSON, and prints its memory in JSON."""
    data = json.loads(job)
    plan = from_dict(Plan, data["plan"])
    images = [Path(p) for p in data["images"]]
    paths = [images[k % len(images)] for k in range(plan.batch)]
    _resident("VmRSS")  # raises at once where the system does not tell
    subject = build_subject(plan)
    give_back_freed_memory()  # as `load` does, for all networks alike
    device = plan.device if plan.device.startswith("cuda") else None
    before = _resident("VmRSS")
    _PEAK.write_text("5")  # the peaks count from here
    if device is not None:
        _forget_device_peak(device)
    for _ in range(_RUNS):
        subject.run(paths, StageTimer(), False)
    peak, device_peak = _resident("VmHWM"), _device_peak(device)
    with StagePeaks(device) as timer:
        subject.run(paths, timer, True)
    memory = Memory(before, peak, device_peak, timer.peaks())
    print(json.dumps(dataclasses.asdict(memory)))


class StagePeaks(StageTimer):
    """A `StageTimer` that takes the peak of each stage too: of the host by looking often, of the device by torch.

    Args:
        device: a CUDA device; None for none.
    """

    def __init__(self, device: str | None) -> None:
        super().__init__()
        self._device = device
        self._open: list[str] = []
        self._host: dict[str, float] = {}
        self._on_device: dict[str, float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "StagePeaks":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self._close_device_window()
        self._open.append(stage)
        self._sample()
        try:
            with super().__call__(stage):
                yield
            self._sample()
            self._close_device_window()
        finally:
            self._open.remove(stage)

    def peaks(self) -> tuple[StageMemory, ...]:
        """Of each stage that ran, in the order in which they began."""
        return tuple(StageMemory(name, mb, self._on_device.get(name)) for name, mb in self._host.items())

    def _look(self) -> None:
        while not self._stopped.wait(_PERIOD):
            self._sample()

    def _sample(self) -> None:
        now = _resident("VmRSS")
        for stage in tuple(self._open):
            self._host[stage] = max(self._host.get(stage, 0.0), now)

    def _close_device_window(self) -> None:
        """Gives the device's peak since the last call to the stages that were open meanwhile."""
        peak = _device_peak(self._device)
        if peak is not None:
            for stage in self._open:
                self._on_device[stage] = max(self._on_device.get(stage, 0.0), peak)
            _forget_device_peak(self._device)


def _resident(field: str) -> float:
    """MB of this process, now (VmRSS) or at most (VmHWM)."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        raise RuntimeError("expected /proc/self/status, which Linux has") from None
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1e3


def _forget_device_peak(device: str | None) -> None:
    import torch

    torch.cuda.reset_peak_memory_stats(device)


def _device_peak(device: str | None) -> float | None:
    if device is None:
        return None
    import torch

    return torch.cuda.max_memory_allocated(device) / 1e6
