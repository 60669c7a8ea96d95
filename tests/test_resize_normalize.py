import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import op_cases
from torch.nn import functional

from lpsnet import native, ops
from lpsnet.native import library
from lpsnet.native.resize_normalize import ResizeNormalizeParams
from lpsnet.ops import reference
from lpsnet.ops.resize_normalize import resize_normalize_into

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
NO_CHANGE = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
Size = tuple[int, int]


def random_image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, 3), generator=g, dtype=torch.uint8)


def interpolated(image: torch.Tensor, size: Size) -> torch.Tensor:
    planes = image.permute(2, 0, 1)[None].double()
    return functional.interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False)[0]


@settings(deadline=None, max_examples=60)
@given(
    in_size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    resized=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    reverse=st.booleans(),
)
def test_equals_reference(in_size: Size, resized: Size, padding: Size, reverse: bool):
    image = random_image(*in_size)
    padded = [resized[0] + padding[0], resized[1] + padding[1]]
    expected = reference.resize_normalize(image, resized, padded, MEAN, STD, reverse)
    planar = ops.resize_normalize(image, list(resized), padded, MEAN, STD, reverse)
    torch.testing.assert_close(planar.double(), expected, rtol=0, atol=5e-6)
    last = ops.resize_normalize(image, list(resized), padded, MEAN, STD, reverse, channels_last=True)
    assert torch.equal(last, planar)
    assert last.permute(1, 2, 0).is_contiguous()
    arrays = [native.resize_normalize(image.numpy(), resized, padded, MEAN, STD, reverse, last) for last in (0, 1)]
    np.testing.assert_array_equal(arrays[0], planar.numpy())
    np.testing.assert_array_equal(arrays[1].transpose(2, 0, 1), planar.numpy())


@pytest.mark.parametrize(
    ("in_size", "resized"),
    [
        ((427, 640), (800, 1199)),
        ((1080, 1921), (337, 600)),
        ((500, 333), (499, 332)),
        ((3000, 4001), (7, 3)),
        ((1, 1), (64, 65)),
        ((1, 777), (50, 1)),
        ((2048, 1), (1, 90)),
    ],
)
def test_equals_interpolate(in_size, resized):
    image = random_image(*in_size)
    out = ops.resize_normalize(image, list(resized), list(resized), *NO_CHANGE)
    torch.testing.assert_close(out.double(), interpolated(image, resized), rtol=0, atol=2e-4)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (123, 457)])
def test_the_same_size_is_exact(size):
    image = random_image(*size)
    out = ops.resize_normalize(image, list(size), list(size), MEAN, STD)
    expected = (image.permute(2, 0, 1).float() - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert torch.equal(out, expected)


def test_a_constant_image_stays_constant():
    out = ops.resize_normalize(torch.full((37, 53, 3), 200, dtype=torch.uint8), [91, 20], [91, 20], *NO_CHANGE)
    torch.testing.assert_close(out, torch.full_like(out, 200), rtol=0, atol=1e-4)


def test_padding_is_zero():
    for channels_last in (False, True):
        out = ops.resize_normalize(random_image(9, 7), [5, 6], [8, 32], MEAN, STD, False, channels_last)
        assert out.shape == (3, 8, 32)
        assert not out[:, 5:].any()
        assert not out[:, :, 6:].any()
        assert out[:, :5, :6].all()


def test_strided_rows():
    """A crop is read where it lies; other strides are copied first."""
    image = random_image(60, 80).numpy()
    for view in (image[5:50, 10:70], image[::2], image[::-1, ::3], image[:, :, ::-1], image.transpose(1, 0, 2)):
        expected = native.resize_normalize(view.copy(), (33, 21), (40, 32), MEAN, STD)
        np.testing.assert_array_equal(native.resize_normalize(view, (33, 21), (40, 32), MEAN, STD), expected)
    crop = torch.from_numpy(image)[5:50, 10:70]
    expected = native.resize_normalize(image[5:50, 10:70], (33, 21), (40, 32), MEAN, STD)
    np.testing.assert_array_equal(ops.resize_normalize(crop, [33, 21], [40, 32], MEAN, STD).numpy(), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": torch.zeros(4, 5, 3)}, r"image: expected torch.uint8 \[H, W, 3\], got torch.float32 \[4, 5, 3\]"),
        ({"image": torch.zeros(4, 5, dtype=torch.uint8)}, r"image: expected torch.uint8 \[H, W, 3\], got"),
        ({"image": torch.zeros(0, 5, 3, dtype=torch.uint8)}, "in_height: expected at least 1, got 0"),
        ({"image": torch.zeros(4, 0, 3, dtype=torch.uint8)}, "in_width: expected at least 1, got 0"),
        ({"resized": [0, 4]}, "resized_height: expected at least 1, got 0"),
        ({"resized": [4]}, r"resized: expected \(height, width\), got \(4,\)"),
        ({"padded": [7, 8]}, "out_height: expected at least resized_height, got 7"),
        ({"padded": [8, -1]}, "out_width: expected at least resized_width, got -1"),
        ({"mean": [1.0, 2.0]}, r"mean: expected three numbers, got \(1.0, 2.0\)"),
        ({"mean": [1.0, 2.0, math.nan]}, "mean: expected finite numbers, got -?nan"),
        ({"std": [1.0, 0.0, 1.0]}, "std: expected numbers above 0, got 0"),
    ],
)
def test_bad_arguments_are_named(change, message):
    good = {"image": random_image(4, 5), "resized": [8, 8], "padded": [8, 8], "mean": MEAN, "std": STD}
    with pytest.raises(ValueError, match=message):
        ops.resize_normalize(**(good | change))


def test_bad_arrays_and_pointers_are_named():
    with pytest.raises(ValueError, match=r"image: expected uint8 \[H, W, 3\], got float64 \[4, 5, 3\]"):
        native.resize_normalize(np.zeros((4, 5, 3)), (4, 5), (4, 5), MEAN, STD)
    good = (4, 5), (4, 5), (4, 5), MEAN, STD, False, False
    with pytest.raises(ValueError, match="in_row_stride: expected at least 3 \\* in_width, got 14"):
        library.call("resize_normalize", ResizeNormalizeParams.of(good[0], 14, *good[1:]), None, None)
    with pytest.raises(ValueError, match="resize_normalize: image: expected a pointer, got null"):
        library.call("resize_normalize", ResizeNormalizeParams.of(good[0], 15, *good[1:]), None, None)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_into_a_part_of_a_tensor(dtype, channels_last):
    batch = torch.full((3, 32, 40, 3) if channels_last else (3, 3, 32, 40), 7.0, dtype=dtype)
    images = batch.permute(0, 3, 1, 2) if channels_last else batch
    resize_normalize_into(images[1], random_image(20, 30), [15, 22], MEAN, STD, True)
    expected = ops.resize_normalize(random_image(20, 30), [15, 22], [32, 40], MEAN, STD, True, dtype=dtype)
    assert torch.equal(images[1], expected)
    assert (images[0::2] == 7).all()


def test_bad_memory_is_named():
    image, rest = random_image(4, 5), ([4, 5], MEAN, STD)
    with pytest.raises(ValueError, match=r"out: expected torch.float32 \[3, h, w\], got torch.int64 \[3, 4, 5\]"):
        resize_normalize_into(torch.zeros(3, 4, 5).long(), image, *rest)
    with pytest.raises(
        ValueError, match=r"out: expected memory of \[3, h, w\] or \[h, w, 3\], got strides \(80, 20, 2\)"
    ):
        resize_normalize_into(torch.zeros(3, 4, 20)[:, :, ::2][:, :, :5], image, *rest)
    with pytest.raises(ValueError, match="out_width: expected at least resized_width, got 4"):
        resize_normalize_into(torch.zeros(3, 4, 4), image, *rest)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck_and_compile(dtype, channels_last):
    args = (random_image(20, 30), [15, 22], [32, 32], MEAN, STD, True, channels_last, dtype)
    torch.library.opcheck(torch.ops.lpsnet.resize_normalize.default, args)
    compiled = torch.compile(ops.resize_normalize, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*args), ops.resize_normalize(*args))


@pytest.mark.parametrize("case", op_cases("resize_normalize"))
def test_every_dtype_and_layout(case):
    case.verify()
