"""The logic of lpsnet-bench: order, statistics, warnings, tables, fits, goals; nothing here runs a network."""

import csv
import dataclasses
import json
import subprocess
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lpsnet.config import PostprocessConfig
from lpsnet.engine.bench import energy, machine
from lpsnet.engine.bench.case_images import images_at, source_images
from lpsnet.engine.bench.energy import EnergyMeter
from lpsnet.engine.bench.goals import verdicts
from lpsnet.engine.bench.machine import Snapshot, conditions, machine_card, warnings
from lpsnet.engine.bench.measure import measure, round_order
from lpsnet.engine.bench.memory import StagePeaks
from lpsnet.engine.bench.page import page, table_1
from lpsnet.engine.bench.plots import PICTURES, write_plots
from lpsnet.engine.bench.results import (
    SCHEMA,
    Case,
    Conditions,
    Measured,
    Memory,
    PartCost,
    Results,
    Series,
    Stage,
    StageMemory,
    SubjectResult,
    Times,
    read_results,
    write_results,
)
from lpsnet.engine.bench.scaling import fit, series_of
from lpsnet.engine.bench.scene import made_categories, made_outputs
from lpsnet.engine.bench.stages import WorkTimer, postprocess_share, split_network, watching_ms
from lpsnet.engine.bench.subjects import expect_size
from lpsnet.engine.bench.table import CSV_COLUMNS, PAPER, csv_text
from lpsnet.engine.images import ImageError, read_image
from lpsnet.inference import postprocess
from lpsnet.structures import PanopticResult

QUIET = Conditions(0.1, 0.1, 0.01, 3000.0, 3000.0, 0.0, None, None)


def measured(median: float, rounds: int = 10, postprocess: float = 1.0) -> Measured:
    stages = (
        Stage("network", Times(median - postprocess, median, median), 0.9, median - postprocess),
        Stage("decode", Times(postprocess, postprocess, postprocess), 0.1, postprocess),
    )
    taken = tuple(median + 0.01 * k for k in range(rounds))
    return Measured(taken, taken, Times.of(taken), 1e3 / median, stages, median, 0.01, 100, 20, 1.5)


def subject(name: str, median: float, peak: float = 800.0) -> SubjectResult:
    memory = Memory(300.0, peak, None, (StageMemory("network", peak),))
    return SubjectResult(
        name,
        "torch on cpu",
        "random",
        "",
        (800, 1344),
        None,
        measured(median),
        memory,
        None,
        (PartCost("backbone", 2_000_000, 3_000_000_000),),
    )


def results_of(*subjects: SubjectResult, size: str = "800", scaling: tuple[Series, ...] = ()) -> Results:
    case = Case(size, (800, 1333), 1, "fp32", tuple(s.name for s in subjects), subjects, QUIET, ("busy",))
    return Results("lpsnet-bench", "2026-01-02", "", machine_card(), 2, 10, 1, ("a.jpg",), (case,), scaling, title="T")


def test_times_are_numpys_percentiles():
    samples = [5.0, 1.0, 4.0, 2.0, 3.0]
    times = Times.of(samples)
    assert (times.median, times.p90, times.p99) == pytest.approx((3.0, 4.6, 4.96))
    assert Times.of([7.0]) == Times(7.0, 7.0, 7.0)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_network_has_every_place_equally_often(count):
    names = "abcd"[:count]
    rounds = [round_order(names, i) for i in range(2 * count)]
    assert all(sorted(order) == list(names) for order in rounds)
    for place in range(count):
        assert set(Counter(order[place] for order in rounds).values()) == {2}


class Fake:
    """A network that does nothing but note that it ran."""

    runs_on = weights = postprocess = ""
    input = None

    def __init__(self, name: str, log: list, stages_apart: bool, fails_at: int | None = None, seconds: float = 0.0):
        self.name, self.log, self.stages_apart = name, log, stages_apart
        self.fails_at, self.seconds, self.count = fails_at, seconds, 0

    def run(self, paths, timer, staged):
        self.count += 1
        self.log.append((self.name, [p.name for p in paths], staged))
        if self.count == self.fails_at:
            raise RuntimeError("out of memory")
        with timer("network"):
            time.sleep(self.seconds)
        return PanopticResult(np.zeros((1, 1), np.int32), (), made_categories(2))

    def stages(self, timings):
        return dict(timings)

    def costs(self):
        return ()


def test_networks_run_in_turns_over_the_same_images():
    log: list = []
    subjects = {name: Fake(name, log, False) for name in "ab"}
    images = [Path(f"{i}.jpg") for i in range(3)]
    found, order = measure(subjects, images, 2, 4, 1, 0, pytest.fail)
    assert "".join(order) == "abbabaab"
    assert "".join(name for name, *_ in log) == "ab" + "abbabaab"
    for name in "ab":
        assert [paths for n, paths, _ in log if n == name][1:] == [
            ["0.jpg", "1.jpg"],
            ["2.jpg", "0.jpg"],
            ["1.jpg", "2.jpg"],
            ["0.jpg", "1.jpg"],
        ]
        assert len(found[name].rounds_ms) == 4  # the warm-up is not among them
        assert found[name].throughput == pytest.approx(2e3 / found[name].times.median)


def test_stages_have_runs_of_their_own_where_they_change_the_way():
    log: list = []
    found, _ = measure({"a": Fake("a", log, True, seconds=0.002)}, [Path("x")], 1, 3, 0, 2, pytest.fail)
    assert [staged for *_, staged in log] == [False, True, False, True, False]
    (stage,) = found["a"].stages
    assert stage.name == "network"
    assert stage.share == 1.0
    assert stage.times.median >= 2.0 > stage.processor_ms  # it slept
    assert found["a"].staged_ms >= stage.times.median


def test_a_network_that_fails_leaves_the_others():
    log: list = []
    failed: dict[str, str] = {}
    subjects = {"a": Fake("a", log, False), "b": Fake("b", log, False, fails_at=2)}
    found, order = measure(subjects, [Path("x")], 1, 3, 0, 0, lambda n, e: failed.update({n: str(e)}))
    assert failed == {"b": "out of memory"}
    assert list(found) == ["a"]
    assert order.count("a") == 3
    assert order.count("b") == 1


def test_work_and_wall_of_a_stage_differ():
    timer = WorkTimer()
    with timer("sleep"):
        time.sleep(0.02)
    assert timer.timings["sleep"] >= 20
    assert timer.work["sleep"] < 15


def test_the_parts_take_the_place_of_the_network():
    timings = {"preprocess": 1.0, "backbone": 4.0, "box_head": 3.0, "network": 9.0, "nms": 2.0}
    split = split_network(timings, ("backbone", "fpn", "box_head"))
    assert split == {"preprocess": 1.0, "backbone": 4.0, "box_head": 3.0, "network_rest": 2.0, "nms": 2.0}
    assert list(split) == ["preprocess", "backbone", "box_head", "network_rest", "nms"]
    assert split_network({"model": 5.0}, ("backbone",)) == {"model": 5.0}


def test_share_of_the_postprocessing():
    assert postprocess_share({"read": 1.0, "network": 8.0, "nms": 0.5, "paste_boxes": 0.5}) == pytest.approx(0.1)
    assert postprocess_share({"model": 3.0}) is None
    assert postprocess_share({}) is None
    assert watching_ms(5) < 5


def test_peaks_of_stages_see_what_is_allocated():
    with StagePeaks(None) as timer:
        with timer("small"):
            pass
        with timer("large"):
            block = np.ones(25_000_000, np.float64)
    small, large = timer.peaks()
    assert (small.name, large.name) == ("small", "large")
    assert large.host_mb - small.host_mb > 0.9 * block.nbytes / 1e6
    assert large.device_mb is None


def test_warnings_say_what_speaks_against_the_numbers():
    assert warnings(QUIET, (subject("a", 100.0),)) == ()
    noisy = dataclasses.replace(measured(100.0), rounds_ms=(100.0, 150.0))
    bad = Conditions(0.1, 3.0, 0.5, 3000.0, 2000.0, 12.0, None, None)
    other = dataclasses.replace(subject("b", 100.0), input=(480, 640))
    lines = warnings(bad, (dataclasses.replace(subject("a", 100.0), measured=noisy), other))
    text = "\n".join(lines)
    for wanted in ("50% of the processors", "12 ms", "3000 to 2000 MHz", "480x640, 800x1344", "a: slowest", "2 rounds"):
        assert wanted in text
    assert "b: slowest" not in text


def test_conditions_are_of_other_processes():
    before = Snapshot(0.0, 0.0, 100.0, 1.0, 3000.0, 5.0, None)
    after = Snapshot(10.0, 4.0, 100.0 + 4.0 + 5.0, 1.0, 3000.0, 2005.0, None)
    found = conditions(before, after)
    assert found.others == pytest.approx(5.0 / (10.0 * machine.os.cpu_count()))
    assert found.throttled_ms == pytest.approx(2.0)
    unknown = Snapshot(10.0, 4.0, None, None, None, None, None)
    assert conditions(unknown, unknown).others is None


def test_the_machine_card_names_no_machine(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    card = machine_card()
    assert card.cores >= 1
    assert any(v.startswith("torch ") for v in card.versions)
    assert "OMP_WAIT_POLICY=PASSIVE" in card.environment
    assert machine.platform.node() not in json.dumps(dataclasses.asdict(card))


def test_nvidia_smi_is_read_where_it_is(monkeypatch):
    def answer(command, **_):
        return subprocess.CompletedProcess(command, 0, "NVIDIA X, 80 GiB\n", "")

    monkeypatch.setattr(machine.subprocess, "run", answer)
    assert machine_card().gpus == ("NVIDIA X, 80 GiB",)


def test_joules_are_summed_over_a_counter_that_starts_again(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_gpus", list)
    assert EnergyMeter(tmp_path).joules() is None
    for name, value in (("intel-rapl:0", 9_000_000), ("intel-rapl:0:0", 5), ("intel-rapl:1", 1_000_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(str(value))
        (tmp_path / name / "name").write_text(f"package-{name[-1]}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("10000000")
    meter = EnergyMeter(tmp_path)
    assert meter.source == "RAPL package-0, RAPL package-1"
    assert meter.joules() == pytest.approx(10.0)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("2000000")
    assert meter.joules() == pytest.approx(13.0)


def test_results_are_read_as_they_were_written(tmp_path):
    series = Series("whole", "boxes", "", (1.0, 2.0), (1.0, 2.0), 1.0, 1.0)
    results = results_of(subject("lpsnet_r50", 100.0), SubjectResult("upsnet", failed="no"), scaling=(series,))
    path = tmp_path / "bench.json"
    write_results(path, results)
    assert read_results(path) == results
    path.write_text(path.read_text().replace(f'"schema": {SCHEMA}', '"schema": 99'))
    with pytest.raises(ValueError, match="schema: expected 1, got 99"):
        read_results(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"bench\.json"):
        read_results(path)


def test_csv_has_a_line_per_stage():
    text = csv_text(results_of(subject("a", 100.0), SubjectResult("b", failed="no")))
    rows = list(csv.DictReader(text.splitlines()))
    assert [(r["subject"], r["stage"]) for r in rows] == [("a", "network"), ("a", "decode"), ("b", "")]
    assert all(len(r) == len(CSV_COLUMNS) and None not in r for r in rows)
    assert (rows[0]["peak_mb"], rows[0]["macs"], rows[0]["stage_peak_mb"]) == ("800.0", "3000000000", "800.0")
    assert rows[2]["failed"] == "no"


def test_goals_are_judged():
    ours, other = subject("lpsnet_r50_coco_800", 100.0, peak=500.0), subject("upsnet", 250.0, peak=1500.0)
    slow = Series("whole", "boxes", "", (1.0, 2.0), (1.0, 4.0), 2.0, 1.0)
    found = {v.what.split(": ")[1]: v for v in verdicts(results_of(ours, other, scaling=(slow,)))}
    assert found["times as fast as upsnet"].reached
    assert found["times as fast as upsnet"].found == pytest.approx(2.5, rel=0.01)
    assert found["share of the peak memory of upsnet"].found == pytest.approx(1 / 3)
    assert found["share of its memory above what the process starts with"].found == pytest.approx(200 / 1200)
    assert found["share of post-processing"].found == pytest.approx(0.01)
    assert not found["exponent"].reached
    slower = [v.reached for v in verdicts(results_of(subject("lpsnet_r50_coco_800", 200.0), other))]
    assert slower.count(False) == 3
    assert verdicts(results_of(ours)) == []
    assert verdicts(results_of(subject("mask2former_r50", 100.0), other)) == []


def test_an_exported_model_has_a_precision_of_its_own():
    ours, other = subject("lpsnet_r50_coco_800", 100.0), subject("upsnet", 400.0)
    results = results_of(dataclasses.replace(ours, runs_on="onnxruntime 1.32.0, CPUExecutionProvider, int8"), other)
    assert results.cases[0].precision == "fp32"
    assert {v.what.split(": ")[0] for v in verdicts(results)} == {"lpsnet_r50_coco_800, size 800, int8"}
    rows = [line.split(",") for line in csv_text(results).splitlines()]
    column = rows[0].index("precision")
    assert {row[rows[0].index("subject")]: row[column] for row in rows[1:]} == {
        "lpsnet_r50_coco_800": "int8",
        "upsnet": "fp32",
    }


def test_goals_on_a_gpu_are_its_own():
    def on_gpu(name: str, ms: float, mb: float) -> SubjectResult:
        memory = Memory(300.0, 900.0, mb)
        return dataclasses.replace(subject(name, ms), runs_on="torch on cuda, fp16", memory=memory)

    found = verdicts(results_of(on_gpu("lpsnet_r50_coco_800", 10.0, 500.0), on_gpu("upsnet", 25.0, 2000.0)))
    assert [(v.what.split(": ")[1], v.reached) for v in found] == [
        ("times as fast as upsnet", False),
        ("share of the device memory of upsnet", True),
        ("share of post-processing", False),
    ]


def test_the_papers_table_is_labelled_as_its():
    results = results_of(subject("lpsnet_r50_coco_800", 4000.0), subject("upsnet", 9000.0))
    head, _, *rows = table_1([results]).splitlines()
    assert "paper: ms" in head
    assert len(rows) == len(PAPER)
    assert rows[0] == "| UPSNet (800) | 9000 | 0.80 | 3 | 202 | 10.4 | 259 |"
    assert rows[1] == "| LPSNet (800) | 4000 | 0.80 | 3 | 108 | 4.4 | 139 |"
    assert rows[2] == "| LPSNet (882) | - | - | - | 127 | 4.9 | 153 |"


def test_the_page_has_all_that_was_found():
    series = Series("whole", "boxes", "here", (1.0, 2.0), (1.0, 2.0), 1.0, 1.0)
    failed = SubjectResult("panoptic_fpn", failed="RuntimeError: no memory")
    results = results_of(subject("lpsnet_r50_coco_800", 100.0), subject("upsnet", 250.0), failed, scaling=(series,))
    text = page({"bench_x": results}, {"bench_x": ["bench_x_memory_size.png"]}, {"bench_x": "It was slow.\n"})
    for wanted in (
        "## T",
        "lpsnet-bench\n",
        "no memory",
        "**missed**",
        "reached",
        "Warnings: busy",
        "paper: ms",
        "It was slow.",
    ):
        assert wanted in text
    assert "![bench x memory size](images/bench_x_memory_size.png)" in text
    assert "\n\n\n" not in text


def test_pictures_are_drawn(tmp_path):
    series = Series("whole", "boxes", "", (1.0, 2.0), (1.0, 2.0), 1.0, 1.0)
    results = results_of(subject("a", 100.0), SubjectResult("b", failed="no"), scaling=(series,))
    paths = write_plots(tmp_path, results)
    assert [p.stem for p in paths] == list(PICTURES)
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in paths)
    nothing = dataclasses.replace(results, cases=(), scaling=())
    assert write_plots(tmp_path / "none", nothing) == []


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_fits_find_known_exponents(exponent):
    values = [1.0, 2.0, 5.0, 10.0]
    found, r2 = fit(values, [3.0 * v**exponent for v in values])
    assert found == pytest.approx(exponent, abs=1e-9)
    assert r2 == pytest.approx(1.0) or exponent == 0.0


@pytest.mark.parametrize(("values", "ms"), [([1.0], [1.0]), ([2.0, 2.0], [1.0, 1.0]), ([1.0, 0.0], [1.0, 1.0])])
def test_fits_want_points(values, ms):
    with pytest.raises(ValueError, match="at least two different values above 0"):
        fit(values, ms)


def test_a_series_runs_its_points_in_turns():
    log: list[float] = []  # each run takes as many seconds as its value
    series = series_of("x", "y", "z", {v: partial(log.append, v) for v in (1.0, 4.0)}, 2, lambda: sum(log))
    assert log == [1.0, 4.0] * 3
    assert series.values == (1.0, 4.0)
    assert series.exponent == pytest.approx(1.0)


def test_made_scenes_give_the_objects_that_were_asked_for():
    categories = made_categories(8)
    dense, prepared = made_outputs((256, 320), 12, 48.0, categories)
    found = postprocess(dense, prepared, categories, PostprocessConfig(max_detections=12))
    things = [s for s in found.segments if categories[s.label].isthing]
    assert found.ids.shape == (256, 320)
    assert 4 <= len(things) <= 12
    again, _ = made_outputs((256, 320), 12, 48.0, categories)
    np.testing.assert_array_equal(again.logits, dense.logits)


@pytest.mark.parametrize(
    ("text", "size"), [("800", (800, 1333)), ("1024x2048", (1024, 2048)), ("own", None), ("882", (882, 1470))]
)
def test_sizes(text, size):
    assert expect_size(text) == size


@pytest.mark.parametrize("text", ["", "31", "800x", "x800", "800x16", "-800", "large"])
def test_sizes_that_mean_nothing(text):
    with pytest.raises(ValueError, match="sizes: expected a short side"):
        expect_size(text)


def test_images_get_the_size_of_the_case(tmp_path):
    sources = source_images([])
    (wide,) = images_at(sources, (96, 160), tmp_path)
    assert read_image(wide).shape == (96, 160, 3)
    (high,) = images_at(sources, (160, 96), tmp_path)
    assert read_image(high).shape == (160, 96, 3)
    assert images_at(sources, None, tmp_path) == sources
    with pytest.raises(ImageError, match="no such file"):
        source_images([str(tmp_path / "none.png")])
    with pytest.raises(ImageError, match="cannot be written"):
        images_at(sources, (96, 160), tmp_path / "gone")
