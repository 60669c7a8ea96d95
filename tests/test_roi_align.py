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
from lpsnet.native.roi_align import RoiAlignParams
from lpsnet.ops import roi_align_reference as reference

STRIDES = [4, 8, 16, 32]
CANONICAL = (2, 224.0)


def pyramid(seed: int = 0, channels: int = 3, sizes=((20, 26), (10, 13), (5, 7), (3, 4))) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(channels, *size, generator=g) for size in sizes]


def random_boxes(n: int, seed: int = 0, extent: float = 110, largest: float = 90) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=g) * extent - 10
    return torch.cat([corner, corner + torch.rand(n, 2, generator=g) * largest], 1)


def check(features, boxes, output_size=(2, 3), ratio=2, canonical=(2, 40.0), box_levels=None, strides=STRIDES):
    strides = strides[: len(features)]
    args = (features, boxes, strides, output_size, ratio, *canonical)
    expected = reference.roi_align(*args, box_levels)
    got = ops.roi_align(*args, box_levels)
    assert got.shape == expected.shape
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5)
    levels = None if box_levels is None else box_levels.numpy()
    arrays = native.roi_align([f.numpy() for f in features], boxes.numpy(), *args[2:], levels)
    assert np.array_equal(arrays, got.numpy())
    return got


@pytest.mark.parametrize("n", [0, 1, 40])
@pytest.mark.parametrize("output_size", [(1, 1), (2, 3), (7, 7)])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_equals_reference(n, output_size, ratio):
    check(pyramid(), random_boxes(n, seed=n), output_size, ratio)


@pytest.mark.parametrize("channels", [1, 31, 64, 65, 256, 300])
def test_any_number_of_channels(channels):
    check(pyramid(channels=channels, sizes=((6, 5), (3, 3))), random_boxes(4, extent=20), ratio=3)


@pytest.mark.parametrize("num_levels", [1, 2, 4])
def test_any_number_of_levels(num_levels):
    check(pyramid()[:num_levels], random_boxes(20, seed=1))


def test_more_samples_than_are_blended_at_once():
    check(pyramid(channels=70), random_boxes(6, seed=2, largest=110), (1, 2), 5)
    check(pyramid(channels=70), random_boxes(6, seed=2, largest=110), (1, 2), 0, box_levels=torch.zeros(6).int())


def test_a_ramp_gives_the_centres_of_the_bins():
    y, x = torch.meshgrid(torch.arange(24.0) + 0.5, torch.arange(32.0) + 0.5, indexing="ij")
    out = ops.roi_align([torch.stack([y, x]) * 4], torch.tensor([[10.0, 20.0, 50.0, 80.0]]), [4], [3, 4], 2, 0, 224.0)
    torch.testing.assert_close(out[0, 0], torch.tensor([30.0, 50.0, 70.0])[:, None].expand(3, 4))
    torch.testing.assert_close(out[0, 1], torch.tensor([15.0, 25.0, 35.0, 45.0]).expand(3, 4))


def test_a_bin_of_one_pixel_is_that_pixel():
    features = pyramid(channels=2)
    out = ops.roi_align(features[:1], torch.tensor([[8.0, 12.0, 16.0, 20.0]]), [4], [2, 2], 1, 0, 224.0)
    torch.testing.assert_close(out[0], features[0][:, 3:5, 2:4])


@pytest.mark.parametrize(("canonical_level", "num_levels"), [(0, 4), (1, 4), (2, 4), (3, 4), (7, 8), (2, 1)])
def test_levels_are_those_of_equation_1(canonical_level, num_levels):
    features = [torch.full((1, 2, 2), float(i)) for i in range(num_levels)]
    sides = [2.0**i * f for i in range(16) for f in (0.999, 1.0, 1.001)]
    boxes = torch.tensor([[0.0, 0.0, side, side] for side in sides])
    expected = [reference.level_of(b, canonical_level, 224.0, num_levels) for b in boxes.tolist()]
    strides = [2**14] * num_levels  # so that every box is inside every map
    out = ops.roi_align(features, boxes, strides, [1, 1], 1, canonical_level, 224.0)
    assert out.flatten().tolist() == expected


def test_the_sides_where_a_level_begins():
    features = [torch.full((1, 2, 2), float(i)) for i in range(4)]
    sides = [0.0, 111.99, 112.0, 223.99, 224.0, 447.99, 448.0, 5000.0]
    boxes = torch.tensor([[0.0, 0.0, s, s] for s in sides])
    out = ops.roi_align(features, boxes, [2**14] * 4, [1, 1], 1, 2, 224.0)
    assert out.flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_given_levels():
    levels = torch.tensor([3, 0, 1, -1, 4, 2, 2**31 - 1, -(2**31)], dtype=torch.int32)
    out = check(pyramid(), random_boxes(8, seed=5, extent=60, largest=20), box_levels=levels)
    assert [bool(o.any()) for o in out] == [True, True, True, False, False, True, False, False]


def test_outside_of_the_image_is_zero():
    features = [torch.ones(1, 8, 8)]
    boxes = torch.tensor([[-100.0, -100, -50, -50], [40, 0, 60, 10], [-4, -4, 36, 36], [0, 0, 32, 32]])
    out = check(features, boxes, (4, 4), 2, (0, 224.0))
    assert not out[0].any()
    assert not out[1].any()
    assert out[3].eq(1).all()


def test_up_to_a_pixel_outside_the_border_is_read():
    features = [torch.tensor([[[2.0, 4.0], [6.0, 8.0]]])]
    # Index -1 and size: centres at -0.5 and 2.5 of the map, boxes of no size sample their corner.
    points = [(-0.5, -0.5, 2.0), (2.5, 2.5, 8.0), (-0.51, 1, 0.0), (1, 2.51, 0.0), (1.0, 1.0, 5.0)]
    boxes = torch.tensor([[x, y, x, y] for y, x, _ in points])
    out = check(features, boxes, (1, 1), 2, (0, 224.0), strides=[1])
    assert out.flatten().tolist() == [value for _, _, value in points]


def test_boxes_of_no_or_negative_size_sample_a_point():
    boxes = torch.tensor([[8.0, 8, 8, 8], [8, 8, 4, 20], [20, 20, 10, 10]])
    for ratio in (0, 2):
        out = check(pyramid(), boxes, (2, 2), ratio)
        assert torch.equal(out[0][:, 0, 0], out[0][:, 1, 1])
        assert torch.equal(out[2][:, 0, 0], out[2][:, 1, 1])


def test_boxes_that_are_not_finite_are_zero():
    boxes = random_boxes(5, seed=6)
    boxes[0, 0], boxes[1, 1], boxes[2, 2], boxes[3, 3] = math.nan, math.inf, -math.inf, math.nan
    out = check(pyramid(), boxes)
    assert not out[:4].any()
    assert out[4].any()


@pytest.mark.parametrize("ratio", [0, 2])
def test_enormous_boxes_take_bounded_time(ratio):
    boxes = torch.tensor([[-3e38, -3e38, 3e38, 3e38], [0, 0, 3e38, 1e-38], [0, 0, 1e9, 1e9]])
    out = ops.roi_align(pyramid(), boxes, STRIDES, [7, 7], ratio, *CANONICAL)
    assert out.shape == (3, 3, 7, 7)


def test_not_a_number_in_a_feature_stays_where_it_is_read():
    features = [torch.zeros(1, 8, 8)]
    features[0][0, 2, 2] = math.nan
    boxes = torch.tensor([[0.0, 0.0, 16.0, 16.0], [16.0, 16.0, 32.0, 32.0]])
    out = ops.roi_align(features, boxes, [4], [1, 1], 2, 0, 224.0)
    assert math.isnan(out[0].item())
    assert out[1].item() == 0


@pytest.mark.parametrize(("num_valid", "read"), [(0, 0), (7, 7), (12, 12), (99, 12), (-3, 0)])
def test_only_valid_boxes_are_read(num_valid, read):
    boxes = random_boxes(12, seed=3)
    args = (pyramid(), boxes, STRIDES, [2, 2], 2, *CANONICAL, None)
    out = ops.roi_align(*args, torch.tensor([num_valid], dtype=torch.int32))
    assert torch.equal(out[:read], ops.roi_align(*args)[:read])
    assert not out[read:].any()


def test_memory_formats_and_strides_give_the_same():
    features, boxes = pyramid(channels=5), random_boxes(20, seed=7)
    expected = ops.roi_align(features, boxes[::2].contiguous(), STRIDES, [3, 3], 2, *CANONICAL)
    last = [f[None].to(memory_format=torch.channels_last)[0] for f in features]
    assert torch.equal(ops.roi_align(last, boxes[::2], STRIDES, [3, 3], 2, *CANONICAL), expected)
    wide = [torch.cat([f, f], 2)[:, :, : f.shape[2]] for f in features]
    assert torch.equal(ops.roi_align(wide, boxes[::2], STRIDES, [3, 3], 2, *CANONICAL), expected)
    assert expected.is_contiguous(memory_format=torch.channels_last)


def test_any_number_of_threads_gives_the_same():
    features, boxes, before = pyramid(channels=80), random_boxes(50, seed=8), library.num_threads()
    results = []
    try:
        for threads in (1, 3):
            library.set_num_threads(threads)
            results.append(ops.roi_align(features, boxes, STRIDES, [7, 7], 0, *CANONICAL))
    finally:
        library.set_num_threads(before)
    assert torch.equal(*results)


coordinate = st.one_of(st.floats(-40, 160, width=32), st.sampled_from([math.nan, math.inf, 0.0, 16.0, 32.0]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*[coordinate] * 4), max_size=6), st.integers(0, 3), st.integers(1, 4), st.integers(1, 4))
def test_generated(rows, ratio, out_height, out_width):
    boxes = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
    # Constant along an axis and smooth along the other, so that a sample at a border of two rules is the only jump.
    features = [f.cumsum(2) / 8 for f in pyramid(channels=2)]
    args = (features, boxes, STRIDES, [out_height, out_width], ratio, 2, 40.0)
    got, expected = ops.roi_align(*args), reference.roi_align(*args)
    close = torch.isclose(got.double(), expected, rtol=1e-3, atol=1e-3)
    # The rounding of float32 may put a sample on the other side of a border of the map, or add one to a bin.
    assert close.flatten(1).all(1).logical_or(_on_a_border(boxes, out_height, out_width, ratio)).all()


def _on_a_border(boxes: torch.Tensor, out_height: int, out_width: int, ratio: int) -> torch.Tensor:
    """Boxes that moved by a rounding error give another result even in float64."""
    features = [f.cumsum(2) / 8 for f in pyramid(channels=2)]
    results = [
        reference.roi_align(features, boxes.double() * f + d, STRIDES, [out_height, out_width], ratio, 2, 40.0)
        for f, d in ((1 - 1e-6, -1e-5), (1 + 1e-6, 1e-5), (1, 0))
    ]
    spread = torch.stack(results).amax(0) - torch.stack(results).amin(0)
    return (spread > 1e-3).flatten(1).any(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampling_ratio": -1}, "sampling_ratio: expected at least 0, got -1"),
        ({"canonical_level": -1}, "canonical_level: expected 0 to 7, got -1"),
        ({"canonical_level": 8}, "canonical_level: expected 0 to 7, got 8"),
        ({"canonical_size": 0.0}, "canonical_size: expected a finite number above 0, got 0"),
        ({"canonical_size": math.nan}, "canonical_size: expected a finite number above 0, got -?nan"),
        ({"output_size": [0, 2]}, r"output_size: expected \(height, width\), each at least 1, got \(0, 2\)"),
        ({"output_size": [2]}, r"output_size: expected \(height, width\)"),
        ({"strides": [4, 8, 16]}, "levels: expected up to 8 sizes and as many strides"),
        ({"strides": [4, 8, 16, 0]}, "levels.stride: expected at least 1, got 0"),
        ({"features": []}, "features: expected at least one level, got none"),
        (
            {"features": [torch.zeros(2, 4, 4), torch.zeros(3, 2, 2)]},
            r"as many channels in each, got \[2, 3\]",
        ),
        ({"features": [torch.zeros(1, 2, 4, 4)]}, r"features\[0\]: expected torch.float32 \[C, h, w\], got"),
        ({"features": [torch.zeros(2, 4, 4).half()]}, r"features\[0\]: expected torch.float32"),
        ({"boxes": torch.zeros(4, 5)}, r"boxes: expected torch.float32 \[N, 4\], got torch.float32 \[4, 5\]"),
        ({"box_levels": torch.zeros(4)}, r"box_levels: expected torch.int32 \[4\], got torch.float32 \[4\]"),
        ({"num_valid": torch.zeros(2).int()}, r"num_valid: expected torch.int32 \[1\], got torch.int32 \[2\]"),
    ],
)
def test_bad_arguments_are_named(change, message):
    good = {
        "features": pyramid(),
        "boxes": random_boxes(4),
        "strides": STRIDES,
        "output_size": [2, 2],
        "sampling_ratio": 2,
        "canonical_level": 2,
        "canonical_size": 224.0,
        "box_levels": None,
        "num_valid": None,
    }
    with pytest.raises(ValueError, match=message):
        ops.roi_align(**(good | change))


def test_bad_arrays_are_named():
    maps = [f.numpy() for f in pyramid()]
    with pytest.raises(ValueError, match=r"boxes: expected float32 \[N, 4\], got float64 \[4, 3\]"):
        native.roi_align(maps, np.zeros((4, 3)), STRIDES, (2, 2), 2, *CANONICAL)
    with pytest.raises(ValueError, match="channels: expected at least 1, got 0"):
        native.roi_align([], np.zeros((4, 4), np.float32), [], (2, 2), 2, *CANONICAL)
    with pytest.raises(ValueError, match="out_width: expected at least 1, got -1"):
        native.roi_align(maps, np.zeros((4, 4), np.float32), STRIDES, (2, -1), 2, *CANONICAL)


@pytest.mark.parametrize("missing", range(5))
def test_null_pointers_are_named(missing):
    names = ["features", "boxes", "box_levels", "num_valid", "out"]
    features = np.zeros((2, 2, 3), np.float32)
    boxes, out = np.zeros((2, 4), np.float32), np.zeros((2, 1, 1, 3), np.float32)
    levels, count = np.zeros(2, np.int32), np.ones(1, np.int32)
    pointers = [library.pointer_array([features.ctypes.data]), *(a.ctypes.data for a in (boxes, levels, count, out))]
    pointers[missing] = library.pointer_array([0]) if missing == 0 else None
    params = RoiAlignParams.of(2, [(3, 2, 2)], [4], (1, 1), 2, 0, 224.0)
    if names[missing] in ("box_levels", "num_valid"):
        library.call("roi_align", params, *pointers)
    else:
        with pytest.raises(ValueError, match=f"roi_align: {names[missing]}: expected a pointer, got null"):
            library.call("roi_align", params, *pointers)


def test_null_params_and_context():
    function = library.library().lps_roi_align
    assert function(None, None, *[ctypes.c_void_p()] * 5) == 1
    params = RoiAlignParams.of(0, [(3, 2, 2)], [4], (1, 1), 2, 0, 224.0)
    assert function(ctypes.byref(params), None, *[ctypes.c_void_p()] * 5) == 1
    assert library.library().lps_last_error() == b"roi_align: context: expected a pointer, got null"


def test_opcheck_and_compile():
    count = torch.tensor([3], dtype=torch.int32)
    args = (pyramid(), random_boxes(5), STRIDES, [3, 2], 2, *CANONICAL, None, count)
    torch.library.opcheck(torch.ops.lpsnet.roi_align.default, args)
    assert torch.equal(torch.compile(ops.roi_align, fullgraph=True, backend="aot_eager")(*args), ops.roi_align(*args))


@pytest.mark.parametrize("case", op_cases("roi_align"))
def test_every_dtype_and_layout(case):
    case.verify()
