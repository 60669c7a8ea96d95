"""What a benchmark found, as it stands in a JSON file."""

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpsnet import atomic
from lpsnet.fields import from_dict

SCHEMA = 1
"""Of the JSON file; a file of another number is not read."""


@dataclass(frozen=True)
class Times:
    """Milliseconds over the rounds. Percentiles lie on the line between the two samples beside them."""

    median: float
    p90: float
    p99: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Times":
        """Those of at least one sample."""
        return cls(*(float(v) for v in np.percentile(samples, (50, 90, 99))))


@dataclass(frozen=True)
class Stage:
    """One stage of a network.

    Attributes:
        share: of the sum of all stages, 0..1.
        processor_ms: median time of the processor, all threads.
    """

    name: str
    times: Times
    share: float
    processor_ms: float


@dataclass(frozen=True)
class StageMemory:
    """Peak during a stage, in MB: resident on the host, and of torch on the device."""

    name: str
    host_mb: float
    device_mb: float | None = None


@dataclass(frozen=True)
class Memory:
    """Of a fresh process that runs one network.

    Attributes:
        before_mb: resident before the first image: Python, libraries and weights.
        peak_mb: the most that was resident while images ran.
        device_mb: the most that torch had allocated on the device; None without one.
        stages: from a further run with a sampler beside it.
    """

    before_mb: float
    peak_mb: float
    device_mb: float | None = None
    stages: tuple[StageMemory, ...] = ()


@dataclass(frozen=True)
class PartCost:
    """Parameters and multiply-accumulates of one part, for one image."""

    name: str
    parameters: int
    macs: int


@dataclass(frozen=True)
class Measured:
    """The times of one network.

    Attributes:
        rounds_ms: from file to panoptic map on the host, a batch each, in the order they ran.
        processor_ms: time of the processor, all threads, in the same rounds.
        times: of `rounds_ms`.
        throughput: images per second, at the median.
        stages: from rounds of their own, where watching the stages takes another way through the code.
        staged_ms: median of the rounds that the stages are of.
        watching_ms: what timing the stages costs per run, measured with empty ones.
        boxes, segments: of the last image.
        energy_j: joules per image; None where the machine does not tell.
    """

    rounds_ms: tuple[float, ...]
    processor_ms: tuple[float, ...]
    times: Times
    throughput: float
    stages: tuple[Stage, ...]
    staged_ms: float
    watching_ms: float
    boxes: int
    segments: int
    energy_j: float | None = None


@dataclass(frozen=True)
class SubjectResult:
    """One network in one case.

    Attributes:
        name: as it was given.
        runs_on: runtime, device, precision.
        weights: random, or the SHA-256 of the file that was timed.
        postprocess: settings that differ from the model's own.
        input: (height, width) of the network's input; None where the package does not tell.
        failed: why there are no times.
        memory_failed: why there is no memory.
    """

    name: str
    runs_on: str = ""
    weights: str = ""
    postprocess: str = ""
    input: tuple[int, int] | None = None
    failed: str | None = None
    measured: Measured | None = None
    memory: Memory | None = None
    memory_failed: str | None = None
    costs: tuple[PartCost, ...] = ()

    def precision(self, case: "Case") -> str:
        """Of the network: that of the case, unless what runs is an exported model, which has its own."""
        told = re.findall(r"\b(?:fp32|fp16|bf16|int8)\b", self.runs_on)
        return told[-1] if told else case.precision

    @property
    def parameters(self) -> int | None:
        """Of all parts; None where they are not known."""
        return sum(c.parameters for c in self.costs) or None

    @property
    def macs(self) -> int | None:
        """Of all parts, for one image; None where they are not known."""
        return sum(c.macs for c in self.costs) or None


@dataclass(frozen=True)
class Conditions:
    """Of the machine during a case; None is what it does not tell.

    Attributes:
        load_before, load_after: the load average over a minute.
        others: share of the processors' time that other processes took, 0..1.
        mhz_before, mhz_after: mean clock of the processors.
        throttled_ms: for which a limit of the control group held this process back.
        gpu_before, gpu_after: clocks, temperature, power and reasons for throttling, as nvidia-smi words them.
    """

    load_before: float | None
    load_after: float | None
    others: float | None
    mhz_before: float | None
    mhz_after: float | None
    throttled_ms: float | None
    gpu_before: str | None
    gpu_after: str | None


@dataclass(frozen=True)
class Case:
    """All networks at one size, batch and precision, interleaved.

    Attributes:
        size: as it was given.
        image: (height, width) of the images; None where they were taken as they are.
        order: names, in the order in which they ran, all rounds after the warm-up.
        warnings: what speaks against the numbers.
    """

    size: str
    image: tuple[int, int] | None
    batch: int
    precision: str
    order: tuple[str, ...]
    subjects: tuple[SubjectResult, ...]
    conditions: Conditions
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Series:
    """Cost against one quantity: ms ~ value ** exponent, by least squares over the logarithms.

    Attributes:
        what: is timed.
        against: the quantity.
        fixed: all else, in words.
        values, ms: the points; medians of the time of the processor, all threads.
        exponent: 1 is linear.
        r2: share of the variance of log(ms) that the fit explains.
    """

    what: str
    against: str
    fixed: str
    values: tuple[float, ...]
    ms: tuple[float, ...]
    exponent: float
    r2: float


@dataclass(frozen=True)
class Machine:
    """What it was measured on.

    Attributes:
        versions: such as ``torch 2.13.0``.
        limit: processors that the control group allows; None without a limit.
        energy: where the joules are from.
        environment: variables that change how threads wait and how many there are, NAME=VALUE.
    """

    processor: str
    cores: int
    limit: float | None
    memory_gb: float
    system: str
    versions: tuple[str, ...]
    gpus: tuple[str, ...]
    energy: str
    environment: tuple[str, ...] = ()


@dataclass(frozen=True)
class Absent:
    """A network that was asked for and is not installed."""

    name: str
    reason: str


@dataclass(frozen=True)
class Results:
    """All of one command."""

    command: str
    date: str
    note: str
    machine: Machine
    threads: int
    rounds: int
    warmup: int
    images: tuple[str, ...]
    cases: tuple[Case, ...] = ()
    scaling: tuple[Series, ...] = ()
    absent: tuple[Absent, ...] = ()
    title: str = ""
    schema: int = SCHEMA


def write_results(path: Path, results: Results) -> None:
    """Writes the JSON file. Raises OSError where that cannot be."""
    atomic.write_bytes(path, (json.dumps(dataclasses.asdict(results), indent=1) + "\n").encode())


def read_results(path: Path) -> Results:
    """Reads what `write_results` wrote.

    Raises:
        ValueError: another file, or one of another schema; the message names the file and the field.
        OSError: it cannot be read.
    """
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and data.get("schema") != SCHEMA:
            raise ValueError(f"schema: expected {SCHEMA}, got {data.get('schema')!r}")
        return from_dict(Results, data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
