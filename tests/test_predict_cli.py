import json
import os
import subprocess
import sys
import weakref

import cv2
import numpy as np
import pytest

from lpsnet.coco_format import read_png
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.engine import cli


@pytest.fixture
def predict(tiny_checkpoint, capsys, monkeypatch):
    """Runs the command; returns its exit code, its output and its errors."""
    monkeypatch.setenv("COLUMNS", "300")

    def run(*args: object, model: object = tiny_checkpoint) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main([*map(str, args), "--model", str(model)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def photos(tmp_path):
    """A folder of two images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(2):
        cv2.imwrite(str(folder / f"scene{i}.png"), SyntheticScenes(2)[i].image[..., ::-1])
    return folder


def test_one_image(predict, photos, tmp_path):
    out = tmp_path / "out"
    code, text, errors = predict(photos / "scene0.png", "--output", out, "--score-threshold", 0.01, "--paste-score", 0)
    assert code == 0
    assert errors == ""
    assert "Segments" in text
    assert "end to end" in text
    document = json.loads((out / "panoptic.json").read_text())
    (annotation,) = document["annotations"]
    assert document["images"][0]["file_name"] == "scene0.png"
    ids = read_png(out / annotation["file_name"])
    areas = {s["id"]: s["area"] for s in annotation["segments_info"]}
    assert areas == {int(i): int((ids == i).sum()) for i in np.unique(ids) if i}
    overlay = cv2.imread(str(out / "scene0_overlay.png"))
    assert overlay.shape == (*ids.shape, 3)
    assert len(list(out.iterdir())) == 3


def test_folders_globs_and_equal_names(predict, photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "scene0.png").write_bytes((photos / "scene0.png").read_bytes())
    out = tmp_path / "out"
    code, text, _ = predict(photos, other / "*.png", photos / "scene0.png", "--output", out, "--profile")
    assert code == 0
    assert "mean of the other 2" in text
    assert "paste_boxes" in text
    names = sorted(p.name for p in out.glob("*_overlay.png"))
    assert names == ["scene0_2_overlay.png", "scene0_overlay.png", "scene1_overlay.png"]
    assert len(json.loads((out / "panoptic.json").read_text())["images"]) == 3


def test_a_bad_image_does_not_stop_the_others(predict, photos, tmp_path):
    (photos / "text.jpg").write_text("not an image")
    whole = cv2.imencode(".jpg", np.full((64, 64, 3), 90, np.uint8))[1].tobytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    code, _, errors = predict(photos, photos / "missing.png", "--output", out)
    assert code == 1
    lines = errors.strip().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("lpsnet-predict: ") for line in lines)
    assert {"missing.png", "text.jpg", "cut.jpg"} == {n for n in ("missing.png", "text.jpg", "cut.jpg") if n in errors}
    assert len(list(out.glob("*_overlay.png"))) == 2


def test_every_kind_of_image(predict, tmp_path):
    folder = tmp_path / "kinds"
    folder.mkdir()
    rng = np.random.default_rng(0)
    kinds = {
        "gray": rng.integers(0, 256, (40, 50), dtype=np.uint8),
        "rgba": rng.integers(0, 256, (40, 50, 4), dtype=np.uint8),
        "deep": rng.integers(0, 65536, (40, 50, 3), dtype=np.uint16),
        "dot": rng.integers(0, 256, (1, 1, 3), dtype=np.uint8),
    }
    for name, pixels in kinds.items():
        cv2.imwrite(str(folder / f"{name}.png"), pixels)
    code, _, errors = predict(folder, "--output", tmp_path / "out")
    assert (code, errors) == (0, "")
    assert len(list((tmp_path / "out").glob("*_overlay.png"))) == len(kinds)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["missing.jpg"], "missing.jpg"),
        (["{empty}"], "expected a folder with images"),
        (["{photo}", "--device", "cuda:7"], "device: expected one of the"),
        (["{photo}", "--iou-threshold", "7"], "iou_threshold: expected a number in [0, 1], got 7"),
    ],
)
def test_mistakes_are_one_line(predict, photos, tmp_path, args, message):
    (tmp_path / "empty").mkdir()
    places = {"empty": tmp_path / "empty", "photo": photos / "scene0.png"}
    code, _, errors = predict(*(a.format(**places) for a in args), "--output", tmp_path / "out")
    assert code == 1
    assert message in errors
    assert all(line.startswith("lpsnet-predict: ") for line in errors.strip().splitlines())


def test_no_input_is_a_bad_usage(predict, tmp_path):
    code, _, errors = predict("--output", tmp_path / "out")
    assert (code, errors) == (2, "lpsnet-predict: inputs: expected images, folders, globs or --sample, got none\n")


def test_a_result_that_cannot_be_written_does_not_stop_the_others(predict, photos, tmp_path):
    (photos / "scene0.png").rename(photos / f"{'n' * 245}.png")  # too long with _overlay.png behind it
    code, text, errors = predict(photos, "--output", tmp_path / "out")
    assert code == 1
    assert len(errors.strip().splitlines()) == 1
    assert "1 of 2 images" in text
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "panoptic.json",
        "scene1_overlay.png",
        "scene1_panoptic.png",
    }


def test_opencv_adds_no_line_of_its_own(photos, tiny_checkpoint, tmp_path):
    data = cv2.imencode(".tiff", np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))[1].tobytes()
    (photos / "cut.tiff").write_bytes(data[:9000])
    command = [sys.executable, "-m", "lpsnet.engine.cli", str(photos), "--output", str(tmp_path / "out")]
    done = subprocess.run([*command, "--model", str(tiny_checkpoint)], capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "cut.tiff" in done.stderr


def test_maps_are_not_kept(predict, photos, tmp_path, monkeypatch):
    predicted, alive = cli.Engine.predict, []

    def watched(self, *args):
        assert sum(reference() is not None for reference in alive) <= 2  # the first, for its table, and the last
        result = predicted(self, *args)
        alive.append(weakref.ref(result.ids))
        return result

    for i in range(2, 6):
        (photos / f"scene{i}.png").write_bytes((photos / "scene0.png").read_bytes())
    monkeypatch.setattr(cli.Engine, "predict", watched)
    assert predict(photos, "--output", tmp_path / "out")[0] == 0
    assert len(alive) == 6


def test_what_was_finished_before_an_interruption_is_kept(predict, photos, tmp_path, monkeypatch):
    predicted, calls = cli.Engine.predict, []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return predicted(self, *args)

    monkeypatch.setattr(cli.Engine, "predict", interrupted)
    code, _, errors = predict(photos, "--output", tmp_path / "out")
    assert code == 130
    assert errors == "lpsnet-predict: stopped; what was finished is written\n"
    document = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [image["file_name"] for image in document["images"]] == ["scene0.png"]


def test_bad_checkpoints_and_outputs(predict, photos, tiny_checkpoint, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(tiny_checkpoint.read_bytes()[:1000])
    for model in (broken, tmp_path / "none.safetensors", "no_such_model"):
        code, _, errors = predict(photos, "--output", tmp_path / "out", model=model)
        assert code == 1
        assert len(errors.strip().splitlines()) == 1
    (tmp_path / "file").write_text("in the way")
    code, _, errors = predict(photos, "--output", tmp_path / "file")
    assert code == 1
    assert "file" in errors


def test_the_command_itself(photos, tiny_checkpoint, tmp_path):
    command = [sys.executable, "-m", "lpsnet.engine.cli", str(photos), "--output", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--model", str(tiny_checkpoint)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 2 images" in done.stdout
    usage = subprocess.run([*command, "--no-such-option"], capture_output=True, text=True)
    assert usage.returncode == 2
    assert "Traceback" not in usage.stderr + usage.stdout
