import numpy as np
import pytest

from lpsnet.config import BOX_STRIDES, TargetConfig
from lpsnet.data.sample import Sample, TrueSegment
from lpsnet.targets import ObjectShape, borderness, borderness_map, box_targets, object_shapes

STUFF, THING = 0, 1
ISTHING = (False, True)


def scene(height: int, width: int, count: int, seed: int) -> Sample:
    """Random ellipses over stuff; later ones cover earlier ones."""
    rng = np.random.default_rng(seed)
    ids = np.ones((height, width), np.int32)
    y, x = np.mgrid[:height, :width]
    for i in range(count):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        ry, rx = rng.uniform(2, height / 3, 2)
        ids[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1] = i + 2
    segments = (TrueSegment(STUFF), *(TrueSegment(THING) for _ in range(count)))
    return Sample("scene", np.zeros((height, width, 3), np.uint8), ids, segments)


def slow_borderness(mask: np.ndarray, y: float, x: float) -> float:
    """Equation 1, written from the paper: the farthest mask pixels along the point's own row and column."""
    columns = [j for j in range(mask.shape[1]) if mask[int(y), j]]
    rows = [i for i in range(mask.shape[0]) if mask[i, int(x)]]
    left, right = x - min(columns), max(columns) + 1 - x
    top, bottom = y - min(rows), max(rows) + 1 - y
    return (min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)) ** 0.5


@pytest.mark.parametrize("seed", range(3))
def test_mask_targets_equal_the_definition(seed):
    sample = scene(150, 200, 6, seed)
    config = TargetConfig()
    levels = box_targets(sample, ISTHING, config)
    visible = {i for i in range(2, 8) if (sample.ids == i).any()}
    regular = set()
    for level, stride in enumerate(BOX_STRIDES):
        low, high = config.level_bounds[level : level + 2]
        targets = levels[level]
        assert targets.positive.shape == (-(-150 // stride), -(-200 // stride))
        for i, j in np.ndindex(targets.positive.shape):
            y, x = (i + 0.5) * stride, (j + 0.5) * stride
            k = sample.ids[int(y), int(x)] if y < 150 and x < 200 else 0
            expected = None
            if k >= 2:
                rows, columns = np.nonzero(sample.ids == k)
                expected = (x - columns.min(), y - rows.min(), columns.max() + 1 - x, rows.max() + 1 - y)
            if expected and low < max(expected) <= high:
                regular.add(k)
                assert targets.objects[i, j] == k
                assert targets.ltrb[:, i, j] == pytest.approx(expected)
                assert targets.borderness[i, j] == pytest.approx(slow_borderness(sample.ids == k, y, x), abs=1e-6)
            elif targets.positive[i, j]:
                assert targets.objects[i, j] not in regular  # a rescued object's only point
    learnt = set(np.unique(np.concatenate([t.objects.ravel() for t in levels]))) - {0}
    assert learnt == visible


def test_box_positives_take_the_smallest_object():
    ids = np.ones((128, 128), np.int32)
    ids[8:120, 8:120] = 2
    ids[40:80, 40:80] = 1  # a hole in the large object, which only mask positives see
    ids[56:72, 56:72] = 3
    sample = Sample("nested", np.zeros((128, 128, 3), np.uint8), ids, (TrueSegment(0), TrueSegment(1), TrueSegment(1)))
    everything = TargetConfig(positives="box", level_bounds=(0, 1e9, 2e9, 3e9, 4e9, float("inf")))
    objects = box_targets(sample, ISTHING, everything)[0].objects
    assert objects[8, 8] == 3  # the point at 68
    assert objects[5, 5] == 2  # the point at 44, in the hole
    by_mask = TargetConfig(level_bounds=everything.level_bounds)
    assert box_targets(sample, ISTHING, by_mask)[0].objects[5, 5] == 0


def test_centreness_is_of_the_box():
    sample = scene(96, 96, 3, seed=1)
    for targets in box_targets(sample, ISTHING, TargetConfig(borderness="box")):
        assert targets.borderness[targets.positive] == pytest.approx(borderness(targets.ltrb)[targets.positive])


def test_crowds_and_stuff_are_no_objects():
    ids = np.ones((64, 64), np.int32)
    ids[16:48, 16:48] = 2
    sample = Sample("crowd", np.zeros((64, 64, 3), np.uint8), ids, (TrueSegment(STUFF), TrueSegment(THING, True)))
    assert not any(t.positive.any() for t in box_targets(sample, ISTHING, TargetConfig()))


def test_an_object_between_the_points_is_rescued():
    ids = np.ones((64, 64), np.int32)
    ids[0, 63] = 2
    sample = Sample("speck", np.zeros((64, 64, 3), np.uint8), ids, (TrueSegment(STUFF), TrueSegment(THING)))
    levels = box_targets(sample, ISTHING, TargetConfig())
    assert [int(t.positive.sum()) for t in levels] == [1, 0, 0, 0, 0]
    assert levels[0].objects[0, 7] == 2
    assert np.isfinite(levels[0].ltrb).all()
    assert (levels[0].ltrb >= 0).all()


def test_shape_of_an_object():
    mask = np.array([[0, 1, 0], [1, 1, 0]], bool)
    shape = ObjectShape.of(mask, left=10, top=20)
    assert shape.box == (10, 20, 12, 22)
    assert shape.area == 3
    assert shape.row_begin.tolist() == [11, 10]
    assert shape.row_end.tolist() == [12, 12]
    assert shape.column_begin.tolist() == [21, 20]
    assert object_shapes(np.zeros((4, 4), np.int32), [1, 2]) == {}


def test_borderness_map_equals_the_definition():
    sample = scene(40, 50, 3, seed=5)
    result = borderness_map(sample.ids, [2, 3, 4])
    for i, j in np.ndindex(sample.ids.shape):
        k = sample.ids[i, j]
        expected = slow_borderness(sample.ids == k, i + 0.5, j + 0.5) if k >= 2 else 0.0
        assert result[i, j] == pytest.approx(expected, abs=1e-6)
