"""Runs the cases of a benchmark: every network at every size, batch and precision."""

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lpsnet.config import DEFAULT_MODEL

from .case_images import images_at
from .machine import Snapshot, conditions, warnings
from .measure import measure
from .memory import peak_memory
from .results import Absent, Case, Memory, SubjectResult
from .subjects import BASELINES, Boxes, Plan, Subject, build_subject, expect_size, is_ours

Say = Callable[[str], None]
Precision = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class Job:
    """What is measured.

    Attributes:
        models: each a packaged model, the path of a checkpoint or of an exported model, or a recipe, which has random
            weights.
        against: upsnet, panoptic_fpn, or a network of an installed package: mask2former_r50, eomt_large_640,
            torchvision_mask_rcnn_r50, detectron2_panoptic_fpn_r50; they have random weights and the first model's
            classes, backbone and input.
        sizes: of the images: a short side, for the sides of COCO's images (800 is 800x1333); HEIGHTxWIDTH; or own, for
            the images as they are and the models' own inputs.
        batches: images per run; above 1 for checkpoints and recipes alone.
        precisions: fp32, fp16, bf16; an exported model has its own.
        device: cpu, cuda or cuda:N.
        threads: of the CPU; 0 leaves the choice to the runtimes.
        compile: run our networks through torch.compile.
        boxes: model takes the models' own thresholds of score; all sets them to 0, so that as many boxes as may be
            come through; auto does so for random weights, which find none otherwise.
        rounds: that are timed.
        warmup: rounds before them that are not.
        stage_rounds: of the rounds, so many are followed by one that times the stages.
        memory: take the peak memory of each network, in a process of its own.
        memory_timeout: seconds that such a process may take.
    """

    models: tuple[str, ...] = (DEFAULT_MODEL,)
    against: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ("own",)
    batches: tuple[int, ...] = (1,)
    precisions: tuple[Precision, ...] = ("fp32",)
    device: str = "cpu"
    threads: int = 0
    compile: bool = False
    boxes: Boxes = "auto"
    rounds: int = 10
    warmup: int = 1
    stage_rounds: int = 5
    memory: bool = True
    memory_timeout: float = 600.0

    def __post_init__(self) -> None:
        for name, least in (("rounds", 1), ("warmup", 0), ("stage_rounds", 0), ("threads", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if not self.models or not self.sizes or not self.batches or not self.precisions:
            raise ValueError("models, sizes, batches, precisions: expected at least one of each")
        if min(self.batches) < 1:
            raise ValueError(f"batches: expected at least 1, got {min(self.batches)}")
        if self.memory_timeout <= 0:
            raise ValueError(f"memory_timeout: expected more than 0 seconds, got {self.memory_timeout}")
        for size in self.sizes:
            expect_size(size)


def check_names(job: Job) -> tuple[tuple[str, ...], tuple[Absent, ...]]:
    """The networks of a job that can run here, models first, and the others.

    Raises:
        ValueError: a name that means nothing, or one that stands twice.
    """
    names = (*job.models, *job.against)
    if len(set(names)) != len(names):
        raise ValueError(f"models, against: expected each name once, got {', '.join(names)}")
    for name in job.models:
        if not is_ours(name):
            raise ValueError(f"models: expected a packaged model, a recipe or a file, got {name!r}")
    wanted = [name for name in job.against if name not in BASELINES]
    if not wanted:
        return names, ()
    from lpsnet.baselines.peers import peers

    known = dict(peers())
    for name in wanted:
        if name not in known:
            raise ValueError(f"against: expected one of {[*BASELINES, *known]}, got {name!r}")
    absent = tuple(Absent(name, reason) for name in wanted if (reason := known[name]) is not None)
    gone = {a.name for a in absent}
    return tuple(name for name in names if name not in gone), absent


def run_cases(job: Job, names: Sequence[str], sources: Sequence[Path], say: Say) -> Iterator[Case]:
    """Every case, as soon as it is done.

    Args:
        job: what is measured.
        names: of the networks, of `check_names`.
        sources: images.
        say: is told what goes on, a line each.
    """
    for size, batch, precision in itertools.product(job.sizes, job.batches, job.precisions):
        with tempfile.TemporaryDirectory(prefix="lpsnet-bench-") as folder:
            image = expect_size(size)
            paths = images_at(sources, image, Path(folder))
            plans = {
                name: Plan(
                    name, job.models[0], image, batch, precision, job.device, job.threads, job.compile, job.boxes
                )
                for name in names
            }
            yield _Run(job, size, plans, paths, say).case()


@dataclass
class _Run:
    """One case."""

    job: Job
    size: str
    plans: dict[str, Plan]
    paths: list[Path]
    say: Say
    results: dict[str, SubjectResult] = field(default_factory=dict)

    def case(self) -> Case:
        plan = next(iter(self.plans.values()))
        title = f"size {self.size}, batch {plan.batch}, {plan.precision}"
        self.results = {name: SubjectResult(name) for name in self.plans}
        if self.job.memory:
            for name in self.plans:
                self.say(f"{title}: memory of {name}")
                self._take_memory(name)
        subjects = self._build(title)
        self.say(f"{title}: {self.job.rounds} rounds in turns")
        before = Snapshot.take()
        measured, order = measure(
            subjects, self.paths, plan.batch, self.job.rounds, self.job.warmup, self.job.stage_rounds, self._failed
        )
        found = conditions(before, Snapshot.take())
        for name, times in measured.items():
            self._set(name, measured=times)
        ordered = tuple(self.results.values())
        lines = warnings(found, ordered)
        return Case(self.size, plan.image, plan.batch, plan.precision, tuple(order), ordered, found, lines)

    def _take_memory(self, name: str) -> None:
        memory: Memory | None = None
        why = None
        try:
            memory = peak_memory(self.plans[name], self.paths, self.job.memory_timeout)
        except RuntimeError as error:
            why = str(error)
        self._set(name, memory=memory, memory_failed=why)

    def _build(self, title: str) -> dict[str, Subject]:
        subjects = {}
        for name, plan in self.plans.items():
            self.say(f"{title}: building {name}")
            try:
                subject = subjects[name] = build_subject(plan)
            except Exception as error:  # of any library; the others are still worth measuring
                self._failed(name, error)
                continue
            self._set(
                name,
                runs_on=subject.runs_on,
                weights=subject.weights,
                postprocess=subject.postprocess,
                input=subject.input,
                costs=subject.costs(),
            )
        return subjects

    def _failed(self, name: str, error: Exception) -> None:
        self.say(f"{name}: {error}")
        self._set(name, failed=f"{type(error).__name__}: {error}".splitlines()[0])

    def _set(self, name: str, **values: object) -> None:
        self.results[name] = replace(self.results[name], **values)  # type: ignore[arg-type]
