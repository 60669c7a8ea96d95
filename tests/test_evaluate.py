import json
import math

import numpy as np

from lpsnet.categories import categories
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.evaluation.evaluate import evaluate, write_scores
from lpsnet.structures import PanopticResult, Segment


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
