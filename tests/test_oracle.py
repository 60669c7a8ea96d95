import dataclasses

import numpy as np
import pytest
import torch

from lpsnet.categories import VOID, categories
from lpsnet.config import BOX_STRIDES, PostprocessConfig
from lpsnet.data.sample import Sample, TrueSegment
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.evaluation.evaluate import evaluate_samples
from lpsnet.evaluation.oracle import with_truth
from lpsnet.evaluation.predictor import Predictor
from lpsnet.inference import BoxCandidates, HeadInputs, NetworkInput, paste
from lpsnet.models.lpsnet import LPSNet

CLASSES = categories("synthetic")
BOUNDS = (0, 32, 64, 128, 256, float("inf"))
THINGS = [i for i, c in enumerate(CLASSES) if c.isthing]
STUFF = [i for i, c in enumerate(CLASSES) if not c.isthing]


def inputs_for(sample: Sample, factor: int = 2) -> HeadInputs:
    """A network that sees nothing, on an input of twice the size."""
    height, width = sample.ids.shape
    sizes = [(-(-height * factor // s), -(-width * factor // s)) for s in BOX_STRIDES]
    none = BoxCandidates(
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, np.int32)
    )
    prepared = NetworkInput(
        np.zeros((1, 3, factor * height, factor * width), np.float32),
        (factor * height, factor * width),
        (height, width),
    )
    labels = np.full((height, width), STUFF[0], np.uint8)
    return HeadInputs(labels, None, none, [np.full(size, 0.5, np.float32) for size in sizes], prepared)


def scene_of(ids: np.ndarray, *segments: tuple[int, bool]) -> Sample:
    return Sample("name", np.zeros((*ids.shape, 3), np.uint8), ids, tuple(TrueSegment(*s) for s in segments))


def test_the_true_label_map_has_no_crowds():
    ids = np.repeat(np.arange(4, dtype=np.int32), 10)[None].repeat(8, 0)
    sample = scene_of(ids, (THINGS[0], False), (THINGS[0], True), (STUFF[1], False))
    inputs = inputs_for(sample)
    told = with_truth(inputs, sample, "semantic", CLASSES, BOUNDS)
    assert told.labels[0, ::10].tolist() == [VOID, THINGS[0], VOID, STUFF[1]]
    assert told.boxes is inputs.boxes
    assert told.borderness is inputs.borderness


def test_the_true_boxes_are_those_of_the_objects_in_input_pixels():
    ids = np.zeros((120, 200), np.int32)
    ids[10:30, 20:50], ids[40:110, 60:180], ids[0:5, 0:5], ids[115:, :] = 1, 2, 3, 4
    sample = scene_of(ids, (THINGS[0], False), (THINGS[1], False), (THINGS[0], True), (STUFF[1], False))
    inputs = inputs_for(sample)
    boxes = with_truth(inputs, sample, "boxes", CLASSES, BOUNDS).boxes
    assert boxes.boxes.tolist() == [[120, 80, 360, 220], [40, 20, 100, 60]]  # the larger first
    assert boxes.labels.tolist() == [THINGS[1], THINGS[0]]
    assert boxes.scores.tolist() == [1, 1]
    assert boxes.levels.tolist() == [2, 0]  # half the longer side: 120 and 30 input pixels
    assert with_truth(inputs, sample, "boxes", CLASSES, BOUNDS).labels is inputs.labels


def test_both_truths_together_give_the_truth():
    """On scenes whose objects do not meet, the head can but give it back."""
    config = PostprocessConfig(stuff_area_limit=0)
    ids = np.ones((100, 120), np.int32)
    ids[10:30, 20:50], ids[40:90, 60:110] = 2, 3
    sample = scene_of(ids, (STUFF[1], False), (THINGS[0], False), (THINGS[0], False))

    def predict(sample: Sample):
        told = inputs_for(sample)
        for oracle in ("semantic", "boxes"):
            told = with_truth(told, sample, oracle, CLASSES, BOUNDS)
        return paste(told, CLASSES, config), told.labels

    scores = evaluate_samples(predict, [sample], CLASSES)
    assert scores.panoptic.pq == pytest.approx(100)
    assert scores.mask.ap == scores.box.ap == pytest.approx(100)


def test_an_object_free_image_has_no_true_boxes():
    sample = scene_of(np.ones((40, 60), np.int32), (STUFF[0], False))
    assert with_truth(inputs_for(sample), sample, "boxes", CLASSES, BOUNDS).boxes.boxes.shape == (0, 4)


@pytest.mark.parametrize("flip", [False, True])
def test_labels_and_detections_stay_the_networks(tiny_recipe, flip):
    torch.manual_seed(2)
    model = LPSNet(tiny_recipe).eval()
    config = dataclasses.replace(tiny_recipe.postprocess, score_threshold=0.02, paste_score=0.0, stuff_area_limit=0)
    sample = SyntheticScenes(1, size=(64, 96))[0]
    plain, labels = Predictor(model, config=config, flip=flip)(sample)
    for oracle in ("semantic", "boxes"):
        told, told_labels = Predictor(model, config=config, flip=flip, oracle=oracle)(sample)
        assert np.array_equal(labels, told_labels)
        assert np.array_equal(told.detections.boxes, plain.detections.boxes)
        assert np.array_equal(told.detections.scores, plain.detections.scores)
    told, _ = Predictor(model, config=config, flip=flip, oracle="semantic")(sample)
    covered = told.ids > 0
    assert np.array_equal(told.labels()[covered], sample.labels()[covered])
    told, _ = Predictor(model, config=config, flip=flip, oracle="boxes")(sample)
    assert {s.score for s in told.segments} <= {1.0}
