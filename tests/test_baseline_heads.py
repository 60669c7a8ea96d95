"""The panoptic heads of UPSNet and Panoptic FPN against plain loops and against results made by hand."""

import math

import numpy as np
import pytest
import torch

from lpsnet.baselines.heuristic_merge import merge
from lpsnet.baselines.masks import PastedMasks, keep_visible, paste_masks
from lpsnet.baselines.roi_heads import Instances
from lpsnet.baselines.segments import Entry, make_segments
from lpsnet.baselines.upsnet_panoptic_head import panoptic_logits
from lpsnet.ops.reference import bilinear

M = 6


def random_instances(k: int, num_things: int, extent: tuple[float, float], seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    height, width = extent
    corner = torch.rand(k, 2, generator=g) * torch.tensor([width, height]) * 0.8 - 3
    boxes = torch.cat([corner, corner + torch.rand(k, 2, generator=g) * torch.tensor([width, height])], 1)
    scores = torch.rand(k, generator=g).sort(descending=True).values
    labels = torch.randint(0, num_things, (k,), generator=g)
    return Instances(boxes, scores, labels), torch.randn(k, M, M, generator=g)


def mask_logit(instances: Instances, masks: torch.Tensor, i: int, y: float, x: float) -> float | None:
    """Of instance i at a point in pixels of the input; None outside its box."""
    x1, y1, x2, y2 = instances.boxes[i].tolist()
    if not (x1 <= x < x2 and y1 <= y < y2):
        return None
    return bilinear(masks[i].tolist(), (y - y1) / (y2 - y1) * M, (x - x1) / (x2 - x1) * M)


def slow_panoptic_logits(logits, things, instances, masks, scale, logit_scale, size) -> torch.Tensor:
    planes = logits.double().tolist()
    stuff = [i for i in range(len(planes)) if i not in things]
    k = len(instances.labels)
    volume = torch.zeros(len(stuff) + k + 1, *size, dtype=torch.float64)
    for y in range(size[0]):
        for x in range(size[1]):
            semantic = [bilinear(p, (y + 0.5) * logit_scale[0], (x + 0.5) * logit_scale[1]) for p in planes]
            in_boxes = []
            for i in range(k):
                mask = mask_logit(instances, masks, i, (y + 0.5) * scale[0], (x + 0.5) * scale[1])
                of_class = semantic[things[instances.labels[i]]]
                in_boxes.append(0.0 if mask is None else of_class)
                volume[len(stuff) + i, y, x] = 0.0 if mask is None else of_class + mask
            volume[: len(stuff), y, x] = torch.tensor([semantic[i] for i in stuff])
            seen = max((semantic[i] for i in things), default=-math.inf)
            volume[-1, y, x] = seen - max(in_boxes, default=0.0)
    return volume


@pytest.mark.parametrize("k", [0, 1, 2, 12])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (1.7, 1.3), (0.6, 0.5)])
def test_panoptic_logits_equal_plain_loops(k, scale):
    torch.manual_seed(k)
    things, logits = [1, 2, 4, 5, 6, 7, 8, 9, 10, 11], torch.randn(12, 7, 8)  # two chunks of thing classes
    size = round(26 / scale[0]), round(30 / scale[1])
    logit_scale = scale[0] / 4, scale[1] / 4
    instances, masks = random_instances(k, len(things), (26, 30), seed=k)
    pasted = paste_masks(instances, masks, scale, size)
    got = panoptic_logits(logits, things, pasted, logit_scale, size)
    expected = slow_panoptic_logits(logits, things, instances, masks, scale, logit_scale, size)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)


def test_unknown_where_every_instance_covers_the_image():
    logits = torch.tensor([[[1.0]], [[-2.0]], [[-5.0]]])
    instances = Instances(torch.tensor([[0.0, 0, 4, 4]] * 2), torch.tensor([0.9, 0.8]), torch.tensor([1, 0]))
    pasted = paste_masks(instances, torch.full((2, M, M), 0.5), (1.0, 1.0), (4, 4))
    volume = panoptic_logits(logits, [1, 2], pasted, (0.25, 0.25), (4, 4))
    # Things are -2 and -5, explained are -5 and -2: no instance's 0 counts anywhere.
    assert volume[:, 0, 0].tolist() == [1.0, -4.5, -1.5, 0.0]
    assert (volume == volume[:, :1, :1]).all()


def test_unknown_wins_where_no_instance_explains_a_thing():
    logits = torch.zeros(2, 2, 4)
    logits[0, :, :2], logits[1, :, 2:] = 8.0, 8.0  # stuff at the left, a thing at the right
    instances = Instances(torch.tensor([[8.0, 0, 16, 4]]), torch.tensor([0.9]), torch.tensor([0]))
    pasted = paste_masks(instances, torch.full((1, M, M), 4.0), (1.0, 1.0), (8, 16))
    best = panoptic_logits(logits, [1], pasted, (0.25, 0.25), (8, 16)).argmax(0)
    assert (best[:, :6] == 0).all()
    assert (best[:4, 10:] == 1).all()
    assert (best[4:, 10:] == 2).all()


@pytest.mark.parametrize("scale", [(1.0, 1.0), (1.6, 1.1), (0.5, 0.7)])
def test_pasted_masks_equal_plain_loops(scale):
    size = round(20 / scale[0]), round(24 / scale[1])
    instances, masks = random_instances(15, 3, (20, 24), seed=4)
    pasted = paste_masks(instances, masks, scale, size)
    for i, (y1, y2, x1, x2) in enumerate(pasted.regions):
        assert pasted.logits[i].shape == (y2 - y1, x2 - x1)
        for y in range(size[0]):
            for x in range(size[1]):
                expected = mask_logit(instances, masks, i, (y + 0.5) * scale[0], (x + 0.5) * scale[1])
                assert (expected is not None) == (y1 <= y < y2 and x1 <= x < x2)
                if expected is not None:
                    assert pasted.logits[i][y - y1, x - x1].item() == pytest.approx(expected, abs=1e-4)


def test_boxes_without_a_pixel_paste_nothing():
    boxes = torch.tensor([[5.0, 5, 5, 9], [-9, -9, -2, -2], [30, 0, 40, 9], [2.6, 0, 3.4, 9], [9, 9, 1, 1]])
    instances = Instances(boxes, torch.linspace(1, 0.1, 5), torch.zeros(5, dtype=torch.int64))
    pasted = paste_masks(instances, torch.ones(5, M, M), (1.0, 1.0), (10, 20))
    assert [logits.numel() for logits in pasted.logits] == [0] * 5
    assert keep_visible(pasted, (10, 20), 0.5, per_class=True) == []
    volume = panoptic_logits(torch.randn(2, 3, 5), [1], pasted, (0.25, 0.25), (10, 20))
    assert not volume[1:6].any()


def block(y1: int, y2: int, x1: int, x2: int, label: int, score: float) -> PastedMasks:
    return PastedMasks([(y1, y2, x1, x2)], [torch.ones(y2 - y1, x2 - x1)], [label], [score])


def together(*blocks: PastedMasks) -> PastedMasks:
    lists = [[value for b in blocks for value in getattr(b, f)] for f in ("regions", "logits", "labels", "scores")]
    return PastedMasks(*lists)


def test_overlaps_are_of_the_mask_with_what_is_taken():
    masks = together(
        block(0, 10, 0, 10, 0, 0.9),
        block(0, 10, 7, 17, 0, 0.8),  # 30 of 100 are taken
        block(0, 10, 6, 16, 0, 0.7),  # all are taken
        block(0, 10, 6, 16, 1, 0.6),  # of another class
    )
    assert keep_visible(masks, (10, 20), 0.3, per_class=True) == [0, 1, 3]
    assert keep_visible(masks, (10, 20), 0.3, per_class=False) == [0, 1]
    assert keep_visible(masks, (10, 20), 0.29, per_class=True) == [0, 3]
    assert keep_visible(masks, (10, 20), 1.0, per_class=False) == [0, 1, 2, 3]
    assert keep_visible(together(), (10, 20), 0.3, per_class=False) == []


def slow_merge(stuff, num_stuff, masks, threshold):
    """Instances one after the other, pixel after pixel."""
    height, width = stuff.shape
    owner, kept = {}, []
    for i, (y1, y2, x1, x2) in enumerate(masks.regions):
        pixels = [(y, x) for y in range(y1, y2) for x in range(x1, x2) if masks.logits[i][y - y1, x - x1] > 0]
        taken = sum(p in owner for p in pixels)
        if not pixels or taken > threshold * len(pixels):
            continue
        for p in pixels:
            owner.setdefault(p, num_stuff + len(kept))
        kept.append(i)
    void = num_stuff + len(kept)
    slots = np.full((height, width), void)
    for y in range(height):
        for x in range(width):
            label = int(stuff[y, x])
            slots[y, x] = owner.get((y, x), label if label < num_stuff else void)
    return slots, kept


@pytest.mark.parametrize("k", [0, 1, 20])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_merge_equals_plain_loops(k, threshold):
    torch.manual_seed(k)
    instances, masks = random_instances(k, 3, (22, 27), seed=k + 1)
    pasted = paste_masks(instances, masks, (1.0, 1.0), (22, 27))
    stuff = torch.randint(0, 5, (22, 27), dtype=torch.uint8)
    stuff[0, 0] = 255
    slots, kept = merge(stuff, 4, pasted, threshold)
    expected_slots, expected_kept = slow_merge(stuff, 4, pasted, threshold)
    assert kept == expected_kept
    assert np.array_equal(slots.numpy(), expected_slots)


def test_segments_by_hand():
    slots = torch.tensor([[0, 0, 2, 2, 4], [0, 0, 2, 3, 4], [1, 0, 0, 3, 4]])
    ids, segments = make_segments(slots, [Entry(7), Entry(3), Entry(9, 0.8), Entry(8, 0.6)], stuff_area_limit=2)
    assert ids.dtype == np.int32
    assert ids.tolist() == [[3, 3, 1, 1, 0], [3, 3, 1, 2, 0], [0, 3, 3, 2, 0]]
    rows = [(s.id, s.label, s.score, s.area, s.box) for s in segments]
    assert rows == [(1, 9, 0.8, 3, (2, 0, 4, 2)), (2, 8, 0.6, 2, (3, 1, 4, 3)), (3, 7, 1.0, 6, (0, 0, 3, 3))]


def test_stuff_is_in_the_order_of_its_classes_and_things_have_no_limit():
    slots = torch.tensor([[0, 0, 1, 1, 2]])
    _, segments = make_segments(slots, [Entry(5), Entry(1), Entry(9, 0.5)], stuff_area_limit=2)
    assert [(s.label, s.area) for s in segments] == [(9, 1), (1, 2), (5, 2)]
    _, segments = make_segments(slots, [Entry(5), Entry(1), Entry(9, 0.5)], stuff_area_limit=0)
    assert len(segments) == 3
    ids, segments = make_segments(torch.zeros(2, 2, dtype=torch.int64), [], 0)
    assert not ids.any()
    assert segments == ()
