import json

import cv2
import numpy as np
import pytest

from lpsnet.categories import categories
from lpsnet.data.sample import Sample
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.evaluation.evaluate import evaluate_samples
from lpsnet.evaluation.worst import true_result, worst_images, wrong_pixels
from lpsnet.structures import PanopticResult

CLASSES = categories("synthetic")


class Scenes:
    """Scenes of which number k is predicted the worse the larger `badness[k]` is."""

    def __init__(self, badness: list[int]) -> None:
        self._scenes, self.badness = SyntheticScenes(len(badness), size=(64, 96)), badness

    def __len__(self) -> int:
        return len(self.badness)

    def __getitem__(self, index: int) -> Sample:
        scene = self._scenes[index]
        return Sample(f"scene {index}", scene.image, scene.ids, scene.segments)

    def predict(self, sample: Sample) -> tuple[PanopticResult, np.ndarray]:
        shift = self.badness[int(sample.name.split()[1])]
        moved = Sample(sample.name, sample.image, np.roll(sample.ids, shift, 0), sample.segments)
        result = true_result(moved, CLASSES)
        table = np.array([255, *(s.label for s in sample.segments)], np.uint8)
        return result, table[moved.ids]


def test_the_worst_are_listed_with_their_pictures(tmp_path):
    scenes = Scenes([0, 9, 1, 30, 3, 0])
    with worst_images(tmp_path / "worst", 3, CLASSES) as worst:
        scores = evaluate_samples(scenes.predict, scenes, CLASSES, [worst])
        assert not (tmp_path / "worst").exists()
    assert scores.panoptic.images == 6
    rows = json.loads((tmp_path / "worst/worst.json").read_text())
    assert {row["name"] for row in rows} <= {f"scene {i}" for i in range(6)}
    assert [row["pq"] for row in rows] == sorted(row["pq"] for row in rows)
    alone = {i: evaluate_samples(scenes.predict, [scenes[i]], CLASSES).panoptic.pq for i in range(len(scenes))}
    assert [row["pq"] for row in rows] == pytest.approx(sorted(alone.values())[:3])
    files = sorted(p.name for p in (tmp_path / "worst").iterdir())
    assert files == sorted(["worst.json", "worst.md", *(row["picture"] for row in rows)])
    picture = cv2.imread(str(tmp_path / "worst" / rows[0]["picture"]))
    assert picture.shape[1] == 2 * 96
    lines = (tmp_path / "worst/worst.md").read_text().splitlines()
    assert len(lines) == 2 + 3
    assert f"[{rows[0]['name']}]({rows[0]['picture']})" in lines[2]
    assert sum(rows[0]["missed"].values()) > 0


def test_equal_images_keep_their_order(tmp_path):
    scenes = Scenes([0, 0, 0])
    with worst_images(tmp_path / "worst", 2, CLASSES) as worst:
        evaluate_samples(scenes.predict, scenes, CLASSES, [worst])
    rows = json.loads((tmp_path / "worst/worst.json").read_text())
    assert [row["name"] for row in rows] == ["scene 0", "scene 1"]
    assert all((row["pq"], row["wrong_pixels"], row["missed"]) == (100, 0, {}) for row in rows)


def test_images_without_a_truth_are_no_candidates(tmp_path):
    sample = Sample("x", np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.int32), ())
    result = PanopticResult(np.zeros((20, 30), np.int32), (), CLASSES)
    with worst_images(tmp_path / "worst", 2, CLASSES) as worst:
        evaluate_samples(lambda _: (result, np.zeros((20, 30), np.uint8)), [sample], CLASSES, [worst])
    assert json.loads((tmp_path / "worst/worst.json").read_text()) == []


def test_a_run_that_fails_leaves_nothing(tmp_path):
    def fail(_: Sample):
        raise OSError("a damaged image")

    with pytest.raises(OSError, match="a damaged image"), worst_images(tmp_path / "worst", 2, CLASSES) as worst:
        evaluate_samples(fail, Scenes([0]), CLASSES, [worst])
    assert list(tmp_path.iterdir()) == []


def test_void_is_never_wrong_and_missing_is():
    scene = Scenes([0])[0]
    nothing = PanopticResult(np.zeros(scene.ids.shape, np.int32), (), CLASSES)
    assert np.array_equal(wrong_pixels(scene, nothing), scene.ids > 0)
    assert not wrong_pixels(scene, true_result(scene, CLASSES)).any()


def test_bad_counts(tmp_path):
    with (
        pytest.raises(ValueError, match="worst: expected a count of at least 1, got 0"),
        worst_images(tmp_path, 0, CLASSES),
    ):
        raise AssertionError
