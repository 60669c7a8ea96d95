import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from deform_cases import arguments
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import op_cases

from lpsnet import native
from lpsnet.native import deform_columns
from lpsnet.native.library import num_threads, set_num_threads
from lpsnet.ops import deform_conv2d, reference

OP = torch.ops.lpsnet.deform_conv2d.default


CASES = {
    "v1": {},
    "v2": {"mask": True},
    "no bias": {"bias": False},
    "groups": {"groups": 2, "out": 4},
    "offset groups": {"offset_groups": 2, "mask": True},
    "both groups": {"offset_groups": 4, "groups": 2, "out": 2, "mask": True},
    "few offset groups": {"offset_groups": 1, "groups": 4, "out": 4},
    "stride": {"stride": (2, 3), "size": (7, 8)},
    "dilation": {"dilation": (2, 1), "padding": (2, 0), "mask": True},
    "kernel 1": {"kernel": (1, 1), "padding": (0, 0), "mask": True},
    "kernel 2 x 4": {"kernel": (2, 4), "padding": (0, 2)},
    "one pixel": {"size": (1, 1), "sigma": 0.5},
    "one column": {"size": (6, 1), "mask": True},
    "far": {"sigma": 20.0},
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def numpy_call(args):
    return native.deform_conv2d(*(a.numpy() if isinstance(a, torch.Tensor) else a for a in args))


def gradients(args, seed=5):
    """Of input, offset, weight, bias, mask: those that are there."""
    leaves = [a.detach().clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in args]
    out = deform_conv2d(*leaves)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(seed)).to(out))
    return [leaf.grad for leaf in leaves if isinstance(leaf, torch.Tensor)]


@cases
def test_equals_reference(case):
    args = arguments(**case)
    expected = reference.deform_conv2d(*args)
    torch.testing.assert_close(deform_conv2d(*args), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(numpy_call(args), expected.numpy(), rtol=1e-12, atol=1e-12)
    single = arguments(**case, dtype=torch.float32)
    torch.testing.assert_close(deform_conv2d(*single), expected.float(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(numpy_call(single), expected.numpy(), rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_equals_reference_anywhere(data):
    def sizes(low, high):
        return st.tuples(st.integers(low, high), st.integers(low, high))

    groups, offset_groups = data.draw(st.sampled_from([1, 2])), data.draw(st.sampled_from([1, 2]))
    kernel, dilation, padding = data.draw(sizes(1, 3)), data.draw(sizes(1, 2)), data.draw(sizes(0, 2))
    size = [
        max(1, data.draw(st.integers(1, 6)), d * (k - 1) + 1 - 2 * p)
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    args = arguments(
        batch=1, channels=2, size=size, out=2, kernel=kernel, stride=data.draw(sizes(1, 3)), padding=padding,
        dilation=dilation, mask=data.draw(st.booleans()), offset_groups=offset_groups, groups=groups,
        sigma=data.draw(st.sampled_from([0.0, 0.3, 3.0])), seed=data.draw(st.integers(0, 99)),
    )  # fmt: skip
    if data.draw(st.booleans()):  # whole and half pixels: kinks and borders
        args = (args[0], (args[1] * 2).round() / 2, *args[2:])
    torch.testing.assert_close(deform_conv2d(*args), reference.deform_conv2d(*args), rtol=1e-12, atol=1e-12)


@cases
def test_equals_onnx(case):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    from onnx.reference import ReferenceEvaluator

    if 1 in case.get("size", ()):
        pytest.skip("onnx's evaluator divides by size - 1")
    input, offset, weight, bias, stride, padding, dilation, mask, offset_groups = args = arguments(**case)
    feeds = {"X": input, "W": weight, "offset": offset, "B": bias, "mask": mask}
    node = onnx.helper.make_node(
        "DeformConv", [name if value is not None else "" for name, value in feeds.items()], ["Y"],
        kernel_shape=weight.shape[2:], strides=stride, pads=[*padding, *padding], dilations=dilation,
        group=input.shape[1] // weight.shape[1], offset_group=offset_groups,
    )  # fmt: skip
    double = onnx.TensorProto.DOUBLE
    given = {name: value.numpy() for name, value in feeds.items() if value is not None}
    inputs = [onnx.helper.make_tensor_value_info(name, double, value.shape) for name, value in given.items()]
    outputs = [onnx.helper.make_tensor_value_info("Y", double, None)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", inputs, outputs), opset_imports=[onnx.helper.make_opsetid("", 19)]
    )
    (expected,) = ReferenceEvaluator(model).run(None, given)
    # The evaluator keeps its coordinates in float32.
    np.testing.assert_allclose(deform_conv2d(*args).numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("groups", [1, 2])
def test_without_offsets_it_is_a_convolution(dtype, groups):
    args = arguments(
        channels=34, size=(13, 17), out=6, stride=(2, 1), dilation=(1, 2), groups=groups, sigma=0.0, dtype=dtype
    )
    input, _, weight, bias, *geometry, _, _ = args
    expected = F.conv2d(input, weight, bias, *geometry, groups=groups)
    torch.testing.assert_close(deform_conv2d(*args), expected, rtol=1e-4, atol=1e-4)
    leaves = [t.clone().requires_grad_() for t in (input, weight, bias)]
    out = F.conv2d(*leaves, *geometry, groups=groups)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(5)).to(dtype))
    grad_input, _, grad_weight, grad_bias = gradients(args)
    for got, leaf in zip((grad_input, grad_weight, grad_bias), leaves, strict=True):
        torch.testing.assert_close(got, leaf.grad, rtol=1e-4, atol=1e-4)


@cases
def test_gradcheck(case):
    args = arguments(**{"batch": 1, "size": (3, 4), "out": 2, **case})
    # Away from whole coordinates, where a bilinear read has a kink.
    fraction = args[1] - args[1].floor()
    offset = args[1].floor() + fraction.clamp(0.01, 0.99)
    leaves = [a.requires_grad_() if isinstance(a, torch.Tensor) else a for a in (args[0], offset, *args[2:])]
    assert torch.autograd.gradcheck(deform_conv2d, tuple(leaves), fast_mode=case != CASES["v2"])


@cases
def test_single_precision_gradients(case):
    exact = gradients(arguments(**case))
    for got, expected in zip(gradients(arguments(**case, dtype=torch.float32)), exact, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), expected, rtol=1e-3, atol=1e-3)


def test_several_tiles_and_many_channels(monkeypatch):
    args = arguments(channels=35, size=(19, 23), out=5, mask=True, offset_groups=5, groups=5)
    whole, whole_grads, of_numpy = deform_conv2d(*args), gradients(args), numpy_call(args)
    monkeypatch.setattr(deform_columns, "TILE_BYTES", (9 * 35 + 9 * 7 + 1) * 8 * 10)  # 10 positions: rows are cut
    torch.testing.assert_close(deform_conv2d(*args), whole)
    torch.testing.assert_close(gradients(args), whole_grads)
    np.testing.assert_allclose(numpy_call(args), of_numpy)
    monkeypatch.setattr(deform_columns, "TILE_BYTES", 1)
    torch.testing.assert_close(deform_conv2d(*args), whole)


@pytest.mark.parametrize("batch", [0, 1])
def test_empty_batch(batch):
    args = arguments(batch=batch, mask=True, dtype=torch.float32)
    assert deform_conv2d(*args).shape == (batch, 3, 5, 7)
    assert numpy_call(args).shape == (batch, 3, 5, 7)
    assert [g.shape for g in gradients(args)] == [a.shape for a in args if isinstance(a, torch.Tensor)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_memory_formats_and_strides(dtype):
    args = arguments(channels=6, size=(9, 8), mask=True, dtype=torch.float32)
    args = (args[0].to(dtype), *(a.to(torch.promote_types(dtype, torch.float32)) for a in args[1:4]), *args[4:7],
            args[7].to(torch.promote_types(dtype, torch.float32)), 1)  # fmt: skip
    expected, expected_grads = deform_conv2d(*args), gradients(args)
    assert expected.dtype == dtype
    assert expected.is_contiguous()

    def strided(t):
        return torch.stack([t, t], -1)[..., 0]

    other = [strided(a) if isinstance(a, torch.Tensor) else a for a in args]
    assert not other[0].is_contiguous()
    assert torch.equal(deform_conv2d(*other), expected)
    channels_last = (args[0].to(memory_format=torch.channels_last), *args[1:])
    got = deform_conv2d(*channels_last)
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, expected.to(memory_format=torch.channels_last))
    for same, grad, expected_grad in zip(gradients(other), gradients(channels_last), expected_grads, strict=True):
        torch.testing.assert_close(same, expected_grad)
        torch.testing.assert_close(grad, expected_grad)


def test_expanded_gradient():
    args = arguments(mask=True)
    leaves = [a.requires_grad_() if isinstance(a, torch.Tensor) else a for a in args]
    deform_conv2d(*leaves).sum().backward()
    grad_bias = leaves[3].grad
    assert torch.equal(grad_bias, torch.full_like(grad_bias, 2 * 5 * 7))
    # A sum over all outputs is linear in the weight: Euler's identity ties value and gradient together.
    value = (deform_conv2d(*args) - args[3][:, None, None]).sum()
    torch.testing.assert_close((leaves[2].grad * args[2]).sum(), value)


def test_half_precision_accumulates_in_float():
    exact = arguments(channels=256, size=(6, 6), out=8, dtype=torch.float32)
    half = tuple(a.bfloat16() if isinstance(a, torch.Tensor) and i != 1 else a for i, a in enumerate(exact))
    rounded = tuple(a.float() if isinstance(a, torch.Tensor) else a for a in half)
    expected = deform_conv2d(*rounded)
    # The samples and the sums are rounded, once: bfloat16 sums of 2304 products would be worse by far.
    assert (deform_conv2d(*half).float() - expected).norm() < 0.003 * expected.norm()
    for got, expected in zip(gradients(half), gradients(arguments(
        channels=256, size=(6, 6), out=8, dtype=torch.float32)), strict=True):  # fmt: skip
        assert (got.float() - expected).norm() < 0.02 * expected.norm()
    for args in (half, exact):
        with torch.autocast("cpu", torch.bfloat16):
            out, grads = deform_conv2d(*args), gradients(args)
        assert out.dtype == args[0].dtype
        assert torch.equal(out, deform_conv2d(*args))
        assert all(torch.equal(a, b) for a, b in zip(grads, gradients(args), strict=True))


WILD = [float("nan"), float("inf"), -float("inf"), 3.4e38, -3.4e38, 2.0**31, -(2.0**31), 2.0**63, 1e9, -1e9]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("wild", WILD)
def test_wild_offsets_read_nothing(wild, dtype):
    for axis in (0, 1):
        args = arguments(mask=True, offset_groups=2, dtype=dtype)
        args[1][:, axis::2] = wild
        args[7][:, :, 0, 0] = float("nan")  # the mask of a sample outside does not matter
        assert torch.equal(deform_conv2d(*args), args[3][:, None, None].expand(2, 3, 5, 7))
        assert (numpy_call(args) == args[3].numpy()[:, None, None]).all()
        grad_input, grad_offset, grad_weight, _, grad_mask = gradients(args)
        for grad in (grad_input, grad_offset, grad_weight, grad_mask):
            assert not grad.any()


def test_borders_exactly():
    ones = torch.ones(1, 1, 3, 4)
    kernel = torch.ones(1, 1, 1, 1)

    def read(y, x):
        offset = torch.zeros(1, 2, 3, 4)
        offset[0, 0, 0, 0], offset[0, 1, 0, 0] = y, x
        return deform_conv2d(ones, offset, kernel)[0, 0, 0, 0].item()

    assert [read(y, 0) for y in (-1.0, -0.75, 0.0, 2.0, 2.75, 3.0)] == [0.0, 0.25, 1.0, 1.0, 0.25, 0.0]
    assert [read(0, x) for x in (-1.0, -0.75, 0.0, 3.0, 3.75, 4.0)] == [0.0, 0.25, 1.0, 1.0, 0.25, 0.0]
    assert read(-0.5, -0.5) == read(2.5, 3.5) == 0.25
    assert read(-1e-30, 0) == read(0, -1e-30) == 1.0


def test_corners_of_weight_zero_are_not_read():
    input = torch.zeros(1, 1, 3, 3)
    input[0, 0, 1, 1] = float("nan")
    offset = torch.zeros(1, 2, 3, 3)
    offset[0, 1, 0, 0] = 0.5  # reads (0, 0) and (0, 1), not the row below
    out = deform_conv2d(input, offset, torch.ones(1, 1, 1, 1))
    assert out.isnan().nonzero().tolist() == [[0, 0, 1, 1]]


@pytest.fixture
def restored_threads():
    before = num_threads()
    yield
    set_num_threads(before)


@pytest.mark.parametrize("groups", [1, 2])
def test_bit_equal_over_threads_and_runs(restored_threads, groups):
    args = arguments(channels=200, size=(17, 19), out=6, mask=True, offset_groups=2, groups=groups, dtype=torch.float32)
    results = []
    for threads in (1, 2, 3, 7, 2):
        set_num_threads(threads)
        results.append([deform_conv2d(*args), *gradients(args)])
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


MEMORY = """
import re, sys
import torch
from lpsnet.native.library import set_num_threads
from lpsnet.ops import deform_conv2d

torch.set_num_threads(2)
set_num_threads(2)
memory_format = getattr(torch, sys.argv[1])

def resident(field):
    with open("/proc/self/status") as status:
        return int(re.search(field + r":\\s+(\\d+) kB", status.read())[1]) / 1024

def extra(size):
    input = torch.empty(1, 128, size, size, memory_format=memory_format).normal_()
    tensors = [input, torch.randn(1, 18, size, size), torch.randn(8, 128, 3, 3)]
    grad = torch.ones(1, 8, size, size)
    for tensor in tensors:
        tensor.requires_grad_()
    before = resident("VmRSS")
    assert resident("VmHWM") < before + 8  # else an earlier peak would hide what comes
    out = deform_conv2d(*tensors, padding=1)
    forward = resident("VmHWM") - before - out.nbytes / 2**20
    grads = torch.autograd.grad(out, tensors, grad)
    return forward, resident("VmHWM") - before - sum(t.nbytes for t in (out, *grads)) / 2**20

extra(32)  # starts the threads and the libraries' own buffers
print(*extra(320))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.skipif("LPSNET_LIBRARY" in os.environ, reason="a sanitized library takes memory of its own")
@pytest.mark.parametrize(("memory_format", "copies"), [("channels_last", 0), ("contiguous_format", 1)])
def test_extra_memory_is_bounded(memory_format, copies):
    """At 320 x 320 and 128 channels all columns would take 450 MiB; one image takes 50 MiB."""
    script = [sys.executable, "-c", MEMORY, memory_format]
    process = subprocess.run(script, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    forward, backward = map(float, process.stdout.split())
    assert forward < 64 + copies * 50
    assert backward < 64 + copies * 2 * 50  # the image and its gradient


@pytest.mark.parametrize("channels", [2, 256, 8192])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("out_channels", [2, 4096])
def test_a_tile_is_bounded_at_any_size(channels, dtype, groups, out_channels):
    weight = out_channels, channels // groups, 3, 3
    for width in (1, 300, 100_000, 200_000_000):
        params = deform_columns.DeformColumnsParams(
            int(dtype == torch.float64), channels, 3, width, 3, width, 3, 3, 1, 1, 1, 1, 1, 1, 1
        )
        step = deform_columns.tile_positions(params, weight)
        columns, product = 9 * channels, out_channels // groups
        copy = columns // groups if groups > 1 else 0
        assert 1 <= step <= 3 * width
        assert step * (columns + copy + product) * dtype.itemsize < 64 * 2**20
    params.out_width = 1000
    pieces = list(deform_columns.tiles(params, weight))
    assert [begin for begin, _ in pieces] == [0, *(end for _, end in pieces[:-1])]
    assert pieces[-1][1] == 3000


BAD = {
    "input": (lambda a: a.update(input=a["input"][0]), r"input: expected \[N, C, H, W\] .*, got \[4, 5, 7\]"),
    "weight": (lambda a: a.update(weight=a["weight"][:, :3]), r"weight: expected .* C = 4, got \[3, 3, 3, 3\]"),
    "groups": (lambda a: a.update(weight=a["weight"][:, :2]), r"weight: expected O divisible by the 2 groups, got"),
    "offset": (lambda a: a.update(offset=a["offset"][:, 1:]), r"offset: expected \[2, 18, 5, 7\], got \[2, 17, 5, 7\]"),
    "mask": (lambda a: a.update(mask=a["mask"][..., 1:]), r"mask: expected \[2, 9, 5, 7\], got \[2, 9, 5, 6\]"),
    "bias": (lambda a: a.update(bias=a["bias"][1:]), r"bias: expected \[3\], got \[2\]"),
    "stride": (lambda a: a.update(stride=0), r"stride: expected two integers of at least 1, got \[0, 0\]"),
    "padding": (lambda a: a.update(padding=(1, -1)), r"padding: expected two integers of at least 0, got \[1, -1\]"),
    "dilation": (lambda a: a.update(dilation=(1, 1, 1)), r"dilation: expected two integers .*, got \[1, 1, 1\]"),
    "offset_groups": (lambda a: a.update(offset_groups=3), r"offset_groups: expected a divisor of 4 channels, got 3"),
    "small": (lambda a: a.update(padding=0, dilation=4), r"input: expected an output of at least 1 x 1, got -3 x -1"),
}  # fmt: skip
NAMES = ("input", "offset", "weight", "bias", "stride", "padding", "dilation", "mask", "offset_groups")


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD.keys())
def test_bad_shapes_are_named(change, message):
    named = dict(zip(NAMES, arguments(mask=True), strict=True))
    change(named)
    with pytest.raises(ValueError, match=message):
        deform_conv2d(**named)
    with pytest.raises(ValueError, match=message):
        native.deform_conv2d(**{k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in named.items()})
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        deform_conv2d(**{k: v.to("meta") if isinstance(v, torch.Tensor) else v for k, v in named.items()})


def test_bad_dtypes_are_named():
    args = arguments(dtype=torch.float32)
    with pytest.raises(ValueError, match=r"input: expected a floating-point tensor, got torch.int64"):
        deform_conv2d(args[0].long(), *args[1:])
    with pytest.raises(ValueError, match=r"offset: expected .*float32 .*, got torch.float64"):
        deform_conv2d(args[0], args[1].double(), *args[2:])
    with pytest.raises(ValueError, match=r"weight: expected torch.float64, got torch.float32"):
        deform_conv2d(args[0].double(), args[1].double(), *args[2:])
    with pytest.raises(ValueError, match=r"input: expected float32 or float64, got int64"):
        native.deform_conv2d(args[0].long().numpy(), args[1].numpy(), args[2].numpy())


def test_the_library_checks_its_params():
    names = [name for name, _ in deform_columns.DeformColumnsParams._fields_]
    good = dict(zip(names, (0, 4, 5, 7, 5, 7, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, 0), strict=True))
    arrays = [np.zeros(2000, np.float32) for _ in range(7)]

    def call(function, **changes):
        params = deform_columns.DeformColumnsParams(**{**good, **changes})
        count = {"deform_columns": 4, "deform_columns_backward": 7}[function]
        deform_columns.call(function, params, *(a.ctypes.data for a in arrays[:count]))

    bad = {
        "dtype": 2, "channels": 0, "height": 0, "out_height": 4, "out_width": 8, "kernel_h": 0, "stride_w": 0,
        "padding_h": -1, "dilation_w": 0, "offset_groups": 3, "begin": 1, "end": 36, "padding_w": 2**30,
    }  # fmt: skip
    for function in ("deform_columns", "deform_columns_backward"):
        call(function)
        for name, value in bad.items():
            with pytest.raises(ValueError, match=f"{function}: .*expected .*, got "):
                call(function, **{name: value})


@cases
def test_opcheck(case):
    args = arguments(**case, dtype=torch.float32)
    lists = [list(a) if isinstance(a, tuple) else a for a in args]
    leaves = [a.requires_grad_() if isinstance(a, torch.Tensor) else a for a in lists]
    torch.library.opcheck(OP, leaves)
    channels_last = [args[0].detach().to(memory_format=torch.channels_last).requires_grad_(), *leaves[1:]]
    torch.library.opcheck(OP, channels_last)
    input, offset, weight, _, *geometry, mask, offset_groups = (
        a.detach() if isinstance(a, torch.Tensor) else a for a in lists
    )
    grad = torch.randn(len(input), len(weight), *offset.shape[2:])
    torch.library.opcheck(
        torch.ops.lpsnet.deform_conv2d_backward.default,
        (grad, input, offset, weight, *geometry, mask, offset_groups),
    )


@pytest.mark.parametrize("channels_last", [False, True])
def test_compile(channels_last):
    args = arguments(mask=True, dtype=torch.float32)
    if channels_last:
        args = (args[0].to(memory_format=torch.channels_last), *args[1:])
    leaves = [a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in args]
    compiled = torch.compile(deform_conv2d, fullgraph=True, backend="aot_eager")
    out = compiled(*leaves)
    assert torch.equal(out, deform_conv2d(*args))
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(5)))
    got = [leaf.grad for leaf in leaves if isinstance(leaf, torch.Tensor)]
    torch.testing.assert_close(got, gradients(args))


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.offset = torch.nn.Conv2d(4, 18, 3, stride=2, padding=1)
        self.weight = torch.nn.Parameter(torch.randn(3, 4, 3, 3))

    def forward(self, x):
        return deform_conv2d(x, self.offset(x), self.weight, stride=2, padding=1)


@pytest.mark.parametrize("dynamic", [False, True])
def test_export_is_one_node(dynamic):
    layer, x = Layer().eval(), torch.randn(2, 4, 31, 33)
    size = {2: torch.export.Dim("h", min=16, max=512), 3: torch.export.Dim("w", min=16, max=512)}
    program = torch.export.export(
        layer, (x,), dynamic_shapes=({0: torch.export.Dim("n"), **size},) if dynamic else None
    )
    nodes = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert nodes == [torch.ops.aten.conv2d.default, OP]
    other = torch.randn(3, 4, 18, 41) if dynamic else x
    torch.testing.assert_close(program.module()(other), layer(other))


@pytest.mark.parametrize("case", op_cases("deform_columns"))
def test_every_dtype_and_layout(case):
    case.verify()
