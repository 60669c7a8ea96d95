import itertools

import numpy as np
import pytest
import torch
from deform_cases import UNIT, assert_close_to_oracle, double, fused, fused_arguments
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import op_cases
from test_deform_conv2d import WILD

from lpsnet import native
from lpsnet.native import library
from lpsnet.native.fused_deform_conv2d import DeformConv2dParams
from lpsnet.ops import deform_conv2d
from lpsnet.ops.device import call

OP = torch.ops.lpsnet.deform_conv2d.default
dtypes = pytest.mark.parametrize("dtype", UNIT, ids=str)


# A tile on tensor cores is 16 x 8 positions and 128 outputs, a slice of the sum 32 channels, 9 taps at a time.
CASES = {
    "one tile": {"batch": 1, "channels": 8, "size": (8, 16), "out": 8},
    "tiles that do not fit": {"channels": 16, "size": (9, 18), "out": 10, "mask": True},
    "slices that do not fit": {"batch": 1, "channels": 72, "out": 5, "mask": True},
    "two tiles of outputs": {"batch": 1, "channels": 8, "out": 136},
    "outputs one by one": {"batch": 1, "channels": 8, "out": 131, "bias": False},
    "offset groups": {"batch": 1, "channels": 80, "offset_groups": 2, "out": 16, "mask": True},
    "small offset groups": {"channels": 24, "offset_groups": 3, "out": 3, "mask": True},
    "channels by one": {"channels": 7, "out": 3, "size": (9, 9), "mask": True},
    "channels by ten": {"channels": 20, "offset_groups": 2, "out": 130, "bias": False},
    "one channel": {"channels": 1, "out": 1},
    "stride": {"channels": 8, "stride": (2, 3), "size": (17, 20), "out": 8},
    "dilation": {"channels": 8, "dilation": (2, 1), "padding": (2, 0), "mask": True},
    "kernel 1": {"channels": 40, "kernel": (1, 1), "padding": (0, 0), "mask": True},
    "kernel 2 x 5": {"batch": 1, "channels": 40, "kernel": (2, 5), "padding": (0, 2), "out": 8},
    "kernel 4 x 5": {"batch": 1, "channels": 16, "kernel": (4, 5), "padding": (3, 2), "offset_groups": 2, "mask": True},
    "one pixel": {"channels": 8, "size": (1, 1), "sigma": 0.5},
    "one column": {"channels": 8, "size": (6, 1), "mask": True},
    "far": {"channels": 8, "sigma": 20.0},
    "no offset": {"channels": 16, "sigma": 0.0},
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@dtypes
@cases
def test_close_to_oracle(case, dtype):
    args = fused_arguments(dtype, **case)
    assert_close_to_oracle(fused(*args), args)


def integer_arguments(dtype, case):
    """Small integers, quarters of pixels: samples and sums are exact, and only the result is rounded."""
    input, offset, weight, bias, *geometry, mask, offset_groups = fused_arguments(dtype, **case)
    g = torch.Generator().manual_seed(1)

    def integers(like, low, high):
        return None if like is None else torch.randint(low, high + 1, like.shape, generator=g).to(like.dtype)

    return (
        integers(input, -4, 4).to(memory_format=torch.channels_last), (offset * 4).round() / 4,
        integers(weight, -3, 3), integers(bias, -9, 9), *geometry, integers(mask, 0, 1), offset_groups,
    )  # fmt: skip


@dtypes
@cases
def test_exact_where_nothing_is_rounded(case, dtype):
    args = integer_arguments(dtype, case)
    assert torch.equal(fused(*args), deform_conv2d(*double(args)).to(dtype))


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_close_to_oracle_anywhere(data):
    def sizes(low, high):
        return st.tuples(st.integers(low, high), st.integers(low, high))

    dtype = data.draw(st.sampled_from(list(UNIT)))
    kernel, dilation, padding = data.draw(sizes(1, 4)), data.draw(sizes(1, 2)), data.draw(sizes(0, 2))
    size = [
        max(1, data.draw(st.integers(1, 18)), d * (k - 1) + 1 - 2 * p)
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    offset_groups = data.draw(st.integers(1, 2))
    args = fused_arguments(
        dtype, batch=data.draw(st.integers(1, 2)), channels=offset_groups * data.draw(st.sampled_from([1, 5, 8, 40])),
        size=size, out=data.draw(st.integers(1, 20)), kernel=kernel, stride=data.draw(sizes(1, 3)), padding=padding,
        dilation=dilation, mask=data.draw(st.booleans()), offset_groups=offset_groups,
        sigma=data.draw(st.sampled_from([0.0, 0.3, 3.0])), seed=data.draw(st.integers(0, 99)),
    )  # fmt: skip
    assert_close_to_oracle(fused(*args), args)


def test_no_positions_of_an_empty_batch():
    for dtype in UNIT:
        out = fused(*fused_arguments(dtype, batch=0, channels=8))
        assert out.shape == (0, 3, 5, 7)


@dtypes
@pytest.mark.parametrize("channels", [6, 8])
@pytest.mark.parametrize("wild", WILD)
def test_wild_offsets_read_nothing(wild, channels, dtype):
    for axis in (0, 1):
        args = fused_arguments(dtype, batch=1, channels=channels, mask=True, offset_groups=2 if channels == 6 else 1)
        args[1][:, axis::2] = wild
        args[7][:, :, 0, 0] = float("nan")  # the mask of a sample outside does not matter
        assert torch.equal(fused(*args), args[3].to(dtype)[:, None, None].expand(1, 3, 5, 7))


@dtypes
@pytest.mark.parametrize("channels", [6, 8])
def test_corners_of_weight_zero_are_not_read(channels, dtype):
    input = torch.zeros(1, channels, 3, 3, dtype=dtype)
    input[0, :, 1, 1] = torch.inf
    offset = torch.zeros(1, 2, 3, 3)
    offset[0, 1, 0, 0] = 0.5  # reads (0, 0) and (0, 1), not the row below
    offset[0, 0, 2, 2] = 0.5  # reads (2, 2), and what lies outside
    mask = torch.ones(1, 1, 3, 3)
    mask[0, 0, 2, 2] = torch.inf
    input[0, :, 2, 2] = 1
    weight = torch.ones(1, channels, 1, 1, dtype=dtype)
    out = fused(input, offset, weight, None, (1, 1), (0, 0), (1, 1), mask, 1)[0, 0]
    assert out.isinf().nonzero().tolist() == [[1, 1], [2, 2]]
    assert not out.isnan().any()
    assert not out[~out.isinf()].any()


@dtypes
def test_what_is_too_large_is_infinite(dtype):
    args = list(fused_arguments(dtype, batch=1, channels=8, bias=False, sigma=0.0))
    args[0] = torch.full_like(args[0], torch.finfo(dtype).max)
    args[2] = torch.ones_like(args[2])
    out = fused(*args)
    assert (out == torch.inf).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shift", [{"input": 1}, {"weight": 1}, {"out": 1}, {"out": 2}], ids=str)
def test_alignment_changes_nothing(dtype, shift):
    """Tensor cores read input and weight at multiples of 16 bytes; elsewhere the other kernel computes the same."""
    input, offset, weight, bias, *geometry, _, _ = args = fused_arguments(
        dtype, batch=1, channels=16, size=(9, 17), out=8
    )
    expected = fused(*args)
    arrays = {
        "input": input.permute(0, 2, 3, 1),
        "weight": weight.permute(0, 2, 3, 1),
        "out": torch.full_like(expected.permute(0, 2, 3, 1), torch.nan),
    }
    for name, array in arrays.items():
        buffer = torch.full((array.numel() + 24,), torch.nan, dtype=dtype)
        first = -buffer.data_ptr() // 2 % 8 + shift.get(name, 0)
        arrays[name] = buffer[first : first + array.numel()].view(array.shape).copy_(array)
    number = library.FLOAT16 if dtype == torch.float16 else library.BFLOAT16
    params = DeformConv2dParams(number, *(1, 16, 9, 17, 8, 9, 17, 3, 3), *itertools.chain.from_iterable(geometry), 1, 0)
    call("deform_conv2d", params, arrays["input"], offset, None, arrays["weight"], bias, arrays["out"])
    got = arrays["out"].permute(0, 3, 1, 2)
    # Bit-equal where the same kernel ran; else the order of the sums is another.
    assert_close_to_oracle(got, args)
    if "out" in shift:
        assert torch.equal(got, expected)


@dtypes
def test_bit_equal_over_threads_and_runs(dtype):
    args = fused_arguments(dtype, batch=1, channels=40, size=(9, 17), out=33, mask=True)
    before = library.num_threads()
    try:
        results = []
        for threads in (1, 2, 7):
            library.set_num_threads(threads)
            results.append(fused(*args))
    finally:
        library.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@cases
def test_numpy(case, dtype):
    args = fused_arguments(torch.from_numpy(np.empty(0, dtype)).dtype, **case)
    got = native.fused_deform_conv2d(*(a.numpy() if isinstance(a, torch.Tensor) else a for a in args))
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, fused(*args).numpy())


def test_the_operator_takes_16_bits():
    for dtype in (torch.float16, torch.bfloat16):
        args = fused_arguments(dtype, channels=16, mask=True)
        out = deform_conv2d(*args)
        assert out.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(out, fused(*args))
        # Whatever the layout, and whatever the dtype of the others.
        contiguous = (args[0].contiguous(), args[1], args[2].to(memory_format=torch.channels_last), *args[3:])
        out = deform_conv2d(*contiguous)
        assert out.is_contiguous()
        assert torch.equal(out, fused(*args))
        wide = deform_conv2d(args[0], args[1], args[2].float(), *args[3:])
        assert torch.equal(wide, fused(*args))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_opcheck_and_compile(dtype, memory_format):
    args = fused_arguments(dtype, channels=8, mask=True, offset_groups=1)
    args = (args[0].contiguous(memory_format=memory_format), *args[1:])
    torch.library.opcheck(OP, [list(a) if isinstance(a, tuple) else a for a in args])
    with torch.no_grad():
        compiled = torch.compile(deform_conv2d, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(*args), deform_conv2d(*args))


GOOD = {
    "dtype": library.FLOAT16, "batch": 2, "channels": 4, "height": 5, "width": 7, "out_channels": 3, "out_height": 5,
    "out_width": 7, "kernel_h": 3, "kernel_w": 3, "stride_h": 1, "stride_w": 1, "padding_h": 1, "padding_w": 1,
    "dilation_h": 1, "dilation_w": 1, "offset_groups": 1, "modulated": 1,
}  # fmt: skip
BAD = {
    "dtype": library.FLOAT64, "batch": -1, "channels": 0, "height": 0, "out_channels": 0, "out_height": 4,
    "out_width": 8, "kernel_h": 0, "stride_w": 0, "padding_h": -1, "dilation_w": 0, "offset_groups": 3, "modulated": 2,
    "padding_w": 2**30,
}  # fmt: skip


def test_the_library_checks_its_params():
    arrays = [np.zeros(4000, np.float32) for _ in range(6)]
    pointers = [a.ctypes.data for a in arrays]
    library.call("deform_conv2d", DeformConv2dParams(**GOOD), *pointers)
    for name, value in BAD.items():
        with pytest.raises(ValueError, match=r"deform_conv2d: .*expected .*, got "):
            library.call("deform_conv2d", DeformConv2dParams(**{**GOOD, name: value}), *pointers)
    large = {"batch": 3, "height": 30000, "width": 30000, "out_height": 30000, "out_width": 30000}
    with pytest.raises(ValueError, match=r"batch, height, width: expected a product below 2\^31, got 3, 30000, 30000"):
        library.call("deform_conv2d", DeformConv2dParams(**{**GOOD, **large}), *pointers)
    for i, name in enumerate(("input", "offset", "mask", "weight", None, "out")):
        if name is not None:
            with pytest.raises(ValueError, match=f"deform_conv2d: {name}: expected "):
                library.call("deform_conv2d", DeformConv2dParams(**GOOD), *pointers[:i], 0, *pointers[i + 1 :])
    assert library.workspace_size("deform_conv2d", DeformConv2dParams(**GOOD), library.CUDA) == 0


def test_bad_arrays_are_named():
    args = [a.numpy() if isinstance(a, torch.Tensor) else a for a in fused_arguments(torch.float16, channels=8)]
    with pytest.raises(ValueError, match=r"input: expected float32 or float16, got float64"):
        native.fused_deform_conv2d(args[0].astype(np.float64), *args[1:])
    with pytest.raises(ValueError, match=r"weight: expected \[O, 8, kh, kw\] without groups, got \[4, 4, 3, 3\]"):
        native.fused_deform_conv2d(args[0], args[1], np.zeros((4, 4, 3, 3)), padding=1)
    with pytest.raises(ValueError, match=r"offset: expected \[2, 18, 5, 7\], got \[2, 17, 5, 7\]"):
        native.fused_deform_conv2d(args[0], args[1][:, 1:], *args[2:])


@pytest.mark.parametrize("case", op_cases("fused_deform_conv2d"))
def test_every_dtype_and_layout(case):
    case.verify()
