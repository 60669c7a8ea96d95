import ctypes
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import op_cases

from lpsnet import native, ops
from lpsnet.native import library
from lpsnet.native.nms import NmsParams
from lpsnet.ops import reference

Boxes = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def random_boxes(n: int, seed: int, num_classes: int = 3, extent: float = 100) -> Boxes:
    g = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(n, 2, generator=g) * extent, torch.rand(n, 2, generator=g) * 60
    scores = (torch.rand(n, generator=g) * 20).round() / 20  # ties on purpose
    labels = torch.randint(-1, num_classes - 1, (n,), generator=g, dtype=torch.int32)
    return torch.cat([corner, corner + size], 1), scores, labels


def check(boxes: Boxes, iou_threshold: float, max_kept: int) -> list[int]:
    expected = reference.nms(*boxes, iou_threshold, max_kept)
    kept, num_kept = ops.nms(*boxes, None, iou_threshold, max_kept)
    assert kept.tolist() == expected + [-1] * (max_kept - len(expected))
    assert num_kept.item() == len(expected)
    assert native.nms(*(b.numpy() for b in boxes), iou_threshold, max_kept).tolist() == expected
    return expected


@pytest.mark.parametrize("n", [0, 1, 2, 50, 300])
@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("max_kept", [0, 1, 40, 400])
def test_equals_reference(n, iou_threshold, max_kept):
    check(random_boxes(n, seed=n), iou_threshold, max_kept)


@pytest.mark.parametrize("extent", [100, 3000])
@pytest.mark.parametrize("max_kept", [100, 2000])
def test_one_large_class(extent, max_kept):
    check(random_boxes(2000, seed=1, num_classes=1, extent=extent), 0.6, max_kept)


def test_large_and_small_classes():
    boxes, scores, labels = random_boxes(3000, seed=5, num_classes=80, extent=500)
    labels[::2] = 7  # one class that gets threads of its own beside many that share them
    check((boxes, scores, labels), 0.5, 600)


coordinate = st.one_of(st.integers(-5, 60).map(float), st.sampled_from([math.nan, math.inf, -math.inf]))
box = st.tuples(
    st.tuples(*[coordinate] * 4),
    st.one_of(st.integers(-3, 3).map(float), st.sampled_from([math.nan, math.inf, -math.inf, -0.0])),
    st.sampled_from([-(2**31), -1, 0, 1, 2**31 - 1]),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(box, max_size=40), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 45))
def test_generated(rows, iou_threshold, max_kept):
    boxes = torch.tensor([r[0] for r in rows]).reshape(-1, 4)
    labels = torch.tensor([r[2] for r in rows], dtype=torch.int32)
    check((boxes, torch.tensor([r[1] for r in rows]), labels), iou_threshold, max_kept)


def test_equal_scores_keep_their_order():
    boxes = torch.arange(1500.0).reshape(-1, 1) * 10 + torch.tensor([0.0, 0.0, 5.0, 5.0])
    kept, _ = ops.nms(boxes, torch.full((1500,), 0.5), torch.zeros(1500, dtype=torch.int32), None, 0.5, 1500)
    assert kept.tolist() == list(range(1500))


def test_empty_boxes_suppress_nothing():
    boxes = torch.tensor([[5.0, 5, 5, 9], [5, 5, 5, 9], [9, 9, 2, 2], [0, 0, 10, 10]])
    assert check((boxes, torch.tensor([4.0, 3, 2, 1]), torch.zeros(4, dtype=torch.int32)), 0.0, 4) == [0, 1, 2, 3]


def test_not_a_number_is_never_kept():
    boxes = torch.tensor([[0.0, 0, 9, 9]] * 4)
    boxes[0, 2] = math.nan
    boxes[1, 0] = -math.inf
    scores = torch.tensor([4.0, 3, math.nan, 1])
    assert check((boxes, scores, torch.zeros(4, dtype=torch.int32)), 0.5, 4) == [3]


@pytest.mark.parametrize(("num_valid", "read"), [(0, 0), (20, 20), (60, 60), (99, 60), (-3, 0)])
def test_only_valid_boxes_are_read(num_valid, read):
    boxes = random_boxes(60, seed=3)
    kept, num_kept = ops.nms(*boxes, torch.tensor([num_valid], dtype=torch.int32), 0.5, 60)
    assert kept[: num_kept.item()].tolist() == reference.nms(*(b[:read] for b in boxes), 0.5, 60)


def test_strided_inputs():
    boxes, scores, labels = random_boxes(200, seed=4)
    expected = reference.nms(boxes[::2], scores[::2], labels[::2], 0.4, 100)
    transposed = boxes.T.contiguous().T
    assert native.nms(transposed.numpy()[::2], scores.numpy()[::2], labels.numpy()[::2], 0.4, 100).tolist() == expected
    kept, num_kept = ops.nms(transposed[::2], scores[::2], labels[::2], None, 0.4, 100)
    assert kept[: num_kept.item()].tolist() == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iou_threshold": 1.5}, r"iou_threshold: expected a number in \[0, 1\], got 1.5"),
        ({"iou_threshold": math.nan}, r"iou_threshold: expected a number in \[0, 1\], got -?nan"),
        ({"max_kept": -1}, r"max_kept: expected at least 0, got -1"),
        ({"boxes": torch.zeros(4, 5)}, r"boxes: expected torch.float32 \[N, 4\], got torch.float32 \[4, 5\]"),
        ({"scores": torch.zeros(3)}, r"scores: expected torch.float32 \[4\], got torch.float32 \[3\]"),
        ({"labels": torch.zeros(4)}, r"labels: expected torch.int32 \[4\], got torch.float32 \[4\]"),
        ({"num_valid": torch.zeros(2, dtype=torch.int32)}, r"num_valid: expected torch.int32 \[1\]"),
    ],
)
def test_bad_arguments_are_named(change, message):
    boxes, scores, labels = random_boxes(4, seed=0)
    good = {"boxes": boxes, "scores": scores, "labels": labels, "num_valid": None, "iou_threshold": 0.5, "max_kept": 4}
    with pytest.raises(ValueError, match=message):
        ops.nms(**(good | change))


def test_bad_arrays_are_named():
    with pytest.raises(ValueError, match=r"expected \[N, 4\], \[N\], \[N\], got \(4, 3\), \(4,\), \(4,\)"):
        native.nms(np.zeros((4, 3)), np.zeros(4), np.zeros(4), 0.5, 4)
    with pytest.raises(ValueError, match="max_kept: expected at least 0, got -2"):
        native.nms(np.zeros((4, 4)), np.zeros(4), np.zeros(4), 0.5, -2)


@pytest.mark.parametrize("missing", range(6))
def test_null_pointers_are_named(missing):
    names = ["boxes", "scores", "labels", "num_valid", "kept", "num_kept"]
    arrays = [np.zeros((2, 4), np.float32), np.zeros(2, np.float32), np.zeros(2, np.int32), np.ones(1, np.int32)]
    arrays += [np.zeros(2, np.int32), np.zeros(1, np.int32)]
    pointers = [None if i == missing else a.ctypes.data for i, a in enumerate(arrays)]
    if names[missing] == "num_valid":
        library.call("nms", NmsParams(2, 2, 0.5), *pointers)
    else:
        with pytest.raises(ValueError, match=f"nms: {names[missing]}: expected a pointer, got null"):
            library.call("nms", NmsParams(2, 2, 0.5), *pointers)


def test_null_params_and_context():
    function = library.library().lps_nms
    assert function(None, None, *[ctypes.c_void_p()] * 6) == 1
    assert function(ctypes.byref(NmsParams(0, 0, 0.5)), None, *[ctypes.c_void_p()] * 6) == 1
    assert library.library().lps_last_error() == b"nms: context: expected a pointer, got null"


def test_opcheck_and_compile():
    args = (*random_boxes(30, seed=2), torch.tensor([20], dtype=torch.int32), 0.5, 10)
    torch.library.opcheck(torch.ops.lpsnet.nms.default, args)
    assert torch.equal(torch.compile(ops.nms, fullgraph=True, backend="aot_eager")(*args)[0], ops.nms(*args)[0])


@pytest.mark.parametrize("case", op_cases("nms"))
def test_shared_cases(case):
    case.verify()
