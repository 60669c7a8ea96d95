"""The chain equals its operators, which tests of their own hold against the references."""

import dataclasses

import numpy as np
import pytest
import torch
from op_cases import op_cases

from lpsnet import native, ops
from lpsnet.config import PostprocessConfig
from lpsnet.native import library
from lpsnet.native.postprocess import PostprocessParams
from lpsnet.ops import reference
from lpsnet.ops.postprocess import postprocess_into

STRIDES = [8, 16, 32]
IS_THING = np.array([1, 0, 1, 0, 1], np.uint8)
CONFIG = PostprocessConfig(score_threshold=0.1, topk=40, max_detections=30, paste_score=0.05, stuff_area_limit=60)


def dense_outputs(height: int, width: int, seed: int):
    rng = np.random.default_rng(seed)
    blocks = rng.normal(0, 2, (len(IS_THING), -(-height // 16), -(-width // 16)))
    logits = np.kron(blocks, np.ones((4, 4)))[:, : -(-height // 4), : -(-width // 4)]
    sizes = [(-(-height // s), -(-width // s)) for s in STRIDES]
    return (
        (logits + rng.normal(0, 0.3, logits.shape)).astype(np.float32),
        [rng.uniform(0, 40, (4, *size)).astype(np.float32) for size in sizes],
        [rng.uniform(0, 1, size).astype(np.float32) for size in sizes],
    )


def one_by_one(logits, ltrb, borderness, image_size, output_size, config: PostprocessConfig):
    scale = [i / o for i, o in zip(image_size, output_size, strict=True)]
    boxes, scores, labels, levels = native.decode(
        logits,
        IS_THING,
        ltrb,
        borderness,
        STRIDES,
        image_size,
        config.score_threshold,
        config.topk,
        config.score_fusion,
    )
    kept = native.nms(boxes, scores, labels, config.iou_threshold, config.max_detections)
    boxes, scores, labels, levels = boxes[kept], scores[kept], labels[kept], levels[kept]
    quarter = [s / 4 for s in scale]
    ids, table = native.paste_boxes(
        native.upsample_argmax(logits, output_size, quarter),
        IS_THING,
        boxes,
        scores,
        labels,
        levels,
        borderness,
        STRIDES,
        scale,
        config.paste_score,
        config.overlap_threshold,
        config.assignment,
        native.output_area_limit(config.stuff_area_limit, image_size, output_size),
        native.upsample_argmax(logits, output_size, quarter, 1 - IS_THING) if config.fill_stuff else None,
    )
    return (boxes, scores, labels), ids, table


@pytest.mark.parametrize("output_size", [(64, 96), (100, 150), (33, 47), (1, 1)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fill_stuff": True},
        {"assignment": "smallest_area", "score_fusion": "sqrt"},
        {"assignment": "highest_confidence", "max_detections": 0},
        {"topk": 0},
        {"score_threshold": 1.0},
    ],
)
def test_the_chain_equals_its_operators(output_size, changes):
    config = dataclasses.replace(CONFIG, **changes)
    for seed in range(3):
        logits, ltrb, borderness = dense_outputs(64, 96, seed)
        image_size = (60, 90)
        expected, expected_ids, expected_table = one_by_one(logits, ltrb, borderness, image_size, output_size, config)
        detections, ids, table = native.postprocess(
            logits, IS_THING, ltrb, borderness, image_size, output_size, config, STRIDES
        )
        assert all(np.array_equal(a, b) for a, b in zip(detections, expected, strict=True))
        assert np.array_equal(ids, expected_ids)
        assert all(np.array_equal(a, b) for a, b in zip(table, expected_table, strict=True))

        fixed = ops.postprocess(
            *tensors(logits, ltrb, borderness), STRIDES, list(image_size), list(output_size), config
        )
        boxes, scores, labels, count, fixed_ids, *columns, num_segments = fixed
        assert count.item() == len(expected[0])
        assert (labels[count.item() :] == -1).all()
        assert (scores[count.item() :] == 0).all()
        assert np.array_equal(boxes[: count.item()].numpy(), expected[0])
        assert np.array_equal(fixed_ids.numpy(), expected_ids)
        for column, want in zip(columns, expected_table, strict=True):
            assert len(column) == config.max_detections + len(IS_THING)
            assert np.array_equal(column[: num_segments.item()].numpy(), want)


@pytest.mark.parametrize("assignment", ["closest_borderness", "highest_confidence", "smallest_area"])
@pytest.mark.parametrize("fill_stuff", [False, True])
@pytest.mark.parametrize("output_size", [(60, 90), (71, 130), (20, 31)])
def test_equals_the_references(assignment, fill_stuff, output_size):
    """From the decoded boxes on, whose floats are the library's own, to the last bit."""
    config = dataclasses.replace(CONFIG, assignment=assignment, fill_stuff=fill_stuff, overlap_threshold=0.6)
    logits, ltrb, borderness = dense_outputs(64, 96, 4)
    image_size, c = (60, 90), config
    decoded = native.decode(
        logits, IS_THING, ltrb, borderness, STRIDES, image_size, c.score_threshold, c.topk, c.score_fusion
    )
    kept = reference.nms(*map(torch.from_numpy, decoded[:3]), c.iou_threshold, c.max_detections)
    scale = [np.float32(i) / np.float32(o) for i, o in zip(image_size, output_size, strict=True)]
    quarter = [s / np.float32(4) for s in scale]
    expected_ids, rows = reference.paste_boxes(
        reference.upsample_argmax(logits, output_size, quarter),
        IS_THING,
        *(column[kept] for column in decoded),
        borderness,
        STRIDES,
        scale,
        c.paste_score,
        c.overlap_threshold,
        c.assignment,
        native.output_area_limit(c.stuff_area_limit, image_size, output_size),
        reference.upsample_argmax(logits, output_size, quarter, 1 - IS_THING) if fill_stuff else None,
    )
    _, ids, table = native.postprocess(logits, IS_THING, ltrb, borderness, image_size, output_size, config, STRIDES)
    np.testing.assert_array_equal(ids, expected_ids)
    assert [(s.label, s.score, s.area, s.box) for s in table.segments()] == rows
    assert IS_THING[table.labels].sum() > 2


@pytest.mark.parametrize("output_size", [(1, 1), (9, 5)])
def test_an_image_of_one_pixel(output_size):
    logits, ltrb, borderness = dense_outputs(32, 32, 0)
    expected = one_by_one(logits, ltrb, borderness, (1, 1), output_size, CONFIG)[1]
    ids = native.postprocess(logits, IS_THING, ltrb, borderness, (1, 1), output_size, CONFIG, STRIDES)[1]
    np.testing.assert_array_equal(ids, expected)


def test_filled_stuff_leaves_no_void():
    config = dataclasses.replace(CONFIG, fill_stuff=True, stuff_area_limit=0)
    ids = native.postprocess(
        dense_outputs(64, 96, 0)[0], IS_THING, *dense_outputs(64, 96, 0)[1:], (64, 96), (64, 96), config, STRIDES
    )[1]
    assert (ids > 0).all()


def test_logits_that_are_no_numbers_are_void():
    logits, ltrb, borderness = dense_outputs(64, 96, 0)
    logits[:] = np.nan
    detections, ids, table = native.postprocess(logits, IS_THING, ltrb, borderness, (64, 96), (64, 96), CONFIG, STRIDES)
    assert not ids.any()
    assert len(table.labels) == len(detections[0]) == 0


NAMES = ["logits", "is_thing", "ltrb", "borderness", "boxes", "scores", "box_labels", "num_detections", "ids"]
NAMES += ["segment_labels", "segment_scores", "segment_areas", "segment_boxes", "num_segments"]


def small_call(**changes):
    """The C function on a small frame, with some of its arguments changed."""
    params = PostprocessParams.of((2, 8, 8), [(4, 4)], (30, 30), (30, 30), CONFIG, [8])
    room = {name: np.zeros(1 << 14, np.float32) for name in NAMES}
    pointers = {name: array.ctypes.data for name, array in room.items()}
    pointers |= {name: library.pointer_array([room[name].ctypes.data]) for name in ("ltrb", "borderness")}
    workspace = np.empty(library.workspace_size("postprocess", params), np.uint8)
    space = {"workspace": workspace.ctypes.data, "workspace_size": workspace.size}
    pointers |= {name: changes.pop(name) for name in NAMES if name in changes}
    library.call("postprocess", params, *pointers.values(), **(space | changes))


@pytest.mark.parametrize("missing", NAMES)
def test_null_pointers_are_named(missing):
    small_call()
    with pytest.raises(ValueError, match=f": {missing}: expected a pointer, got null"):
        small_call(**{missing: None})


def test_a_workspace_that_is_missing_or_small_is_named():
    with pytest.raises(ValueError, match=r"postprocess: context\.workspace: expected a pointer, got null"):
        small_call(workspace=0)
    with pytest.raises(ValueError, match=r"postprocess: context\.workspace_size: expected at least \d+, got 5"):
        small_call(workspace_size=5)
    assert library.library().lps_postprocess_workspace_size(None, library.CPU) == 0


def tensors(logits, ltrb, borderness):
    return (
        torch.from_numpy(logits),
        torch.from_numpy(IS_THING),
        [torch.from_numpy(t) for t in ltrb],
        [torch.from_numpy(b) for b in borderness],
    )


def test_some_scenes_have_boxes_and_segments():
    logits, ltrb, borderness = dense_outputs(64, 96, 0)
    detections, ids, table = native.postprocess(logits, IS_THING, ltrb, borderness, (64, 96), (64, 96), CONFIG, STRIDES)
    assert len(detections[0]) > 3
    assert len(np.unique(ids)) > 4
    assert IS_THING[table.labels].any()


def test_strided_inputs_and_bool_classes():
    logits, ltrb, borderness = dense_outputs(64, 96, 1)
    wide = np.repeat(logits, 2, axis=2)[:, :, ::2]
    a = native.postprocess(logits, IS_THING, ltrb, borderness, (64, 96), (64, 96), CONFIG, STRIDES)
    b = native.postprocess(wide, IS_THING.astype(bool), ltrb, borderness, (64, 96), (64, 96), CONFIG, STRIDES)
    assert np.array_equal(a[1], b[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"assignment": "nearest"}, "assignment: expected one of"),
        ({"score_fusion": "sum"}, "score_fusion: expected one of"),
        ({"iou_threshold": 1.5}, r"iou_threshold: expected a number in \[0, 1\], got 1.5"),
        ({"score_threshold": float("nan")}, r"score_threshold: expected a number in \[0, 1\], got nan"),
        ({"overlap_threshold": -1.0}, r"overlap_threshold: expected a number in \[0, 1\], got -1"),
        ({"max_detections": -1}, "max_detections: expected at least 0, got -1"),
        ({"topk": -1}, "topk: expected 0 to"),
        ({"stuff_area_limit": -5}, "stuff_area_limit: expected at least 0"),
    ],
)
def test_bad_settings_are_named(changes, message):
    config = dataclasses.replace(CONFIG, **changes)
    with pytest.raises(ValueError, match=message):
        native.postprocess(
            dense_outputs(64, 96, 0)[0], IS_THING, *dense_outputs(64, 96, 0)[1:], (64, 96), (64, 96), config, STRIDES
        )


def test_bad_arrays_are_named():
    logits, ltrb, borderness = dense_outputs(64, 96, 0)
    with pytest.raises(ValueError, match=r"ltrb\[1\]: expected float32 \[4, 4, 6\], got float32 \[4, 8, 12\]"):
        native.postprocess(logits, IS_THING, [ltrb[0]] + [ltrb[0]] * 2, borderness, (64, 96), (64, 96), CONFIG, STRIDES)
    with pytest.raises(ValueError, match="out_height: expected at least 1, got 0"):
        native.postprocess(logits, IS_THING, ltrb, borderness, (64, 96), (0, 96), CONFIG, STRIDES)
    with pytest.raises(ValueError, match=r"output_size: expected \(height, width\)"):
        native.postprocess(logits, IS_THING, ltrb, borderness, (64, 96), (96,), CONFIG, STRIDES)


def test_area_limit_follows_the_output():
    assert native.output_area_limit(4096, (800, 1200), (400, 600)) == 1024
    assert native.output_area_limit(0, (800, 1200), (400, 600)) == 0


def test_results_go_where_the_caller_wants_them():
    arguments = (*tensors(*dense_outputs(64, 96, 0)), STRIDES, [60, 90], [50, 70], CONFIG)
    expected = ops.postprocess(*arguments)
    outputs = [torch.full_like(t, 77) for t in expected]
    postprocess_into(outputs, *arguments)
    assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))

    for i, bad, message in (
        (4, torch.empty(50, 71, dtype=torch.int32), r"outputs\[4\]: expected torch.int32 \[50, 70\], got"),
        (1, torch.empty(len(expected[1])).double(), r"outputs\[1\]: expected torch.float32 \[30\], got torch.float64"),
        (4, torch.empty(70, 50, dtype=torch.int32).t(), r"outputs\[4\]: expected a contiguous tensor"),
    ):
        with pytest.raises(ValueError, match=message):
            postprocess_into([*outputs[:i], bad, *outputs[i + 1 :]], *arguments)
    with pytest.raises(ValueError, match="outputs: expected 10 tensors, got 9"):
        postprocess_into(outputs[:9], *arguments)


def test_opcheck():
    args = (*tensors(*dense_outputs(64, 96, 2)), STRIDES, [64, 96], [70, 100], *dataclasses.astuple(CONFIG))
    torch.library.opcheck(torch.ops.lpsnet.postprocess.default, args)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_the_whole_post_processing_compiles_as_one_graph(backend):
    logits, is_thing, ltrb, borderness = tensors(*dense_outputs(64, 96, 3))

    def head(logits, ltrb, borderness):
        probabilities = [torch.sigmoid(b) for b in borderness]
        boxes, *_, ids, labels, _, areas, _, count = ops.postprocess(
            logits * 2, is_thing, ltrb, probabilities, STRIDES, [64, 96], [64, 96], CONFIG
        )
        return boxes + 1, ids, labels, areas, count

    expected = head(logits, ltrb, borderness)
    result = torch.compile(head, fullgraph=True, backend=backend)(logits, ltrb, borderness)
    assert torch.equal(result[1], expected[1])
    assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_the_single_operators_compile_as_one_graph(backend):
    logits, is_thing, ltrb, borderness = tensors(*dense_outputs(64, 96, 3))
    c, size = CONFIG, [64, 96]

    def head(logits, ltrb, borderness):
        boxes, scores, labels, levels, count = ops.decode(
            logits, is_thing, ltrb, borderness, STRIDES, size, c.score_threshold, c.topk, c.score_fusion
        )
        kept, num_kept = ops.nms(boxes, scores, labels, count, c.iou_threshold, c.max_detections)
        rows = kept.clamp(min=0).long()
        columns = (boxes[rows], scores[rows], labels[rows], levels[rows], num_kept)
        label_map = ops.upsample_argmax(logits, size, [0.25, 0.25], None)
        options = (c.paste_score, c.overlap_threshold, c.assignment, c.stuff_area_limit, None)
        return ops.paste_boxes(label_map, is_thing, *columns, borderness, STRIDES, [1.0, 1.0], *options)

    result = torch.compile(head, fullgraph=True, backend=backend)(logits, ltrb, borderness)
    assert all(torch.equal(a, b) for a, b in zip(result, head(logits, ltrb, borderness), strict=True))
    whole = ops.postprocess(logits, is_thing, ltrb, borderness, STRIDES, size, size, CONFIG)
    assert all(torch.equal(a, b) for a, b in zip(result, whole[4:], strict=True))


@pytest.mark.parametrize("case", op_cases("postprocess"))
def test_every_dtype_and_layout(case):
    case.verify()
