"""Runs networks in turns and takes their times."""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time

from lpsnet.structures import PanopticResult

from .energy import EnergyMeter
from .results import Measured, Stage, Times
from .stages import WorkTimer, watching_ms
from .subjects import Subject


@dataclass
class _Taken:
    """What was taken of one network, warm-up not included."""

    rounds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    energy: list[float] = field(default_factory=list)
    staged: list[dict[str, float]] = field(default_factory=list)
    staged_work: list[dict[str, float]] = field(default_factory=list)
    staged_totals: list[float] = field(default_factory=list)
    result: PanopticResult | None = None


def round_order(names: Sequence[str], index: int) -> list[str]:
    """The networks in the order of one round: forwards, then backwards, then with another one first, so that neither a
    machine that gets slower nor the neighbour that ran before favours one.

    >>> ["".join(round_order("ab", i)) for i in range(4)]
    ['ab', 'ba', 'ba', 'ab']
    >>> ["".join(round_order("abc", i)) for i in range(4)]
    ['abc', 'cba', 'bca', 'acb']
    """
    start = index // 2 % max(1, len(names))
    turned = [*names[start:], *names[:start]]
    return turned if index % 2 == 0 else turned[::-1]


def measure(
    subjects: Mapping[str, Subject],
    images: Sequence[Path],
    batch: int,
    rounds: int,
    warmup: int,
    stage_rounds: int,
    failed: Callable[[str, Exception], None],
) -> tuple[dict[str, Measured], list[str]]:
    """Times every network over the same images, in turns.

    Args:
        subjects: by name.
        images: files; a round takes the next `batch` of them, from the first again after the last.
        batch: images per run.
        rounds: that are timed, after `warmup` that are not.
        stage_rounds: of the rounds, so many are followed by one that times the stages, where that takes a run apart.
        failed: is told of a network that raises; it is not run again, the others go on.

    Returns:
        What was measured of each that did not fail; and the names in the order in which the timed rounds ran.
    """
    alive = dict(subjects)
    taken = {name: _Taken() for name in subjects}
    ran: list[str] = []
    meter = EnergyMeter()
    for index in range(-warmup, rounds):
        paths = [images[(index * batch + k) % len(images)] for k in range(batch)]
        for name in round_order(list(subjects), max(index, 0)):
            if name not in alive:
                continue
            try:
                _run_round(alive[name], taken[name] if index >= 0 else _Taken(), paths, index < stage_rounds, meter)
            except Exception as error:  # of any library; the others are still worth measuring
                del alive[name]
                failed(name, error)
                continue
            if index >= 0:
                ran.append(name)
    return {name: _measured(subject, taken[name], batch) for name, subject in alive.items()}, ran


def _run_round(subject: Subject, taken: _Taken, paths: Sequence[Path], staged: bool, meter: EnergyMeter) -> None:
    timer = WorkTimer()
    gc.collect()
    joules, work, begin = meter.joules(), process_time(), perf_counter()
    result = subject.run(paths, timer, False)
    end = perf_counter()
    taken.rounds.append(1e3 * (end - begin))
    taken.processor.append(1e3 * (process_time() - work))
    if joules is not None:
        taken.energy.append(((meter.joules() or joules) - joules) / len(paths))
    taken.result = result
    if subject.stages_apart:
        if not staged:
            return
        timer = WorkTimer()
        begin = perf_counter()
        subject.run(paths, timer, True)
        end = perf_counter()
    taken.staged.append(subject.stages(timer.timings))
    taken.staged_work.append(subject.stages(timer.work))
    taken.staged_totals.append(1e3 * (end - begin))


def _measured(subject: Subject, taken: _Taken, batch: int) -> Measured:
    times = Times.of(taken.rounds)
    names = list(taken.staged[0]) if taken.staged else []
    stages = {name: Times.of([s[name] for s in taken.staged]) for name in names}
    work = {name: Times.of([s[name] for s in taken.staged_work]).median for name in names}
    total = sum(t.median for t in stages.values()) or 1.0
    result = taken.result
    return Measured(
        tuple(taken.rounds),
        tuple(taken.processor),
        times,
        1e3 * batch / times.median,
        tuple(Stage(name, t, t.median / total, work[name]) for name, t in stages.items()),
        Times.of(taken.staged_totals).median if taken.staged_totals else 0.0,
        watching_ms(len(names) + 1),
        len(result.detections or ()) if result else 0,
        len(result.segments) if result else 0,
        Times.of(taken.energy).median if taken.energy else None,
    )
