"""lpsnet-bench, lpsnet-profile and the page, from their command lines."""

import csv
import gzip
import json
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.engine.bench import cli, page, profile_cli
from lpsnet.engine.bench.profiler import read_memory, read_stages
from lpsnet.engine.bench.results import read_results

ROOT = Path(__file__).parents[1]
PARTS = ["backbone", "fpn", "box_head", "semantic_head", "network_rest"]
AFTER = ["decode", "nms", "upsample_argmax", "paste_boxes"]


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs a command's main; returns its exit code, its output and its errors."""
    monkeypatch.setenv("COLUMNS", "300")

    def run(main, *args: object) -> tuple[int, str, str]:
        code = 0
        try:
            main([*map(str, args)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return code, captured.out, captured.err

    return run


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "scene.png"
    cv2.imwrite(str(path), SyntheticScenes(1)[0].image[..., ::-1])
    return path


def test_everything_small(command, tiny_checkpoint, photo, tmp_path, monkeypatch):
    from lpsnet.baselines import peers

    monkeypatch.setattr(peers, "_PEERS", {"mask2former_r50": ("no_such_package", peers._mask2former)})
    out = tmp_path / "out"
    arguments = [photo, "--output", out, "--models", tiny_checkpoint, "--against", "panoptic_fpn", "mask2former_r50"]
    arguments += ["--sizes", "64x96", "--rounds", 2, "--stage-rounds", 1, "--threads", 1, "--title", "A b"]
    code, text, errors = command(cli.main, *arguments)
    assert code == 0, errors
    assert "absent: mask2former_r50: no_such_package cannot be imported" in errors
    results = read_results(out / "bench.json")
    assert results.command == shlex.join(["lpsnet-bench", *map(str, arguments)])
    assert results.images == ("scene.png",)
    assert [a.name for a in results.absent] == ["mask2former_r50"]
    (case,) = results.cases
    ours, other = case.subjects
    assert (case.image, ours.input) == ((64, 96), (64, 96))
    assert case.order == (ours.name, other.name, other.name, ours.name)
    assert ours.weights.startswith("sha256 ")
    assert other.weights == "random"
    for s in case.subjects:
        assert s.measured is not None
        assert s.memory is not None
        assert len(s.measured.rounds_ms) == 2
        assert s.memory.peak_mb >= s.memory.before_mb > 10
        assert {m.name for m in s.memory.stages} >= {"read", "preprocess", "backbone"}
        assert s.macs
        assert s.parameters
    assert ours.measured is not None
    assert [s.name for s in ours.measured.stages] == ["read", "preprocess", *PARTS, *AFTER]
    rows = list(csv.DictReader((out / "bench.csv").read_text().splitlines()))
    assert {r["subject"] for r in rows} == {ours.name, "panoptic_fpn"}
    assert {p.name for p in out.glob("*.png")} == {"latency_stages.png", "latency_size.png", "memory_size.png"}
    assert "panoptic_fpn" in text


def test_batches_and_scaling(command, photo, tmp_path, tiny_checkpoint):
    out = tmp_path / "out"
    code, text, errors = command(
        cli.main,
        *(photo, "--output", out, "--models", tiny_checkpoint, "--batches", 2, "--rounds", 1, "--warmup", 0),
        *("--no-memory", "--no-plots", "--scaling", 128, 128, "--scaling-rounds", 1, "--stage-rounds", 0),
    )
    assert code == 0, errors
    results = read_results(out / "bench.json")
    (measured,) = (s.measured for s in results.cases[0].subjects)
    assert measured is not None
    assert measured.throughput == pytest.approx(2e3 / measured.times.median)
    assert [(s.what, s.against) for s in results.scaling] == [
        (what, against) for what in ("postprocess", "whole") for against in ("megapixels", "boxes", "classes")
    ]
    assert "exponent" in text
    assert not list(out.glob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--models", "no_such_model"], 1, "models: expected a packaged model, a recipe or a file"),
        (["--against", "yolo"], 1, "against: expected one of ['upsnet', 'panoptic_fpn'"),
        (["--against", "upsnet", "upsnet"], 1, "expected each name once"),
        (["--rounds", "0"], 2, "rounds: expected at least 1, got 0"),
        (["--batches", "0"], 2, "batches: expected at least 1, got 0"),
        (["--sizes", "small"], 2, "sizes: expected a short side"),
        (["nowhere.jpg"], 1, "nowhere.jpg: no such file or folder"),
    ],
)
def test_what_a_user_does_wrong_is_one_line(command, tmp_path, arguments, code, message):
    found, _, errors = command(cli.main, "--output", tmp_path / "out", *arguments)
    assert found == code
    assert message in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_network_that_fails_is_named_and_the_others_are_measured(command, photo, tmp_path, tiny_checkpoint):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08 no model")
    code, _, errors = command(
        cli.main,
        *(photo, "--output", tmp_path / "out", "--models", tiny_checkpoint, broken, "--rounds", 1, "--warmup", 0),
        *("--no-memory", "--no-plots"),
    )
    assert code == 1
    assert "broken.onnx" in errors
    good, bad = read_results(tmp_path / "out" / "bench.json").cases[0].subjects
    assert good.measured is not None
    assert bad.measured is None
    assert bad.failed is not None


def test_an_exported_model_needs_no_torch(tmp_path):
    """In an interpreter where torch cannot be imported: the artifact is timed, what needs torch is named."""
    code = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Finder())
from lpsnet.engine.bench.cli import main
main(sys.argv[1:])
"""
    arguments = ["--models", "lpsnet_lite0_camvid.onnx", "--against", "upsnet", "--rounds", "1", "--warmup", "0"]
    arguments += ["--output", str(tmp_path), "--no-memory", "--no-plots", "--sizes", "64x96"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    ours, other = read_results(tmp_path / "bench.json").cases[0].subjects
    assert ours.measured is not None
    assert other.failed == "ModuleNotFoundError: No module named 'torch'"


def test_pictures_want_matplotlib(command, tmp_path, monkeypatch):
    monkeypatch.setattr("lpsnet.engine.bench.plots.find_spec", lambda name: None)
    code, _, errors = command(cli.main, "--output", tmp_path / "out")
    assert code == 1
    assert "lpsnet[bench]" in errors


@pytest.mark.parametrize("model", ["checkpoint", "panoptic_fpn"])
def test_a_profile(command, photo, tmp_path, tiny_checkpoint, model):
    out = tmp_path / "out"
    name = tiny_checkpoint if model == "checkpoint" else model
    arguments = ["--output", out, "--model", name, "--recipe", tiny_checkpoint, "--image", photo, "--warmup", 0]
    code, text, errors = command(profile_cli.main, *arguments, "--size", "64x96", "--threads", 1)
    assert code == 0, errors
    assert "aten::" in text
    html = (out / "profile.html").read_text()
    events = json.loads(gzip.decompress((out / "trace.json.gz").read_bytes()))["traceEvents"]
    begin, stages = read_stages(events)
    names = [s.name for s in stages]
    wanted = {"read", "preprocess", "backbone", "fpn", "box_head", "semantic_head"}
    assert wanted <= set(names)
    if model == "checkpoint":
        assert set(AFTER) <= set(names)
        network = next(s for s in stages if s.name == "network")
        assert all(network.begin <= s.begin <= s.end <= network.end for s in stages if s.name in PARTS)
    assert all(f"<td>{n}</td>" in html for n in wanted)
    memory = read_memory(events, begin)["cpu"]
    assert max(mb for _, mb in memory) > 0.05
    assert "<polyline" in html
    assert "http" not in html.replace("https://ui.perfetto.dev", "")


def test_a_run_for_other_profilers_has_ranges_alone(command, photo, tmp_path, tiny_checkpoint):
    out = tmp_path / "out"
    arguments = ["--output", out, "--model", tiny_checkpoint, "--image", photo, "--warmup", 0, "--profiler", "none"]
    code, text, errors = command(profile_cli.main, *arguments)
    assert code == 0, errors
    shown = [line.split()[1] for line in text.splitlines() if line.startswith("│")]
    assert shown == ["read", "preprocess", *PARTS, *AFTER]
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model", "yolo"], 1, "model: expected a packaged model"),
        (["--size", "1"], 1, "sizes: expected a short side"),
        (["--warmup", "-1"], 2, "warmup: expected at least 0"),
        (["--image", "nowhere.jpg"], 1, "nowhere.jpg: no such file"),
    ],
)
def test_a_profile_that_cannot_be_is_one_line(command, tmp_path, arguments, code, message):
    found, _, errors = command(profile_cli.main, "--output", tmp_path / "out", *arguments)
    assert found == code
    assert message in errors


def test_the_page_is_that_of_the_results(command, tmp_path):
    results = ROOT / "benchmarks" / "results"
    made = tmp_path / "docs" / "benchmarks.md"
    made.parent.mkdir()
    code, _, errors = command(page.main, results, made)
    assert code == 0, errors
    assert made.read_text() == (ROOT / "docs" / "benchmarks.md").read_text()
    # Their pixels depend on the version of matplotlib.
    assert {p.name for p in made.with_name("images").iterdir()} <= {p.name for p in (ROOT / "docs/images").iterdir()}


def test_a_page_wants_results(command, tmp_path):
    code, _, errors = command(page.main, tmp_path, tmp_path / "page.md")
    assert code == 1
    assert "results: expected bench_*.json" in errors
