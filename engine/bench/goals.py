"""What the networks here should reach beside the two-stage ones, and whether results show it."""

from dataclasses import dataclass
from typing import Literal

from lpsnet.config import RECIPES

from .results import Case, Results, SubjectResult
from .table import processor_ms, share_of_postprocess

FASTER = {"upsnet": 2.0, "panoptic_fpn": 1.5}
"""Times that LPSNet should be as fast as them on the CPU."""
FASTER_ON_GPU = {"upsnet": 3.0, "panoptic_fpn": 1.5}
"""Likewise on a GPU."""
MEMORY = {"upsnet": 0.5}
"""Share of their peak memory that LPSNet should take at most."""
DEVICE_MEMORY = {"upsnet": 1 / 3}
"""Likewise of the memory of a GPU."""
POSTPROCESS = 0.03
"""Share of its own time that LPSNet's post-processing should take at most."""
LINEAR = 1.1
"""Exponent that counts as linear: what is above 1 is for noise and caches."""


@dataclass(frozen=True)
class Verdict:
    """One goal and what was found."""

    what: str
    found: float
    bound: Literal["at least", "at most"]
    wanted: float

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.found >= self.wanted if self.bound == "at least" else self.found <= self.wanted


def verdicts(results: Results) -> list[Verdict]:
    """Of every case with a network of ours beside the two-stage ones, and of every fit."""
    found = [v for case in results.cases for v in _of_case(case)]
    for s in results.scaling:
        found.append(Verdict(f"{s.what} against {s.against}: exponent", s.exponent, "at most", LINEAR))
    return found


def _of_case(case: Case) -> list[Verdict]:
    others = {s.name: s for s in case.subjects if s.name in FASTER and s.measured}
    found = []
    for ours in case.subjects:
        if not others or ours.measured is None or not _is_ours(ours):
            continue
        at = f"{ours.name}, size {case.size}, {ours.precision(case)}"
        for name, other in others.items():
            found += _beside(at, ours, name, other)
        share = share_of_postprocess(ours)
        if share is not None:
            found.append(Verdict(f"{at}: share of post-processing", share, "at most", POSTPROCESS))
    return found


def _is_ours(s: SubjectResult) -> bool:
    """A recipe's network, or one of a file; other networks have random weights and names that are no recipes."""
    return s.name in RECIPES or s.weights.startswith("sha256")


def _beside(at: str, ours: SubjectResult, name: str, other: SubjectResult) -> list[Verdict]:
    found = []
    on_gpu = "cuda" in ours.runs_on
    if ours.measured and other.measured:
        ratio = other.measured.times.median / ours.measured.times.median
        wanted = (FASTER_ON_GPU if on_gpu else FASTER)[name]
        found.append(Verdict(f"{at}: times as fast as {name}", ratio, "at least", wanted))
    if ours.memory and other.memory and ours.memory.device_mb and other.memory.device_mb and name in DEVICE_MEMORY:
        share = ours.memory.device_mb / other.memory.device_mb
        what = f"{at}: share of the device memory of {name}"
        found.append(Verdict(what, share, "at most", DEVICE_MEMORY[name]))
    if on_gpu:  # the processor and its memory are not what matters there
        return found
    ours_ms, other_ms = processor_ms(ours), processor_ms(other)
    if ours_ms and other_ms:
        what = f"{at}: times as fast as {name}, by time of the processor"
        found.append(Verdict(what, other_ms / ours_ms, "at least", FASTER[name]))
    if ours.memory and other.memory and name in MEMORY:
        what = f"{at}: share of the peak memory of {name}"
        found.append(Verdict(what, ours.memory.peak_mb / other.memory.peak_mb, "at most", MEMORY[name]))
        above = [s.peak_mb - s.before_mb for s in (ours.memory, other.memory)]
        if above[1] > 0:
            what = f"{at}: share of its memory above what the process starts with"
            found.append(Verdict(what, above[0] / above[1], "at most", MEMORY[name]))
    return found
