"""The fused deformable convolution on a GPU, beyond what test_ops_gpu.py asks of every operator."""

import pytest
import torch
from deform_cases import UNIT, assert_close_to_oracle, double, fused, fused_arguments
from op_properties import assert_same_bits
from test_deform_conv2d import WILD, gradients
from test_fused_deform_conv2d import CASES, integer_arguments

from lpsnet.ops import deform_conv2d

pytestmark = pytest.mark.gpu
dtypes = pytest.mark.parametrize("dtype", UNIT, ids=str)
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
HEAD = {"batch": 1, "channels": 256, "size": (200, 336), "out": 128}  # the semantic head's first layer at 800 x 1344
ODD = {"channels": 72, "size": (37, 53), "out": 131, "mask": True}


def on_gpu(args):
    """The same on the device, in the same layout."""
    return tuple(a.cuda() if isinstance(a, torch.Tensor) else a for a in args)


@dtypes
@cases
def test_close_to_oracle(case, dtype, seed):
    for i in range(3):
        args = fused_arguments(dtype, **case, seed=seed + i)
        assert_close_to_oracle(fused(*on_gpu(args)).cpu(), args)


@dtypes
@cases
def test_exact_where_nothing_is_rounded(case, dtype):
    args = integer_arguments(dtype, case)
    assert torch.equal(fused(*on_gpu(args)).cpu(), deform_conv2d(*double(args)).to(dtype))


@dtypes
@pytest.mark.parametrize("sigma", [0.0, 2.0, 40.0])
def test_full_size_is_close_to_oracle(sigma, dtype, seed):
    args = on_gpu(fused_arguments(dtype, **HEAD, sigma=sigma, seed=seed))
    assert_close_to_oracle(fused(*args), args)


@dtypes
@pytest.mark.parametrize("channels", [6, 8])
@pytest.mark.parametrize("wild", WILD)
def test_wild_offsets_read_nothing(wild, channels, dtype):
    for axis in (0, 1):
        args = on_gpu(fused_arguments(dtype, batch=1, channels=channels, mask=True))
        args[1][:, axis::2] = wild
        args[7][:, :, 0, 0] = torch.nan
        assert torch.equal(fused(*args), args[3].to(dtype)[:, None, None].expand(1, 3, 5, 7))


@dtypes
@pytest.mark.parametrize("case", [HEAD, ODD], ids=["head", "odd"])
def test_the_same_bits_in_a_hundred_runs(case, dtype, seed):
    args = on_gpu(fused_arguments(dtype, **case, seed=seed))
    expected = deform_conv2d(*args)
    for _ in range(100):
        assert_same_bits((deform_conv2d(*args),), (expected,))


@dtypes
def test_a_graph_gives_the_bits_of_calls(dtype, seed):
    static = on_gpu(fused_arguments(dtype, **ODD, seed=seed))
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    deform_conv2d(*static)
    with torch.cuda.graph(graph, stream=stream):
        out = deform_conv2d(*static)
    for i in range(4):
        fresh = on_gpu(fused_arguments(dtype, **ODD, seed=seed + i))
        for old, new in zip(static, fresh, strict=True):
            if isinstance(old, torch.Tensor):
                old.copy_(new)
        graph.replay()
        assert_same_bits((out,), (deform_conv2d(*fresh),))


@dtypes
def test_two_streams_give_the_bits_of_one(dtype, seed):
    streams = [torch.cuda.Stream() for _ in range(2)]
    inputs = [on_gpu(fused_arguments(dtype, **HEAD, seed=seed + i)) for i in range(2)]
    expected = [deform_conv2d(*args) for args in inputs]
    torch.cuda.synchronize()
    results = []
    for _ in range(10):
        for i, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                results.append((i, deform_conv2d(*inputs[i])))
    torch.cuda.synchronize()
    for i, out in results:
        assert_same_bits((out,), (expected[i],))


@dtypes
def test_no_wait_and_no_memory_but_the_output(dtype):
    """Of what lies channels last. The columns of the semantic head's first layer would take 310 MB in float16."""
    args = list(on_gpu(fused_arguments(dtype, **HEAD)))
    args[2] = args[2].to(memory_format=torch.channels_last)
    deform_conv2d(*args)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.inference_mode():
            out = deform_conv2d(*args)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.max_memory_allocated() - before <= out.nbytes + 4096


@dtypes
def test_compiles(dtype):
    args = on_gpu(fused_arguments(dtype, **ODD))
    compiled = torch.compile(deform_conv2d, fullgraph=True, backend="aot_eager")
    with torch.inference_mode():
        assert_same_bits((compiled(*args),), (deform_conv2d(*args),))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gradients_are_those_of_the_cpu(dtype):
    """The backward gathers columns in float32, whichever way the forward went."""
    args = fused_arguments(dtype, channels=16, size=(9, 18), out=10, mask=True)
    for got, expected in zip(gradients(on_gpu(args)), gradients(args), strict=True):
        largest = expected.float().abs().max().item()
        torch.testing.assert_close(
            got.cpu().float(), expected.float(), rtol=4 * UNIT[dtype], atol=UNIT[dtype] * largest
        )
