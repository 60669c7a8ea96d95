"""The chain equals its operators, which tests of their own hold against the references."""

import dataclasses

import numpy as np
import pytest
import torch

from lpsnet import native, ops
from lpsnet.config import PostprocessConfig

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
