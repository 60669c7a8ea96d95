import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import op_cases

from lpsnet import native, ops
from lpsnet.native.library import Levels, call, num_threads, pointer_array, set_num_threads
from lpsnet.native.paste_boxes import PasteBoxesParams
from lpsnet.ops import reference

ASSIGNMENTS = ["closest_borderness", "highest_confidence", "smallest_area"]
THINGS = np.array([True, False, True, False, True])  # classes 0, 2, 4 are things, 1 and 3 stuff
DEFAULTS = {
    "box_levels": None,
    "borderness": (),
    "strides": (),
    "scale": (1.0, 1.0),
    "paste_score": 0.0,
    "overlap_threshold": 0.3,
    "assignment": "highest_confidence",
    "stuff_area_limit": 0,
}


def check(labels, boxes, scores, box_labels, is_thing=THINGS, **options):
    """Both layers against the reference, bit by bit; returns ids and rows of (label, score, area, box)."""
    labels = np.asarray(labels, np.uint8)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    scores, box_labels = np.asarray(scores, np.float32), np.asarray(box_labels, np.int32)
    options = DEFAULTS | options
    expected_ids, expected = reference.paste_boxes(labels, is_thing, boxes, scores, box_labels, **options)

    ids, table = native.paste_boxes(labels, is_thing, boxes, scores, box_labels, **options)
    np.testing.assert_array_equal(ids, expected_ids)
    assert [(s.label, s.score, s.area, s.box) for s in table.segments()] == expected
    assert [s.id for s in table.segments()] == list(range(1, len(expected) + 1))

    def tensor(array):
        return None if array is None else torch.from_numpy(np.asarray(array))

    columns = (labels, is_thing, boxes, scores, box_labels, options["box_levels"], None)
    stuff_labels = tensor(options.get("stuff_labels"))
    rest = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    rest |= {"borderness": [tensor(b) for b in options["borderness"]], "stuff_labels": stuff_labels}
    del rest["box_levels"]
    outputs = [t.numpy() for t in ops.paste_boxes(*map(tensor, columns), **rest)]
    n = outputs[5][0]
    np.testing.assert_array_equal(outputs[0], expected_ids)
    for column, filled, padding in zip(outputs[1:5], table, (-1, 0, 0, 0), strict=True):
        assert len(column) == len(boxes) + len(is_thing)
        np.testing.assert_array_equal(column[:n], filled)
        assert (column[n:] == padding).all()
    return ids, expected


def noisy_regions(rng, height, width, num_classes, kind):
    """Label maps as ragged as noise or as calm as a real one."""
    if kind == "one class":
        return np.full((height, width), 0, np.uint8)
    cell = 1 if kind == "noise" else 7
    coarse = rng.integers(0, num_classes, (height // cell + 1, width // cell + 1))
    labels = np.repeat(np.repeat(coarse, cell, 0), cell, 1)[:height, :width].astype(np.uint8)
    labels[rng.random(labels.shape) < 0.03] = 255
    return labels


def random_scene(seed, kind, num_boxes, height, width, scale):
    rng = np.random.default_rng(seed)
    labels = noisy_regions(rng, height, width, len(THINGS), kind)
    extent = np.array([width * scale[1], height * scale[0]])
    corner = rng.uniform(-0.2, 0.9, (num_boxes, 2)) * extent
    boxes = np.concatenate([corner, corner + rng.uniform(0, 0.6, (num_boxes, 2)) * extent], 1)
    scores = np.sort(np.round(rng.random(num_boxes), 1))[::-1]
    box_labels = np.zeros(num_boxes) if kind == "one class" else rng.integers(0, len(THINGS), num_boxes)
    strides = (4, 8, 16)
    sizes = [(max(1, math.ceil(extent[1] / s)), max(1, math.ceil(extent[0] / s))) for s in strides]
    borderness = [rng.random(size).astype(np.float32) for size in sizes]
    options = {
        "box_levels": rng.integers(0, 3, num_boxes).astype(np.int32),
        "borderness": borderness,
        "strides": strides,
        "scale": scale,
        "stuff_labels": rng.integers(0, len(THINGS) + 1, labels.shape).astype(np.uint8) if seed % 2 else None,
    }
    return (labels, boxes, scores, box_labels), options


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
@pytest.mark.parametrize("kind", ["noise", "regions", "one class"])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.37, 1.91), (4 / 3, 4 / 3), (8.0, 8.0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_scenes(assignment, kind, scale, seed):
    scene, options = random_scene(seed, kind, 30, 41, 67, scale)
    for threshold in (0.0, 0.3, 0.7, 1.0):
        limit = int(threshold * 300)
        check(*scene, **options, assignment=assignment, overlap_threshold=threshold, stuff_area_limit=limit)


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_any_number_of_threads_gives_the_same(assignment):
    scene, options = random_scene(3, "regions", 60, 230, 310, (1.5, 1.25))
    before, results = num_threads(), []
    try:
        for count in (1, 2, 7):
            set_num_threads(count)
            results.append(check(*scene, **options, assignment=assignment)[0])
    finally:
        set_num_threads(before)
    assert all((ids == results[0]).all() for ids in results)


# Corners on and beside pixel centres, and beyond the image.
corner = st.integers(-4, 34).map(lambda n: n / 2)
numbers = st.one_of(corner, st.sampled_from([math.nan, math.inf, -math.inf, 1e30]))
any_box = st.tuples(numbers, numbers, numbers, numbers)
proper_box = st.tuples(corner, corner, st.integers(0, 24), st.integers(0, 24)).map(
    lambda b: (b[0], b[1], b[0] + b[2] / 2, b[1] + b[3] / 2)
)
a_score = st.sampled_from([1.0, 0.75, 0.5, 0.5, 0.25, math.nan])


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_generated(data):
    height, width = data.draw(st.tuples(st.integers(0, 14), st.integers(0, 18)))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    classes = data.draw(st.sampled_from([[0], [0, 1], [0, 2, 255], [0, 1, 2, 3, 4, 5, 200, 255]]))
    labels = rng.choice(classes, (height, width)).astype(np.uint8)
    rows = data.draw(st.lists(st.tuples(st.one_of(proper_box, any_box), a_score, st.integers(-1, 6)), max_size=9))
    rows += data.draw(st.lists(st.sampled_from(rows), max_size=3)) if rows else []  # the same box again
    rows.sort(key=lambda row: -row[1])
    boxes, scores, box_labels = ([row[i] for row in rows] for i in range(3))
    if data.draw(st.booleans()):
        box_labels = [0] * len(rows)
    strides = data.draw(st.sampled_from([(1,), (2, 8), (3, 5, 64)]))
    values = np.array([0, 0.25, 0.5, 1, np.nan, np.inf], np.float32)
    borderness = [rng.choice(values, rng.integers(1, 12, 2)) for _ in strides]
    check(
        labels,
        boxes,
        scores,
        box_labels,
        box_levels=rng.integers(-1, len(strides) + 1, len(rows)).astype(np.int32),
        borderness=borderness,
        strides=strides,
        scale=data.draw(st.tuples(*[st.sampled_from([1.0, 0.5, 1.25, 0.3, 7.0])] * 2)),
        paste_score=data.draw(st.sampled_from([0.0, 0.5, 2.0])),
        overlap_threshold=data.draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])),
        assignment=data.draw(st.sampled_from(ASSIGNMENTS)),
        stuff_area_limit=data.draw(st.sampled_from([0, 1, 5, 1000])),
        stuff_labels=rng.integers(0, 6, labels.shape).astype(np.uint8) if data.draw(st.booleans()) else None,
    )


def one_class(height=10, width=10):
    return np.zeros((height, width), np.uint8)


def test_no_boxes():
    labels = np.array([[0, 1, 255], [3, 3, 2]])
    ids, rows = check(labels, [], [], [])
    assert ids.tolist() == [[0, 1, 0], [2, 2, 0]]
    assert rows == [(1, 1.0, 1, (1, 0, 2, 1)), (3, 1.0, 2, (0, 1, 2, 2))]


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_empty_image(shape):
    ids, rows = check(np.zeros(shape), [[0, 0, 4, 4]], [1], [0])
    assert ids.shape == shape
    assert rows == []


def test_a_box_owns_pixels_of_its_class_only():
    labels = one_class()
    labels[:, 5:] = 2
    ids, rows = check(labels, [[2, 3, 8, 6]], [0.9], [2])
    assert rows == [(2, pytest.approx(0.9), 9, (5, 3, 8, 6))]
    assert (ids > 0).sum() == 9


def test_a_pixel_centre_on_the_left_or_top_side_is_inside_and_on_the_right_or_bottom_outside():
    assert check(one_class(), [[2.5, 3.5, 4.5, 6.5]], [1], [0])[1] == [(0, 1.0, 6, (2, 3, 4, 6))]


def test_output_larger_and_smaller_than_the_input():
    assert check(one_class(20, 40), [[1, 1, 3, 4]], [1], [0], scale=(0.5, 0.25))[1] == [(0, 1.0, 48, (4, 2, 12, 8))]
    assert check(one_class(4, 4), [[8, 0, 24, 16]], [1], [0], scale=(8.0, 8.0))[1] == [(0, 1.0, 4, (1, 0, 3, 2))]


@pytest.mark.parametrize(
    "box", [[3, 3, 3, 9], [5, 5, 2, 2], [-9, -9, 0, 0], [10, 0, 20, 5], [3.6, 3.6, 4.4, 4.4], [math.nan, 0, 9, 9]]
)
def test_a_box_without_pixels_has_no_segment(box):
    assert check(one_class(), [box], [1], [0])[1] == []


def test_an_infinite_box_covers_the_image():
    box = [-math.inf, -math.inf, math.inf, math.inf]
    assert check(one_class(), [box], [1], [0])[1] == [(0, 1.0, 100, (0, 0, 10, 10))]
    levels = {"box_levels": np.zeros(2, np.int32), "borderness": [np.ones((2, 2), np.float32)], "strides": (8,)}
    check(one_class(), [[0, 0, 5, 5], box], [1, 0.5], [0, 0], **levels, assignment="closest_borderness")


@pytest.mark.parametrize(("label", "score"), [(1, 1.0), (-1, 1.0), (5, 1.0), (2**31 - 1, 1.0), (0, 0.4), (0, math.nan)])
def test_boxes_that_take_no_part(label, score):
    _ids, rows = check(np.where(np.eye(10) > 0, 1, 0), [[0, 0, 9, 9]], [score], [label], paste_score=0.5)
    assert [row[0] for row in rows] == [1]


def test_paste_score_itself_is_enough():
    assert len(check(one_class(), [[0, 0, 9, 9]], [0.5], [0], paste_score=0.5)[1]) == 1


def test_overlap_at_the_threshold_is_kept_and_above_it_discarded():
    first, half, more = [0, 0, 10, 5], [0, 0, 10, 10], [0, 0, 10, 9]
    assert len(check(one_class(), [first, half], [1, 0.9], [0, 0], overlap_threshold=0.5)[1]) == 2
    assert len(check(one_class(), [first, more], [1, 0.9], [0, 0], overlap_threshold=0.5)[1]) == 1


@pytest.mark.parametrize("width", [64, 70, 128, 200])
def test_counts_do_not_overflow(width):
    """Masks of hundreds of rows, whose pixels are counted in bytes before they are summed."""
    boxes = [[0, 0, width, 270], [0, 0, width, 513]]
    for threshold, kept in ((0.52, 1), (0.53, 2)):
        _, rows = check(one_class(520, width), boxes, [1, 0.9], [0, 0], overlap_threshold=threshold)
        assert len(rows) == kept


def test_a_discarded_box_occupies_nothing():
    boxes = [[0, 0, 10, 5], [0, 1, 10, 7], [0, 5, 10, 10]]  # the second overlaps the first by 4 of 6 rows
    _ids, rows = check(one_class(), boxes, [1, 0.9, 0.8], [0, 0, 0])
    assert [row[2] for row in rows] == [50, 50]


def test_a_kept_box_occupies_its_whole_mask_whoever_gets_the_pixels():
    boxes = [[0, 0, 10, 5], [0, 4, 10, 8], [0, 4, 10, 5]]
    assert len(check(one_class(), boxes, [1, 0.9, 0.8], [0, 0, 0], assignment="smallest_area")[1]) == 2


def test_a_kept_box_that_wins_no_pixel_has_no_segment():
    boxes = [[0, 0, 4, 4], [2, 2, 6, 6], [2, 2, 4, 4]]
    _ids, rows = check(one_class(), boxes, [1, 0.9, 0.8], [0] * 3, overlap_threshold=1.0)
    assert [row[1] for row in rows] == [1.0, pytest.approx(0.9)]


def test_identical_boxes_with_equal_scores_go_to_the_first():
    boxes, levels = [[1, 1, 9, 9]] * 3, np.array([0, 0, 0], np.int32)
    for assignment in ASSIGNMENTS:
        options = {"box_levels": levels, "borderness": [np.full((3, 3), 0.5, np.float32)], "strides": (4,)}
        _ids, rows = check(
            one_class(), boxes, [0.5] * 3, [0] * 3, overlap_threshold=1.0, assignment=assignment, **options
        )
        assert [row[2] for row in rows] == [64]


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_a_tie_goes_to_the_earlier_box(assignment):
    """Boxes of one area that cross, and a border-ness that no box is close to: all gaps are infinite."""
    boxes = [[0, 0, 6, 4], [4, 0, 10, 4], [3, 2, 9, 6]]
    options = {
        "box_levels": np.zeros(3, np.int32),
        "borderness": [np.full((2, 2), np.inf, np.float32)],
        "strides": (4,),
    }
    ids, rows = check(
        one_class(), boxes, [0.9, 0.8, 0.7], [0] * 3, overlap_threshold=1.0, assignment=assignment, **options
    )
    assert [row[2] for row in rows] == [24, 16, 12]
    assert ids[3].tolist() == [1, 1, 1, 1, 1, 1, 2, 2, 2, 2]


def test_smallest_area_wins_where_boxes_cross():
    _ids, rows = check(
        one_class(), [[0, 0, 10, 6], [3, 2, 5, 9]], [1, 0.9], [0, 0], overlap_threshold=1.0, assignment="smallest_area"
    )
    assert [row[2] for row in rows] == [60 - 8, 14]


def test_closest_borderness_splits_two_touching_objects():
    """Two objects side by side whose boxes overlap: each point predicts the border-ness of its own object."""
    boxes = np.array([[0, 0, 12, 10], [8, 0, 20, 10]], np.float32)
    predicted = np.zeros((10, 20), np.float32)
    for y in range(10):
        for x in range(20):
            own = boxes[0] if x < 10 else boxes[1]
            predicted[y, x] = reference.borderness_of(own, np.float32(x + 0.5), np.float32(y + 0.5))
    options = {"box_levels": np.zeros(2, np.int32), "borderness": [predicted], "strides": (1,)}
    ids, _ = check(
        one_class(10, 20), boxes, [1, 0.5], [0, 0], overlap_threshold=0.5, assignment="closest_borderness", **options
    )
    assert (ids[:, :10] == 1).all()
    assert (ids[:, 10:] == 2).all()


def test_each_box_is_compared_with_the_level_it_came_from():
    boxes, maps = [[0, 0, 10, 10], [0, 0, 10, 10]], [np.zeros((5, 5), np.float32), np.ones((5, 5), np.float32)]
    options = {"borderness": maps, "strides": (2, 2), "assignment": "closest_borderness", "overlap_threshold": 1.0}
    for levels in ([0, 1], [1, 0], [0, 7], [-1, 1], [5, 5]):
        check(one_class(), boxes, [1, 0.9], [0, 0], box_levels=np.array(levels, np.int32), **options)


def test_small_stuff_becomes_void():
    labels = np.full((4, 5), 1)
    labels[0, :3] = 3
    for limit, survivors in ((3, [1, 3]), (4, [1]), (17, [1]), (18, [])):
        assert [row[0] for row in check(labels, [], [], [], stuff_area_limit=limit)[1]] == survivors


def test_unclaimed_thing_pixels_take_stuff_before_areas_are_counted():
    labels = np.full((4, 5), 1)
    labels[2:] = 0
    fill = np.full((4, 5), 3, np.uint8)
    fill[3, 0], fill[3, 1] = 255, 2  # not a stuff class: void
    boxes = [[0, 2, 3, 3]]
    ids, rows = check(labels, boxes, [1], [0], stuff_area_limit=5, stuff_labels=fill)
    assert [(row[0], row[2]) for row in rows] == [(0, 3), (1, 10), (3, 5)]
    assert ids[3, 0] == ids[3, 1] == 0
    assert [row[0] for row in check(labels, boxes, [1], [0], stuff_area_limit=6, stuff_labels=fill)[1]] == [0, 1]


def test_more_boxes_than_pixels():
    boxes = np.tile(np.array([[1, 1, 2, 2]], np.float32), (5000, 1))
    assert len(check(one_class(3, 3), boxes, np.ones(5000), np.zeros(5000), overlap_threshold=1.0)[1]) == 1


def test_255_classes():
    labels = np.arange(256).reshape(16, 16)
    things = np.arange(255) % 2 == 0
    ids, rows = check(labels, [[0, 0, 16, 16]] * 128, np.ones(128), np.arange(0, 256, 2), is_thing=things)
    assert len(rows) == 255
    assert ids[15, 15] == 0


@pytest.mark.parametrize(("num_valid", "read"), [(0, 0), (7, 7), (20, 20), (99, 20), (-3, 0)])
def test_only_valid_boxes_are_read(num_valid, read):
    (labels, boxes, scores, box_labels), _ = random_scene(0, "regions", 20, 30, 40, (1.0, 1.0))
    boxes, scores, box_labels = boxes.astype(np.float32), scores.astype(np.float32), box_labels.astype(np.int32)
    options = {k: v for k, v in DEFAULTS.items() if k != "box_levels"}
    expected, _ = check(labels, boxes[:read], scores[:read], box_labels[:read])
    tensors = map(torch.from_numpy, (labels, THINGS, boxes, scores, box_labels))
    valid = torch.tensor([num_valid], dtype=torch.int32)
    options |= {"borderness": [], "strides": [], "scale": [1.0, 1.0], "stuff_labels": None}
    assert (ops.paste_boxes(*tensors, None, valid, **options)[0].numpy() == expected).all()


def test_strided_inputs():
    (labels, boxes, scores, box_labels), options = random_scene(2, "regions", 40, 50, 60, (1.0, 1.0))
    boxes, box_labels = boxes.astype(np.float32), box_labels.astype(np.int32)
    scores, levels = scores.astype(np.float32), options.pop("box_levels")
    views = (labels.T[::2], THINGS, np.asfortranarray(boxes)[::2], scores[::2], box_labels[::2])
    maps = [b.T for b in options.pop("borderness")]
    options = DEFAULTS | options | {"box_levels": levels[::2], "borderness": maps, "assignment": "closest_borderness"}
    expected, _ = reference.paste_boxes(*map(np.ascontiguousarray, views), **options)
    np.testing.assert_array_equal(native.paste_boxes(*views, **options)[0], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_boxes": -1}, "num_boxes: expected at least 0, got -1"),
        ({"num_classes": 0}, "num_classes: expected 1 to 255, got 0"),
        ({"num_classes": 256}, "num_classes: expected 1 to 255, got 256"),
        ({"height": -1}, "height: expected at least 0, got -1"),
        ({"width": -1}, "width: expected at least 0, got -1"),
        ({"height": 2**16, "width": 2**15}, r"height \* width: expected less than 2\^31 pixels, got 2147483648"),
        ({"scale_y": 0.0}, "scale_y: expected a finite number above 0, got 0"),
        ({"scale_x": math.nan}, "scale_x: expected a finite number above 0, got nan"),
        ({"paste_score": math.nan}, "paste_score: expected a number, got nan"),
        ({"overlap_threshold": 1.5}, r"overlap_threshold: expected a number in \[0, 1\], got 1.5"),
        ({"assignment": 3}, "assignment: expected an LpsAssignment, got 3"),
        ({"stuff_area_limit": -1}, "stuff_area_limit: expected at least 0, got -1"),
        ({"assignment": 0}, "levels.num_levels: expected 1 to 8, got 0"),
    ],
)
def test_bad_params_are_named(change, message):
    good = {"num_boxes": 1, "num_classes": 2, "height": 3, "width": 3, "scale_y": 1.0, "scale_x": 1.0}
    good |= {"levels": Levels.of([], []), "overlap_threshold": 0.5, "assignment": 1}
    with pytest.raises(ValueError, match=f"paste_boxes: {message}"):
        call("paste_boxes", PasteBoxesParams(**(good | change)), *[None] * 15)


POINTERS = ["labels", "is_thing", "boxes", "scores", "box_labels", "box_levels", "num_valid", "borderness"]
POINTERS += [
    "stuff_labels",
    "ids",
    "segment_labels",
    "segment_scores",
    "segment_areas",
    "segment_boxes",
    "num_segments",
]


@pytest.mark.parametrize("missing", sorted(set(POINTERS) - {"num_valid", "stuff_labels"}))
def test_null_pointers_are_named(missing):
    params = PasteBoxesParams(1, 2, 3, 3, 1.0, 1.0, Levels.of([(2, 2)], [2]), 0.5, 0.5, 0, 0)
    room = np.zeros(64, np.int64)
    pointers = [room.ctypes.data if name not in (missing, "num_valid") else None for name in POINTERS]
    if missing != "borderness":
        pointers[POINTERS.index("borderness")] = pointer_array([room.ctypes.data])
    with pytest.raises(ValueError, match=f"paste_boxes: {missing}: expected a pointer, got null"):
        call("paste_boxes", params, *pointers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros((4, 4))}, r"labels: expected uint8 \[H, W\], got float64 \[4, 4\]"),
        ({"boxes": np.zeros((2, 4), np.float32)}, r"boxes: expected float32 \[1, 4\], got float32 \[2, 4\]"),
        ({"box_labels": np.zeros(1)}, r"box_labels: expected int32 \[1\], got float64 \[1\]"),
        ({"stuff_labels": np.zeros((4, 5), np.uint8)}, r"stuff_labels: expected uint8 \[4, 4\], got uint8 \[4, 5\]"),
        ({"strides": (8,)}, "levels: expected up to 8 sizes and as many strides"),
        ({"assignment": "random"}, "assignment: expected one of .*, got 'random'"),
        ({"scale": (1.0,)}, r"scale: expected \(y, x\), got \(1.0,\)"),
    ],
)
def test_bad_arrays_are_named(change, message):
    arrays = {"labels": np.zeros((4, 4), np.uint8), "is_thing": THINGS, "boxes": np.zeros((1, 4), np.float32)}
    arrays |= {"scores": np.zeros(1, np.float32), "box_labels": np.zeros(1, np.int32)}
    with pytest.raises(ValueError, match=message):
        native.paste_boxes(**(arrays | DEFAULTS | change))


def test_bad_tensors_are_named():
    labels, boxes, scores = torch.zeros(4, 4, dtype=torch.uint8), torch.zeros(1, 4), torch.zeros(1)
    things, ints = torch.tensor([True]), torch.zeros(1, dtype=torch.int32)
    rest = ([], [], [1.0, 1.0], 0.0, 0.3, "smallest_area", 0, None)
    with pytest.raises(ValueError, match=r"labels: expected torch.uint8 \[H, W\], got torch.int64 \[4, 4\]"):
        ops.paste_boxes(labels.long(), things, boxes, scores, ints, None, None, *rest)
    with pytest.raises(ValueError, match=r"box_levels: expected torch.int32 \[1\], got torch.int32 \[2\]"):
        ops.paste_boxes(labels, things, boxes, scores, ints, ints.repeat(2), None, *rest)


def test_opcheck_and_compile():
    (labels, boxes, scores, box_labels), options = random_scene(1, "regions", 10, 20, 30, (1.0, 1.0))
    columns = (labels, THINGS, boxes.astype(np.float32), scores.astype(np.float32), box_labels.astype(np.int32))
    tensors = (*map(torch.from_numpy, columns), torch.from_numpy(options["box_levels"]), torch.tensor([8]).int())
    maps = [torch.from_numpy(b) for b in options["borderness"]]
    args = (*tensors, maps, [4, 8, 16], [1.0, 1.0], 0.0, 0.3, "closest_borderness", 4, None)
    torch.library.opcheck(torch.ops.lpsnet.paste_boxes.default, args)
    compiled = torch.compile(ops.paste_boxes, fullgraph=True, backend="aot_eager")
    for got, expected in zip(compiled(*args), ops.paste_boxes(*args), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("case", op_cases("paste_boxes"))
def test_shared_cases(case):
    case.verify()
