import dataclasses
import gc
import json
import math
import tracemalloc

import numpy as np

from lpsnet.categories import categories
from lpsnet.data.sample import Sample
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.evaluation.confusion import Confusion
from lpsnet.evaluation.detection import BoxEvaluator
from lpsnet.evaluation.evaluate import ScoredImage, evaluate, evaluate_samples, write_scores
from lpsnet.evaluation.submission import coco_submission
from lpsnet.evaluation.worst import worst_images
from lpsnet.structures import Detections, PanopticResult, Segment

BOXES = 30
"""Detections of each image below."""


def truth_as_result(sample) -> PanopticResult:
    segments = [
        Segment(i, s.label, 1.0, int((sample.ids == i).sum()), (0, 0, 1, 1)) for i, s in enumerate(sample.segments, 1)
    ]
    return PanopticResult(sample.ids, tuple(segments), categories("synthetic"))


def test_the_truth_scores_100_and_nothing_scores_0(tmp_path):
    scenes = SyntheticScenes(3, size=(64, 96))
    answers = iter([truth_as_result(scenes[i]) for i in range(3)])

    def perfect(image: np.ndarray) -> tuple[PanopticResult, np.ndarray]:
        result = next(answers)
        return result, result.labels()

    done: list[int] = []
    scores = evaluate(perfect, scenes, categories("synthetic"), done.append)
    assert done == [1, 2, 3]
    assert scores.panoptic.pq == scores.semantic.miou == 100.0

    def blind(image: np.ndarray) -> tuple[PanopticResult, np.ndarray]:
        result = PanopticResult(np.zeros(image.shape[:2], np.int32), (), categories("synthetic"))
        return result, result.labels()

    scores = evaluate(blind, scenes, categories("synthetic"))
    assert scores.panoptic.pq == scores.semantic.miou == 0.0


def test_undefined_scores_are_null_in_json(tmp_path):
    scores = evaluate(lambda image: (_ for _ in ()).throw(AssertionError), [], categories("synthetic"))
    assert math.isnan(scores.panoptic.pq)
    write_scores(tmp_path / "scores.json", scores)
    assert json.loads((tmp_path / "scores.json").read_text())["panoptic"]["pq"] is None


class Detected:
    """Scenes with the truth as prediction, made when asked for, and some boxes."""

    def __init__(self, length: int) -> None:
        self._scenes = [SyntheticScenes(4, size=(64, 96))[i] for i in range(4)]
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        scene = self._scenes[index % 4]
        return Sample(f"scene {index}", scene.image.copy(), scene.ids.copy(), scene.segments)

    @staticmethod
    def predict(sample: Sample) -> tuple[PanopticResult, np.ndarray]:
        rng = np.random.default_rng(0)
        corners = rng.uniform(0, 40, (BOXES, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 20, (BOXES, 2))], 1).astype(np.float32)
        detections = Detections(
            boxes, np.linspace(1, 0.1, BOXES, dtype=np.float32), rng.integers(3, 6, BOXES).astype(np.int32)
        )
        result = dataclasses.replace(truth_as_result(sample), detections=detections)
        return result, result.labels()


def test_memory_does_not_grow_with_the_data_set(tmp_path):
    """Neither Python's and numpy's (tracemalloc) nor, but for a few bytes per box, what hotcoco keeps."""
    scenes, memory, marks = Detected(40), {}, (10, 40)

    def measure(done: int) -> None:
        if done in marks:
            gc.collect()
            memory[done] = tracemalloc.get_traced_memory()[0]

    categories_ = categories("synthetic")
    tracemalloc.start()
    try:
        with (
            worst_images(tmp_path / "worst", 3, categories_) as worst,
            coco_submission(tmp_path / "coco", "val", "x", categories_) as coco,
        ):
            observers = [worst, coco, Confusion(categories_)]
            evaluate_samples(scenes.predict, scenes, categories_, observers, measure)
    finally:
        tracemalloc.stop()
    one_image = 64 * 96 * (3 + 4)
    assert memory[40] - memory[10] < one_image  # of the 30 images between, not one

    boxes = BoxEvaluator(categories_)
    for done in range(40):
        sample = scenes[done]
        boxes.update(sample, scenes.predict(sample)[0].detections)
    assert boxes.size() < 40 * (1024 + 64 * BOXES)


def test_observers_see_every_image_with_its_own_scores():
    seen = []

    class Listener:
        def update(self, image: ScoredImage) -> None:
            seen.append((image.sample.name, image.panoptic.images, image.panoptic.pq))

    evaluate_samples(Detected.predict, Detected(3), categories("synthetic"), [Listener()])
    assert seen == [(f"scene {i}", 1, 100.0) for i in range(3)]
