import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from op_case import in_layout
from op_cases import op_cases

from lpsnet import native, ops
from lpsnet.native.library import call, num_threads, set_num_threads
from lpsnet.native.upsample_argmax import UpsampleArgmaxParams
from lpsnet.ops import reference


def check(logits, size, scale=None, allowed=None):
    """Both layers against the reference; returns the labels."""
    scale = scale or (logits.shape[1] / size[0], logits.shape[2] / size[1])
    expected = reference.upsample_argmax(logits, size, scale, allowed)
    np.testing.assert_array_equal(native.upsample_argmax(logits, size, scale, allowed), expected)
    mask = None if allowed is None else torch.from_numpy(allowed)
    torch.testing.assert_close(
        ops.upsample_argmax(torch.from_numpy(logits), size, scale, mask), torch.from_numpy(expected)
    )
    return expected


def random_logits(kind, shape, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(shape).astype(np.float32)
    if kind == "random":
        return noise
    if kind == "ties":
        return np.round(noise)
    if kind == "constant":
        return np.zeros(shape, np.float32)
    if kind == "smooth":
        coarse = torch.from_numpy(rng.standard_normal((1, shape[0], 3, 3)).astype(np.float32))
        return F.interpolate(coarse, size=shape[1:], mode="bicubic")[0].numpy() * 5
    if kind == "near ties":  # apart by an ulp or two, where only rounding decides
        return (1 + np.round(noise) * np.float32(2**-23)).astype(np.float32)
    scale = np.float32(10.0) ** rng.integers(-44, 39, shape).astype(np.float32)  # "wild": all magnitudes at once
    with np.errstate(over="ignore"):
        return noise * scale


KINDS = ["random", "smooth", "ties", "constant", "near ties", "wild"]
SIZES = [
    ((5, 7, 9), (28, 36)),  # 4x
    ((133, 20, 37), (80, 148)),
    ((255, 6, 20), (25, 83)),  # not a whole factor
    ((4, 3, 5), (120, 200)),  # 40x
    ((7, 20, 50), (20, 50)),  # 1:1
    ((7, 41, 70), (13, 11)),  # smaller
    ((6, 5, 70), (40, 23)),  # larger one way, smaller the other
    ((3, 1, 1), (9, 5)),
    ((3, 1, 40), (7, 160)),
    ((3, 40, 1), (160, 7)),
    ((9, 4, 16), (16, 64)),
    ((9, 4, 17), (16, 68)),
    ((9, 4, 18), (16, 72)),
    ((2, 3, 600), (12, 2400)),  # more cells than are taken at once
    ((1, 6, 6), (24, 24)),
    ((3, 4, 4), (1, 1)),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_equals_reference(kind, shape, size):
    check(random_logits(kind, shape), size)


@pytest.mark.parametrize("scale", [(0.25, 0.25), (0.26, 0.11), (1 / 3, 0.9), (2.7, 0.01), (1e-20, 1e20)])
@pytest.mark.parametrize("kind", ["random", "smooth"])
def test_any_scale_and_reads_past_the_border(kind, scale):
    check(random_logits(kind, (11, 13, 29)), (70, 90), scale)


def test_equals_interpolate_and_argmax():
    logits = random_logits("smooth", (40, 25, 42))
    volume = F.interpolate(torch.from_numpy(logits)[None], size=(100, 168), mode="bilinear", align_corners=False)[0]
    assert (check(logits, (100, 168)) == volume.argmax(0).numpy()).mean() > 0.999  # but for near ties


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [-np.inf], [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45]])
@pytest.mark.parametrize("share", [0.002, 0.1, 0.9, 1.0])
@pytest.mark.parametrize("factor", [4, 1])
def test_values_that_are_not_finite(values, share, factor):
    rng = np.random.default_rng(1)
    logits = random_logits("random", (6, 12, 35))
    hit = rng.random(logits.shape) < share
    logits[hit] = rng.choice(np.asarray(values, np.float32), hit.sum())
    labels = check(logits, (12 * factor, 35 * factor))
    assert share < 1 or len(values) > 1 or (labels == 255).all()


def test_a_class_whose_interpolation_overflows_prunes_no_other():
    logits = np.full((2, 4, 20), -3e38, np.float32)
    logits[0, :, ::2], logits[0, :, 1::2] = -2e38, 3e38  # their difference is infinite: NaN on the left ones
    assert set(np.unique(check(logits, (16, 80)))) == {0, 1}


def test_ties_go_to_the_lowest_class():
    logits = np.zeros((4, 5, 20), np.float32)
    logits[0] = -1
    assert (check(logits, (20, 80)) == 1).all()
    assert (check(logits, (20, 80), allowed=np.array([True, False, True, True])) == 2).all()


@pytest.mark.parametrize("kind", ["random", "smooth", "constant"])
@pytest.mark.parametrize("allowed", [[3], [0, 8], [], range(9)])
def test_only_allowed_classes_win(kind, allowed):
    mask = np.isin(np.arange(9), list(allowed))
    labels = check(random_logits(kind, (9, 10, 21)), (40, 84), allowed=mask)
    assert set(np.unique(labels)) <= set(allowed or [255])


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_generated(data):
    size = st.integers(1, 40)
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 9), size))
    out = data.draw(st.tuples(st.integers(0, 40), st.integers(0, 90)))
    scale = data.draw(st.tuples(*[st.floats(0.015625, 8, width=32)] * 2))
    logits = random_logits(data.draw(st.sampled_from(KINDS)), shape, data.draw(st.integers(0, 99)))
    allowed = data.draw(st.none() | st.lists(st.booleans(), min_size=shape[0], max_size=shape[0]).map(np.array))
    check(logits, out, scale, allowed)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_empty_output(size):
    assert native.upsample_argmax(np.zeros((3, 4, 4), np.float32), size, (1.0, 1.0)).shape == size


def test_strided_inputs():
    logits = random_logits("random", (10, 20, 30))
    view = logits.transpose(2, 1, 0)[::2]
    expected = reference.upsample_argmax(np.ascontiguousarray(view), (60, 30), (1 / 3, 1 / 3))
    np.testing.assert_array_equal(native.upsample_argmax(view, (60, 30), (1 / 3, 1 / 3)), expected)
    tensor = torch.from_numpy(logits).permute(2, 1, 0)[::2]
    assert (ops.upsample_argmax(tensor, (60, 30), (1 / 3, 1 / 3), None).numpy() == expected).all()


def test_any_number_of_threads_gives_the_same():
    logits, before = random_logits("random", (20, 60, 80)), num_threads()
    try:
        labels = []
        for count in (1, 2, 5):
            set_num_threads(count)
            labels.append(check(logits, (240, 320)))
    finally:
        set_num_threads(before)
    assert all((label == labels[0]).all() for label in labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 0}, "num_classes: expected 1 to 255, got 0"),
        ({"num_classes": 256}, "num_classes: expected 1 to 255, got 256"),
        ({"in_height": 0}, "in_height: expected at least 1, got 0"),
        ({"in_width": -1}, "in_width: expected at least 1, got -1"),
        ({"out_height": -1}, "out_height: expected at least 0, got -1"),
        ({"out_width": -1}, "out_width: expected at least 0, got -1"),
        ({"scale_y": 0.0}, "scale_y: expected a finite number above 0, got 0"),
        ({"scale_x": float("nan")}, "scale_x: expected a finite number above 0, got nan"),
        ({"scale_x": float("inf")}, "scale_x: expected a finite number above 0, got inf"),
    ],
)
def test_bad_params_are_named(change, message):
    good = {"num_classes": 3, "in_height": 4, "in_width": 4, "out_height": 8, "out_width": 8, "scale_y": 0.5}
    params = UpsampleArgmaxParams(**(good | {"scale_x": 0.5} | change))
    with pytest.raises(ValueError, match=f"upsample_argmax: {message}"):
        call("upsample_argmax", params, None, None, None)


def test_null_pointers_are_named():
    params, labels = UpsampleArgmaxParams(1, 2, 2, 4, 4, 0.5, 0.5), np.empty((4, 4), np.uint8)
    with pytest.raises(ValueError, match="upsample_argmax: logits: expected a pointer, got null"):
        call("upsample_argmax", params, None, None, labels.ctypes.data)
    with pytest.raises(ValueError, match="upsample_argmax: labels: expected a pointer, got null"):
        call("upsample_argmax", params, np.zeros((1, 2, 2), np.float32).ctypes.data, None, None)


def test_bad_arguments_are_named():
    logits = torch.zeros(3, 4, 4)
    with pytest.raises(ValueError, match=r"logits: expected torch.float32 \[C, h, w\], got torch.float64"):
        ops.upsample_argmax(logits.double(), (8, 8), (0.5, 0.5), None)
    with pytest.raises(ValueError, match=r"allowed: expected torch.bool \[3\], got torch.bool \[4\]"):
        ops.upsample_argmax(logits, (8, 8), (0.5, 0.5), torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"allowed: expected torch.uint8 \[3\], got torch.float32 \[3\]"):
        ops.upsample_argmax(logits, (8, 8), (0.5, 0.5), torch.ones(3))
    with pytest.raises(ValueError, match=r"size: expected \(height, width\), each at least 0, got \(8, -8\)"):
        ops.upsample_argmax(logits, (8, -8), (0.5, 0.5), None)
    with pytest.raises(ValueError, match=r"logits: expected float32 \[C, h, w\], got float64 \[3, 4, 4\]"):
        native.upsample_argmax(np.zeros((3, 4, 4)), (8, 8), (0.5, 0.5))
    with pytest.raises(ValueError, match=r"allowed: expected uint8 \[3\], got uint8 \[2\]"):
        native.upsample_argmax(logits.numpy(), (8, 8), (0.5, 0.5), np.ones(2, bool))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_opcheck_and_compile(dtype, channels_last):
    logits, allowed = torch.randn(5, 6, 7), torch.tensor([True, False, True, True, False])
    logits = in_layout(logits.to(dtype), channels_last)
    torch._dynamo.reset()  # the formats are more than it compiles of one function
    args = (logits, (24, 28), (0.25, 0.25), allowed)
    torch.library.opcheck(torch.ops.lpsnet.upsample_argmax.default, args)
    compiled = torch.compile(ops.upsample_argmax, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*args), ops.upsample_argmax(*args))


@pytest.mark.parametrize("case", op_cases("upsample_argmax"))
def test_every_dtype_and_layout(case):
    case.verify()
