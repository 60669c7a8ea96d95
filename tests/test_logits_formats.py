"""Logits of 16 bits and logits with channels last give what float32 logits of the same values give, bit for bit."""

import dataclasses

import numpy as np
import pytest
import torch
from op_cases import op_cases
from torch import Tensor

from lpsnet import native, ops
from lpsnet.config import PostprocessConfig
from lpsnet.native import library
from lpsnet.native.decode import DecodeParams
from lpsnet.native.resize_normalize import ResizeNormalizeParams
from lpsnet.native.upsample_argmax import UpsampleArgmaxParams

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# Classes that fill vectors and some that do not, odd maps, a single row or column or pixel.
SHAPES = [(5, 9, 14), (33, 3, 17), (1, 4, 5), (8, 1, 21), (161, 7, 1), (255, 2, 3), (3, 1, 1)]


def random_logits(shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool, seed: int = 0) -> Tensor:
    """In steps of 1/8, so that there are ties."""
    logits = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 24).round() / 8
    return in_layout(logits.to(dtype), channels_last)


def in_layout(logits: Tensor, channels_last: bool) -> Tensor:
    return logits.permute(1, 2, 0).contiguous().permute(2, 0, 1) if channels_last else logits.contiguous()


def outputs(logits: Tensor, seed: int = 0) -> dict[str, tuple[Tensor, ...]]:
    """Of every operator that reads logits."""
    g = torch.Generator().manual_seed(seed)
    device, (num_classes, height, width) = logits.device, logits.shape
    strides, image_size = [8, 16], [max(1, height * 4 - 3), max(1, width * 4 - 2)]
    sizes = [(-(-height * 4 // s), -(-width * 4 // s)) for s in strides]
    is_thing = (torch.arange(num_classes) % 3 != 1).to(device)
    ltrb = [(torch.rand(4, *size, generator=g) * 60).to(device) for size in sizes]
    borderness = [torch.rand(size, generator=g).to(device) for size in sizes]
    config = PostprocessConfig(score_threshold=0.02, topk=30, max_detections=20, paste_score=0.0, stuff_area_limit=5)
    config = dataclasses.replace(config, fill_stuff=True)
    size, scale = (height * 3 + 1, width * 4), (height / (height * 3 + 1), 0.25)
    return {
        "upsample_argmax": (ops.upsample_argmax(logits, size, scale, None),),
        "upsample_argmax of some": (ops.upsample_argmax(logits, size, scale, ~is_thing),),
        "decode": ops.decode(logits, is_thing, ltrb, borderness, strides, image_size, 0.02, 30, "product"),
        "postprocess": ops.postprocess(logits, is_thing, ltrb, borderness, strides, image_size, image_size, config),
    }


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_format_gives_what_float32_gives(shape, dtype, channels_last):
    logits = random_logits(shape, dtype, channels_last)
    expected = outputs(logits.float().contiguous())
    for name, got in outputs(logits).items():
        for mine, want in zip(got, expected[name], strict=True):
            assert mine.dtype == want.dtype, name
            assert torch.equal(mine, want), name


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_that_are_not_finite(dtype, channels_last):
    logits = random_logits((6, 7, 20), dtype, False)
    hit = torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)) < 0.1
    odd = torch.tensor([torch.nan, torch.inf, -torch.inf, torch.finfo(dtype).max, torch.finfo(dtype).tiny / 4])
    logits[hit] = odd[torch.arange(int(hit.sum())) % 5].to(dtype)
    expected = ops.upsample_argmax(logits.float(), (28, 80), (0.25, 0.25), None)
    got = ops.upsample_argmax(in_layout(logits, channels_last), (28, 80), (0.25, 0.25), None)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_arrays(dtype, channels_last):
    logits = random_logits((5, 9, 14), torch.float32, False).numpy().astype(dtype)
    if channels_last:
        logits = np.ascontiguousarray(logits.transpose(1, 2, 0)).transpose(2, 0, 1)
    plain = np.ascontiguousarray(logits, np.float32)
    got = native.upsample_argmax(logits, (36, 56), (0.25, 0.25))
    np.testing.assert_array_equal(got, native.upsample_argmax(plain, (36, 56), (0.25, 0.25)))
    rng = np.random.default_rng(0)
    maps = [rng.uniform(0, 40, (4, 5, 7)).astype(np.float32)], [rng.uniform(0, 1, (5, 7)).astype(np.float32)]
    options = (np.arange(5) < 3, *maps, [8], (36, 56), 0.05, 20, "sqrt")
    for mine, want in zip(native.decode(logits, *options), native.decode(plain, *options), strict=True):
        np.testing.assert_array_equal(mine, want)
    options = (np.arange(5) < 3, *maps, (36, 56), (50, 60), PostprocessConfig(score_threshold=0.05), [8])
    np.testing.assert_array_equal(native.postprocess(logits, *options)[1], native.postprocess(plain, *options)[1])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_images_are_rounded_once(dtype, channels_last):
    image = torch.randint(0, 256, (21, 34, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    # The second deviation makes numbers too large for float16 and the third subnormal ones.
    options = ([17, 40], [32, 41], [100.0, 7.0, 127.0], [58.0, 1e-3, 1e6], True, channels_last)
    out = ops.resize_normalize(image, *options, dtype)
    assert out.dtype == dtype
    assert torch.equal(out, ops.resize_normalize(image, *options).to(dtype))
    if dtype == torch.float16:
        array = native.resize_normalize(image.numpy(), *options, dtype=np.float16)
        np.testing.assert_array_equal(array.transpose(2, 0, 1) if channels_last else array, out.numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_number_of_16_bits_is_told_from_the_next(dtype):
    numbers = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype).view(256, 256)
    numbers = torch.where(numbers.isfinite(), numbers, 0)
    rivals = numbers.flatten().roll(-1).view(256, 256)
    # Each fills a cell, at whose corner the interpolation adds a difference of 0.
    logits = torch.stack([numbers, rivals]).repeat_interleave(2, 1).repeat_interleave(2, 2)
    got = ops.upsample_argmax(logits, (512, 512), (1.0, 1.0), None)[::2, ::2]
    assert torch.equal(got, (rivals.double() > numbers.double()).to(torch.uint8))


def test_bad_formats_are_named():
    with pytest.raises(ValueError, match=r"logits: expected torch.float32 \[C, h, w\], got torch.float64"):
        ops.upsample_argmax(torch.zeros(2, 3, 4).double(), (3, 4), (1.0, 1.0), None)
    with pytest.raises(ValueError, match=r"dtype: expected float32, float16 or bfloat16, got torch.float64"):
        ops.resize_normalize(torch.zeros(2, 2, 3).byte(), [2, 2], [2, 2], [0.0] * 3, [1.0] * 3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"dtype: expected np.float32 or np.float16, got .*int8"):
        native.resize_normalize(np.zeros((2, 2, 3), np.uint8), (2, 2), (2, 2), [0] * 3, [1] * 3, dtype=np.int8)
    params = UpsampleArgmaxParams(2, 3, 4, 3, 4, 1.0, 1.0, library.FLOAT64, False)
    with pytest.raises(ValueError, match=r"logits_dtype: expected LPS_FLOAT32 \(0\), LPS_FLOAT16 \(2\) or .*, got 1"):
        library.call("upsample_argmax", params, None, None, None)
    params.logits_dtype, params.logits_channels_last = library.FLOAT16, 2
    with pytest.raises(ValueError, match="logits_channels_last: expected 0 or 1, got 2"):
        library.call("upsample_argmax", params, None, None, None)
    layout = DecodeParams.of((256, 1, 1), 4, [(1, 1)], [8], (8, 8), 0.5, 1, "product")
    with pytest.raises(ValueError, match="num_classes: expected 1 to 255, got 256"):
        library.call("decode", layout, *[None] * 9)
    image = ResizeNormalizeParams.of((2, 2), 6, (2, 2), (2, 2), [0] * 3, [1] * 3, False, False, 9)
    with pytest.raises(ValueError, match="out_dtype: expected LPS_FLOAT32"):
        library.call("resize_normalize", image, None, None)


@pytest.mark.parametrize(
    ("op", "argument", "message"),
    [
        ("nms", "boxes", r"boxes: expected torch.float32 \[N, 4\], got torch.float16 \[64, 4\]"),
        ("nms", "scores", r"scores: expected torch.float32 \[64\], got torch.float16 \[64\]"),
        ("paste_boxes", "boxes", r"boxes: expected torch.float32 \[N, 4\], got torch.float16 \[25, 4\]"),
        ("paste_boxes", "borderness", r"borderness.*: expected torch.float32 .*, got torch.float16"),
        ("decode", "ltrb", r"ltrb.*: expected torch.float32 .*, got torch.float16"),
        ("decode", "borderness", r"borderness.*: expected torch.float32 .*, got torch.float16"),
        ("postprocess", "ltrb", r"ltrb.*: expected torch.float32 .*, got torch.float16"),
        ("postprocess", "borderness", r"borderness.*: expected torch.float32 .*, got torch.float16"),
        ("roi_align", "features", r"features\[0\]: expected torch.float32 \[C, h, w\], got torch.float16"),
        ("roi_align", "boxes", r"boxes: expected torch.float32 \[N, 4\], got torch.float16"),
    ],
)
def test_what_is_float32_alone_is_named(op, argument, message):
    case = next(p.values[0] for p in op_cases(op) if "-64-" in p.id or "-25-" in p.id or "x" in p.id.split("-")[1])
    inputs = case.inputs(0)
    value = inputs[argument]
    inputs[argument] = [v.half() for v in value] if isinstance(value, list) else value.half()
    with pytest.raises(ValueError, match=message):
        case.run(**inputs)
