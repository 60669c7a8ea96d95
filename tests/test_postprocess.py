import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lpsnet import native, ops
from lpsnet.config import PostprocessConfig
from lpsnet.native.library import CPU, Levels, call, library, pointer_array, workspace_size
from lpsnet.native.postprocess import PostprocessParams, output_area
from lpsnet.ops import reference

STRIDES = (8, 16, 32)
CONFIG = PostprocessConfig(score_threshold=0.1, topk=60, max_detections=25, paste_score=0.05, stuff_area_limit=150)


def scene(seed=0, num_classes=7, image_size=(121, 150), peaked=True):
    """Dense outputs of an image padded to a multiple of 32, as keyword arguments of `postprocess`."""
    g = torch.Generator().manual_seed(seed)
    height, width = (-(-n // 32) * 32 for n in image_size)
    size = (height // 4, width // 4)
    logits = torch.randn(1, num_classes, size[0] // 8, size[1] // 8, generator=g)
    logits = F.interpolate(logits, size=size, mode="bicubic")[0] * (6 if peaked else 1)
    sizes = [(math.ceil(height / s), math.ceil(width / s)) for s in STRIDES]
    return {
        "logits": logits.contiguous().numpy(),
        "is_thing": np.arange(num_classes) % 2 == 0,
        "ltrb": [(torch.rand(4, *s, generator=g) * 60).numpy() for s in sizes],
        "borderness": [torch.rand(*s, generator=g).numpy() for s in sizes],
        "strides": STRIDES,
        "image_size": image_size,
    }


def scales(image_size, out_size):
    return [np.float32(n) / np.float32(m) for n, m in zip(image_size, out_size, strict=True)]


def chain(arguments, out_size, config, upsample_argmax, paste_boxes, nms):
    """The four steps one after the other."""
    a, c = arguments, config
    logits, is_thing, borderness, image_size = a["logits"], a["is_thing"], a["borderness"], a["image_size"]
    boxes, scores, labels, levels = native.decode(
        logits, is_thing, a["ltrb"], borderness, STRIDES, image_size, c.score_threshold, c.topk, c.score_fusion
    )
    kept = nms(boxes, scores, labels, c.iou_threshold, c.max_detections)
    boxes, scores, labels, levels = boxes[kept], scores[kept], labels[kept], levels[kept]
    scale = scales(image_size, out_size)
    logit_scale = [s / np.float32(4) for s in scale]
    label_map = upsample_argmax(logits, out_size, logit_scale, None)
    stuff_map = upsample_argmax(logits, out_size, logit_scale, ~is_thing) if c.fill_stuff else None
    ids, table = paste_boxes(
        label_map,
        is_thing,
        boxes,
        scores,
        labels,
        levels,
        borderness,
        STRIDES,
        scale,
        c.paste_score,
        c.overlap_threshold,
        c.assignment,
        output_area(c.stuff_area_limit, image_size, out_size),
        stuff_map,
    )
    return ids, table, (boxes, scores, labels)


def reference_nms(boxes, scores, labels, iou_threshold, max_kept):
    return reference.nms(*map(torch.from_numpy, (boxes, scores, labels)), iou_threshold, max_kept)


def as_tensors(arguments):
    tensors = {k: torch.from_numpy(arguments[k]) for k in ("logits", "is_thing")}
    lists = {k: [torch.from_numpy(a) for a in arguments[k]] for k in ("ltrb", "borderness")}
    return arguments | tensors | lists


def check(arguments, out_size, config):
    """One call against the chain of the operators and of their references; returns the number of things."""
    ids, table, detections = native.postprocess(**arguments, out_size=out_size, config=config)
    expected_ids, expected, kept = chain(
        arguments, out_size, config, native.upsample_argmax, native.paste_boxes, native.nms
    )
    np.testing.assert_array_equal(ids, expected_ids)
    for got, column in zip(table, expected, strict=True):
        np.testing.assert_array_equal(got, column)
    for got, column in zip((detections.boxes, detections.scores, detections.labels), kept, strict=True):
        np.testing.assert_array_equal(got, column)

    slow_ids, rows, _ = chain(
        arguments, out_size, config, reference.upsample_argmax, reference.paste_boxes, reference_nms
    )
    np.testing.assert_array_equal(ids, slow_ids)
    assert [(s.label, s.score, s.area, s.box) for s in table.segments()] == rows

    tensors = ops.postprocess(**as_tensors(arguments), out_size=out_size, config=config)
    np.testing.assert_array_equal(tensors.ids.numpy(), ids)
    n, k = len(detections), len(table.labels)
    assert (tensors.num_detections.item(), tensors.num_segments.item()) == (n, k)
    for column, filled, padding in zip(tensors[:3], dataclasses.astuple(detections), (0, 0, -1), strict=True):
        assert len(column) == config.max_detections
        np.testing.assert_array_equal(column[:n].numpy(), filled)
        assert (column[n:] == padding).all()
    for column, filled, padding in zip(tensors[5:9], table, (-1, 0, 0, 0), strict=True):
        assert len(column) == config.max_detections + len(arguments["is_thing"])
        np.testing.assert_array_equal(column[:k].numpy(), filled)
        assert (column[k:] == padding).all()
    return int(arguments["is_thing"][table.labels].sum())


@pytest.mark.parametrize("assignment", ["closest_borderness", "highest_confidence", "smallest_area"])
@pytest.mark.parametrize("fill_stuff", [False, True])
@pytest.mark.parametrize("out_size", [(121, 150), (97, 201), (30, 40)])
@pytest.mark.parametrize("peaked", [True, False])
def test_equals_the_chain_of_operators(assignment, fill_stuff, out_size, peaked):
    config = dataclasses.replace(CONFIG, assignment=assignment, fill_stuff=fill_stuff, overlap_threshold=0.6)
    assert check(scene(seed=len(assignment), peaked=peaked), out_size, config) > 2


@pytest.mark.parametrize(
    "change",
    [
        {"score_fusion": "sqrt"},
        {"max_detections": 0},
        {"max_detections": 1},
        {"max_detections": 500},
        {"topk": 0},
        {"topk": 1},
        {"score_threshold": 1.0},
        {"paste_score": 2.0},
        {"iou_threshold": 1.0, "overlap_threshold": 1.0},
        {"overlap_threshold": 0.0},
        {"stuff_area_limit": 0},
        {"stuff_area_limit": 10**6},
    ],
)
def test_every_option(change):
    check(scene(), (121, 150), dataclasses.replace(CONFIG, **change))


def test_one_pixel():
    check(scene(image_size=(1, 1)), (1, 1), CONFIG)
    check(scene(image_size=(1, 1)), (9, 5), CONFIG)


def test_filled_stuff_leaves_no_unclaimed_thing_pixel():
    config = dataclasses.replace(CONFIG, fill_stuff=True, stuff_area_limit=0)
    ids, _, _ = native.postprocess(**scene(), out_size=(121, 150), config=config)
    assert (ids > 0).all()


def test_not_a_number_everywhere_is_void():
    arguments = scene()
    arguments["logits"] = np.full_like(arguments["logits"], np.nan)
    ids, table, detections = native.postprocess(**arguments, out_size=(121, 150), config=CONFIG)
    assert not ids.any()
    assert len(table.labels) == len(detections) == 0


def test_strided_inputs():
    arguments = scene()
    expected = native.postprocess(**arguments, out_size=(121, 150), config=CONFIG)[0]
    strided = arguments | {"logits": np.asfortranarray(arguments["logits"])}
    strided["ltrb"] = [np.asfortranarray(a) for a in arguments["ltrb"]]
    np.testing.assert_array_equal(native.postprocess(**strided, out_size=(121, 150), config=CONFIG)[0], expected)
    tensors = as_tensors(arguments)
    tensors["logits"] = tensors["logits"].permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert (ops.postprocess(**tensors, out_size=(121, 150), config=CONFIG).ids.numpy() == expected).all()


def test_stuff_area_limit_is_in_pixels_of_the_input():
    assert output_area(4096, (800, 1344), (800, 1344)) == 4096
    assert output_area(4096, (800, 1344), (400, 672)) == 1024
    assert output_area(100, (3, 3), (2, 2)) == 44
    assert output_area(0, (3, 3), (2, 2)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 0}, "postprocess: num_classes: expected 1 to 255, got 0"),
        ({"logits_stride": 0}, "postprocess: logits_stride: expected at least 1, got 0"),
        ({"levels": Levels.of([], [])}, "postprocess: levels.num_levels: expected 1 to 8, got 0"),
        ({"image_height": 0}, "postprocess: image_height: expected at least 1, got 0"),
        ({"image_width": 0}, "postprocess: image_width: expected at least 1, got 0"),
        ({"out_height": 0}, "postprocess: out_height: expected at least 1, got 0"),
        ({"out_width": -1}, "postprocess: out_width: expected at least 1, got -1"),
        ({"out_height": 2**16, "out_width": 2**15}, "out_height . out_width: expected less than 2.31 pixels"),
        ({"topk": -1}, "postprocess: topk: expected 0 to 2.28 - 1, got -1"),
        ({"topk": 2**30}, "postprocess: topk: expected 0 to 2.28 - 1, got 1073741824"),
        ({"max_detections": -1}, "postprocess: max_detections: expected at least 0, got -1"),
        ({"logits_height": 0}, "decode: logits_height: expected at least 1, got 0"),
        ({"score_threshold": math.nan}, "decode: score_threshold: expected a number in"),
        ({"iou_threshold": 2.0}, "nms: iou_threshold: expected a number in"),
        ({"overlap_threshold": 2.0}, "paste_boxes: overlap_threshold: expected a number in"),
        ({"assignment": 9}, "paste_boxes: assignment: expected an LpsAssignment, got 9"),
    ],
)
def test_bad_params_are_named(change, message):
    params = PostprocessParams.of((2, 8, 8), 4, [(4, 4)], [8], (30, 30), (30, 30), CONFIG)
    for name, value in change.items():
        setattr(params, name, value)
    room = np.zeros(1 << 16, np.float32)
    arrays = [room.ctypes.data] * 2 + [pointer_array([room.ctypes.data])] * 2
    outputs = [np.empty(1 << 12, np.float32) for _ in range(10)]
    workspace = np.empty(workspace_size("postprocess", params), np.uint8)
    with pytest.raises(ValueError, match=message):
        call(
            "postprocess",
            params,
            *arrays,
            *(a.ctypes.data for a in outputs),
            workspace=workspace.ctypes.data,
            workspace_size=workspace.size,
        )


NAMES = ["logits", "is_thing", "ltrb", "borderness", "boxes", "scores", "box_labels", "num_detections", "ids"]
NAMES += ["segment_labels", "segment_scores", "segment_areas", "segment_boxes", "num_segments"]


@pytest.mark.parametrize("missing", NAMES)
def test_null_pointers_are_named(missing):
    params = PostprocessParams.of((2, 8, 8), 4, [(4, 4)], [8], (30, 30), (30, 30), CONFIG)
    room = {name: np.zeros(1 << 14, np.float32) for name in NAMES}
    pointers = {name: array.ctypes.data for name, array in room.items()}
    pointers |= {name: pointer_array([room[name].ctypes.data]) for name in ("ltrb", "borderness")}
    workspace = np.empty(workspace_size("postprocess", params), np.uint8)
    with pytest.raises(ValueError, match=f": {missing}: expected a pointer, got null"):
        call(
            "postprocess",
            params,
            *(pointers | {missing: None}).values(),
            workspace=workspace.ctypes.data,
            workspace_size=workspace.size,
        )


def test_a_small_workspace_is_named():
    params = PostprocessParams.of((2, 8, 8), 4, [(4, 4)], [8], (30, 30), (30, 30), CONFIG)
    size, room = workspace_size("postprocess", params), np.zeros(1 << 14, np.float32)
    pointers = [room.ctypes.data] * 14
    with pytest.raises(ValueError, match=r"postprocess: context\.workspace: expected a pointer, got null"):
        call("postprocess", params, *pointers)
    with pytest.raises(ValueError, match=rf"context\.workspace_size: expected at least {size}, got {size - 1}"):
        call("postprocess", params, *pointers, workspace=room.ctypes.data, workspace_size=size - 1)
    assert library().lps_postprocess_workspace_size(None, CPU) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.zeros((7, 8, 8))}, r"logits: expected float32 \[C, h, w\], got float64 \[7, 8, 8\]"),
        ({"is_thing": np.zeros(3, bool)}, r"is_thing: expected uint8 \[7\], got uint8 \[3\]"),
        ({"ltrb": []}, "ltrb, borderness: expected as many levels, got 0 and 3"),
        ({"strides": (8, 16)}, "levels: expected up to 8 sizes and as many strides"),
        ({"image_size": (0, 5)}, r"image_size: expected \(height, width\), each at least 1, got \(0, 5\)"),
        ({"out_size": (5,)}, r"out_size: expected \(height, width\), each at least 1, got \(5,\)"),
        ({"config": dataclasses.replace(CONFIG, score_fusion="sum")}, "score_fusion: expected one of .*, got 'sum'"),
        ({"config": dataclasses.replace(CONFIG, assignment="any")}, "assignment: expected one of .*, got 'any'"),
        ({"config": dataclasses.replace(CONFIG, max_detections=-1)}, "max_detections: expected at least 0, got -1"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        native.postprocess(**(scene() | {"out_size": (121, 150), "config": CONFIG} | change))


def test_bad_tensors_are_named():
    arguments = as_tensors(scene()) | {"out_size": (121, 150), "config": CONFIG}
    arguments["ltrb"][1] = arguments["ltrb"][1][:3]
    with pytest.raises(
        ValueError, match=r"ltrb\[1\]: expected torch.float32 \[4, 8, 10\], got torch.float32 \[3, 8, 10\]"
    ):
        ops.postprocess(**arguments)


def flat(arguments, out_size, config):
    """The arguments of torch.ops.lpsnet.postprocess."""
    a = as_tensors(arguments)
    sizes = [list(STRIDES), list(a["image_size"]), list(out_size), 4]
    return (a["logits"], a["is_thing"], a["ltrb"], a["borderness"], *sizes, *dataclasses.astuple(config))


def test_opcheck():
    torch.library.opcheck(torch.ops.lpsnet.postprocess.default, flat(scene(), (60, 75), CONFIG))


def one_image(logits, ltrb, borderness, is_thing):
    """What stands between the heads and the panoptic map, as a user would compile it."""
    probabilities = [torch.sigmoid(level) for level in borderness]
    out = ops.postprocess(logits * 1.5, is_thing, ltrb, probabilities, STRIDES, (121, 150), (121, 150), CONFIG)
    return out.ids.clamp(max=100), out.segment_labels, out.boxes / 4, out.num_segments + 0


def op_by_op(logits, ltrb, borderness, is_thing):
    """The same from the single operators."""
    c, scale = CONFIG, [1.0, 1.0]
    logits, borderness = logits * 1.5, [torch.sigmoid(level) for level in borderness]
    boxes, scores, labels, levels, count = ops.decode(
        logits, is_thing, ltrb, borderness, list(STRIDES), [121, 150], c.score_threshold, c.topk, c.score_fusion
    )
    kept, num_kept = ops.nms(boxes, scores, labels, count, c.iou_threshold, c.max_detections)
    rows = kept.clamp(min=0).long()
    label_map = ops.upsample_argmax(logits, [121, 150], [0.25, 0.25], None)
    columns = (boxes[rows], scores[rows], labels[rows], levels[rows], num_kept)
    options = (c.paste_score, c.overlap_threshold, c.assignment, c.stuff_area_limit, None)
    out = ops.paste_boxes(label_map, is_thing, *columns, borderness, list(STRIDES), scale, *options)
    return out[0].clamp(max=100), out[1], boxes[rows] / 4, out[5] + 0


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("function", [one_image, op_by_op])
def test_the_whole_post_processing_compiles(function, backend):
    arguments = as_tensors(scene())
    inputs = [arguments[k] for k in ("logits", "ltrb", "borderness", "is_thing")]
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    for got, expected in zip(compiled(*inputs), function(*inputs), strict=True):
        assert torch.equal(got, expected)


def test_one_call_and_the_single_operators_agree_in_torch():
    arguments = as_tensors(scene())
    inputs = [arguments[k] for k in ("logits", "ltrb", "borderness", "is_thing")]
    one, many = one_image(*inputs), op_by_op(*inputs)
    n = ops.postprocess(**arguments, out_size=(121, 150), config=CONFIG).num_detections.item()
    assert torch.equal(one[0], many[0])
    assert torch.equal(one[1], many[1])
    assert torch.equal(one[2][:n], many[2][:n])
