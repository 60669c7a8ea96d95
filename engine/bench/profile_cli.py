"""``lpsnet-profile``: one run of a network under torch's profiler."""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from lpsnet import atomic
from lpsnet.config import DEFAULT_MODEL

from .case_images import images_at, source_images
from .machine import machine_card
from .profile_page import profile_page
from .profiler import Profile, profile, run_for_tools
from .runner import Precision
from .subjects import BASELINES, Boxes, Plan, build_subject, expect_size, is_ours

TRACE, PAGE = "trace.json.gz", "profile.html"


@dataclass(frozen=True)
class Arguments:
    """Profiles one run of a network, from an image file to the panoptic map, and writes what there is to see.

    Writes profile.html (stages, memory over time, the operators that took most) and trace.json.gz, which Perfetto and
    chrome://tracing show. The stages are ranges in the trace, on CUDA also of NVTX, for Nsight.

    Attributes:
        output: folder for both.
        model: a packaged model, a checkpoint or a recipe, for random weights; or upsnet or panoptic_fpn.
        recipe: that upsnet and panoptic_fpn take classes, backbone and input from.
        image: a file; the photograph that comes with the package where none is given.
        size: of the image: a short side, HEIGHTxWIDTH, or own, as in lpsnet-bench.
        device: cpu, cuda or cuda:N.
        precision: of the network.
        threads: of the CPU; 0 leaves the choice to the runtimes.
        boxes: as in lpsnet-bench.
        warmup: runs before the one that is profiled.
        profiler: torch's, or none: ranges alone and no files, for a profiler that watches from outside (nsys, ncu) and
            cannot share a GPU's counters with torch's.
        top: so many operators in the table.
    """

    output: Path
    model: str = DEFAULT_MODEL
    recipe: str = DEFAULT_MODEL
    image: Path | None = None
    size: str = "own"
    device: str = "cpu"
    precision: Precision = "fp32"
    threads: int = 0
    boxes: Boxes = "auto"
    warmup: int = 2
    profiler: Literal["torch", "none"] = "torch"
    top: int = 30

    def __post_init__(self) -> None:
        for name, least in (("threads", 0), ("warmup", 0), ("top", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")


def main(args: Sequence[str] | None = None) -> None:
    """The entry point: exits with 1 and one line where the user can mend what is wrong, 2 for a bad usage."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        arguments = tyro.cli(Arguments, args=args)
    except ValueError as error:  # of a setting out of its range
        errors.print(f"lpsnet-profile: {error}", style="red", markup=False)
        sys.exit(2)
    try:
        run(arguments, Console())
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        errors.print(f"lpsnet-profile: {error}", style="red", markup=False)
        sys.exit(1)


def run(arguments: Arguments, console: Console) -> None:
    """Profiles, prints the operators and writes both files; or runs with ranges alone and prints the stages.

    Raises:
        ValueError: a model, an image, a size or a device that does not fit.
    """
    if not is_ours(arguments.model) and arguments.model not in BASELINES:
        raise ValueError(
            f"model: expected a packaged model, a recipe, a file or one of {list(BASELINES)}, got {arguments.model!r}"
        )
    image = expect_size(arguments.size)
    plan = Plan(
        arguments.model,
        arguments.recipe,
        image,
        precision=arguments.precision,
        device=arguments.device,
        threads=arguments.threads,
        boxes=arguments.boxes,
    )
    subject = build_subject(plan)
    with tempfile.TemporaryDirectory(prefix="lpsnet-profile-") as folder:
        sources = source_images([str(arguments.image)] if arguments.image else [])
        paths = images_at(sources[:1], image, Path(folder))
        cuda = arguments.device.startswith("cuda")
        if arguments.profiler == "none":
            console.print(stage_table(run_for_tools(subject, paths, arguments.warmup, cuda)))
            return
        arguments.output.mkdir(parents=True, exist_ok=True)
        found = profile(subject, paths, arguments.output / TRACE, arguments.warmup, cuda, arguments.top)
    title = f"{arguments.model}, size {arguments.size}: {subject.runs_on}"
    page = profile_page(title, machine_card(), found, TRACE)
    atomic.write_bytes(arguments.output / PAGE, page.encode())
    console.print(operator_table(found))
    console.print(f"{PAGE} and {TRACE} in [bold]{arguments.output}[/]")


def stage_table(stages: Mapping[str, float]) -> Table:
    """Milliseconds per stage, for the terminal."""
    table = Table("stage")
    table.add_column("ms", justify="right")
    for name, ms in stages.items():
        table.add_row(name, f"{ms:.2f}")
    return table


def operator_table(found: Profile) -> Table:
    """The operators that took most, for the terminal."""
    table = Table("operator", title="Milliseconds under the profiler, of each alone")
    for column in ("calls", "processor", "device"):
        table.add_column(column, justify="right")
    for o in found.operators[:12]:
        table.add_row(o.name, str(o.calls), f"{o.cpu_ms:.2f}", f"{o.device_ms:.2f}")
    return table


if __name__ == "__main__":
    main()
